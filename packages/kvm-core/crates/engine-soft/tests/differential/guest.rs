//! Tier 0 under test: a tiny machine whose user code sees what a Linux process sees.
//!
//! Code runs at CPL 3 with the arena mapped where the host has it. It is entered by an IRETQ of the
//! guest's own, and every exception goes through the IDT to a handler that halts, so that delivery
//! is tested with it.

use std::sync::Arc;

use kvm_abi::exit::Exit;
use kvm_abi::regs::{Dtable, MpState, Regs, Segment, Sregs};
use kvm_abi::{Clock, Entropy};
use kvm_cpu::engine::{KernelBus, VcpuEngine, VcpuRequests, VmContext, VmEngine};
use kvm_engine_soft::{SoftEngine, TranslationPolicy};
use kvm_memory::{Backing, GuestMemory, GuestRam};

use super::alarm;
use super::layout::{CODE, HIGH, LOW, MAP, PAGE, PAGES, Permission, locate};
use super::state::{AREA, Area, Event, Outcome, RSP, State};

const RAM: u64 = 2 << 20;
const TABLES: u64 = 0x1000;
const GDT: u64 = 0x2_0000;
const IDT: u64 = 0x2_1000;
const TSS: u64 = 0x2_2000;
/// 256 handlers of 16 bytes, all HLT.
const HANDLERS: u64 = 0x2_3000;
const ENTRY: u64 = 0x2_4000;
const FRAME: u64 = 0x2_5000;
/// Top of the stack that exceptions use.
const STACK: u64 = 0x2_7000;
const ARENA: u64 = 0x10_0000;
/// Where the kernel's part of memory is mapped, for the supervisor only.
const KERNEL: u64 = 0xffff_8000_0000_0000;
const IA32_FS_BASE: u32 = 0xc000_0100;
const IA32_GS_BASE: u32 = 0xc000_0101;

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

struct Still;
impl Entropy for Still {
    fn next(&self) -> Option<u64> {
        Some(0x1234_5678_9abc_def0)
    }
}
impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
    fn wall_ns(&self) -> u64 {
        0
    }
}

/// The vector of the interrupts.
const INTERRUPT: u8 = 0x40;
/// `push rax; xor eax, eax; dec rax; pop rax; iretq`.
const HANDLER: [u8; 9] = [0x50, 0x31, 0xc0, 0x48, 0xff, 0xc8, 0x58, 0x48, 0xcf];

/// What is there between two instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub regs: Regs,
    pub area: Vec<u8>,
}

/// The machine.
pub struct Guest {
    memory: Arc<GuestMemory>,
    ram: Arc<GuestRam>,
    vcpu: Box<dyn VcpuEngine>,
    base: Sregs,
    _engine: Arc<SoftEngine>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guest")
    }
}

impl Guest {
    pub fn new(policy: TranslationPolicy) -> Self {
        let memory = GuestMemory::new();
        let ram = GuestRam::new(RAM as usize, Backing::Anon).unwrap();
        memory.set_user_memory_region(0, 0, RAM, 0, Some(ram.clone()), 0).unwrap();
        let engine = SoftEngine::with_policy(Arc::new(Still), policy);
        let context = VmContext {
            memory: memory.clone(),
            bus: Arc::new(Nothing),
            irqchip: None,
            clock: Arc::new(Still),
        };
        let requests = Arc::new(VcpuRequests::default());
        let mut vcpu = engine.create_vcpu(0, context, Arc::clone(&requests)).unwrap();
        alarm::offer(&mut *vcpu, &requests);
        // The vendor decides how some encodings are read; `max` is AMD's.
        let model = if super::host::is_intel() { "host" } else { "max" };
        vcpu.set_cpuid(&engine.cpuid_for_model(model, &[]).unwrap()).unwrap();
        let mut guest = Self { memory, ram, vcpu, base: Sregs::default(), _engine: engine };
        guest.page_tables();
        guest.descriptors();
        guest.write(HANDLERS, &[0xf4; 4096]);
        guest.write(ENTRY, &[0x48, 0xcf]);
        guest.write(ARENA + CODE as u64 * PAGE, &vec![0xcc; 2 * PAGE as usize]);
        guest.base = guest.system_registers();
        guest.vcpu.set_sregs(&guest.base).unwrap();
        guest.vcpu.set_xcr0(7).unwrap();
        guest
    }

