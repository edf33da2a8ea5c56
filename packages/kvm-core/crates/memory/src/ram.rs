//! Mappings of host memory that serve as guest RAM.

use std::alloc::{Layout, alloc_zeroed};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use kvm_abi::{Errno, KvmError};

use crate::hugetlb::{self, HUGE_BYTES};
use crate::{PAGE_BYTES, PageFlags, smaps};

/// Smaller memory is that of a device, of which little is touched: a large page would be resident for a screen of text.
const LARGE_PAGES_FROM: usize = 32 << 20;

const MEMFD_NAME: &CStr = c"guest-ram";

/// What the pages of a [`GuestRam`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory: the fastest, and the one that gets large pages.
    Anon,
    /// A shared memfd, which other processes and copies of the VM can map.
    Memfd,
    /// A file that the caller opened.
    File,
    /// A memfd of the host's pool of 2 MiB pages (hugetlbfs), taken from it at once.
    Hugetlb,
}

/// A 2 MiB aligned mapping of host memory between guard pages, plus one word per page.
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
    /// Writes reach the file, or the memfd.
    shared: bool,
    page_flags: Box<[PageFlags]>,
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
    /// `EINVAL` for a bad size, `ENOMEM` when the host does not have that much. With `Hugetlb` the
    /// size is a multiple of 2 MiB, and `EOPNOTSUPP` says that the host has no such pages.
    pub fn new(bytes: usize, backing: Backing) -> Result<Arc<Self>, KvmError> {
        check_size(bytes)?;
        let fd = match backing {
            Backing::Anon => None,
            Backing::Memfd => {
                Some(memfd(bytes, 0).ok_or_else(|| no_memory("create a memfd of", bytes))?)
            }
            Backing::Hugetlb => {
                hugetlb::check(bytes)?;
                let huge = libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
                let what = "take from its 2 MiB pages";
                Some(memfd(bytes, huge).ok_or_else(|| no_memory(what, bytes))?)
            }
            Backing::File => return Err(KvmError::invalid("a file must be given")),
        };
        Self::map(bytes, backing, fd, libc::MAP_SHARED)
    }

    /// Maps the first `bytes` of a file, which must have them. Writes reach the file only with
    /// `share`; `fd` stays the caller's.
    ///
    /// # Errors
    /// `EINVAL` for a bad size, `ENOMEM` when the host cannot map the file.
    pub fn of_file(bytes: usize, fd: BorrowedFd<'_>, share: bool) -> Result<Arc<Self>, KvmError> {
        check_size(bytes)?;
        let own =
            fd.try_clone_to_owned().map_err(|e| KvmError::invalid(format!("the file: {e}")))?;
        let present = std::fs::File::from(own);
        let len = present.metadata().map_or(0, |data| data.len());
        if len < bytes as u64 {
            return Err(KvmError::invalid(format!(
                "the file has {len} bytes, and {bytes} of guest RAM are asked for"
            )));
        }
        let visibility = if share { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        Self::map(bytes, Backing::File, Some(present.into()), visibility)
    }

    fn map(
        bytes: usize,
        backing: Backing,
        fd: Option<OwnedFd>,
        visibility: i32,
    ) -> Result<Arc<Self>, KvmError> {
        let no_memory = |what: &str| no_memory(what, bytes);
        // One large page of address space on each side holds the guards and the alignment.
        let reserved = bytes
            .checked_next_multiple_of(HUGE_BYTES)
            .and_then(|n| n.checked_add(2 * HUGE_BYTES))
            .filter(|n| isize::try_from(*n).is_ok())
            .ok_or_else(|| {
                KvmError::new(Errno::ENOMEM, format!("RAM size {bytes} exceeds the address space"))
            })?;
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
            shared: fd.is_some() && visibility == libc::MAP_SHARED,
            fd,
            page_flags: Box::default(),
        };
        let (share, raw_fd) = match &ram.fd {
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
            Some(fd) => (visibility, fd.as_raw_fd()),
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
        let large = (bytes >= LARGE_PAGES_FROM).then_some(libc::MADV_HUGEPAGE);
        for advice in large.into_iter().chain([libc::MADV_DONTFORK]) {
            // SAFETY: the range is the mapping that was just made.
            unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) };
        }
        Ok(Arc::new(ram))
    }

    /// Makes every page present and writable now, so that none can be missing later.
    ///
    /// # Errors
    /// `ENOMEM` when the host does not have them all.
    pub fn populate(&self) -> Result<(), KvmError> {
        // SAFETY: the range is our mapping; its contents do not change.
        let result =
            unsafe { libc::madvise(self.as_ptr().cast(), self.len, libc::MADV_POPULATE_WRITE) };
        if result == 0 { Ok(()) } else { Err(no_memory("preallocate", self.len)) }
    }

    /// Gives the whole pages within `len` bytes from `offset` on back to the host: they read as zeros
    /// afterwards, or where the mapping is a private one of a file as the file does. Parts of pages,
    /// which with `Hugetlb` have 2 MiB, stay as they are.
    ///
    /// # Errors
    /// What the host says; pages may have been given back all the same.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), KvmError> {
        let page = if self.backing == Backing::Hugetlb { HUGE_BYTES as u64 } else { PAGE_BYTES };
        let from = offset.checked_next_multiple_of(page).unwrap_or(u64::MAX);
        let end = offset.saturating_add(len).min(self.len as u64) / page * page;
        if from >= end {
            return Ok(());
        }
        let bytes = (end - from) as usize;
        // SAFETY: the range is inside our mapping, which guests and devices use by raw pointers alone.
        unsafe {
            let start = self.as_ptr().add(from as usize).cast();
            if libc::madvise(start, bytes, libc::MADV_DONTNEED) != 0 {
                return Err(failed("give back", bytes));
            }
        }
        // The pages of what is shared are the file's, whether they are mapped or not.
        let Some(fd) = self.fd.as_ref().filter(|_| self.shared) else { return Ok(()) };
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (start, len) = (from.cast_signed(), (bytes as u64).cast_signed());
        // SAFETY: no memory is involved.
        if unsafe { libc::fallocate(fd.as_raw_fd(), hole, start, len) } != 0 {
            return Err(failed("punch a hole of", bytes));
        }
        Ok(())
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

    /// What vCPUs know about each 4 KiB page.
    #[must_use]
    pub fn page_flags(&self) -> &[PageFlags] {
        &self.page_flags
    }
}

