//! UDP of the guest: a socket of the host for each of its ports, and ports of the host that lead into
//! the guest.

mod flows;
mod forwards;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny};

use crate::config::Protocol;
use crate::context::Context;
use crate::datagram::{MAX_DATAGRAM, ROOM, send};
use crate::host::{self, Kind, Token, socket_addr};
use crate::packet::Datagram;
use crate::question::Question;
use crate::translate::{Place, link_local, place};
use flows::Flows;
use forwards::Forwards;

/// A port that nothing went through for so long is given up; one that asks for a name sooner.
const IDLE_US: u64 = 240_000_000;
const IDLE_DNS_US: u64 = 30_000_000;
/// How often that is looked at.
const SWEEP_US: u64 = 5_000_000;
/// A name server that did not answer for so long is passed over for the next.
const PATIENCE_US: u64 = 1_500_000;
/// Addresses that may answer one port of the guest's: those that it wrote to last.
const PEERS: usize = 32;
/// Datagrams that are taken from a socket at a time.
const BURST: usize = 64;

/// A port of the guest, and whom its socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    guest: SocketAddr,
    whom: Whom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whom {
    /// Everybody that the guest writes to from that port.
    Anybody,
    /// The name server, at that port.
    Dns(u16),
    /// Who the guest takes for this one, by the program's decision or a guest forward.
    Instead(SocketAddr),
}

#[derive(Debug)]
struct Port {
    key: Key,
    socket: OwnedFd,
    used_us: u64,
    peers: Vec<IpAddr>,
    /// The name server that the socket asks, and when it was asked what it has not answered.
    asked: Option<(SocketAddr, Option<u64>)>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    port: Option<Port>,
}

/// All of UDP.
#[derive(Debug)]
pub struct Udp {
    slots: Vec<Slot>,
    free: Vec<u32>,
    keys: HashMap<Key, u32>,
    /// Sockets that have something to read for which there was no room.
    waiting: Vec<Token>,
    /// Ports of the host that lead into the guest.
    pub forwards: Forwards,
    /// What the program decided, and is asked.
    flows: Flows,
    /// Flows that wait for the program.
    pub questions: Vec<Question>,
    sweep_us: Option<u64>,
    attempt: usize,
    limit: usize,
    buffer: Vec<u8>,
}

