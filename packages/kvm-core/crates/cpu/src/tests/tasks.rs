//! Hardware task switches.

use crate::bits::{cr0, dr};
use crate::exception::{Event, deliver};
use crate::far::{far_call, far_jump};
use crate::ret::iret;
use crate::testing::{Machine, system};
use crate::{Fault, Seg, Vector, flags, reg, seg};

/// Current TSS at 0x3000 (selector 0x60, busy), another at 0x3100 (0x68) whose task runs at
/// 0x5000 with its stack at 0x9000.
fn two_tasks() -> Machine {
    let mut m = Machine::protected(0);
    m.gdt(12, system(11, 0, 0x3000, 0x67));
    m.gdt(13, system(9, 0, 0x3100, 0x67));
    m.cpu.segs[seg::TR] =
        Seg { base: 0x3000, limit: 0x67, selector: 0x60, access: 0x8b, ..Seg::default() };
    m.cpu.segs[seg::LDTR].unusable = true;
    m.put32(0x3120, 0x5000);
    m.put32(0x3124, 2);
    m.put32(0x3128, 0xaaaa);
    m.put32(0x3138, 0x9000);
    for (at, selector) in [(0x48, 0x10), (0x4c, 0x08), (0x50, 0x10), (0x54, 0x10)] {
        m.put16(0x3100 + at, selector);
    }
    m
}

fn busy(m: &mut Machine, index: u64) -> bool {
    m.get64(0x1000 + index * 8) >> 41 & 1 != 0
}

#[test]
fn a_call_links_back_and_iret_returns() {
    let mut m = two_tasks();
    m.cpu.regs[reg::RBX] = 0x1234;
    m.cpu.dr[7] |= 3;
    far_call(&mut m, 0x68, 0, 4, 0x107).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.regs[reg::RAX]), (0x5000, 0xaaaa));
    assert_eq!((m.cpu.regs[reg::RSP], m.cpu.segs[seg::TR].selector), (0x9000, 0x68));
    assert_eq!((m.get32(0x3020), m.get32(0x3034)), (0x107, 0x1234));
    assert_eq!(m.get16(0x3100), 0x60);
    assert_ne!(m.cpu.rflags & flags::NT, 0);
    assert_ne!(m.cpu.cr0 & cr0::TS, 0);
    // Local breakpoints belong to the task.
    assert_eq!(m.cpu.dr[7] & 3, 2);
    assert!(busy(&mut m, 12) && busy(&mut m, 13));
    iret(&mut m, 4, 0x5001).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.regs[reg::RBX]), (0x107, 0x1234));
    assert_eq!(m.cpu.segs[seg::TR].selector, 0x60);
    assert_eq!(m.get32(0x3120), 0x5001);
    assert_eq!(m.cpu.rflags & flags::NT, 0);
    assert!(busy(&mut m, 12) && !busy(&mut m, 13));
}

#[test]
fn a_jump_moves_the_busy_bit() {
    let mut m = two_tasks();
    m.put16(0x3164, 1);
    far_jump(&mut m, 0x68, 0, 4, 0x107).unwrap();
    assert!(!busy(&mut m, 12) && busy(&mut m, 13));
    assert_eq!(m.cpu.events.debug_trap, dr::DR6_BT);
    assert_eq!(m.cpu.rflags & flags::NT, 0);
    // A busy task cannot be entered again.
    let result = far_jump(&mut m, 0x68, 0, 4, 0x107);
    assert_eq!(m.fault(result), (13, 0x68));
}

#[test]
fn an_interrupt_through_a_task_gate_pushes_its_error_code() {
    let mut m = two_tasks();
    m.idt32(8, 0x68, 0, 0x85);
    let fault = Fault { vector: Vector::Df, error: 0, address: 0 };
    m.put32(0x8ffc, 0xffff_ffff);
    deliver(&mut m, Event::Fault(fault)).unwrap();
    assert_eq!((m.cpu.rip(), m.cpu.regs[reg::RSP], m.get32(0x8ffc)), (0x5000, 0x8ffc, 0));
    assert_eq!(m.get32(0x3020), 0x100);
}

#[test]
fn bad_tasks_are_refused_before_anything_changes() {
    let cases: &[(u64, (u8, u32))] = &[
        (system(9, 0, 0x3100, 0x66), (10, 0x68)),
        (system(9, 0, 0x3100, 0x67) & !(1 << 47), (11, 0x68)),
        (system(2, 0, 0x3100, 0x67), (13, 0x68)),
    ];
    for (raw, want) in cases {
        let mut m = two_tasks();
        m.gdt(13, *raw);
        let before = (m.cpu.regs, m.cpu.segs);
        let result = far_call(&mut m, 0x68, 0, 4, 0x107);
        assert_eq!(m.fault(result), *want);
        assert_eq!((m.cpu.regs, m.cpu.segs), before);
        assert_eq!(m.get32(0x3020), 0);
    }
}

#[test]
fn a_bad_segment_faults_in_the_new_task() {
    let mut m = two_tasks();
    m.put16(0x3154, 0x08 | 0xfff0);
    let result = far_jump(&mut m, 0x68, 0, 4, 0x107);
    assert_eq!(m.fault(result), (10, 0xfff8));
    assert_eq!((m.cpu.rip(), m.cpu.segs[seg::TR].selector), (0x5000, 0x68));
}
