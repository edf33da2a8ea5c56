//! Pseudo-terminals (pty(7)): the master's side, whose other end any program can open by its name.

use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::{Function, Uint8ArraySlice};
use napi_derive::napi;

use crate::errno::{self, Result, js};
use crate::watch::Watch;

/// Bits of `poll`.
const READABLE: u32 = 1;
const WRITABLE: u32 = 2;
const HUNG_UP: u32 = 4;

/// Linux has names such as `/dev/pts/12`.
const NAME_BYTES: usize = 128;

/// The master's side of a new pseudo-terminal.
#[napi]
#[derive(Debug)]
pub struct Pty {
    /// None once it was closed.
    fd: Option<OwnedFd>,
    path: String,
    watch: Option<Rc<Watch>>,
}

#[napi]
impl Pty {
    /// Opens a pseudo-terminal that passes bytes as they are. Throws when the host has no more of them.
    #[napi(constructor)]
    pub fn new() -> Result<Self> {
        // SAFETY: no memory is involved.
        let raw = unsafe {
            libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC)
        };
        if raw < 0 {
            return Err(errno::last("posix_openpt"));
        }
        // SAFETY: a descriptor that was just opened, and that nothing else knows.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: no memory is involved.
        check(unsafe { libc::grantpt(raw) }, "grantpt")?;
        // SAFETY: no memory is involved.
        check(unsafe { libc::unlockpt(raw) }, "unlockpt")?;
        let mut name: [c_char; NAME_BYTES] = [0; NAME_BYTES];
        // SAFETY: writes at most `NAME_BYTES` bytes, with a zero at their end.
        let failed = unsafe { libc::ptsname_r(raw, name.as_mut_ptr(), NAME_BYTES) };
        if failed != 0 {
            return Err(js(failed, "ptsname"));
        }
        // SAFETY: `ptsname_r` has put a zero there.
        let path = unsafe { CStr::from_ptr(name.as_ptr()) };
        make_raw(path)?;
        let path = path.to_string_lossy().into_owned();
        Ok(Self { fd: Some(fd), path, watch: None })
    }

    /// The name of the other end.
    #[napi(getter)]
    pub fn path(&self) -> String {
        self.path.clone()
    }

    /// What can be done now: the sum of 1 (bytes to read), 2 (room to write) and 4 (nobody has the
    /// other end open).
    #[napi]
    pub fn poll(&self) -> u32 {
        let Some(fd) = &self.fd else { return HUNG_UP };
        let events = libc::POLLIN | libc::POLLOUT;
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
        // SAFETY: one `pollfd`, which lives until the call returns; it does not wait.
        if unsafe { libc::poll(&raw mut poll, 1, 0) } < 0 {
            return 0;
        }
        let bit = |mask: i16, bit: u32| if poll.revents & mask == 0 { 0 } else { bit };
        bit(libc::POLLIN, READABLE)
            | bit(libc::POLLOUT, WRITABLE)
            | bit(libc::POLLHUP | libc::POLLERR, HUNG_UP)
    }

    /// Reads without waiting, into `buffer`: how many bytes, or a negative errno.
    #[napi]
    pub fn read(&self, mut buffer: Uint8ArraySlice<'_>) -> i32 {
        let Some(fd) = &self.fd else { return -libc::EBADF };
        // SAFETY: nobody else has a reference into the array during this call.
        let bytes = unsafe { buffer.as_mut() };
        // SAFETY: the kernel writes within the array, which lives as long as this call.
        moved(unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) })
    }

    /// Writes what there is room for, without waiting: how many bytes, or a negative errno.
    #[napi]
    pub fn write(&self, data: &[u8]) -> i32 {
        let Some(fd) = &self.fd else { return -libc::EBADF };
        // SAFETY: the kernel reads within the slice, which lives as long as this call.
        moved(unsafe { libc::write(fd.as_raw_fd(), data.as_ptr().cast(), data.len()) })
    }

    /// Calls `on_ready` from the event loop whenever there are bytes to read or the other end was closed,
    /// again and again until that is seen to or `unwatch` is called.
    #[napi]
    pub fn watch(&mut self, env: Env, on_ready: Function<'_, (), ()>) -> Result<()> {
        self.unwatch();
        let Some(fd) = &self.fd else { return Err(js(libc::EBADF, "a closed pseudo-terminal")) };
        self.watch = Some(Watch::start(env.raw(), fd.as_raw_fd(), &on_ready)?);
        Ok(())
    }

    /// Watches no longer.
    #[napi]
    pub fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.close();
        }
    }

    /// The other end is hung up.
    #[napi]
    pub fn close(&mut self) {
        self.unwatch();
        self.fd = None;
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.close();
    }
}

/// The settings belong to the terminal, and stay when its other end is closed again; from then on it can be
/// told whether somebody has it open.
fn make_raw(path: &CStr) -> Result<()> {
    // SAFETY: a string with a zero at its end.
    let raw = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    if raw < 0 {
        return Err(errno::last("open of a pseudo-terminal"));
    }
    // SAFETY: a descriptor that was just opened, and that nothing else knows.
    let end = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: plain data, for which all zeroes is a value.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: writes one `termios`, which lives until the call returns.
    check(unsafe { libc::tcgetattr(end.as_raw_fd(), &raw mut settings) }, "tcgetattr")?;
    // SAFETY: changes one `termios`.
    unsafe { libc::cfmakeraw(&raw mut settings) };
    // SAFETY: reads one `termios`, which lives until the call returns.
    let set = unsafe { libc::tcsetattr(end.as_raw_fd(), libc::TCSAFLUSH, &raw const settings) };
    check(set, "tcsetattr")
}

fn check(status: i32, what: &str) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(errno::last(what)) }
}

fn moved(count: isize) -> i32 {
    if count < 0 { -errno::last_errno() } else { i32::try_from(count).unwrap_or(i32::MAX) }
}
