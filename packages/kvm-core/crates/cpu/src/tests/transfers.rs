//! Far transfers, returns and system calls.

use crate::bits::cr0;
use crate::far::{far_call, far_jump};
use crate::ret::{far_ret, iret};
use crate::segment::Descriptor;
use crate::syscall::{swapgs, syscall, sysenter, sysexit, sysret};
use crate::testing::{Machine, code32, code64, data32, system};
use crate::{Mode, Seg, flags, reg, seg};

/// Descriptor, RPL, CPL, expected fault.
type Case = (u64, u16, u8, Option<(u8, u32)>);

fn gate(kind: u8, dpl: u8, selector: u16, offset: u32, parameters: u8) -> u64 {
    u64::from(offset & 0xffff)
        | u64::from(selector) << 16
        | u64::from(parameters) << 32
        | u64::from(0x80 | kind | dpl << 5) << 40
        | u64::from(offset >> 16) << 48
}

fn push32(m: &mut Machine, values: &[u32]) {
    let sp = m.cpu.regs[reg::RSP];
    for (value, at) in values.iter().zip((sp..).step_by(4)) {
        m.put32(at, *value);
    }
}

fn push64(m: &mut Machine, values: &[u64]) {
    let sp = m.cpu.regs[reg::RSP];
    for (value, at) in values.iter().zip((sp..).step_by(8)) {
        m.put64(at, *value);
    }
}

#[test]
fn real_mode_transfers() {
    let mut m = Machine::new();
    far_jump(&mut m, 0x1234, 0xf_0010, 2, 0).unwrap();
    assert_eq!((m.cpu.segs[seg::CS].base, m.cpu.rip()), (0x12340, 0x10));
    let result = far_jump(&mut m, 0x1234, 0x1_0000, 4, 0);
    assert_eq!(m.fault(result), (13, 0));
    m.cpu.regs[reg::RSP] = 0x100;
    far_call(&mut m, 0x2000, 0x20, 2, 0x15).unwrap();
    assert_eq!((m.get16(0xfc), m.get16(0xfe), m.cpu.regs[reg::RSP]), (0x15, 0x1234, 0xfc));
    far_ret(&mut m, 2, 4).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.regs[reg::RSP]), (0x15, 0x104));
    // Processors look at the target when the return address is written.
    let result = far_call(&mut m, 0x3000, 0x1_0000, 4, 0x18);
    assert_eq!(m.fault(result), (13, 0));
    assert_eq!((m.get32(0xfc), m.get32(0x100), m.cpu.regs[reg::RSP]), (0x18, 0x1234, 0x104));
    m.cpu.regs[reg::RSP] = 0x200;
    m.put16(0x200, 0x77);
    m.put16(0x202, 0x3000);
    m.put16(0x204, 0x7202);
    iret(&mut m, 2, 0).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.get_rflags()), (0x77, 0x7202));
    assert_eq!(m.cpu.regs[reg::RSP], 0x206);
}

