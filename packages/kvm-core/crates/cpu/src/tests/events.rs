//! Delivery of exceptions and interrupts: frames, stacks, error codes, escalation.

use crate::bits::dr;
use crate::exception::{Event, deliver};
use crate::testing::{Machine, code32, data32, system};
use crate::{Fault, Mode, Seg, Trap, Vector, flags, reg, seg};

fn fault(vector: Vector, error: u32, address: u64) -> Event {
    Event::Fault(Fault { vector, error, address })
}

/// A 32-bit TSS at 0x3000 with ESP0 0x9000 in SS 0x10.
fn with_tss(mut m: Machine) -> Machine {
    m.cpu.segs[seg::TR] =
        Seg { base: 0x3000, limit: 0x67, selector: 0x60, access: 0x8b, ..Seg::default() };
    m.put32(0x3004, 0x9000);
    m.put16(0x3008, 0x10);
    m
}

#[test]
fn real_mode_uses_the_vector_table() {
    let mut m = Machine::new();
    m.put32(0x21 * 4, 0x1234_5678);
    m.cpu.regs[reg::RSP] = 0xabcd_0000;
    m.cpu.regs[reg::RIP] = 0x42;
    m.cpu.set_rflags(flags::IF | flags::TF | flags::CF);
    deliver(&mut m, Event::IntN { vector: 0x21, next: 0x44 }).unwrap();
    assert_eq!(m.cpu.rip(), 0x5678);
    assert_eq!((m.cpu.segs[seg::CS].selector, m.cpu.segs[seg::CS].base), (0x1234, 0x12340));
    // SP wraps, the upper half of ESP stays.
    assert_eq!(m.cpu.regs[reg::RSP], 0xabcd_fffa);
    assert_eq!((m.get16(0xfffa), m.get16(0xfffc), m.get16(0xfffe)), (0x44, 0xf000, 0x303));
    assert_eq!(m.cpu.get_rflags(), 3);
}

#[test]
fn real_mode_limits_end_in_shutdown() {
    let mut m = Machine::new();
    m.cpu.idtr.limit = 0x1f;
    // #GP and #DF lie beyond the table too.
    assert_eq!(deliver(&mut m, Event::External(0x40)), Err(Trap::Shutdown));
    // A stack pointer of 1 cannot take a word.
    let mut m = Machine::new();
    m.cpu.regs[reg::RSP] = 1;
    assert_eq!(deliver(&mut m, Event::External(0x40)), Err(Trap::Shutdown));
}

#[test]
fn protected_mode_same_level() {
    for (gate, wide, keeps_if) in
        [(0x8e, true, false), (0x8f, true, true), (0x86, false, false), (0x87, false, true)]
    {
        let mut m = Machine::protected(0);
        m.idt32(13, 0x08, 0x4321, gate);
        m.cpu.set_rflags(flags::IF | flags::NT | flags::TF);
        deliver(&mut m, fault(Vector::Gp, 0x58, 0)).unwrap();
        assert_eq!((m.cpu.rip(), m.cpu.cpl), (0x4321, 0));
        assert_eq!(m.cpu.rflags & flags::IF != 0, keeps_if);
        assert_eq!(m.cpu.rflags & (flags::NT | flags::TF), 0);
        let size = if wide { 4 } else { 2 };
        assert_eq!(m.cpu.regs[reg::RSP], 0x8000 - 4 * size);
        let sp = m.cpu.regs[reg::RSP];
        assert_eq!(m.get16(sp), 0x58);
        assert_eq!(m.get16(sp + size), 0x100);
        assert_eq!(m.get16(sp + 2 * size), 0x08);
        // RF is set in the image of a fault.
        let want = if wide { 0x1_4302 } else { 0x4302 };
        let image = if wide { m.get32(sp + 12) } else { u32::from(m.get16(sp + 6)) };
        assert_eq!(image, want);
    }
}

#[test]
fn protected_mode_to_an_inner_level() {
    let mut m = with_tss(Machine::protected(3));
    m.idt32(0x80, 0x08, 0x4321, 0xee);
    m.cpu.regs[reg::RSP] = 0x7777;
    deliver(&mut m, Event::IntN { vector: 0x80, next: 0x102 }).unwrap();
    assert_eq!((m.cpu.cpl, m.cpu.segs[seg::SS].selector, m.cpu.regs[reg::RSP]), (0, 0x10, 0x8fec));
    let frame: Vec<u32> = (0..5).map(|i| m.get32(0x8fec + i * 4)).collect();
    assert_eq!(frame, [0x102, 0x1b, 2, 0x7777, 0x23]);
}

