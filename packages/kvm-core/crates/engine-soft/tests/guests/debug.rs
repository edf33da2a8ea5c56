//! Single steps, breakpoints, and a debugger outside.

use kvm_abi::exit::Exit;
use kvm_abi::regs::{DebugRegs, GuestDebug, guestdbg};

use kvm_cpu::engine::VmEngine;

use super::machine::{CODE, DATA, Machine, Mode};

/// `mov r14, dr6; inc r15; iretq`.
const COUNT: [u8; 9] = [0x41, 0x0f, 0x21, 0xf6, 0x49, 0xff, 0xc7, 0x48, 0xcf];
/// `out 0xf4, al`.
const DONE: [u8; 2] = [0xe6, 0xf4];
const TF: u64 = 0x100;
const BS: u64 = 1 << 14;
const BD: u64 = 1 << 13;

fn is_done(exit: &Exit) -> bool {
    matches!(exit, Exit::Io { write: true, port: 0xf4, .. })
}

/// Runs `code` and DONE; yields how many #DB there were and DR6 in the last.
fn count(code: &[u8], rflags: u64, dr: DebugRegs) -> (u64, u64) {
    count_with(&COUNT, code, rflags, dr)
}

fn count_with(handler: &[u8], code: &[u8], rflags: u64, dr: DebugRegs) -> (u64, u64) {
    let code = [code, &DONE].concat();
    let mut m = Machine::new(Mode::Long, &code);
    m.handler(1, handler);
    m.vcpu.set_debugregs(&dr).unwrap();
    m.set(|r| (r.rflags, r.rdi, r.rsi, r.rcx, r.rdx) = (2 | rflags, DATA, DATA + 64, 5, 0x80));
    loop {
        match m.vcpu.run() {
            Exit::Io { port: 0x80, .. } => {}
            exit if is_done(&exit) => break,
            exit => panic!("{exit:?}"),
        }
    }
    let r = m.regs();
    (r.r15, r.r14 & 0xe00f)
}

fn breakpoint(addr: u64, kind: u64, len: u64) -> DebugRegs {
    let dr7 = 1 | kind << 16 | len << 18;
    DebugRegs { db: [addr, 0, 0, 0], dr6: 0xffff_0ff0, dr7: dr7 | 0x400 }
}

fn none() -> DebugRegs {
    DebugRegs { dr6: 0xffff_0ff0, dr7: 0x400, ..DebugRegs::default() }
}

#[test]
fn every_instruction_traps_after_its_end() {
    assert_eq!(count(&[0x90; 3], TF, none()), (3, BS));
    assert_eq!(count(&[0x90; 3], 0, none()), (0, 0));
}

#[test]
fn every_iteration_of_a_repeated_instruction_traps() {
    assert_eq!(count(&[0xf3, 0xa4], TF, none()), (5, BS));
}

#[test]
fn popf_sets_the_flag_for_the_next_instruction() {
    // push 0x102; popfq; nop; nop
    assert_eq!(count(&[0x68, 2, 1, 0, 0, 0x9d, 0x90, 0x90], 0, none()), (2, BS));
}

#[test]
fn a_software_interrupt_does_not_trap() {
    // int3 and nop; the handler of int3 returns at once.
    let mut m = Machine::new(Mode::Long, &[&[0xcc, 0x90], &DONE[..]].concat());
    m.handler(1, &COUNT);
    m.handler(3, &[0x48, 0xcf]);
    m.set(|r| r.rflags = 2 | TF);
    assert!(is_done(&m.vcpu.run()));
    assert_eq!(m.regs().r15, 1);
}

#[test]
fn int1_is_a_trap() {
    let (n, dr6) = count(&[0xf1], 0, none());
    assert_eq!((n, dr6 & BS), (1, 0));
}

#[test]
fn stores_hit_a_write_breakpoint() {
    let write = breakpoint(DATA, 1, 3);
    // mov [rdi], eax
    assert_eq!(count(&[0x89, 0x07], 0, write), (1, 1));
    // mov eax, [rdi]
    assert_eq!(count(&[0x8b, 0x07], 0, write), (0, 0));
    // mov [rdi + 3], al and mov [rdi + 4], al
    assert_eq!(count(&[0x88, 0x47, 3], 0, write), (1, 1));
    assert_eq!(count(&[0x88, 0x47, 4], 0, write), (0, 0));
    // mov [rdi - 4], rax overlaps it.
    assert_eq!(count(&[0x48, 0x89, 0x47, 0xfc], 0, write), (1, 1));
}

#[test]
fn loads_hit_an_access_breakpoint() {
    let access = breakpoint(DATA, 3, 0);
    assert_eq!(count(&[0x8b, 0x07], 0, access), (1, 1));
    assert_eq!(count(&[0x89, 0x07], 0, access), (1, 1));
    // movups xmm0, [rdi - 15]
    assert_eq!(count(&[0x0f, 0x10, 0x47, 0xf1], 0, access), (1, 1));
}

