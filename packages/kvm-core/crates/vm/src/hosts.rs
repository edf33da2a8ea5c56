//! The device hosts of a VM.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_abi::{Errno, KvmError};

use crate::host::{Host, IsolateId};
use crate::sync_run::SyncRunners;

/// Device host numbers are below this.
pub const MAX_HOSTS: u32 = 64;

/// All hosts by number; a host is made when it is first named.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    list: Mutex<BTreeMap<u32, Arc<Host>>>,
    pub runners: Arc<SyncRunners>,
}

impl Hosts {
    /// The host with this number.
    pub fn get(&self, id: u32) -> Result<Arc<Host>, KvmError> {
        if id >= MAX_HOSTS {
            return Err(KvmError::new(
                Errno::EINVAL,
                format!("device host {id} is not below {MAX_HOSTS}"),
            ));
        }
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = list.get(&id) {
            return Ok(host.clone());
        }
        let host = Host::new(id, self.runners.clone())?;
        list.insert(id, host.clone());
        Ok(host)
    }

    /// True if something waits for a host of `isolate`.
    pub fn work_for(&self, isolate: IsolateId) -> bool {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.values().any(|host| host.owner() == isolate && host.has_work())
    }

    /// One whose isolate was rung and is not done yet.
    pub fn awake(&self) -> Option<Arc<Host>> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.values().find(|host| host.is_awake()).cloned()
    }

    /// Forgets all: the VM is closed.
    pub fn clear(&self) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Host>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_host_is_awake_from_a_ring_until_it_sleeps() -> Result<(), KvmError> {
        let hosts = Hosts::default();
        assert!(hosts.awake().is_none());
        let host = hosts.get(0)?;
        assert!(hosts.awake().is_none(), "nobody answers");
        host.bind(7, Duration::ZERO)?;
        assert!(hosts.awake().is_none());
        host.signal_ioevent(3);
        assert_eq!(hosts.awake().map(|host| host.id()), Some(0));
        assert!(!host.rearm(), "the event waits");
        assert!(hosts.awake().is_some());
        host.unbind(7);
        assert!(hosts.awake().is_none());
        Ok(())
    }
}
