//! Sockets of the host: all of them non-blocking, all in one epoll.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::config::HostAddr;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// Connections that wait for being accepted.
const BACKLOG: i32 = 128;
/// Events that are taken at a time.
pub const EVENTS: usize = 256;

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TCP connection.
    Tcp = 0,
    /// A listening socket of a forward.
    Listener = 1,
    /// A socket of UDP.
    Udp = 2,
    /// A socket of ICMP echo.
    Ping = 3,
    /// A UDP socket of a forward.
    UdpForward = 4,
    /// The clock.
    Timer = 5,
}

/// What an event is about. The generation tells a socket from the one that had its place before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Whose table.
    pub kind: Kind,
    /// Place in it.
    pub index: u32,
    /// 24 bits.
    pub generation: u32,
}

impl Token {
    fn pack(self) -> u64 {
        (self.kind as u64) << 56
            | u64::from(self.generation & 0xff_ffff) << 32
            | u64::from(self.index)
    }

    fn unpack(value: u64) -> Option<Self> {
        let kind = match value >> 56 {
            0 => Kind::Tcp,
            1 => Kind::Listener,
            2 => Kind::Udp,
            3 => Kind::Ping,
            4 => Kind::UdpForward,
            5 => Kind::Timer,
            _ => return None,
        };
        Some(Self { kind, index: value as u32, generation: (value >> 32) as u32 & 0xff_ffff })
    }
}

/// A socket that became readable, writable, or broke.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// Which.
    pub token: Token,
    /// Something can be read: data, the end, or an error.
    pub readable: bool,
    /// Something can be written, or an error be had.
    pub writable: bool,
}

/// The epoll. It tells of each change once (edge-triggered): who owns a socket remembers what was
/// told until a call says that there is no more.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    pub fn add(&self, socket: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token.pack()), flags)?)
    }

    /// What happened since the last call, without waiting. True when there may be more.
    pub fn take(&self, ready: &mut Vec<Ready>) -> bool {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events[..], Some(&zero)) else {
            return false;
        };
        for event in events.iter() {
            let (data, flags) = (event.data, event.flags);
            let Some(token) = Token::unpack(data.u64()) else { continue };
            let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            let input = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            ready.push(Ready {
                token,
                readable: broken || flags.intersects(input),
                writable: broken || flags.contains(epoll::EventFlags::OUT),
            });
        }
        events.len() == EVENTS
    }
}

/// The clock of the network may stand still while that of the host goes on: it must not ring all the
/// time then.
const LEAST_US: u64 = 1_000;

/// A clock that makes the epoll readable.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
    armed_us: Option<u64>,
}

impl Timer {
    /// One that is not armed.
    pub fn new(poller: &Poller) -> io::Result<Self> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        poller.add(fd.as_fd(), Token { kind: Kind::Timer, index: 0, generation: 0 })?;
        Ok(Self { fd, armed_us: None })
    }

    /// It rang: the epoll is to be told when it does again.
    pub fn rang(&mut self) {
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.armed_us = None;
    }

    /// Rings at `at_us` on the clock that says `now_us` now; None never.
    pub fn arm(&mut self, now_us: u64, at_us: Option<u64>) {
        if self.armed_us == at_us {
            return;
        }
        self.armed_us = at_us;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would disarm it.
        let value = at_us.map_or(zero, |at| {
            let left = at.saturating_sub(now_us).max(LEAST_US);
            Timespec {
                tv_sec: (left / 1_000_000) as i64,
                tv_nsec: (left % 1_000_000 * 1000) as i64,
            }
        });
        let spec = Itimerspec { it_interval: zero, it_value: value };
        let _ = timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec);
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Begins a connection. Ok(true) when it is there already.
pub fn connect(to: &HostAddr) -> Result<(OwnedFd, bool), Errno> {
    let stream = |family| rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None);
    let (socket, result) = match to {
        HostAddr::Inet(address) => {
            let socket = stream(family(*address))?;
            // Data goes out as the guest sends it: the guest has an algorithm of its own.
            sockopt::set_tcp_nodelay(&socket, true)?;
            let result = rustix::net::connect(&socket, address);
            (socket, result)
        }
        HostAddr::Unix(path) => {
            let socket = stream(AddressFamily::UNIX)?;
            let result = rustix::net::connect(&socket, &unix(path)?);
            (socket, result)
        }
    };
    match result {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(errno),
    }
}

fn unix(path: &Path) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(path)
}

/// A socket that nobody listens at any more: that of a process that was killed.
fn is_left(path: &Path, address: &SocketAddrUnix) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let probe = || {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
        rustix::net::connect(&socket, address)
    };
    is_socket && probe() == Err(Errno::CONNREFUSED)
}

/// Listens for connections of a forward.
pub fn listen(at: &HostAddr) -> Result<OwnedFd, Errno> {
    let stream = |family| rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None);
    let socket = match at {
        HostAddr::Inet(address) => {
            let socket = stream(family(*address))?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, address)?;
            socket
        }
        HostAddr::Unix(path) => {
            let socket = stream(AddressFamily::UNIX)?;
            let address = unix(path)?;
            match rustix::net::bind(&socket, &address) {
                Err(Errno::ADDRINUSE) if is_left(path, &address) => {
                    rustix::fs::unlink(path)?;
                    rustix::net::bind(&socket, &address)?;
                }
                result => result?,
            }
            socket
        }
    };
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Takes a connection, and who made it; None is a UNIX socket.
pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
    let (socket, peer) = rustix::net::acceptfrom_with(listener, FLAGS)?;
    let peer = peer.and_then(socket_addr);
    if peer.is_some() {
        let _ = sockopt::set_tcp_nodelay(&socket, true);
    }
    Ok((socket, peer))
}

/// Where a socket is bound.
pub fn local(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok().and_then(socket_addr)
}

/// A UDP socket for one family, at a port of the host's choice or at `at`.
pub fn datagrams(six: bool, at: Option<SocketAddr>) -> Result<OwnedFd, Errno> {
    let any =
        if six { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let at = at.unwrap_or(SocketAddr::new(any, 0));
    let socket = rustix::net::socket_with(family(at), SocketType::DGRAM, FLAGS, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}

/// A socket of ICMP echo, where `ping_group_range` lets the process have one.
pub fn echo(six: bool) -> Result<OwnedFd, Errno> {
    let (family, protocol) = if six {
        (AddressFamily::INET6, rustix::net::ipproto::ICMPV6)
    } else {
        (AddressFamily::INET, rustix::net::ipproto::ICMP)
    };
    let protocol: Protocol = protocol;
    rustix::net::socket_with(family, SocketType::DGRAM, FLAGS, Some(protocol))
}

/// The address of the Internet families, IPv4 as what it is.
pub fn socket_addr(address: SocketAddrAny) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(address).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