impl Udp {
    /// No ports, and room for `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::new(),
            waiting: Vec::new(),
            forwards: Forwards::default(),
            flows: Flows::new(limit),
            questions: Vec::new(),
            sweep_us: None,
            attempt: 0,
            limit,
            buffer: vec![0; MAX_DATAGRAM],
        }
    }

    /// Ports that have a socket.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// A datagram of the guest's that is not for a server of the network itself.
    pub fn input(
        &mut self,
        cx: &mut Context<'_, '_>,
        from: IpAddr,
        to: IpAddr,
        datagram: Datagram<'_>,
    ) {
        let guest = SocketAddr::new(from, datagram.from);
        let to = SocketAddr::new(to, datagram.to);
        if datagram.from == 0 || datagram.to == 0 {
            return;
        }
        if self.forwards.answer(guest, to, datagram.data, cx.now_us) {
            return;
        }
        let forward = cx.config.guest_forward(Protocol::Udp, to);
        if cx.config.restrict && forward.is_none() {
            return;
        }
        let ask =
            cx.config.ask && (forward.is_some() || place(cx.config, to.ip()) != Place::Nowhere);
        if ask || forward.is_some_and(|forward| forward.to.is_none()) {
            self.by_decision(cx, guest, to, datagram.data);
        } else {
            self.as_usual(cx, guest, to, datagram.data);
        }
    }

    /// Sends a datagram where it goes without a decision of the program's.
    fn as_usual(
        &mut self,
        cx: &mut Context<'_, '_>,
        guest: SocketAddr,
        to: SocketAddr,
        data: &[u8],
    ) {
        if let Some(forward) = cx.config.guest_forward(Protocol::Udp, to) {
            return self.forwarded(cx, guest, to, forward.to.as_ref(), data);
        }
        match place(cx.config, to.ip()) {
            Place::Nowhere => {}
            Place::Dns => self.ask(cx, guest, to.port(), data),
            Place::Host => {
                let loopback: IpAddr = match to {
                    SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                self.out(cx, guest, SocketAddr::new(loopback, to.port()), data);
            }
            Place::Outside => self.out(cx, guest, to, data),
        }
    }

    fn out(&mut self, cx: &mut Context<'_, '_>, guest: SocketAddr, to: SocketAddr, data: &[u8]) {
        let key = Key { guest, whom: Whom::Anybody };
        let six = guest.is_ipv6();
        let Some(index) = self.port(cx, key, || host::datagrams(six, None)) else { return };
        let Some(port) = self.slots[index as usize].port.as_mut() else { return };
        port.used_us = cx.now_us;
        if port.peers.last() != Some(&to.ip()) {
            port.peers.retain(|peer| *peer != to.ip());
            if port.peers.len() >= PEERS {
                port.peers.remove(0);
            }
            port.peers.push(to.ip());
        }
        // A datagram that the host does not take is lost, as anywhere.
        let _ = rustix::net::sendto(&port.socket, data, SendFlags::NOSIGNAL, &to);
    }

    /// Asks a name server of the host: another when the last one is silent.
    fn ask(&mut self, cx: &mut Context<'_, '_>, guest: SocketAddr, to: u16, data: &[u8]) {
        let key = Key { guest, whom: Whom::Dns(to) };
        let six = guest.is_ipv6();
        let Some(index) = self.port(cx, key, || host::datagrams(six, None)) else { return };
        let Some(port) = self.slots[index as usize].port.as_mut() else { return };
        port.used_us = cx.now_us;
        let silent = match port.asked {
            Some((_, Some(since))) => cx.now_us.saturating_sub(since) >= PATIENCE_US,
            _ => false,
        };
        if silent {
            self.attempt = self.attempt.wrapping_add(1);
        }
        let Some(server) = cx.resolver.server(cx.now_us, self.attempt, to) else { return };
        if port.asked.is_none_or(|(asked, _)| asked != server) {
            // A socket that is connected takes answers from nobody else. It has one family.
            let connected = host::datagrams(server.is_ipv6(), None).and_then(|socket| {
                rustix::net::connect(&socket, &server)?;
                Ok(socket)
            });
            let Ok(socket) = connected else { return };
            let token =
                Token { kind: Kind::Udp, index, generation: self.slots[index as usize].generation };
            if cx.poller.add(socket.as_fd(), token).is_err() {
                return;
            }
            let Some(port) = self.slots[index as usize].port.as_mut() else { return };
            port.socket = socket;
            port.asked = Some((server, None));
        }
        let Some(port) = self.slots[index as usize].port.as_mut() else { return };
        let sent = rustix::net::send(&port.socket, data, SendFlags::NOSIGNAL);
        if let Some((_, since)) = &mut port.asked {
            *since = since.filter(|_| !silent).or(Some(cx.now_us));
        }
        if sent == Err(Errno::CONNREFUSED) {
            self.attempt = self.attempt.wrapping_add(1);
        }
    }

    /// The port of this key, with a socket that is `made` when it has none yet.
    fn port(
        &mut self,
        cx: &mut Context<'_, '_>,
        key: Key,
        made: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Option<u32> {
        if let Some(index) = self.keys.get(&key) {
            return Some(*index);
        }
        if self.keys.len() >= self.limit {
            self.drop_oldest();
        }
        let socket = made().ok()?;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let token = Token { kind: Kind::Udp, index, generation: slot.generation };
        if cx.poller.add(socket.as_fd(), token).is_err() {
            self.free.push(index);
            return None;
        }
        slot.port = Some(Port { key, socket, used_us: cx.now_us, peers: Vec::new(), asked: None });
        self.keys.insert(key, index);
        self.sweep_us.get_or_insert(cx.now_us + SWEEP_US);
        Some(index)
    }

    fn drop_oldest(&mut self) {
        let ports = self.slots.iter().enumerate();
        let used = ports.filter_map(|(index, slot)| Some((slot.port.as_ref()?.used_us, index)));
        if let Some((_, index)) = used.min() {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if let Some(port) = slot.port.take() {
            slot.generation = (slot.generation + 1) & 0xff_ffff;
            self.keys.remove(&port.key);
            self.free.push(index as u32);
        }
    }

    /// A socket may have something to read.
    pub fn ready(&mut self, token: Token) {
        if !self.waiting.contains(&token) {
            self.waiting.push(token);
        }
    }

    /// Takes what sockets have, while there is room. True when there was not enough of it.
    pub fn output(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut buffer = std::mem::take(&mut self.buffer);
        waiting.retain(|token| match token.kind {
            Kind::UdpForward => self.forwards.drain(cx, *token, &mut buffer),
            _ => self.drain(cx, *token, &mut buffer),
        });
        self.buffer = buffer;
        self.waiting = waiting;
        !self.waiting.is_empty()
    }

    /// True when there is more to read.
    fn drain(&mut self, cx: &mut Context<'_, '_>, token: Token, buffer: &mut [u8]) -> bool {
        let Some(slot) = self.slots.get_mut(token.index as usize) else { return false };
        if slot.generation != token.generation {
            return false;
        }
        let Some(port) = &mut slot.port else { return false };
        for _ in 0..BURST {
            if !cx.out.has_room(ROOM) {
                return true;
            }
            let (data, from) = match receive(&port.socket, buffer) {
                Received::Nothing => return false,
                Received::Strange => continue,
                Received::Data(data, from) => (data, from),
            };
            let source = match port.key.whom {
                Whom::Dns(dns) => {
                    if let Some((_, since)) = &mut port.asked {
                        *since = None;
                    }
                    name_server(cx, port.key.guest.is_ipv6())
                        .map(|address| SocketAddr::new(address, dns))
                }
                Whom::Instead(peer) => Some(peer),
                Whom::Anybody if port.peers.contains(&from.ip()) => seen(cx, from),
                Whom::Anybody => None,
            };
            let guest = port.key.guest;
            let Some(source) = source else { continue };
            let Some(to) = cx.find(guest.ip()) else { continue };
            port.used_us = cx.now_us;
            let _ = send(cx, to, source, guest, data);
        }
        true
    }

    /// Gives up ports that nobody uses.
    pub fn tick(&mut self, now_us: u64) {
        if self.sweep_us.is_none_or(|at| at > now_us) {
            return;
        }
        for index in 0..self.slots.len() {
            let Some(port) = &self.slots[index].port else { continue };
            let idle = if matches!(port.key.whom, Whom::Dns(_)) { IDLE_DNS_US } else { IDLE_US };
            if now_us.saturating_sub(port.used_us) >= idle {
                self.remove(index);
            }
        }
        self.forwards.sweep(now_us, IDLE_US);
        self.flows.sweep(now_us, IDLE_US);
        self.sweep_us =
            (!self.keys.is_empty() || !self.flows.is_empty()).then_some(now_us + SWEEP_US);
    }

    /// When that is to be done.
    pub fn next_us(&self) -> Option<u64> {
        self.sweep_us
    }
}

/// What a socket had.
enum Received<'a> {
    Data(&'a [u8], SocketAddr),
    /// An error of something that was sent earlier, or a sender without address.
    Strange,
    Nothing,
}

fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> Received<'a> {
    match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
        // What is longer than a packet can be was cut: the guest must not take it for all.
        Ok((_, length, Some(from))) if length <= buffer.len() => match socket_addr(from) {
            Some(from) => Received::Data(&buffer[..length], from),
            None => Received::Strange,
        },
        Ok(_) | Err(Errno::INTR | Errno::CONNREFUSED) => Received::Strange,
        Err(_) => Received::Nothing,
    }
}

