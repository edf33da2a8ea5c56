//! Accesses relative to one register, near the boundaries of pages that lie apart and allow different
//! things: translated code answers for several of them with one check, whose range must be theirs.

use kvm_abi::regs::Regs;
use kvm_engine_soft::TranslationPolicy;

use super::machine::{CODE, HANDLER_BYTES, HANDLERS, IDT, Machine, Mode, PAGE_TABLES, TSS, gate};
use super::policy::policy;
use super::rng::Rng;

const PAGE: u64 = 4096;
/// The second two megabytes, in pages and backwards.
const APART: u64 = 0x20_0000;
const TABLE: u64 = 0x9_0000;
const FAULT_STACK: u64 = 0xa_0000;
const ARITHMETIC: u64 = 0x8d5;
const CASES: u64 = 1500;
/// Often enough for every policy to translate.
const TURNS: usize = 4;

/// Present and writable, present, or neither: every pair of these are neighbours somewhere.
const ALLOWED: [u64; 10] = [3, 3, 1, 1, 3, 0, 0, 3, 1, 0];

fn machine(policy: TranslationPolicy) -> Machine {
    let m = Machine::with_policy(Mode::Long, &[], policy);
    let entries: Vec<u64> = (0..512u64)
        .map(|n| (APART + (511 - n) * PAGE) | ALLOWED[n as usize % ALLOWED.len()])
        .collect();
    m.words(TABLE, &entries);
    m.words(PAGE_TABLES + 0x2008, &[TABLE | 3]);
    // Nothing beyond, where there is no memory.
    m.words(PAGE_TABLES + 0x2010, &[0; 510]);
    // Faults have a stack of their own: the flags that they push are not compared.
    m.write(TSS + 0x24, &FAULT_STACK.to_le_bytes());
    for vector in 12..=14 {
        let handler = HANDLERS + vector * HANDLER_BYTES;
        m.words(IDT + vector * 16, &[gate(handler, 8, 14) | 1 << 32, 0]);
    }
    m
}

/// Instructions that access memory relative to RBX, RBP or RSP, or move these.
fn program(rng: &mut Rng) -> Vec<u8> {
    // movq xmm0, rcx
    let mut code = vec![0x66, 0x48, 0x0f, 0x6e, 0xc1];
    for _ in 0..2 + rng.below(10) {
        let near = (rng.below(1200) as i32 - 600).to_le_bytes();
        let (bytes, displacement): (&[u8], bool) = match rng.below(20) {
            // mov rax, [rbx+d]; mov [rbx+d], rcx; add [rbx+d], edx; movzx eax, byte [rbx+d]
            0 => (&[0x48, 0x8b, 0x83], true),
            1 => (&[0x48, 0x89, 0x8b], true),
            2 => (&[0x01, 0x93], true),
            3 => (&[0x0f, 0xb6, 0x83], true),
            // movups xmm0, [rbx+d]; movups [rbx+d], xmm0; adc rax, [rbx+d]; mov edx, [rbp+d]
            4 => (&[0x0f, 0x10, 0x83], true),
            5 => (&[0x0f, 0x11, 0x83], true),
            6 => (&[0x48, 0x13, 0x83], true),
            7 => (&[0x8b, 0x95], true),
            // mov [rbp+d], r9; mov r10, [rbx+d]; mov [rsp+d], eax
            8 => (&[0x4c, 0x89, 0x8d], true),
            9 => (&[0x4c, 0x8b, 0x93], true),
            10 => (&[0x89, 0x84, 0x24], true),
            // add rbx, d; sub rbx, d; lea rbx, [rbx+d]; add rsp, d; add ebx, d
            11 => (&[0x48, 0x81, 0xc3], true),
            12 => (&[0x48, 0x81, 0xeb], true),
            13 => (&[0x48, 0x8d, 0x9b], true),
            14 => (&[0x48, 0x81, 0xc4], true),
            15 => (&[0x81, 0xc3], true),
            // push rsi; pop rdi; inc rbx; adc eax, ecx
            16 => (&[0x56], false),
            17 => (&[0x5f], false),
            18 => (&[0x48, 0xff, 0xc3], false),
            _ => (&[0x11, 0xc8], false),
        };
        code.extend(bytes);
        if displacement {
            code.extend(near);
        }
    }
    code.push(0xf4);
    code
}