    fn write(&self, gpa: u64, bytes: &[u8]) {
        self.memory.write(gpa, bytes).unwrap();
    }

    fn read64(&self, gpa: u64) -> u64 {
        let mut b = [0; 8];
        self.memory.read(gpa, &mut b).unwrap();
        u64::from_le_bytes(b)
    }

    fn page_tables(&mut self) {
        let mut next = TABLES + PAGE;
        // The kernel's part: one large page for the supervisor.
        let pdpt = self.table(&mut next, TABLES, KERNEL >> 39 & 511);
        let pd = self.table(&mut next, pdpt, 0);
        self.write(pd, &0x183u64.to_le_bytes());
        for base in [LOW, HIGH] {
            for (page, permission) in MAP.iter().enumerate() {
                let bits: u64 = match permission {
                    Permission::None => continue,
                    Permission::Code => 0x67,
                    Permission::ReadWrite => 1 << 63 | 0x67,
                    Permission::ReadOnly => 1 << 63 | 0x65,
                };
                let at = base + page as u64 * PAGE;
                let pdpt = self.table(&mut next, TABLES, at >> 39 & 511);
                let pd = self.table(&mut next, pdpt, at >> 30 & 511);
                let pt = self.table(&mut next, pd, at >> 21 & 511);
                let entry = (ARENA + page as u64 * PAGE) | bits;
                self.write(pt + (at >> 12 & 511) * 8, &entry.to_le_bytes());
            }
        }
        assert!(next <= GDT);
    }

    /// The next lower table, made if it is not there.
    fn table(&self, next: &mut u64, table: u64, index: u64) -> u64 {
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
        let mut gdt = [0u64; 32];
        // As Linux has them: selectors and types are visible to LAR, LSL, VERR and segment loads.
        gdt[1] = 0x00cf_9b00_0000_ffff;
        gdt[2] = 0x00af_9b00_0000_ffff;
        gdt[3] = 0x00cf_9300_0000_ffff;
        gdt[4] = 0x00cf_fb00_0000_ffff;
        gdt[5] = 0x00cf_f300_0000_ffff;
        gdt[6] = 0x00af_fb00_0000_ffff;
        gdt[8] = 0x67 | (KERNEL + TSS) << 16 & 0xff_ffff_0000 | 0x8b << 40 | (TSS >> 24) << 56;
        gdt[9] = (KERNEL + TSS) >> 32;
        self.write(GDT, &words(&gdt));
        let mut tss = [0u8; 0x68];
        tss[4..12].copy_from_slice(&(KERNEL + STACK).to_le_bytes());
        tss[0x66..].copy_from_slice(&0x68u16.to_le_bytes());
        self.write(TSS, &tss);
        let mut idt = [0u64; 512];
        for v in 0..256u64 {
            let handler = KERNEL + HANDLERS + v * 16;
            // INT3 and INTO are for everybody.
            let dpl = if v == 3 || v == 4 { 3 } else { 0 };
            idt[2 * v as usize] = handler & 0xffff
                | 0x10 << 16
                | (0x8e | dpl << 5) << 40
                | (handler >> 16 & 0xffff) << 48;
            idt[2 * v as usize + 1] = handler >> 32;
        }
        self.write(IDT, &words(&idt));
    }

