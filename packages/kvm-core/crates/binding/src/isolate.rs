//! What an isolate has of this addon, and how it ends with it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_vm::{CLOSE_LIMIT, IsolateId, Vm};
use napi::sys;

use crate::error::{Result, check};
use crate::host::Doorbell;
use crate::tasks::Tasks;

static NEXT_ISOLATE: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// Environments of this thread. An environment never changes its thread.
    static ISOLATES: RefCell<HashMap<sys::napi_env, Rc<Isolate>>> = RefCell::default();
}

/// One environment.
pub struct Isolate {
    /// Its number in the VM layer.
    pub id: IsolateId,
    /// Functions for other threads.
    pub tasks: Rc<Tasks>,
    /// VMs that were created here: they end with the isolate.
    vms: RefCell<Vec<Arc<Vm>>>,
    /// Doorbells of device hosts.
    doorbells: RefCell<Vec<Rc<Doorbell>>>,
}

impl Isolate {
    /// The isolate of `env`.
    pub fn of(env: sys::napi_env) -> Result<Rc<Self>> {
        let known = ISOLATES.with_borrow(|all| all.get(&env).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let isolate = Rc::new(Self {
            id: NEXT_ISOLATE.fetch_add(1, Ordering::Relaxed),
            tasks: Tasks::new(env)?,
            vms: RefCell::default(),
            doorbells: RefCell::default(),
        });
        // SAFETY: the hook gets the environment that it is registered for.
        let status = unsafe {
            sys::napi_add_async_cleanup_hook(env, Some(clean_up), env.cast(), std::ptr::null_mut())
        };
        check(status, "napi_add_async_cleanup_hook")?;
        ISOLATES.with_borrow_mut(|all| all.insert(env, isolate.clone()));
        Ok(isolate)
    }

    /// Notes a VM that ends with this isolate.
    pub fn own(&self, vm: Arc<Vm>) {
        self.vms.borrow_mut().push(vm);
    }

    /// The VM was closed in good order.
    pub fn disown(&self, id: u32) {
        self.vms.borrow_mut().retain(|vm| vm.id() != id);
    }

    /// Notes an open doorbell.
    pub fn add_doorbell(&self, doorbell: Rc<Doorbell>) {
        self.doorbells.borrow_mut().push(doorbell);
    }

    /// The doorbell was closed.
    pub fn remove_doorbell(&self, doorbell: &Rc<Doorbell>) {
        self.doorbells.borrow_mut().retain(|other| !Rc::ptr_eq(other, doorbell));
    }
}

/// Runs when the environment ends: by itself, by `worker.terminate()` or an uncaught exception.
/// JavaScript cannot run any more.
unsafe extern "C" fn clean_up(handle: sys::napi_async_cleanup_hook_handle, env: *mut c_void) {
    let isolate = ISOLATES.with_borrow_mut(|all| all.remove(&env.cast()));
    // The environment waits until every libuv handle is closed and this has been dropped.
    let hook = Rc::new(Hook(Cell::new(handle)));
    let Some(isolate) = isolate else { return };
    for vm in isolate.vms.take() {
        if !vm.close_blocking(CLOSE_LIMIT) {
            // A vCPU that does not leave the guest still uses its memory and this code, which
            // are about to be unmapped: there is no safe way on.
            eprintln!(
                "kvm-core: VM {} did not stop within {} ms of its isolate's end: aborting",
                vm.id(),
                CLOSE_LIMIT.as_millis()
            );
            std::process::abort();
        }
    }
    for doorbell in isolate.doorbells.take() {
        let hook = hook.clone();
        doorbell.close(Box::new(move || drop(hook)));
    }
    isolate.tasks.close(Box::new(move || drop(hook)));
}

/// Tells the environment, when the last clone is dropped, that it can go on.
struct Hook(Cell<sys::napi_async_cleanup_hook_handle>);

impl Drop for Hook {
    fn drop(&mut self) {
        // SAFETY: the handle that the hook was called with, given back once.
        unsafe { sys::napi_remove_async_cleanup_hook(self.0.get()) };
    }
}
