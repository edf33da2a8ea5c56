//! Which vCPUs run on an isolate's own thread at the moment (`run_sync`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_cpu::engine::request;

use crate::host::IsolateId;
use crate::kick::Kicker;

/// A device host whose isolate is inside `run_sync` cannot look at its doorbell: the vCPU that
/// keeps it there must leave the guest.
#[derive(Debug, Default)]
pub(crate) struct SyncRunners {
    count: AtomicUsize,
    list: Mutex<Vec<(IsolateId, Arc<Kicker>)>>,
}

impl SyncRunners {
    /// Notes the runner until the guard is dropped.
    pub fn enter(&self, isolate: IsolateId, kicker: Arc<Kicker>) -> Running<'_> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push((isolate, kicker));
        self.count.fetch_add(1, Ordering::SeqCst);
        Running { all: self, isolate }
    }

    /// Makes the vCPUs that run on the thread of `isolate` leave the guest.
    pub fn leave_guest(&self, isolate: IsolateId) {
        if isolate == 0 || self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for (id, kicker) in self.list.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if *id == isolate {
                kicker.raise(request::EXIT);
            }
        }
    }
}

/// Membership in the list.
pub(crate) struct Running<'a> {
    all: &'a SyncRunners,
    isolate: IsolateId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut list = self.all.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().rposition(|(id, _)| *id == self.isolate) {
            list.remove(at);
            self.all.count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
