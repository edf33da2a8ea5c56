//! Interrupt lines: IOAPIC pins, sources, notifiers, routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Machine;
use crate::{IRQ_SOURCE_RESAMPLE, IRQ_SOURCE_USERSPACE, Route, RouteTarget};

const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;

fn taken(m: &Machine) -> Option<u8> {
    m.chip.ack_interrupt(0)
}

/// One vCPU with its PIC masked.
fn machine() -> Machine {
    let m = Machine::new(1);
    m.outb(0x21, 0xff);
    m.outb(0xa1, 0xff);
    m
}

#[test]
fn an_edge_is_one_interrupt() {
    let m = machine();
    m.redirect(4, 0x34);
    assert_eq!(m.chip.irq_line_status(0, 4, true), Ok(1));
    assert_eq!(m.chip.irq_line_status(0, 4, true), Ok(0), "coalesced");
    assert_eq!(taken(&m), Some(0x34));
    m.eoi(0);
    assert_eq!(taken(&m), None);
    m.chip.irq_line(4, false).unwrap();
    m.chip.pulse(4).unwrap();
    assert_eq!(taken(&m), Some(0x34));
    m.eoi(0);
    m.redirect(4, 0x34 | MASKED);
    m.chip.pulse(4).unwrap();
    m.redirect(4, 0x34);
    assert_eq!(taken(&m), None, "an edge while masked is lost");
}

#[test]
fn a_level_is_sent_again_after_eoi_while_any_source_holds_it() {
    let m = machine();
    m.redirect(11, 0x3b | LEVEL);
    m.chip.irq_line_from(IRQ_SOURCE_USERSPACE, 11, true).unwrap();
    m.chip.irq_line_from(5, 11, true).unwrap();
    assert_eq!(taken(&m), Some(0x3b));
    assert_eq!(m.ioapic_read(0x10 + 22) & 1 << 14, 1 << 14);
    assert_eq!(m.read(0, 0x190), 1 << 0x1b, "level-triggered in TMR");
    m.chip.irq_line_from(IRQ_SOURCE_USERSPACE, 11, false).unwrap();
    m.eoi(0);
    assert_eq!(taken(&m), Some(0x3b));
    m.chip.irq_line_from(5, 11, false).unwrap();
    m.eoi(0);
    assert_eq!(taken(&m), None);
    assert_eq!(m.ioapic_read(0x10 + 22) & 1 << 14, 0);
}

#[test]
fn a_level_while_masked_waits_and_switching_to_edge_clears_remote_irr() {
    let m = machine();
    m.redirect(9, 0x39 | LEVEL | MASKED);
    assert_eq!(m.chip.irq_line_status(0, 9, true), Ok(-1));
    m.redirect(9, 0x39 | LEVEL);
    assert_eq!(taken(&m), Some(0x39));
    m.redirect(9, 0x39 | MASKED);
    assert_eq!(m.ioapic_read(0x10 + 18) & 1 << 14, 0);
    m.redirect(9, 0x39 | LEVEL);
    assert!(m.chip.ack_interrupt(0).is_none(), "still in service");
    m.chip.irq_line(9, false).unwrap();
    m.eoi(0);
    assert_eq!(taken(&m), Some(0x39), "sent when it was unmasked");
}

#[test]
fn an_interrupt_storm_pauses() {
    let m = machine();
    m.redirect(10, 0x3a | LEVEL);
    m.chip.irq_line(10, true).unwrap();
    let mut n = 0;
    while taken(&m).is_some() {
        m.eoi(0);
        n += 1;
    }
    assert_eq!(n, 10_000);
    let later = m.chip.next_deadline_ns(0).unwrap();
    m.clock.set(later);
    m.chip.poll_timers(0);
    assert_eq!(taken(&m), Some(0x3a));
}

