//! Input and output on the calling thread, for what the page cache takes or holds.

use std::ffi::c_void;
use std::os::fd::RawFd;

use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;
use pairread::PairReader;

use crate::errno;

/// Numbers for each part: which buffer, where in it, how many bytes.
const PART_NUMBERS: usize = 3;
/// Linux takes no more in one call (`UIO_MAXIOV`).
const MAX_PARTS: usize = 1024;

/// Reads what is in the host's page cache; large requests together with a thread of its own, which ends with it.
#[napi]
#[derive(Debug, Default)]
pub struct CacheReader {
    reader: PairReader,
}

#[napi]
impl CacheReader {
    /// Starts no thread yet.
    #[napi(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// preadv2(2) with `RWF_NOWAIT`: fills parts of buffers from `offset` on, and returns when that is done.
    ///
    /// `parts` begins with three numbers for each of `count` parts: which of `buffers`, where in it,
    /// how many bytes. Returns how many bytes were read or a negative errno: `EAGAIN` when the file's
    /// bytes are not in memory, `EOPNOTSUPP` when the file system cannot tell, `EINVAL` for parts that
    /// are not in their buffers or too many.
    #[napi]
    pub fn read(
        &mut self,
        fd: RawFd,
        offset: i64,
        mut buffers: Vec<Uint8ArraySlice<'_>>,
        parts: &[u32],
        count: u32,
    ) -> i64 {
        let Some(iov) = vectors(&mut buffers, parts, count) else {
            return -i64::from(libc::EINVAL);
        };
        // SAFETY: every part was checked to lie within a buffer that lives as long as this call.
        unsafe { self.reader.read(fd, offset, &iov, libc::RWF_NOWAIT) }
    }
}

/// pwritev(2) on the calling thread, which waits as long as the host does, from parts of buffers as
/// [`CacheReader::read`] fills them. Returns a negative errno, or twice the number of bytes that were written,
/// and 1 more when the thread slept meanwhile: what it lost to other threads does not count.
#[napi]
pub fn write_here(
    fd: RawFd,
    offset: i64,
    mut buffers: Vec<Uint8ArraySlice<'_>>,
    parts: &[u32],
    count: u32,
) -> i64 {
    let Some(iov) = vectors(&mut buffers, parts, count) else {
        return -i64::from(libc::EINVAL);
    };
    let before = sleeps();
    // SAFETY: as in [`CacheReader::read`]; the kernel only reads.
    let written =
        outcome(unsafe { libc::pwritev(fd, iov.as_ptr(), iov.len() as libc::c_int, offset) });
    if written < 0 { written } else { written << 1 | i64::from(sleeps() != before) }
}

/// How often the calling thread gave its processor up by itself.
fn sleeps() -> libc::c_long {
    // SAFETY: plain numbers, which the kernel fills in.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage.ru_nvcsw
    }
}

/// The parts as the kernel takes them; None for those that are not in their buffers, or too many.
fn vectors(
    buffers: &mut [Uint8ArraySlice<'_>],
    parts: &[u32],
    count: u32,
) -> Option<Vec<libc::iovec>> {
    let wanted = (count as usize).min(MAX_PARTS + 1);
    let parts = parts.get(..wanted * PART_NUMBERS).filter(|_| wanted <= MAX_PARTS)?;
    let mut iov = Vec::with_capacity(wanted);
    for part in parts.chunks_exact(PART_NUMBERS) {
        let (from, length) = (part[1] as usize, part[2] as usize);
        let buffer = buffers.get_mut(part[0] as usize)?;
        // SAFETY: nobody else has a reference into the array during this call. It may show guest
        // memory, which vCPUs change meanwhile: only the kernel goes through the pointer.
        let bytes = unsafe { buffer.as_mut() };
        if bytes.len().checked_sub(length).is_none_or(|last| from > last) {
            return None;
        }
        let base = bytes.as_mut_ptr().wrapping_add(from);
        iov.push(libc::iovec { iov_base: base.cast::<c_void>(), iov_len: length });
    }
    Some(iov)
}

fn outcome(done: isize) -> i64 {
    if done >= 0 { done as i64 } else { -i64::from(errno::last_errno()) }
}
