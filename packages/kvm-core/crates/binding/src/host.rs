//! A device host: the doorbell of an isolate.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kvm_abi::{Errno, KvmError};
use kvm_vm::{Host, Vm};
use napi::Env;
use napi::bindgen_prelude::{Function, JsValue};
use napi::sys;
use napi_derive::napi;

use crate::buffers::External;
use crate::error::{Result, check, js};
use crate::isolate::Isolate;
use crate::numbers::{number, word};
use crate::tasks::call;
use crate::uv::{Poll, loop_has_work, time_to_next_event};

/// The poll handle and the function that it calls.
pub struct Doorbell {
    env: sys::napi_env,
    isolate: u64,
    host: Arc<Host>,
    function: Cell<sys::napi_ref>,
    poll: RefCell<Option<Poll>>,
}

impl Doorbell {
    fn ring(&self) {
        self.host.doorbell().take();
        if !self.function.get().is_null() {
            call(self.env, self.function.get());
        }
    }

    /// Frees the host for another isolate; `closed` is called when libuv has let go.
    pub fn close(&self, closed: Box<dyn FnOnce()>) {
        self.host.unbind(self.isolate);
        let function = self.function.replace(std::ptr::null_mut());
        if !function.is_null() {
            // SAFETY: the reference of `open`, deleted once.
            unsafe { sys::napi_delete_reference(self.env, function) };
        }
        match self.poll.borrow_mut().take() {
            Some(mut poll) => poll.close(closed),
            None => closed(),
        }
    }
}

/// A device host bound to this isolate.
#[napi]
pub struct NativeHost {
    /// None once it was closed: descriptors do not wait for the garbage collector.
    open: Option<Open>,
}

struct Open {
    vm: Arc<Vm>,
    doorbell: Rc<Doorbell>,
}

impl NativeHost {
    /// Binds host `id` of `vm` to the isolate of `env`.
    pub fn open(
        env: Env,
        vm: &Arc<Vm>,
        id: f64,
        max_poll_us: f64,
        on_doorbell: &Function<'_, (), ()>,
    ) -> Result<Self> {
        let isolate = Isolate::of(env.raw())?;
        let host = vm.host(word(id, "host")?).map_err(js)?;
        let max_poll = Duration::from_micros(u64::from(word(max_poll_us, "maxPollUs")?.min(1000)));
        host.bind(isolate.id, max_poll).map_err(js)?;
        let doorbell = Rc::new(Doorbell {
            env: env.raw(),
            isolate: isolate.id,
            host: host.clone(),
            function: Cell::new(std::ptr::null_mut()),
            poll: RefCell::new(None),
        });
        if let Err(error) = connect(&doorbell, on_doorbell) {
            host.unbind(isolate.id);
            return Err(error);
        }
        isolate.add_doorbell(doorbell.clone());
        Ok(Self { open: Some(Open { vm: vm.clone(), doorbell }) })
    }
}

fn connect(doorbell: &Rc<Doorbell>, function: &Function<'_, (), ()>) -> Result<()> {
    let mut reference = std::ptr::null_mut();
    // SAFETY: a function value of this call's scope.
    let status =
        unsafe { sys::napi_create_reference(doorbell.env, function.raw(), 1, &raw mut reference) };
    check(status, "napi_create_reference")?;
    doorbell.function.set(reference);
    let this = Rc::downgrade(doorbell);
    let readable = Box::new(move || {
        if let Some(doorbell) = this.upgrade() {
            doorbell.ring();
        }
    });
    let poll = Poll::start(doorbell.env, doorbell.host.doorbell().raw(), readable)?;
    *doorbell.poll.borrow_mut() = Some(poll);
    Ok(())
}

#[napi]
impl NativeHost {
    /// The control page.
    #[napi]
    pub fn control(&self, env: Env) -> Result<External> {
        let page = self.host()?.page();
        External::new(env.raw(), page.as_ptr(), page.len(), page.clone())
    }

    /// Answers an exit; false if it was given up.
    #[napi]
    pub fn complete(&self, vcpu: u32) -> bool {
        self.host().is_ok_and(|host| host.complete(vcpu))
    }

    /// Looks for work for as long as that has paid of late. 1 if there is some; 0 if not; 2 if the
    /// event loop has something due, and should then come back here.
    #[napi]
    pub fn poll(&self, env: Env) -> u32 {
        let Some(Open { vm, doorbell }) = &self.open else { return 0 };
        let host = &doorbell.host;
        if host.has_work() {
            return 1;
        }
        let limit = time_to_next_event(env.raw());
        if limit.is_zero() {
            return if host.poll_ns() > 0 { 2 } else { 0 };
        }
        u32::from(host.poll(vm.vcpu_count(), limit))
    }

    /// True if the event loop has something else to do.
    #[napi]
    pub fn must_yield(&self, env: Env) -> bool {
        loop_has_work(env.raw())
    }

    /// Present width of the polling window in microseconds.
    #[napi(getter)]
    pub fn poll_us(&self) -> f64 {
        self.host().map_or(0.0, |host| number(u64::from(host.poll_ns())) / 1000.0)
    }

    /// Has the doorbell function called again from the event loop.
    #[napi]
    pub fn ring_later(&self) {
        if let Ok(host) = self.host() {
            host.doorbell().signal();
        }
    }

    /// Ends the binding.
    #[napi]
    pub fn close(&mut self, env: Env) -> Result<()> {
        if let Some(open) = self.open.take() {
            open.doorbell.close(Box::new(|| ()));
            Isolate::of(env.raw())?.remove_doorbell(&open.doorbell);
        }
        Ok(())
    }

    fn host(&self) -> Result<&Host> {
        let open = self.open.as_ref().map(|open| &*open.doorbell.host);
        open.ok_or_else(|| js(KvmError::new(Errno::EBADF, "the device host was closed")))
    }
}