#[test]
fn soft_interrupts_need_privilege_and_hardware_does_not() {
    let mut m = with_tss(Machine::protected(3));
    m.idt32(0x80, 0x08, 0x4321, 0x8e);
    m.idt32(13, 0x08, 0x1313, 0x8e);
    deliver(&mut m, Event::IntN { vector: 0x80, next: 0x102 }).unwrap();
    assert_eq!(m.cpu.rip(), 0x1313);
    // IDT bit, no EXT; the return address is the INT itself.
    assert_eq!((m.get32(0x8fe8), m.get32(0x8fec)), (0x80 << 3 | 2, 0x100));
    let mut m = with_tss(Machine::protected(3));
    m.idt32(1, 0x08, 0x4321, 0x8e);
    deliver(&mut m, Event::Icebp { next: 0x101 }).unwrap();
    assert_eq!((m.cpu.rip(), m.get32(0x8fec)), (0x4321, 0x101));
}

#[test]
fn bad_gates_give_their_own_faults() {
    // Gate (selector, access), code descriptor, expected vector and error for an external 0x30.
    let cases: &[(u16, u8, u64, u8, u32)] = &[
        (0x40, 0x0e, code32(0), 11, 0x183),
        (0x40, 0x82, code32(0), 13, 0x183),
        (0x00, 0x8e, code32(0), 13, 1),
        (0x40, 0x8e, data32(0), 13, 0x41),
        (0x40, 0x8e, code32(3), 13, 0x41),
        (0x40, 0x8e, code32(0) & !(1 << 47), 11, 0x41),
        (0xfff8, 0x8e, 0, 13, 0xfff9),
    ];
    for (i, &(selector, access, code, vector, error)) in cases.iter().enumerate() {
        let mut m = Machine::protected(0);
        m.gdt(8, code);
        m.idt32(0x30, selector, 0x1000, access);
        m.idt32(11, 0x08, 11, 0x8e);
        m.idt32(13, 0x08, 13, 0x8e);
        deliver(&mut m, Event::External(0x30)).unwrap();
        assert_eq!(m.cpu.rip(), u64::from(vector), "case {i}");
        assert_eq!(m.get32(0x7ff0), error, "case {i}");
    }
}

#[test]
fn nothing_changes_before_the_last_fault() {
    let mut m = with_tss(Machine::protected(3));
    m.idt32(0x80, 0x08, 0x4321, 0xee);
    m.put16(0x3008, 0x20);
    let before = m.cpu.clone();
    // Every handler is missing: #TS, then #DF, then shutdown.
    assert_eq!(deliver(&mut m, Event::IntN { vector: 0x80, next: 0x102 }), Err(Trap::Shutdown));
    assert_eq!(m.cpu.regs, before.regs);
    assert_eq!(m.cpu.segs, before.segs);
    assert_eq!(m.cpu.get_rflags(), before.get_rflags());
}

#[test]
fn stack_faults_in_delivery_become_double_faults_where_they_must() {
    // #PF while delivering #GP: benign with contributory is #DF; handlers 8 and 14 tell.
    let cases: &[(Vector, u64)] =
        &[(Vector::Gp, 8), (Vector::Pf, 8), (Vector::Ud, 13), (Vector::De, 8), (Vector::Db, 13)];
    for &(first, handler) in cases {
        let mut m = Machine::protected(0);
        m.idt32(8, 0x08, 8, 0x8e);
        m.idt32(13, 0x08, 13, 0x8e);
        if first == Vector::Gp {
            m.idt32(13, 0, 0, 0);
        }
        deliver(&mut m, fault(first, 0, 0x1234)).unwrap();
        assert_eq!(m.cpu.rip(), handler, "{first:?}");
        if handler == 8 {
            assert_eq!(m.get32(m.cpu.regs[reg::RSP]), 0);
        }
    }
}

#[test]
fn page_fault_address_and_debug_bits() {
    let mut m = Machine::protected(0);
    m.idt32(14, 0x08, 14, 0x8e);
    m.idt32(1, 0x08, 1, 0x8e);
    deliver(&mut m, fault(Vector::Pf, 6, 0xdead_beef)).unwrap();
    assert_eq!((m.cpu.cr2, m.cpu.rip()), (0xdead_beef, 14));
    m.cpu.dr[6] = dr::DR6_FIXED | 4;
    m.cpu.dr[7] |= dr::DR7_GD;
    m.cpu.regs[reg::RIP] = 0x222;
    deliver(&mut m, fault(Vector::Db, 0, dr::DR6_BS | 1)).unwrap();
    assert_eq!(m.cpu.dr[6], dr::DR6_FIXED | dr::DR6_BS | 1);
    assert_eq!(m.cpu.dr[7] & dr::DR7_GD, 0);
    let sp = m.cpu.regs[reg::RSP];
    assert_eq!((m.get32(sp), m.get32(sp + 8) & 0x1_0000), (0x222, 0));
}

