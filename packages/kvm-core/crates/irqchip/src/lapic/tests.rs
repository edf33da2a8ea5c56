use super::*;
use crate::tests::Machine;

const TSC_DEADLINE: u32 = 2 << 17;
const PERIODIC: u32 = 1 << 17;

fn inject(m: &Machine, vector: u8) {
    m.chip.signal_msi(0xfee0_0000, vector.into()).unwrap();
}

#[test]
fn registers_after_reset() {
    let m = Machine::new(2);
    m.lapics[1].reset();
    let expected = [
        (0x20, 1 << 24),
        (0x30, 0x50014),
        (0x80, 0),
        (0xa0, 0),
        (0xd0, 0),
        (0xe0, u32::MAX),
        (0xf0, 0xff),
        (0x280, 0),
        (0x300, 0),
        (0x320, 0x10000),
        (0x350, 0x10000),
        (0x370, 0x10000),
        (0x380, 0),
        (0x390, 0),
        (0x3e0, 0),
    ];
    for (reg, value) in expected {
        assert_eq!(m.read(1, reg), value, "{reg:#x}");
    }
    assert_eq!(m.lapics[1].base(), 0xfee0_0800);
    assert_eq!(m.lapics[0].base(), 0xfee0_0900);
    assert_eq!(m.lapics[0].page(), 0xfee0_0000);
}

#[test]
fn priorities() {
    let m = Machine::new(1);
    m.write(0, 0x80, 0x45);
    assert_eq!((m.read(0, 0xa0), m.lapics[0].cr8()), (0x45, 4));
    inject(&m, 0x4f);
    assert!(!m.lapics[0].has_interrupt(), "same class as the task");
    inject(&m, 0x50);
    assert_eq!(m.read(0, 0x90), 0x50, "arbitration priority counts requests");
    assert_eq!(m.lapics[0].ack_interrupt(), Some(0x50));
    assert_eq!(m.read(0, 0xa0), 0x50);
    m.lapics[0].set_cr8(0);
    assert!(!m.lapics[0].has_interrupt(), "0x50 is in service");
    inject(&m, 0x61);
    inject(&m, 0x60);
    assert_eq!(m.lapics[0].ack_interrupt(), Some(0x61));
    assert_eq!(m.lapics[0].ack_interrupt(), None);
    m.eoi(0);
    assert_eq!(m.lapics[0].ack_interrupt(), Some(0x60));
    m.eoi(0);
    m.eoi(0);
    assert_eq!(m.lapics[0].ack_interrupt(), Some(0x4f));
    m.eoi(0);
    m.eoi(0);
    m.lapics[0].set_cr8(0xf);
    inject(&m, 0xff);
    assert!(!m.lapics[0].has_interrupt());
    m.wakers[0].take();
    m.lapics[0].set_cr8(0xe);
    assert_eq!(m.wakers[0].take(), [Wake::Interrupt]);
}

#[test]
fn software_disable_masks_local_vectors_and_refuses_interrupts() {
    let m = Machine::new(1);
    m.write(0, 0x320, 0x40);
    m.write(0, 0xf0, 0xff);
    assert_eq!(m.read(0, 0x320), 0x10040);
    m.write(0, 0x320, 0x40);
    assert_eq!(m.read(0, 0x320), 0x10040);
    inject(&m, 0x80);
    m.write(0, 0xf0, 0x1ff);
    assert!(!m.lapics[0].has_interrupt());
    assert_eq!(m.read(0, 0x320), 0x10040, "enabling does not unmask");
}

#[test]
fn local_vectors() {
    let m = Machine::new(1);
    let lapic = &m.lapics[0];
    m.write(0, 0x360, 0x400);
    m.wakers[0].take();
    assert!(lapic.raise_local(LocalVector::Lint1));
    assert_eq!(m.wakers[0].take(), [Wake::Nmi]);
    m.write(0, 0x340, 0x77);
    assert!(lapic.raise_local(LocalVector::PerformanceCounter));
    assert!(!lapic.raise_local(LocalVector::PerformanceCounter), "delivery masks it");
    assert_eq!(m.read(0, 0x340), 0x10077);
    assert_eq!(lapic.ack_interrupt(), Some(0x77));
    assert!(!lapic.raise_local(LocalVector::Thermal));
}

