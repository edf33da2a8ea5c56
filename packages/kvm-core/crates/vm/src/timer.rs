//! Timers of a vCPU: the time limit of an entry on the calling thread, and the alarm of an engine
//! that does not look at the clock.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kvm_abi::KvmError;
use kvm_cpu::engine::{Alarm, request};

use crate::events::EventLoop;
use crate::kick::Kicker;
use crate::sys::owned;

/// A timerfd that raises a request of its vCPU; opened at the first use.
pub(crate) struct Timer {
    events: Arc<EventLoop>,
    /// The vCPU's engine may own the timer.
    kicker: Weak<Kicker>,
    bits: u32,
    pending: Arc<AtomicBool>,
    fd: OnceLock<(Arc<OwnedFd>, u64)>,
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
            let fd = Arc::new(open()?);
            let (source, kicker, bits) = (fd.clone(), self.kicker.clone(), self.bits);
            let pending = self.pending.clone();
            let key = self.events.add(
                fd.as_raw_fd(),
                Arc::new(move || {
                    let mut ticks = 0u64;
                    // SAFETY: eight bytes of a live variable. It fails if the timer was stopped.
                    let n = unsafe {
                        libc::read(source.as_raw_fd(), std::ptr::from_mut(&mut ticks).cast(), 8)
                    };
                    if n != 8 {
                        return;
                    }
                    pending.store(false, Ordering::SeqCst);
                    if let Some(kicker) = kicker.upgrade() {
                        kicker.raise(bits);
                    }
                }),
            )?;
            // Only the vCPU's one runner comes here, so nobody else can have been first.
            let _ = self.fd.set((fd, key));
        }
        self.fd.get().map(|(fd, _)| &**fd).ok_or_else(|| KvmError::invalid("no timer"))
    }
}

impl Alarm for Timer {
    fn arm(&self, after_ns: u64) {
        if let Some((fd, _)) = self.fd.get() {
            self.pending.store(true, Ordering::SeqCst);
            set(fd, Duration::from_nanos(after_ns.max(1)));
        }
    }

    fn pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((fd, key)) = self.fd.get() {
            self.events.remove(fd.as_raw_fd(), *key);
        }
    }
}

/// A running time limit.
pub(crate) struct Armed<'a>(&'a OwnedFd);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        set(self.0, Duration::ZERO);
    }
}

/// A timerfd that is not running.
pub(crate) fn open() -> Result<OwnedFd, KvmError> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: no pointers.
    owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) }, "a timerfd")
}

/// Lets it run every `ns` nanoseconds, or stops it with 0.
pub(crate) fn set_periodic(fd: &OwnedFd, ns: u64) {
    let time = Duration::from_nanos(ns);
    set_timer(fd, time, time);
}

fn set(fd: &OwnedFd, time: Duration) {
    set_timer(fd, time, Duration::ZERO);
}

fn set_timer(fd: &OwnedFd, first: Duration, again: Duration) {
    let timespec = |time: Duration| libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(time.subsec_nanos()),
    };
    let spec = libc::itimerspec { it_interval: timespec(again), it_value: timespec(first) };
    // SAFETY: a live variable, and no old value is asked for.
    unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
}
