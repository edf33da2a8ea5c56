//! Mappings of host memory that serve as guest RAM.

use std::alloc::{Layout, alloc_zeroed};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use kvm_abi::{Errno, KvmError};

use crate::{PAGE_BYTES, smaps};

/// Alignment of every mapping, the size of an x86 large page.
const HUGE_BYTES: usize = 2 << 20;
const MEMFD_NAME: &CStr = c"guest-ram";

/// What the pages of a [`GuestRam`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory: the fastest, and the one that gets large pages.
    Anon,
    /// A shared memfd, which other processes and copies of the VM can map.
    Memfd,
}

/// A 2 MiB aligned mapping of host memory between guard pages, plus one flag byte per page.
///
/// The memory is unmapped when the last `Arc` goes: memslot tables, vCPUs and the array buffers
/// of every isolate hold one each.
pub struct GuestRam {
    reservation: NonNull<u8>,
    reserved: usize,
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
    fd: Option<OwnedFd>,
    page_flags: Box<[AtomicU8]>,
}

// SAFETY: the pointers name a mapping that this value owns until it is dropped; all access to the
// bytes behind them is by raw pointer and the flag bytes are atomics.
unsafe impl Send for GuestRam {}
// SAFETY: as for Send; no method hands out references into the mapping.
unsafe impl Sync for GuestRam {}

impl fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRam")
            .field("base", &self.base)
            .field("len", &self.len)
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}

impl GuestRam {
    /// Maps `bytes` of zeroed memory, a nonzero multiple of 4 KiB.
    ///
    /// # Errors
    /// `EINVAL` for a bad size, `ENOMEM` when the host does not have that much.
    pub fn new(bytes: usize, backing: Backing) -> Result<Arc<Self>, KvmError> {
        if bytes == 0 || !(bytes as u64).is_multiple_of(PAGE_BYTES) {
            return Err(KvmError::invalid(format!(
                "RAM size {bytes} is not a nonzero multiple of {PAGE_BYTES}"
            )));
        }
        let no_memory = |what: &str| {
            let os = std::io::Error::last_os_error();
            KvmError::new(
                Errno::ENOMEM,
                format!("the host cannot {what} {bytes} bytes of guest RAM: {os}"),
            )
        };
        // One large page of address space on each side holds the guards and the alignment.
        let reserved = bytes
            .checked_next_multiple_of(HUGE_BYTES)
            .and_then(|n| n.checked_add(2 * HUGE_BYTES))
            .filter(|n| isize::try_from(*n).is_ok())
            .ok_or_else(|| {
                KvmError::new(Errno::ENOMEM, format!("RAM size {bytes} exceeds the address space"))
            })?;
        let fd = match backing {
            Backing::Anon => None,
            Backing::Memfd => Some(memfd(bytes).ok_or_else(|| no_memory("create a memfd of"))?),
        };
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            return Err(no_memory("reserve address space for"));
        }
        let reservation = NonNull::new(raw.cast::<u8>()).ok_or_else(|| no_memory("map"))?;
        // At least one page below stays unmapped even when the reservation itself is aligned.
        let skip = HUGE_BYTES - (reservation.as_ptr() as usize % HUGE_BYTES);
        // SAFETY: `skip` is at most one large page and the reservation is longer than two.
        let base = unsafe { reservation.add(skip) };
        let mut ram = Self {
            reservation,
            reserved,
            base,
            len: bytes,
            backing,
            fd,
            page_flags: Box::default(),
        };
        let (share, raw_fd) = match &ram.fd {
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
            Some(fd) => (libc::MAP_SHARED, fd.as_raw_fd()),
        };
        // SAFETY: replaces a part of our own reservation, which nothing else uses yet.
        let mapped = unsafe {
            libc::mmap(
                base.as_ptr().cast(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                share | libc::MAP_FIXED,
                raw_fd,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(no_memory("map"));
        }
        ram.page_flags =
            zeroed_flags(bytes / PAGE_BYTES as usize).ok_or_else(|| no_memory("track"))?;
        // Advice only: a kernel without large pages answers EINVAL, and the metric shows it.
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_DONTFORK] {
            // SAFETY: the range is the mapping that was just made.
            unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) };
        }
        Ok(Arc::new(ram))
    }

    /// Size in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first byte. Valid for `len()` bytes as long as this value lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// What the pages come from.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// The memfd, where there is one.
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        self.fd.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Bytes of this mapping that the host holds in large pages now.
    #[must_use]
    pub fn huge_bytes(&self) -> u64 {
        smaps::of_mapping(self.as_ptr() as usize, self.len).huge
    }

    /// Bytes of this mapping that are resident now.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        smaps::of_mapping(self.as_ptr() as usize, self.len).resident
    }

    /// The flag byte of each 4 KiB page, see [`crate::PAGE_HAS_CODE`].
    #[must_use]
    pub fn page_flags(&self) -> &[AtomicU8] {
        &self.page_flags
    }
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        // SAFETY: the whole reservation is ours, and no `Arc` to it is left.
        unsafe { libc::munmap(self.reservation.as_ptr().cast(), self.reserved) };
    }
}

/// Flag bytes whose memory the allocator takes zeroed from the kernel: untouched ones cost nothing.
/// `None` where the host does not have that much, which must not end the process.
fn zeroed_flags(pages: usize) -> Option<Box<[AtomicU8]>> {
    let layout = Layout::array::<AtomicU8>(pages).ok().filter(|layout| layout.size() != 0)?;
    // SAFETY: the layout is not empty.
    let raw = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    let slice = NonNull::slice_from_raw_parts(raw.cast::<AtomicU8>(), pages);
    // SAFETY: allocated by the global allocator with the layout of the slice, and zero is a value of
    // AtomicU8.
    Some(unsafe { Box::from_raw(slice.as_ptr()) })
}

fn memfd(bytes: usize) -> Option<OwnedFd> {
    // SAFETY: the name is a C string; the result is checked.
    let raw = unsafe {
        libc::memfd_create(MEMFD_NAME.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    if raw < 0 {
        return None;
    }
    // SAFETY: a descriptor that was just opened and that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let size = libc::off_t::try_from(bytes).ok()?;
    // A process that got the descriptor could shrink the file under a running vCPU: SIGBUS.
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: calls on a descriptor that we own.
    unsafe {
        if libc::ftruncate(fd.as_raw_fd(), size) != 0
            || libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) != 0
        {
            return None;
        }
    }
    Some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_host_has_is_an_error_and_nothing_worse() {
        for bytes in [1usize << 46, 1 << 52, isize::MAX as usize & !0xfff] {
            if let Err(error) = GuestRam::new(bytes, Backing::Anon) {
                assert_eq!(error.errno, Errno::ENOMEM);
            }
        }
        assert!(zeroed_flags(isize::MAX as usize).is_none());
        assert!(zeroed_flags(usize::MAX).is_none());
    }
}
