//! What is handled without an exit: ioeventfds, then the irqchip, then the quiet kinds of routes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use kvm_abi::control::MAX_VCPUS;
use kvm_cpu::engine::KernelBus;
use kvm_irqchip::Irqchip;

use crate::ioevent::IoEvents;
use crate::routes::{Routes, Space};

/// The in-kernel side of a VM's two address spaces.
#[derive(Debug)]
pub(crate) struct Bus {
    pub ioevents: IoEvents,
    pub routes: Routes,
    pub irqchip: OnceLock<Arc<Irqchip>>,
    handled: Vec<AtomicU64>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            ioevents: IoEvents::default(),
            routes: Routes::default(),
            irqchip: OnceLock::new(),
            handled: (0..MAX_VCPUS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Bus {
    /// Accesses of `vcpu` that needed no exit.
    pub fn handled(&self, vcpu: u32) -> u64 {
        self.handled.get(vcpu as usize).map_or(0, |n| n.load(Ordering::Relaxed))
    }

    fn count(&self, vcpu: u32, done: bool) -> bool {
        if done && let Some(n) = self.handled.get(vcpu as usize) {
            n.fetch_add(1, Ordering::Relaxed);
        }
        done
    }
}

impl KernelBus for Bus {
    fn pio_read(&self, vcpu: u32, port: u16, size: u8) -> Option<u32> {
        let chip = self.irqchip.get().and_then(|chip| chip.pio_read(port, size));
        let value = chip.or_else(|| {
            let mut data = [0; 4];
            let low = data.get_mut(..usize::from(size))?;
            self.routes.read(Space::Pio, u64::from(port), low).then(|| u32::from_le_bytes(data))
        });
        self.count(vcpu, value.is_some());
        value
    }

    fn pio_write(&self, vcpu: u32, port: u16, size: u8, value: u32) -> bool {
        let data = value.to_le_bytes();
        let Some(data) = data.get(..usize::from(size)) else { return false };
        let done = self.ioevents.write(Space::Pio, u64::from(port), data)
            || self.irqchip.get().is_some_and(|chip| chip.pio_write(port, size, value))
            || self.routes.write(Space::Pio, u64::from(port), data);
        self.count(vcpu, done)
    }

    fn pio_claims(&self, port: u16) -> bool {
        let addr = u64::from(port);
        self.ioevents.watches(Space::Pio, addr)
            || self.irqchip.get().is_some_and(|chip| chip.owns_port(port))
            || self.routes.claims(Space::Pio, addr)
    }

    fn mmio_read(&self, vcpu: u32, gpa: u64, data: &mut [u8]) -> bool {
        let done = self.irqchip.get().is_some_and(|chip| chip.mmio_read(gpa, data))
            || self.routes.read(Space::Mmio, gpa, data);
        self.count(vcpu, done)
    }

    fn mmio_write(&self, vcpu: u32, gpa: u64, data: &[u8]) -> bool {
        let done = self.ioevents.write(Space::Mmio, gpa, data)
            || self.irqchip.get().is_some_and(|chip| chip.mmio_write(gpa, data))
            || self.routes.write(Space::Mmio, gpa, data);
        self.count(vcpu, done)
    }
}
