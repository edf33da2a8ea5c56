//! An alarm for the vCPUs of a test, in the crates whose name ends in `regions`: with it translated code
//! does not count instructions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kvm_cpu::engine::{Alarm, VcpuEngine, VcpuRequests, request};

/// Raises the request from a thread of its own, and counts how often it was asked to.
#[derive(Debug)]
pub struct ThreadAlarm {
    requests: Arc<VcpuRequests>,
    pub armed: AtomicU32,
    pending: Arc<AtomicBool>,
    /// The first time it goes off at once, as if the clock had been set back.
    early: bool,
}

impl ThreadAlarm {
    pub fn new(requests: &Arc<VcpuRequests>, early: bool) -> Arc<Self> {
        let requests = Arc::clone(requests);
        Arc::new(Self { requests, armed: AtomicU32::new(0), pending: Arc::default(), early })
    }

    /// Gives it to a vCPU.
    pub fn offer(self: &Arc<Self>, vcpu: &mut dyn VcpuEngine) {
        let alarm: Arc<dyn Alarm> = Arc::clone(self) as _;
        vcpu.offer_alarm(&|| Ok(Arc::clone(&alarm))).unwrap();
    }
}

impl Alarm for ThreadAlarm {
    fn arm(&self, after_ns: u64) {
        let first = self.armed.fetch_add(1, Ordering::SeqCst) == 0;
        let after_ns = if self.early && first { 0 } else { after_ns };
        let (requests, pending) = (Arc::clone(&self.requests), Arc::clone(&self.pending));
        pending.store(true, Ordering::SeqCst);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_nanos(after_ns));
            pending.store(false, Ordering::SeqCst);
            requests.raise(request::INTERRUPT);
        });
    }

    fn pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }
}

/// Gives a vCPU an alarm where the crate wants one.
pub fn offer(vcpu: &mut dyn VcpuEngine, requests: &Arc<VcpuRequests>) {
    if env!("CARGO_CRATE_NAME").ends_with("regions") {
        ThreadAlarm::new(requests, false).offer(vcpu);
    }
}
