//! The few calls of libuv that watching a descriptor needs.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr::NonNull;

use napi::sys;

use crate::errno::{Result, check, js};

/// `UV_POLL` of `uv_handle_type`.
const UV_POLL: c_int = 8;
const UV_READABLE: c_int = 1;

#[repr(C)]
struct UvHandle {
    _opaque: [u8; 0],
}

type UvLoop = sys::uv_loop_s;

unsafe extern "C" {
    fn uv_handle_size(kind: c_int) -> usize;
    fn uv_poll_init(of: *mut UvLoop, handle: *mut UvHandle, fd: c_int) -> c_int;
    fn uv_poll_start(
        handle: *mut UvHandle,
        events: c_int,
        callback: extern "C" fn(*mut UvHandle, c_int, c_int),
    ) -> c_int;
    fn uv_poll_stop(handle: *mut UvHandle) -> c_int;
    fn uv_close(handle: *mut UvHandle, callback: extern "C" fn(*mut UvHandle));
    fn uv_handle_get_data(handle: *const UvHandle) -> *mut c_void;
    fn uv_handle_set_data(handle: *mut UvHandle, data: *mut c_void);
    fn uv_ref(handle: *mut UvHandle);
    fn uv_unref(handle: *mut UvHandle);
}

/// What a handle calls on the loop's thread.
struct Callbacks {
    readable: Box<dyn Fn()>,
    closed: Option<Box<dyn FnOnce()>>,
}

/// A `uv_poll_t` for reading. Its memory is given back in the close callback, as libuv needs it
/// until then.
#[derive(Debug)]
pub struct Poll {
    handle: Option<NonNull<UvHandle>>,
}

fn layout() -> Layout {
    // SAFETY: no pointers.
    let size = unsafe { uv_handle_size(UV_POLL) };
    Layout::from_size_align(size.max(1), 16).unwrap_or(Layout::new::<[u64; 64]>())
}

impl Poll {
    /// Calls `readable` on the loop of `env` whenever `fd` can be read.
    pub fn start(env: sys::napi_env, fd: RawFd, readable: Box<dyn Fn()>) -> Result<Self> {
        let uv = event_loop(env)?;
        // SAFETY: the layout is not empty.
        let raw = unsafe { alloc_zeroed(layout()) }.cast::<UvHandle>();
        let Some(handle) = NonNull::new(raw) else {
            return Err(js(libc::ENOMEM, "a poll handle"));
        };
        // SAFETY: the memory has the size of a poll handle; the loop is the environment's.
        let status = unsafe { uv_poll_init(uv, raw, fd) };
        if status != 0 {
            // SAFETY: a handle that was not initialised is plain memory.
            unsafe { dealloc(raw.cast(), layout()) };
            return Err(js(-status, "uv_poll_init"));
        }
        let callbacks = Box::new(Callbacks { readable, closed: None });
        // SAFETY: an initialised handle, whose data is this box until the close callback.
        let status = unsafe {
            uv_handle_set_data(raw, Box::into_raw(callbacks).cast());
            uv_poll_start(raw, UV_READABLE, on_readable)
        };
        let mut poll = Self { handle: Some(handle) };
        if status != 0 {
            poll.close(Box::new(|| ()));
            return Err(js(-status, "uv_poll_start"));
        }
        Ok(poll)
    }

    /// Whether the event loop goes on as long as this handle is open.
    pub fn keep_alive(&self, alive: bool) {
        if let Some(handle) = self.handle {
            // SAFETY: an open handle of this thread's loop. Both calls may be repeated.
            unsafe { if alive { uv_ref(handle.as_ptr()) } else { uv_unref(handle.as_ptr()) } };
        }
    }

    /// Stops and closes; `closed` is called when libuv has let go.
    pub fn close(&mut self, closed: Box<dyn FnOnce()>) {
        let Some(handle) = self.handle.take() else {
            closed();
            return;
        };
        // SAFETY: an open handle of this thread's loop; its data is the box of `start`.
        unsafe {
            let callbacks = uv_handle_get_data(handle.as_ptr()).cast::<Callbacks>();
            (*callbacks).closed = Some(closed);
            uv_poll_stop(handle.as_ptr());
            uv_close(handle.as_ptr(), on_closed);
        }
    }
}

extern "C" fn on_readable(handle: *mut UvHandle, _status: c_int, _events: c_int) {
    // SAFETY: libuv calls back only for open handles; the data is the box of `start`. It lives
    // until the close callback, which cannot run inside this call.
    let callbacks = unsafe { &*uv_handle_get_data(handle).cast::<Callbacks>() };
    (callbacks.readable)();
}

extern "C" fn on_closed(handle: *mut UvHandle) {
    // SAFETY: the last use of the handle: box and memory are given back, once.
    let callbacks = unsafe {
        let callbacks = Box::from_raw(uv_handle_get_data(handle).cast::<Callbacks>());
        dealloc(handle.cast(), layout());
        callbacks
    };
    let Callbacks { readable, closed } = *callbacks;
    drop(readable);
    if let Some(closed) = closed {
        closed();
    }
}

fn event_loop(env: sys::napi_env) -> Result<*mut UvLoop> {
    let mut uv = std::ptr::null_mut();
    // SAFETY: the environment of the call.
    check(unsafe { sys::napi_get_uv_event_loop(env, &raw mut uv) }, "napi_get_uv_event_loop")?;
    Ok(uv)
}