    fn system_registers(&mut self) -> Sregs {
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
        (s.ds, s.es, s.fs, s.gs) = (null, null, null, null);
        s.tr = Segment {
            selector: 0x40,
            base: KERNEL + TSS,
            limit: 0x67,
            type_: 11,
            s: 0,
            l: 0,
            g: 0,
            ..code
        };
        s.ldt = null;
        s.gdt = Dtable { base: KERNEL + GDT, limit: 127 };
        s.idt = Dtable { base: KERNEL + IDT, limit: 4095 };
        s.cr0 = 0x8005_0033;
        s.cr3 = TABLES;
        // As Linux sets them: PAE, PGE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE, SMEP, SMAP.
        s.cr4 = 1 << 5 | 1 << 7 | 3 << 9 | 1 << 11 | 1 << 16 | 1 << 18 | 3 << 20;
        s.efer = 0xd01;
        s
    }

    /// The bytes of an arena page.
    pub fn bytes(&mut self, page: usize) -> &mut [u8] {
        assert!(page < PAGES);
        let at = (ARENA + page as u64 * PAGE) as usize;
        // SAFETY: inside RAM, and the vCPU does not run while the reference lives.
        unsafe { std::slice::from_raw_parts_mut(self.ram.as_ptr().add(at), PAGE as usize) }
    }

    /// Puts code at an offset into the code pages.
    pub fn set_code(&mut self, offset: usize, code: &[u8]) {
        assert!(offset + code.len() <= 2 * PAGE as usize);
        self.write(ARENA + CODE as u64 * PAGE + offset as u64, code);
    }

