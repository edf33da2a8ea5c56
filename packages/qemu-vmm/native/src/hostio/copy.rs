//! Copies from a file to another, of what the host has in memory, without what is all zeros.

use std::os::fd::RawFd;

use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;

use super::zeros::is_zero;
use crate::errno;

/// Copies `length` bytes through `buffer`, which is best as long as the cache of a processor holds twice.
///
/// Stops before the first block of `block_bytes` (0: none is looked for) that is all zeros, counted from the beginning of what is
/// copied, and before bytes that are not in memory. Returns how many bytes were copied, or a negative errno where they
/// could not be written.
#[napi]
pub fn copy_here(
    from_fd: RawFd,
    from: i64,
    to_fd: RawFd,
    to: i64,
    length: u32,
    block_bytes: u32,
    mut buffer: Uint8ArraySlice<'_>,
) -> i64 {
    // SAFETY: nobody else has a reference into this array during the call.
    let buffer = unsafe { buffer.as_mut() };
    let block_bytes = block_bytes as usize;
    // Blocks do not go on in the next piece.
    let blocks = buffer.len().checked_div(block_bytes);
    let whole = blocks.map_or(buffer.len(), |count| count * block_bytes);
    if whole == 0 || from < 0 || to < 0 {
        return -i64::from(libc::EINVAL);
    }
    let mut done = 0;
    while done < i64::from(length) {
        let wanted = whole.min((i64::from(length) - done) as usize);
        let piece = &mut buffer[..wanted];
        if !read_now(from_fd, piece, from.saturating_add(done)) {
            break;
        }
        let data = data_bytes(piece, block_bytes);
        if let Err(errno) = write_all(to_fd, &piece[..data], to.saturating_add(done)) {
            return -i64::from(errno);
        }
        done += data as i64;
        if data < wanted {
            break;
        }
    }
    done
}

/// Whether all of the piece could be had without waiting.
fn read_now(fd: RawFd, piece: &mut [u8], offset: i64) -> bool {
    let part = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
    // SAFETY: the part is the piece.
    let read = unsafe { libc::preadv2(fd, &raw const part, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(read) == Ok(piece.len())
}

/// How much there is before the first block of zeros.
fn data_bytes(piece: &[u8], block_bytes: usize) -> usize {
    if block_bytes == 0 {
        return piece.len();
    }
    piece.chunks(block_bytes).position(is_zero).map_or(piece.len(), |index| index * block_bytes)
}

fn write_all(fd: RawFd, mut bytes: &[u8], mut offset: i64) -> Result<(), i32> {
    while !bytes.is_empty() {
        // SAFETY: the kernel reads no more than the bytes.
        let written = unsafe { libc::pwrite64(fd, bytes.as_ptr().cast(), bytes.len(), offset) };
        match written {
            0 => return Err(libc::ENOSPC),
            1.. => {
                bytes = &bytes[written as usize..];
                offset = offset.saturating_add(written as i64);
            }
            _ => match errno::last_errno() {
                libc::EINTR => {}
                other => return Err(other),
            },
        }
    }
    Ok(())
}
