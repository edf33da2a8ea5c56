//! Who has a vCPU.

use std::sync::atomic::{AtomicU8, Ordering};

/// What a vCPU is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No thread; `run_sync` may be used.
    Idle = 0,
    /// In the guest, or halted, or about to be.
    Running = 1,
    /// An exit waits for its answer.
    Exit = 2,
    /// The thread is parked.
    Paused = 3,
    /// The VM was closed.
    Closed = 4,
}

/// The present phase. Its vCPU's thread and whoever gives that orders change it.
#[derive(Debug, Default)]
pub(crate) struct PhaseCell(AtomicU8);

impl PhaseCell {
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::SeqCst) {
            0 => Phase::Idle,
            1 => Phase::Running,
            2 => Phase::Exit,
            3 => Phase::Paused,
            _ => Phase::Closed,
        }
    }

    /// Never leaves `Closed`.
    pub fn set(&self, phase: Phase) {
        let closed = Phase::Closed as u8;
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
            (old != closed).then_some(phase as u8)
        });
    }

    /// From `Idle` to `Running`; false from any other.
    pub fn claim(&self) -> bool {
        let (idle, running) = (Phase::Idle as u8, Phase::Running as u8);
        self.0.compare_exchange(idle, running, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// True if the guest's next instruction will be executed without anybody's order.
    pub fn goes_on(&self) -> bool {
        matches!(self.get(), Phase::Running | Phase::Exit)
    }
}
