//! The local APIC of one vCPU.
//!
//! The registers live behind one lock. What others look at on every entry or every message (is
//! something deliverable, which destinations match, when is the timer due) is published in
//! atomics after each change, so that neither the run loop nor an interrupt for another vCPU
//! takes the lock.

mod priority;
mod regs;
mod state;
mod summary;
#[cfg(test)]
mod tests;
mod timer;
mod x2apic;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use kvm_abi::Clock;

pub(crate) use regs::x2apic_logical_id;
pub use regs::{APIC_BASE_BSP, APIC_BASE_DEFAULT, APIC_BASE_ENABLE, APIC_BASE_X2APIC, LocalVector};
use regs::{ERROR_REGISTER, Effects, Regs, Reject};
pub use state::LAPIC_STATE_BYTES;
use summary::Summary;
pub(crate) use summary::{Destination, Mode, Model};

use crate::deliver::Message;
use crate::irqchip::Irqchip;
use crate::sync::lock;
use crate::wake::{VcpuWaker, Wake};

/// Why an access is #GP(0) for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gp {
    /// An x2APIC register was accessed outside x2APIC mode.
    NotX2apic,
    /// There is no such register.
    NoRegister,
    /// The register cannot be written.
    ReadOnly,
    /// Reserved bits were set.
    ReservedBits,
    /// `IA32_APIC_BASE` does not allow this change of mode.
    Transition,
}

impl fmt::Display for Gp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotX2apic => "the local APIC is not in x2APIC mode",
            Self::NoRegister => "the local APIC has no such register",
            Self::ReadOnly => "the local APIC register is read-only",
            Self::ReservedBits => "reserved bits are set",
            Self::Transition => "the APIC mode cannot change this way",
        })
    }
}

impl std::error::Error for Gp {}

/// What CPUID promises about the local APIC; set before the vCPU first runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LapicFeatures {
    /// Is x2APIC mode available?
    pub x2apic: bool,
    /// Is the TSC-deadline mode of the timer available?
    pub tsc_deadline: bool,
    /// MAXPHYADDR: address bits above are reserved in `IA32_APIC_BASE`.
    pub physical_address_bits: u8,
}

impl Default for LapicFeatures {
    fn default() -> Self {
        Self { x2apic: true, tsc_deadline: true, physical_address_bits: 52 }
    }
}

/// The local APIC of one vCPU. All methods may be called from any thread.
pub struct Lapic {
    id: u32,
    clock: Arc<dyn Clock>,
    waker: Arc<dyn VcpuWaker>,
    irqchip: Weak<Irqchip>,
    /// INT of the PIC pair, shared by all local APICs.
    pic_output: Arc<AtomicBool>,
    regs: Mutex<Regs>,
    summary: Summary,
}

impl fmt::Debug for Lapic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lapic").field("id", &self.id).field("regs", &self.regs).finish()
    }
}

impl Lapic {
    pub(crate) fn new(
        id: u32,
        clock: Arc<dyn Clock>,
        waker: Arc<dyn VcpuWaker>,
        irqchip: Weak<Irqchip>,
        pic_output: Arc<AtomicBool>,
    ) -> Self {
        let regs = Regs::new(id);
        let summary = Summary::default();
        summary.publish(&regs);
        Self { id, clock, waker, irqchip, pic_output, regs: Mutex::new(regs), summary }
    }

    /// The vCPU's number, which is its x2APIC ID.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Says what CPUID promises. Without x2APIC or TSC deadline their use is refused.
    pub fn set_features(&self, features: LapicFeatures) {
        self.update(|r| r.features = features);
    }

    /// True if a maskable interrupt waits that the vCPU would take now with IF set: one in IRR
    /// above the processor priority, or the PIC's. Three atomic loads at most.
    #[inline]
    pub fn has_interrupt(&self) -> bool {
        self.summary.pending() || self.has_pic_interrupt()
    }

    #[inline]
    fn has_pic_interrupt(&self) -> bool {
        self.accepts_pic() && self.pic_output.load(Ordering::SeqCst)
    }

    /// The INTA cycle: the vector that the CPU is to take, the PIC's first. `None` if what
    /// [`has_interrupt`](Self::has_interrupt) saw is gone.
    pub fn ack_interrupt(&self) -> Option<u8> {
        if self.has_pic_interrupt() {
            let vector = self.irqchip.upgrade().and_then(|irqchip| irqchip.ack_pic());
            if vector.is_some() {
                return vector;
            }
        }
        self.update(Regs::acknowledge).0
    }

    /// Would this vCPU take the PIC's interrupts?
    pub(crate) fn accepts_pic(&self) -> bool {
        self.summary.accepts_pic()
    }

