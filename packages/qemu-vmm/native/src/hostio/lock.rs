//! Locks of open file descriptions (fcntl(2), `F_OFD_SETLK`): they belong to the open file, not to
//! the process, so two opens in one process exclude each other too.

use std::os::fd::RawFd;

use napi_derive::napi;

use crate::errno::{self, Result};

fn flock(kind: i32, start: i64, length: i64) -> libc::flock {
    // SAFETY: `flock` is plain data, for which all zeroes is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    // The constants are small; their types differ between C libraries.
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = start;
    lock.l_len = length;
    lock
}

/// Places a lock on bytes `start` to `start + length`, or takes it away.
///
/// `kind` is 0 to unlock, 1 for a shared and 2 for an exclusive lock. Returns false when another
/// open file holds a lock that excludes it.
#[napi]
pub fn ofd_set_lock(fd: RawFd, kind: u32, start: i64, length: i64) -> Result<bool> {
    let kind = match kind {
        0 => libc::F_UNLCK,
        1 => libc::F_RDLCK,
        2 => libc::F_WRLCK,
        _ => return Err(errno::js(libc::EINVAL, "fcntl F_OFD_SETLK")),
    };
    let lock = flock(kind, start, length);
    // SAFETY: F_OFD_SETLK reads one `flock`, which lives until the call returns.
    if unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const lock) } == 0 {
        return Ok(true);
    }
    match errno::last_errno() {
        libc::EAGAIN | libc::EACCES => Ok(false),
        other => Err(errno::js(other, "fcntl F_OFD_SETLK")),
    }
}

/// Whether a lock could be placed now: exclusive, or shared.
#[napi]
pub fn ofd_test_lock(fd: RawFd, exclusive: bool, start: i64, length: i64) -> Result<bool> {
    let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    let mut lock = flock(kind, start, length);
    // SAFETY: F_OFD_GETLK reads and writes one `flock`, which lives until the call returns.
    if unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) } != 0 {
        return Err(errno::last("fcntl F_OFD_GETLK"));
    }
    Ok(i32::from(lock.l_type) == libc::F_UNLCK)
}
