//! A machine of one vCPU in any mode, with memory mapped one to one.

use std::sync::Arc;
use std::time::Instant;

use kvm_abi::Clock;
use kvm_abi::exit::Exit;
use kvm_abi::regs::{Dtable, MpState, Regs, Segment};
use kvm_cpu::engine::{KernelBus, VcpuEngine, VcpuRequests, VmContext, VmEngine, request};
use kvm_engine_soft::{HostEntropy, SoftEngine, TranslationPolicy};
use kvm_irqchip::{Irqchip, VcpuWaker, Wake};
use kvm_memory::{Backing, GuestMemory, GuestRam};

use super::alarm;
use super::policy::policy;

/// RAM at zero; devices beyond.
pub const RAM: u64 = 4 << 20;
/// Guest physical memory that nobody claims.
pub const DEVICE: u64 = RAM;
pub const CODE: u64 = 0x1_0000;
pub const DATA: u64 = 0x2_0000;
pub const STACK: u64 = 0x8_0000;
pub const GDT: u64 = 0x4000;
pub const IDT: u64 = 0x5000;
pub const PAGE_TABLES: u64 = 0x6000;
pub const TSS: u64 = 0xa000;
/// 256 handlers of 16 bytes that halt, unless a test puts other code there.
pub const HANDLERS: u64 = 0xb000;
/// Offset of the handlers in the 16-bit modes.
pub const HANDLER_BYTES: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Real,
    /// Protected mode with 16-bit code and stack.
    Protected16,
    /// Protected mode with flat 32-bit segments.
    Protected32,
    /// The same with PAE paging.
    Pae,
    Long,
    /// 32-bit code in long mode.
    Compat,
}

pub const ALL_MODES: [Mode; 6] =
    [Mode::Real, Mode::Protected16, Mode::Protected32, Mode::Pae, Mode::Long, Mode::Compat];

struct Nothing;
impl KernelBus for Nothing {
    fn pio_read(&self, _: u32, _: u16, _: u8) -> Option<u32> {
        None
    }
    fn pio_write(&self, _: u32, _: u16, _: u8, _: u32) -> bool {
        false
    }
    fn pio_claims(&self, _: u16) -> bool {
        false
    }
    fn mmio_read(&self, _: u32, _: u64, _: &mut [u8]) -> bool {
        false
    }
    fn mmio_write(&self, _: u32, _: u64, _: &[u8]) -> bool {
        false
    }
}

struct HostClock(Instant);
impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
    fn wall_ns(&self) -> u64 {
        self.now_ns()
    }
}

struct Waker(Arc<VcpuRequests>);
impl VcpuWaker for Waker {
    fn wake(&self, why: Wake) {
        self.0.raise(if why == Wake::Nmi { request::NMI } else { request::INTERRUPT });
    }
}

pub struct Machine {
    pub vcpu: Box<dyn VcpuEngine>,
    pub memory: Arc<GuestMemory>,
    pub requests: Arc<VcpuRequests>,
    pub irqchip: Option<Arc<Irqchip>>,
    pub engine: Arc<SoftEngine>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

impl Machine {
    /// In `mode`, about to run `code`.
    pub fn new(mode: Mode, code: &[u8]) -> Self {
        Self::build(mode, code, false, policy())
    }

    /// The same with another policy than that of the crate.
    pub fn with_policy(mode: Mode, code: &[u8], policy: TranslationPolicy) -> Self {
        Self::build(mode, code, false, policy)
    }

    /// The same with local APIC and the other interrupt controllers.
    pub fn with_irqchip(mode: Mode, code: &[u8]) -> Self {
        Self::build(mode, code, true, policy())
    }

