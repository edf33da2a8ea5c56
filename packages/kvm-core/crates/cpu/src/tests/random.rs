//! Random descriptor tables, stacks and registers through every operation: no panic, and a fault
//! leaves registers and segments as they were.

use crate::exception::{Event, deliver};
use crate::segment::{Query, check_segment, lldt, load_segment, ltr, query};
use crate::system::{Table, check_io, invpcid, load_table, read_dr, store_table, write_dr};
use crate::testing::{Machine, code32, code64, data32, system};
use crate::{Fault, Seg, Trap, Vector, control, far, flags, msr, pvclock, ret, seg, syscall};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// A descriptor that is often nearly right.
    fn descriptor(&mut self) -> u64 {
        let dpl = self.below(4) as u8;
        let raw = match self.below(6) {
            0 => code32(dpl),
            1 => code64(dpl),
            2 => data32(dpl),
            3 => system(self.below(16) as u8, dpl, 0x3000 + self.below(0x200), self.below(0x100)),
            4 => {
                self.below(0x40) << 19
                    | self.next() & 0xffff
                    | 0x8400_0000_0000
                    | self.below(32) << 40
            }
            _ => self.next(),
        };
        if self.chance(4) { raw ^ 1 << self.below(64) } else { raw }
    }

    fn selector(&mut self) -> u16 {
        if self.chance(16) {
            self.next() as u16
        } else {
            (self.below(40) << 3 | self.below(8)) as u16
        }
    }

    fn machine(&mut self) -> Machine {
        let level = if self.chance(2) { 0 } else { 3 };
        let mut m = match self.below(4) {
            0 => Machine::new(),
            1 => Machine::protected(level),
            _ => Machine::long(level),
        };
        for index in 5..40 {
            let raw = self.descriptor();
            m.gdt(index, raw);
        }
        for at in (0x2000..0x3400).step_by(8) {
            let raw = self.descriptor();
            m.put64(at, raw);
        }
        for at in (0x7f80..0x8100).step_by(4) {
            let value =
                if self.chance(3) { self.next() as u32 } else { u32::from(self.selector()) };
            m.put32(at, value);
        }
        for r in m.cpu.regs.iter_mut().take(16) {
            *r = self.next() >> self.below(64);
        }
        m.cpu.regs[4] = if self.chance(8) { self.next() } else { 0x8000 + self.below(16) };
        m.cpu.set_rflags(self.next() & 0x3f_7fd7 & !flags::VM);
        m.cpu.segs[seg::TR] = Seg {
            base: 0x3000,
            limit: self.below(0x100) as u32,
            selector: self.selector(),
            access: if self.chance(2) { 0x8b } else { 0x83 },
            ..Seg::default()
        };
        if self.chance(4) {
            let value = self.next();
            m.cpu.msrs.star = value;
            m.cpu.msrs.sysenter_cs = value & 0xffff;
            m.cpu.efer |= 1;
        }
        if self.chance(6) {
            m.cpu.cr4 |= self.next() & m.cpu.caps.cr4 & !(1 << 17);
        }
        if m.cpu.cr0 & 1 != 0 && !m.cpu.long_active() && self.chance(4) {
            m.cpu.rflags |= flags::VM;
            m.cpu.cpl = 3;
            m.cpu.update_mode();
        }
        m
    }
}

fn operate(m: &mut Machine, r: &mut Random) -> Result<(), Trap> {
    let size = [2u8, 4, 8][r.below(3) as usize];
    let (selector, value) = (r.selector(), r.next() >> r.below(64));
    let next = m.cpu.rip() + 2;
    match r.below(20) {
        0 => far::far_jump(m, selector, value, size, next),
        1 => far::far_call(m, selector, value & 0xffff, size, next),
        2 => ret::far_ret(m, size, r.next() as u16),
        3 | 4 => ret::iret(m, size, next),
        5 => load_segment(m, [0, 2, 3, 4, 5][r.below(5) as usize], selector),
        6 => lldt(m, selector),
        7 => ltr(m, selector),
        8 => query(m, Query::Limit, selector).map(drop),
        9 => check_segment(&mut m.cpu, r.below(8) as usize, value, 1 + r.below(32), r.chance(2))
            .map(drop),
        10 => load_table(m, Table::Gdt, seg::DS, value, size),
        11 => store_table(m, Table::Idt, seg::DS, 0x4000 + value % 0x1000),
        12 => invpcid(m, r.below(5), seg::DS, value & 0xffff),
        13 => check_io(m, value as u16, 1 << r.below(3)),
        14 => control::write_cr(m, [0, 2, 3, 4, 8][r.below(5) as usize], value),
        15 => write_dr(m, r.below(9) as u8, value).and(read_dr(m, r.below(8) as u8).map(drop)),
        16 => match r.below(4) {
            0 => syscall::syscall(m, next),
            1 => syscall::sysret(m, r.chance(2)),
            2 => syscall::sysenter(m),
            _ => syscall::sysexit(m, r.chance(2)),
        },
        17 => {
            let list = msr::msr_index_list();
            let index = list[r.below(list.len() as u64) as usize];
            msr::write_msr(m, index, value)?;
            let _refused = msr::set_msr(m, index, value);
            Ok(())
        }
        18 => {
            control::xsetbv(m)?;
            pvclock::hypercall(m);
            crate::cpuid::cpuid(m, value as u32, r.below(4) as u32);
            Ok(())
        }
        _ => control::lmsw(m, value as u16),
    }
}

#[test]
fn faults_leave_no_trace() {
    let mut r = Random(0x0123_4567_89ab_cdef);
    let mut outcomes = [0u32; 2];
    for round in 0..15_000 {
        let mut m = r.machine();
        let before = (m.cpu.regs, m.cpu.segs, m.cpu.get_rflags(), m.cpu.cpl, m.cpu.mode);
        match operate(&mut m, &mut r) {
            Ok(()) => outcomes[0] += 1,
            Err(Trap::Fault) => {
                outcomes[1] += 1;
                // A fault after the point of no return of a task switch is the new task's.
                if m.cpu.segs[seg::TR].selector == before.1[seg::TR].selector {
                    let after = (m.cpu.regs, m.cpu.segs, m.cpu.get_rflags(), m.cpu.cpl, m.cpu.mode);
                    assert_eq!(after, before, "round {round}");
                }
            }
            Err(other) => panic!("round {round}: {other:?}"),
        }
        assert!(m.cpu.cpl <= 3);
    }
    assert!(outcomes.iter().all(|n| *n > 300), "{outcomes:?}");
}

#[test]
fn delivery_ends_in_a_handler_or_in_shutdown() {
    let mut r = Random(0xfeed_f00d_dead_beef);
    let mut outcomes = [0u32; 2];
    for round in 0..15_000 {
        let mut m = r.machine();
        let next = m.cpu.rip() + 2;
        let event = match r.below(5) {
            0 => Event::External(r.next() as u8),
            1 => Event::Nmi,
            2 => Event::IntN { vector: r.next() as u8, next },
            3 => Event::Icebp { next },
            _ => {
                let vector = Vector::from_number(r.below(20) as u8).unwrap_or(Vector::Gp);
                Event::Fault(Fault { vector, error: r.next() as u32 & 0xffff, address: r.next() })
            }
        };
        match deliver(&mut m, event) {
            Ok(()) => outcomes[0] += 1,
            Err(Trap::Shutdown) => outcomes[1] += 1,
            Err(other) => panic!("round {round}: {other:?}"),
        }
    }
    assert!(outcomes.iter().all(|n| *n > 300), "{outcomes:?}");
}
