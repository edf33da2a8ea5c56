//! io_uring as an object of JavaScript: requests cross one by one, the kernel is told of many at once, and completions
//! come back in batches.

mod buffers;

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use ::ioring::{Operation, Ring, refusal};
use napi::bindgen_prelude::{Array, Float64ArraySlice, Function, JsValue};
use napi::{Env, sys};
use napi_derive::napi;

use crate::errno::{self, Result, js};
use crate::watch::Watch;
use buffers::{Held, vectors};

/// Requests that the kernel is told of at once; twice as many may be under way, and any number may wait for that.
const ENTRIES: u32 = 256;
/// Numbers for each completion: tag, result.
const COMPLETION_NUMBERS: usize = 2;

/// Why this host has no io_uring for this process, as the end of a sentence; null when it has.
#[napi]
pub fn io_ring_refusal() -> Option<String> {
    Ring::new(1).err().map(|error| refusal(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Requests to files may wait: without `O_NONBLOCK` the kernel does not refuse those that would, on file systems where it
/// cannot tell beforehand.
#[napi]
pub fn clear_nonblock(fd: RawFd) -> Result<()> {
    // SAFETY: no memory is involved; a wrong descriptor is an errno.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: as above.
    if flags < 0 || unsafe { libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK) } < 0 {
        return Err(errno::last("fcntl"));
    }
    Ok(())
}

/// A ring of the calling isolate's.
#[napi]
#[derive(Debug)]
pub struct IoRing {
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    env: sys::napi_env,
    ring: RefCell<Option<Ring>>,
    held: RefCell<Option<Held>>,
    watch: RefCell<Option<Rc<Watch>>>,
    /// Requests are under way, and a hook waits for the end of the environment.
    busy: Cell<bool>,
}

#[napi]
impl IoRing {
    /// Throws with the errno of io_uring_setup(2) as its `code` where the host does not allow it.
    #[napi(constructor)]
    pub fn new(env: Env) -> Result<Self> {
        let ring = Ring::new(ENTRIES)
            .map_err(|error| js(error.raw_os_error().unwrap_or(libc::EIO), "io_uring"))?;
        let state = Rc::new(State {
            env: env.raw(),
            ring: RefCell::new(Some(ring)),
            held: RefCell::new(Some(Held::new(env.raw())?)),
            watch: RefCell::new(None),
            busy: Cell::new(false),
        });
        Ok(Self { state })
    }

    /// Calls `on_ready` from the event loop while there are completions to be taken. The loop does not end while requests
    /// are under way.
    #[napi]
    pub fn watch(&self, env: Env, on_ready: Function<'_, (), ()>) -> Result<()> {
        let state = &self.state;
        let ring = state.ring.borrow();
        let ring = ring.as_ref().ok_or_else(|| js(libc::EBADF, "a closed ring"))?;
        if let Some(old) = state.watch.take() {
            old.close();
        }
        *state.watch.borrow_mut() = Some(Watch::start(env.raw(), ring.as_raw_fd(), &on_ready)?);
        state.keep_alive();
        Ok(())
    }

    /// Queues a request to the file `fd`, and returns its tag or a negative errno. `operation`: 0 reads into the views
    /// of `buffers`, 1 writes from them, 2 is fdatasync(2), 3 reads on a thread of the kernel. The list is kept, and must not be changed, until the completion
    /// was taken.
    #[napi]
    pub fn queue(&self, operation: u32, fd: RawFd, offset: i64, buffers: Array<'_>) -> i32 {
        let operation = match operation {
            0 => Operation::Read,
            1 => Operation::Write,
            2 => Operation::Flush,
            3 => Operation::ReadApart,
            _ => return -libc::EINVAL,
        };
        let state = &self.state;
        let (mut ring, mut held) = (state.ring.borrow_mut(), state.held.borrow_mut());
        let (Some(ring), Some(held)) = (ring.as_mut(), held.as_mut()) else {
            return -libc::EBADF;
        };
        let Ok(offset) = u64::try_from(offset) else { return -libc::EINVAL };
        let mut parts = ring.list();
        if !vectors(state.env, buffers.raw(), &mut parts) {
            return -libc::EINVAL;
        }
        if !state.begin() {
            return -libc::EIO;
        }
        // SAFETY: the parts are those of views that `held` keeps until the completion was taken, and where the
        // environment ends before that, `clean_up` waits for the kernel. Who changes memory that is being written has what he did
        // written; nothing else than the kernel reads or writes through these pointers.
        let tag = unsafe { ring.queue(operation, fd, offset, parts) };
        held.put(tag, buffers.raw());
        i32::try_from(tag).unwrap_or(-libc::ENOMEM)
    }

    /// Tells the kernel of what was queued. Returns 1 when it must be called again for some of it, 0, or a negative errno
    /// when the ring is of no use any more.
    #[napi]
    pub fn submit(&self) -> i32 {
        let mut ring = self.state.ring.borrow_mut();
        let Some(ring) = ring.as_mut() else { return -libc::EBADF };
        match ring.submit() {
            Ok(()) => i32::from(ring.is_stalled()),
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    /// Takes completions: for each a tag, and bytes or a negative errno, into `completions`. Returns how many there are, or a
    /// negative errno as `submit`. When `completions` is full there may be more.
    #[napi]
    pub fn take(&self, mut completions: Float64ArraySlice<'_>) -> i32 {
        let state = &self.state;
        let (mut ring, mut held) = (state.ring.borrow_mut(), state.held.borrow_mut());
        let (Some(ring), Some(held)) = (ring.as_mut(), held.as_mut()) else {
            return -libc::EBADF;
        };
        // SAFETY: JavaScript does not run meanwhile, and nothing else looks at the memory.
        let out = unsafe { completions.as_mut() };
        let mut places = out.chunks_exact_mut(COMPLETION_NUMBERS);
        let taken = ring.take(places.len(), |done| {
            held.release(done.tag);
            if let Some(place) = places.next() {
                place[0] = f64::from(done.tag);
                place[1] = done.result as f64;
            }
        });
        if ring.outstanding() == 0 {
            state.end();
        }
        match taken {
            Ok(count) => count as i32,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    /// Waits for what the kernel is doing, and forgets all requests.
    #[napi]
    pub fn close(&self) {
        self.state.close();
    }
}

impl Drop for IoRing {
    fn drop(&mut self) {
        self.state.close();
    }
}

impl State {
    fn keep_alive(&self) {
        if let Some(watch) = self.watch.borrow().as_ref() {
            watch.keep_alive(self.busy.get());
        }
    }

    /// Before a request: the event loop goes on, and the environment does not end without `clean_up`. Hooks run in the
    /// opposite order of their coming. This one comes with the requests, so later than that of whoever owns the memory that
    /// they are for, and runs while that is still there.
    fn begin(self: &Rc<Self>) -> bool {
        if self.busy.get() {
            return true;
        }
        let data = Rc::into_raw(self.clone()).cast_mut().cast::<c_void>();
        // SAFETY: the data is a reference of its own, which `clean_up` or `end` gives back.
        let status = unsafe { sys::napi_add_env_cleanup_hook(self.env, Some(clean_up), data) };
        if status != sys::Status::napi_ok {
            // SAFETY: the hook was not registered: the reference is still ours.
            drop(unsafe { Rc::from_raw(data.cast::<Self>()) });
            return false;
        }
        self.busy.set(true);
        self.keep_alive();
        true
    }

    /// No request is under way.
    fn end(self: &Rc<Self>) {
        if !self.busy.replace(false) {
            return;
        }
        let data = Rc::as_ptr(self).cast_mut().cast::<c_void>();
        // SAFETY: the hook of `begin` has not run, and will not: its reference to this is given back here.
        unsafe {
            sys::napi_remove_env_cleanup_hook(self.env, Some(clean_up), data);
            drop(Rc::from_raw(Rc::as_ptr(self)));
        }
        self.keep_alive();
    }

    /// The poll handle goes before the descriptor does, and the kernel lets go of the buffers before they are free.
    fn close(self: &Rc<Self>) {
        if let Some(watch) = self.watch.take() {
            watch.close();
        }
        drop(self.ring.take());
        drop(self.held.take());
        self.end();
    }
}

/// Runs when the environment ends, before the memory of requests goes.
unsafe extern "C" fn clean_up(data: *mut c_void) {
    // SAFETY: the reference that `begin` made for this hook, which runs once.
    let state = unsafe { Rc::from_raw(data.cast::<State>()) };
    state.busy.set(false);
    state.close();
}
