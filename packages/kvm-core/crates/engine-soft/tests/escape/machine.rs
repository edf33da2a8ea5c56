//! A machine whose user and kernel code has the address space of `layout`.

use std::sync::Arc;

use kvm_abi::Clock;
use kvm_abi::exit::Exit;
use kvm_abi::regs::{Dtable, MpState, Regs, Segment};
use kvm_cpu::engine::{KernelBus, VcpuEngine, VcpuRequests, VmContext, VmEngine};
use kvm_engine_soft::{HostEntropy, SoftEngine};
use kvm_memory::{Backing, GuestMemory, GuestRam, MEM_READONLY};

use super::fence::{Fence, Neighbour};
use super::layout::{CODE, CODE_AT, LARGE, MAP, PAGE, PIECES};
use super::policy::policy;

const TABLES: u64 = 0x1000;
pub const GDT: u64 = 0x2_0000;
const IDT: u64 = 0x2_1000;
const TSS: u64 = 0x2_2000;
/// 256 handlers of 16 bytes.
pub const HANDLERS: u64 = 0x2_3000;
const ENTRY: u64 = 0x2_4000;
const FRAME: u64 = 0x2_5000;
/// Top of the stack of all exceptions.
const STACK: u64 = 0x2_8000;
/// Where the supervisor sees the first piece.
pub const KERNEL: u64 = 0xffff_9000_0000_0000;
const IA32_FS_BASE: u32 = 0xc000_0100;
const IA32_GS_BASE: u32 = 0xc000_0101;
const CR4_SMAP: u64 = 1 << 21;
const AC: u64 = 1 << 18;

struct Nothing;
impl KernelBus for Nothing {
    fn pio_read(&self, _: u32, _: u16, _: u8) -> Option<u32> {
        None
    }
    fn pio_write(&self, _: u32, _: u16, _: u8, _: u32) -> bool {
        false
    }
    fn mmio_read(&self, _: u32, _: u64, _: &mut [u8]) -> bool {
        false
    }
    fn mmio_write(&self, _: u32, _: u64, _: &[u8]) -> bool {
        false
    }
}
impl Clock for Nothing {
    fn now_ns(&self) -> u64 {
        0
    }
    fn wall_ns(&self) -> u64 {
        0
    }
}

/// Who executes the code: what the same page allows differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    User,
    Supervisor,
    /// With SMAP, and RFLAGS.AC set.
    SupervisorAc,
    /// With SMAP, and RFLAGS.AC clear: may not touch anything under test.
    SupervisorKept,
}

/// Registers of the code under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub fs: u64,
    pub gs: u64,
}

/// The exception that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub vector: u8,
    pub error: u64,
    pub cr2: u64,
    pub rip: u64,
}

pub struct Machine {
    pub vcpu: Box<dyn VcpuEngine>,
    memory: Arc<GuestMemory>,
    rams: Vec<Arc<GuestRam>>,
    pub fence: Option<Fence>,
    smap: bool,
    _engine: Arc<SoftEngine>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

impl Machine {
    pub fn new(neighbour: Neighbour) -> Self {
        let memory = GuestMemory::new();
        let mut rams = Vec::new();
        for (n, piece) in (0..).zip(PIECES) {
            let ram = GuestRam::new(piece.bytes as usize, Backing::Anon).unwrap();
            let flags = if piece.readonly { MEM_READONLY } else { 0 };
            let (gpa, bytes) = (piece.gpa, piece.bytes);
            memory.set_user_memory_region(n, gpa, bytes, flags, Some(ram.clone()), 0).unwrap();
            rams.push(ram);
        }
        let fence = Some(Fence::around(&rams, neighbour));
        let engine = SoftEngine::with_policy(Arc::new(HostEntropy), policy());
        let context = VmContext {
            memory: memory.clone(),
            bus: Arc::new(Nothing),
            irqchip: None,
            clock: Arc::new(Nothing),
        };
        let mut vcpu = engine.create_vcpu(0, context, Arc::new(VcpuRequests::default())).unwrap();
        vcpu.set_cpuid(&engine.cpuid_for_model("max", &[]).unwrap()).unwrap();
        let mut m = Self { vcpu, memory, rams, fence, smap: false, _engine: engine };
        m.page_tables();
        m.descriptors();
        m.write(HANDLERS, &[0xf4; 0x1000]);
        m.write(ENTRY, &[0x48, 0xcf]);
        m.system_registers();
        m
    }

    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        self.memory.write(gpa, bytes).unwrap();
    }

