//! The order in which Linux brings the hardware up.

use super::Machine;

const TIMER_PIN: u8 = 2;

#[test]
fn boot_with_the_tsc_deadline_timer() {
    let m = Machine::new(1);
    let lapic = &m.lapics[0];
    lapic.set_tsc(2_000_000, 0);
    // init_8259A, then the IOAPIC takes over and the PIC is masked.
    for (port, icw) in [(0x20, [0x11, 0x30, 0x04, 0x01]), (0xa0, [0x11, 0x38, 0x02, 0x01])] {
        m.outb(port, icw[0]);
        icw[1..].iter().for_each(|v| m.outb(port + 1, *v));
    }
    m.outb(0x21, 0xff);
    m.outb(0xa1, 0xff);
    m.write(0, 0x350, 0x10700);
    // The PIT at 1000 Hz, through pin 2 of the IOAPIC as vector 0x30, physical to APIC 0.
    m.outb(0x43, 0x34);
    m.outb(0x40, 0xa9);
    m.outb(0x40, 0x04);
    m.redirect(TIMER_PIN, 0x30);
    let mut ticks = 0;
    for _ in 0..100 {
        m.sleep(1_000_000);
        while let Some(vector) = m.chip.ack_interrupt(0) {
            assert_eq!(vector, 0x30);
            ticks += 1;
            m.eoi(0);
        }
    }
    assert_eq!(ticks, 100);
    // From now on the local APIC's timer in TSC-deadline mode.
    m.redirect(TIMER_PIN, 0x1_0030);
    m.outb(0x43, 0x30);
    assert_eq!(m.chip.next_deadline_ns(0), None);
    m.write(0, 0x320, 0x400ec);
    let due = m.clock_ns() * 2 + 5_000;
    m.wakers[0].take();
    lapic.set_tsc_deadline(due);
    assert_eq!(m.wakers[0].take(), [crate::Wake::Interrupt], "the deadline moved closer");
    assert_eq!(lapic.tsc_deadline(), due);
    m.sleep(2_499);
    assert!(!lapic.has_interrupt());
    m.sleep(1);
    assert!(lapic.has_interrupt());
    assert_eq!(lapic.tsc_deadline(), 0);
    assert_eq!(m.chip.ack_interrupt(0), Some(0xec));
    m.eoi(0);
    assert_eq!(m.chip.next_deadline_ns(0), None);
    assert_eq!(m.read(0, 0x280), 0, "no errors on the way");
}

#[test]
fn quick_pit_calibration_through_channel_2() {
    let m = Machine::new(1);
    m.outb(0x61, (m.inb(0x61) & !2) | 1);
    m.outb(0x43, 0xb0);
    m.outb(0x42, 0xff);
    m.outb(0x42, 0xff);
    // pit_expect_msb: the high byte falls from 0xff to 0 in 256-tick steps.
    let mut msb = 0xff;
    for _ in 0..60_000 {
        m.clock.advance(1_000);
        let low = m.inb(0x42);
        let high = m.inb(0x42);
        assert!(high == msb || high == msb.wrapping_sub(1), "{high:#x} after {msb:#x} ({low:#x})");
        msb = high;
        if m.inb(0x61) & 0x20 != 0 {
            break;
        }
    }
    // 65535 ticks are 54.9 ms; then OUT rises and the count wraps.
    let ms = m.clock_ns() as f64 / 1e6;
    assert!((54.9..54.95).contains(&ms), "{ms}");
}

#[test]
fn pit_calibration_waits_for_out_of_channel_2() {
    let m = Machine::new(1);
    m.outb(0x61, (m.inb(0x61) & !2) | 1);
    m.outb(0x43, 0xb0);
    let latch = 1_193_182 / 20;
    m.outb(0x42, latch as u8);
    m.outb(0x42, (latch >> 8) as u8);
    assert_eq!(m.inb(0x61) & 0x23, 0x01);
    m.clock.advance(49_990_000);
    assert_eq!(m.inb(0x61) & 0x20, 0);
    m.clock.advance(20_000);
    assert_eq!(m.inb(0x61) & 0x20, 0x20);
}

