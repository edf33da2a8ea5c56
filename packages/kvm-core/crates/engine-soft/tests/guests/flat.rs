//! 32-bit code at addresses that wrap, and in segments that are flat and then are not: translated
//! code takes for granted what the interpreter looks at each time.

use kvm_abi::regs::{Regs, Segment};
use kvm_cpu::engine::VcpuEngine;
use kvm_engine_soft::TranslationPolicy;

use super::machine::{
    CODE, DATA, GDT, HANDLER_BYTES, HANDLERS, IDT, Machine, Mode, PAGE_TABLES, STACK, TSS, gate,
};
use super::policy::policy;
use super::rng::Rng;

const ARITHMETIC: u64 = 0x8d5;
const CASES: u64 = 800;
/// Often enough for every policy to translate.
const TURNS: usize = 4;
/// Where handlers have their stack, of which only the frame is compared.
const FAULT_STACK: u64 = 0xa_0000;
/// More page tables.
const TABLES: u64 = 0x9_0000;
/// What lies at the last page below 4 GiB, at 4 GiB, and at the last page of all addresses: the same
/// access with too few or too many bits finds another one.
const TOP: u64 = 0x3f_f000;
const BEYOND: u64 = 0x3f_e000;
const LAST: u64 = 0x3f_d000;

/// Selectors of level 3 and their descriptors, all of data: flat, with a limit, with a base, read-only,
/// expand-down, at the end of all addresses.
const SEGMENTS: [(u8, u64); 6] = [
    (0x43, 0x00cf_f300_0000_ffff),
    (0x4b, 0x0042_f300_0000_17ff | 2 << 48),
    (0x53, 0x00cf_f302_0000_ffff),
    (0x5b, 0x00cf_f100_0000_ffff),
    (0x63, 0x00cf_f700_0000_0000),
    (0x6b, 0xffcf_f3ff_f000_ffff),
];

/// Where memory is compared: page by page.
fn compared() -> impl Iterator<Item = u64> {
    let around = |at: u64| (0..5).map(move |n| at - 0x2000 + n * 0x1000);
    let low = [0, 0x1000, TOP, BEYOND, LAST].into_iter();
    low.chain([1, 2, 3].into_iter().flat_map(move |n| around(n * DATA)))
}

fn machine(mode: Mode, policy: TranslationPolicy) -> Machine {
    let m = Machine::with_policy(mode, &[], policy);
    for (selector, descriptor) in SEGMENTS {
        m.words(GDT + u64::from(selector & !7), &[descriptor]);
    }
    let [pdpt, pd] = [PAGE_TABLES + 0x1000, PAGE_TABLES + 0x2000];
    let [top, top_last, beyond, beyond_first] = [0, 1, 2, 3].map(|n| TABLES + n * 0x1000);
    let [high, high_pd, high_last] = [4, 5, 6].map(|n| TABLES + n * 0x1000);
    m.words(pd, &[0x87, 0x20_0087, 0x40_0087]);
    m.words(top + 511 * 8, &[top_last | 7]);
    m.words(top_last + 511 * 8, &[TOP | 7]);
    match mode {
        Mode::Pae => m.words(pdpt + 3 * 8, &[top | 1]),
        Mode::Compat => {
            m.words(PAGE_TABLES, &[pdpt | 7]);
            m.words(pdpt, &[pd | 7, 0, 0, top | 7, beyond | 7]);
            m.words(beyond, &[beyond_first | 7]);
            m.words(beyond_first, &[BEYOND | 7]);
            m.words(PAGE_TABLES + 511 * 8, &[high | 7]);
            m.words(high + 511 * 8, &[high_pd | 7]);
            m.words(high_pd + 511 * 8, &[high_last | 7]);
            m.words(high_last + 511 * 8, &[LAST | 7]);
        }
        _ => {}
    }
    m.words(TSS, &[FAULT_STACK << 32, if mode == Mode::Compat { 0 } else { 0x10 }]);
    for vector in [12, 13, 14] {
        let handler = HANDLERS + vector * HANDLER_BYTES;
        match mode {
            Mode::Compat => m.words(IDT + vector * 16, &[gate(handler, 0x18, 14), 0]),
            _ => m.words(IDT + vector * 8, &[gate(handler, 8, 14)]),
        }
    }
    m
}

