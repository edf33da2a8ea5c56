//! System management mode: what an SMI saves and sets, and what RSM makes of it.

use kvm_abi::regs::MpState;

use crate::bits::{cr0, cr4};
use crate::testing::Machine;
use crate::{Cpu, Trap, Vector, flags, seg, smm};

/// A machine in 64-bit mode with a value of its own in every register that is saved.
fn busy(cpl: u8) -> Machine {
    let mut m = Machine::long(cpl);
    for n in 0..16 {
        m.cpu.regs[n] = 0x1111_2222_0000_0000 | n as u64;
    }
    m.cpu.set_rflags(flags::CF | flags::IF | flags::AC);
    m.cpu.segs[seg::FS].base = 0xffff_8000_1234_5678;
    m.cpu.segs[seg::TR].base = 0xffff_8000_0000_1000;
    m.cpu.dr[6] |= 1;
    m.cpu.events.smi_pending = true;
    m
}

fn visible(cpu: &Cpu) -> impl PartialEq + std::fmt::Debug + use<> {
    (cpu.regs_block(), cpu.sregs_block(), cpu.dr[6], cpu.dr[7], cpu.mode, cpu.cpl)
}

#[test]
fn an_smi_saves_the_state_and_starts_the_handler() {
    let mut m = busy(3);
    let rip = m.cpu.rip();
    smm::enter(&mut m);
    assert!(m.cpu.events.smm && !m.cpu.events.smi_pending && m.cpu.events.nmi_masked);
    assert_eq!((m.cpu.rip(), m.cpu.get_rflags(), m.cpu.cpl), (0x8000, 2, 0));
    assert_eq!((m.cpu.segs[seg::CS].selector, m.cpu.segs[seg::CS].base), (0x3000, 0x3_0000));
    assert_eq!((m.cpu.segs[seg::DS].base, m.cpu.segs[seg::DS].limit), (0, u32::MAX));
    assert_eq!((m.cpu.cr0 & (cr0::PE | cr0::PG), m.cpu.cr4, m.cpu.efer), (0, 0, 0));
    // Offsets of the AMD manual, table 10-1.
    assert_eq!(m.get32(0x3_fefc), 0x0002_0064);
    assert_eq!(m.get32(0x3_ff00), 0x3_0000);
    assert_eq!(m.get64(0x3_ff78), rip);
    assert_eq!(m.get64(0x3_fff8), 0x1111_2222_0000_0000);
    assert_eq!(m.get64(0x3_ff80), 0x1111_2222_0000_000f);
    assert_eq!(m.get64(0x3_fe48), 0xffff_8000_1234_5678);
    assert_eq!(m.get64(0x3_fed0), 0xd01);
}

#[test]
fn rsm_goes_on_where_the_smi_came() {
    for cpl in [0, 3] {
        let mut m = busy(cpl);
        let before = visible(&m.cpu);
        smm::enter(&mut m);
        m.cpu.regs[..16].fill(7);
        smm::resume(&mut m).unwrap();
        assert_eq!(visible(&m.cpu), before);
        assert!(!m.cpu.events.smm && !m.cpu.events.nmi_masked);
    }
}

#[test]
fn the_handler_moves_smbase_and_ends_a_halt_or_does_not() {
    let mut m = busy(0);
    m.cpu.mp_state = MpState::Halted;
    m.cpu.events.nmi_masked = true;
    smm::enter(&mut m);
    assert_eq!((m.cpu.mp_state, m.ram[0x3_fec9]), (MpState::Runnable, 1));
    m.put32(0x3_ff00, 0x10_0004);
    smm::resume(&mut m).unwrap();
    assert_eq!((m.cpu.mp_state, m.cpu.msrs.smbase), (MpState::Halted, 0x10_0004));
    assert!(m.cpu.events.nmi_masked, "the SMI came in the handler of an NMI");

    // Where nothing is aligned, too.
    smm::enter(&mut m);
    assert_eq!((m.cpu.segs[seg::CS].base, m.ram[0x10_fecd]), (0x10_0004, 1));
    m.ram[0x10_fecd] = 0;
    smm::resume(&mut m).unwrap();
    assert_eq!(m.cpu.mp_state, MpState::Runnable);
}

#[test]
fn state_that_no_processor_can_be_in_ends_in_shutdown() {
    let mut m = Machine::long(0);
    assert_eq!(smm::resume(&mut m), Err(Trap::Fault));
    assert_eq!(m.cpu.fault.vector, Vector::Ud);
    // CR0 with PG and without PE, CR4 without PAE, reserved bits, a base, VM in 64-bit mode.
    for (at, value) in [
        (0x3_ff58, cr0::PG),
        (0x3_ff48, m.cpu.cr4 & !cr4::PAE),
        (0x3_ff48, 1 << 63),
        (0x3_fed0, u64::MAX),
        (0x3_fe48, 1 << 60),
        (0x3_ff70, flags::VM),
    ] {
        let mut m = busy(0);
        smm::enter(&mut m);
        m.put64(at, value);
        assert_eq!(smm::resume(&mut m), Err(Trap::Shutdown), "{at:#x}");
    }
    // An area that is not in RAM reads as ones.
    let mut m = busy(0);
    m.cpu.msrs.smbase = 0xf000_0000;
    smm::enter(&mut m);
    assert_eq!(smm::resume(&mut m), Err(Trap::Shutdown));
}