#[test]
fn resampling_asks_the_device_at_eoi_and_at_unmask() {
    let m = machine();
    let asked = Arc::new(AtomicU32::new(0));
    let device = Arc::new(AtomicU32::new(1));
    let notifier = {
        let (chip, asked, device) = (Arc::downgrade(&m.chip), asked.clone(), device.clone());
        Arc::new(move || {
            let chip = chip.upgrade().unwrap();
            chip.irq_line_from(IRQ_SOURCE_RESAMPLE, 20, false).unwrap();
            asked.fetch_add(1, Ordering::SeqCst);
            if device.load(Ordering::SeqCst) != 0 {
                chip.irq_line_from(IRQ_SOURCE_RESAMPLE, 20, true).unwrap();
            }
        })
    };
    let id = m.chip.add_ack_notifier(20, notifier).unwrap();
    m.redirect(20, 0x60 | LEVEL);
    m.chip.irq_line_from(IRQ_SOURCE_RESAMPLE, 20, true).unwrap();
    assert_eq!(taken(&m), Some(0x60));
    m.eoi(0);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(taken(&m), Some(0x60), "the device is not done");
    // As Linux handles a threaded interrupt: mask, EOI, thread, unmask.
    m.redirect(20, 0x60 | LEVEL | MASKED);
    m.eoi(0);
    device.store(0, Ordering::SeqCst);
    m.redirect(20, 0x60 | LEVEL);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert_eq!(taken(&m), None, "the device has been served meanwhile");
    m.chip.remove_ack_notifier(id).unwrap();
    assert!(m.chip.remove_ack_notifier(id).is_err());
}

#[test]
fn pic_eoi_calls_notifiers() {
    let m = Machine::new(1);
    for (port, base) in [(0x20, 0x30), (0xa0, 0x38)] {
        for (at, value) in [(0, 0x11), (1, base), (1, 4), (1, 1)] {
            m.outb(port + at, value);
        }
    }
    m.outb(0x4d1, 0x08);
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let id = m.chip.add_ack_notifier(
        11,
        Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }),
    );
    assert!(id.is_ok());
    m.chip.irq_line(11, true).unwrap();
    assert_eq!(taken(&m), Some(0x3b));
    m.chip.irq_line(11, false).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    m.outb(0xa0, 0x20);
    m.outb(0x20, 0x20);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn routes_can_be_messages() {
    let m = machine();
    let msi = RouteTarget::Msi { addr: 0xfee0_0000, data: 0x71 };
    let pin = RouteTarget::Irqchip { chip: 2, pin: 5 };
    let routes = [Route { gsi: 24, target: msi }, Route { gsi: 30, target: pin }];
    m.chip.set_gsi_routing(&routes).unwrap();
    m.redirect(5, 0x72);
    m.chip.pulse(24).unwrap();
    assert_eq!(taken(&m), Some(0x71));
    m.eoi(0);
    m.chip.pulse(30).unwrap();
    assert_eq!(taken(&m), Some(0x72));
    assert_eq!(m.chip.irq_line_status(0, 5, true), Ok(-1), "no route any more");
    assert!(m.chip.irq_line(4096, true).is_err());
    assert!(m.chip.irq_line_from(64, 1, true).is_err());
}

#[test]
fn registers_of_the_ioapic() {
    let m = machine();
    assert_eq!(m.ioapic_read(1), 0x0017_0011);
    m.ioapic(0, 0xff00_0000);
    assert_eq!((m.ioapic_read(0), m.ioapic_read(2)), (0x0f00_0000, 0x0f00_0000));
    m.ioapic(1, u32::MAX);
    assert_eq!(m.ioapic_read(1), 0x0017_0011);
    assert_eq!(m.ioapic_read(0x10), 0x10000);
    assert_eq!(m.ioapic_read(0x40), u32::MAX);
    m.redirect(3, u64::MAX);
    assert_eq!((m.ioapic_read(0x16), m.ioapic_read(0x17)), (0x1_afff, 0xff00_0000));
    let mut byte = [0; 1];
    assert!(m.chip.mmio_read(0xfec0_0000, &mut byte));
    assert_eq!(byte[0], 0x17);
    let mut wide = [0xee; 8];
    assert!(m.chip.mmio_read(0xfec0_0010, &mut wide));
    assert_eq!(u64::from_le_bytes(wide), 0xff00_0000);
    assert!(!m.chip.mmio_read(0xfec0_0100, &mut byte));
    assert!(!m.chip.mmio_write(0xfebf_ffff, &[0; 4]));
    assert!(!m.chip.mmio_write(0xfec0_00fd, &[0; 4]));
    assert_eq!(m.chip.pio_read(0x22, 1), None);
    assert_eq!(m.chip.pio_read(0x21, 2), None);
    assert_eq!(m.chip.pio_read(0x20, 2), Some(0xff00));
    assert!(m.chip.create_pit(0).is_err());
    assert!(m.chip.create_pit(8).is_err());
}
