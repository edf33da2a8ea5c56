//! Interfaces in a bridge of the host's: made here, by who may, or by QEMU's program for those who may not.

use std::io::{Error, ErrorKind, IoSliceMut};
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr;

use super::device;
use crate::errno::{self, Result};

/// A program that says nothing for so long is ended.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 20, tv_usec: 0 };
/// The first byte of an address that no card has: a bridge takes the lowest address of its ports for its own.
const HIGHEST: libc::c_char = 0xfe_u8 as libc::c_char;
/// `SIOCBRADDIF`.
const ADD_PORT: libc::Ioctl = 0x89a2;

/// Makes an interface and puts it into a bridge. Fails with `EPERM` or `EACCES` without the right to, `ENODEV` when
/// there is no such bridge.
pub fn open(bridge: &str) -> Result<(OwnedFd, String)> {
    let (tap, name) = device::open("")?;
    // SAFETY: takes numbers alone.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(errno::last("socket"));
    }
    // SAFETY: a descriptor that is ours alone.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let ask = |what: &str, request: libc::Ioctl, about: &mut libc::ifreq| {
        // SAFETY: each of these requests reads and writes one `ifreq`, which lives until the call returns.
        let answer = unsafe { libc::ioctl(socket.as_raw_fd(), request, ptr::from_mut(about)) };
        if answer == 0 { Ok(()) } else { Err(errno::last(what)) }
    };
    let mut port = named(&name);
    ask("SIOCGIFHWADDR", libc::SIOCGIFHWADDR, &mut port)?;
    // SAFETY: that request has filled in the address.
    unsafe { port.ifr_ifru.ifru_hwaddr.sa_data[0] = HIGHEST };
    ask("SIOCSIFHWADDR", libc::SIOCSIFHWADDR, &mut port)?;
    // What is longer than the bridge takes would be lost there.
    let mut about = named(bridge);
    ask("SIOCGIFMTU", libc::SIOCGIFMTU, &mut about)?;
    let mut port = named(&name);
    // SAFETY: that request has filled in the length.
    port.ifr_ifru.ifru_mtu = unsafe { about.ifr_ifru.ifru_mtu };
    ask("SIOCSIFMTU", libc::SIOCSIFMTU, &mut port)?;
    let mut port = named(&name);
    ask("SIOCGIFINDEX", libc::SIOCGIFINDEX, &mut port)?;
    let mut about = named(bridge);
    // SAFETY: that request has filled in the number.
    about.ifr_ifru.ifru_ifindex = unsafe { port.ifr_ifru.ifru_ifindex };
    ask("SIOCBRADDIF", ADD_PORT, &mut about)?;
    let mut port = named(&name);
    ask("SIOCGIFFLAGS", libc::SIOCGIFFLAGS, &mut port)?;
    // SAFETY: that request has filled in the flags.
    unsafe { port.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    ask("SIOCSIFFLAGS", libc::SIOCSIFFLAGS, &mut port)?;
    Ok((tap, name))
}

/// Lets a program do that which has the right to, and takes the interface from it (docs of qemu-bridge-helper). Fails
/// with `EPROTO` when it ends without one; why is on its standard error.
pub fn open_by(helper: &str, bridge: &str) -> Result<(OwnedFd, String)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
        return Err(errno::last("socketpair"));
    }
    // SAFETY: descriptors that are ours alone.
    let [ours, theirs] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let length = size_of::<libc::timeval>() as libc::socklen_t;
    // SAFETY: the kernel reads one `timeval`.
    unsafe {
        let patience = ptr::from_ref(&PATIENCE).cast();
        libc::setsockopt(ours.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, patience, length);
    }
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(helper);
    command.arg("--use-vnet").arg(format!("--fd={fd}")).arg(format!("--br={bridge}"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // Node.js leaves no child its descriptors.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    command.stderr(stderr.map_err(|error| failed(&error, helper))?);
    // SAFETY: `fcntl` may be called between fork and exec, and allocates nothing.
    unsafe {
        command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        });
    }
    let mut child = command.spawn().map_err(|error| failed(&error, helper))?;
    drop(theirs);
    let tap = receive(&ours);
    // One that has sent nothing may wait for ever.
    if tap.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error, helper))?;
    match tap {
        Ok(tap) if status.success() => {
            let name = device::adopt(&tap)?;
            Ok((tap, name))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(failed(&error, helper)),
        _ => Err(errno::js(libc::EPROTO, helper)),
    }
}

fn failed(error: &Error, what: &str) -> napi::Error<errno::Code> {
    errno::js(error.raw_os_error().unwrap_or(libc::EIO), what)
}

/// A request about the interface `name`, whose length was checked.
fn named(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    let room = libc::IFNAMSIZ - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// The descriptor that comes with the next byte.
fn receive(socket: &OwnedFd) -> std::io::Result<OwnedFd> {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = MaybeUninit::<Control>::zeroed();
    let mut byte = [0];
    let mut part = IoSliceMut::new(&mut byte);
    // SAFETY: `msghdr` is plain data, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = ptr::from_mut(&mut part).cast();
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    loop {
        // SAFETY: the message names memory that lives until the call returns.
        let length =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if length >= 0 {
            break;
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: the kernel has filled in the message; a header that it gives lies in `control`.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_one = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len >= libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
        if !is_one {
            return Err(Error::from_raw_os_error(libc::EPROTO));
        }
        Ok(OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>())))
    }
}
