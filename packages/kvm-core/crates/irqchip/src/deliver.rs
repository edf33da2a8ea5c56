//! Interrupt messages: what IPIs, MSIs and the IOAPIC have in common, and who receives them
//! (SDM, "Determining IPI Destination").

use std::sync::Arc;

use crate::lapic::{Destination, Lapic, Mode, Model, x2apic_logical_id};
use crate::wake::Wakes;

/// Delivery modes, as they are encoded everywhere.
pub(crate) mod mode {
    pub const FIXED: u8 = 0;
    pub const LOWEST: u8 = 1;
    pub const SMI: u8 = 2;
    pub const NMI: u8 = 4;
    pub const INIT: u8 = 5;
    pub const STARTUP: u8 = 6;
}

const XAPIC_BROADCAST: u32 = 0xff;
const X2APIC_BROADCAST: u32 = u32::MAX;

/// The destination shorthand of an IPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shorthand {
    None,
    This,
    All,
    Others,
}

/// One interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub dest: u32,
    pub logical: bool,
    pub delivery: u8,
    pub vector: u8,
    pub level: bool,
    pub level_triggered: bool,
    pub shorthand: Shorthand,
    /// An MSI's redirection hint: any one of the destinations will do.
    pub redirectable: bool,
    /// What "everybody" looks like in `dest`.
    broadcast: u32,
}

impl Message {
    /// The message that a write of the interrupt command register sends.
    pub fn from_icr(icr: u64, x2apic: bool) -> Self {
        let low = icr as u32;
        let high = (icr >> 32) as u32;
        Self {
            dest: if x2apic { high } else { high >> 24 },
            logical: low & 1 << 11 != 0,
            delivery: (low >> 8 & 7) as u8,
            vector: low as u8,
            level: low & 1 << 14 != 0,
            level_triggered: low & 1 << 15 != 0,
            shorthand: match low >> 18 & 3 {
                0 => Shorthand::None,
                1 => Shorthand::This,
                2 => Shorthand::All,
                _ => Shorthand::Others,
            },
            redirectable: false,
            broadcast: if x2apic { X2APIC_BROADCAST } else { XAPIC_BROADCAST },
        }
    }

    /// The message that an MSI write stands for. With `wide_ids` bits 63:40 of the address hold
    /// bits 31:8 of the destination. `None` if the address is not in the interrupt range.
    pub fn from_msi(addr: u64, data: u32, wide_ids: bool) -> Option<Self> {
        if addr & 0xfff0_0000 != 0xfee0_0000 || (!wide_ids && addr >> 32 != 0) {
            return None;
        }
        let high = if wide_ids { (addr >> 32) as u32 & !0xff } else { 0 };
        Some(Self {
            dest: high | (addr >> 12 & 0xff) as u32,
            logical: addr & 1 << 2 != 0,
            delivery: (data >> 8 & 7) as u8,
            vector: data as u8,
            level: true,
            level_triggered: data & 1 << 15 != 0,
            shorthand: Shorthand::None,
            redirectable: addr & 1 << 3 != 0,
            broadcast: XAPIC_BROADCAST,
        })
    }

    /// The message that an IOAPIC redirection entry sends.
    pub fn from_redirection(entry: u64) -> Self {
        Self {
            dest: (entry >> 56) as u32,
            logical: entry & 1 << 11 != 0,
            delivery: (entry >> 8 & 7) as u8,
            vector: entry as u8,
            level: true,
            level_triggered: entry & 1 << 15 != 0,
            shorthand: Shorthand::None,
            redirectable: false,
            broadcast: XAPIC_BROADCAST,
        }
    }

    /// True if the vector means something, so that one below 16 is an error.
    pub fn needs_vector(&self) -> bool {
        matches!(self.delivery, mode::FIXED | mode::LOWEST)
    }

    fn is_for_one_of_many(&self) -> bool {
        let everybody = !self.logical && self.dest == self.broadcast;
        (self.delivery == mode::LOWEST || self.redirectable)
            && self.shorthand == Shorthand::None
            && !everybody
    }

    /// Is the message for `target`? `source` is the sender's ID, for the shorthands.
    fn matches(&self, target: &Destination, source: Option<u32>) -> bool {
        if target.mode == Mode::Disabled {
            return false;
        }
        match self.shorthand {
            Shorthand::This => Some(target.id) == source,
            Shorthand::All => true,
            Shorthand::Others => Some(target.id) != source,
            Shorthand::None if self.dest == self.broadcast => true,
            Shorthand::None if self.logical => self.matches_logical(target),
            Shorthand::None => self.matches_physical(target),
        }
    }

    fn matches_physical(&self, target: &Destination) -> bool {
        // An ID above 255 cannot be an xAPIC ID: such a destination always means the x2APIC ID,
        // which lets a vCPU with a large ID be started before it switches to x2APIC mode.
        if target.mode == Mode::X2apic || self.dest > 0xff {
            self.dest == target.id
        } else {
            self.dest == u32::from(target.xapic_id)
        }
    }

