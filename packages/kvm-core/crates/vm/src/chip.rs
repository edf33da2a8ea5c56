//! The interrupt controllers of a VM: this project's own, or the kernel's.
//!
//! Everything that a caller can do with them is here once, so that nobody above has to know which
//! they are.

use std::fmt;
use std::sync::Arc;

use kvm_abi::KvmError;
use kvm_cpu::kernel::KernelVm;
use kvm_irqchip::{IRQCHIP_STATE_BYTES, Irqchip, PitState, Route};

/// An irqchip.
#[derive(Clone)]
pub enum Chip {
    /// That of this project, for the software engine.
    Own(Arc<Irqchip>),
    /// That of the host's kernel.
    Kernel(Arc<dyn KernelVm>),
}

impl fmt::Debug for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Kernel(_) => "Kernel",
        })
    }
}

impl Chip {
    /// The irqchip of this project, where it is that.
    #[must_use]
    pub fn own(&self) -> Option<&Arc<Irqchip>> {
        match self {
            Self::Own(chip) => Some(chip),
            Self::Kernel(_) => None,
        }
    }

    /// `KVM_CREATE_PIT2`.
    ///
    /// # Errors
    /// `EEXIST` if there is one, `EINVAL` for unknown flags.
    pub fn create_pit(&self, flags: u32) -> Result<(), KvmError> {
        match self {
            Self::Own(chip) => chip.create_pit(flags),
            Self::Kernel(vm) => vm.create_pit2(flags),
        }
    }

    /// `KVM_REINJECT_CONTROL`: without reinjection, ticks that find the last one pending are lost.
    ///
    /// # Errors
    /// `ENXIO` without a PIT.
    pub fn set_pit_reinject(&self, on: bool) -> Result<(), KvmError> {
        match self {
            Self::Own(chip) => chip.set_pit_reinject(on),
            Self::Kernel(vm) => vm.set_pit_reinject(on),
        }
    }

    /// `KVM_SET_GSI_ROUTING`.
    ///
    /// # Errors
    /// `EINVAL` for pins, chips or GSIs that do not exist, `E2BIG` for too many routes.
    pub fn set_gsi_routing(&self, routes: &[Route]) -> Result<(), KvmError> {
        match self {
            Self::Own(chip) => chip.set_gsi_routing(routes),
            Self::Kernel(vm) => vm.set_gsi_routing(routes),
        }
    }

    /// `KVM_IRQ_LINE`.
    ///
    /// # Errors
    /// `EINVAL` for a GSI that does not exist.
    pub fn irq_line(&self, gsi: u32, level: bool) -> Result<(), KvmError> {
        match self {
            Self::Own(chip) => chip.irq_line(gsi, level),
            Self::Kernel(vm) => vm.irq_line(gsi, level),
        }
    }

    /// `KVM_SIGNAL_MSI`: how many local APICs took the message.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal_msi(&self, addr: u64, data: u32) -> Result<u32, KvmError> {
        match self {
            Self::Own(chip) => chip.signal_msi(addr, data),
            Self::Kernel(vm) => vm.signal_msi(addr, data),
        }
    }

    /// `KVM_GET_IRQCHIP`.
    ///
    /// # Errors
    /// `EINVAL` for another chip number.
    pub fn irqchip_state(&self, chip: u32) -> Result<[u8; IRQCHIP_STATE_BYTES], KvmError> {
        match self {
            Self::Own(own) => own.irqchip_state(chip),
            Self::Kernel(vm) => vm.irqchip_state(chip),
        }
    }

    /// `KVM_SET_IRQCHIP`.
    ///
    /// # Errors
    /// `EINVAL` for another chip number.
    pub fn set_irqchip_state(
        &self,
        chip: u32,
        state: &[u8; IRQCHIP_STATE_BYTES],
    ) -> Result<(), KvmError> {
        match self {
            Self::Own(own) => own.set_irqchip_state(chip, state),
            Self::Kernel(vm) => vm.set_irqchip_state(chip, state),
        }
    }

    /// `KVM_GET_PIT2`.
    ///
    /// # Errors
    /// `ENXIO` without a PIT.
    pub fn pit_state(&self) -> Result<PitState, KvmError> {
        match self {
            Self::Own(chip) => chip.pit_state(),
            Self::Kernel(vm) => vm.pit_state(),
        }
    }

    /// `KVM_SET_PIT2`.
    ///
    /// # Errors
    /// `ENXIO` without a PIT.
    pub fn set_pit_state(&self, state: &PitState) -> Result<(), KvmError> {
        match self {
            Self::Own(chip) => chip.set_pit_state(state),
            Self::Kernel(vm) => vm.set_pit_state(state),
        }
    }

    /// PIC, IOAPIC and PIT as after power-up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reset(&self) -> Result<(), KvmError> {
        match self {
            Self::Own(chip) => {
                chip.reset();
                Ok(())
            }
            Self::Kernel(vm) => vm.reset_irqchip(),
        }
    }
}