#[test]
fn direct_far_jumps_check_privilege() {
    let conforming = code32(0) | 4 << 40;
    let cases: &[Case] = &[
        (code32(0), 0, 0, None),
        (code32(0), 3, 0, Some((13, 0x40))),
        (code32(3), 3, 0, Some((13, 0x40))),
        (code32(0), 3, 3, Some((13, 0x40))),
        (code32(3), 0, 3, None),
        (conforming, 3, 3, None),
        (data32(0), 0, 0, Some((13, 0x40))),
        (code32(0) & !(1 << 47), 0, 0, Some((11, 0x40))),
        (0x0000_9a00_0000_0fff, 0, 0, Some((13, 0))),
    ];
    for (i, &(raw, rpl, cpl, want)) in cases.iter().enumerate() {
        let mut m = Machine::protected(cpl);
        m.gdt(8, raw);
        let before = m.cpu.segs;
        let result = far_jump(&mut m, 0x40 | rpl, 0x1234, 4, 0);
        match want {
            Some(fault) => {
                assert_eq!(m.fault(result), fault, "case {i}");
                assert_eq!((m.cpu.rip(), m.cpu.segs), (0x100, before), "case {i}");
            }
            None => {
                assert!(result.is_ok(), "case {i}");
                assert_eq!(m.cpu.segs[seg::CS].selector, 0x40 | u16::from(cpl), "case {i}");
                assert_eq!((m.cpu.rip(), m.cpu.cpl), (0x1234, cpl), "case {i}");
            }
        }
    }
    let mut m = Machine::protected(0);
    let result = far_jump(&mut m, 3, 0, 4, 0);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn entering_64_bit_code() {
    let mut m = Machine::long(0);
    m.gdt(5, code32(0));
    far_jump(&mut m, 0x28, 0x5555, 4, 0).unwrap();
    assert_eq!(m.cpu.mode, Mode::Protected32);
    far_jump(&mut m, 0x08, 0x6666, 4, 0).unwrap();
    assert_eq!((m.cpu.mode, m.cpu.rip()), (Mode::Long64, 0x6666));
    // L and D together are reserved.
    m.gdt(6, code64(0) | 1 << 54);
    let result = far_jump(&mut m, 0x30, 0, 4, 0);
    assert_eq!(m.fault(result), (13, 0x30));
    let result = far_jump(&mut m, 0x08, 1 << 47, 8, 0);
    assert_eq!(m.fault(result), (13, 0));
    let result = far_call(&mut m, 0x08, 1 << 47, 8, 0x1_2345_6788);
    assert_eq!(m.fault(result), (13, 0));
    assert_eq!((m.get64(0x7ff0), m.get64(0x7ff8)), (0x1_2345_6788, 8));
    assert_eq!(m.cpu.regs[reg::RSP], 0x8000);
    far_call(&mut m, 0x08, 0x7777, 8, 0x1_2345_6789).unwrap();
    assert_eq!((m.get64(0x7ff0), m.get64(0x7ff8)), (0x1_2345_6789, 8));
}

#[test]
fn call_gates_switch_stacks_and_copy_parameters() {
    let mut m = Machine::protected(3);
    m.cpu.segs[seg::TR] =
        Seg { base: 0x3000, limit: 0x67, selector: 0x60, access: 0x8b, ..Seg::default() };
    m.put32(0x3004, 0x9000);
    m.put16(0x3008, 0x10);
    m.gdt(8, gate(12, 3, 0x08, 0x4321, 2));
    m.cpu.regs[reg::RSP] = 0x7f00;
    push32(&mut m, &[0xaaaa, 0xbbbb]);
    far_call(&mut m, 0x43, 0, 4, 0x107).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.rip(), m.cpu.regs[reg::RSP]), (0, 0x4321, 0x8fe8));
    let frame: Vec<u32> = (0..6).map(|i| m.get32(0x8fe8 + i * 4)).collect();
    assert_eq!(frame, [0x107, 0x1b, 0xaaaa, 0xbbbb, 0x7f00, 0x23]);
    // And back, releasing the parameters on both stacks.
    far_ret(&mut m, 4, 8).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.rip(), m.cpu.regs[reg::RSP]), (3, 0x107, 0x7f08));
    // A jump through the gate may not change the level.
    let result = far_jump(&mut m, 0x43, 0, 4, 0);
    assert_eq!(m.fault(result), (13, 8));
    m.gdt(8, gate(12, 0, 0x08, 0x4321, 2));
    let result = far_call(&mut m, 0x43, 0, 4, 0x107);
    assert_eq!(m.fault(result), (13, 0x40));
    m.gdt(8, gate(12, 3, 0x08, 0x4321, 2) & !(1 << 47));
    let result = far_call(&mut m, 0x43, 0, 4, 0x107);
    assert_eq!(m.fault(result), (11, 0x40));
}

