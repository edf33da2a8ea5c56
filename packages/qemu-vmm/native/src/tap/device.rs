//! `/dev/net/tun` (Documentation/networking/tuntap.rst of Linux).

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::errno::{self, Result};

const HEADER_BYTES: libc::c_int = 12;

/// Opens the interface `name` with headers of virtio, and tells how it is called.
pub fn open(name: &str) -> Result<(OwnedFd, String)> {
    let bytes = name.as_bytes();
    if bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(errno::js(libc::ENAMETOOLONG, "the name of an interface"));
    }
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path is a string that ends with a zero.
    let fd = unsafe { libc::open(c"/dev/net/tun".as_ptr(), flags) };
    if fd < 0 {
        return Err(errno::last("/dev/net/tun"));
    }
    // SAFETY: a descriptor that is ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives until the call returns.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } != 0 {
        return Err(errno::last("TUNSETIFF"));
    }
    set_header(&fd)?;
    let name = name_in(&request);
    Ok((fd, name))
}

/// A second descriptor for what is open as the first. Fails with `EBADF` when there is none.
pub fn duplicate(fd: i32) -> Result<OwnedFd> {
    // SAFETY: takes numbers alone.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(errno::last("the descriptor of an interface"));
    }
    // SAFETY: a descriptor that is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Takes an interface that another program has opened, and tells how it is called. Fails with `EPROTO` for one without
/// headers of virtio, or for what is no interface.
pub fn adopt(fd: &OwnedFd) -> Result<String> {
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes one `ifreq`, which lives until the call returns.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    // SAFETY: that request has filled in the flags.
    let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
    let wanted = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if answer != 0 || flags & wanted != wanted {
        return Err(errno::js(libc::EPROTO, "an interface that was given"));
    }
    set_header(fd)?;
    // SAFETY: takes numbers alone.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: as before.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } != 0 {
        return Err(errno::last("O_NONBLOCK"));
    }
    Ok(name_in(&request))
}

fn set_header(fd: &OwnedFd) -> Result<()> {
    let size = HEADER_BYTES;
    // SAFETY: TUNSETVNETHDRSZ reads one `int`, which lives until the call returns.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) } != 0 {
        return Err(errno::last("TUNSETVNETHDRSZ"));
    }
    Ok(())
}

fn name_in(request: &libc::ifreq) -> String {
    let letters = request.ifr_name.iter().take_while(|&&letter| letter != 0);
    letters.map(|&letter| char::from(letter as u8)).collect()
}

/// What may be in the headers of frames that are read.
pub fn set_offload(fd: &OwnedFd, accepts: u32) -> Result<()> {
    let kinds = libc::c_ulong::from(accepts & 0x0f);
    // Without checksums there is nothing else.
    let kinds = if kinds & 1 == 0 { 0 } else { kinds };
    // SAFETY: TUNSETOFFLOAD takes a number.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, kinds) } != 0 {
        return Err(errno::last("TUNSETOFFLOAD"));
    }
    Ok(())
}

/// Reads a header and a frame; an errno otherwise.
pub fn read(fd: &OwnedFd, into: &mut [u8]) -> std::result::Result<usize, i32> {
    let start = into.as_mut_ptr().cast::<c_void>();
    // SAFETY: the kernel writes no more than the length of the slice.
    let length = unsafe { libc::read(fd.as_raw_fd(), start, into.len()) };
    usize::try_from(length).map_err(|_| errno::last_errno())
}

/// Writes a header and a frame; an errno otherwise.
pub fn write(fd: &OwnedFd, frame: &[u8]) -> std::result::Result<(), i32> {
    let start = frame.as_ptr().cast::<c_void>();
    // SAFETY: the kernel reads no more than the length of the slice.
    let length = unsafe { libc::write(fd.as_raw_fd(), start, frame.len()) };
    if length < 0 { Err(errno::last_errno()) } else { Ok(()) }
}