/// Accesses of all kinds. `{}` is where a displacement near zero comes.
const WITH_DISPLACEMENT: &[&[u8]] = &[
    // mov eax, [ebx+d]; mov [esi+d], edx; add [ebp+d], eax; movzx eax, byte [edi+d]
    &[0x8b, 0x83],
    &[0x89, 0x96],
    &[0x01, 0x85],
    &[0x0f, 0xb6, 0x87],
    // mov eax, [ebx+ecx*4+d]; mov [ebp+ecx*8+d], dx; adc eax, [esp+ecx+d]; mov dl, [ecx*2+d]
    &[0x8b, 0x84, 0x8b],
    &[0x66, 0x89, 0x94, 0xcd],
    &[0x13, 0x84, 0x0c],
    &[0x8a, 0x14, 0x4d],
    // lea eax, [ebx+ecx*4+d]; lea ebx, [ebx+d]; lea dx, [ebp+d]
    &[0x8d, 0x84, 0x8b],
    &[0x8d, 0x9b],
    &[0x66, 0x8d, 0x95],
    // mov eax, fs:[ebx+d]; mov gs:[ecx*4+d], edx; mov eax, fs:[d]; mov gs:[d], al; cs: as fs:
    &[0x64, 0x8b, 0x83],
    &[0x65, 0x89, 0x14, 0x8d],
    &[0x64, 0xa1],
    &[0x65, 0xa2],
    &[0x2e, 0x8b, 0x83],
    // es: mov [esi+d], eax; ss: mov edx, [edi+d]
    &[0x26, 0x89, 0x86],
    &[0x36, 0x8b, 0x97],
    // lock xadd [ebx+d], edx; xchg [esi+d], eax; lock cmpxchg8b [ebp+d]; lock inc gs:[ebx+d]
    &[0xf0, 0x0f, 0xc1, 0x93],
    &[0x87, 0x86],
    &[0xf0, 0x0f, 0xc7, 0x8d],
    &[0x65, 0xf0, 0xff, 0x83],
    // movups xmm0, [ebx+d]; movaps [esi+d], xmm0; movd xmm0, [ebp+d]
    &[0x0f, 0x10, 0x83],
    &[0x0f, 0x29, 0x86],
    &[0x66, 0x0f, 0x6e, 0x85],
    // push [ebx+d]; push fs:[ebx+d]
    &[0xff, 0xb3],
    &[0x64, 0xff, 0xb3],
    // add ebx, d; sub esp, d; add esp, d
    &[0x81, 0xc3],
    &[0x81, 0xec],
    &[0x81, 0xc4],
];

const PLAIN: &[&[u8]] = &[
    // push edx; push -3; push 0x12345678; pop edx; pop eax; pop ax; leave; mov esp, ebp; push esp
    &[0x52],
    &[0x6a, 0xfd],
    &[0x68, 0x78, 0x56, 0x34, 0x12],
    &[0x5a],
    &[0x58],
    &[0x66, 0x58],
    &[0xc9],
    &[0x89, 0xec],
    &[0x54],
    // inc esi; dec ebx; inc dx; movsb; movsd; stosw; lodsb; std; cld; pushfd
    &[0x46],
    &[0x4b],
    &[0x66, 0x42],
    &[0xa4],
    &[0xa5],
    &[0x66, 0xab],
    &[0xac],
    &[0xfd],
    &[0xfc],
    &[0x9c],
    // mov ah, dl; xchg ah, dh; cmp eax, edx; setc dl; sbb eax, eax; bswap edx; imul eax, edx, 5
    &[0x88, 0xd4],
    &[0x86, 0xe6],
    &[0x39, 0xd0],
    &[0x0f, 0x92, 0xc2],
    &[0x19, 0xc0],
    &[0x0f, 0xca],
    &[0x6b, 0xc2, 5],
    // call and pop; 16-bit address: mov ax, [bx+si]
    &[0xe8, 0, 0, 0, 0, 0x5a],
    &[0x67, 0x66, 0x8b, 0x00],
    // mov ds, ax in its plainest form: what AX has is hardly a selector.
    &[0x8e, 0xd8],
];