    fn build(mode: Mode, code: &[u8], chips: bool, policy: TranslationPolicy) -> Self {
        let memory = GuestMemory::new();
        let ram = GuestRam::new(RAM as usize, Backing::Anon).unwrap();
        memory.set_user_memory_region(0, 0, RAM, 0, Some(ram), 0).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(HostClock(Instant::now()));
        let requests = Arc::new(VcpuRequests::default());
        let irqchip = chips.then(|| {
            let chip = Irqchip::new(Arc::clone(&clock));
            chip.add_vcpu(0, Arc::new(Waker(Arc::clone(&requests)))).unwrap();
            chip
        });
        let context = VmContext {
            memory: Arc::clone(&memory),
            bus: Arc::new(Nothing),
            irqchip: irqchip.clone(),
            clock,
        };
        let engine = SoftEngine::with_policy(Arc::new(HostEntropy), policy);
        let mut vcpu = engine.create_vcpu(0, context, Arc::clone(&requests)).unwrap();
        alarm::offer(&mut *vcpu, &requests);
        vcpu.set_cpuid(&engine.cpuid_for_model("max", &[]).unwrap()).unwrap();
        let mut machine = Self { vcpu, memory, requests, irqchip, engine };
        machine.write(CODE, code);
        machine.write(HANDLERS, &[0xf4; 256 * HANDLER_BYTES as usize]);
        machine.tables(mode);
        machine.enter(mode);
        machine
    }

    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        self.memory.write(gpa, bytes).unwrap();
    }

    pub fn read(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.memory.read(gpa, &mut out).unwrap();
        out
    }

    pub fn read_u64(&self, gpa: u64) -> u64 {
        u64::from_le_bytes(self.read(gpa, 8).try_into().unwrap())
    }

    pub fn words(&self, gpa: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.write(gpa, &bytes);
    }

    fn tables(&self, mode: Mode) {
        // 0x08: code of the mode, 0x10: data, 0x18: 64-bit code, 0x20: 32-bit code, 0x30: TSS.
        let code = match mode {
            Mode::Long => 0x00af_9b00_0000_ffff,
            Mode::Protected16 => 0x000f_9b00_0000_ffff,
            _ => 0x00cf_9b00_0000_ffff,
        };
        let data =
            if mode == Mode::Protected16 { 0x000f_9300_0000_ffff } else { 0x00cf_9300_0000_ffff };
        let tss = 0x67 | TSS << 16 | 0x89 << 40;
        self.words(GDT, &[0, code, data, 0x00af_9b00_0000_ffff, 0x00cf_9b00_0000_ffff, 0, tss, 0]);
        for v in 0..256u64 {
            let handler = HANDLERS + v * HANDLER_BYTES;
            match mode {
                Mode::Real => self.write(v * 4, &((handler >> 4 << 16) as u32).to_le_bytes()),
                Mode::Long => self.words(IDT + v * 16, &[gate(handler, 0x08, 14), 0]),
                Mode::Compat => self.words(IDT + v * 16, &[gate(handler, 0x18, 14), 0]),
                Mode::Protected16 => self.words(IDT + v * 8, &[gate(handler, 0x08, 6)]),
                _ => self.words(IDT + v * 8, &[gate(handler, 0x08, 14)]),
            }
        }
        // Six MiB in large pages, in the format of PAE and, behind one more table, of long mode.
        let pdpt = PAGE_TABLES + 0x1000;
        let pd = PAGE_TABLES + 0x2000;
        let present = if mode == Mode::Pae { 1 } else { 3 };
        self.words(PAGE_TABLES, &[pdpt | 3]);
        self.words(pdpt, &[pd | present]);
        self.words(pd, &[0x83, 0x20_0083, 0x40_0083]);
    }

