//! What the rest of the system may know about a local APIC without its lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::regs::Regs;

const NEVER: u64 = u64::MAX;

/// The published values. Written under the register lock only.
#[derive(Debug)]
pub(super) struct Summary {
    pending: AtomicBool,
    accepts_pic: AtomicBool,
    deadline: AtomicU64,
    base: AtomicU64,
    destination: AtomicU32,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            pending: AtomicBool::new(false),
            accepts_pic: AtomicBool::new(false),
            deadline: AtomicU64::new(NEVER),
            base: AtomicU64::new(0),
            destination: AtomicU32::new(0),
        }
    }
}

/// What a publication changed for the vCPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// Something became deliverable, or the deadline moved closer.
    pub wake: bool,
    /// The PIC's interrupts are accepted from now on.
    pub accepts_pic: bool,
}

impl Summary {
    pub fn publish(&self, regs: &Regs) -> Change {
        let pending = regs.deliverable().is_some();
        let accepts_pic = regs.accepts_pic();
        let deadline = regs.timer.target_ns.unwrap_or(NEVER);
        // Only writers under the lock change these, so plain loads see the last value; stores are
        // sequentially consistent because whoever sleeps looks at them after announcing its sleep.
        let fresh = pending && !self.pending.load(Ordering::Relaxed);
        let closer = deadline < self.deadline.load(Ordering::Relaxed);
        let opened = accepts_pic && !self.accepts_pic.load(Ordering::Relaxed);
        if pending != self.pending.load(Ordering::Relaxed) {
            self.pending.store(pending, Ordering::SeqCst);
        }
        if accepts_pic != self.accepts_pic.load(Ordering::Relaxed) {
            self.accepts_pic.store(accepts_pic, Ordering::SeqCst);
        }
        if deadline != self.deadline.load(Ordering::Relaxed) {
            self.deadline.store(deadline, Ordering::SeqCst);
        }
        self.base.store(regs.base, Ordering::Release);
        self.destination.store(pack(regs), Ordering::Release);
        Change { wake: fresh || closer, accepts_pic: opened }
    }

    #[inline]
    pub fn pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    #[inline]
    pub fn accepts_pic(&self) -> bool {
        self.accepts_pic.load(Ordering::SeqCst)
    }

    #[inline]
    pub fn deadline(&self) -> Option<u64> {
        let deadline = self.deadline.load(Ordering::SeqCst);
        (deadline != NEVER).then_some(deadline)
    }

    #[inline]
    pub fn base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    pub fn destination(&self, id: u32) -> Destination {
        unpack(self.destination.load(Ordering::Acquire), id)
    }
}

/// The mode that `IA32_APIC_BASE` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Disabled,
    Xapic,
    X2apic,
}

/// How xAPIC logical destinations are read, from DFR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    Flat,
    Cluster,
    /// Neither value that the SDM defines: nothing matches.
    Undefined,
}

/// Everything that matching a message against an APIC needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub id: u32,
    pub mode: Mode,
    pub xapic_id: u8,
    /// Bits 31:24 of LDR.
    pub logical: u8,
    pub model: Model,
    pub sw_enabled: bool,
    pub lint0_is_nmi: bool,
}

fn pack(regs: &Regs) -> u32 {
    let mode = match (regs.hw_enabled(), regs.x2apic()) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let model = match regs.dfr >> 28 {
        0xf => 0,
        0 => 1,
        _ => 2,
    };
    let flags = u32::from(regs.sw_enabled()) | u32::from(regs.lint0_is_nmi()) << 1;
    u32::from(regs.id) | (regs.ldr >> 24) << 8 | mode << 16 | model << 20 | flags << 24
}

fn unpack(packed: u32, id: u32) -> Destination {
    Destination {
        id,
        mode: match packed >> 16 & 0xf {
            0 => Mode::Disabled,
            1 => Mode::Xapic,
            _ => Mode::X2apic,
        },
        xapic_id: packed as u8,
        logical: (packed >> 8) as u8,
        model: match packed >> 20 & 0xf {
            0 => Model::Flat,
            1 => Model::Cluster,
            _ => Model::Undefined,
        },
        sw_enabled: packed & 1 << 24 != 0,
        lint0_is_nmi: packed & 1 << 25 != 0,
    }
}
