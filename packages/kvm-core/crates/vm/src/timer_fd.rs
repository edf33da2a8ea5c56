//! A timerfd whose expirations the event thread tells of.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use kvm_abi::KvmError;

use crate::events::EventLoop;
use crate::sys::owned;

/// Registered until it is dropped; not running at first.
pub(crate) struct TimerFd {
    events: Arc<EventLoop>,
    fd: Arc<OwnedFd>,
    key: u64,
}

impl TimerFd {
    /// `expired` is called with the number of expirations since the last call.
    ///
    /// # Errors
    /// What the kernel says to one more descriptor.
    pub fn new(
        events: Arc<EventLoop>,
        expired: impl Fn(&OwnedFd, u64) + Send + Sync + 'static,
    ) -> Result<Self, KvmError> {
        let fd = Arc::new(open()?);
        let source = fd.clone();
        let key = events.add(
            fd.as_raw_fd(),
            Arc::new(move || {
                let mut ticks = 0u64;
                // SAFETY: eight bytes of a live variable. It fails if the timer was stopped.
                let n = unsafe {
                    libc::read(source.as_raw_fd(), std::ptr::from_mut(&mut ticks).cast(), 8)
                };
                if n == 8 {
                    expired(&source, ticks);
                }
            }),
        )?;
        Ok(Self { events, fd, key })
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        self.events.remove(self.fd.as_raw_fd(), self.key);
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

/// Lets it run once, after `time`, or stops it with 0.
pub(crate) fn set(fd: &OwnedFd, time: Duration) {
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
