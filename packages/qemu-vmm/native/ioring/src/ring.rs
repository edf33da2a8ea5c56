//! The ring and the requests that are under way.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, Probe, opcode};
use libc::iovec;

use crate::request::{Operation, Request};

/// `IORING_ENTER_GETEVENTS` of linux/io_uring.h.
const GET_EVENTS: u32 = 1;
/// Lists of parts that are kept for the requests to come.
const SPARE_LISTS: usize = 64;

/// How a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// What [`Ring::queue`] has returned for it.
    pub tag: u32,
    /// Bytes, or a negative errno.
    pub result: i64,
}

/// An io_uring. Its descriptor can be read, for poll(2), while completions wait to be taken.
pub struct Ring {
    uring: IoUring,
    /// Requests by their tags.
    requests: Vec<Option<Request>>,
    free: Vec<u32>,
    /// Those that the kernel has not been asked yet.
    waiting: VecDeque<u32>,
    /// Those that the kernel has been asked, or will be when it is entered next.
    asked: usize,
    /// Its ring of answers has room for so many: none of them is lost.
    most_asked: usize,
    lists: Vec<Vec<iovec>>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ring").field("outstanding", &self.outstanding()).finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring that tells the kernel of at most `entries` requests at once.
    ///
    /// # Errors
    /// That of io_uring_setup(2), and `EOPNOTSUPP` for a kernel before Linux 5.6.
    /// [`refusal`](crate::refusal()) explains them.
    pub fn new(entries: u32) -> io::Result<Self> {
        // A thread that is busy need not be interrupted for an answer: it sees it when it asks for more. (Linux 5.19)
        let uring =
            IoUring::builder().setup_coop_taskrun().build(entries).or_else(|error| match error
                .raw_os_error()
            {
                Some(libc::EINVAL) => IoUring::new(entries),
                _ => Err(error),
            })?;
        let mut probe = Probe::new();
        let wanted = [
            opcode::Readv::CODE,
            opcode::Writev::CODE,
            opcode::Read::CODE,
            opcode::Write::CODE,
            opcode::Fsync::CODE,
        ];
        let known = uring.submitter().register_probe(&mut probe).is_ok();
        if !known || !wanted.iter().all(|&code| probe.is_supported(code)) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let most_asked = uring.params().cq_entries() as usize;
        Ok(Self {
            uring,
            requests: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            asked: 0,
            most_asked,
            lists: Vec::new(),
        })
    }

    /// Requests whose completion was not taken yet.
    pub fn outstanding(&self) -> usize {
        self.requests.len() - self.free.len()
    }

    /// An empty list for the parts of a request.
    pub fn list(&mut self) -> Vec<iovec> {
        self.lists.pop().unwrap_or_default()
    }

    /// Queues a request and returns its tag, which names it until its completion was taken. The kernel does not know of
    /// it before [`submit`](Self::submit).
    ///
    /// # Safety
    /// Until the completion was taken, or the ring is gone, the memory of `parts` stays mapped and is used for nothing that a
    /// read into it, or a write from it, must not meet.
    pub unsafe fn queue(
        &mut self,
        operation: Operation,
        fd: RawFd,
        offset: u64,
        parts: Vec<iovec>,
    ) -> u32 {
        let request = Some(Request::new(operation, fd, offset, parts));
        let tag = self.free.pop().unwrap_or_else(|| {
            self.requests.push(None);
            self.requests.len() as u32 - 1
        });
        self.requests[tag as usize] = request;
        self.waiting.push_back(tag);
        tag
    }

    /// Tells the kernel of what is queued, as much as there is room for: the rest follows when completions are taken.
    ///
    /// # Errors
    /// The kernel takes nothing from this ring any more.
    pub fn submit(&mut self) -> io::Result<()> {
        while self.fill() {
            match self.uring.submit() {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Short of memory: what is under way gives some back.
                    Some(libc::EAGAIN | libc::EBUSY) => return Ok(()),
                    _ => return Err(error),
                },
            }
            if self.waiting.is_empty() && self.uring.submission().is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Moves what waits to the kernel's queue. Whether there is something in that.
    fn fill(&mut self) -> bool {
        let mut queue = self.uring.submission();
        while self.asked < self.most_asked && !queue.is_full() {
            let Some(tag) = self.waiting.pop_front() else { break };
            let Some(request) = &self.requests[tag as usize] else { continue };
            // SAFETY: the memory is good by the contract of `queue`, and the list of parts stays where it is while the
            // request is in its place, which ends with the kernel's answer.
            if unsafe { queue.push(&request.entry().user_data(u64::from(tag))) }.is_err() {
                self.waiting.push_front(tag);
                break;
            }
            self.asked += 1;
        }
        !queue.is_empty()
    }

    /// Takes completions, at most `most`, and asks the kernel again for what was done in part only.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn take(&mut self, most: usize, mut done: impl FnMut(Completion)) -> io::Result<usize> {
        let mut taken = 0;
        while taken < most {
            let Some(entry) = self.uring.completion().next() else { break };
            let tag = entry.user_data() as u32;
            self.asked -= 1;
            let slot = &mut self.requests[tag as usize];
            let Some(request) = slot else { continue };
            match request.answer(entry.result()) {
                None => self.waiting.push_back(tag),
                Some(result) => {
                    let list = slot.take().map(Request::into_parts);
                    self.free.push(tag);
                    if self.lists.len() < SPARE_LISTS {
                        self.lists.extend(list);
                    }
                    done(Completion { tag, result });
                    taken += 1;
                }
            }
        }
        self.submit()?;
        Ok(taken)
    }

    /// Something is queued, and nothing is under way whose end would bring it to the kernel: `submit` must be tried again.
    pub fn is_stalled(&mut self) -> bool {
        let queued = self.uring.submission().len();
        (queued > 0 || !self.waiting.is_empty()) && self.asked == queued
    }

    /// Waits until the kernel has ended all that it was asked, and forgets it together with what it was not asked yet.
    fn abandon(&mut self) {
        self.waiting.clear();
        let mut asked = self.asked - self.uring.submission().len();
        while asked > 0 {
            let ended = self.uring.completion().count();
            asked = asked.saturating_sub(ended);
            if asked == 0 {
                break;
            }
            // SAFETY: no argument. Nothing is submitted: it only waits.
            let waited = unsafe { self.uring.submitter().enter::<()>(0, 1, GET_EVENTS, None) };
            if waited.is_err_and(|error| error.raw_os_error() != Some(libc::EINTR)) {
                // Then the kernel does not tell. Its descriptor does.
                let mut poll =
                    libc::pollfd { fd: self.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one structure, which lives until the call returns.
                unsafe { libc::poll(&raw mut poll, 1, 100) };
            }
        }
        self.asked = 0;
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }
}

impl Drop for Ring {
    /// The memory of requests is free afterwards: the kernel must have let go of it.
    fn drop(&mut self) {
        self.abandon();
    }
}
