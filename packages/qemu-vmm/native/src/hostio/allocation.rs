//! Which parts of a file have storage: fallocate(2) and lseek(2). Both may wait for the disk, so
//! they run on the thread pool, unless who asks has nothing else to do.

use std::os::fd::RawFd;

use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::errno;

/// One call of fallocate(2). Resolves to 0, or to a negative errno.
#[derive(Debug)]
pub struct Fallocate {
    fd: RawFd,
    mode: i32,
    offset: i64,
    length: i64,
}

impl Task for Fallocate {
    type Output = i32;
    type JsValue = i32;

    fn compute(&mut self) -> napi::Result<i32> {
        loop {
            // SAFETY: no memory is involved; a wrong descriptor or range is an errno.
            if unsafe { libc::fallocate64(self.fd, self.mode, self.offset, self.length) } == 0 {
                return Ok(0);
            }
            match errno::last_errno() {
                libc::EINTR => {}
                other => return Ok(-other),
            }
        }
    }

    fn resolve(&mut self, _env: Env, output: i32) -> napi::Result<i32> {
        Ok(output)
    }
}

/// fallocate(2) on the thread pool: resolves to 0, or to a negative errno.
///
/// `mode` is the sum of `FALLOC_FL_KEEP_SIZE` 1, `FALLOC_FL_PUNCH_HOLE` 2 and
/// `FALLOC_FL_ZERO_RANGE` 16.
#[napi]
pub fn fallocate(fd: RawFd, mode: i32, offset: i64, length: i64) -> AsyncTask<Fallocate> {
    AsyncTask::new(Fallocate { fd, mode, offset, length })
}

/// One call of lseek(2) for data or a hole.
#[derive(Debug)]
pub struct Seek {
    fd: RawFd,
    offset: i64,
    whence: i32,
}

impl Seek {
    fn new(fd: RawFd, offset: i64, hole: bool) -> Self {
        Self { fd, offset, whence: if hole { libc::SEEK_HOLE } else { libc::SEEK_DATA } }
    }

    fn call(&self) -> i64 {
        // SAFETY: no memory is involved; a wrong descriptor or offset is an errno.
        let found = unsafe { libc::lseek64(self.fd, self.offset, self.whence) };
        if found >= 0 { found } else { -i64::from(errno::last_errno()) }
    }
}

impl Task for Seek {
    type Output = i64;
    type JsValue = i64;

    fn compute(&mut self) -> napi::Result<i64> {
        Ok(self.call())
    }

    fn resolve(&mut self, _env: Env, output: i64) -> napi::Result<i64> {
        Ok(output)
    }
}

/// lseek(2) with `SEEK_DATA`, or with `SEEK_HOLE`, on the thread pool: resolves to where the next
/// data or hole begins, or to a negative errno (`ENXIO`: there is none behind `offset`).
#[napi]
pub fn seek_allocation(fd: RawFd, offset: i64, hole: bool) -> AsyncTask<Seek> {
    AsyncTask::new(Seek::new(fd, offset, hole))
}

/// As [`seek_allocation`], on the calling thread.
#[napi]
pub fn seek_allocation_here(fd: RawFd, offset: i64, hole: bool) -> i64 {
    Seek::new(fd, offset, hole).call()
}
