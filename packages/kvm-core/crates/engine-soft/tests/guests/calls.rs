//! Calls to where no code can be. Processors write the return address first and look at the target then,
//! whatever the order in the manuals: what is below the stack pointer has changed behind such a fault.

use super::machine::{
    CODE, DATA, HANDLER_BYTES, HANDLERS, IDT, Machine, Mode, PAGE_TABLES, STACK, TSS,
};

/// Often enough for every policy to translate.
const TURNS: usize = 5;
/// More page tables.
const TABLES: u64 = 0x9_0000;
/// The last page of the lower half of all addresses.
const EDGE: u64 = (1 << 47) - 0x1000;
/// Where handlers have their stack.
const FAULT_STACK: u64 = 0xa_0000;
const GP: u64 = 13;
const SENTINEL: u64 = 0x1111_1111_1111_1111;

/// 64-bit code at the end of the lower half; handlers have a stack of their own.
fn at_the_edge(code: &[u8]) -> Machine {
    let m = Machine::new(Mode::Long, code);
    m.words(PAGE_TABLES + 255 * 8, &[TABLES | 7]);
    m.words(TABLES + 511 * 8, &[(TABLES + 0x1000) | 7]);
    m.words(TABLES + 0x1000 + 511 * 8, &[(TABLES + 0x2000) | 7]);
    m.words(TABLES + 0x2000 + 511 * 8, &[CODE | 7]);
    m.write(TSS + 36, &FAULT_STACK.to_le_bytes());
    for vector in [GP, 14] {
        m.write(IDT + vector * 16 + 4, &[1]);
    }
    m
}

/// Fault, stack pointer and RIP there, and what is below the stack pointer.
fn fault(m: &mut Machine, rip: u64, rsp: u64) -> (u64, u64, u64, u64) {
    m.words(STACK - 16, &[SENTINEL; 2]);
    m.set(|r| (r.rip, r.rsp, r.rax, r.rbx) = (rip, rsp, 1 << 47, DATA));
    m.resume();
    let vector = m.run_to_fault();
    let frame = m.regs().rsp + 8;
    (vector, m.read_u64(frame + 24), m.read_u64(frame), m.read_u64(STACK - 8))
}

#[test]
fn a_call_to_no_canonical_address_has_written_its_return_address() {
    let [a, b, c, d] = (0x2000i32).to_le_bytes();
    let cases: [&[u8]; 5] = [
        // call +0x2000
        &[0xe8, a, b, c, d],
        // push rax; pop rax; mov rcx, [rsp]; call +0x2000: the stack is known to be there
        &[0x50, 0x58, 0x48, 0x8b, 0x0c, 0x24, 0xe8, a, b, c, d],
        // call rax
        &[0xff, 0xd0],
        // push rax; pop rax; call rax
        &[0x50, 0x58, 0xff, 0xd0],
        // call [rbx]
        &[0xff, 0x13],
    ];
    for code in cases {
        let mut m = at_the_edge(code);
        m.words(DATA, &[1 << 47]);
        let call = code.iter().position(|&b| b == 0xe8 || b == 0xff).unwrap() as u64;
        for turn in 0..TURNS {
            let got = fault(&mut m, EDGE, STACK);
            let back = EDGE + code.len() as u64;
            assert_eq!(got, (GP, STACK, EDGE + call, back), "turn {turn} of {code:02x?}");
        }
    }
}

#[test]
fn a_call_whose_return_address_has_no_place_fails_there_first() {
    let mut m = at_the_edge(&[0xe8, 0, 0x20, 0, 0]);
    for _ in 0..TURNS {
        let got = fault(&mut m, EDGE, 1 << 40);
        assert_eq!(got, (14, 1 << 40, EDGE, SENTINEL));
    }
}

#[test]
fn a_return_to_no_canonical_address_has_moved_nothing() {
    // ret
    let mut m = at_the_edge(&[0xc3]);
    m.words(STACK, &[1 << 47]);
    for _ in 0..TURNS {
        assert_eq!(fault(&mut m, EDGE, STACK), (GP, STACK, EDGE, SENTINEL));
    }
}

#[test]
fn a_call_beyond_the_limit_has_written_its_return_address() {
    // call +0x2000; call eax; a call of 16 bits
    for (code, bytes) in
        [(&[0xe8, 0, 0x20, 0, 0][..], 4), (&[0xff, 0xd0], 4), (&[0x66, 0xe8, 0, 0x20], 2)]
    {
        let mut m = Machine::new(Mode::Protected32, code);
        let mut s = m.vcpu.sregs();
        (s.cs.base, s.cs.limit, s.cs.g, s.cs.dpl, s.cs.selector) = (CODE, 0xfff, 0, 3, 0x0b);
        (s.ss.dpl, s.ss.selector) = (3, 0x13);
        m.vcpu.set_sregs(&s).unwrap();
        m.words(TSS, &[FAULT_STACK << 32, 0x10]);
        m.words(STACK - 8, &[SENTINEL]);
        m.set(|r| (r.rip, r.rax) = (0, 0x2000));
        let halted = m.run_to_halt();
        assert_eq!(halted.rip, HANDLERS + GP * HANDLER_BYTES + 1);
        // Error code, EIP, CS, EFLAGS, ESP.
        let frame = m.read(FAULT_STACK - 24, 20);
        assert_eq!(
            (&frame[4..8], &frame[16..20]),
            (&[0; 4][..], &(STACK as u32).to_le_bytes()[..])
        );
        let mut back = [0x11; 4];
        back[4 - bytes..].copy_from_slice(&(code.len() as u32).to_le_bytes()[..bytes]);
        assert_eq!(m.read(STACK - 4, 4), back, "{code:02x?}");
    }
}