    fn enter(&mut self, mode: Mode) {
        let mut s = self.vcpu.sregs();
        let flat = Segment {
            base: 0,
            limit: u32::MAX,
            selector: 8,
            type_: 11,
            present: 1,
            dpl: 0,
            db: 1,
            s: 1,
            l: 0,
            g: 1,
            avl: 0,
            unusable: 0,
        };
        let data = Segment { selector: 0x10, type_: 3, ..flat };
        let (code, data) = match mode {
            Mode::Real => {
                let small = Segment { limit: 0xffff, db: 0, g: 0, ..flat };
                (
                    Segment { base: CODE, selector: (CODE >> 4) as u16, ..small },
                    Segment { base: DATA, selector: (DATA >> 4) as u16, type_: 3, ..small },
                )
            }
            Mode::Protected16 => (
                Segment { db: 0, g: 0, limit: 0xf_ffff, ..flat },
                Segment { db: 0, g: 0, limit: 0xf_ffff, ..data },
            ),
            Mode::Long => (Segment { l: 1, db: 0, ..flat }, data),
            Mode::Compat => (Segment { selector: 0x20, ..flat }, data),
            _ => (flat, data),
        };
        s.cs = code;
        (s.ds, s.es, s.ss) = (data, data, data);
        s.tr = Segment { selector: 0x30, base: TSS, limit: 0x67, s: 0, db: 0, g: 0, ..flat };
        s.gdt = Dtable { base: GDT, limit: 63 };
        s.idt = match mode {
            Mode::Real => Dtable { base: 0, limit: 0x3ff },
            _ => Dtable { base: IDT, limit: 4095 },
        };
        // PE, ET, NE, WP; OSFXSR, OSXMMEXCPT, DE.
        s.cr0 = if mode == Mode::Real { 0x10 } else { 0x1_0031 };
        s.cr4 = 0x608;
        match mode {
            Mode::Pae => (s.cr3, s.cr4, s.cr0) = (PAGE_TABLES + 0x1000, 0x628, 0x8001_0031),
            Mode::Long | Mode::Compat => {
                (s.cr3, s.cr4, s.cr0, s.efer) = (PAGE_TABLES, 0x628, 0x8001_0031, 0x500);
            }
            _ => {}
        }
        self.vcpu.set_sregs(&s).unwrap();
        let (rip, rsp) = if mode == Mode::Real { (0, 0x8000) } else { (CODE, STACK) };
        self.vcpu.set_regs(&Regs { rip, rsp, rflags: 2, ..Regs::default() }).unwrap();
    }

    /// Changes registers.
    pub fn set(&mut self, change: impl FnOnce(&mut Regs)) {
        let mut r = self.vcpu.regs();
        change(&mut r);
        self.vcpu.set_regs(&r).unwrap();
    }

    pub fn regs(&mut self) -> Regs {
        self.vcpu.regs()
    }

    /// Runs to HLT and yields the registers.
    pub fn run_to_halt(&mut self) -> Regs {
        let exit = self.vcpu.run();
        assert_eq!(exit, Exit::Hlt, "at {:#x}", self.vcpu.regs().rip);
        self.vcpu.regs()
    }

    /// Runs into the handler of an exception and yields its vector.
    pub fn run_to_fault(&mut self) -> u64 {
        let rip = self.run_to_halt().rip + self.vcpu.sregs().cs.base;
        let v = (rip - 1).wrapping_sub(HANDLERS) / HANDLER_BYTES;
        assert!(v < 256, "no exception, halted at {rip:#x}");
        v
    }

    /// Goes on after HLT.
    pub fn resume(&mut self) {
        self.vcpu.set_mp_state(MpState::Runnable).unwrap();
    }

    /// Puts code into the handler of a vector: 16 bytes at most.
    pub fn handler(&self, vector: u64, code: &[u8]) {
        assert!(code.len() <= HANDLER_BYTES as usize);
        self.write(HANDLERS + vector * HANDLER_BYTES, code);
    }
}

pub fn gate(offset: u64, selector: u64, kind: u64) -> u64 {
    offset & 0xffff | selector << 16 | (0x80 | kind) << 40 | (offset >> 16 & 0xffff) << 48
}

/// The exit of a memory access.
pub fn mmio(write: bool, gpa: u64, data: &[u8]) -> Exit {
    let mut all = [0; 8];
    if write {
        all[..data.len()].copy_from_slice(data);
    }
    Exit::Mmio { write, gpa, len: data.len() as u8, data: all }
}
