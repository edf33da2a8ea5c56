//! Code that changes while it runs.

use super::machine::{CODE, Machine, Mode};

/// `mov al, imm8; hlt`.
fn load(value: u8) -> [u8; 3] {
    [0xb0, value, 0xf4]
}

#[test]
fn a_store_changes_the_next_instruction() {
    for mode in [Mode::Protected32, Mode::Long, Mode::Compat, Mode::Pae] {
        // mov byte ptr [rip/abs + imm of the next], 0x42; mov al, 0x11; hlt
        let at = (CODE + 8) as u32;
        let mut code = vec![0xc6, 0x05];
        if mode == Mode::Long {
            code.extend_from_slice(&1u32.to_le_bytes());
        } else {
            code.extend_from_slice(&at.to_le_bytes());
        }
        code.push(0x42);
        code.extend_from_slice(&load(0x11));
        let mut m = Machine::new(mode, &code);
        assert_eq!(m.run_to_halt().rax & 0xff, 0x42, "{mode:?}");
    }
}

#[test]
fn code_runs_again_after_a_change_from_outside() {
    let mut m = Machine::new(Mode::Long, &load(1));
    for value in [1, 2, 3] {
        m.write(CODE + 1, &[value]);
        m.set(|r| r.rip = CODE);
        m.resume();
        assert_eq!(m.run_to_halt().rax & 0xff, u64::from(value));
    }
}

#[test]
fn an_instruction_across_two_pages_sees_both_change() {
    let at = CODE + 0xffd;
    // mov eax, imm32 with two bytes of the number in the second page
    let mut m = Machine::new(Mode::Long, &[]);
    m.write(at, &[0xb8, 1, 2, 3, 4, 0xf4]);
    let run = |m: &mut Machine| {
        m.set(|r| r.rip = at);
        m.resume();
        m.run_to_halt().rax
    };
    assert_eq!(run(&mut m), 0x0403_0201);
    m.write(at + 4, &[0x44]);
    assert_eq!(run(&mut m), 0x4403_0201);
    m.write(at + 1, &[0x11]);
    assert_eq!(run(&mut m), 0x4403_0211);
}

#[test]
fn a_store_changes_the_next_page() {
    // At the end of a page: mov byte ptr [rdi], 0x77, and the instruction it changes behind.
    let mut m = Machine::new(Mode::Long, &[]);
    m.write(CODE + 0xffd, &[0xc6, 0x07, 0x77]);
    m.write(CODE + 0x1000, &load(0x11));
    // First run: the page behind is decoded before the store.
    m.set(|r| r.rip = CODE + 0x1000);
    assert_eq!(m.run_to_halt().rax & 0xff, 0x11);
    m.resume();
    m.set(|r| (r.rip, r.rdi) = (CODE + 0xffd, CODE + 0x1001));
    assert_eq!(m.run_to_halt().rax & 0xff, 0x77);
}

#[test]
fn a_string_store_overwrites_its_own_code() {
    // rep stosb from the byte after itself: the mov al that follows becomes hlt.
    let mut m = Machine::new(Mode::Long, &[0xf3, 0xaa, 0xb0, 0x11, 0xb0, 0x12, 0xf4]);
    m.set(|r| (r.rdi, r.rcx, r.rax) = (CODE + 2, 4, 0xf4));
    let r = m.run_to_halt();
    assert_eq!((r.rax, r.rip), (0xf4, CODE + 3));
}

#[test]
fn a_loop_patches_itself_many_times() {
    // l: inc byte ptr [rip + imm]; add eax, imm8; dec ecx; jnz l; hlt
    let code = [0xfe, 0x05, 2, 0, 0, 0, 0x83, 0xc0, 0x00, 0xff, 0xc9, 0x75, 0xf3, 0xf4];
    let mut m = Machine::new(Mode::Long, &code);
    m.set(|r| r.rcx = 100);
    // 1 + 2 + ... + 100
    assert_eq!(m.run_to_halt().rax, 5050);
}
