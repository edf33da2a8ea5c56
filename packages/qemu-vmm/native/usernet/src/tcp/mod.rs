//! TCP: connections of the guest to the host, and forwarded ones of the host to the guest.

mod connection;
mod table;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use rustix::net::sockopt;
use smoltcp::iface::{Config as InterfaceConfig, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use crate::batch::Out;
use crate::config::{Config, HostAddr};
use crate::context::Context;
use crate::host::{self, Kind, Ready, Token};
use crate::link::{IPV4_HEADER, IPV6_HEADER, Link, MTU};
use crate::packet::{FLAG_ACK, FLAG_RST, FLAG_SYN, Packet, Segment, mss_option};
use crate::translate::{inward, outward};
pub use connection::Key;
use connection::{Connection, Fate, Stage};
use table::Table;
use wire::{LEAST_MSS, MAX_PACKET, Wire};

/// Ports that nobody has for good (RFC 6335, section 6).
const FIRST_PORT: u16 = 49_152;

/// What is asked of the program about a connection.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Names the connection in the answer.
    pub id: u64,
    /// Who wants to speak with whom.
    pub key: Key,
}

/// What the program says.
#[derive(Debug)]
pub enum Answer {
    /// Where it would go without asking.
    Allow,
    /// Nowhere.
    Refuse,
    /// Somewhere else.
    Redirect(HostAddr),
    /// To the other end of this socket.
    Socket(OwnedFd),
}

