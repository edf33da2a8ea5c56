//! The parts of a VM that the host's kernel keeps, for an engine that runs guests there.
//!
//! The software engine has none of them: its VM uses this project's own irqchip, clock and
//! memslots alone.

use std::os::fd::RawFd;
use std::sync::Arc;

use kvm_abi::KvmError;
use kvm_abi::clock::ClockData;
use kvm_irqchip::{IRQCHIP_STATE_BYTES, PitState, Route};
use kvm_memory::SlotKeeper;

/// The kernel's side of one VM. Names and errors are those of the ioctls.
pub trait KernelVm: Send + Sync {
    /// Who mirrors the memslots into the kernel.
    fn slots(&self) -> Arc<dyn SlotKeeper>;
    /// `KVM_CREATE_IRQCHIP`.
    ///
    /// # Errors
    /// `EEXIST` if there is one, `EINVAL` after the first vCPU.
    fn create_irqchip(&self) -> Result<(), KvmError>;
    /// True after `create_irqchip`.
    fn has_irqchip(&self) -> bool;
    /// `KVM_CREATE_PIT2`.
    ///
    /// # Errors
    /// `EEXIST` if there is one, `EINVAL` for unknown flags.
    fn create_pit2(&self, flags: u32) -> Result<(), KvmError>;
    /// `KVM_REINJECT_CONTROL`.
    ///
    /// # Errors
    /// `ENXIO` without a PIT.
    fn set_pit_reinject(&self, on: bool) -> Result<(), KvmError>;
    /// `KVM_SET_GSI_ROUTING`.
    ///
    /// # Errors
    /// `EINVAL` for a pin, chip or GSI that does not exist.
    fn set_gsi_routing(&self, routes: &[Route]) -> Result<(), KvmError>;
    /// `KVM_IRQ_LINE`.
    ///
    /// # Errors
    /// `EINVAL` for a GSI that does not exist.
    fn irq_line(&self, gsi: u32, level: bool) -> Result<(), KvmError>;
    /// `KVM_SIGNAL_MSI`: how many local APICs took the message.
    ///
    /// # Errors
    /// What the kernel says.
    fn signal_msi(&self, addr: u64, data: u32) -> Result<u32, KvmError>;
    /// `KVM_GET_IRQCHIP`.
    ///
    /// # Errors
    /// `EINVAL` for another chip number.
    fn irqchip_state(&self, chip: u32) -> Result<[u8; IRQCHIP_STATE_BYTES], KvmError>;
    /// `KVM_SET_IRQCHIP`.
    ///
    /// # Errors
    /// `EINVAL` for another chip number.
    fn set_irqchip_state(
        &self,
        chip: u32,
        state: &[u8; IRQCHIP_STATE_BYTES],
    ) -> Result<(), KvmError>;
    /// `KVM_GET_PIT2`.
    ///
    /// # Errors
    /// `ENXIO` without a PIT.
    fn pit_state(&self) -> Result<PitState, KvmError>;
    /// `KVM_SET_PIT2`.
    ///
    /// # Errors
    /// `ENXIO` without a PIT.
    fn set_pit_state(&self, state: &PitState) -> Result<(), KvmError>;
    /// PIC, IOAPIC and PIT as they were when they were made.
    ///
    /// # Errors
    /// What the kernel says.
    fn reset_irqchip(&self) -> Result<(), KvmError>;
    /// `KVM_GET_CLOCK`.
    ///
    /// # Errors
    /// What the kernel says.
    fn clock(&self) -> Result<ClockData, KvmError>;
    /// `KVM_SET_CLOCK`.
    ///
    /// # Errors
    /// `EINVAL` for flags that the kernel does not have.
    fn set_clock(&self, data: &ClockData) -> Result<(), KvmError>;
    /// Closes the descriptor of the VM; later calls fail with `EBADF`.
    fn close(&self);
    /// `KVM_IRQFD`; with `resample` also `KVM_IRQFD_FLAG_RESAMPLE`.
    ///
    /// # Errors
    /// `EINVAL` for a GSI that does not exist, `EBUSY` for a descriptor in use.
    fn add_irqfd(&self, fd: RawFd, gsi: u32, resample: Option<RawFd>) -> Result<(), KvmError>;
    /// Ends an irqfd.
    ///
    /// # Errors
    /// `EINVAL` if it is not registered.
    fn remove_irqfd(&self, fd: RawFd, gsi: u32) -> Result<(), KvmError>;
    /// `KVM_IOEVENTFD`.
    ///
    /// # Errors
    /// `EEXIST` if a write could match another one.
    fn add_ioeventfd(&self, fd: RawFd, event: &KernelIoEvent) -> Result<(), KvmError>;
    /// Ends an ioeventfd.
    ///
    /// # Errors
    /// `ENOENT` if it is not registered.
    fn remove_ioeventfd(&self, fd: RawFd, event: &KernelIoEvent) -> Result<(), KvmError>;
}

/// Which writes an ioeventfd takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelIoEvent {
    /// Ports, not memory.
    pub pio: bool,
    /// Port or guest physical address.
    pub addr: u64,
    /// Bytes, 0 for writes of any length.
    pub len: u8,
    /// Only this value.
    pub datamatch: Option<u64>,
}
