//! The same code in all modes, and the way from real mode to 64 bits and back to 32.

use super::machine::{ALL_MODES, CODE, DATA, GDT, Machine, Mode, PAGE_TABLES, STACK};

#[test]
fn every_mode_adds() {
    for mode in ALL_MODES {
        // mov al, 250; add al, 9; adc ah, ah; hlt
        let mut m = Machine::new(mode, &[0xb0, 250, 0x04, 9, 0x10, 0xe4, 0xf4]);
        assert_eq!(m.run_to_halt().rax, 0x0103, "{mode:?}");
    }
}

#[test]
fn operand_size_prefixes_select_the_other_size() {
    // mov (e)ax, imm: 16 bits by default in 16-bit code, 32 elsewhere.
    for mode in ALL_MODES {
        let small = matches!(mode, Mode::Real | Mode::Protected16);
        let short = if small { vec![0xb8, 1, 2, 0xf4] } else { vec![0x66, 0xb8, 1, 2, 0xf4] };
        let long = [if small { &[0x66][..] } else { &[] }, &[0xb8, 1, 2, 3, 4, 0xf4]].concat();
        for (code, expected) in [(short, 0x5555_0201), (long, 0x0403_0201)] {
            let mut m = Machine::new(mode, &code);
            m.set(|r| r.rax = 0x5555_5555);
            assert_eq!(m.run_to_halt().rax, expected, "{mode:?}");
        }
    }
}

#[test]
fn pusha_and_popa_are_inverse() {
    for mode in [Mode::Real, Mode::Protected16, Mode::Protected32, Mode::Compat] {
        // pusha; inverted registers; popa; hlt
        let code = [
            0x60, 0xf7, 0xd0, 0xf7, 0xd1, 0xf7, 0xd2, 0xf7, 0xd3, 0xf7, 0xd5, 0xf7, 0xd6, 0xf7,
            0xd7, 0x61, 0xf4,
        ];
        let mut m = Machine::new(mode, &code);
        m.set(|r| {
            (r.rax, r.rcx, r.rdx, r.rbx) = (0x11, 0x22, 0x33, 0x44);
            (r.rbp, r.rsi, r.rdi) = (0x55, 0x66, 0x77);
        });
        let before = m.regs();
        let mut after = m.run_to_halt();
        after.rip = before.rip;
        assert_eq!(after, before, "{mode:?}");
    }
}

#[test]
fn a_frame_of_16_bits_leaves_the_upper_stack_pointer() {
    // enter 6, 0; leave; hlt
    let mut m = Machine::new(Mode::Real, &[0xc8, 6, 0, 0, 0xc9, 0xf4]);
    m.set(|r| (r.rsp, r.rbp) = (0xabcd_0100, 0x1234_5678));
    let r = m.run_to_halt();
    assert_eq!((r.rsp, r.rbp), (0xabcd_0100, 0x1234_5678));
    assert_eq!(m.read(DATA + 0xfe, 2), [0x78, 0x56]);
}

#[test]
fn real_mode_interrupts_use_the_vector_table() {
    // int 0x21; mov bl, 2; hlt, and a handler that loads BH.
    let mut m = Machine::new(Mode::Real, &[0xcd, 0x21, 0xb3, 2, 0xf4]);
    // mov bh, 3; iret
    m.handler(0x21, &[0xb7, 3, 0xcf]);
    m.set(|r| r.rflags = 0x8d7);
    let r = m.run_to_halt();
    assert_eq!((r.rbx, r.rflags, r.rsp), (0x0302, 0x8d7, 0x8000));
}

#[test]
fn real_mode_segments_end_at_64_kib() {
    // mov ax, [0xffff]: a word across the end.
    let mut m = Machine::new(Mode::Real, &[0xa1, 0xff, 0xff, 0xf4]);
    assert_eq!(m.run_to_fault(), 13);
    // push ax with SP = 1 is a stack fault, which finds no stack either.
    let mut m = Machine::new(Mode::Real, &[0x50, 0xf4]);
    m.set(|r| r.rsp = 1);
    assert_eq!(m.vcpu.run(), kvm_abi::exit::Exit::Shutdown);
}

#[test]
fn code_runs_from_real_mode_to_long_mode_and_back_to_32_bits() {
    let address = |offset: u64| ((CODE + offset) as u32).to_le_bytes();
    let far = |offset: u64, selector: u8| [&[0xea][..], &address(offset), &[selector, 0]].concat();
    // lgdt [0]; mov eax, cr0; or al, 1; mov cr0, eax; jmp dword 0x20:protected
    let real = [
        &[0x0f, 0x01, 0x16, 0, 0, 0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0, 0x66][..],
        &far(0x100, 0x20),
    ]
    .concat();
    let protected = [
        // mov ax, 0x10; mov ds, ax; mov es, ax; mov ss, ax; mov esp, STACK
        &[0x66, 0xb8, 0x10, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc][..],
        &(STACK as u32).to_le_bytes(),
        // mov eax, cr4; or eax, PAE; mov cr4, eax
        &[0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0],
        // mov eax, PAGE_TABLES; mov cr3, eax
        &[0xb8],
        &(PAGE_TABLES as u32).to_le_bytes(),
        &[0x0f, 0x22, 0xd8],
        // mov ecx, EFER; rdmsr; or eax, LME; wrmsr
        &[0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x0d, 0, 1, 0, 0, 0x0f, 0x30],
        // mov eax, cr0; or eax, PG; mov cr0, eax
        &[0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0],
        &far(0x200, 0x18),
    ]
    .concat();
    // mov rax, imm64; push 0x20; push compat; retfq
    let long = [
        &[0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x6a, 0x20, 0x68][..],
        &address(0x300),
        &[0x48, 0xcb],
    ]
    .concat();
    // mov ecx, 0x99; inc ecx (REX in 64-bit code); jmp 0x18:end
    let compat = [&[0xb9, 0x99, 0, 0, 0, 0x41][..], &far(0x400, 0x18)].concat();
    let mut m = Machine::new(Mode::Real, &real);
    m.write(DATA, &[&63u16.to_le_bytes()[..], &(GDT as u32).to_le_bytes()].concat());
    m.write(CODE + 0x100, &protected);
    m.write(CODE + 0x200, &long);
    m.write(CODE + 0x300, &compat);
    m.write(CODE + 0x400, &[0xf4]);
    let mut s = m.vcpu.sregs();
    s.gdt.limit = 0;
    m.vcpu.set_sregs(&s).unwrap();
    let r = m.run_to_halt();
    assert_eq!((r.rax, r.rcx, r.rsp), (0x1122_3344_5566_7788, 0x9a, STACK));
    let s = m.vcpu.sregs();
    assert_eq!((s.efer, s.cs.selector, s.cs.l), (0x500, 0x18, 1));
}
