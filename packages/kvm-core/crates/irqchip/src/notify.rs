//! Acknowledge notifiers: who wants to know that the guest has finished with a GSI.

use std::fmt;
use std::sync::Arc;

use kvm_abi::{Errno, KvmError};

/// Names a registered notifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifierId(u64);

type Callback = Arc<dyn Fn() + Send + Sync>;

/// The notifiers of a VM. Small: one entry per resampling irqfd.
#[derive(Clone, Default)]
pub(crate) struct Notifiers {
    next: u64,
    list: Vec<(NotifierId, u32, Callback)>,
}

impl Notifiers {
    pub fn add(&mut self, gsi: u32, callback: Callback) -> NotifierId {
        let id = NotifierId(self.next);
        self.next += 1;
        self.list.push((id, gsi, callback));
        id
    }

    pub fn remove(&mut self, id: NotifierId) -> Result<(), KvmError> {
        let before = self.list.len();
        self.list.retain(|(other, ..)| *other != id);
        if self.list.len() == before {
            return Err(KvmError::new(Errno::ENOENT, "the notifier is not registered"));
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Calls what waits for `gsi`. The caller holds no lock.
    pub fn call(&self, gsi: u32) {
        for (_, wanted, callback) in &self.list {
            if *wanted == gsi {
                callback();
            }
        }
    }
}

impl fmt::Debug for Notifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|(id, gsi, _)| (id, gsi))).finish()
    }
}
