//! The `kvm_run` page as the engine itself uses it.

use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_abi::KvmError;

use crate::error::refused;

/// A mapping of a vCPU's `kvm_run`. The kernel and JavaScript write to it as well, so that every
/// value is fetched once and checked after.
#[derive(Debug)]
pub(crate) struct RunPage {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value, and every access to it is volatile or atomic.
unsafe impl Send for RunPage {}
// SAFETY: as for Send.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// Maps `len` bytes of vCPU `fd`.
    pub fn map(fd: RawFd, len: usize) -> Result<Arc<Self>, KvmError> {
        // SAFETY: a fresh mapping at an address of the kernel's choice; the result is checked.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        match NonNull::new(raw.cast::<u8>()) {
            Some(base) if raw != libc::MAP_FAILED => Ok(Arc::new(Self { base, len })),
            _ => {
                let os = std::io::Error::last_os_error();
                Err(refused("to map kvm_run", os.raw_os_error().unwrap_or(libc::EIO)))
            }
        }
    }

    /// `N` bytes from `at`; zeros outside the mapping.
    pub fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        if at.checked_add(N).is_none_or(|end| end > self.len) {
            return [0; N];
        }
        // SAFETY: in bounds, and a byte array has no alignment.
        unsafe { self.base.add(at).cast::<[u8; N]>().read_volatile() }
    }

    /// Writes bytes from `at`; nothing outside the mapping.
    pub fn set(&self, at: usize, bytes: &[u8]) {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return;
        }
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: in bounds.
            unsafe { self.base.add(at + i).write_volatile(*byte) };
        }
    }

    /// The word at `at`.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at))
    }

    /// The `immediate_exit` byte.
    pub fn immediate_exit(&self) -> bool {
        self.byte(kvm_abi::exit::run::IMMEDIATE_EXIT).load(Ordering::SeqCst) != 0
    }

    /// Sets or clears `immediate_exit`.
    pub fn set_immediate_exit(&self, on: bool) {
        self.byte(kvm_abi::exit::run::IMMEDIATE_EXIT).store(u8::from(on), Ordering::SeqCst);
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.len);
        // SAFETY: in bounds; for atomic bytes shared writes are defined.
        unsafe { self.base.add(at).cast::<AtomicU8>().as_ref() }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