    fn read64(&self, gpa: u64) -> u64 {
        let mut b = [0; 8];
        self.memory.read(gpa, &mut b).unwrap();
        u64::from_le_bytes(b)
    }

    /// The bytes of a piece of RAM.
    pub fn bytes(&mut self, piece: usize) -> &mut [u8] {
        let ram = &self.rams[piece];
        // SAFETY: the mapping lives, and the vCPU does not run while the reference does.
        unsafe { std::slice::from_raw_parts_mut(ram.as_ptr(), ram.len()) }
    }

    fn page_tables(&mut self) {
        let mut next = TABLES + PAGE;
        let kernel = self.directory(&mut next, KERNEL);
        self.write(kernel + (KERNEL >> 21 & 511) * 8, &0x183u64.to_le_bytes());
        let large = self.directory(&mut next, LARGE);
        self.write(large + (LARGE >> 21 & 511) * 8, &0xe7u64.to_le_bytes());
        let code = CODE_AT.iter().flat_map(|&at| [(at, CODE, 5), (at + PAGE, CODE + PAGE, 5)]);
        let data = MAP.iter().map(|m| (m.linear, m.gpa, if m.writable { 7 } else { 5 }));
        for (linear, gpa, bits) in data.chain(code) {
            let directory = self.directory(&mut next, linear);
            let table = self.table(&mut next, directory, linear >> 21 & 511);
            self.write(table + (linear >> 12 & 511) * 8, &(gpa | 0x60 | bits).to_le_bytes());
        }
        assert!(next <= GDT);
    }

    fn directory(&mut self, next: &mut u64, linear: u64) -> u64 {
        let pdpt = self.table(next, TABLES, linear >> 39 & 511);
        self.table(next, pdpt, linear >> 30 & 511)
    }

    fn table(&mut self, next: &mut u64, table: u64, index: u64) -> u64 {
        let at = table + index * 8;
        let present = self.read64(at);
        if present != 0 {
            return present & !0xfff;
        }
        let new = *next;
        *next += PAGE;
        self.write(at, &(new | 7).to_le_bytes());
        new
    }

    fn descriptors(&mut self) {
        let words = |w: &[u64]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let mut gdt = [0u64; 16];
        gdt[2] = 0x00af_9b00_0000_ffff;
        gdt[3] = 0x00cf_9300_0000_ffff;
        gdt[5] = 0x00cf_f300_0000_ffff;
        gdt[6] = 0x00af_fb00_0000_ffff;
        self.write(GDT, &words(&gdt));
        let mut tss = [0u8; 0x68];
        // RSP0 and the first stack of the table, which every gate asks for.
        for at in [4, 36] {
            tss[at..at + 8].copy_from_slice(&(KERNEL + STACK).to_le_bytes());
        }
        self.write(TSS, &tss);
        let mut idt = [0u64; 512];
        for v in 0..256u64 {
            let handler = KERNEL + HANDLERS + v * 16;
            idt[2 * v as usize] = handler & 0xffff
                | 0x10 << 16
                | 1 << 32
                | if v == 3 { 0xee } else { 0x8e } << 40
                | (handler >> 16 & 0xffff) << 48;
            idt[2 * v as usize + 1] = handler >> 32;
        }
        self.write(IDT, &words(&idt));
    }

