//! What the program says about a connection of the guest's, and sockets through which it speaks itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use ::usernet::question::Answer;
use napi_derive::napi;

use super::io;
use super::options::place;
use crate::errno::{Result, js};

/// What becomes of a connection.
#[napi(object)]
#[derive(Debug)]
pub struct UserAnswer {
    /// `allow`, `refuse`, `drop`, `redirect` or `fd`.
    pub verdict: String,
    /// Of `redirect`: `unix:PATH`, or address and port.
    pub to: Option<String>,
    /// Of `fd`: a connected socket.
    pub fd: Option<i32>,
}

/// Two sockets of the loopback that are connected to each other.
#[napi(object)]
#[derive(Debug)]
pub struct UserPair {
    /// The program's end.
    pub program: i32,
    /// The network's, for an answer.
    pub network: i32,
    /// The port that the network's end has.
    pub network_port: u32,
}

impl UserAnswer {
    /// As the network wants it.
    pub fn parse(self) -> Result<Answer> {
        match (self.verdict.as_str(), self.to, self.fd) {
            ("allow", None, None) => Ok(Answer::Allow),
            ("refuse", None, None) => Ok(Answer::Refuse),
            ("drop", None, None) => Ok(Answer::Drop),
            ("redirect", Some(to), None) => Ok(Answer::Redirect(place(&to)?)),
            ("fd", None, Some(fd)) if fd >= 0 => Ok(Answer::Socket(adopt(fd)?)),
            (verdict, ..) => Err(js(libc::EINVAL, &format!("the answer '{verdict}'"))),
        }
    }
}

/// Takes a socket that is open over.
fn adopt(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl reads and sets flags of a descriptor, and fails where there is none.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: as above.
    if flags < 0 || unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(crate::errno::last("the socket of an answer"));
    }
    // SAFETY: it is open, and the caller gives it away.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a pair of TCP sockets: unlike others they can be reset.
#[napi]
pub fn user_tcp_pair() -> Result<UserPair> {
    UserPair::of(streams())
}

/// Makes a pair of UDP sockets. The program's takes datagrams of everybody: it has to look at the port.
#[napi]
pub fn user_udp_pair() -> Result<UserPair> {
    UserPair::of(datagrams())
}

impl UserPair {
    fn of(made: std::io::Result<Pair>) -> Result<Self> {
        let (program, network, network_port) =
            made.map_err(|error| io(&error, "two sockets of the loopback"))?;
        let (program, network) = (program.into_raw_fd(), network.into_raw_fd());
        Ok(Self { program, network, network_port })
    }
}

type Pair = (OwnedFd, OwnedFd, u32);

fn streams() -> std::io::Result<Pair> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let network = TcpStream::connect(listener.local_addr()?)?;
    let own: SocketAddr = network.local_addr()?;
    // Others of this host may be quicker.
    let program = loop {
        let (socket, peer) = listener.accept()?;
        if peer == own {
            break socket;
        }
    };
    for socket in [&network, &program] {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
    }
    Ok((program.into(), network.into(), own.port().into()))
}

fn datagrams() -> std::io::Result<Pair> {
    let [program, network] =
        [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    network.connect(program.local_addr()?)?;
    network.set_nonblocking(true)?;
    let port = network.local_addr()?.port();
    Ok((program.into(), network.into(), port.into()))
}
