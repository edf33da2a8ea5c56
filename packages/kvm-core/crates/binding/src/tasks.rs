//! JavaScript functions that other threads cause to be called.
//!
//! Rare events only: a vCPU parked or ended, an irqfd was acknowledged, the VM closes. They share
//! one eventfd per isolate; the hot path has the doorbells of the device hosts.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_vm::EventFd;
use napi::bindgen_prelude::{Function, JsValue};
use napi::sys;

use crate::error::{Result, check, js};
use crate::uv::Poll;

/// The side that other threads hold.
#[derive(Debug)]
pub struct Inbox {
    due: Mutex<Vec<u32>>,
    fd: EventFd,
}

impl Inbox {
    /// Has the function of `task` called in its isolate.
    pub fn post(&self, task: u32) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        self.fd.signal();
    }
}

struct Task {
    function: sys::napi_ref,
    /// Called once, and somebody waits for it: the loop must not end before.
    once: bool,
}

/// The functions of one isolate.
pub struct Tasks {
    env: sys::napi_env,
    inbox: Arc<Inbox>,
    poll: RefCell<Option<Poll>>,
    tasks: RefCell<HashMap<u32, Task>>,
    next: Cell<u32>,
    waiting: Cell<u32>,
}

impl Tasks {
    pub fn new(env: sys::napi_env) -> Result<Rc<Self>> {
        let inbox = Arc::new(Inbox { due: Mutex::default(), fd: EventFd::new().map_err(js)? });
        let tasks = Rc::new(Self {
            env,
            inbox,
            poll: RefCell::new(None),
            tasks: RefCell::default(),
            next: Cell::new(1),
            waiting: Cell::new(0),
        });
        let this = Rc::downgrade(&tasks);
        let readable = Box::new(move || {
            if let Some(tasks) = this.upgrade() {
                tasks.run_due();
            }
        });
        let poll = Poll::start(env, tasks.inbox.fd.raw(), readable)?;
        poll.keep_alive(false);
        *tasks.poll.borrow_mut() = Some(poll);
        Ok(tasks)
    }

    /// Registers a function. With `once` it is called at most once and keeps the loop alive until
    /// then. Returns what to post.
    pub fn add(&self, function: &Function<'_, (), ()>, once: bool) -> Result<(Arc<Inbox>, u32)> {
        let mut reference = std::ptr::null_mut();
        // SAFETY: a function value of this call's scope.
        let status =
            unsafe { sys::napi_create_reference(self.env, function.raw(), 1, &raw mut reference) };
        check(status, "napi_create_reference")?;
        let id = self.next.get();
        self.next.set(id.wrapping_add(1).max(1));
        self.tasks.borrow_mut().insert(id, Task { function: reference, once });
        if once {
            self.wait_for(1);
        }
        Ok((self.inbox.clone(), id))
    }

    /// Forgets a function.
    pub fn remove(&self, id: u32) {
        let task = self.tasks.borrow_mut().remove(&id);
        if let Some(task) = task {
            // SAFETY: the reference of `add`, deleted once.
            unsafe { sys::napi_delete_reference(self.env, task.function) };
            if task.once {
                self.wait_for(-1);
            }
        }
    }

    /// Ends the poll handle; `closed` is called when libuv has let go.
    pub fn close(&self, closed: Box<dyn FnOnce()>) {
        match self.poll.borrow_mut().take() {
            Some(mut poll) => poll.close(closed),
            None => closed(),
        }
    }

    fn wait_for(&self, change: i32) {
        let waiting = self.waiting.get().saturating_add_signed(change);
        self.waiting.set(waiting);
        if let Some(poll) = &*self.poll.borrow() {
            poll.keep_alive(waiting > 0);
        }
    }

    fn run_due(&self) {
        self.inbox.fd.take();
        let due =
            std::mem::take(&mut *self.inbox.due.lock().unwrap_or_else(PoisonError::into_inner));
        for id in due {
            let found = self.tasks.borrow().get(&id).map(|task| (task.function, task.once));
            if let Some((function, once)) = found {
                call(self.env, function);
                if once {
                    self.remove(id);
                }
            }
        }
    }
}

/// Calls a function from the event loop, as Node.js calls a callback of its own: promises and
/// ticks run afterwards, and what it throws is an uncaught exception.
pub fn call(env: sys::napi_env, function: sys::napi_ref) {
    // SAFETY: called on the environment's thread, from its loop; all values live in this scope.
    unsafe {
        let mut scope = std::ptr::null_mut();
        if sys::napi_open_handle_scope(env, &raw mut scope) != sys::Status::napi_ok {
            return;
        }
        let (mut callee, mut global) = (std::ptr::null_mut(), std::ptr::null_mut());
        sys::napi_get_reference_value(env, function, &raw mut callee);
        sys::napi_get_global(env, &raw mut global);
        if !callee.is_null() {
            let status = sys::napi_make_callback(
                env,
                std::ptr::null_mut(),
                global,
                callee,
                0,
                std::ptr::null(),
                std::ptr::null_mut(),
            );
            if status == sys::Status::napi_pending_exception {
                let mut error = std::ptr::null_mut();
                sys::napi_get_and_clear_last_exception(env, &raw mut error);
                sys::napi_fatal_exception(env, error);
            }
        }
        sys::napi_close_handle_scope(env, scope);
    }
}
