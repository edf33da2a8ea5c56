//! Pages that native threads and isolates use at the same time.

use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use kvm_abi::{Errno, KvmError};

/// Zeroed, page-aligned memory that is shared with JavaScript. All access is atomic or volatile:
/// the other side may write whatever it likes at any time.
#[derive(Debug)]
pub struct SharedPage {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value, and every access to it is atomic or volatile.
unsafe impl Send for SharedPage {}
// SAFETY: as for Send.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Maps `len` bytes, rounded up to whole pages.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(len: usize) -> Result<Arc<Self>, KvmError> {
        let len = len.next_multiple_of(4096);
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// Maps `len` bytes that belong to `fd`, which may be closed afterwards.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn of_descriptor(fd: RawFd, len: usize) -> Result<Arc<Self>, KvmError> {
        Self::map(len.next_multiple_of(4096), libc::MAP_SHARED, fd)
    }

    fn map(len: usize, flags: libc::c_int, fd: RawFd) -> Result<Arc<Self>, KvmError> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; the result is checked.
        let raw = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, 0) };
        match NonNull::new(raw.cast::<u8>()) {
            Some(base) if raw != libc::MAP_FAILED => Ok(Arc::new(Self { base, len })),
            _ => Err(KvmError::new(Errno::ENOMEM, format!("cannot map {len} bytes"))),
        }
    }

    /// The first byte; valid for `len()` bytes while this value lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    /// If `offset` is outside the page; offsets are constants, never the guest's.
    #[must_use]
    pub fn u8(&self, offset: usize) -> &AtomicU8 {
        self.atomic(offset)
    }

    /// The aligned word at `offset`.
    ///
    /// # Panics
    /// As [`u8`](Self::u8).
    #[must_use]
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        self.atomic(offset)
    }

    /// The aligned double word at `offset`.
    ///
    /// # Panics
    /// As [`u8`](Self::u8).
    #[must_use]
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        self.atomic(offset)
    }

    fn atomic<T>(&self, offset: usize) -> &T {
        assert!(offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.len);
        // SAFETY: in bounds and aligned (the base is page-aligned); T is an atomic integer, for
        // which all bits are valid and shared writes are defined.
        unsafe { self.base.add(offset).cast::<T>().as_ref() }
    }

    /// Copies `N` bytes from `offset`.
    ///
    /// # Panics
    /// As [`u8`](Self::u8).
    #[must_use]
    pub fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
        assert!(offset + N <= self.len);
        // SAFETY: in bounds, and a byte array has no alignment.
        unsafe { self.base.add(offset).cast::<[u8; N]>().read_volatile() }
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Panics
    /// As [`u8`](Self::u8).
    pub fn copy(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.len);
        for (i, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: in bounds.
            *byte = unsafe { self.base.add(offset + i).read_volatile() };
        }
    }

    /// Copies bytes to `offset`.
    ///
    /// # Panics
    /// As [`u8`](Self::u8).
    pub fn set(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: in bounds.
            unsafe { self.base.add(offset + i).write_volatile(*byte) };
        }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping; every array buffer over it holds an `Arc`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
