//! Executable memory: one memfd, mapped for writing and for executing at two addresses.

use std::ptr;

/// Where translated code lies. Bytes are only added; [`reset`](Self::reset) starts over.
#[derive(Debug)]
pub struct CodeMemory {
    writable: *mut u8,
    executable: *mut u8,
    size: usize,
    used: usize,
    /// What of it was written when the writable pages were last let go.
    tidy: usize,
}

// SAFETY: the mappings belong to this value alone.
unsafe impl Send for CodeMemory {}

/// Code starts at multiples of this many bytes.
const ALIGNMENT: usize = 16;
/// Bytes written before the writable pages are let go.
const UNTIDY: usize = 256 << 10;

impl CodeMemory {
    /// Reserves `size` bytes, or says why the host does not allow that.
    pub fn new(size: usize) -> std::io::Result<Self> {
        // SAFETY: a new descriptor with a static name.
        let fd = unsafe { libc::memfd_create(c"translated code".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let result = Self::map(fd, size);
        // SAFETY: opened above; the mappings keep the memory.
        unsafe { libc::close(fd) };
        result
    }

    fn map(fd: i32, size: usize) -> std::io::Result<Self> {
        let length = libc::off_t::try_from(size).map_err(std::io::Error::other)?;
        // SAFETY: plain system calls on a descriptor that is ours.
        if unsafe { libc::ftruncate(fd, length) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let view = |protection| {
            // SAFETY: a new mapping at an address that the kernel chooses.
            let at =
                unsafe { libc::mmap(ptr::null_mut(), size, protection, libc::MAP_SHARED, fd, 0) };
            if at == libc::MAP_FAILED {
                Err(std::io::Error::last_os_error())
            } else {
                Ok(at.cast::<u8>())
            }
        };
        let writable = view(libc::PROT_READ | libc::PROT_WRITE)?;
        match view(libc::PROT_READ | libc::PROT_EXEC) {
            Ok(executable) => Ok(Self { writable, executable, size, used: 0, tidy: 0 }),
            Err(error) => {
                // SAFETY: mapped just now and used by nobody.
                unsafe { libc::munmap(writable.cast(), size) };
                Err(error)
            }
        }
    }

    /// The address at which the first code executes.
    pub fn start(&self) -> u64 {
        self.executable as u64
    }

    /// The address at which the next code will execute.
    pub fn next(&self) -> u64 {
        self.executable as u64 + self.used as u64
    }

    /// True if `bytes` more fit.
    pub fn fits(&self, bytes: usize) -> bool {
        self.used + bytes + ALIGNMENT <= self.size
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Adds code that was assembled for [`next`](Self::next).
    pub fn push(&mut self, code: &[u8]) {
        assert!(self.fits(code.len()), "the caller makes room first");
        // SAFETY: `used + len` is within the mapping.
        unsafe {
            ptr::copy_nonoverlapping(code.as_ptr(), self.writable.add(self.used), code.len())
        };
        self.used = (self.used + code.len()).next_multiple_of(ALIGNMENT);
        if self.used - self.tidy >= UNTIDY {
            self.tidy_up();
        }
    }

    /// Unmaps the pages that were written. Their contents are the memfd's and come back with the next
    /// write; until then nothing needs a second table entry for each page, nor counts it twice.
    fn tidy_up(&mut self) {
        let full = self.used & !4095;
        // SAFETY: whole pages of our own shared mapping, which lose no contents.
        unsafe { libc::madvise(self.writable.cast(), full, libc::MADV_DONTNEED) };
        self.tidy = full;
    }

    /// Forgets everything behind the first `keep` bytes and gives its memory back to the host.
    pub fn reset(&mut self, keep: usize) {
        let first = keep.next_multiple_of(4096);
        if first < self.used {
            // SAFETY: whole pages of our own mapping, from which nothing executes any more.
            unsafe {
                libc::madvise(self.writable.add(first).cast(), self.size - first, libc::MADV_REMOVE)
            };
        }
        self.used = keep.next_multiple_of(ALIGNMENT);
        self.tidy = self.tidy.min(self.used);
    }

    /// Writes bytes at an executable address.
    pub fn write<const N: usize>(&mut self, at: u64, bytes: [u8; N]) {
        let offset = at.wrapping_sub(self.executable as u64) as usize;
        assert!(offset <= self.used && self.used - offset >= N, "no code of ours");
        // SAFETY: within the mapping. Only the thread that executes the code writes to it.
        unsafe { ptr::write_unaligned(self.writable.add(offset).cast::<[u8; N]>(), bytes) };
    }

    /// Lets the jump whose displacement ends at `after` (an executable address) go to `target`.
    pub fn patch(&mut self, after: u64, target: u64) {
        let offset = after.wrapping_sub(self.executable as u64) as usize;
        assert!((4..=self.used).contains(&offset), "no jump of ours");
        #[allow(clippy::cast_possible_truncation)]
        let distance = target.wrapping_sub(after).cast_signed() as i32;
        // SAFETY: within the mapping. Only the thread that executes the code writes to it.
        unsafe {
            ptr::write_unaligned(self.writable.add(offset - 4).cast::<i32>(), distance);
        }
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // SAFETY: both mappings are ours and nobody executes in them any more.
        unsafe {
            libc::munmap(self.writable.cast(), self.size);
            libc::munmap(self.executable.cast(), self.size);
        }
    }
}
