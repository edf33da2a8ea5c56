//! An interface of the host's as a cable: frames that the host sends there come here, and back.
//!
//! Frames cross in batches, as records: their length, the header of `virtio_net`, and the frame. The kernel has them in the
//! same form, so nothing is copied twice.

mod bridge;
mod device;

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::{Function, Uint8Array};
use napi_derive::napi;

use crate::errno::{Result, js};
use crate::watch::Watch;

/// Bytes of a record before its header, and before its frame.
const LENGTH_BYTES: usize = 4;
const HEADER_BYTES: usize = 12;
/// No frame is longer.
const MAX_FRAME: usize = 65_550;

/// An interface, for as long as it is open.
#[napi]
#[derive(Debug)]
pub struct Tap {
    fd: Option<OwnedFd>,
    watch: Option<Rc<Watch>>,
    name: String,
}

#[napi]
impl Tap {
    /// Attaches to the interface `name`, which is made when there is none; an empty name lets the kernel choose. Throws
    /// `EACCES` or `EPERM` without the right to, `ENOENT` where the host has no such interfaces, `EBUSY` when another has it.
    #[napi(constructor)]
    pub fn new(name: String) -> Result<Self> {
        let (fd, name) = device::open(&name)?;
        Ok(Self { fd: Some(fd), watch: None, name })
    }

    /// Makes an interface and puts it into a bridge. Throws `EACCES` or `EPERM` without the right to, `ENODEV` when
    /// there is no such bridge.
    #[napi(factory)]
    pub fn in_bridge(bridge: String) -> Result<Self> {
        let (fd, name) = bridge::open(&bridge)?;
        Ok(Self { fd: Some(fd), watch: None, name })
    }

    /// The same through a program that has the right to, such as qemu-bridge-helper. Waits for it. Throws `EPROTO` when
    /// it ends without an interface, `ENOENT` or `EACCES` when it cannot be run.
    #[napi(factory)]
    pub fn by_helper(helper: String, bridge: String) -> Result<Self> {
        let (fd, name) = bridge::open_by(&helper, &bridge)?;
        Ok(Self { fd: Some(fd), watch: None, name })
    }

    /// Takes the interface that is open as descriptor `fd`, which stays its owner's. Throws `EBADF` when there is none, `EPROTO` for
    /// one without headers of virtio, or for what is no interface.
    #[napi(factory)]
    pub fn from_fd(fd: i32) -> Result<Self> {
        let fd = device::duplicate(fd)?;
        let name = device::adopt(&fd)?;
        Ok(Self { fd: Some(fd), watch: None, name })
    }

    /// What the interface is called.
    #[napi(getter)]
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Calls `on_ready` from the event loop while there are frames to read.
    #[napi]
    pub fn watch(&mut self, env: Env, on_ready: Function<'_, (), ()>) -> Result<()> {
        self.unwatch();
        let fd = self.fd.as_ref().ok_or_else(|| js(libc::EBADF, "a tap that was closed"))?;
        self.watch = Some(Watch::start(env.raw(), fd.as_raw_fd(), &on_ready)?);
        Ok(())
    }

    /// Calls it no longer.
    #[napi]
    pub fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.close();
        }
    }

    /// What the guest's card takes in headers: partial checksums 1, TCP in one piece 2 and 4, with ECN 8.
    #[napi]
    pub fn set_accepts(&self, accepts: u32) -> Result<()> {
        match &self.fd {
            Some(fd) => device::set_offload(fd, accepts),
            None => Ok(()),
        }
    }

    /// Writes records of what there is behind the `used` bytes of `out`. Returns twice the number of bytes that are used
    /// then, and 1 more when there was no room for all; -1 when the interface is gone.
    #[napi]
    pub fn read(&mut self, mut out: Uint8Array, used: u32) -> i32 {
        let Some(fd) = &self.fd else { return -1 };
        // SAFETY: JavaScript does not run meanwhile, and nothing else looks at the memory.
        let bytes = unsafe { out.as_mut() };
        let mut used = used as usize;
        loop {
            let Some(rest) = bytes.get_mut(used..) else { return -1 };
            if rest.len() < LENGTH_BYTES + HEADER_BYTES + MAX_FRAME + 3 {
                return (used as i32) << 1 | 1;
            }
            match device::read(fd, &mut rest[LENGTH_BYTES..][..HEADER_BYTES + MAX_FRAME]) {
                // Shorter ones are no frames of Ethernet.
                Ok(length) if length < HEADER_BYTES + 14 => {}
                Ok(length) => {
                    rest[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
                    // How many buffers it needs is not the host's to say.
                    rest[LENGTH_BYTES + 10..][..2].fill(0);
                    used += (LENGTH_BYTES + length + 3) & !3;
                }
                Err(libc::EAGAIN) => return (used as i32) << 1,
                Err(libc::EINTR) => {}
                Err(_) => return -1,
            }
        }
    }

    /// Sends the records of `batch` from `from` to `used`. Returns the first that has to wait; -1 when the interface is
    /// gone, or for what are no records. While the interface is down frames are lost.
    #[napi]
    pub fn write(&mut self, batch: Uint8Array, from: u32, used: u32) -> i32 {
        let Some(fd) = &self.fd else { return -1 };
        let Some(records) = batch.get(..used as usize) else { return -1 };
        let mut at = from as usize;
        while at < records.len() {
            let Some(length) = records.get(at..at + LENGTH_BYTES) else { return -1 };
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let Some(frame) = records.get(at + LENGTH_BYTES..).and_then(|rest| rest.get(..length))
            else {
                return -1;
            };
            match device::write(fd, frame) {
                Err(libc::EAGAIN) => return at as i32,
                Err(libc::EINTR) => continue,
                Err(libc::EBADFD) => return -1,
                // One that the host does not take, or an interface that is down.
                Ok(()) | Err(_) => {}
            }
            at += (LENGTH_BYTES + length + 3) & !3;
        }
        at as i32
    }

    /// Lets go of the interface; one that was made for this is gone.
    #[napi]
    pub fn close(&mut self) {
        self.unwatch();
        self.fd = None;
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.close();
    }
}
