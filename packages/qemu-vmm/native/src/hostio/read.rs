//! Reading what the page cache holds, without waiting for anything.

use std::ffi::c_void;
use std::os::fd::RawFd;

use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;

use crate::errno;

/// Numbers for each part: which buffer, where in it, how many bytes.
const PART_NUMBERS: usize = 3;
/// Linux takes no more in one call (`UIO_MAXIOV`).
const MAX_PARTS: usize = 1024;

/// preadv2(2) with `RWF_NOWAIT` on the calling thread: fills parts of buffers from `offset` on.
///
/// `parts` begins with three numbers for each of `count` parts: which of `buffers`, where in it,
/// how many bytes. Returns how many bytes were read or a negative errno: `EAGAIN` when the file's
/// bytes are not in memory, `EOPNOTSUPP` when the file system cannot tell, `EINVAL` for parts that
/// are not in their buffers or too many.
#[napi]
pub fn read_cached(
    fd: RawFd,
    offset: i64,
    mut buffers: Vec<Uint8ArraySlice<'_>>,
    parts: &[u32],
    count: u32,
) -> i64 {
    let wanted = (count as usize).min(MAX_PARTS + 1);
    let Some(parts) = parts.get(..wanted * PART_NUMBERS).filter(|_| wanted <= MAX_PARTS) else {
        return -i64::from(libc::EINVAL);
    };
    let mut iov = Vec::with_capacity(wanted);
    for part in parts.chunks_exact(PART_NUMBERS) {
        let (from, length) = (part[1] as usize, part[2] as usize);
        let Some(buffer) = buffers.get_mut(part[0] as usize) else {
            return -i64::from(libc::EINVAL);
        };
        // SAFETY: nobody else has a reference into the array during this call. It may show guest
        // memory, which vCPUs change meanwhile: only the kernel writes through the pointer.
        let bytes = unsafe { buffer.as_mut() };
        if bytes.len().checked_sub(length).is_none_or(|last| from > last) {
            return -i64::from(libc::EINVAL);
        }
        let base = bytes.as_mut_ptr().wrapping_add(from);
        iov.push(libc::iovec { iov_base: base.cast::<c_void>(), iov_len: length });
    }
    // SAFETY: every part was checked to lie within a buffer that lives as long as this call.
    let read = unsafe {
        let count = iov.len() as libc::c_int;
        libc::preadv2(fd, iov.as_ptr(), count, offset, libc::RWF_NOWAIT)
    };
    if read >= 0 { read as i64 } else { -i64::from(errno::last_errno()) }
}
