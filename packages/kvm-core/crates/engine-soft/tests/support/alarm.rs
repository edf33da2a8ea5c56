//! An alarm for the vCPUs of a test, in the crates whose name ends in `regions`: with it translated code
//! does not count instructions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kvm_cpu::engine::{Alarm, VcpuEngine, VcpuRequests, request};

/// Raises the request from a thread of its own, and counts how often it was asked to.
#[derive(Debug)]
pub struct ThreadAlarm {
    requests: Arc<VcpuRequests>,
    pub armed: AtomicU32,
}

impl ThreadAlarm {
    pub fn new(requests: &Arc<VcpuRequests>) -> Arc<Self> {
        Arc::new(Self { requests: Arc::clone(requests), armed: AtomicU32::new(0) })
    }

    /// Gives it to a vCPU.
    pub fn offer(self: &Arc<Self>, vcpu: &mut dyn VcpuEngine) {
        let alarm: Arc<dyn Alarm> = Arc::clone(self) as _;
        vcpu.offer_alarm(&|| Ok(Arc::clone(&alarm))).unwrap();
    }
}

impl Alarm for ThreadAlarm {
    fn arm(&self, after_ns: u64) {
        self.armed.fetch_add(1, Ordering::SeqCst);
        let requests = Arc::clone(&self.requests);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_nanos(after_ns));
            requests.raise(request::INTERRUPT);
        });
    }
}

/// Gives a vCPU an alarm where the crate wants one.
pub fn offer(vcpu: &mut dyn VcpuEngine, requests: &Arc<VcpuRequests>) {
    if env!("CARGO_CRATE_NAME").ends_with("regions") {
        ThreadAlarm::new(requests).offer(vcpu);
    }
}