#[test]
fn nmi_blocks_nmis() {
    let mut m = Machine::protected(0);
    m.idt32(2, 0x08, 2, 0x8e);
    m.cpu.events.sti_shadow = true;
    deliver(&mut m, Event::Nmi).unwrap();
    assert!(m.cpu.events.nmi_masked && !m.cpu.events.sti_shadow);
    assert_eq!(m.cpu.rip(), 2);
}

#[test]
fn long_mode_frames() {
    let mut m = with_tss(Machine::long(3));
    m.put64(0x3004, 0x9008);
    m.put64(0x3024, 0xa008);
    m.idt64(0x30, 0x08, 0xffff_8000_1234_5678, 0x8e, 0);
    m.idt64(14, 0x08, 0x1414, 0x8f, 1);
    m.cpu.regs[reg::RSP] = 0x7777;
    m.cpu.set_rflags(flags::IF | flags::AC);
    deliver(&mut m, Event::External(0x30)).unwrap();
    // The stack of the TSS, aligned to 16.
    assert_eq!(m.cpu.regs[reg::RSP], 0x9000 - 40);
    assert_eq!(m.cpu.rip(), 0xffff_8000_1234_5678);
    let frame: Vec<u64> = (0..5).map(|i| m.get64(0x8fd8 + i * 8)).collect();
    assert_eq!(frame, [0x100, 0x1b, 0x4_0202, 0x7777, 0x23]);
    assert_eq!((m.cpu.cpl, m.cpu.segs[seg::SS].selector), (0, 0));
    assert!(m.cpu.segs[seg::SS].unusable);
    assert_eq!(m.cpu.rflags & flags::IF, 0);
    // From level 0 through IST1, with an error code; SS stays as it is.
    deliver(&mut m, fault(Vector::Pf, 2, 0x55)).unwrap();
    assert_eq!((m.cpu.regs[reg::RSP], m.get64(0xa000 - 48)), (0xa000 - 48, 2));
    assert_eq!(m.get64(0xa000 - 16), 0x8fd8);
    assert_eq!(m.get64(0xa000 - 24) & flags::RF, flags::RF);
}

#[test]
fn long_mode_from_compatibility_mode() {
    let mut m = with_tss(Machine::long(3));
    m.put64(0x3004, 0x9000);
    m.gdt(5, code32(3));
    m.cpu.segs[seg::CS] = crate::segment::Descriptor { raw: code32(3), address: 0 }.to_seg(0x2b);
    m.cpu.update_mode();
    assert_eq!(m.cpu.mode, Mode::Protected32);
    m.idt64(0x80, 0x08, 0x4444, 0xee, 0);
    deliver(&mut m, Event::IntN { vector: 0x80, next: 0x102 }).unwrap();
    assert_eq!((m.cpu.mode, m.cpu.rip()), (Mode::Long64, 0x4444));
    assert_eq!((m.get64(0x8fd8), m.get64(0x8fe0)), (0x102, 0x2b));
}

#[test]
fn long_mode_refuses_old_gates_and_bad_addresses() {
    // Access byte, selector, offset, expected error of #GP for an external 0x30.
    let cases: &[(u8, u16, u64, u32)] = &[
        (0x86, 0x08, 0x1000, 0x183),
        (0x85, 0x08, 0x1000, 0x183),
        (0x8e, 0x28, 0x1000, 0x29),
        (0x8e, 0x08, 1 << 47, 1),
        (0x8e, 0x00, 0x1000, 1),
    ];
    for (i, &(access, selector, offset, error)) in cases.iter().enumerate() {
        let mut m = Machine::long(0);
        m.gdt(5, code32(0));
        m.idt64(0x30, selector, offset, access, 0);
        m.idt64(13, 0x08, 0x1313, 0x8e, 0);
        deliver(&mut m, Event::External(0x30)).unwrap();
        assert_eq!(m.cpu.rip(), 0x1313, "case {i}");
        assert_eq!(m.get64(m.cpu.regs[reg::RSP]), u64::from(error), "case {i}");
    }
}