    fn matches_logical(&self, target: &Destination) -> bool {
        if target.mode == Mode::X2apic {
            let id = x2apic_logical_id(target.id);
            return id >> 16 == self.dest >> 16 && id & self.dest & 0xffff != 0;
        }
        let id = u32::from(target.logical);
        match target.model {
            Model::Flat => id & self.dest != 0,
            Model::Cluster => id >> 4 == self.dest >> 4 && id & self.dest & 0xf != 0,
            Model::Undefined => false,
        }
    }
}

/// Delivers `message` and gathers wake-ups. Returns how many local APICs accepted it.
///
/// "Lowest priority" picks among the matching, software-enabled APICs by the vector: the same
/// vector goes to the same vCPU, different vectors spread. KVM and recent hardware do likewise.
pub(crate) fn deliver(
    lapics: &[Arc<Lapic>],
    message: &Message,
    source: Option<u32>,
    wakes: &mut Wakes,
) -> u32 {
    let mut accepted = 0;
    let mut hand_over = |lapic: &Arc<Lapic>| {
        let (taken, wake) = lapic.deliver(message);
        accepted += u32::from(taken);
        if let Some(wake) = wake {
            wakes.push(lapic, wake);
        }
    };
    if message.is_for_one_of_many() {
        let able = |lapic: &&Arc<Lapic>| {
            let target = lapic.destination();
            target.sw_enabled && message.matches(&target, source)
        };
        let candidates = lapics.iter().filter(able).count();
        if candidates > 0 {
            let pick = usize::from(message.vector) % candidates;
            // An APIC may have changed since the count; then nobody is picked, as if it had
            // refused.
            lapics.iter().filter(able).nth(pick).into_iter().for_each(hand_over);
        }
        return accepted;
    }
    for lapic in lapics {
        if message.matches(&lapic.destination(), source) {
            hand_over(lapic);
        }
    }
    accepted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xapic(id: u32, logical: u8, model: Model) -> Destination {
        Destination {
            id,
            mode: Mode::Xapic,
            xapic_id: id as u8,
            logical,
            model,
            sw_enabled: true,
            lint0_is_nmi: false,
        }
    }

    fn x2apic(id: u32) -> Destination {
        Destination { mode: Mode::X2apic, ..xapic(id, 0, Model::Flat) }
    }

    fn to(dest: u32, logical: bool, x2: bool) -> Message {
        let high = if x2 { dest } else { dest << 24 };
        Message::from_icr(u64::from(high) << 32 | u64::from(logical) << 11 | 0x40, x2)
    }

    #[test]
    fn flat_and_cluster_destinations() {
        assert!(to(0x06, true, false).matches(&xapic(1, 0x02, Model::Flat), None));
        assert!(!to(0x06, true, false).matches(&xapic(3, 0x08, Model::Flat), None));
        assert!(to(0x23, true, false).matches(&xapic(1, 0x21, Model::Cluster), None));
        assert!(!to(0x23, true, false).matches(&xapic(1, 0x11, Model::Cluster), None));
        assert!(!to(0x02, true, false).matches(&xapic(1, 0x02, Model::Undefined), None));
        assert!(to(0xff, true, false).matches(&xapic(1, 0, Model::Cluster), None));
    }

    #[test]
    fn x2apic_destinations() {
        assert_eq!(x2apic_logical_id(0x123), 0x0012_0008);
        assert!(to(0x0012_0018, true, true).matches(&x2apic(0x123), None));
        assert!(!to(0x0011_0008, true, true).matches(&x2apic(0x123), None));
        assert!(to(300, false, true).matches(&x2apic(300), None));
        assert!(to(300, false, true).matches(&xapic(300, 0, Model::Flat), None));
        assert!(to(u32::MAX, false, true).matches(&xapic(7, 0, Model::Flat), None));
        assert!(!to(0xff, false, true).matches(&x2apic(7), None));
    }

    #[test]
    fn shorthands_and_disabled_targets() {
        let icr = |shorthand: u64| Message::from_icr(shorthand << 18 | 0x40, false);
        for (shorthand, me, other) in [(1, true, false), (2, true, true), (3, false, true)] {
            let message = icr(shorthand);
            assert_eq!(message.matches(&x2apic(5), Some(5)), me);
            assert_eq!(message.matches(&x2apic(6), Some(5)), other);
        }
        let off = Destination { mode: Mode::Disabled, ..x2apic(6) };
        assert!(!icr(2).matches(&off, None));
    }

    #[test]
    fn msi_addresses() {
        let m = Message::from_msi(0xfee0_300c, 0x8141, false).unwrap();
        assert_eq!((m.dest, m.vector, m.delivery), (3, 0x41, 1));
        assert!(m.logical && m.redirectable && m.level_triggered);
        assert_eq!(Message::from_msi(0xfed0_0000, 0x41, false), None);
        assert_eq!(Message::from_msi(0x0100_fee0_0000, 0x41, false), None);
        let wide = Message::from_msi(0x0000_0100_fee2_3000, 0x41, true).unwrap();
        assert_eq!(wide.dest, 0x123);
    }
}
