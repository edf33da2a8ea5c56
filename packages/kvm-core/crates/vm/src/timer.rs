//! Timers of a vCPU: the time limit of an entry on the calling thread, and the alarm of an engine
//! that does not look at the clock.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kvm_abi::KvmError;
use kvm_cpu::engine::{Alarm, request};

use crate::events::EventLoop;
use crate::kick::Kicker;
use crate::timer_fd::{TimerFd, set};

/// A timerfd that raises a request of its vCPU; opened at the first use.
pub(crate) struct Timer {
    events: Arc<EventLoop>,
    /// The vCPU's engine may own the timer.
    kicker: Weak<Kicker>,
    bits: u32,
    pending: Arc<AtomicBool>,
    fd: OnceLock<TimerFd>,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("bits", &self.bits).finish_non_exhaustive()
    }
}

impl Timer {
    /// One that raises `bits`.
    pub fn new(events: Arc<EventLoop>, kicker: &Arc<Kicker>, bits: u32) -> Self {
        Self {
            events,
            kicker: Arc::downgrade(kicker),
            bits,
            pending: Arc::default(),
            fd: OnceLock::new(),
        }
    }

    /// One that is open already, so that nothing can fail later.
    pub fn alarm(events: Arc<EventLoop>, kicker: &Arc<Kicker>) -> Result<Arc<Self>, KvmError> {
        let timer = Self::new(events, kicker, request::INTERRUPT);
        timer.fd()?;
        Ok(Arc::new(timer))
    }

    /// Kicks the vCPU after `time`, unless the guard is dropped before.
    pub fn arm(&self, time: Duration) -> Result<Armed<'_>, KvmError> {
        let fd = self.fd()?;
        set(fd, time.max(Duration::from_nanos(1)));
        Ok(Armed(fd))
    }

    fn fd(&self) -> Result<&OwnedFd, KvmError> {
        if self.fd.get().is_none() {
            let (kicker, bits) = (self.kicker.clone(), self.bits);
            let pending = self.pending.clone();
            let timer = TimerFd::new(self.events.clone(), move |_, _| {
                pending.store(false, Ordering::SeqCst);
                if let Some(kicker) = kicker.upgrade() {
                    kicker.raise(bits);
                }
            })?;
            // Only the vCPU's one runner comes here, so nobody else can have been first.
            let _ = self.fd.set(timer);
        }
        self.fd.get().map(TimerFd::fd).ok_or_else(|| KvmError::invalid("no timer"))
    }
}

impl Alarm for Timer {
    fn arm(&self, after_ns: u64) {
        if let Some(timer) = self.fd.get() {
            self.pending.store(true, Ordering::SeqCst);
            set(timer.fd(), Duration::from_nanos(after_ns.max(1)));
        }
    }

    fn pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }
}

/// A running time limit.
pub(crate) struct Armed<'a>(&'a OwnedFd);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        set(self.0, Duration::ZERO);
    }
}
