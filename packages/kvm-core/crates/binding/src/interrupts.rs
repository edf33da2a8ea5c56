//! irqfds, ioeventfds and routes.

use std::os::fd::RawFd;
use std::sync::Arc;

use kvm_abi::{Errno, KvmError};
use kvm_vm::{IoEvent, IrqFd, LATCH_BYTES, Route, Vm};
use napi::Env;
use napi_derive::napi;

use crate::buffers::External;
use crate::error::{Result, js};
use crate::isolate::Isolate;

fn closed(what: &str) -> napi::Error<crate::error::Code> {
    js(KvmError::new(Errno::EBADF, format!("the {what} was closed")))
}

/// An irqfd. Closing drops what it holds: descriptors do not wait for the garbage collector.
#[napi]
pub struct NativeIrqFd {
    pub(crate) irqfd: Option<Arc<IrqFd>>,
    /// The function that is told about acknowledgements.
    pub(crate) task: Option<u32>,
}

#[napi]
impl NativeIrqFd {
    /// Raises the interrupt.
    #[napi]
    pub fn trigger(&self) {
        if let Some(irqfd) = &self.irqfd {
            irqfd.trigger();
        }
    }

    /// The eventfd, opened at the first call.
    #[napi]
    pub fn fd(&self) -> Result<RawFd> {
        self.irqfd.as_ref().ok_or_else(|| closed("irqfd"))?.fd().map_err(js)
    }

    /// The resample eventfd, or -1.
    #[napi]
    pub fn resample_fd(&self) -> RawFd {
        self.irqfd.as_ref().and_then(|irqfd| irqfd.resample_fd()).unwrap_or(-1)
    }

    /// Ends it.
    #[napi]
    pub fn close(&mut self, env: Env) -> Result<()> {
        if let Some(irqfd) = self.irqfd.take() {
            irqfd.close();
        }
        if let Some(task) = self.task.take() {
            Isolate::of(env.raw())?.tasks.remove(task);
        }
        Ok(())
    }
}

/// An ioeventfd.
#[napi]
pub struct NativeIoEvent {
    pub(crate) open: Option<(Arc<Vm>, Arc<IoEvent>)>,
}

#[napi]
impl NativeIoEvent {
    /// The eventfd, opened at the first call.
    #[napi]
    pub fn fd(&self) -> Result<RawFd> {
        let (_, event) = self.open.as_ref().ok_or_else(|| closed("ioeventfd"))?;
        event.fd().map(kvm_vm::EventFd::raw).map_err(js)
    }

    /// Whether the eventfd alone is signalled.
    #[napi]
    pub fn set_apart(&self, apart: bool) -> Result<()> {
        let (_, event) = self.open.as_ref().ok_or_else(|| closed("ioeventfd"))?;
        event.set_apart(apart).map_err(js)
    }

    /// Ends it.
    #[napi]
    pub fn close(&mut self) {
        if let Some((vm, event)) = self.open.take() {
            vm.remove_ioeventfd(&event);
        }
    }
}

/// A route.
#[napi]
pub struct NativeRoute {
    pub(crate) open: Option<(Arc<Vm>, Arc<Route>)>,
}

#[napi]
impl NativeRoute {
    /// The registers of a latched route.
    #[napi]
    pub fn latch(&self, env: Env) -> Result<Option<External>> {
        let (_, route) = self.open.as_ref().ok_or_else(|| closed("route"))?;
        route
            .latch()
            .map(|page| External::new(env.raw(), page.as_ptr(), LATCH_BYTES as usize, page.clone()))
            .transpose()
    }

    /// Ends it.
    #[napi]
    pub fn close(&mut self) {
        if let Some((vm, route)) = self.open.take() {
            vm.remove_route(&route);
        }
    }
}
