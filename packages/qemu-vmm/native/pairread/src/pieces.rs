//! A request, cut in pieces that any thread may take.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use libc::iovec;

/// Long enough that to take one costs nothing beside it, short enough that no thread waits long for the other's last one.
pub const PIECE_BYTES: usize = 128 << 10;
/// Of a piece that nobody has read yet.
const UNREAD: i32 = i32::MIN;

/// preadv2(2): bytes, or a negative errno.
///
/// # Safety
/// The memory of `parts` is mapped, and used for nothing that a read into it must not meet.
pub unsafe fn preadv2(fd: RawFd, offset: i64, parts: &[iovec], flags: i32) -> i64 {
    let count = parts.len() as libc::c_int;
    // SAFETY: by the contract of this function.
    let read = unsafe { libc::preadv2(fd, parts.as_ptr(), count, offset, flags) };
    let errno = || std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    if read < 0 { -i64::from(errno()) } else { read as i64 }
}

/// One piece and how reading it ended.
#[derive(Debug)]
struct Piece {
    offset: i64,
    bytes: usize,
    /// Its parts are those from here to the first of the next piece.
    first: usize,
    /// Bytes, or a negative errno.
    outcome: AtomicI32,
}

/// A request that is being read.
#[derive(Debug)]
pub struct Pieces {
    fd: RawFd,
    flags: i32,
    parts: Vec<iovec>,
    pieces: Vec<Piece>,
    next: AtomicUsize,
    unread: AtomicUsize,
}

// SAFETY: the parts point to memory that whoever made this promises to leave in its place until all pieces were read
// (`PairReader::read`); only the kernel goes through the pointers, and each piece is taken once.
unsafe impl Send for Pieces {}
// SAFETY: as above.
unsafe impl Sync for Pieces {}

impl Pieces {
    /// Cuts the request where a piece is full; a part that goes on behind that is cut, too.
    pub fn new(fd: RawFd, offset: i64, flags: i32, whole: &[iovec]) -> Self {
        let mut parts = Vec::with_capacity(whole.len() + 8);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = offset;
        for part in whole {
            let (mut base, mut left) = (part.iov_base, part.iov_len);
            while left > 0 {
                let piece = match pieces.last_mut() {
                    Some(piece) if piece.bytes < PIECE_BYTES => piece,
                    _ => {
                        let outcome = AtomicI32::new(UNREAD);
                        pieces.push(Piece { offset: at, bytes: 0, first: parts.len(), outcome });
                        continue;
                    }
                };
                let bytes = left.min(PIECE_BYTES - piece.bytes);
                parts.push(iovec { iov_base: base, iov_len: bytes });
                piece.bytes += bytes;
                base = base.wrapping_byte_add(bytes);
                left -= bytes;
                at = at.saturating_add(bytes as i64);
            }
        }
        let unread = AtomicUsize::new(pieces.len());
        Self { fd, flags, parts, pieces, next: AtomicUsize::new(0), unread }
    }

    /// Reads pieces until none is left to be taken. True if the last of all to be read was read here.
    pub fn work(&self) -> bool {
        let mut last = false;
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = self.pieces.get(index) else { return last };
            let end = self.pieces.get(index + 1).map_or(self.parts.len(), |next| next.first);
            let parts = &self.parts[piece.first..end];
            // SAFETY: the memory is good by the contract of `PairReader::read`.
            let outcome = unsafe { preadv2(self.fd, piece.offset, parts, self.flags) };
            // A piece is shorter than 2 GiB.
            piece.outcome.store(outcome as i32, Ordering::Relaxed);
            last = self.unread.fetch_sub(1, Ordering::AcqRel) == 1;
        }
    }

    /// All pieces were read.
    pub fn is_read(&self) -> bool {
        self.unread.load(Ordering::Acquire) == 0
    }

    /// As preadv2(2) would have put it: bytes up to the first that could not be read, or a negative errno.
    pub fn outcome(&self) -> i64 {
        let mut done = 0;
        for piece in &self.pieces {
            let outcome = piece.outcome.load(Ordering::Relaxed);
            if outcome < 0 {
                return if done > 0 { done } else { i64::from(outcome) };
            }
            done += i64::from(outcome);
            if outcome as usize != piece.bytes {
                break;
            }
        }
        done
    }
}