fn program(rng: &mut Rng, at: u64) -> Vec<u8> {
    // movd xmm0, edx
    let mut code = vec![0x66, 0x0f, 0x6e, 0xc2];
    for _ in 0..3 + rng.below(12) {
        match rng.below(20) {
            0..=8 => {
                code.extend(rng.pick(WITH_DISPLACEMENT));
                let near = rng.below(600) as i32 - 300;
                let far = rng.pick(&[DATA as i32, 0x800, -0x800]);
                let far = if rng.below(3) == 0 { far } else { 0 };
                code.extend(near.wrapping_add(far).to_le_bytes());
            }
            9 => {
                // mov eax, [abs]; mov [abs], edx; lock inc [abs]
                code.extend(rng.pick(&[&[0xa1][..], &[0x89, 0x15], &[0xf0, 0xff, 0x05]]));
                let near = rng.below(40) as i32 - 20;
                let page = [0, DATA as i32, DATA as i32 + 0x1000][rng.below(3) as usize];
                code.extend(page.wrapping_add(near).to_le_bytes());
            }
            10 => {
                // push next; ret, or mov eax, next; jmp eax
                let (first, last): (u8, &[u8]) =
                    if rng.below(2) == 0 { (0x68, &[0xc3]) } else { (0xb8, &[0xff, 0xe0]) };
                let next = at as u32 + code.len() as u32 + 5 + last.len() as u32;
                code.push(first);
                code.extend(next.to_le_bytes());
                code.extend(last);
            }
            11 => {
                // mov ax, selector; mov ds, es, fs, gs or ss, ax
                let all = [0, 0x43, 0x43, 0x43, 0x4b, 0x53, 0x5b, 0x63, 0x6b];
                code.extend([0x66, 0xb8, rng.pick(&all), 0, 0x8e]);
                code.push(rng.pick(&[0xd8, 0xc0, 0xe0, 0xe8, 0xe0, 0xe8, 0xd0]));
            }
            _ => code.extend(rng.pick(PLAIN)),
        }
    }
    code.push(0xf4);
    code
}

struct Case {
    start: Regs,
    /// Of FS and GS.
    bases: [u64; 2],
    end: u64,
}

/// Runs into a fault, at the latest at the end, and yields what that leaves behind.
fn run(m: &mut Machine, case: &Case, contents: &[u8]) -> (String, Vec<u8>) {
    for page in compared() {
        m.write(page, &contents[..0x1000]);
    }
    m.write(FAULT_STACK - 64, &[0; 64]);
    let mut s = m.vcpu.sregs();
    let flat = Segment { selector: 0x43, type_: 3, dpl: 3, base: 0, limit: u32::MAX, ..s.ds };
    let flat = Segment { present: 1, s: 1, g: 1, db: 1, l: 0, unusable: 0, ..flat };
    (s.ds, s.es, s.ss) = (flat, flat, flat);
    s.fs = Segment { base: case.bases[0], ..flat };
    s.gs = Segment { base: case.bases[1], ..flat };
    s.cs = Segment { selector: 0x0b, type_: 11, ..flat };
    s.gdt.limit = 0x6f;
    m.vcpu.set_sregs(&s).unwrap();
    m.resume();
    // Another RIP ends an instruction that waits for a device.
    m.vcpu.set_regs(&Regs { rflags: 2, ..Regs::default() }).unwrap();
    m.vcpu.set_regs(&case.start).unwrap();
    let exit = m.vcpu.run();
    let mut r = m.regs();
    r.rflags &= !ARITHMETIC;
    let mut frame = m.read(FAULT_STACK - 64, 64);
    let slot = if s.efer & 0x400 != 0 { 8 } else { 4 };
    // Flags that were about to be overwritten are not kept over a fault.
    if u64::from(u32::from_le_bytes(frame[64 - 5 * slot..][..4].try_into().unwrap())) != case.end {
        frame[64 - 3 * slot] &= !(ARITHMETIC as u8);
        frame[64 - 3 * slot + 1] &= !((ARITHMETIC >> 8) as u8);
    }
    let s = m.vcpu.sregs();
    let segments = [s.ds, s.es, s.fs, s.gs].map(|s| s.selector);
    let mut memory = Vec::new();
    compared().for_each(|page| memory.extend_from_slice(&m.read(page, 0x1000)));
    (format!("{exit:x?} {r:x?} {segments:x?} {:x} {frame:02x?}", s.cr2), memory)
}

