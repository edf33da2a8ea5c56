//! What a kernel executes all the time, in random order and at every privilege: translated code does the
//! plain case itself and leaves the rest, above all faults, to the interpreter.

use kvm_abi::exit::Exit;
use kvm_abi::regs::Regs;
use kvm_engine_soft::TranslationPolicy;

use super::machine::{
    CODE, DATA, HANDLER_BYTES, HANDLERS, IDT, Machine, Mode, PAGE_TABLES, STACK, TSS, gate,
};
use super::policy::policy;
use super::rng::Rng;

const FAULT_STACK: u64 = 0xa_0000;
const ARITHMETIC: u64 = 0x8d5;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const PKE: u64 = 1 << 22;
const VECTOR: u8 = 0x40;
const CASES: u64 = 2000;
/// Often enough for every policy to translate.
const TURNS: usize = 4;

fn machine(policy: TranslationPolicy) -> Machine {
    let m = Machine::with_policy(Mode::Long, &[], policy);
    // User programs may use all of it.
    for table in 0..3u64 {
        for n in 0..3 {
            let at = PAGE_TABLES + table * 0x1000 + n * 8;
            m.words(at, &[m.read_u64(at) | if m.read_u64(at) & 1 == 1 { 4 } else { 0 }]);
        }
    }
    // Faults and interrupts have a stack of their own: the flags that they push are not compared.
    m.write(TSS + 0x24, &FAULT_STACK.to_le_bytes());
    for vector in (0..32).chain([u64::from(VECTOR)]) {
        let handler = HANDLERS + vector * HANDLER_BYTES;
        m.words(IDT + vector * 16, &[gate(handler, 8, 14) | 1 << 32, 0]);
    }
    m
}

const OPS: &[&[u8]] = &[
    // cli; sti; swapgs; pushfq; pop rax; push rsi
    &[0xfa],
    &[0xfb],
    &[0x0f, 0x01, 0xf8],
    &[0x9c],
    &[0x58],
    &[0x56],
    // push [rbx+8]; push [rsp]; push [rsp+r9*8]; push gs:[0x10]
    &[0xff, 0x73, 8],
    &[0xff, 0x34, 0x24],
    &[0x42, 0xff, 0x34, 0xcc],
    &[0x65, 0xff, 0x34, 0x25, 0x10, 0, 0, 0],
    // mov rax, cr0; mov r10, cr2; mov rdi, cr3; mov r11, cr4
    &[0x0f, 0x20, 0xc0],
    &[0x41, 0x0f, 0x20, 0xd2],
    &[0x0f, 0x20, 0xdf],
    &[0x41, 0x0f, 0x20, 0xe3],
    // mov eax, ds; mov r10, ss; mov esi, cs; mov ax, fs
    &[0x8c, 0xd8],
    &[0x49, 0x8c, 0xd2],
    &[0x8c, 0xce],
    &[0x66, 0x8c, 0xe0],
    // rdpkru; xor ecx, ecx; add eax, edx; adc r10, rsi; cmp rdi, rax; setc dl; stc; xor r9d, r9d
    &[0x0f, 0x01, 0xee],
    &[0x31, 0xc9],
    &[0x01, 0xd0],
    &[0x49, 0x11, 0xf2],
    &[0x48, 0x39, 0xc7],
    &[0x0f, 0x92, 0xc2],
    &[0xf9],
    &[0x45, 0x31, 0xc9],
];

struct Case {
    start: Regs,
    privilege: u8,
    cr4: u64,
    interrupt: bool,
}

/// What a run leaves behind.
fn run(m: &mut Machine, case: &Case) -> String {
    let mut s = m.vcpu.sregs();
    (s.cs.dpl, s.ss.dpl) = (case.privilege, case.privilege);
    s.cs.selector = 8 | u16::from(case.privilege);
    s.ss.selector = 0x10 | u16::from(case.privilege);
    (s.gs.base, s.cr2, s.cr4) = (DATA + 0x100, 0x1234_5678, case.cr4);
    m.vcpu.set_sregs(&s).unwrap();
    m.vcpu.set_msr(KERNEL_GS_BASE, DATA + 0x200).unwrap();
    m.write(STACK - 0x100, &[7; 0x100]);
    m.resume();
    m.vcpu.set_regs(&case.start).unwrap();
    if case.interrupt {
        m.vcpu.interrupt(VECTOR).unwrap();
    }
    assert_eq!(m.vcpu.run(), Exit::Hlt);
    let mut r = m.regs();
    let faulted = (HANDLERS..HANDLERS + 256 * HANDLER_BYTES).contains(&r.rip);
    if faulted {
        // Flags that were about to be overwritten are not kept over a fault or an interrupt.
        r.rflags &= !ARITHMETIC;
    }
    let (s, kernel) = (m.vcpu.sregs(), m.vcpu.msr(KERNEL_GS_BASE).unwrap());
    let stack = m.read(STACK - 0x100, 0x100);
    format!("{r:x?} {:x} {kernel:x} {:x} {stack:x?}", s.gs.base, s.cs.selector)
}

#[test]
fn translated_kernel_code_does_what_the_interpreter_does() {
    let (mut tested, mut interpreter) = (machine(policy()), machine(TranslationPolicy::OFF));
    let mut rng = Rng::new(0x6b65_726e_656c);
    let mut faults = 0;
    for n in 0..CASES {
        let privilege = [0, 0, 0, 1, 3][rng.below(5) as usize];
        // An interrupt that waits must be taken behind the first STI, wherever that is. A fault would
        // come between.
        let interrupt = privilege == 0 && rng.below(2) == 0;
        let cr4 = 0x628 | if interrupt || rng.below(4) != 0 { PKE } else { 0 };
        let mut code = Vec::new();
        for _ in 0..2 + rng.below(12) {
            code.extend(OPS[rng.below(OPS.len() as u64) as usize]);
        }
        if interrupt {
            code.extend([0xfb, 0x90]);
        }
        code.push(0xf4);
        let at = CODE + n % 64 * 256;
        tested.write(at, &code);
        interpreter.write(at, &code);
        let start = Regs {
            rip: at,
            rsp: STACK - 0x40,
            rbx: DATA,
            rax: 0x1111_2222_3333,
            rcx: if interrupt { 0 } else { rng.below(8) / 7 },
            rdx: 5,
            rflags: 3 | rng.below(2) << 9 & if interrupt { 0 } else { u64::MAX },
            ..Regs::default()
        };
        let case = Case { start, privilege, cr4, interrupt };
        let expected = run(&mut interpreter, &case);
        faults += usize::from(expected.contains(&format!("rip: {:x}", HANDLERS + 13 * 16 + 1)));
        for _ in 0..TURNS {
            assert_eq!(run(&mut tested, &case), expected, "case {n}, CPL {privilege}: {code:02x?}");
        }
    }
    let cases = CASES as usize;
    assert!(faults > cases / 10 && faults < cases * 9 / 10, "{faults} of {cases} faulted");
}