    /// Writes to data pages, as far as they are.
    pub fn patch(&mut self, addr: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            if let Some((page, at)) = locate(addr.wrapping_add(n as u64)) {
                self.bytes(page)[at] = *byte;
            }
        }
    }

    /// Gives interrupts a handler that returns.
    pub fn take_interrupts(&mut self) {
        self.write(HANDLERS + 16 * u64::from(INTERRUPT), &HANDLER);
    }

    /// How many instructions follow `state`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn count(&mut self, state: &State) -> Result<u64, String> {
        let before = self.vcpu.instructions();
        let end = self.run(state)?;
        // Two are not the program's: IRETQ before it and HLT behind it. The third is INT3 or INTO.
        let others = if matches!(end.event.vector, 3 | 4) { 3 } else { 2 };
        Ok(self.vcpu.instructions() - before - others)
    }

    /// As [`run`](Self::run), with an interrupt after so many instructions. Yields what was there
    /// then, too.
    ///
    /// # Errors
    /// As [`run`](Self::run), and if so many are never executed.
    pub fn run_interrupted(
        &mut self,
        state: &State,
        after: u64,
    ) -> Result<(Seen, Outcome), String> {
        self.load(state);
        let stop = self.vcpu.instructions() + 1 + after;
        self.vcpu.stop_at_instruction(Some(stop)).unwrap();
        let exit = self.vcpu.run();
        if !matches!(exit, Exit::CountReached) {
            return Err(format!("{exit:?} at {:#x}", self.vcpu.regs().rip));
        }
        let seen = Seen { regs: self.vcpu.regs(), area: self.vcpu.xsave() };
        if !self.vcpu.interrupt_window().0 {
            return Err(format!("no interrupt at {:#x}", seen.regs.rip));
        }
        self.vcpu.interrupt(INTERRUPT).unwrap();
        let exit = self.vcpu.run();
        if !matches!(exit, Exit::Hlt) {
            return Err(format!("{exit:?} at {:#x}", self.vcpu.regs().rip));
        }
        Ok((seen, self.outcome()?))
    }

    /// Runs from `state` until an event, or for so many instructions. Yields the event and what is
    /// there then.
    pub fn run_for(&mut self, state: &State, instructions: u64) -> (Result<Outcome, String>, Seen) {
        self.load(state);
        let stop = self.vcpu.instructions() + 1 + instructions;
        self.vcpu.stop_at_instruction(Some(stop)).unwrap();
        let exit = self.vcpu.run();
        self.vcpu.stop_at_instruction(None).unwrap();
        let end = match exit {
            Exit::Hlt => self.outcome(),
            exit => Err(format!("{exit:?}")),
        };
        (end, Seen { regs: self.vcpu.regs(), area: self.vcpu.xsave() })
    }

    /// Runs from `state` until an event.
    ///
    /// # Errors
    /// What else happened: the machine cannot be used any more then.
    pub fn run(&mut self, state: &State) -> Result<Outcome, String> {
        self.load(state);
        let exit = self.vcpu.run();
        if !matches!(exit, Exit::Hlt) {
            return Err(format!("{exit:?} at {:#x}", self.vcpu.regs().rip));
        }
        self.outcome()
    }

    fn load(&mut self, state: &State) {
        let mut frame = [0; 40];
        let rsp = state.gpr[RSP];
        let words = [state.rip, u64::from(state.cs), state.rflags, rsp, u64::from(state.ss)];
        for (to, word) in frame.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.write(FRAME, &frame);
        self.vcpu.set_mp_state(MpState::Runnable).unwrap();
        let now = self.vcpu.sregs();
        let wanted = state.data_segments;
        if [now.ds, now.es, now.fs, now.gs].map(|s| s.selector) != wanted || now.cs.selector != 0x10
        {
            let mut s = self.base;
            s.cr2 = now.cr2;
            let flat = |selector: u16| {
                if selector == 0 {
                    return Segment { unusable: 1, ..Segment::default() };
                }
                Segment { selector, dpl: 3, ..self.base.ss }
            };
            (s.ds, s.es) = (flat(wanted[0]), flat(wanted[1]));
            (s.fs, s.gs) = (flat(wanted[2]), flat(wanted[3]));
            self.vcpu.set_sregs(&s).unwrap();
        }
        self.vcpu.set_msr(IA32_FS_BASE, state.fs_base).unwrap();
        self.vcpu.set_msr(IA32_GS_BASE, state.gs_base).unwrap();
        let g = &state.gpr;
        self.vcpu
            .set_regs(&Regs {
                rax: g[0],
                rcx: g[1],
                rdx: g[2],
                rbx: g[3],
                rsp: KERNEL + FRAME,
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
                rip: KERNEL + ENTRY,
                rflags: 2,
            })
            .unwrap();
        self.vcpu.set_xsave(&state.area.0[..AREA]).unwrap();
    }

    fn outcome(&mut self) -> Result<Outcome, String> {
        let r = self.vcpu.regs();
        let s = self.vcpu.sregs();
        let vector = (r.rip.wrapping_sub(1 + KERNEL + HANDLERS) / 16) as u8;
        let has_error = matches!(vector, 8 | 10..=14 | 17);
        let mut at = r.rsp.wrapping_sub(KERNEL);
        if at != STACK - 40 - if has_error { 8 } else { 0 } {
            return Err(format!("vector {vector} with RSP {:#x}", r.rsp));
        }
        let error = if has_error {
            at += 8;
            self.read64(at - 8)
        } else {
            0
        };
        let frame = [0, 8, 16, 24, 32].map(|n| self.read64(at + n));
        let mut area = Area([0; 4096]);
        let bytes = self.vcpu.xsave();
        area.set(0, &bytes[..AREA.min(bytes.len())]);
        Ok(Outcome {
            state: State {
                gpr: [
                    r.rax, r.rcx, r.rdx, r.rbx, frame[3], r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10,
                    r.r11, r.r12, r.r13, r.r14, r.r15,
                ],
                rip: frame[0],
                rflags: frame[2],
                cs: frame[1] as u16,
                ss: frame[4] as u16,
                data_segments: [s.ds, s.es, s.fs, s.gs].map(|s| s.selector),
                fs_base: s.fs.base,
                gs_base: s.gs.base,
                area,
            },
            event: Event { vector, error, address: if vector == 14 { s.cr2 } else { 0 } },
        })
    }
}

fn words(from: &[u64]) -> Vec<u8> {
    from.iter().flat_map(|w| w.to_le_bytes()).collect()
}
