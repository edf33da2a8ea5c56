//! Running a vCPU.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kvm_abi::KvmError;
use kvm_vm::{Phase, ThreadOptions, Vcpu};
use napi::Env;
use napi::bindgen_prelude::Function;
use napi_derive::napi;

use crate::buffers::External;
use crate::error::{Result, js};
use crate::isolate::Isolate;
use crate::numbers::number;

/// A vCPU.
#[napi]
pub struct NativeVcpu {
    pub(crate) vcpu: Arc<Vcpu>,
}

#[napi]
impl NativeVcpu {
    /// Its number.
    #[napi(getter)]
    pub fn index(&self) -> u32 {
        self.vcpu.id()
    }

    /// The `kvm_run` page.
    #[napi]
    pub fn run_page(&self, env: Env) -> Result<External> {
        let page = self.vcpu.page();
        External::new(env.raw(), page.as_ptr(), page.len(), page.clone())
    }

    /// 0 idle, 1 running, 2 an exit waits, 3 paused, 4 closed.
    #[napi(getter)]
    pub fn phase(&self) -> u32 {
        match self.vcpu.phase() {
            Phase::Idle => 0,
            Phase::Running => 1,
            Phase::Exit => 2,
            Phase::Paused => 3,
            Phase::Closed => 4,
        }
    }

    /// `KVM_RUN` on this thread; a negative time is no limit.
    #[napi]
    pub fn run_sync(&self, env: Env, timeout_ms: f64) -> Result<u32> {
        let timeout = if timeout_ms < 0.0 { None } else { Some(millis(timeout_ms)?) };
        self.vcpu.run_sync(Isolate::of(env.raw())?.id, timeout).map_err(js)
    }

    /// Starts the thread.
    #[napi]
    pub fn start(&self, affinity: Vec<u32>, spin_max_us: f64) -> Result<()> {
        let spin_max = millis(spin_max_us / 1000.0)?;
        self.vcpu.start(ThreadOptions { affinity, spin_max }).map_err(js)
    }

    /// Makes it leave the guest once.
    #[napi]
    pub fn kick(&self) {
        self.vcpu.kick();
    }

    /// Parks the thread, then calls `done`.
    #[napi]
    pub fn pause(&self, env: Env, done: Function<'_, (), ()>) -> Result<()> {
        let (inbox, id) = Isolate::of(env.raw())?.tasks.add(&done, true)?;
        self.vcpu.pause(Box::new(move || inbox.post(id)));
        Ok(())
    }

    /// Lets a parked thread go on.
    #[napi]
    pub fn resume(&self) -> Result<()> {
        self.vcpu.resume().map_err(js)
    }

    /// Ends the thread, then calls `done`.
    #[napi]
    pub fn stop(&self, env: Env, done: Function<'_, (), ()>) -> Result<()> {
        let (inbox, id) = Isolate::of(env.raw())?.tasks.add(&done, true)?;
        self.vcpu.stop(Box::new(move || inbox.post(id)));
        Ok(())
    }

    /// `KVM_NMI`.
    #[napi]
    pub fn nmi(&self) {
        self.vcpu.nmi();
    }

    /// `KVM_SMI`.
    #[napi]
    pub fn smi(&self) -> Result<()> {
        self.vcpu.smi().map_err(js)
    }

    /// The message of a panic inside the engine.
    #[napi]
    pub fn failure(&self) -> Option<String> {
        self.vcpu.failure()
    }

    /// Entries, exits, kernel exits, halts, spin hits, spin misses.
    #[napi]
    pub fn stats(&self) -> Vec<f64> {
        let s = self.vcpu.stats();
        [s.entries, s.exits, s.kernel_exits, s.halts, s.spin_hits, s.spin_misses].map(number).into()
    }

    /// What the guest has asked of a software engine since the last call and it does not have. The first call begins it.
    #[napi]
    pub fn take_refusals(&self) -> Vec<String> {
        self.vcpu.code_counters().map(|c| c.refusals.take()).unwrap_or_default()
    }

    /// The counters of a software engine by name.
    #[napi]
    pub fn code_stats(&self) -> Option<HashMap<&'static str, f64>> {
        self.vcpu.code_counters().map(|c| c.read().map(|(name, n)| (name, number(n))).into())
    }
}

fn millis(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value / 1000.0)
        .map_err(|_| js(KvmError::invalid(format!("{value} ms is not a time"))))
}
