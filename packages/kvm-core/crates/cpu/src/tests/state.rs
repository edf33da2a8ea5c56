//! State in and out: register blocks, reset, INIT and SIPI.

use kvm_abi::regs::{DebugRegs, GuestDebug, MpState, Regs, Sregs, VcpuEvents};

use crate::bits::{cr0, dr, efer};
use crate::testing::Machine;
use crate::{Cpu, Fault, Mode, Vector, flags, reg, seg};

#[test]
fn power_on() {
    let cpu = Cpu::new(0);
    assert_eq!((cpu.rip(), cpu.segs[seg::CS].base), (0xfff0, 0xffff_0000));
    assert_eq!((cpu.cr0, cpu.get_rflags(), cpu.mode), (0x6000_0010, 2, Mode::Real));
    assert_eq!((cpu.dr[6], cpu.dr[7], cpu.xcr0), (dr::DR6_FIXED, 0x400, 1));
    assert_eq!((cpu.apic_base, cpu.mp_state), (0xfee0_0900, MpState::Runnable));
    let ap = Cpu::new(1);
    assert_eq!((ap.apic_base, ap.mp_state), (0xfee0_0800, MpState::Uninitialized));
}

#[test]
fn init_keeps_what_it_must_and_sipi_starts() {
    let mut cpu = Cpu::new(1);
    cpu.msrs.star = 5;
    cpu.xcr0 = 7;
    cpu.efer = efer::LME;
    cpu.cr0 = cr0::PE | cr0::CD;
    assert!(!cpu.start_sipi(0x9a));
    cpu.init();
    assert_eq!((cpu.cr0, cpu.efer, cpu.xcr0, cpu.msrs.star), (cr0::ET | cr0::CD, 0, 7, 5));
    assert_eq!(cpu.mp_state, MpState::InitReceived);
    assert!(cpu.start_sipi(0x9a));
    assert_eq!((cpu.segs[seg::CS].selector, cpu.segs[seg::CS].base), (0x9a00, 0x9a000));
    assert_eq!((cpu.rip(), cpu.mp_state), (0, MpState::Runnable));
    // The boot processor runs on after INIT.
    let mut cpu = Cpu::new(0);
    cpu.init();
    assert_eq!((cpu.mp_state, cpu.rip()), (MpState::Runnable, 0xfff0));
}

#[test]
fn all_state_round_trips() {
    let mut m = Machine::long(3);
    for (i, r) in m.cpu.regs.iter_mut().take(16).enumerate() {
        *r = 0x1111 * i as u64;
    }
    m.cpu.set_rflags(flags::ARITH | flags::IF | flags::ID);
    m.cpu.segs[seg::FS].base = 0x7fff_1234_5678;
    m.cpu.cr2 = 0xdead_0000;
    m.cpu.cr8 = 7;
    m.cpu.dr[3] = 0x5555;
    m.cpu.events.interrupt = Some((0x81, false));
    m.cpu.events.sti_shadow = true;
    m.cpu.events.nmi_masked = true;
    m.cpu.events.injected = Some(Fault { vector: Vector::Pf, error: 6, address: 0xdead_0000 });
    let (regs, sregs) = (m.cpu.regs_block(), m.cpu.sregs_block());
    let (events, debug) = (m.cpu.events_block(), m.cpu.debugregs_block());
    assert_eq!((regs.rbx, regs.rcx, regs.rsp, regs.rdi), (0x3333, 0x1111, 0x4444, 0x7777));
    assert_eq!(sregs.interrupt_bitmap, [0; 4]);

    let mut cpu = Cpu::new(0);
    cpu.set_sregs_block(&Sregs::from_bytes(&sregs.to_bytes()).unwrap()).unwrap();
    cpu.set_regs_block(&regs).unwrap();
    cpu.set_events_block(&VcpuEvents::from_bytes(&events.to_bytes()).unwrap()).unwrap();
    cpu.set_debugregs_block(&debug).unwrap();
    assert_eq!((cpu.mode, cpu.cpl), (Mode::Long64, 3));
    assert_eq!(cpu.regs, m.cpu.regs);
    assert_eq!(cpu.segs, m.cpu.segs);
    assert_eq!(cpu.get_rflags(), m.cpu.get_rflags());
    assert_eq!(cpu.dr, m.cpu.dr);
    assert_eq!(cpu.events.injected, m.cpu.events.injected);
    assert_eq!(cpu.regs_block(), regs);
    assert_eq!(cpu.sregs_block(), sregs);
    assert_eq!(cpu.events_block(), events);
    assert!(!cpu.pdptrs_valid);
}

#[test]
fn impossible_state_is_refused_and_changes_nothing() {
    let good = Machine::long(0).cpu.sregs_block();
    let bad: &[&dyn Fn(&mut Sregs)] = &[
        &|s| s.cr0 = cr0::PG,
        &|s| s.cr0 = cr0::PE | cr0::NW,
        &|s| s.cr0 |= 1 << 40,
        &|s| s.cr4 |= 1 << 40,
        &|s| s.cr4 = 0,
        &|s| s.efer = efer::LMA,
        &|s| s.efer = efer::LME,
        &|s| s.efer |= 1 << 12,
        &|s| s.cr3 = 1 << 50,
        &|s| s.cs.db = 1,
        &|s| s.cr8 = 16,
        &|s| s.fs.base = 1 << 47,
        &|s| s.gdt.base = 1 << 50,
        &|s| s.ss.base = 1 << 32,
        &|s| {
            s.cr0 = cr0::PE;
            s.efer = 0;
        },
    ];
    for (i, change) in bad.iter().enumerate() {
        let mut cpu = Cpu::new(0);
        let before = cpu.sregs_block();
        let mut block = good;
        change(&mut block);
        let error = cpu.set_sregs_block(&block).unwrap_err();
        assert_eq!(error.errno.name(), "EINVAL", "case {i}");
        assert_eq!(cpu.sregs_block(), before, "case {i}");
    }
    let mut cpu = Cpu::new(0);
    assert!(cpu.set_regs_block(&Regs { rflags: 1 << 22, ..Regs::default() }).is_err());
    assert!(cpu.set_debugregs_block(&DebugRegs { dr7: 1 << 32, ..DebugRegs::default() }).is_err());
    let debug = GuestDebug { control: 4, ..GuestDebug::default() };
    assert!(cpu.set_guest_debug_block(&debug).is_err());
    assert!(cpu.set_mp_state_checked(MpState::InitReceived).is_err());
    let events: &[VcpuEvents] = &[
        VcpuEvents { flags: 0x100, ..VcpuEvents::default() },
        VcpuEvents { exception_injected: 1, exception_nr: 2, ..VcpuEvents::default() },
        VcpuEvents { exception_injected: 1, exception_nr: 32, ..VcpuEvents::default() },
        VcpuEvents { flags: 2, sipi_vector: 256, ..VcpuEvents::default() },
    ];
    for block in events {
        assert!(cpu.set_events_block(block).is_err(), "{block:?}");
    }
    assert_eq!(cpu.regs[reg::RAX], 0);
}