#[test]
fn only_aligned_dwords_are_written_and_unknown_registers_are_errors() {
    let m = Machine::new(1);
    m.lapics[0].mmio_write(0x80, &[0x20]);
    m.lapics[0].mmio_write(0x84, &[0x20, 0, 0, 0]);
    m.lapics[0].mmio_write(0x80, &[0x20; 8]);
    assert_eq!(m.read(0, 0x80), 0);
    m.write(0, 0x30, 0);
    let mut byte = [0; 1];
    m.lapics[0].mmio_read(0x32, &mut byte);
    assert_eq!(byte, [5]);
    let mut wide = [0xee; 8];
    m.lapics[0].mmio_read(0x30, &mut wide);
    assert_eq!(wide, [0; 8]);
    m.write(0, 0x280, 0);
    assert_eq!(m.read(0, 0x280), 0);
    m.write(0, 0x3f0, 0x41);
    assert_eq!(m.read(0, 0x40), 0);
    m.write(0, 0x280, 0);
    assert_eq!(m.read(0, 0x280), 0x80);
}

#[test]
fn mode_transitions() {
    let m = Machine::new(1);
    let lapic = &m.lapics[0];
    let (off, on, x2, invalid) = (0xfee0_0100, 0xfee0_0900, 0xfee0_0d00, 0xfee0_0500);
    assert_eq!(lapic.set_base(invalid), Err(Gp::Transition));
    assert_eq!(lapic.set_base(on | 1), Err(Gp::ReservedBits));
    assert_eq!(lapic.set_base(on | 1 << 52), Err(Gp::ReservedBits));
    assert_eq!(lapic.x2apic_read(0x802), Err(Gp::NotX2apic));
    lapic.set_base(x2).unwrap();
    assert_eq!(lapic.set_base(on), Err(Gp::Transition));
    assert_eq!(lapic.set_base(invalid), Err(Gp::Transition));
    assert_eq!(m.read(0, 0x30), u32::MAX, "the window is closed");
    lapic.set_base(off).unwrap();
    assert_eq!(lapic.set_base(x2), Err(Gp::Transition));
    assert_eq!(m.read(0, 0x80), u32::MAX);
    let cr8 = lapic.cr8();
    lapic.set_cr8(cr8 ^ 0xf);
    assert_eq!(lapic.cr8(), cr8 ^ 0xf);
    lapic.set_cr8(cr8);
    assert_eq!(lapic.set_base_by_host(x2), Ok(()));
    assert_eq!(lapic.set_base_by_host(on), Ok(()));
    lapic.set_base(0x4200_0900).unwrap();
    assert_eq!(lapic.page(), 0x4200_0000);
    let without = LapicFeatures { x2apic: false, ..LapicFeatures::default() };
    lapic.set_features(without);
    assert_eq!(lapic.set_base(x2), Err(Gp::ReservedBits));
}

#[test]
fn x2apic_registers() {
    let m = Machine::new(20);
    let lapic = &m.lapics[19];
    lapic.set_base(lapic.base() | APIC_BASE_X2APIC).unwrap();
    assert_eq!(lapic.x2apic_read(0x802), Ok(19));
    assert_eq!(lapic.x2apic_read(0x80d), Ok(0x1_0008));
    for msr in [0x800, 0x809, 0x80b, 0x80e, 0x831, 0x83f, 0x8ff, 0x82f] {
        assert_eq!(lapic.x2apic_read(msr), Err(Gp::NoRegister), "{msr:#x}");
    }
    for msr in [0x802, 0x803, 0x80a, 0x80d, 0x810, 0x827, 0x839] {
        assert_eq!(lapic.x2apic_write(msr, 0), Err(Gp::ReadOnly), "{msr:#x}");
    }
    assert_eq!(lapic.x2apic_write(0x80e, 0), Err(Gp::NoRegister));
    assert_eq!(lapic.x2apic_write(0x80b, 1), Err(Gp::ReservedBits));
    assert_eq!(lapic.x2apic_write(0x828, 1), Err(Gp::ReservedBits));
    assert_eq!(lapic.x2apic_write(0x808, 0x100), Err(Gp::ReservedBits));
    assert_eq!(lapic.x2apic_write(0x83f, 0x141), Err(Gp::ReservedBits));
    assert_eq!(lapic.x2apic_write(0x838, 1 << 32), Err(Gp::ReservedBits));
    assert_eq!(lapic.x2apic_write(0x830, 1 << 13), Err(Gp::ReservedBits));
    lapic.x2apic_write(0x830, 0x7_0000_1041).unwrap();
    assert_eq!(lapic.x2apic_read(0x830), Ok(0x7_0000_0041), "never busy");
    assert_eq!(m.chip.ack_interrupt(7), Some(0x41));
    lapic.x2apic_write(0x808, 0x30).unwrap();
    assert_eq!(lapic.cr8(), 3);
}