fn check_size(bytes: usize) -> Result<(), KvmError> {
    if bytes == 0 || !(bytes as u64).is_multiple_of(PAGE_BYTES) {
        return Err(KvmError::invalid(format!(
            "RAM size {bytes} is not a nonzero multiple of {PAGE_BYTES}"
        )));
    }
    Ok(())
}

/// What the last system call said about memory that it should have made.
fn no_memory(what: &str, bytes: usize) -> KvmError {
    let os = std::io::Error::last_os_error();
    KvmError::new(Errno::ENOMEM, format!("the host cannot {what} {bytes} bytes of guest RAM: {os}"))
}

/// What the last system call said about memory that it should have changed.
fn failed(what: &str, bytes: usize) -> KvmError {
    let os = std::io::Error::last_os_error();
    KvmError::new(Errno::EOPNOTSUPP, format!("the host cannot {what} {bytes} bytes: {os}"))
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        // SAFETY: the whole reservation is ours, and no `Arc` to it is left.
        unsafe { libc::munmap(self.reservation.as_ptr().cast(), self.reserved) };
    }
}

/// Flags whose memory the allocator takes zeroed from the kernel: untouched ones cost nothing.
/// `None` where the host does not have that much, which must not end the process.
fn zeroed_flags(pages: usize) -> Option<Box<[PageFlags]>> {
    let layout = Layout::array::<PageFlags>(pages).ok().filter(|layout| layout.size() != 0)?;
    // SAFETY: the layout is not empty.
    let raw = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    let slice = NonNull::slice_from_raw_parts(raw.cast::<PageFlags>(), pages);
    // SAFETY: allocated by the global allocator with the layout of the slice, and zero is the
    // default of PageFlags.
    Some(unsafe { Box::from_raw(slice.as_ptr()) })
}

fn memfd(bytes: usize, flags: libc::c_uint) -> Option<OwnedFd> {
    // SAFETY: the name is a C string; the result is checked.
    let raw = unsafe {
        libc::memfd_create(MEMFD_NAME.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags)
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
    fn a_file_is_mapped_shared_or_private() {
        use std::io::{Read, Seek, Write};
        use std::os::fd::AsFd;
        let path = std::env::temp_dir().join(format!("kvm-memory-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(&[7; 8192]).unwrap();
        for (share, expected) in [(false, 7), (true, 9)] {
            let ram = GuestRam::of_file(8192, file.as_fd(), share).unwrap();
            ram.populate().unwrap();
            // SAFETY: the mapping is 8192 bytes long and nobody else uses it.
            unsafe {
                assert_eq!(ram.as_ptr().add(4096).read(), 7);
                ram.as_ptr().add(4096).write(9);
            }
            drop(ram);
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes[4096], expected);
        }
        assert_eq!(GuestRam::of_file(12288, file.as_fd(), true).unwrap_err().errno, Errno::EINVAL);
        assert_eq!(GuestRam::of_file(100, file.as_fd(), true).unwrap_err().errno, Errno::EINVAL);
        let anon = GuestRam::new(1 << 20, Backing::Anon).unwrap();
        anon.populate().unwrap();
        assert!(anon.resident_bytes() >= 1 << 20);
    }

    #[test]
    fn large_pages_come_from_the_pool_or_are_refused() {
        // The pool of a developer's machine is usually empty: then the refusal is what is tested.
        match GuestRam::new(HUGE_BYTES, Backing::Hugetlb) {
            Ok(ram) => {
                // SAFETY: the first byte of a mapping that is alive.
                unsafe { ram.as_ptr().write_volatile(1) };
                assert!(ram.fd().is_some() && ram.huge_bytes() == HUGE_BYTES as u64);
            }
            Err(error) => {
                assert!(matches!(error.errno, Errno::ENOMEM | Errno::EOPNOTSUPP), "{error}");
            }
        }
        let error = GuestRam::new(1 << 46, Backing::Hugetlb).unwrap_err();
        assert!(matches!(error.errno, Errno::ENOMEM | Errno::EOPNOTSUPP), "{error}");
    }

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
