//! A VM with several vCPUs in long mode, each on a thread of the test, with memory mapped one to one.

use std::sync::Arc;
use std::time::Duration;

use iced_x86::code_asm::{CodeAssembler, CodeLabel, gpr64::*, qword_ptr};
use kvm_abi::exit::reason;
use kvm_abi::regs::{Dtable, MpState, Regs, Segment};
use kvm_memory::{Backing, GuestRam};
use kvm_vm::{Engine, SoftOptions, Vcpu, Vm};

/// RAM at zero.
pub const RAM: u64 = 16 << 20;
const GDT: u64 = 0x4000;
const PAGE_TABLES: u64 = 0x6000;
pub const PAGE_DIRECTORY: u64 = PAGE_TABLES + 0x2000;
/// Programs, 64 KiB apart.
pub const CODE: u64 = 0x10_0000;
/// Counter of the barrier.
pub const BARRIER: u64 = 0x5_0000;
/// Shared variables: 256 bytes for each round.
pub const SHARED: u64 = 0x80_0000;
/// What each vCPU saw: 64 KiB for each of them, four words for each round.
pub const RESULTS: u64 = 0x60_0000;
const RESULT_BYTES: u64 = 0x4_0000;
/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Machine {
    pub vm: Arc<Vm>,
    pub vcpus: Vec<Arc<Vcpu>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

impl Machine {
    /// `count` vCPUs; with an irqchip all but the first wait for INIT.
    pub fn new(count: u32, irqchip: bool) -> Self {
        let engine = Engine::Soft(SoftOptions::default()).for_vm();
        let cpuid = engine.cpuid_for_model("max", &[]).unwrap();
        let vm = Vm::new(engine).unwrap();
        let ram = GuestRam::new(RAM as usize, Backing::Anon).unwrap();
        vm.memory().set_user_memory_region(0, 0, RAM, 0, Some(ram), 0).unwrap();
        if irqchip {
            vm.create_irqchip().unwrap();
        }
        let create = |id| {
            let vcpu = vm.create_vcpu(id).unwrap();
            vcpu.with_engine(|e| e.set_cpuid(&cpuid)).unwrap();
            vcpu
        };
        let vcpus = (0..count).map(create).collect();
        let machine = Self { vm, vcpus };
        let flat = [0u64, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
        machine.write_words(GDT, &flat);
        let (pdpt, pd) = (PAGE_TABLES + 0x1000, PAGE_DIRECTORY);
        machine.write_words(PAGE_TABLES, &[pdpt | 3]);
        machine.write_words(pdpt, &[pd | 3]);
        let large: Vec<u64> = (0..RAM >> 21).map(|i| i << 21 | 0x83).collect();
        machine.write_words(pd, &large);
        machine
    }

    pub fn write_words(&self, gpa: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.vm.memory().write(gpa, &bytes).unwrap();
    }

    pub fn read_u64(&self, gpa: u64) -> u64 {
        let mut bytes = [0; 8];
        self.vm.memory().read(gpa, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Word `word` that vCPU `vcpu` noted in `round`.
    pub fn result(&self, vcpu: u64, round: u64, word: u64) -> u64 {
        self.read_u64(RESULTS + vcpu * RESULT_BYTES + round * 32 + word * 8)
    }

    /// Puts a program at its place and the vCPU in front of it, in 64-bit mode.
    pub fn load(&self, vcpu: usize, program: &mut CodeAssembler) {
        let at = CODE + vcpu as u64 * 0x1_0000;
        self.vm.memory().write(at, &program.assemble(at).unwrap()).unwrap();
        self.vcpus[vcpu]
            .with_engine(|e| {
                let mut s = e.sregs();
                let code = Segment {
                    base: 0,
                    limit: u32::MAX,
                    selector: 8,
                    type_: 11,
                    present: 1,
                    dpl: 0,
                    db: 0,
                    s: 1,
                    l: 1,
                    g: 1,
                    avl: 0,
                    unusable: 0,
                };
                let data = Segment { selector: 0x10, type_: 3, db: 1, l: 0, ..code };
                (s.cs, s.ds, s.es, s.ss) = (code, data, data, data);
                s.gdt = Dtable { base: GDT, limit: 23 };
                (s.cr0, s.cr3, s.cr4, s.efer) = (0x8001_0031, PAGE_TABLES, 0x628, 0x500);
                e.set_sregs(&s)?;
                let stack = 0xf_0000 - vcpu as u64 * 0x1000;
                e.set_regs(&Regs { rip: at, rsp: stack, rflags: 2, ..Regs::default() })?;
                e.set_mp_state(MpState::Runnable)
            })
            .unwrap();
    }

    /// Runs all vCPUs, each on its own thread, until every one has halted.
    pub fn run(&self) {
        std::thread::scope(|scope| {
            for vcpu in &self.vcpus {
                scope.spawn(move || {
                    let why = vcpu.run_sync(0, Some(LIMIT)).unwrap();
                    let regs = vcpu.with_engine(|e| Ok(e.regs())).unwrap();
                    let id = vcpu.id();
                    assert_eq!(why, reason::HLT, "vCPU {id} at {:#x}", regs.rip);
                });
            }
        });
    }

    /// Runs one program per vCPU.
    pub fn run_programs(programs: Vec<CodeAssembler>) -> Self {
        let machine = Self::new(programs.len() as u32, false);
        for (i, mut program) in programs.into_iter().enumerate() {
            machine.load(i, &mut program);
        }
        machine.run();
        machine
    }
}

/// A program that runs `body` once per round, all vCPUs starting each round together.
///
/// In the body R12 is the address of the round's shared variables and R11 that of the vCPU's
/// results; RAX, RBX, RCX, RDX, RSI, RDI, R8, R9 are free.
pub fn rounds(
    vcpu: u64,
    vcpus: u64,
    rounds: u64,
    body: impl FnOnce(&mut CodeAssembler),
) -> CodeAssembler {
    let mut a = CodeAssembler::new(64).unwrap();
    let mut again: CodeLabel = a.create_label();
    let mut wait = a.create_label();
    let asm = || -> Result<(), iced_x86::IcedError> {
        a.mov(r15, 0u64)?;
        a.mov(r13, BARRIER)?;
        a.mov(r12, SHARED)?;
        a.mov(r11, RESULTS + vcpu * RESULT_BYTES)?;
        a.mov(r14, 0u64)?;
        a.set_label(&mut again)?;
        a.add(r14, i32::try_from(vcpus).unwrap())?;
        a.lock().inc(qword_ptr(r13))?;
        a.set_label(&mut wait)?;
        a.pause()?;
        a.cmp(qword_ptr(r13), r14)?;
        a.jb(wait)?;
        body(&mut a);
        a.add(r12, 256)?;
        a.add(r11, 32)?;
        a.inc(r15)?;
        a.cmp(r15, i32::try_from(rounds).unwrap())?;
        a.jb(again)?;
        a.hlt()
    };
    asm().unwrap();
    a
}