/// The same with tables: indices that were just made small, and some that were not, or not quite.
fn table_program(rng: &mut Rng) -> Vec<u8> {
    let mut code = Vec::new();
    for _ in 0..1 + rng.below(4) {
        // movzx eax, cl; movzx eax, ch; movzx rax, byte [rbx]; movzx eax, cx; and eax, 63; and rax, 127;
        // and eax, -1; shr eax, 26; shr rax, 57; shl eax, 2; xor al, cl; cmovc eax, ecx
        let limits: [&[u8]; 12] = [
            &[0x0f, 0xb6, 0xc1],
            &[0x0f, 0xb6, 0xc5],
            &[0x48, 0x0f, 0xb6, 0x03],
            &[0x0f, 0xb7, 0xc1],
            &[0x83, 0xe0, 0x3f],
            &[0x48, 0x83, 0xe0, 0x7f],
            &[0x83, 0xe0, 0xff],
            &[0xc1, 0xe8, 26],
            &[0x48, 0xc1, 0xe8, 57],
            &[0xc1, 0xe0, 2],
            &[0x30, 0xc8],
            &[0x0f, 0x42, 0xc1],
        ];
        for _ in 0..1 + rng.below(2) {
            code.extend_from_slice(rng.pick(&limits));
        }
        // mov rcx, rax; cpuid as what only the interpreter executes; nop; add rbx, 8
        let between: [&[u8]; 6] =
            [&[], &[], &[], &[0x48, 0x89, 0xc1], &[0x0f, 0xa2], &[0x48, 0x83, 0xc3, 8]];
        code.extend_from_slice(rng.pick(&between));
        // mov rdx, [rbx+rax*8+d]; mov rax, the same; mov edx, [rbp+rax*4+d]; movzx eax, byte [rbx+rax+d];
        // xor ecx, [rbx+rax*4+d]; mov r10, [rbx+rax*8+d]; movups xmm0, [rbx+rax*8+d];
        // mov [rbx+rax*8+d], rdx; add [rbp+rax*2+d], cx; mov byte [rbx+rax+d], 5; mov ah, [rbx+rax+d] as
        // far as it can be encoded; cmp [rbp+rax*8+d], rcx; mov edx, [rbx+d]; mov [rbx+d], dl
        let accesses: [(&[u8], &[u8]); 13] = [
            (&[0x48, 0x8b, 0x94, 0xc3], &[]),
            (&[0x48, 0x8b, 0x84, 0xc3], &[]),
            (&[0x8b, 0x94, 0x85], &[]),
            (&[0x0f, 0xb6, 0x84, 0x03], &[]),
            (&[0x33, 0x8c, 0x83], &[]),
            (&[0x4c, 0x8b, 0x94, 0xc3], &[]),
            (&[0x0f, 0x10, 0x84, 0xc3], &[]),
            (&[0x48, 0x89, 0x94, 0xc3], &[]),
            (&[0x66, 0x01, 0x8c, 0x45], &[]),
            (&[0xc6, 0x84, 0x03], &[5]),
            (&[0x8a, 0xa4, 0x03], &[]),
            (&[0x48, 0x39, 0x8c, 0xc5], &[]),
            (&[0x8b, 0x93], &[]),
        ];
        for _ in 0..1 + rng.below(3) {
            let (bytes, more) = rng.pick(&accesses);
            code.extend_from_slice(bytes);
            code.extend((rng.below(600) as i32 - 300).to_le_bytes());
            code.extend_from_slice(more);
        }
    }
    // cmp eax, ecx: shifts leave flags that mean nothing. hlt.
    code.extend_from_slice(&[0x39, 0xc8, 0xf4]);
    code
}

/// What a run leaves behind.
fn run(m: &mut Machine, start: &Regs, contents: &[u8]) -> (String, Vec<u8>) {
    m.write(APART, contents);
    m.resume();
    m.vcpu.set_regs(start).unwrap();
    let exit = m.vcpu.run();
    let mut r = m.regs();
    let faulted = (HANDLERS..HANDLERS + 256 * HANDLER_BYTES).contains(&r.rip);
    if faulted {
        // Flags that were about to be overwritten are not kept over a fault.
        r.rflags &= !ARITHMETIC;
    }
    let cr2 = if faulted { m.vcpu.sregs().cr2 } else { 0 };
    (format!("{exit:?} {r:x?} {cr2:#x}"), m.read(APART, contents.len()))
}

#[test]
fn a_shared_check_covers_all_that_it_answers_for() {
    compare(0x6772_6f75_7073, program);
}

#[test]
fn the_check_of_a_table_covers_all_of_its_places() {
    compare(0x7461_626c_6573, table_program);
}

fn compare(seed: u64, program: fn(&mut Rng) -> Vec<u8>) {
    let (mut tested, mut interpreter) = (machine(policy()), machine(TranslationPolicy::OFF));
    let mut rng = Rng::new(seed);
    // The pages around the boundaries that are used, which lie at the end.
    let contents: Vec<u8> = (0..32 * PAGE).map(|_| rng.below(256) as u8).collect();
    let first = APART + (512 - 31) * PAGE;
    let mut faults = 0;
    for case in 0..CASES {
        let code = program(&mut rng);
        let at = CODE + case % 64 * 256;
        tested.write(at, &code);
        interpreter.write(at, &code);
        let mut near = || first + rng.below(30) * PAGE + rng.below(1400) - 700;
        let rcx = 0x1234_5678_9a00 | case & 0xff;
        let start = Regs {
            rip: at,
            rbx: near(),
            rbp: near(),
            rsp: near() & !7,
            rax: 1,
            rcx,
            rflags: 3,
            ..Regs::default()
        };
        let expected = run(&mut interpreter, &start, &contents);
        faults += usize::from(!expected.0.ends_with(" 0x0"));
        for _ in 0..TURNS {
            let got = run(&mut tested, &start, &contents);
            assert_eq!(got.0, expected.0, "case {case}: {code:02x?}");
            assert!(got.1 == expected.1, "case {case} wrote elsewhere: {code:02x?}");
        }
    }
    let cases = CASES as usize;
    assert!(faults > cases / 10 && faults < cases * 9 / 10, "{faults} of {cases} faulted");
}