#[test]
fn one_shot_and_periodic_share_the_count() {
    let m = Machine::new(1);
    m.write(0, 0x3e0, 0xb);
    m.write(0, 0x320, 0x30 | PERIODIC);
    m.write(0, 0x380, 1_000_000);
    m.clock.advance(400_000);
    assert_eq!(m.read(0, 0x390), 600_000);
    m.write(0, 0x320, 0x30);
    assert_eq!(m.read(0, 0x390), 600_000, "a change of mode does not restart");
    m.sleep(600_000);
    assert_eq!(m.read(0, 0x390), 0);
    m.write(0, 0x320, 0x30 | PERIODIC);
    m.sleep(5_000_000);
    assert_eq!(m.read(0, 0x390), 0, "a count that ended stays at zero");
    assert_eq!(m.lapics[0].ack_interrupt(), Some(0x30));
    m.eoi(0);
    assert!(!m.lapics[0].has_interrupt());
    m.write(0, 0x380, 1_000_000);
    m.clock.advance(400_000);
    m.write(0, 0x3e0, 0x0);
    assert_eq!(m.read(0, 0x390), 600_000, "the count stays, at half the speed");
    m.clock.advance(400_000);
    assert_eq!(m.read(0, 0x390), 400_000);
    m.write(0, 0x380, 0);
    assert_eq!(m.lapics[0].next_deadline_ns(), None);
}

#[test]
fn periods_are_limited_and_missed_ones_skipped() {
    let m = Machine::new(1);
    m.write(0, 0x3e0, 0xb);
    m.write(0, 0x320, 0x30 | PERIODIC);
    m.write(0, 0x380, 1);
    assert_eq!(m.lapics[0].next_deadline_ns(), Some(200_000));
    m.clock.set(u64::MAX / 2);
    m.lapics[0].poll_timer();
    let next = m.lapics[0].next_deadline_ns().unwrap();
    assert!(next > m.clock_ns() && next - m.clock_ns() <= 200_000);
    m.write(0, 0x320, 0x30);
    m.write(0, 0x380, 1);
    assert_eq!(m.lapics[0].next_deadline_ns(), Some(m.clock_ns() + 1), "one-shots are not");
}

#[test]
fn tsc_deadlines() {
    let m = Machine::new(1);
    let lapic = &m.lapics[0];
    lapic.set_tsc_deadline(1000);
    assert_eq!(lapic.tsc_deadline(), 0, "not in that mode");
    m.write(0, 0x320, 0x30 | TSC_DEADLINE);
    m.write(0, 0x380, 1000);
    assert_eq!((m.read(0, 0x380), m.read(0, 0x390)), (0, 0));
    lapic.set_tsc(3_000_000, 0);
    m.clock.set(1000);
    lapic.set_tsc_deadline(6001);
    assert_eq!(lapic.next_deadline_ns(), Some(2001));
    lapic.set_tsc(3_000_000, 2995);
    assert_eq!(lapic.next_deadline_ns(), Some(1002), "the guest moved its TSC");
    lapic.set_tsc(3_000_000, -3000);
    assert_eq!(lapic.next_deadline_ns(), Some(3001));
    lapic.set_tsc_deadline(0);
    assert_eq!(lapic.next_deadline_ns(), None);
    lapic.set_tsc_deadline(u64::MAX);
    assert!(lapic.next_deadline_ns().is_some());
    assert!(!lapic.has_interrupt());
    lapic.set_tsc_deadline(1);
    assert!(lapic.has_interrupt() || lapic.next_deadline_ns() == Some(1001));
    m.clock.set(4000);
    lapic.poll_timer();
    assert_eq!(lapic.ack_interrupt(), Some(0x30));
    lapic.set_tsc_deadline(50);
    assert_eq!(lapic.tsc_deadline(), 0, "a deadline in the past fires at once");
    m.write(0, 0x320, 0x30);
    lapic.set_features(LapicFeatures { tsc_deadline: false, ..LapicFeatures::default() });
    m.write(0, 0x320, 0x30 | TSC_DEADLINE | PERIODIC);
    assert_eq!(m.read(0, 0x320), 0x30 | PERIODIC);
}
