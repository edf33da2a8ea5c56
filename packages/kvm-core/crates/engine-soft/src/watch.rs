//! How vCPUs learn that memory changed under them.
//!
//! Slot changes, dirty-log harvests and device writes to code come from other threads. Each bumps
//! what the vCPUs of the VM must notice and asks them to look; slot changes and harvests also wait
//! until no vCPU is inside the guest with what it knew before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_cpu::engine::{VcpuRequests, request};
use kvm_memory::MemoryListener;

/// One vCPU as the listener sees it.
#[derive(Debug)]
pub struct Member {
    requests: Arc<VcpuRequests>,
    /// True while the vCPU uses its slot table and TLB.
    in_guest: AtomicBool,
    /// The last change that the vCPU has taken notice of.
    seen: AtomicU64,
    /// Guest physical ranges with code that somebody else wrote.
    written: Mutex<Vec<(u64, u64)>>,
}

/// The memory listener of a VM.
#[derive(Debug, Default)]
pub struct Watch {
    members: Mutex<Vec<Arc<Member>>>,
    changes: AtomicU64,
}

/// Beyond this many noted writes the vCPU drops all code instead.
const MAX_NOTED: usize = 256;

impl Watch {
    /// Registers a vCPU.
    pub fn join(&self, requests: Arc<VcpuRequests>) -> Arc<Member> {
        let member = Arc::new(Member {
            requests,
            in_guest: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            written: Mutex::new(Vec::new()),
        });
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|m| Arc::strong_count(m) > 1);
        members.push(Arc::clone(&member));
        member
    }

    /// The number of the last change.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn members(&self) -> Vec<Arc<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Announces a change and waits until every vCPU inside the guest has seen it.
    fn announce(&self) {
        let change = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let members = self.members();
        for m in &members {
            m.requests.raise(request::MEMORY);
        }
        for m in &members {
            while m.in_guest.load(Ordering::SeqCst) && m.seen.load(Ordering::SeqCst) < change {
                std::thread::yield_now();
            }
        }
    }
}

/// A vCPU inside the guest.
#[derive(Debug)]
pub struct Inside(Arc<Member>);

impl Drop for Inside {
    fn drop(&mut self) {
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
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl MemoryListener for Watch {
    fn slots_changed(&self) {
        self.announce();
    }

    fn code_written(&self, gpa: u64, len: u64) {
        for m in self.members() {
            let mut written = m.written.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn dirty_log_harvested(&self) {
        self.announce();
    }
}