#[test]
fn sixty_four_bit_call_gates() {
    let mut m = Machine::long(3);
    m.cpu.segs[seg::TR] =
        Seg { base: 0x3000, limit: 0x67, selector: 0x60, access: 0x8b, ..Seg::default() };
    m.put64(0x3004, 0x9000);
    m.gdt(8, gate(12, 3, 0x08, 0x4321, 0));
    m.gdt(9, 0xffff_8000);
    far_call(&mut m, 0x43, 0, 4, 0x107).unwrap();
    assert_eq!(m.cpu.rip(), 0xffff_8000_0000_4321);
    let frame: Vec<u64> = (0..4).map(|i| m.get64(0x8fe0 + i * 8)).collect();
    assert_eq!(frame, [0x107, 0x1b, 0x8000, 0x23]);
    assert!(m.cpu.segs[seg::SS].unusable);
    far_ret(&mut m, 8, 0).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.rip(), m.cpu.regs[reg::RSP]), (3, 0x107, 0x8000));
    m.gdt(8, gate(4, 3, 0x08, 0x4321, 0));
    let result = far_call(&mut m, 0x43, 0, 4, 0x107);
    assert_eq!(m.fault(result), (13, 0x40));
}

#[test]
fn iret_in_protected_mode() {
    let mut m = Machine::protected(0);
    m.cpu.events.nmi_masked = true;
    push32(&mut m, &[0x1234, 0x08, 0x20_0203]);
    iret(&mut m, 4, 0).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.regs[reg::RSP]), (0x1234, 0x800c));
    assert_eq!(m.cpu.get_rflags(), 0x20_0203);
    assert!(!m.cpu.events.nmi_masked);
    // To level 3: privileged data segments become null.
    let mut m = Machine::protected(0);
    m.cpu.segs[seg::ES] = Descriptor { raw: data32(3), address: 0 }.to_seg(0x23);
    push32(&mut m, &[0x1234, 0x1b, 0x3202, 0x7777, 0x23]);
    iret(&mut m, 4, 0).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.regs[reg::RSP]), (3, 0x7777));
    assert!(m.cpu.segs[seg::DS].unusable && !m.cpu.segs[seg::ES].unusable);
    assert_eq!(m.cpu.rflags & flags::IOPL, 3 << 12);
    // Level 3 may change IF only within IOPL, and IOPL never.
    m.cpu.rflags = 0;
    push32(&mut m, &[0x1234, 0x1b, 0x3203]);
    iret(&mut m, 4, 0).unwrap();
    assert_eq!(m.cpu.get_rflags(), 3);
}

#[test]
fn iret_refuses_bad_frames() {
    // Frame, expected fault.
    let cases: &[([u32; 5], (u8, u32))] = &[
        ([0, 0, 2, 0, 0], (13, 0)),
        ([0, 0x10, 2, 0, 0], (13, 0x10)),
        ([0, 0x1a, 2, 0, 0], (13, 0x18)),
        ([0, 0xfff8, 2, 0, 0], (13, 0xfff8)),
        ([0, 0x1b, 2, 0, 0], (13, 0)),
        ([0, 0x1b, 2, 0, 0x10], (13, 0x10)),
        ([0, 0x1b, 2, 0, 0x1b], (13, 0x18)),
        ([0, 0x1b, 2, 0, 0x43], (12, 0x40)),
    ];
    for (i, (frame, want)) in cases.iter().enumerate() {
        let mut m = Machine::protected(0);
        m.gdt(8, data32(3) & !(1 << 47));
        push32(&mut m, frame);
        let before = (m.cpu.regs, m.cpu.segs);
        let result = iret(&mut m, 4, 0);
        assert_eq!(m.fault(result), *want, "case {i}");
        assert_eq!((m.cpu.regs, m.cpu.segs), before, "case {i}");
    }
    // A level 3 program cannot return inwards.
    let mut m = Machine::protected(3);
    push32(&mut m, &[0, 0x08, 2]);
    let result = iret(&mut m, 4, 0);
    assert_eq!(m.fault(result), (13, 8));
}

