//! Makes a vCPU leave the guest: `immediate_exit` for an entry that is about to happen, a signal
//! for one that has.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use kvm_abi::{Errno, KvmError};
use kvm_cpu::engine::Kick;

use crate::page::RunPage;

/// How a vCPU in `KVM_RUN` is reached.
#[derive(Debug)]
pub(crate) struct Kicker {
    page: Arc<RunPage>,
    /// Thread inside `KVM_RUN` or about to be, else 0.
    thread: AtomicI32,
    /// `immediate_exit` was set here, not by the user of the page.
    ours: AtomicBool,
    signal: libc::c_int,
}

impl Kicker {
    pub fn new(page: Arc<RunPage>) -> Result<Arc<Self>, KvmError> {
        Ok(Arc::new(Self {
            page,
            thread: AtomicI32::new(0),
            ours: AtomicBool::new(false),
            signal: kick_signal()?,
        }))
    }

    /// The calling thread is going to enter. True if the user of the page asks to leave at once.
    pub fn begin(&self) -> bool {
        unblock(self.signal);
        let by_user = self.page.immediate_exit() && !self.ours.load(Ordering::SeqCst);
        // SAFETY: no arguments.
        let id = unsafe { libc::gettid() };
        self.thread.store(id, Ordering::SeqCst);
        by_user
    }

    /// The calling thread has left.
    pub fn end(&self) {
        self.thread.store(0, Ordering::SeqCst);
    }

    /// The next entry leaves as soon as the pending access is complete.
    pub fn leave_at_once(&self) {
        self.ours.store(true, Ordering::SeqCst);
        self.page.set_immediate_exit(true);
    }

    /// Undoes `leave_at_once` and kicks that came meanwhile; their requests are looked at next.
    pub fn rearm(&self, by_user: bool) {
        if self.ours.swap(false, Ordering::SeqCst) && !by_user {
            self.page.set_immediate_exit(false);
        }
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        self.leave_at_once();
        let thread = self.thread.load(Ordering::SeqCst);
        // SAFETY: no arguments for getpid.
        let process = unsafe { libc::getpid() };
        // The vCPU calls this for itself only outside `KVM_RUN`.
        // SAFETY: no arguments.
        if thread != 0 && thread != unsafe { libc::gettid() } {
            // A thread that has ended meanwhile gives ESRCH, one that has left KVM_RUN runs the
            // handler, which does nothing.
            // SAFETY: numbers only; the signal has a handler.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, self.signal) };
        }
    }
}

extern "C" fn nothing(_: libc::c_int) {}

/// The first real-time signal that nobody else in the process uses, with a handler that does
/// nothing and without SA_RESTART, so that `KVM_RUN` returns EINTR.
fn kick_signal() -> Result<libc::c_int, KvmError> {
    static SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();
    SIGNAL.get_or_init(install).ok_or_else(|| {
        KvmError::new(Errno::EBUSY, "every real-time signal of the process has a handler already")
    })
}

fn install() -> Option<libc::c_int> {
    (libc::SIGRTMIN() + 1..=libc::SIGRTMAX()).find(|signal| {
        // SAFETY: an all-zero sigaction is valid, and both calls get live variables. Handlers of
        // others are looked at and left alone.
        unsafe {
            let mut present: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(*signal, std::ptr::null(), &raw mut present) != 0
                || present.sa_sigaction != libc::SIG_DFL
            {
                return false;
            }
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = nothing as *const () as usize;
            libc::sigemptyset(&raw mut ours.sa_mask);
            libc::sigaction(*signal, &raw const ours, std::ptr::null_mut()) == 0
        }
    })
}

/// Lets the signal reach this thread; a thread inherits the mask of whoever started it.
fn unblock(signal: libc::c_int) {
    thread_local! {
        static DONE: Cell<bool> = const { Cell::new(false) };
    }
    DONE.with(|done| {
        if !done.replace(true) {
            // SAFETY: a live set, filled by the calls before.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                libc::sigaddset(&raw mut set, signal);
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            }
        }
    });
}
