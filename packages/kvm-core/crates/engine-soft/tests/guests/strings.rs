//! String instructions: direction, counts, overlap, faults in their middle.

use kvm_abi::exit::Exit;
use kvm_abi::regs::{GuestDebug, Regs, guestdbg};

use super::machine::{ALL_MODES, DATA, Machine, Mode, RAM};
use super::rng::Rng;

const REP_MOVSB_HLT: [u8; 3] = [0xf3, 0xa4, 0xf4];

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

#[test]
fn a_count_of_zero_does_nothing() {
    let mut m = Machine::new(Mode::Long, &REP_MOVSB_HLT);
    m.set(|r| (r.rsi, r.rdi, r.rcx) = (u64::MAX >> 1, 1 << 62, 0));
    let r = m.run_to_halt();
    assert_eq!((r.rsi, r.rdi, r.rcx), (u64::MAX >> 1, 1 << 62, 0));
}

#[test]
fn many_pages_are_copied() {
    let mut m = Machine::new(Mode::Long, &REP_MOVSB_HLT);
    let bytes = pattern(300_000);
    m.write(0x10_0003, &bytes);
    m.set(|r| (r.rsi, r.rdi, r.rcx) = (0x10_0003, 0x20_0801, bytes.len() as u64));
    let r = m.run_to_halt();
    assert_eq!((r.rsi, r.rdi, r.rcx), (0x10_0003 + 300_000, 0x20_0801 + 300_000, 0));
    assert!(m.read(0x20_0801, bytes.len()) == bytes);
}

#[test]
fn downwards_copies_start_at_the_end() {
    // std; rep movsw; hlt
    let mut m = Machine::new(Mode::Long, &[0xfd, 0x66, 0xf3, 0xa5, 0xf4]);
    let bytes = pattern(10_000);
    m.write(DATA, &bytes);
    // Overlapping by all but six bytes.
    m.set(|r| (r.rsi, r.rdi, r.rcx) = (DATA + 9_998, DATA + 10_004, 5_000));
    let r = m.run_to_halt();
    assert_eq!((r.rsi, r.rdi, r.rcx), (DATA - 2, DATA + 4, 0));
    assert!(m.read(DATA + 6, bytes.len()) == bytes);
}

#[test]
fn an_overlapping_copy_repeats_its_start() {
    let mut m = Machine::new(Mode::Long, &REP_MOVSB_HLT);
    m.write(DATA, b"abc");
    m.set(|r| (r.rsi, r.rdi, r.rcx) = (DATA, DATA + 3, 9_000));
    m.run_to_halt();
    let expected: Vec<u8> = b"abc".iter().copied().cycle().take(9_003).collect();
    assert!(m.read(DATA, 9_003) == expected);
}

#[test]
fn sixteen_bit_pointers_wrap() {
    let mut m = Machine::new(Mode::Real, &REP_MOVSB_HLT);
    m.write(DATA + 0xfffe, &[1, 2]);
    m.write(DATA, &[3, 4]);
    m.set(|r| (r.rsi, r.rdi, r.rcx) = (0xabcd_fffe, 0x1234_0100, 0x5678_0004));
    let r = m.run_to_halt();
    assert_eq!(m.read(DATA + 0x100, 4), [1, 2, 3, 4]);
    // Bits beyond the address size stay.
    assert_eq!((r.rsi, r.rdi, r.rcx), (0xabcd_0002, 0x1234_0104, 0x5678_0000));
}

#[test]
fn a_fault_leaves_exact_registers() {
    for (code, size) in [([0xf3, 0x48, 0xab, 0xf4], 8), ([0xf3, 0xaa, 0xf4, 0xf4], 1)] {
        let mut m = Machine::new(Mode::Long, &code);
        // The last large page of the tables: beyond it nothing is mapped, before it no RAM.
        let end = 0x60_0000u64;
        let start = RAM - 5 * size;
        m.set(|r| (r.rdi, r.rcx, r.rax) = (start, 1 << 40, u64::MAX));
        let exit = m.vcpu.run();
        // RAM ends first, in a device.
        assert!(matches!(exit, kvm_abi::exit::Exit::Mmio { write: true, gpa: RAM, .. }));
        let r = m.regs();
        assert_eq!((r.rdi, r.rcx), (RAM, (1 << 40) - 5));
        m.set(|r| (r.rdi, r.rcx) = (end - 3 * size, 7));
        for n in 0..3 {
            let exit = m.vcpu.run();
            let kvm_abi::exit::Exit::Mmio { write: true, gpa, len, .. } = exit else {
                panic!("{exit:?}")
            };
            assert_eq!((gpa, u64::from(len)), (end - (3 - n) * size, size));
        }
        assert_eq!(m.run_to_fault(), 14);
        let r = m.regs();
        assert_eq!((r.rdi, r.rcx, m.vcpu.sregs().cr2), (end, 4, end));
    }
}

