//! How the irqchip reaches a vCPU that may be asleep or inside the guest.

use std::sync::Arc;

use crate::lapic::Lapic;

/// Why a vCPU is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// `has_interrupt` may have become true, or a deadline moved earlier than before.
    Interrupt,
    /// A non-maskable interrupt arrived; the vCPU latches it.
    Nmi,
    /// A system management interrupt arrived; the vCPU latches it.
    Smi,
    /// INIT arrived; the vCPU resets itself and calls [`Lapic::init`].
    Init,
    /// A start-up IPI arrived, with its vector: the vCPU starts at `vector << 12` if it waits.
    Sipi(u8),
    /// Another vCPU ends the HLT, present or next, whatever RFLAGS.IF is (`KVM_HC_KICK_CPU`).
    Unhalt,
}

/// The vCPU's side of a wake-up.
///
/// Called from any thread, also from the vCPU's own, and never with a lock of the irqchip held.
/// It must not block; the usual implementation sets a bit in the vCPU's request word and wakes
/// the thread if it sleeps.
pub trait VcpuWaker: Send + Sync {
    /// Notes `why` and makes the vCPU look.
    fn wake(&self, why: Wake);
}

/// Wake-ups gathered under a lock, to be delivered after it. The first one needs no allocation.
#[derive(Default)]
pub(crate) struct Wakes {
    first: Option<(Arc<Lapic>, Wake)>,
    rest: Vec<(Arc<Lapic>, Wake)>,
}

impl Wakes {
    pub fn push(&mut self, lapic: &Arc<Lapic>, why: Wake) {
        let entry = (Arc::clone(lapic), why);
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.rest.push(entry);
        }
    }

    /// Calls the wakers. The caller holds no lock.
    pub fn fire(self) {
        for (lapic, why) in self.first.into_iter().chain(self.rest) {
            lapic.wake(why);
        }
    }
}