#[test]
fn lapic_timer_calibration_in_periodic_mode() {
    let m = Machine::new(1);
    m.write(0, 0x3e0, 0x3);
    m.write(0, 0x320, 0x200ec);
    m.write(0, 0x380, u32::MAX);
    m.sleep(100_000_000);
    // 1 GHz divided by 16.
    assert_eq!(u32::MAX - m.read(0, 0x390), 6_250_000);
    m.write(0, 0x380, 250_000);
    m.sleep(4_000_000);
    assert_eq!(m.chip.ack_interrupt(0), Some(0xec));
    m.eoi(0);
    // A vCPU that did not run for a second gets one interrupt, and the next one in phase.
    m.clock.advance(1_000_000_001);
    m.chip.poll_timers(0);
    assert_eq!(m.chip.next_deadline_ns(0), Some(1_108_000_000));
    assert_eq!(m.chip.ack_interrupt(0), Some(0xec));
    m.eoi(0);
    assert_eq!(m.chip.ack_interrupt(0), None);
}

#[test]
fn the_pit_reaches_a_cpu_whose_apic_is_in_virtual_wire_mode() {
    let m = Machine::new(1);
    for value in [0x08, 0x04, 0x01] {
        if value == 0x08 {
            m.outb(0x20, 0x11);
        }
        m.outb(0x21, value);
    }
    // The software-enabled APIC of a BIOS: LINT0 in ExtINT mode.
    m.write(0, 0x350, 0x700);
    m.outb(0x43, 0x34);
    m.outb(0x40, 0);
    m.outb(0x40, 0);
    m.wakers[0].take();
    m.sleep(55_000_000);
    assert_eq!(m.wakers[0].take(), [crate::Wake::Interrupt]);
    assert_eq!(m.chip.ack_interrupt(0), Some(8));
    assert!(!m.chip.has_interrupt(0));
    m.outb(0x20, 0x20);
    m.write(0, 0x350, 0x10700);
    m.sleep(55_000_000);
    assert!(!m.chip.has_interrupt(0), "LINT0 is masked");
    m.write(0, 0x350, 0x700);
    assert_eq!(m.wakers[0].take(), [crate::Wake::Interrupt]);
    assert_eq!(m.chip.ack_interrupt(0), Some(8));
}

#[test]
fn ticks_that_the_guest_missed_are_reinjected_one_by_one() {
    for (reinject, expected) in [(true, 50), (false, 1)] {
        let m = Machine::new(1);
        m.outb(0x21, 0xff);
        m.chip.set_pit_reinject(reinject).unwrap();
        m.redirect(TIMER_PIN, 0x30);
        m.outb(0x43, 0x34);
        m.outb(0x40, 0xa9);
        m.outb(0x40, 0x04);
        m.clock.advance(50_000_000);
        m.chip.poll_timers(0);
        let mut ticks = 0;
        while m.chip.ack_interrupt(0) == Some(0x30) {
            ticks += 1;
            m.eoi(0);
        }
        assert_eq!(ticks, expected);
    }
}

#[test]
fn start_up_of_a_second_cpu() {
    let m = Machine::new(2);
    m.write(0, 0x310, 1 << 24);
    m.write(0, 0x300, 0xc500);
    assert_eq!(m.wakers[1].take(), [crate::Wake::Init]);
    m.write(0, 0x300, 0x8500);
    assert_eq!(m.wakers[1].take(), [], "a de-assert does nothing");
    m.write(0, 0x300, 0x0608);
    assert_eq!(m.wakers[1].take(), [crate::Wake::Sipi(8)]);
    assert_eq!(m.wakers[0].take(), []);
}
