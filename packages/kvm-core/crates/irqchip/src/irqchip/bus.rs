//! The port and MMIO accesses of PIC, PIT and IOAPIC.

use super::{IOAPIC_BASE, Irqchip};
use crate::ioapic::IOAPIC_BYTES;
use crate::sync::snapshot;

/// First port and length of the range that holds `port`. Accesses that leave the range are not
/// ours, as on KVM's bus.
fn range_of(port: u16) -> Option<(u16, u16)> {
    Some(match port {
        0x20 | 0x21 => (0x20, 2),
        0x40..=0x43 => (0x40, 4),
        0x61 => (0x61, 1),
        0xa0 | 0xa1 => (0xa0, 2),
        0x4d0 | 0x4d1 => (0x4d0, 2),
        _ => return None,
    })
}

/// The ports that an access of `size` bytes touches, if they all lie in one of our ranges.
fn ports(port: u16, size: u8) -> Option<std::ops::Range<u16>> {
    let (base, len) = range_of(port)?;
    let end = port + u16::from(size);
    (matches!(size, 1 | 2 | 4) && end <= base + len).then_some(port..end)
}

fn is_pit(port: u16) -> bool {
    matches!(port, 0x40..=0x43 | 0x61)
}

/// Offset of an MMIO access inside the IOAPIC, if it is its.
fn ioapic_offset(gpa: u64, len: usize) -> Option<u64> {
    let offset = gpa.checked_sub(IOAPIC_BASE)?;
    (offset < IOAPIC_BYTES && len as u64 <= IOAPIC_BYTES - offset).then_some(offset)
}

impl Irqchip {
    /// True if `port` belongs to a chip, which may leave some accesses to it to others.
    #[must_use]
    pub fn owns_port(&self, port: u16) -> bool {
        range_of(port).is_some()
    }

    /// A port read. `None` if the port is not ours; wide reads are split into bytes.
    pub fn pio_read(&self, port: u16, size: u8) -> Option<u32> {
        let ports = ports(port, size)?;
        self.work(|w| {
            let mut value = 0;
            for (shift, port) in (0..).step_by(8).zip(ports) {
                let byte = if is_pit(port) {
                    let now = (w.now)();
                    w.chips.pit.as_mut().filter(|pit| pit.owns(port))?.read(port, now)
                } else {
                    w.chips.pic.read(port)?
                };
                value |= u32::from(byte) << shift;
            }
            Some(value)
        })
    }

    /// A port write. False if the port is not ours; wide writes are split into bytes.
    pub fn pio_write(&self, port: u16, size: u8, value: u32) -> bool {
        let Some(ports) = ports(port, size) else { return false };
        self.work(|w| {
            for (byte, port) in value.to_le_bytes().into_iter().zip(ports) {
                if is_pit(port) {
                    let now = (w.now)();
                    // Ticks that were due before this write happened before it.
                    w.poll(now);
                    let pit = w.chips.pit.as_mut().filter(|pit| pit.owns(port));
                    let Some(pit) = pit else { return false };
                    pit.write(port, byte, now);
                } else if !w.chips.pic.write(port, byte) {
                    return false;
                }
            }
            true
        })
    }

    /// An MMIO read of 1 to 8 bytes. False if the address is not the IOAPIC's.
    pub fn mmio_read(&self, gpa: u64, data: &mut [u8]) -> bool {
        let Some(offset) = ioapic_offset(gpa, data.len()) else { return false };
        let value = u64::from(self.work(|w| w.chips.ioapic.read(offset))).to_le_bytes();
        data.fill(0);
        for (to, from) in data.iter_mut().zip(value) {
            *to = from;
        }
        true
    }

    /// An MMIO write of 1 to 8 bytes. False if the address is not the IOAPIC's. What is beyond
    /// four bytes is ignored, as on KVM.
    pub fn mmio_write(&self, gpa: u64, data: &[u8]) -> bool {
        let Some(offset) = ioapic_offset(gpa, data.len()) else { return false };
        let mut bytes = [0; 4];
        for (to, from) in bytes.iter_mut().zip(data) {
            *to = *from;
        }
        let resample = !snapshot(&self.notifiers).is_empty();
        let recheck = self.work(|w| {
            let events = w.chips.ioapic.write(offset, u32::from_le_bytes(bytes));
            self.publish_vectors(&w.chips.ioapic);
            if let Some(pin) = events.unmasked {
                w.ioapic_unmasked(pin);
            }
            match events.recheck {
                // The line may have fallen while the pin was masked, when nobody asked the
                // device: resamplers ask it first, then the pin is looked at.
                Some(pin) if resample => w.mark_acked(pin),
                Some(pin) => w.with_ioapic(|ioapic, send| ioapic.recheck(pin, send)),
                None => {}
            }
            events.recheck
        });
        if let (Some(pin), true) = (recheck, resample) {
            self.work(|w| w.with_ioapic(|ioapic, send| ioapic.recheck(pin, send)));
        }
        true
    }
}
