//! The interrupt controllers and timer that KVM keeps in the kernel: a pair of 8259A PICs, an
//! IOAPIC, one local APIC per vCPU, an i8254 PIT, GSI routing and MSI delivery.
//!
//! [`Irqchip`] is the whole of it for one VM. Devices raise lines ([`Irqchip::irq_line`]) or send
//! messages ([`Irqchip::signal_msi`]); vCPUs ask [`Lapic::has_interrupt`] and acknowledge with
//! [`Lapic::ack_interrupt`]. The crate owns no thread and reads no clock of its own: a vCPU's run
//! loop asks [`Irqchip::next_deadline_ns`] and calls [`Irqchip::poll_timers`], and whoever changes
//! something that a vCPU must notice calls that vCPU's [`VcpuWaker`].
//!
//! Lock order: chips (PIC, IOAPIC, PIT) before a local APIC; never two local APICs at once. Wakers
//! and acknowledge notifiers are called with no lock held, so they may call back.
#![forbid(unsafe_code)]

mod deliver;
mod ioapic;
mod irqchip;
mod lapic;
mod notify;
mod pic;
mod pit;
mod routing;
mod sync;
#[cfg(test)]
mod tests;
mod vectors;
mod wake;

pub use irqchip::{
    IOAPIC_BASE, IRQ_SOURCE_PIT, IRQ_SOURCE_RESAMPLE, IRQ_SOURCE_USERSPACE, IRQCHIP_STATE_BYTES,
    Irqchip, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_PRIMARY, KVM_IRQCHIP_PIC_SECONDARY,
};
pub use kvm_abi::KvmError as IrqError;
pub use lapic::{
    APIC_BASE_BSP, APIC_BASE_DEFAULT, APIC_BASE_ENABLE, APIC_BASE_X2APIC, Gp, LAPIC_STATE_BYTES,
    Lapic, LapicFeatures, LocalVector,
};
pub use notify::NotifierId;
pub use pit::{KVM_PIT_SPEAKER_DUMMY, PIT_STATE_BYTES, PitChannelState, PitState};
pub use routing::{KVM_MAX_IRQ_ROUTES, Route, RouteTarget};
pub use wake::{VcpuWaker, Wake};
