//! GSI routing: which chip pins, or which message, an interrupt line of the VM stands for.
//!
//! As `KVM_SET_GSI_ROUTING` has it: one GSI may drive one pin of each chip (a PC's IRQ 4 reaches
//! the PIC and the IOAPIC), or be one message; the table is always replaced as a whole.

use kvm_abi::{Errno, KvmError};

use crate::ioapic::IOAPIC_PINS;

/// The most entries a routing table may have, and the first GSI number that does not exist.
pub const KVM_MAX_IRQ_ROUTES: u32 = 4096;

/// Where one routing entry leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// A pin of a chip.
    Irqchip {
        /// `KVM_IRQCHIP_PIC_PRIMARY`, `KVM_IRQCHIP_PIC_SECONDARY` or `KVM_IRQCHIP_IOAPIC`.
        chip: u32,
        /// 0 to 7 for a PIC, 0 to 23 for the IOAPIC.
        pin: u32,
    },
    /// A message to the local APICs.
    Msi {
        /// Address; bits 31:8 of an extended destination ID are in its bits 63:40.
        addr: u64,
        /// Data.
        data: u32,
    },
}

/// One entry of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The line.
    pub gsi: u32,
    /// Its destination.
    pub target: RouteTarget,
}

/// Chip numbers index the tables below.
pub(crate) const CHIPS: usize = 3;
const IOAPIC: u32 = 2;
const NO_GSI: u32 = u32::MAX;

/// What a GSI drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Pin of each chip.
    pub pins: [Option<u8>; CHIPS],
    /// Message, as address and data.
    pub msi: Option<(u64, u32)>,
}

/// The table in both directions.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    by_gsi: Vec<Targets>,
    by_pin: [[u32; IOAPIC_PINS]; CHIPS],
}

impl Routing {
    /// The table of a PC: lines 0 to 15 reach PIC and IOAPIC, where the timer sits on pin 2 of
    /// the IOAPIC and line 2 is the PIC's cascade; lines 16 to 23 reach the IOAPIC only.
    pub fn pc() -> Self {
        let mut routes = Vec::with_capacity(40);
        let mut add = |gsi, chip, pin| {
            routes.push(Route { gsi, target: RouteTarget::Irqchip { chip, pin } });
        };
        for gsi in 0..16 {
            if gsi != 2 {
                add(gsi, gsi / 8, gsi % 8);
            }
        }
        for gsi in 0..IOAPIC_PINS as u32 {
            match gsi {
                0 => add(0, IOAPIC, 2),
                2 => {}
                _ => add(gsi, IOAPIC, gsi),
            }
        }
        Self::new(&routes).unwrap_or_else(|_| Self::empty())
    }

    fn empty() -> Self {
        Self { by_gsi: Vec::new(), by_pin: [[NO_GSI; IOAPIC_PINS]; CHIPS] }
    }

    /// Checks and indexes `routes`.
    pub fn new(routes: &[Route]) -> Result<Self, KvmError> {
        let max = KVM_MAX_IRQ_ROUTES;
        if routes.len() > max as usize {
            let reason = format!("{} routes, at most {max} are possible", routes.len());
            return Err(KvmError::new(Errno::E2BIG, reason));
        }
        let mut table = Self::empty();
        for route in routes {
            if route.gsi >= max {
                return Err(KvmError::invalid(format!("GSI {} is not below {max}", route.gsi)));
            }
            table.insert(route)?;
        }
        Ok(table)
    }

    fn insert(&mut self, route: &Route) -> Result<(), KvmError> {
        let gsi = route.gsi;
        let index = gsi as usize;
        if self.by_gsi.len() <= index {
            self.by_gsi.resize(index + 1, Targets::default());
        }
        let targets = &mut self.by_gsi[index];
        match route.target {
            RouteTarget::Msi { addr, data } => {
                if *targets != Targets::default() {
                    let reason = format!("GSI {gsi} has another route beside its MSI route");
                    return Err(KvmError::invalid(reason));
                }
                targets.msi = Some((addr, data));
            }
            RouteTarget::Irqchip { chip, pin } => {
                let pins = match chip {
                    0 | 1 => 8,
                    IOAPIC => IOAPIC_PINS as u32,
                    _ => return Err(KvmError::invalid(format!("there is no irqchip {chip}"))),
                };
                if pin >= pins {
                    let reason = format!("irqchip {chip} has no pin {pin}, only 0 to {}", pins - 1);
                    return Err(KvmError::invalid(reason));
                }
                let (chip, pin) = (chip as usize, pin as usize);
                if targets.msi.is_some() || targets.pins[chip].is_some() {
                    let reason = format!("GSI {gsi} has another route to irqchip {chip} or an MSI");
                    return Err(KvmError::invalid(reason));
                }
                targets.pins[chip] = Some(pin as u8);
                self.by_pin[chip][pin] = gsi;
            }
        }
        Ok(())
    }

    /// What `gsi` drives; nothing if it has no route.
    pub fn targets(&self, gsi: u32) -> Targets {
        self.by_gsi.get(gsi as usize).copied().unwrap_or_default()
    }

    /// The GSI that drives `pin` of `chip`.
    pub fn gsi_of(&self, chip: usize, pin: u8) -> Option<u32> {
        let gsi = *self.by_pin.get(chip)?.get(usize::from(pin))?;
        (gsi != NO_GSI).then_some(gsi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(gsi: u32, chip: u32, pin: u32) -> Route {
        Route { gsi, target: RouteTarget::Irqchip { chip, pin } }
    }

    #[test]
    fn the_pc_table_puts_the_timer_on_ioapic_pin_2() {
        let r = Routing::pc();
        assert_eq!(r.targets(0).pins, [Some(0), None, Some(2)]);
        assert_eq!(r.targets(2), Targets::default());
        assert_eq!(r.targets(8).pins, [None, Some(0), Some(8)]);
        assert_eq!(r.targets(23).pins, [None, None, Some(23)]);
        assert_eq!(r.gsi_of(2, 2), Some(0));
        assert_eq!(r.gsi_of(0, 2), None);
        assert_eq!(r.targets(4000), Targets::default());
    }

    #[test]
    fn bad_tables_are_refused() {
        let msi = |gsi| Route { gsi, target: RouteTarget::Msi { addr: 0xfee0_0000, data: 0x40 } };
        assert!(Routing::new(&[pin(1, 0, 8)]).is_err());
        assert!(Routing::new(&[pin(1, 2, 24)]).is_err());
        assert!(Routing::new(&[pin(1, 3, 0)]).is_err());
        assert!(Routing::new(&[pin(4096, 0, 0)]).is_err());
        assert!(Routing::new(&[pin(1, 0, 1), pin(1, 0, 2)]).is_err());
        assert!(Routing::new(&[pin(1, 0, 1), msi(1)]).is_err());
        assert!(Routing::new(&[msi(1), msi(1)]).is_err());
        assert!(Routing::new(&[msi(1), pin(1, 2, 1)]).is_err());
        assert!(Routing::new(&vec![msi(1); 4097]).is_err());
        assert!(Routing::new(&[pin(1, 0, 1), pin(1, 2, 1), msi(24)]).is_ok());
    }
}
