//! Sizes of block devices (the ioctls of linux/fs.h).

use std::os::fd::RawFd;

use napi_derive::napi;

use crate::errno::{self, Result};

// linux/fs.h: _IO(0x12, 104), _IO(0x12, 123), _IOR(0x12, 114, size_t)
const BLKSSZGET: libc::c_ulong = 0x1268;
const BLKPBSZGET: libc::c_ulong = 0x127b;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

/// Size in bytes, logical and physical sector size of a block device.
#[napi]
pub fn block_device_geometry(fd: RawFd) -> Result<Vec<f64>> {
    let mut size = 0u64;
    let mut logical: libc::c_int = 0;
    let mut physical: libc::c_uint = 0;
    // SAFETY: each ioctl writes one number of the type that its definition names.
    let failed = unsafe {
        libc::ioctl(fd, BLKGETSIZE64 as _, &raw mut size) != 0
            || libc::ioctl(fd, BLKSSZGET as _, &raw mut logical) != 0
            || libc::ioctl(fd, BLKPBSZGET as _, &raw mut physical) != 0
    };
    if failed {
        return Err(errno::last("ioctl BLKGETSIZE64"));
    }
    // Devices of 2^53 bytes do not exist; a size that large would round, not wrap.
    Ok(vec![size as f64, f64::from(logical), f64::from(physical)])
}