#[test]
fn iret_to_virtual_8086_mode() {
    let mut m = Machine::protected(0);
    push32(&mut m, &[0x10, 0x1000, 0x2_3202, 0x80, 0x2000, 1, 2, 3, 4]);
    iret(&mut m, 4, 0).unwrap();
    assert_eq!((m.cpu.mode, m.cpu.cpl, m.cpu.rip()), (Mode::V86, 3, 0x10));
    assert_eq!((m.cpu.segs[seg::CS].base, m.cpu.segs[seg::SS].base), (0x10000, 0x20000));
    assert_eq!(m.cpu.segs[seg::GS].selector, 4);
    assert_eq!(m.cpu.regs[reg::RSP], 0x80);
    // IRET there needs IOPL 3.
    m.cpu.rflags &= !flags::IOPL;
    let result = iret(&mut m, 2, 0);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn a_return_outwards_clears_selectors_but_keeps_bases() {
    let mut m = Machine::long(0);
    let ds = m.cpu.segs[seg::DS];
    m.cpu.segs[seg::GS] = Seg { base: 0xffff_8000_0000_1000, ..ds };
    push64(&mut m, &[0x1234, 0x1b, 2, 0x7000, 0x23]);
    iret(&mut m, 8, 0).unwrap();
    let gs = m.cpu.segs[seg::GS];
    assert_eq!((gs.selector, gs.unusable, gs.base), (0, true, 0xffff_8000_0000_1000));
}

#[test]
fn iretq() {
    let mut m = Machine::long(0);
    push64(&mut m, &[0x1234, 0x1b, 0x202, 0x7000, 0x23]);
    iret(&mut m, 8, 0).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.rip(), m.cpu.regs[reg::RSP]), (3, 0x1234, 0x7000));
    // To the same level SS:RSP is popped too, and SS may be null.
    let mut m = Machine::long(0);
    push64(&mut m, &[0x1234, 0x08, 2, 0x7000, 0]);
    iret(&mut m, 8, 0).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.regs[reg::RSP]), (0, 0x7000));
    assert!(m.cpu.segs[seg::SS].unusable);
    // To compatibility mode.
    let mut m = Machine::long(0);
    m.gdt(5, code32(3));
    push64(&mut m, &[0x1234, 0x2b, 2, 0xf_0000_7000, 0x23]);
    iret(&mut m, 8, 0).unwrap();
    assert_eq!((m.cpu.mode, m.cpu.regs[reg::RSP]), (Mode::Protected32, 0x7000));
    for frame in [[1 << 47, 0x1b, 2, 0, 0x23], [0, 0x1b, 2, 0, 0]] {
        let mut m = Machine::long(0);
        push64(&mut m, &frame);
        let result = iret(&mut m, 8, 0);
        assert_eq!(m.fault(result), (13, 0));
    }
    let mut m = Machine::long(0);
    m.cpu.rflags |= flags::NT;
    let result = iret(&mut m, 8, 0);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn syscall_and_sysret() {
    let mut m = Machine::long(3);
    m.cpu.msrs.star = 0x0023_0010 << 32;
    m.cpu.msrs.lstar = 0xffff_8000_0000_1000;
    m.cpu.msrs.sfmask = flags::IF | flags::DF;
    m.cpu.set_rflags(flags::IF | flags::DF | flags::CF | flags::RF);
    syscall(&mut m, 0x102).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.cpl), (0xffff_8000_0000_1000, 0));
    assert_eq!((m.cpu.regs[reg::RCX], m.cpu.regs[reg::R11]), (0x102, 0x603));
    assert_eq!(m.cpu.get_rflags(), 3);
    assert_eq!((m.cpu.segs[seg::CS].selector, m.cpu.segs[seg::SS].selector), (0x10, 0x18));
    assert!(m.cpu.segs[seg::CS].long());
    sysret(&mut m, true).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.cpl, m.cpu.mode), (0x102, 3, Mode::Long64));
    assert_eq!((m.cpu.segs[seg::CS].selector, m.cpu.segs[seg::SS].selector), (0x33, 0x2b));
    assert_eq!(m.cpu.get_rflags(), 0x603);
    let result = sysret(&mut m, true);
    assert_eq!(m.fault(result), (13, 0));
    m.set_level(0);
    sysret(&mut m, false).unwrap();
    assert_eq!((m.cpu.mode, m.cpu.segs[seg::CS].selector), (Mode::Protected32, 0x23));
    // Compatibility mode: AMD goes to CSTAR, Intel has no such instruction.
    m.cpu.msrs.cstar = 0x5000;
    syscall(&mut m, 0x102).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.mode), (0x5000, Mode::Long64));
    sysret(&mut m, false).unwrap();
    m.cpu.caps.amd = false;
    let result = syscall(&mut m, 0x102);
    assert_eq!(m.fault(result), (6, 0));
    m.cpu.caps.amd = true;
    m.cpu.efer &= !1;
    let result = syscall(&mut m, 0x102);
    assert_eq!(m.fault(result), (6, 0));
}

