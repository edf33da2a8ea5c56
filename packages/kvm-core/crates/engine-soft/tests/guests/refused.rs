//! What the CPU model does not offer is undefined, whatever the host has.

use super::machine::{CODE, DATA, Machine, Mode, STACK};

const UD: u64 = 6;

/// Makes the machine execute `code` next, and HLT behind it.
fn start(m: &mut Machine, code: &[u8]) {
    let mut padded = code.to_vec();
    padded.resize(15, 0xf4);
    m.write(CODE, &padded);
    let mut s = m.vcpu.sregs();
    s.cs.selector = 8;
    m.vcpu.set_sregs(&s).unwrap();
    m.set(|r| {
        (r.rip, r.rsp, r.rflags) = (CODE, STACK, 2);
        (r.rax, r.rcx, r.rdx, r.rbx) = (DATA, DATA, DATA, DATA);
        (r.rsi, r.rdi, r.rbp) = (DATA, DATA, DATA);
    });
    m.resume();
}

/// The vector that `code` ends in; HLT behind it is none.
fn vector(m: &mut Machine, code: &[u8]) -> u64 {
    start(m, code);
    m.run_to_fault()
}

#[test]
fn evex_is_undefined() {
    let mut m = Machine::new(Mode::Long, &[]);
    for map in 1..=3u8 {
        for prefix in 0..4u8 {
            for opcode in 0..=255u8 {
                for length in [0x08, 0x28, 0x48] {
                    // W0, no mask, registers only.
                    let code = [0x62, 0xf0 | map, 0x7c | prefix, length, opcode, 0xc1, 0];
                    assert_eq!(vector(&mut m, &code), UD, "{code:02x?}");
                }
            }
        }
    }
}

#[test]
fn xop_and_3dnow_are_undefined() {
    let mut m = Machine::new(Mode::Long, &[]);
    for opcode in 0..=255u8 {
        for map in 8..=10u8 {
            let code = [0x8f, 0xe0 | map, 0x78, opcode, 0xc1, 0, 0, 0, 0];
            assert_eq!(vector(&mut m, &code), UD, "{code:02x?}");
        }
        let code = [0x0f, 0x0f, 0xc1, opcode];
        assert_eq!(vector(&mut m, &code), UD, "{code:02x?}");
    }
}

#[test]
fn other_extensions_are_undefined() {
    let mut m = Machine::new(Mode::Long, &[]);
    let cases: &[(&str, &[u8])] = &[
        ("monitor", &[0x0f, 0x01, 0xc8]),
        ("vmcall is KVM's, vmlaunch nobody's", &[0x0f, 0x01, 0xc2]),
        ("vmrun", &[0x0f, 0x01, 0xd8]),
        ("stgi", &[0x0f, 0x01, 0xdc]),
        ("clzero", &[0x0f, 0x01, 0xfc]),
        ("rdpkru", &[0x0f, 0x01, 0xee]),
        ("xbegin", &[0xc7, 0xf8, 0, 0, 0, 0]),
        ("extrq", &[0x66, 0x0f, 0x78, 0xc1, 1, 1]),
        ("movntsd", &[0xf2, 0x0f, 0x2b, 0x07]),
        ("kmovw", &[0xc5, 0xf8, 0x92, 0xc0]),
        ("vpdpbusd, VEX", &[0xc4, 0xe2, 0x71, 0x50, 0xc2]),
        ("vfmaddps, FMA4", &[0xc4, 0xe3, 0x71, 0x68, 0xc2, 0x30]),
        ("movdiri", &[0x0f, 0x38, 0xf9, 0x07]),
        ("encls", &[0x0f, 0x01, 0xcf]),
        ("xsaves", &[0x0f, 0xc7, 0x2f]),
        ("ptwrite", &[0xf3, 0x0f, 0xae, 0xe0]),
        ("umonitor", &[0xf3, 0x0f, 0xae, 0xf0]),
        ("lock before a register", &[0xf0, 0x01, 0xc0]),
        ("lock before a load", &[0xf0, 0x8b, 0x07]),
        ("lock before cmp", &[0xf0, 0x39, 0x07]),
        ("lock before bt", &[0xf0, 0x0f, 0xa3, 0x07]),
        ("a prefix before VEX", &[0x66, 0xc5, 0xf8, 0x77]),
        ("REX before VEX", &[0x48, 0xc5, 0xf8, 0x77]),
        ("mov cs", &[0x8e, 0xc8]),
        ("lea from a register", &[0x8d, 0xc0]),
        ("push es", &[0x06]),
        ("aaa", &[0x37]),
        ("far call with a pointer", &[0x9a, 0, 0, 0, 0, 8, 0]),
        ("gather into its mask", &[0xc4, 0xe2, 0x79, 0x90, 0x04, 0x0f]),
    ];
    for (name, code) in cases {
        assert_eq!(vector(&mut m, code), UD, "{name}");
    }
}

#[test]
fn hints_that_the_cpu_does_not_know_are_no_operation() {
    let mut m = Machine::new(Mode::Long, &[]);
    for opcode in 0x18..=0x1fu8 {
        for modrm in (0..=0x38u8).step_by(8).flat_map(|reg| [reg, 0xc0 | reg, 0xc6 | reg]) {
            for prefix in [&[][..], &[0x66], &[0xf3], &[0xf2]] {
                for rex in [&[][..], &[0x48]] {
                    let code = [prefix, rex, &[0x0f, opcode, modrm]].concat();
                    start(&mut m, &code);
                    let after = m.run_to_halt();
                    assert_eq!(after.rip, CODE + code.len() as u64 + 1, "{code:02x?}");
                    assert_eq!((after.rax, after.rsi), (DATA, DATA), "{code:02x?}");
                }
            }
        }
    }
}