/// All connections.
pub struct Tcp {
    interface: Interface,
    nobody: SocketSet<'static>,
    table: Table,
    scratch: Vec<u8>,
    next_port: u16,
    /// Connections that wait for the program.
    pub questions: Vec<Question>,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Tcp {
    /// None so far.
    pub fn new(config: &Config, link: &Link) -> Self {
        let mut scratch = Vec::new();
        let mut wire = Wire {
            packet: None,
            out: &mut Out::new(&mut [], 0),
            link,
            to: None,
            mss: LEAST_MSS,
            scratch: &mut scratch,
            blocked: false,
            sent: 0,
        };
        let mut settings = InterfaceConfig::new(HardwareAddress::Ip);
        settings.random_seed = config.seed;
        let mut interface = Interface::new(settings, &mut wire, Instant::ZERO);
        interface.set_any_ip(true);
        let own = |address: IpAddr| match address {
            IpAddr::V4(address) => IpCidr::new(IpAddress::Ipv4(address), 32),
            IpAddr::V6(address) => IpCidr::new(IpAddress::Ipv6(address), 128),
        };
        // Every address is taken as one of its own when the route to it leads to itself.
        interface.update_ip_addrs(|addresses| {
            let four = config.v4.as_ref().map(|v4| own(v4.host.into()));
            let six = config.v6.as_ref().map(|v6| own(v6.host.into()));
            for address in four.into_iter().chain(six) {
                let _ = addresses.push(address);
            }
        });
        if let Some(v4) = &config.v4 {
            let _ = interface.routes_mut().add_default_ipv4_route(v4.host);
        }
        if let Some(v6) = &config.v6 {
            let _ = interface.routes_mut().add_default_ipv6_route(v6.host);
        }
        Self {
            interface,
            nobody: SocketSet::new(Vec::new()),
            table: Table::new(config.max_tcp),
            scratch,
            next_port: 0,
            questions: Vec::new(),
        }
    }

    /// Connections that exist.
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// Bytes of their buffers.
    pub fn memory(&self) -> usize {
        self.table.memory
    }

    /// A segment of the guest's.
    pub fn input(&mut self, cx: &mut Context<'_, '_>, packet: &Packet<'_>) {
        let Some(segment) = Segment::parse(packet.payload) else { return };
        if !packet.checksum_holds() || segment.from == 0 || segment.to == 0 {
            return;
        }
        let key = Key {
            guest: SocketAddr::new(packet.header.source, segment.from),
            peer: SocketAddr::new(packet.header.destination, segment.to),
        };
        if let Some(index) = self.table.find(key) {
            self.feed(cx, index, packet, segment);
        } else if segment.flags & (FLAG_SYN | FLAG_ACK | FLAG_RST) == FLAG_SYN {
            self.begin(cx, key, packet);
        } else {
            self.refuse(cx, packet.bytes, key);
        }
    }

    fn feed(
        &mut self,
        cx: &mut Context<'_, '_>,
        index: u32,
        packet: &Packet<'_>,
        segment: Segment,
    ) {
        let Some(connection) = self.table.get_mut(index) else { return };
        if !matches!(connection.stage, Stage::Open) {
            // The guest repeats what it began with until the host has answered.
            if segment.flags & FLAG_RST != 0 {
                self.table.remove(index);
            }
            return;
        }
        let key = connection.key;
        let first = segment.flags & FLAG_SYN != 0;
        let mut copy = Vec::new();
        let bytes = if first {
            // Only the answer to a forwarded connection still says something new.
            copy.extend_from_slice(packet.bytes);
            let mss = stretch(&mut copy, connection.six());
            if connection.state() == State::SynSent {
                connection.mss = mss;
            }
            &copy
        } else {
            packet.bytes
        };
        self.ingress(cx, Some(index), key, bytes);
        if let Some(connection) = self.table.get_mut(index) {
            let closed = matches!(connection.state(), State::Closed | State::Listen);
            connection.reset |= segment.flags & FLAG_RST != 0 && closed;
        }
        self.table.queue(index);
    }

    /// Gives smoltcp a packet, for one connection or for none.
    fn ingress(&mut self, cx: &mut Context<'_, '_>, index: Option<u32>, key: Key, bytes: &[u8]) {
        let connection = index.and_then(|index| self.table.get_mut(index));
        let mss = connection.as_ref().map_or(LEAST_MSS, |connection| connection.mss);
        let sockets = connection.map_or(&mut self.nobody, |connection| &mut connection.sockets);
        let mut wire = Wire {
            packet: Some(bytes),
            to: cx.link.neighbor(key.guest.ip()),
            out: &mut *cx.out,
            link: &*cx.link,
            mss,
            scratch: &mut self.scratch,
            blocked: false,
            sent: 0,
        };
        let now = Instant::from_micros(cx.now_us as i64);
        let interface = &mut self.interface;
        let done = catch_unwind(AssertUnwindSafe(|| {
            interface.poll_ingress_single(now, &mut wire, sockets);
        }));
        // A defect there costs the connection, not the process.
        if done.is_err()
            && let Some(index) = index
        {
            self.table.remove(index);
        }
    }

    /// Says that there is no such connection.
    fn refuse(&mut self, cx: &mut Context<'_, '_>, bytes: &[u8], key: Key) {
        self.ingress(cx, None, key, bytes);
    }

    /// The guest wants a connection.
    fn begin(&mut self, cx: &mut Context<'_, '_>, key: Key, packet: &Packet<'_>) {
        let forward = cx.config.guest_forwards.iter().find(|forward| forward.at == key.peer);
        let ask = cx.config.ask || forward.is_some_and(|forward| forward.to.is_none());
        if self.table.is_full() {
            return self.refuse(cx, packet.bytes, key);
        }
        let target = match forward {
            Some(forward) => forward.to.clone(),
            None => outward(cx.config, cx.resolver, cx.now_us, 0, key.peer).map(HostAddr::Inet),
        };
        if ask && (forward.is_some() || !cx.config.restrict) {
            let stage = Stage::Asked(packet.bytes.into());
            let token = self.table.add(Connection::new(key, stage, None));
            return self.questions.push(Question { id: name(token), key });
        }
        let Some(target) = target else { return self.refuse(cx, packet.bytes, key) };
        let token =
            self.table.add(Connection::new(key, Stage::Connecting(packet.bytes.into()), None));
        self.connect(cx, token, &target);
    }

    /// What the program says to a question. An answer to one that is gone is no error.
    pub fn answer(&mut self, cx: &mut Context<'_, '_>, id: u64, answer: Answer) {
        let index = (id & 0xff_ffff) as u32;
        let token = Token { kind: Kind::Tcp, index, generation: (id >> 24) as u32 };
        let Some(connection) = self.table.with_mut(token) else { return };
        let Stage::Asked(first) = &mut connection.stage else { return };
        let first = std::mem::take(first);
        let key = connection.key;
        connection.stage = Stage::Connecting(first);
        let target = match answer {
            Answer::Allow => {
                let forward =
                    cx.config.guest_forwards.iter().find(|forward| forward.at == key.peer);
                match forward {
                    Some(forward) => forward.to.clone(),
                    None => {
                        outward(cx.config, cx.resolver, cx.now_us, 0, key.peer).map(HostAddr::Inet)
                    }
                }
            }
            Answer::Refuse => None,
            Answer::Redirect(target) => Some(target),
            Answer::Socket(socket) => {
                let watched = cx.poller.add(socket.as_fd(), token);
                connection.host = Some(socket);
                return match watched {
                    Ok(()) => self.connected(cx, token.index),
                    Err(_) => self.fail(cx, token.index),
                };
            }
        };
        match target {
            Some(target) => self.connect(cx, token, &target),
            None => self.fail(cx, token.index),
        }
    }

    fn connect(&mut self, cx: &mut Context<'_, '_>, token: Token, target: &HostAddr) {
        let attempt = host::connect(target).and_then(|(socket, there)| {
            let watched = cx.poller.add(socket.as_fd(), token);
            watched.map(|()| (socket, there)).map_err(|_| Errno::NOMEM)
        });
        match attempt {
            Ok((socket, there)) => {
                if let Some(connection) = self.table.get_mut(token.index) {
                    connection.host = Some(socket);
                }
                if there {
                    self.connected(cx, token.index);
                }
            }
            Err(_) => self.fail(cx, token.index),
        }
    }

    /// The host refused: so does the network.
    fn fail(&mut self, cx: &mut Context<'_, '_>, index: u32) {
        let Some(connection) = self.table.get_mut(index) else { return };
        let key = connection.key;
        let stage = std::mem::replace(&mut connection.stage, Stage::Open);
        self.table.remove(index);
        if let Stage::Connecting(first) | Stage::Asked(first) = stage {
            self.refuse(cx, &first, key);
        }
    }

    /// The host answered: the guest may have its connection.
    fn connected(&mut self, cx: &mut Context<'_, '_>, index: u32) {
        let buffer = self.table.buffer();
        let Some(connection) = self.table.get_mut(index) else { return };
        let Stage::Connecting(first) = &mut connection.stage else { return };
        let mut first = std::mem::take(first).into_vec();
        let (key, six) = (connection.key, connection.six());
        connection.mss = stretch(&mut first, six);
        connection.writable = true;
        let listening = connection.open(buffer).listen(endpoint(key.peer));
        self.table.grew(2 * buffer);
        if listening.is_err() {
            return self.table.remove(index);
        }
        self.ingress(cx, Some(index), key, &first);
        self.table.queue(index);
    }

    /// A forward accepted a connection that leads to `guest`.
    pub fn forward(
        &mut self,
        cx: &mut Context<'_, '_>,
        socket: OwnedFd,
        from: Option<SocketAddr>,
        guest: SocketAddr,
    ) {
        let Some(seen) = inward(cx.config, from.map(|from| from.ip()), guest.is_ipv6()) else {
            return;
        };
        if self.table.is_full() {
            return;
        }
        let Some(port) = self.free_port(guest, seen, from.map(|from| from.port())) else { return };
        let key = Key { guest, peer: SocketAddr::new(seen, port) };
        let buffer = self.table.buffer();
        let token = self.table.add(Connection::new(key, Stage::Open, None));
        if cx.poller.add(socket.as_fd(), token).is_err() {
            return self.table.remove(token.index);
        }
        let interface = self.interface.context();
        let Some(connection) = self.table.get_mut(token.index) else { return };
        connection.host = Some(socket);
        connection.mss = segment_limit(connection.six());
        let socket = connection.open(buffer);
        let result = socket.connect(interface, endpoint(guest), endpoint(key.peer));
        self.table.grew(2 * buffer);
        if result.is_err() {
            return self.table.remove(token.index);
        }
        self.table.queue(token.index);
    }

    /// A port for a peer of the guest: the client's own when no other connection has it.
    fn free_port(&mut self, guest: SocketAddr, seen: IpAddr, own: Option<u16>) -> Option<u16> {
        let mut candidates = 0..256;
        let mut port = own;
        loop {
            if let Some(port) = port
                && self.table.find(Key { guest, peer: SocketAddr::new(seen, port) }).is_none()
            {
                return Some(port);
            }
            candidates.next()?;
            self.next_port = self.next_port.wrapping_add(1).max(FIRST_PORT);
            port = Some(self.next_port);
        }
    }

    /// A socket of the host has news.
    pub fn ready(&mut self, cx: &mut Context<'_, '_>, ready: Ready) {
        let Some(connection) = self.table.with_mut(ready.token) else { return };
        connection.readable |= ready.readable;
        connection.writable |= ready.writable;
        match (&connection.stage, &connection.host) {
            (Stage::Connecting(_), Some(socket)) => {
                if !ready.writable {
                    return;
                }
                match sockopt::socket_error(socket) {
                    Ok(Ok(())) => self.connected(cx, ready.token.index),
                    _ => self.fail(cx, ready.token.index),
                }
            }
            (Stage::Open, _) => self.table.queue(ready.token.index),
            _ => {}
        }
    }

    /// Connections whose time has come are to be looked at.
    pub fn tick(&mut self, now_us: u64) {
        self.table.tick(now_us);
    }

    /// When the next has.
    pub fn next_us(&self) -> Option<u64> {
        self.table.next_us()
    }

    /// The guest's card is known now: what waited for that goes on.
    pub fn learned(&mut self) {
        self.table.queue_waiting();
    }

    /// Moves data and sends packets of the connections that are to be looked at. True when it stopped
    /// because there was no more room.
    pub fn output(&mut self, cx: &mut Context<'_, '_>) -> bool {
        // Each of those that are there now, once: the guest's answers come between.
        for _ in 0..self.table.queued() {
            let Some(index) = self.table.take() else { break };
            if self.pump(cx, index) {
                self.table.queue(index);
                return true;
            }
        }
        false
    }

    /// True when it has more to send than there was room for.
    fn pump(&mut self, cx: &mut Context<'_, '_>, index: u32) -> bool {
        let Some(connection) = self.table.get_mut(index) else { return false };
        if !matches!(connection.stage, Stage::Open) {
            return false;
        }
        connection.transfer();
        let key = connection.key;
        let to = cx.find(key.guest.ip());
        let mut wire = Wire {
            packet: None,
            out: &mut *cx.out,
            link: &*cx.link,
            to,
            mss: connection.mss,
            scratch: &mut self.scratch,
            blocked: false,
            sent: 0,
        };
        let now = Instant::from_micros(cx.now_us as i64);
        let interface = &mut self.interface;
        let sockets = &mut connection.sockets;
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let before = wire.sent;
                let result = interface.poll_egress(now, &mut wire, sockets);
                if result == PollResult::None || wire.sent == before {
                    break;
                }
            }
            interface.poll_at(now, sockets)
        }));
        let blocked = wire.blocked;
        let Ok(wake) = done else {
            self.table.remove(index);
            return false;
        };
        if blocked {
            return true;
        }
        if connection.fate() == Fate::Done {
            self.table.remove(index);
            return false;
        }
        if let Some(wake) = wake {
            // Without the guest's card nothing goes out: ask again, not at once.
            let least = if to.is_none() { cx.now_us + 1_000_000 } else { cx.now_us + 1_000 };
            let at = (wake.total_micros().max(0) as u64).max(least);
            self.table.wake(index, at);
        }
        false
    }
}

