//! Code that no compiler makes: into the middle of instructions, off the end of RAM, more of it than
//! any cache holds.

use kvm_abi::exit::Exit;

use super::machine::{CODE, Machine, Mode, RAM};

#[test]
fn the_same_bytes_are_two_instructions_by_turns() {
    let code = [
        // l: lea rdx, [rip + 10]; mov eax, ecx; and eax, 1; add rdx, rax; jmp rdx
        0x48, 0x8d, 0x15, 10, 0, 0, 0, 0x89, 0xc8, 0x83, 0xe0, 1, 0x48, 0x01, 0xc2, 0xff, 0xe2,
        // mov eax, imm32, whose operand is inc ebx; inc ebx
        0xb8, 0xff, 0xc3, 0xff, 0xc3, // dec ecx; jnz l; hlt
        0xff, 0xc9, 0x75, 0xe6, 0xf4,
    ];
    let mut m = Machine::new(Mode::Long, &code);
    m.set(|r| r.rcx = 1000);
    let r = m.run_to_halt();
    assert_eq!((r.rbx, r.rax), (1000, 1));
}

#[test]
fn more_code_than_the_cache_holds_is_executed_all_the_same() {
    const BLOCKS: u32 = 1 << 16;
    let start = 0x10_0000;
    // add rax, n; jmp next
    let code: Vec<u8> = (0..BLOCKS)
        .flat_map(|n| {
            let [a, b, c, d] = n.to_le_bytes();
            [0x48, 0x05, a, b, c, d, 0xeb, 0]
        })
        .chain([0xf4])
        .collect();
    let mut m = Machine::new(Mode::Long, &[]);
    m.write(start, &code);
    for _ in 0..3 {
        m.set(|r| (r.rip, r.rax) = (start, 0));
        m.resume();
        assert_eq!(m.run_to_halt().rax, u64::from(BLOCKS) * u64::from(BLOCKS - 1) / 2);
    }
}

#[test]
fn a_kernel_that_runs_off_the_end_of_ram_stops_there() {
    for (code, whole) in [(&[0x90, 0x90][..], 2), (&[0x90, 0xb8], 1)] {
        let mut m = Machine::new(Mode::Long, &[0xf4]);
        let at = RAM - code.len() as u64;
        m.write(at, code);
        m.set(|r| r.rip = at);
        let exit = m.vcpu.run();
        assert!(matches!(exit, Exit::InternalError { .. }), "{exit:?}");
        assert_eq!(m.regs().rip, at + whole, "what is whole is executed");
        // Whoever set the trap may go on elsewhere.
        m.set(|r| r.rip = CODE);
        m.run_to_halt();
    }
}