fn name_server(cx: &Context<'_, '_>, six: bool) -> Option<IpAddr> {
    if six {
        Some(cx.config.v6.as_ref()?.dns.into())
    } else {
        Some(cx.config.v4.as_ref()?.dns.into())
    }
}

/// As whom the guest sees somebody that it wrote to.
fn seen(cx: &Context<'_, '_>, from: SocketAddr) -> Option<SocketAddr> {
    let address = match from.ip() {
        IpAddr::V4(address) if address.is_loopback() => cx.config.v4.as_ref()?.host.into(),
        IpAddr::V6(address) if address.is_loopback() => cx.config.v6.as_ref()?.host.into(),
        other => other,
    };
    Some(SocketAddr::new(address, from.port()))
}

/// Whether the router itself is meant, by the name that it has on the link.
pub fn is_router(cx: &Context<'_, '_>, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => cx.config.v4.as_ref().is_some_and(|v4| v4.host == address),
        IpAddr::V6(address) => cx
            .config
            .v6
            .as_ref()
            .is_some_and(|v6| v6.host == address || link_local(v6.host) == address),
    }
}

/// Sends to an address of the host from a socket that is not connected.
fn send_to(socket: &OwnedFd, data: &[u8], to: SocketAddr) {
    let to: SocketAddrAny = to.into();
    let _ = rustix::net::sendto(socket, data, SendFlags::NOSIGNAL, &to);
}