    fn system_registers(&mut self) {
        let mut s = self.vcpu.sregs();
        let code = Segment {
            selector: 0x10,
            limit: u32::MAX,
            type_: 11,
            present: 1,
            s: 1,
            l: 1,
            g: 1,
            ..Segment::default()
        };
        let null = Segment { unusable: 1, ..Segment::default() };
        s.cs = code;
        s.ss = Segment { selector: 0x18, type_: 3, db: 1, l: 0, ..code };
        (s.ds, s.es, s.fs, s.gs, s.ldt) = (null, null, null, null, null);
        let base = KERNEL + TSS;
        s.tr = Segment { selector: 0x40, base, limit: 0x67, type_: 11, s: 0, l: 0, g: 0, ..code };
        s.gdt = Dtable { base: KERNEL + GDT, limit: 127 };
        s.idt = Dtable { base: KERNEL + IDT, limit: 4095 };
        s.cr0 = 0x8001_0033;
        s.cr3 = TABLES;
        // PAE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE.
        s.cr4 = 1 << 5 | 1 << 7 | 3 << 9 | 1 << 16 | 1 << 18;
        s.efer = 0x501;
        self.vcpu.set_sregs(&s).unwrap();
        self.vcpu.set_xcr0(7).unwrap();
        let mut area = vec![0; 832];
        area[..2].copy_from_slice(&0x37fu16.to_le_bytes());
        area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        area[512] = 7;
        self.vcpu.set_xsave(&area).unwrap();
    }

    /// SMAP on or off; translations are forgotten.
    pub fn set_smap(&mut self, on: bool) {
        let mut s = self.vcpu.sregs();
        s.cr4 = s.cr4 & !CR4_SMAP | if on { CR4_SMAP } else { 0 };
        self.vcpu.set_sregs(&s).unwrap();
        self.smap = on;
    }

    /// Whether it can be in the present mode.
    pub fn allows(&self, who: Who) -> bool {
        self.smap == matches!(who, Who::SupervisorAc | Who::SupervisorKept) || who == Who::User
    }

    /// Puts code at an offset into the code pages.
    pub fn set_code(&self, offset: u64, code: &[u8]) {
        self.write(CODE + offset, code);
    }

    /// Loads registers: the next [`run`](Self::run) goes there.
    pub fn load(&mut self, state: &State, who: Who) {
        let (cs, ss) = if who == Who::User { (0x33, 0x2b) } else { (0x10, 0x18) };
        let rflags = 2 | if who == Who::SupervisorAc { AC } else { 0 };
        self.vcpu.set_msr(IA32_FS_BASE, state.fs).unwrap();
        self.vcpu.set_msr(IA32_GS_BASE, state.gs).unwrap();
        self.load_into(state, cs, ss, rflags);
    }

    /// The same with other selectors of CS and SS.
    pub fn load_into(&mut self, state: &State, cs: u64, ss: u64, rflags: u64) {
        let mut frame = [0; 40];
        let words = [state.rip, cs, rflags, state.gpr[4], ss];
        for (to, word) in frame.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.write(FRAME, &frame);
        let regs = Regs { rsp: KERNEL + FRAME, rip: KERNEL + ENTRY, ..regs(&state.gpr) };
        self.vcpu.set_regs(&regs).unwrap();
        self.vcpu.set_mp_state(MpState::Runnable).unwrap();
    }

    /// Runs to the next exit.
    pub fn run(&mut self) -> Exit {
        self.vcpu.run()
    }

    /// Registers and exception after a halt in a handler.
    pub fn end(&mut self) -> ([u64; 16], End) {
        let r = self.vcpu.regs();
        let vector = (r.rip.wrapping_sub(1 + KERNEL + HANDLERS) / 16) as u8;
        let mut at = r.rsp - KERNEL;
        let mut error = 0;
        if matches!(vector, 8 | 10..=14 | 17) {
            error = self.read64(at);
            at += 8;
        }
        assert_eq!(at, STACK - 40, "not in the handler of an exception: {r:x?}");
        let cr2 = if vector == 14 { self.vcpu.sregs().cr2 } else { 0 };
        let rsp = self.read64(at + 24);
        (gpr(&r, rsp), End { vector, error, cr2, rip: self.read64(at) })
    }
}

fn regs(g: &[u64; 16]) -> Regs {
    Regs {
        rax: g[0],
        rcx: g[1],
        rdx: g[2],
        rbx: g[3],
        rsp: g[4],
        rbp: g[5],
        rsi: g[6],
        rdi: g[7],
        r8: g[8],
        r9: g[9],
        r10: g[10],
        r11: g[11],
        r12: g[12],
        r13: g[13],
        r14: g[14],
        r15: g[15],
        rip: 0,
        rflags: 2,
    }
}

fn gpr(r: &Regs, rsp: u64) -> [u64; 16] {
    [
        r.rax, r.rcx, r.rdx, r.rbx, rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15,
    ]
}
