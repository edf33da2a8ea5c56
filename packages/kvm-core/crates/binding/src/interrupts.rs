//! irqfds, ioeventfds and routes.

use std::os::fd::RawFd;
use std::sync::Arc;

use kvm_vm::{IoEvent, IrqFd, LATCH_BYTES, Route, Vm};
use napi::Env;
use napi_derive::napi;

use crate::buffers::External;
use crate::error::{Result, js};
use crate::isolate::Isolate;

/// An irqfd.
#[napi]
pub struct NativeIrqFd {
    pub(crate) irqfd: Arc<IrqFd>,
    /// The function that is told about acknowledgements.
    pub(crate) task: Option<u32>,
}

#[napi]
impl NativeIrqFd {
    /// Raises the interrupt.
    #[napi]
    pub fn trigger(&self) {
        self.irqfd.trigger();
    }

    /// The eventfd, opened at the first call.
    #[napi]
    pub fn fd(&self) -> Result<RawFd> {
        self.irqfd.fd().map_err(js)
    }

    /// The resample eventfd, or -1.
    #[napi]
    pub fn resample_fd(&self) -> RawFd {
        self.irqfd.resample_fd().unwrap_or(-1)
    }

    /// Ends it.
    #[napi]
    pub fn close(&mut self, env: Env) -> Result<()> {
        self.irqfd.close();
        if let Some(task) = self.task.take() {
            Isolate::of(env.raw())?.tasks.remove(task);
        }
        Ok(())
    }
}

/// An ioeventfd.
#[napi]
pub struct NativeIoEvent {
    pub(crate) vm: Arc<Vm>,
    pub(crate) event: Arc<IoEvent>,
}

#[napi]
impl NativeIoEvent {
    /// The eventfd, opened at the first call.
    #[napi]
    pub fn fd(&self) -> Result<RawFd> {
        self.event.fd().map(kvm_vm::EventFd::raw).map_err(js)
    }

    /// Ends it.
    #[napi]
    pub fn close(&self) {
        self.vm.remove_ioeventfd(&self.event);
    }
}

/// A route.
#[napi]
pub struct NativeRoute {
    pub(crate) vm: Arc<Vm>,
    pub(crate) route: Arc<Route>,
}

#[napi]
impl NativeRoute {
    /// The registers of a latched route.
    #[napi]
    pub fn latch(&self, env: Env) -> Result<Option<External>> {
        self.route
            .latch()
            .map(|page| External::new(env.raw(), page.as_ptr(), LATCH_BYTES as usize, page.clone()))
            .transpose()
    }

    /// Ends it.
    #[napi]
    pub fn close(&self) {
        self.vm.remove_route(&self.route);
    }
}