    /// The earliest expiry of this APIC's timer, in nanoseconds of the injected clock.
    #[inline]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.summary.deadline()
    }

    /// Fires the timer if it is due.
    pub fn poll_timer(&self) {
        let Some(deadline) = self.summary.deadline() else { return };
        let now = self.clock.now_ns();
        if deadline <= now {
            let ((), wake) = self.update(|r| r.fire_due(now));
            self.finish(Effects::default(), wake);
        }
    }

    /// The guest-physical page of the register window. It stays in place while the APIC is off or
    /// in x2APIC mode; reads then yield all ones, writes nothing.
    #[inline]
    pub fn page(&self) -> u64 {
        self.summary.base() & !0xfff
    }

    /// A read of the register window, `offset` bytes into it. Accesses that do not lie inside the
    /// first four bytes of a register read as zero.
    pub fn mmio_read(&self, offset: u32, data: &mut [u8]) {
        let (value, wake) = self.update(|r| {
            if !r.hw_enabled() || r.x2apic() {
                return None;
            }
            Some(r.read(offset & 0xff0, &*self.clock).unwrap_or_else(|reject| {
                if reject == Reject::NoRegister {
                    r.error(ERROR_REGISTER);
                }
                0
            }))
        });
        self.finish(Effects::default(), wake);
        let Some(value) = value else { return data.fill(0xff) };
        data.fill(0);
        let skip = (offset & 0xf) as usize;
        if let Some(bytes) = value.to_le_bytes().get(skip..skip + data.len()) {
            data.copy_from_slice(bytes);
        }
    }

    /// A write of the register window. Only aligned four-byte writes do anything (SDM, "Local APIC
    /// Register Address Map").
    pub fn mmio_write(&self, offset: u32, data: &[u8]) {
        let Ok(bytes) = <[u8; 4]>::try_from(data) else { return };
        if offset & 0xf != 0 {
            return;
        }
        let value = u32::from_le_bytes(bytes);
        let (effects, wake) = self.update(|r| {
            if !r.hw_enabled() || r.x2apic() {
                return Effects::default();
            }
            r.write(offset & 0xff0, value, &*self.clock).unwrap_or_else(|reject| {
                if reject == Reject::NoRegister {
                    r.error(ERROR_REGISTER);
                }
                Effects::default()
            })
        });
        self.finish(effects, wake);
    }

    /// `IA32_APIC_BASE`.
    #[inline]
    pub fn base(&self) -> u64 {
        self.summary.base()
    }

    /// CR8: the upper half of the task priority.
    pub fn cr8(&self) -> u8 {
        lock(&self.regs).tpr >> 4
    }

    /// Writes CR8; bits above 3 are ignored (the CPU has checked them).
    pub fn set_cr8(&self, value: u8) {
        let ((), wake) = self.update(|r| r.tpr = (value & 0xf) << 4);
        self.finish(Effects::default(), wake);
    }

    /// RESET: power-up state.
    pub fn reset(&self) {
        let ((), wake) = self.update(Regs::power_up);
        self.finish(Effects::default(), wake);
    }

    /// INIT: as [`reset`](Self::reset), but mode and IDs stay.
    pub fn init(&self) {
        let ((), wake) = self.update(Regs::init);
        self.finish(Effects::default(), wake);
    }

    /// Raises an interrupt of the local vector table: LINT1 for the NMI button of a PC,
    /// the performance counter for a PMU. Returns false if it is masked or nobody takes it.
    pub fn raise_local(&self, which: LocalVector) -> bool {
        let ((accepted, event), wake) = self.update(|r| r.local(which));
        self.finish(Effects { event, ..Effects::default() }, wake);
        accepted
    }

    /// As [`raise_local`](Self::raise_local), for callers that hold a lock: they wake the vCPU
    /// later, with what this returns.
    pub(crate) fn raise_local_deferred(&self, which: LocalVector) -> Option<Wake> {
        let ((_, event), wake) = self.update(|r| r.local(which));
        event.or(wake.then_some(Wake::Interrupt))
    }

    /// What decides whether a message is for this APIC.
    pub(crate) fn destination(&self) -> Destination {
        self.summary.destination(self.id)
    }

    /// Takes in a message. Returns whether it was accepted and what to tell the vCPU, which the
    /// caller does once it holds no lock.
    pub(crate) fn deliver(&self, message: &Message) -> (bool, Option<Wake>) {
        let ((accepted, event), wake) = self.update(|r| {
            r.accept(message.delivery, message.vector, message.level, message.level_triggered)
        });
        (accepted, event.or(wake.then_some(Wake::Interrupt)))
    }

    /// Calls the waker. The caller holds no lock.
    pub(crate) fn wake(&self, why: Wake) {
        self.waker.wake(why);
    }

    /// Runs `f` on the registers and publishes what changed. The flag asks for
    /// `Wake::Interrupt`.
    fn update<R>(&self, f: impl FnOnce(&mut Regs) -> R) -> (R, bool) {
        let mut regs = lock(&self.regs);
        let result = f(&mut regs);
        let change = self.summary.publish(&regs);
        drop(regs);
        let pic = change.accepts_pic && self.pic_output.load(Ordering::SeqCst);
        (result, change.wake || pic)
    }

    /// Does what a register access means for others. The caller holds no lock.
    fn finish(&self, effects: Effects, wake: bool) {
        if wake {
            self.wake(Wake::Interrupt);
        }
        if let Some(event) = effects.event {
            self.wake(event);
        }
        if effects.eoi.is_none() && effects.ipi.is_none() {
            return;
        }
        let Some(irqchip) = self.irqchip.upgrade() else { return };
        if let Some((vector, level)) = effects.eoi {
            irqchip.end_of_interrupt(vector, level);
        }
        if let Some(message) = effects.ipi {
            irqchip.deliver(&message, Some(self.id));
        }
    }
}