fn counters(vcpu: &dyn VcpuEngine) -> impl Fn(&str) -> u64 {
    let counters = vcpu.code_counters().unwrap().read();
    move |name| counters.iter().find(|(n, _)| *n == name).unwrap().1
}

fn check(mode: Mode, seed: u64) {
    let (mut tested, mut interpreter) =
        (machine(mode, policy()), machine(mode, TranslationPolicy::OFF));
    let mut rng = Rng::new(seed);
    let contents: Vec<u8> = (0..0x1000).map(|_| rng.below(256) as u8).collect();
    let mut ended = 0;
    for n in 0..CASES {
        let at = CODE + n % 64 * 512;
        let code = program(&mut rng, at);
        tested.write(at, &code);
        interpreter.write(at, &code);
        let near = |rng: &mut Rng| {
            let at = [0u32, 0, DATA as u32 + 0x1000, DATA as u32 + 0x800, 0x1000];
            u64::from(rng.pick(&at).wrapping_add(rng.below(64) as u32).wrapping_sub(32))
        };
        let [rbx, rbp, rsi, rdi] = [0; 4].map(|_| near(&mut rng));
        let rsp = if rng.below(3) == 0 { near(&mut rng) } else { DATA + 0x900 + rng.below(16) };
        let start = Regs {
            rip: at,
            rsp,
            rbx,
            rbp,
            rsi,
            rdi,
            rcx: u64::from((rng.below(40) as u32).wrapping_sub(20)),
            rax: 0x1111_2222,
            rdx: rng.below(1 << 32),
            r9: 0x9999_9999_9999,
            r12: 0xcccc_cccc_cccc,
            rflags: 0x202 | rng.below(2),
            ..Regs::default()
        };
        let bases = [0; 2].map(|_| rng.pick(&[0, DATA, DATA - 4, 0xffff_f000, 0xffff_fffc]));
        let case = Case { start, bases, end: at + code.len() as u64 - 1 };
        let end = format!("{:02x?}", &case.end.to_le_bytes()[..2]);
        for turn in 0..TURNS {
            // As often as the other: what lies elsewhere in memory comes from the turn before.
            let expected = run(&mut interpreter, &case, &contents);
            ended += usize::from(turn == 0 && expected.0.contains(&end[1..7]));
            let got = run(&mut tested, &case, &contents);
            assert_eq!(got.0, expected.0, "case {n}.{turn}, {mode:?}: {code:02x?} {start:x?}");
            let same = got.1 == expected.1;
            assert!(same, "case {n}.{turn}, {mode:?} wrote elsewhere: {code:02x?} {start:x?}");
        }
    }
    println!("{mode:?}: {ended} of {CASES} came to their end");
    assert!(ended as u64 > CASES / 10);
    if policy().threshold != 0 {
        assert!(counters(&*tested.vcpu)("translations") > CASES);
    }
}

#[test]
fn flat_code_without_paging_does_what_the_interpreter_does() {
    check(Mode::Protected32, 0x666c_6174);
}

#[test]
fn flat_code_with_paging_does_what_the_interpreter_does() {
    check(Mode::Pae, 0x666c_6175);
}