/// A number that fits into a double.
fn name(token: Token) -> u64 {
    u64::from(token.generation) << 24 | u64::from(token.index)
}

fn endpoint(address: SocketAddr) -> IpEndpoint {
    IpEndpoint::from(address)
}

/// Data of a segment that the link takes.
fn segment_limit(six: bool) -> u16 {
    (MTU - if six { IPV6_HEADER } else { IPV4_HEADER } - 20) as u16
}

/// Lets smoltcp make long segments: returns what the guest takes, and writes the longest possible in
/// its place. What goes to the guest is cut.
fn stretch(packet: &mut [u8], six: bool) -> u16 {
    let start = match packet.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 15) * 4,
        _ => IPV6_HEADER,
    };
    let limit = segment_limit(six);
    let Some(segment) = packet.get(start..).and_then(Segment::parse) else { return limit };
    let Some(at) = mss_option(&packet[start..start + segment.header]) else {
        return LEAST_MSS;
    };
    let field = &mut packet[start + at..start + at + 2];
    let wanted = u16::from_be_bytes([field[0], field[1]]).min(limit);
    if wanted < LEAST_MSS {
        return wanted.max(1);
    }
    let longest = MAX_PACKET - start.max(IPV6_HEADER) - 60;
    field.copy_from_slice(&(longest as u16).to_be_bytes());
    wanted
}