#[test]
fn a_count_whose_bytes_wrap_is_not_a_small_one() {
    let mut m = Machine::new(Mode::Long, &[0xf3, 0x48, 0xab, 0xf4]);
    let count = (1 << 61) + 2;
    m.set(|r| (r.rdi, r.rcx, r.rax) = (DATA, count, u64::MAX));
    let exit = m.vcpu.run();
    assert!(matches!(exit, Exit::Mmio { write: true, gpa: RAM, .. }), "{exit:?}");
    let r = m.regs();
    assert_eq!((r.rdi, r.rcx), (RAM, count - (RAM - DATA) / 8));
}

/// Registers and memory after the instruction, executed at once or element by element.
fn outcome(mode: Mode, code: &[u8], start: &Regs, stepped: bool) -> (String, Vec<u8>) {
    let mut m = Machine::new(mode, code);
    m.write(AROUND, &pattern(SIZE));
    m.set(|r| *r = Regs { rip: r.rip, rsp: r.rsp, ..*start });
    // Ends a little behind the data that is used, so that its limit is met.
    let mut s = m.vcpu.sregs();
    if !matches!(mode, Mode::Long | Mode::Compat | Mode::Real) {
        (s.es.limit, s.es.g) = ((AROUND + 0x3000) as u32, 0);
        m.vcpu.set_sregs(&s).unwrap();
    }
    let control = if stepped { guestdbg::ENABLE | guestdbg::SINGLESTEP } else { 0 };
    m.vcpu.set_guest_debug(&GuestDebug { control, debugreg: [0; 8] }).unwrap();
    let exit = loop {
        match m.vcpu.run() {
            Exit::Debug { .. } => {}
            exit => break exit,
        }
    };
    (format!("{exit:?} {:x?}", m.regs()), m.read(AROUND, SIZE))
}

const AROUND: u64 = DATA;
const SIZE: usize = 0x1_0000;

#[test]
fn elements_done_at_once_are_those_done_one_by_one() {
    let mut rng = Rng::new(0x7265_7073);
    let mut faults = 0;
    for case in 0..600 {
        let mode = ALL_MODES[rng.below(ALL_MODES.len() as u64) as usize];
        let mut code = Vec::new();
        // The other operand and address sizes; 64 bits.
        code.extend([0x66].iter().filter(|_| rng.below(3) == 0));
        // 16-bit addresses would reach the machine's tables and the code itself, but in real mode.
        let other_address = match mode {
            Mode::Protected32 | Mode::Pae | Mode::Compat => false,
            Mode::Protected16 => true,
            Mode::Real | Mode::Long => rng.below(3) == 0,
        };
        code.extend([0x67].iter().filter(|_| other_address));
        code.push(0xf3);
        code.extend([0x48].iter().filter(|_| mode == Mode::Long && rng.below(3) == 0));
        code.extend([[0xa4, 0xa5, 0xaa, 0xab][rng.below(4) as usize], 0xf4]);
        let base = if mode == Mode::Real { 0 } else { AROUND };
        let mut near = || base + [0, 0x1000, 0x2ff0, 0xf800][rng.below(4) as usize] + rng.below(64);
        let (rsi, rdi) = (near(), near());
        let start = Regs {
            rsi,
            rdi,
            rcx: rng.below(700),
            rax: 0x1122_3344_5566_7788 * rng.below(2),
            rflags: 2 | u64::from(rng.below(3) == 0) << 10,
            ..Regs::default()
        };
        let expected = outcome(mode, &code, &start, true);
        faults += usize::from(!expected.0.contains("rcx: 0,"));
        let got = outcome(mode, &code, &start, false);
        assert_eq!(got.0, expected.0, "case {case}, {mode:?}: {code:02x?} {start:x?}");
        assert!(got.1 == expected.1, "case {case}, {mode:?}: {code:02x?} {start:x?}");
    }
    assert!(faults > 20 && faults < 400, "{faults} faulted");
}
