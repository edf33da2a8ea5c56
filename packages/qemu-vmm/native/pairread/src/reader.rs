//! The helper and whoever shares reads with it.

use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use libc::iovec;

use crate::pieces::{PIECE_BYTES, Pieces, preadv2};

/// Looks at a piece that the helper still reads before going to sleep: as many as a piece takes.
const LOOKS: u32 = 4000;

/// Reads files, large requests together with a thread of its own, which comes with the first of them.
#[derive(Debug, Default)]
pub struct PairReader {
    shared: Arc<Shared>,
    helper: Option<JoinHandle<()>>,
    /// No thread can be had, or there is no processor for it.
    alone: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is work, or the end.
    work: Condvar,
    /// The last piece was read by the helper.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    work: Option<Arc<Pieces>>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PairReader {
    /// preadv2(2) with `flags`: bytes, or a negative errno. No place of a file is negative: to the kernel -1 is where the
    /// descriptor stands.
    ///
    /// # Safety
    /// The memory of `parts` stays mapped during the call, and is used for nothing that a read into it must not meet.
    pub unsafe fn read(&mut self, fd: RawFd, offset: i64, parts: &[iovec], flags: i32) -> i64 {
        if offset < 0 {
            return -i64::from(libc::EINVAL);
        }
        let bytes = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.iov_len));
        if bytes < 2 * PIECE_BYTES || !self.has_helper() {
            // SAFETY: by the contract of this function.
            return unsafe { preadv2(fd, offset, parts, flags) };
        }
        let pieces = Arc::new(Pieces::new(fd, offset, flags, parts));
        self.shared.state().work = Some(pieces.clone());
        self.shared.work.notify_one();
        pieces.work();
        self.finish(&pieces);
        pieces.outcome()
    }

    /// Waits for what the helper has taken.
    fn finish(&self, pieces: &Pieces) {
        for _ in 0..LOOKS {
            if pieces.is_read() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut state = self.shared.state();
        while !pieces.is_read() {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn has_helper(&mut self) -> bool {
        if self.helper.is_none() && !self.alone {
            let shared = self.shared.clone();
            let usable = thread::available_parallelism().map_or(1, usize::from);
            let start =
                || thread::Builder::new().name("kvm-read".into()).spawn(move || help(&shared));
            self.helper = if usable > 1 { start().ok() } else { None };
            self.alone = self.helper.is_none();
        }
        self.helper.is_some()
    }
}

fn help(shared: &Shared) {
    let mut state = shared.state();
    loop {
        if state.ended {
            return;
        }
        let Some(pieces) = state.work.take() else {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let last = pieces.work();
        state = shared.state();
        if last {
            shared.done.notify_one();
        }
    }
}

impl Drop for PairReader {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.work.notify_one();
        if let Some(helper) = self.helper.take() {
            let _ = helper.join();
        }
    }
}
