//! Pages around every mapping of guest RAM that nobody may touch, and a second process that looks.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_memory::GuestRam;

use super::layout::PAGE;

/// What the pages hold. RAM never does.
pub const CANARY: u8 = 0xc5;
/// Pages on each side of a mapping.
const PAGES: usize = 1;
const BYTES: usize = PAGES * PAGE as usize;

/// What lies next to the mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Pages with a known content, which another process watches.
    Canary,
    /// Nothing: whoever reads or writes there dies.
    Nothing,
}

/// The canaries around some mappings.
#[derive(Debug)]
pub struct Fence {
    /// First bytes of the pages, next to RAM.
    near: Vec<usize>,
    watcher: Option<Watcher>,
}

impl Fence {
    /// Puts `neighbour` around each of `rams`, which must outlive the fence.
    pub fn around(rams: &[Arc<GuestRam>], neighbour: Neighbour) -> Self {
        if neighbour == Neighbour::Nothing {
            // Guest RAM has pages without access on both sides by itself.
            return Self { near: Vec::new(), watcher: None };
        }
        let total = BYTES * 2 * rams.len();
        // SAFETY: a new file of our own.
        let file = unsafe { libc::memfd_create(c"canaries".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: as above.
        assert!(file >= 0 && unsafe { libc::ftruncate(file, (total + PAGE as usize) as i64) } == 0);
        let map = |at: usize, bytes: usize, offset: usize| {
            let fixed = if at == 0 { 0 } else { libc::MAP_FIXED };
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: at an address of the kernel's choice, or over the guard pages of guest RAM,
            // which has a page at least on each side.
            let got = unsafe {
                let flags = libc::MAP_SHARED | fixed;
                libc::mmap(at as *mut libc::c_void, bytes, rw, flags, file, offset as i64)
            };
            assert_ne!(got, libc::MAP_FAILED);
            got as usize
        };
        let mut near = Vec::new();
        for ram in rams {
            let start = ram.as_ptr() as usize;
            for at in [start - BYTES, start + ram.len()] {
                near.push(map(at, BYTES, BYTES * near.len()));
                // SAFETY: mapped just now.
                unsafe { std::ptr::write_bytes(at as *mut u8, CANARY, BYTES) };
            }
        }
        // Mapped once more for the other process, and behind it a page for the two to talk.
        let view = map(0, total + PAGE as usize, 0);
        // SAFETY: the mappings keep it.
        unsafe { libc::close(file) };
        Self { near, watcher: Some(Watcher::start(view, total)) }
    }

    /// True if every canary is as it was.
    pub fn untouched(&self) -> bool {
        self.near.iter().all(|&at| {
            // SAFETY: mapped as long as RAM is, and nobody writes but a guest that escaped.
            let page = unsafe { std::slice::from_raw_parts(at as *const u8, BYTES) };
            page == [CANARY; BYTES]
        })
    }

    /// Ends the watch.
    ///
    /// # Panics
    /// If this process or the other one saw a canary change.
    pub fn finish(mut self) {
        assert!(self.untouched(), "a canary changed");
        if let Some(watcher) = self.watcher.take() {
            assert!(watcher.stop(), "the other process saw a canary change");
        }
    }
}

/// The other process: it shares the canaries and nothing else.
#[derive(Debug)]
struct Watcher {
    child: libc::pid_t,
    view: usize,
    bytes: usize,
}

/// Only one process is made at a time.
static FORK: Mutex<()> = Mutex::new(());
/// Looks between naps of a millisecond.
const GO_ON: u32 = 1;
const STOP: u32 = 2;

impl Watcher {
    fn start(view: usize, bytes: usize) -> Self {
        let _alone = FORK.lock().unwrap_or_else(PoisonError::into_inner);
        word(view, bytes).store(GO_ON, Ordering::SeqCst);
        // SAFETY: the child only reads shared memory and makes system calls.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            watch(view, bytes);
        }
        Self { child, view, bytes }
    }

    /// True if the child saw nothing.
    fn stop(self) -> bool {
        word(self.view, self.bytes).store(STOP, Ordering::SeqCst);
        let mut status = 0;
        // SAFETY: waits for our own child.
        let got = unsafe { libc::waitpid(self.child, &raw mut status, 0) };
        let child = self.child;
        std::mem::forget(self);
        got == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

impl Drop for Watcher {
    /// After a failure: the child is of no use any more.
    fn drop(&mut self) {
        // SAFETY: our own child, which was not waited for.
        unsafe {
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, std::ptr::null_mut(), 0);
        }
    }
}

/// Through which the processes talk.
fn word(view: usize, bytes: usize) -> &'static AtomicU32 {
    // SAFETY: the page behind the canaries, which stays mapped until the process ends.
    unsafe { &*((view + bytes) as *const AtomicU32) }
}

/// What the child does.
fn watch(view: usize, bytes: usize) -> ! {
    // SAFETY: system calls, and reads of shared memory that stays mapped.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            let last = word(view, bytes).load(Ordering::SeqCst) == STOP;
            for at in (view..view + bytes).step_by(8) {
                if (at as *const u64).read_volatile() != u64::from_ne_bytes([CANARY; 8]) {
                    libc::_exit(1);
                }
            }
            if last {
                libc::_exit(0);
            }
            libc::usleep(1000);
        }
    }
}