#[test]
fn flat_code_of_compatibility_mode_does_what_the_interpreter_does() {
    check(Mode::Compat, 0x666c_6176);
}

/// Sums a table in memory by a call for each element: `ecx` turns.
fn sum() -> Vec<u8> {
    let table = (DATA as u32).to_le_bytes();
    [
        // l: call f; dec ecx; jnz l; hlt
        &[0xe8, 4, 0, 0, 0, 0x49, 0x75, 0xf8, 0xf4][..],
        // f: push edx; mov edx, [ecx*4 + table]; add eax, edx; mov [esp-4], al; pop edx; ret
        &[0x52, 0x8b, 0x14, 0x8d],
        &table,
        &[0x01, 0xd0, 0x88, 0x44, 0x24, 0xfc, 0x5a, 0xc3],
    ]
    .concat()
}

const COUNT: u64 = 1000;

fn run_sum(m: &mut Machine) -> u64 {
    m.words(DATA, &[0x2_0000_0001; COUNT as usize]);
    m.set(|r| (r.rip, r.rcx, r.rax) = (CODE, COUNT, 0));
    m.resume();
    m.run_to_halt().rax
}

#[test]
fn flat_code_is_translated_in_every_mode() {
    for mode in [Mode::Protected32, Mode::Pae, Mode::Compat] {
        let mut m = Machine::new(mode, &sum());
        assert_eq!(run_sum(&mut m), COUNT / 2 * 3, "{mode:?}");
        let before = counters(&*m.vcpu)("interpretedInstructions");
        assert_eq!(run_sum(&mut m), COUNT / 2 * 3, "{mode:?}");
        let interpreted = counters(&*m.vcpu)("interpretedInstructions") - before;
        if policy().threshold == 0 {
            assert!(interpreted > 8 * COUNT, "{mode:?}");
        } else {
            assert!(interpreted < 100, "{mode:?}: {interpreted}");
        }
    }
}

#[test]
fn a_limit_is_kept_once_code_is_translated() {
    for segment in 0..3 {
        let mut m = Machine::new(Mode::Protected32, &sum());
        assert_eq!(run_sum(&mut m), COUNT / 2 * 3);
        let mut s = m.vcpu.sregs();
        let (wrong, vector) = match segment {
            0 => (&mut s.ds, 13),
            1 => (&mut s.ss, 12),
            _ => (&mut s.cs, 13),
        };
        let limit = match segment {
            0 => DATA + 4 * 500 + 3,
            1 => STACK,
            _ => CODE + 4,
        };
        (wrong.limit, wrong.g) = (limit as u32, 0);
        m.vcpu.set_sregs(&s).unwrap();
        m.set(|r| (r.rip, r.rcx) = (CODE, COUNT));
        m.resume();
        // A handler needs a stack, and none but the kernel's is there.
        m.words(TSS, &[FAULT_STACK << 32, 0x10]);
        if segment == 1 {
            m.set(|r| r.rsp = STACK + 4);
            assert_eq!(m.vcpu.run(), kvm_abi::exit::Exit::Shutdown);
            continue;
        }
        assert_eq!(m.run_to_fault(), vector, "{segment}");
        if segment == 0 {
            assert_eq!(m.regs().rcx, COUNT);
        }
    }
}

#[test]
fn flat_code_with_upper_halves_is_that_of_its_lower_halves() {
    // What 64-bit code leaves in registers, 32-bit code does not see, and finds again behind it.
    let mut m = Machine::new(Mode::Compat, &sum());
    run_sum(&mut m);
    m.set(|r| {
        (r.rip, r.rcx, r.rax) = (CODE, COUNT | 7 << 32, 1 << 40);
        (r.rbx, r.rbp, r.rsp) = (u64::MAX, 5 << 33, r.rsp | 1 << 32);
    });
    m.resume();
    let r = m.run_to_halt();
    assert_eq!((r.rax, r.rbx, r.rbp, r.rcx), (COUNT / 2 * 3, u64::MAX, 5 << 33, 0));
}
