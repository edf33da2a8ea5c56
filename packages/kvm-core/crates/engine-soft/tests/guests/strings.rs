//! String instructions: direction, counts, overlap, faults in their middle.

use super::machine::{DATA, Machine, Mode, RAM};

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