#[test]
fn intel_checks_the_return_address_before_leaving() {
    let mut m = Machine::long(0);
    m.cpu.regs[reg::RCX] = 1 << 47;
    m.cpu.caps.amd = false;
    m.cpu.caps.intel = true;
    let result = sysret(&mut m, true);
    assert_eq!((m.fault(result), m.cpu.cpl), ((13, 0), 0));
}

#[test]
fn sysenter_and_sysexit() {
    let mut m = Machine::protected(3);
    let result = sysenter(&mut m);
    assert_eq!(m.fault(result), (13, 0));
    m.cpu.msrs.sysenter_cs = 0x08;
    m.cpu.msrs.sysenter_esp = 0x9000;
    m.cpu.msrs.sysenter_eip = 0x4000;
    m.cpu.rflags |= flags::IF;
    sysenter(&mut m).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.rip(), m.cpu.regs[reg::RSP]), (0, 0x4000, 0x9000));
    assert_eq!(m.cpu.rflags & flags::IF, 0);
    m.cpu.regs[reg::RCX] = 0x7000;
    m.cpu.regs[reg::RDX] = 0x1234;
    sysexit(&mut m, false).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.rip(), m.cpu.regs[reg::RSP]), (3, 0x1234, 0x7000));
    assert_eq!((m.cpu.segs[seg::CS].selector, m.cpu.segs[seg::SS].selector), (0x1b, 0x23));
    let mut m = Machine::long(3);
    m.cpu.msrs.sysenter_cs = 0x08;
    let result = sysenter(&mut m);
    assert_eq!(m.fault(result), (6, 0));
    m.cpu.caps.amd = false;
    assert!(sysenter(&mut m).is_ok());
    assert_eq!(m.cpu.mode, Mode::Long64);
}

#[test]
fn swapgs_swaps() {
    let mut m = Machine::long(0);
    m.cpu.segs[seg::GS].base = 1;
    m.cpu.msrs.kernel_gs_base = 2;
    swapgs(&mut m).unwrap();
    assert_eq!((m.cpu.segs[seg::GS].base, m.cpu.msrs.kernel_gs_base), (2, 1));
    m.set_level(3);
    let result = swapgs(&mut m);
    assert_eq!(m.fault(result), (13, 0));
    let mut m = Machine::protected(0);
    m.gdt(9, system(2, 0, 0, 0));
    let result = swapgs(&mut m);
    assert_eq!(m.fault(result), (6, 0));
    assert_eq!(m.cpu.cr0 & cr0::PG, 0);
}
