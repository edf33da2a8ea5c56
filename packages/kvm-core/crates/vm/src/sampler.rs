//! Where a vCPU's time goes: a look every ten milliseconds at what it does. Nothing is counted where the
//! guest's code runs.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kvm_abi::KvmError;
use kvm_cpu::code_counters::{CodeCounters, Place};

use crate::events::EventLoop;
use crate::timer_fd::{TimerFd, set_periodic};

/// Nanoseconds between two looks: no divisor or multiple of the periods at which guests tick, or each look
/// would find the same work.
const PERIOD_NS: u64 = 9_973_000;
/// Looks after which a vCPU that only waits for a device is not looked at any more.
const PATIENCE: u32 = 100;

/// Looks at one vCPU while that does anything.
pub(crate) struct Sampler {
    timer: TimerFd,
    watched: Arc<Watched>,
}

struct Watched {
    counters: Arc<CodeCounters>,
    /// Looks are due.
    on: AtomicBool,
    /// Looks in a row that found it waiting.
    waits: AtomicU32,
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").finish_non_exhaustive()
    }
}

impl Sampler {
    pub fn new(events: Arc<EventLoop>, counters: Arc<CodeCounters>) -> Result<Self, KvmError> {
        let watched =
            Arc::new(Watched { counters, on: AtomicBool::new(false), waits: AtomicU32::new(0) });
        let look = watched.clone();
        let timer = TimerFd::new(events, move |fd, ticks| {
            if look.look(ticks) {
                look.rest(fd);
            }
        })?;
        Ok(Self { timer, watched })
    }

    /// The vCPU enters the guest, and leaves it when the guard is dropped.
    pub fn enter(&self) -> Inside<'_> {
        self.watched.counters.enter(Place::Interpreter);
        if !self.watched.on.load(Ordering::SeqCst) {
            self.watched.on.store(true, Ordering::SeqCst);
            set_periodic(self.timer.fd(), PERIOD_NS);
        }
        Inside { counters: &self.watched.counters, waits: false }
    }
}

/// A vCPU inside the guest.
pub(crate) struct Inside<'a> {
    counters: &'a CodeCounters,
    /// What it leaves for is the answer of a device.
    pub waits: bool,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.counters.set_place(if self.waits { Place::Device } else { Place::Outside });
    }
}

impl Watched {
    /// Looks once for `ticks` periods. True if there is nothing to look at.
    fn look(&self, ticks: u64) -> bool {
        match self.counters.sample(ticks * PERIOD_NS) {
            Place::Outside => true,
            Place::Device => self.waits.fetch_add(1, Ordering::Relaxed) >= PATIENCE,
            _ => {
                self.waits.store(0, Ordering::Relaxed);
                false
            }
        }
    }

    /// Stops the timer. Whoever enters the guest from here on finds it off, or is found here.
    fn rest(&self, fd: &OwnedFd) {
        set_periodic(fd, 0);
        self.on.store(false, Ordering::SeqCst);
        let busy = !matches!(self.counters.place(), Place::Outside | Place::Device);
        if busy && !self.on.swap(true, Ordering::SeqCst) {
            set_periodic(fd, PERIOD_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer_fd::open;

    fn time(counters: &CodeCounters, name: &str) -> u64 {
        counters.read().iter().find(|(n, _)| *n == name).map_or(0, |(_, ns)| *ns)
    }

    fn watched() -> Watched {
        let counters = Arc::default();
        Watched { counters, on: AtomicBool::new(true), waits: AtomicU32::new(0) }
    }

    #[test]
    fn time_goes_to_what_the_vcpu_does_at_each_look() {
        let w = watched();
        for (place, ticks) in [(Place::Translated, 3), (Place::Helper, 1), (Place::Device, 2)] {
            w.counters.set_place(place);
            assert!(!w.look(ticks));
        }
        w.counters.set_place(Place::Outside);
        assert!(w.look(7), "nothing to look at");
        let read = |name| time(&w.counters, name) / PERIOD_NS;
        let got = ["translatedNs", "helperNs", "deviceNs", "interpretedNs"].map(read);
        assert_eq!(got, [3, 1, 2, 0]);
    }

    #[test]
    fn a_device_that_never_answers_is_not_waited_for_for_ever() {
        let w = watched();
        w.counters.set_place(Place::Device);
        let looks = (1..).find(|_| w.look(1));
        assert_eq!(looks, Some(PATIENCE + 1));
        w.counters.set_place(Place::Translated);
        assert!(!w.look(1));
        w.counters.set_place(Place::Device);
        assert!(!w.look(1), "it answered in between");
    }

    #[test]
    fn a_vcpu_that_enters_while_the_timer_stops_is_looked_at() {
        let w = watched();
        let fd = open().unwrap();
        w.rest(&fd);
        assert!(!w.on.load(Ordering::SeqCst));
        w.on.store(true, Ordering::SeqCst);
        w.counters.set_place(Place::Interpreter);
        w.rest(&fd);
        assert!(w.on.load(Ordering::SeqCst));
    }
}
