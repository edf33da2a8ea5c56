//! The few system calls that threads and pages need.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use kvm_abi::{Errno, KvmError};

/// Sleeps while `word` is `expected`, at most `timeout`. May return early for no reason.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos()),
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word outlives the call, the timeout is null or valid. The result does not
    // matter: the caller looks at the word again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            spec,
        );
    }
}

/// Wakes everyone who sleeps on `word`.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: only the address is used.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            i32::MAX,
        );
    }
}

/// A non-blocking, close-on-exec eventfd.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one, with count 0.
    ///
    /// # Errors
    /// `ENOMEM` when the process has no descriptor left.
    pub fn new() -> Result<Self, KvmError> {
        // SAFETY: no pointers.
        owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }, "an eventfd")
            .map(Self)
    }

    /// Adds one. A full counter is as good: the reader is going to wake.
    pub fn signal(&self) {
        let one = 1u64;
        // SAFETY: eight bytes of a live variable.
        unsafe { libc::write(self.0.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8) };
    }

    /// Takes the count, 0 if there was none.
    pub fn take(&self) -> u64 {
        let mut count = 0u64;
        // SAFETY: eight bytes of a live variable.
        let n = unsafe { libc::read(self.0.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), 8) };
        if n == 8 { count } else { 0 }
    }

    /// The descriptor.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Takes ownership of a descriptor that a call returned.
pub(crate) fn owned(raw: RawFd, what: &str) -> Result<OwnedFd, KvmError> {
    if raw < 0 {
        let os = std::io::Error::last_os_error();
        return Err(KvmError::new(Errno::ENOMEM, format!("the host cannot open {what}: {os}")));
    }
    // SAFETY: the descriptor was just opened, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// How many CPUs this process may use.
pub(crate) fn usable_cpus() -> usize {
    // SAFETY: an all-zero cpu_set_t is valid, and the size given is its own.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return 1;
        }
        usize::try_from(libc::CPU_COUNT(&set)).unwrap_or(1).max(1)
    }
}

/// Restricts the calling thread to `cpus`.
pub(crate) fn pin_to(cpus: &[u32]) -> Result<(), KvmError> {
    let limit = libc::CPU_SETSIZE as u32;
    if let Some(cpu) = cpus.iter().find(|cpu| **cpu >= limit) {
        return Err(KvmError::invalid(format!("CPU {cpu} is not below {limit}")));
    }
    // SAFETY: an all-zero cpu_set_t is valid, every index is below CPU_SETSIZE.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu as usize, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if done != 0 {
        let os = std::io::Error::last_os_error();
        return Err(KvmError::invalid(format!("affinity {cpus:?} is refused: {os}")));
    }
    Ok(())
}
