//! One connection: a socket of smoltcp towards the guest, and one of the host.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration as StdDuration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// A guest that is silent is asked this often, and given up after `TIMEOUT`. As the next segment
/// behind a closed window is not tried, asking is also what finds that it is open again.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(600);

/// Both ends as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The guest's end.
    pub guest: SocketAddr,
    /// The other.
    pub peer: SocketAddr,
}

/// How far it is.
#[derive(Debug)]
pub enum Stage {
    /// The host connects; this is what the guest began with.
    Connecting(Box<[u8]>),
    /// The program has not decided yet.
    Asked(Box<[u8]>),
    /// The program wants that the guest hears nothing.
    Dropped,
    /// Both sides exist.
    Open,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Who speaks with whom.
    pub key: Key,
    /// How far it is.
    pub stage: Stage,
    /// The guest's side, when it is open.
    pub sockets: SocketSet<'static>,
    handle: Option<SocketHandle>,
    /// The host's side.
    pub host: Option<OwnedFd>,
    /// The host may have something to read.
    pub readable: bool,
    /// The host may take something.
    pub writable: bool,
    /// The host sends no more.
    ended: bool,
    /// The host was told that the guest sends no more.
    told_end: bool,
    /// The guest's side was reset, by whom ever.
    pub reset: bool,
    /// Data of a segment towards the guest.
    pub mss: u16,
    /// The sequence number behind everything that was sent to the guest; absent before the first segment.
    pub next_sequence: Option<u32>,
    /// When it is to be looked at again, as the list of timers has it.
    pub wake_us: Option<u64>,
    /// When it is given up although nothing happened.
    pub until_us: Option<u64>,
    /// It is in the list of those that are to be looked at.
    pub queued: bool,
    /// Bytes of buffers.
    pub memory: usize,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// Both sides are done.
    Done,
}

impl Connection {
    /// One that has no guest's side yet.
    pub fn new(key: Key, stage: Stage, host: Option<OwnedFd>) -> Self {
        Self {
            key,
            stage,
            sockets: SocketSet::new(Vec::new()),
            handle: None,
            host,
            readable: false,
            writable: false,
            ended: false,
            told_end: false,
            reset: false,
            mss: 0,
            next_sequence: None,
            wake_us: None,
            until_us: None,
            queued: false,
            memory: 0,
        }
    }

    /// Makes the guest's side, with buffers of this many bytes in each direction.
    pub fn open(&mut self, buffer: usize) -> &mut Socket<'static> {
        let ring = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(ring(), ring());
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(TIMEOUT));
        self.memory = 2 * buffer;
        self.stage = Stage::Open;
        let handle = self.sockets.add(socket);
        self.handle = Some(handle);
        self.sockets.get_mut(handle)
    }

    /// The guest's side.
    pub fn socket(&mut self) -> Option<&mut Socket<'static>> {
        self.handle.map(|handle| self.sockets.get_mut(handle))
    }

    /// Notes how far the numbers are that a segment to the guest has reached; some are sent again.
    pub fn sent_up_to(&mut self, end: Option<u32>) {
        let Some(end) = end else { return };
        if self.next_sequence.is_none_or(|known| end.wrapping_sub(known).cast_signed() > 0) {
            self.next_sequence = Some(end);
        }
    }

    /// The state of the guest's side.
    pub fn state(&self) -> State {
        self.handle.map_or(State::Closed, |handle| self.sockets.get::<Socket<'_>>(handle).state())
    }

    /// Over IPv6.
    pub fn six(&self) -> bool {
        matches!(self.key.guest.ip(), IpAddr::V6(_))
    }

    /// Moves what can be moved between the two sockets.
    pub fn transfer(&mut self) {
        if self.reset {
            return;
        }
        let (Some(handle), Some(host)) = (self.handle, &self.host) else { return };
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        let mut failed = false;
        while self.readable && !self.ended && socket.can_send() {
            let read = socket.send(|space| {
                match rustix::net::recv(host, &mut *space, RecvFlags::empty()) {
                    Ok((_, count)) => (count, Ok((count, space.len()))),
                    Err(errno) => (0, Err(errno)),
                }
            });
            match read {
                Ok(Ok((0, _))) => {
                    self.ended = true;
                    socket.close();
                }
                // A stream that gave less than was asked has no more, and tells when it has again. The
                // end is told with the next read.
                Ok(Ok(_)) | Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => self.readable = false,
                Ok(Err(_)) | Err(_) => failed = true,
            }
            if failed {
                break;
            }
        }
        // The end can be told although there is no room for data.
        while self.writable && socket.can_recv() && !failed {
            let written =
                socket.recv(|data| match rustix::net::send(host, data, SendFlags::NOSIGNAL) {
                    Ok(count) => (count, Ok(())),
                    Err(errno) => (0, Err(errno)),
                });
            match written {
                Ok(Ok(())) | Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => self.writable = false,
                Ok(Err(_)) | Err(_) => failed = true,
            }
        }
        if failed {
            socket.abort();
            self.reset = true;
            self.host = None;
            return;
        }
        let guest_ended = !socket.may_recv()
            && !socket.can_recv()
            && !matches!(socket.state(), State::Listen | State::SynSent | State::SynReceived);
        if guest_ended && !self.told_end {
            self.told_end = true;
            let _ = rustix::net::shutdown(host, Shutdown::Write);
        }
    }

    /// Whether it has to go on, once there is nothing left to send.
    pub fn fate(&mut self) -> Fate {
        let (ended, told_end, gone) = (self.ended, self.told_end, self.host.is_none());
        let reset = self.reset;
        let Some(socket) = self.socket() else { return Fate::Lives };
        let over = match socket.state() {
            State::Closed => reset || gone || !socket.can_recv(),
            // The guest took back what it began with.
            State::Listen => true,
            // Its purpose, strange segments of old connections, does not exist on this link.
            State::TimeWait => ended && told_end,
            _ => false,
        };
        if over { Fate::Done } else { Fate::Lives }
    }

    /// Whether the host is to learn that it did not end well.
    fn abrupt(&self) -> bool {
        self.reset || !(self.ended && self.told_end)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(host) = &self.host
            && matches!(self.stage, Stage::Open)
            && self.abrupt()
        {
            let _ = sockopt::set_socket_linger(host, Some(StdDuration::ZERO));
        }
    }
}
