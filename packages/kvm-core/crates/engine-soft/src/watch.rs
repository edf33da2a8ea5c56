//! How vCPUs learn that memory changed under them, and how one of them makes the others wait.
//!
//! Slot changes, dirty-log harvests and device writes to code come from other threads. Each bumps
//! what the vCPUs of the VM must notice and asks them to look; slot changes and harvests also wait
//! until no vCPU is inside the guest with what it knew before.
//!
//! Among themselves vCPUs have two more matters. One that decodes a page takes back the others'
//! permission to store to it unseen. One whose locked instruction crosses a cache line stops all
//! others between two instructions. Whoever waits for another vCPU inside the guest goes on
//! answering (`serve.rs`), so that two that wait for each other come through.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kvm_cpu::engine::{VcpuRequests, request};
use kvm_memory::MemoryListener;

/// One vCPU as the others see it. On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Member {
    requests: Arc<VcpuRequests>,
    /// True while the vCPU uses its slot table and TLB.
    in_guest: AtomicBool,
    /// True while it executes nothing, though inside the guest.
    parked: AtomicBool,
    /// The last change that the vCPU has taken notice of.
    seen: AtomicU64,
    /// Guest physical ranges with code that somebody else wrote.
    written: Mutex<Vec<(u64, u64)>>,
    /// Guest physical pages to which it must not store unseen any more.
    revoked: Mutex<Vec<u64>>,
    /// How many times it was asked for that, and how many of them it has answered.
    asked: AtomicU64,
    answered: AtomicU64,
}

/// The memory listener of a VM, and the meeting point of its vCPUs.
#[derive(Debug, Default)]
pub struct Watch {
    members: RwLock<Arc<[Arc<Member>]>>,
    /// How many they are.
    count: AtomicUsize,
    changes: AtomicU64,
    stopped: AtomicBool,
}

/// Beyond this many noted writes the vCPU drops all code instead.
const MAX_NOTED: usize = 256;
/// Beyond this many pages the vCPU gives back its permission for all.
const MAX_REVOKED: usize = 64;

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Registers a vCPU.
    pub fn join(&self, requests: Arc<VcpuRequests>) -> Arc<Member> {
        let member = Arc::new(Member {
            requests,
            in_guest: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            written: Mutex::default(),
            revoked: Mutex::default(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        // A vCPU that is gone has left only the reference in the list.
        let alive = members.iter().filter(|m| Arc::strong_count(m) > 1).cloned();
        *members = alive.chain([Arc::clone(&member)]).collect();
        self.count.store(members.len(), Ordering::SeqCst);
        member
    }

    /// The number of the last change.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// All vCPUs at this moment.
    pub fn members(&self) -> Arc<[Arc<Member>]> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True while one vCPU has stopped the others.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Becomes the one vCPU that stops the others; `None` if another one is it. The caller asks
    /// them and waits for each.
    pub fn try_stop(self: &Arc<Self>) -> Option<Stopped> {
        let free = !self.stopped.swap(true, Ordering::SeqCst);
        free.then(|| Stopped(Arc::clone(self)))
    }

    /// Tells all vCPUs but `writer` that `[gpa, gpa + len)` was written and may hold code.
    pub fn written_by(&self, writer: Option<&Arc<Member>>, gpa: u64, len: u64) {
        // Whoever joins later has decoded nothing yet.
        if writer.is_some() && self.count.load(Ordering::SeqCst) == 1 {
            return;
        }
        for m in self.members().iter() {
            if writer.is_some_and(|w| Arc::ptr_eq(w, m)) {
                continue;
            }
            let mut written = lock(&m.written);
            if written.len() < MAX_NOTED {
                written.push((gpa, len));
            } else {
                written.clear();
                written.push((0, u64::MAX));
            }
            drop(written);
            m.requests.raise(request::MEMORY);
        }
    }

    /// Announces a change and waits until every vCPU inside the guest has seen it.
    fn announce(&self) {
        let change = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let members = self.members();
        for m in members.iter() {
            m.requests.raise(request::MEMORY);
        }
        for m in members.iter() {
            while m.in_guest.load(Ordering::SeqCst) && m.seen.load(Ordering::SeqCst) < change {
                std::thread::yield_now();
            }
        }
    }
}

/// All other vCPUs execute nothing until this is dropped.
#[derive(Debug)]
pub struct Stopped(Arc<Watch>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.stopped.store(false, Ordering::SeqCst);
    }
}

/// A vCPU inside the guest.
#[derive(Debug)]
pub struct Inside(Arc<Member>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.parked.store(false, Ordering::SeqCst);
        self.0.in_guest.store(false, Ordering::SeqCst);
    }
}

impl Member {
    /// The vCPU is about to use what it derived from change number `change`.
    pub fn enter(&self, change: u64) {
        self.seen.store(change, Ordering::SeqCst);
        self.in_guest.store(true, Ordering::SeqCst);
    }

    /// The vCPU has taken notice of everything up to `change`.
    pub fn saw(&self, change: u64) {
        self.seen.store(change, Ordering::SeqCst);
    }

    /// The vCPU leaves the guest when the guard is dropped, by a panic too: whoever changes memory
    /// would wait for ever for one that is still inside.
    pub fn leave_at_end(self: Arc<Self>) -> Inside {
        Inside(self)
    }

    /// Takes the noted writes to code.
    pub fn take_written(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *lock(&self.written))
    }

    /// Makes the vCPU look around at the end of its block.
    pub fn ask(&self) {
        self.requests.raise(request::MEMORY);
    }

    /// Asks the vCPU not to store to `pages` unseen. What [`has_answered`](Self::has_answered)
    /// wants to know.
    pub fn revoke(&self, pages: &[u64]) -> u64 {
        let mut revoked = lock(&self.revoked);
        revoked.extend_from_slice(pages);
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        drop(revoked);
        self.ask();
        ticket
    }

    /// True if the vCPU answered, or will before it executes anything.
    pub fn has_answered(&self, ticket: u64) -> bool {
        self.stands_still() || self.answered.load(Ordering::SeqCst) >= ticket
    }

    /// Hands the pages it was asked for to `take`, or `None` for all pages, and answers.
    pub fn answer(&self, mut take: impl FnMut(Option<u64>)) {
        if self.asked.load(Ordering::SeqCst) == self.answered.load(Ordering::SeqCst) {
            return;
        }
        let mut revoked = lock(&self.revoked);
        if revoked.len() > MAX_REVOKED {
            take(None);
        } else {
            revoked.iter().for_each(|&page| take(Some(page)));
        }
        revoked.clear();
        self.answered.store(self.asked.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Says whether it executes nothing although it is inside.
    pub fn park(&self, parked: bool) {
        self.parked.store(parked, Ordering::SeqCst);
    }

    /// True if the vCPU executes nothing, and answers and looks at [`Watch::stopped`] before it does.
    pub fn stands_still(&self) -> bool {
        !self.in_guest.load(Ordering::SeqCst) || self.parked.load(Ordering::SeqCst)
    }
}

impl MemoryListener for Watch {
    fn slots_changed(&self) {
        self.announce();
    }

    fn code_written(&self, gpa: u64, len: u64) {
        self.written_by(None, gpa, len);
    }

    fn dirty_log_harvested(&self) {
        self.announce();
    }
}
