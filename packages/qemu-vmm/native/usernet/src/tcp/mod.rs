//! TCP: connections of the guest to the host, and forwarded ones of the host to the guest.

mod connection;
mod open;
mod severed;
mod table;
mod wire;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::net::sockopt;
use smoltcp::iface::{Config as InterfaceConfig, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::batch::Out;
use crate::config::Config;
use crate::context::Context;
use crate::host::Ready;
use crate::link::{IPV4_HEADER, IPV6_HEADER, Link, MTU};
use crate::packet::{FLAG_ACK, FLAG_RST, FLAG_SYN, Packet, Segment, mss_option};
use crate::question::Question;
use crate::state::Severed;
pub use connection::Key;
use connection::{Fate, Stage};
use table::Table;
use wire::{LEAST_MSS, MAX_PACKET, Wire};

/// All connections.
pub struct Tcp {
    interface: Interface,
    nobody: SocketSet<'static>,
    table: Table,
    scratch: Vec<u8>,
    next_port: u16,
    /// Connections of a saved machine that the guest is to be told the end of.
    severed: VecDeque<Severed>,
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
            end: None,
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
            severed: VecDeque::new(),
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
            end: None,
        };
        let now = Instant::from_micros(cx.now_us as i64);
        let interface = &mut self.interface;
        let done = catch_unwind(AssertUnwindSafe(|| {
            interface.poll_ingress_single(now, &mut wire, sockets);
        }));
        let end = wire.end;
        if let Some(connection) = index.and_then(|index| self.table.get_mut(index)) {
            connection.sent_up_to(end);
        }
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
        if !self.reset_severed(cx) {
            return true;
        }
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
        if connection.until_us.is_some_and(|until_us| until_us <= cx.now_us) {
            // The guest has given it up.
            self.table.remove(index);
            return false;
        }
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
            end: None,
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
        connection.sent_up_to(wire.end);
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