#[test]
fn an_unusable_stack_in_long_mode_is_a_double_fault_on_its_own_stack() {
    let mut m = with_tss(Machine::long(0));
    m.put64(0x3024, 0xa000);
    m.idt64(0x30, 0x08, 0x1000, 0x8e, 0);
    m.idt64(12, 0x08, 0x1212, 0x8e, 0);
    m.idt64(8, 0x08, 0x0808, 0x8e, 1);
    m.cpu.regs[reg::RSP] = 1 << 50;
    deliver(&mut m, Event::External(0x30)).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.regs[reg::RSP]), (0x808, 0xa000 - 48));
    // An unmapped stack: #PF while pushing, then #PF again makes #DF.
    let mut m = with_tss(Machine::long(0));
    m.put64(0x3024, 0xa000);
    m.idt64(14, 0x08, 0x1414, 0x8e, 0);
    m.idt64(8, 0x08, 0x0808, 0x8e, 1);
    m.cpu.regs[reg::RSP] = 0x5000_0000;
    deliver(&mut m, fault(Vector::Pf, 0, 0x1)).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.cr2), (0x808, 0x4fff_fff8));
    m.idt64(8, 0x08, 0x0808, 0x8e, 0);
    m.cpu.regs[reg::RSP] = 0x5000_0000;
    assert_eq!(deliver(&mut m, fault(Vector::Pf, 0, 0x1)), Err(Trap::Shutdown));
}

#[test]
fn virtual_8086_entries_save_all_segments() {
    let mut m = with_tss(Machine::protected(0));
    m.idt32(13, 0x08, 13, 0x8e);
    m.cpu.set_rflags(flags::VM | flags::IF);
    m.cpu.cpl = 3;
    for (index, selector) in [(seg::CS, 1), (seg::SS, 2), (seg::DS, 3), (seg::ES, 4), (seg::FS, 5)]
    {
        crate::segment::load_real_segment(&mut m.cpu, index, selector);
    }
    crate::segment::load_real_segment(&mut m.cpu, seg::GS, 6);
    m.cpu.update_mode();
    // INT n is sensitive to IOPL.
    m.idt32(0x21, 0x08, 0x21, 0xee);
    deliver(&mut m, Event::IntN { vector: 0x21, next: 0x102 }).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.mode, m.cpu.cpl), (13, Mode::Protected32, 0));
    let frame: Vec<u32> = (0..10).map(|i| m.get32(0x9000 - 40 + i * 4)).collect();
    assert_eq!(frame, [0, 0x100, 1, 0x3_0202, 0x8000, 2, 4, 3, 5, 6]);
    assert!([seg::DS, seg::ES, seg::FS, seg::GS].iter().all(|s| m.cpu.segs[*s].unusable));
    assert_eq!(m.cpu.rflags & flags::VM, 0);
}

#[test]
fn a_short_tss_is_an_invalid_tss() {
    let mut m = with_tss(Machine::protected(3));
    m.cpu.segs[seg::TR].limit = 8;
    m.gdt(9, system(14, 0, 0, 0));
    m.idt32(0x30, 0x08, 0x30, 0x8e);
    // A conforming handler needs no stack of the TSS.
    m.gdt(8, code32(0) | 4 << 40);
    m.idt32(10, 0x40, 10, 0x8e);
    deliver(&mut m, Event::External(0x30)).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.cpl), (10, 3));
    assert_eq!(m.get32(m.cpu.regs[reg::RSP]), 0x61);
}

#[test]
fn two_nmis_wait_where_one_can_be_taken_at_once() {
    let mut m = Machine::long(0);
    let e = &mut m.cpu.events;
    e.add_nmis(1);
    e.add_nmis(5);
    assert_eq!(e.nmi_pending, 2);
    *e = crate::state::Events { nmi_masked: true, ..Default::default() };
    e.add_nmis(3);
    assert_eq!(e.nmi_pending, 1);
    let block = m.cpu.events_block();
    assert_eq!(block.nmi_pending, 1);
    m.cpu.set_events_block(&block).unwrap();
    assert_eq!(m.cpu.events.nmi_pending, 1);
}

#[test]
fn a_second_nmi_request_is_not_lost() {
    use crate::engine::{VcpuRequests, request};
    let requests = VcpuRequests::default();
    requests.raise(request::NMI);
    assert_eq!(requests.take(), request::NMI);
    requests.raise(request::NMI);
    requests.raise(request::NMI | request::SMI);
    assert_eq!(requests.take(), request::NMI | request::NMI_AGAIN | request::SMI);
}
