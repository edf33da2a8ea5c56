//! A descriptor that a function of JavaScript is called for.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::rc::Rc;

use napi::bindgen_prelude::{Function, JsValue};
use napi::sys;

use crate::errno::{Result, check};
use crate::uv::Poll;

/// Open until it is closed or the environment ends, whichever is first.
#[derive(Debug)]
pub struct Watch {
    env: sys::napi_env,
    function: Cell<sys::napi_ref>,
    poll: RefCell<Option<Poll>>,
    hook: Cell<sys::napi_async_cleanup_hook_handle>,
}

impl Watch {
    /// Calls `function` whenever `fd` can be read. It does not keep the event loop alive.
    pub fn start(
        env: sys::napi_env,
        fd: RawFd,
        function: &Function<'_, (), ()>,
    ) -> Result<Rc<Self>> {
        Self::start_unless(env, fd, function, Box::new(|| false))
    }

    /// The same, but for when `served` has done what there was to do, and says so.
    pub fn start_unless(
        env: sys::napi_env,
        fd: RawFd,
        function: &Function<'_, (), ()>,
        served: Box<dyn Fn() -> bool>,
    ) -> Result<Rc<Self>> {
        let mut reference = std::ptr::null_mut();
        // SAFETY: a function value of this call's scope.
        let status =
            unsafe { sys::napi_create_reference(env, function.raw(), 1, &raw mut reference) };
        check(status, "napi_create_reference")?;
        let watch = Self::with(env, reference);
        let this = Rc::downgrade(&watch);
        let readable = Box::new(move || {
            if !served()
                && let Some(watch) = this.upgrade()
            {
                watch.call();
            }
        });
        watch.begin(fd, readable)
    }

    /// Calls `readable`, which is no function of JavaScript, whenever `fd` can be read.
    pub fn native(env: sys::napi_env, fd: RawFd, readable: Box<dyn Fn()>) -> Result<Rc<Self>> {
        Self::with(env, std::ptr::null_mut()).begin(fd, readable)
    }

    fn with(env: sys::napi_env, function: sys::napi_ref) -> Rc<Self> {
        Rc::new(Self {
            env,
            function: Cell::new(function),
            poll: RefCell::new(None),
            hook: Cell::new(std::ptr::null_mut()),
        })
    }

    fn begin(self: Rc<Self>, fd: RawFd, readable: Box<dyn Fn()>) -> Result<Rc<Self>> {
        let env = self.env;
        let watch = self;
        let poll = match Poll::start(env, fd, readable) {
            Ok(poll) => poll,
            Err(error) => {
                watch.stop(Box::new(|| ()));
                return Err(error);
            }
        };
        poll.keep_alive(false);
        *watch.poll.borrow_mut() = Some(poll);
        let mut hook = std::ptr::null_mut();
        let data = Rc::into_raw(watch.clone()).cast_mut().cast::<c_void>();
        // SAFETY: the data is a reference of its own, which `clean_up` or `close` gives back.
        let status =
            unsafe { sys::napi_add_async_cleanup_hook(env, Some(clean_up), data, &raw mut hook) };
        if let Err(error) = check(status, "napi_add_async_cleanup_hook") {
            // SAFETY: the hook was not registered: the reference is still ours.
            drop(unsafe { Rc::from_raw(data.cast::<Self>()) });
            watch.stop(Box::new(|| ()));
            return Err(error);
        }
        watch.hook.set(hook);
        Ok(watch)
    }

    /// Whether the event loop goes on as long as this watches.
    pub fn keep_alive(&self, alive: bool) {
        if let Some(poll) = self.poll.borrow().as_ref() {
            poll.keep_alive(alive);
        }
    }

    /// Watches no longer.
    pub fn close(self: &Rc<Self>) {
        let hook = self.hook.replace(std::ptr::null_mut());
        if hook.is_null() {
            return;
        }
        // SAFETY: the hook has not run, and will not: its reference to this is given back here.
        unsafe {
            sys::napi_remove_async_cleanup_hook(hook);
            drop(Rc::from_raw(Rc::as_ptr(self)));
        }
        self.stop(Box::new(|| ()));
    }

    fn stop(&self, closed: Box<dyn FnOnce()>) {
        let function = self.function.replace(std::ptr::null_mut());
        if !function.is_null() {
            // SAFETY: the reference of `start`, deleted once.
            unsafe { sys::napi_delete_reference(self.env, function) };
        }
        match self.poll.borrow_mut().take() {
            Some(mut poll) => poll.close(closed),
            None => closed(),
        }
    }

    /// As Node.js calls a callback of its own: promises and ticks run afterwards, and what it throws is
    /// an uncaught exception.
    pub fn call(&self) {
        let (env, function) = (self.env, self.function.get());
        if function.is_null() {
            return;
        }
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
                let (context, result) = (std::ptr::null_mut(), std::ptr::null_mut());
                let none = std::ptr::null();
                let status = sys::napi_make_callback(env, context, global, callee, 0, none, result);
                if status == sys::Status::napi_pending_exception {
                    let mut error = std::ptr::null_mut();
                    sys::napi_get_and_clear_last_exception(env, &raw mut error);
                    sys::napi_fatal_exception(env, error);
                }
            }
            sys::napi_close_handle_scope(env, scope);
        }
    }
}

/// Runs when the environment ends. JavaScript cannot run any more.
unsafe extern "C" fn clean_up(handle: sys::napi_async_cleanup_hook_handle, data: *mut c_void) {
    // SAFETY: the reference that `start` made for this hook, which runs once.
    let watch = unsafe { Rc::from_raw(data.cast::<Watch>()) };
    watch.hook.set(std::ptr::null_mut());
    // The environment waits until libuv has let go.
    // SAFETY: the handle that the hook was called with, given back once.
    watch.stop(Box::new(move || unsafe {
        sys::napi_remove_async_cleanup_hook(handle);
    }));
}