#[test]
fn an_instruction_breakpoint_faults_once() {
    // The handler sets RF in its frame, which the processor leaves to it (SDM volume 3, 18.3.1.1):
    // or byte ptr [rsp + 18], 1
    let handler = [&[0x80, 0x4c, 0x24, 0x12, 1], &COUNT[..]].concat();
    assert_eq!(count_with(&handler, &[0x90; 3], 0, breakpoint(CODE + 1, 0, 0)), (1, 1));
}

/// Sets the vendor that CPUID tells.
fn set_vendor(m: &mut Machine, vendor: &[u8; 12]) {
    let mut entries = m.engine.cpuid_for_model("max", &[]).unwrap();
    let word = |n: usize| u32::from_le_bytes(vendor[n..n + 4].try_into().unwrap());
    for e in entries.iter_mut().filter(|e| e.function & 0x7fff_ffff == 0) {
        (e.ebx, e.edx, e.ecx) = (word(0), word(4), word(8));
    }
    m.vcpu.set_cpuid(&entries).unwrap();
}

#[test]
fn a_trap_that_a_load_of_ss_put_off_comes_with_the_next_breakpoint() {
    // mov ss, [rdi]; nop; nop
    let code = [&[0x8e, 0x17, 0x90, 0x90], &DONE[..]].concat();
    // Sets RF, as above.
    let handler = [&[0x80, 0x4c, 0x24, 0x12, 1], &COUNT[..]].concat();
    // On AMD the load does not keep instruction breakpoints away, and both are one exception. Two would
    // overwrite the frame of the first where the gate names a stack.
    for (vendor, hits) in [(b"AuthenticAMD", 3), (b"GenuineIntel", 1)] {
        let mut m = Machine::new(Mode::Long, &code);
        set_vendor(&mut m, vendor);
        m.handler(1, &handler);
        m.words(DATA, &[0x10]);
        // An access to two bytes of DATA, and the execution of the first NOP.
        let dr7 = 0x400 | 1 | 3 << 16 | 1 << 18 | 1 << 2;
        m.vcpu
            .set_debugregs(&DebugRegs { db: [DATA, CODE + 2, 0, 0], dr6: 0xffff_0ff0, dr7 })
            .unwrap();
        m.set(|r| r.rdi = DATA);
        assert!(is_done(&m.vcpu.run()));
        assert_eq!((m.regs().r15, m.regs().r14 & 0xe00f), (1, hits), "{vendor:?}");
    }
}

#[test]
fn a_port_breakpoint_traps_after_the_access() {
    // CR4.DE is set.
    assert_eq!(count(&[0xee, 0x90], 0, breakpoint(0x80, 2, 0)), (1, 1));
    assert_eq!(count(&[0xe6, 0x80], 0, breakpoint(0x80, 2, 0)), (1, 1));
    assert_eq!(count(&[0xe6, 0x80], 0, breakpoint(0x84, 2, 0)), (0, 0));
}

#[test]
fn general_detect_guards_the_debug_registers() {
    let mut dr = none();
    dr.dr7 |= 1 << 13;
    // mov rax, dr0: the handler's own read of DR6 is allowed, and GD stays off.
    assert_eq!(count(&[0x0f, 0x21, 0xc0], 0, dr), (1, BD));
}

fn debug(m: &mut Machine, control: u32, debugreg: [u64; 8]) {
    m.vcpu.set_guest_debug(&GuestDebug { control, debugreg }).unwrap();
}

fn debug_exit(m: &mut Machine) -> (u32, u64) {
    match m.vcpu.run() {
        Exit::Debug { exception, pc, .. } => (exception, pc - CODE),
        exit => panic!("{exit:?}"),
    }
}

#[test]
fn a_debugger_steps_through_branches() {
    // call +1; hlt; nop; ret, and the guest sees no trap.
    let mut m = Machine::new(Mode::Long, &[0xe8, 1, 0, 0, 0, 0xf4, 0x90, 0xc3]);
    debug(&mut m, guestdbg::ENABLE | guestdbg::SINGLESTEP, [0; 8]);
    let steps: Vec<_> = (0..3).map(|_| debug_exit(&mut m)).collect();
    assert_eq!(steps, [(1, 6), (1, 7), (1, 5)]);
    assert_eq!(m.regs().rflags & TF, 0);
    debug(&mut m, 0, [0; 8]);
    m.run_to_halt();
}

#[test]
fn a_debuggers_breakpoints_stop_before_the_instruction() {
    let mut m = Machine::new(Mode::Long, &[0x90, 0xcc, 0x90, 0xf4]);
    debug(&mut m, guestdbg::ENABLE | guestdbg::USE_SW_BP, [0; 8]);
    assert_eq!(debug_exit(&mut m), (3, 1));
    m.set(|r| r.rip += 1);
    let mut dr = [0; 8];
    (dr[0], dr[7]) = (CODE + 3, 1);
    debug(&mut m, guestdbg::ENABLE | guestdbg::USE_HW_BP, dr);
    assert_eq!(debug_exit(&mut m), (1, 3));
    debug(&mut m, 0, [0; 8]);
    m.run_to_halt();
}
