//! A thread that waits for descriptors: irqfds that other processes may signal, and timers.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kvm_abi::{Errno, KvmError};

use crate::sys::{EventFd, owned};

type Handler = Arc<dyn Fn() + Send + Sync>;
const WAKE: u64 = 0;

/// The event thread of a VM; started by the first registration.
#[derive(Default)]
pub(crate) struct EventLoop {
    inner: Mutex<Option<Inner>>,
}

struct Inner {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    next: u64,
}

struct Shared {
    epoll: OwnedFd,
    wake: EventFd,
    handlers: Mutex<HashMap<u64, Handler>>,
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").finish_non_exhaustive()
    }
}

impl EventLoop {
    /// Calls `handler` on the event thread whenever `fd` is readable. The handler takes what
    /// made it readable. Returns a key for `remove`.
    pub fn add(&self, fd: RawFd, handler: Handler) -> Result<u64, KvmError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = match &mut *inner {
            Some(inner) => inner,
            empty => empty.insert(start()?),
        };
        let key = inner.next;
        inner.next += 1;
        let handlers = &inner.shared.handlers;
        handlers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, handler);
        inner.shared.watch(fd, key)?;
        Ok(key)
    }

    /// Ends a registration. A call that is under way may still finish after this returns.
    pub fn remove(&self, fd: RawFd, key: u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = &*inner {
            // SAFETY: plain descriptors; an error means that it is not registered any more.
            unsafe {
                let epoll = inner.shared.epoll.as_raw_fd();
                libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
            }
            let mut handlers = inner.shared.handlers.lock().unwrap_or_else(PoisonError::into_inner);
            handlers.remove(&key);
        }
    }

    /// Ends the thread and forgets all registrations.
    pub fn stop(&self) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(inner) = inner {
            inner.shared.handlers.lock().unwrap_or_else(PoisonError::into_inner).clear();
            inner.shared.wake.signal();
            // A handler must not end its own loop; everyone else waits for the thread.
            if inner.thread.thread().id() != std::thread::current().id() {
                let _ = inner.thread.join();
            }
        }
    }
}

fn start() -> Result<Inner, KvmError> {
    // SAFETY: no pointers.
    let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }, "an epoll descriptor")?;
    let shared = Arc::new(Shared { epoll, wake: EventFd::new()?, handlers: Mutex::default() });
    shared.watch(shared.wake.raw(), WAKE)?;
    let for_thread = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name("kvm-events".into())
        .stack_size(256 << 10)
        .spawn(move || for_thread.run())
        .map_err(|e| KvmError::new(Errno::EAGAIN, format!("cannot start a thread: {e}")))?;
    Ok(Inner { shared, thread, next: WAKE + 1 })
}

impl Shared {
    fn watch(&self, fd: RawFd, key: u64) -> Result<(), KvmError> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        // SAFETY: the event is a live variable.
        let done = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        };
        if done != 0 {
            let os = std::io::Error::last_os_error();
            return Err(KvmError::new(
                Errno::EIO,
                format!("cannot wait for descriptor {fd}: {os}"),
            ));
        }
        Ok(())
    }

    fn run(&self) {
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; 32];
        loop {
            // SAFETY: the array is live and its length is the one given.
            let n = unsafe {
                libc::epoll_wait(
                    self.epoll.as_raw_fd(),
                    ready.as_mut_ptr(),
                    ready.len() as libc::c_int,
                    -1,
                )
            };
            let n = usize::try_from(n).unwrap_or(0);
            for event in &ready[..n] {
                let key = event.u64;
                if key == WAKE {
                    return;
                }
                let handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
                let handler = handlers.get(&key).cloned();
                drop(handlers);
                if let Some(handler) = handler {
                    handler();
                }
            }
        }
    }
}
