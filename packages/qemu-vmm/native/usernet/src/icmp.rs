//! Echo (RFC 792, RFC 4443): the router answers itself, others answer through sockets that the host
//! gives to everybody in `ping_group_range`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

use crate::checksum::{fold, sum};
use crate::context::Context;
use crate::datagram::{ROOM, send_long};
use crate::host::{self, Kind, Token, socket_addr};
use crate::link::{Header, ICMP, ICMPV6, UDP, finish};
use crate::packet::Packet;
use crate::translate::{Place, place};

const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const REQUEST6: u8 = 128;
const REPLY6: u8 = 129;
/// Type, code, checksum, identifier, sequence number.
const ECHO_HEADER: usize = 8;

/// Destination unreachable, and its code for a port (RFC 792; RFC 4443, section 3.1).
const UNREACHABLE: [u8; 2] = [3, 3];
const UNREACHABLE6: [u8; 2] = [1, 4];
const UDP_HEADER: usize = 8;

/// Sockets at most, and how long one is kept that nothing comes through.
const LIMIT: usize = 64;
const IDLE_US: u64 = 10_000_000;
const BURST: usize = 16;

#[derive(Debug)]
struct Ping {
    number: u32,
    guest: IpAddr,
    identifier: [u8; 2],
    socket: OwnedFd,
    used_us: u64,
}

/// Sockets of echo.
#[derive(Debug, Default)]
pub struct Pings {
    pings: Vec<Ping>,
    next: u32,
    waiting: Vec<Token>,
    buffer: Vec<u8>,
}

/// Whether a packet asks for an echo that is to be handled by [`Pings::input`].
pub fn is_request(packet: &Packet<'_>) -> bool {
    let six = packet.header.source.is_ipv6();
    let kind = if six { REQUEST6 } else { REQUEST };
    packet.payload.len() >= ECHO_HEADER && packet.payload[0] == kind && packet.payload[1] == 0
}

impl Pings {
    /// An echo request of the guest's.
    pub fn input(&mut self, cx: &mut Context<'_, '_>, packet: &Packet<'_>) {
        let Header { source, destination, .. } = packet.header;
        let holds = match source {
            IpAddr::V4(_) => packet.trusted || fold(sum(packet.payload)) == 0xffff,
            IpAddr::V6(_) => packet.checksum_holds(),
        };
        if !holds {
            return;
        }
        match place(cx.config, destination) {
            Place::Host | Place::Dns => {
                let mut message = packet.payload.to_vec();
                reply(cx, packet.mac, destination, source, &mut message);
            }
            Place::Outside if !cx.config.restrict => self.outward(cx, packet),
            Place::Outside | Place::Nowhere => {}
        }
    }

    fn outward(&mut self, cx: &mut Context<'_, '_>, packet: &Packet<'_>) {
        let Header { source: guest, destination, .. } = packet.header;
        let identifier = [packet.payload[4], packet.payload[5]];
        let known =
            self.pings.iter().position(|ping| ping.guest == guest && ping.identifier == identifier);
        let index = match known {
            Some(index) => index,
            None => {
                // Where the host gives no such socket nobody answers, as behind many firewalls.
                let Ok(socket) = host::echo(guest.is_ipv6()) else { return };
                if self.pings.len() >= LIMIT {
                    let oldest = self.pings.iter().enumerate().min_by_key(|(_, ping)| ping.used_us);
                    if let Some((index, _)) = oldest {
                        self.pings.swap_remove(index);
                    }
                }
                self.next = self.next.wrapping_add(1);
                let token = Token { kind: Kind::Ping, index: self.next, generation: 0 };
                if cx.poller.add(socket.as_fd(), token).is_err() {
                    return;
                }
                let (number, used_us) = (self.next, cx.now_us);
                self.pings.push(Ping { number, guest, identifier, socket, used_us });
                self.pings.len() - 1
            }
        };
        let ping = &mut self.pings[index];
        ping.used_us = cx.now_us;
        let to = SocketAddr::new(destination, 0);
        // The host fills in its own identifier and the checksum.
        let _ = rustix::net::sendto(&ping.socket, packet.payload, SendFlags::NOSIGNAL, &to);
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
        waiting.retain(|token| self.drain(cx, *token));
        self.waiting = waiting;
        !self.waiting.is_empty()
    }

    fn drain(&mut self, cx: &mut Context<'_, '_>, token: Token) -> bool {
        let Some(ping) = self.pings.iter_mut().find(|ping| ping.number == token.index) else {
            return false;
        };
        self.buffer.resize(65_536, 0);
        for _ in 0..BURST {
            if !cx.out.has_room(ROOM) {
                return true;
            }
            let received =
                rustix::net::recvfrom(&ping.socket, &mut self.buffer[..], RecvFlags::empty());
            let Ok((_, length, Some(from))) = received else { return false };
            let Some(from) = socket_addr(from) else { continue };
            let Some(message) = self.buffer.get_mut(..length) else { continue };
            if length < ECHO_HEADER || ![REPLY, REPLY6].contains(&message[0]) {
                continue;
            }
            message[4..6].copy_from_slice(&ping.identifier);
            let guest = ping.guest;
            let Some(to) = cx.find(guest) else { continue };
            reply(cx, to, from.ip(), guest, message);
        }
        true
    }

    /// Gives up sockets that nobody uses.
    pub fn tick(&mut self, now_us: u64) {
        self.pings.retain(|ping| now_us.saturating_sub(ping.used_us) < IDLE_US);
    }

    /// When that is to be done.
    pub fn next_us(&self) -> Option<u64> {
        self.pings.iter().map(|ping| ping.used_us + IDLE_US).min()
    }
}

fn reply(cx: &mut Context<'_, '_>, to: [u8; 6], from: IpAddr, guest: IpAddr, message: &mut [u8]) {
    let six = guest.is_ipv6();
    let header = Header::new(from, guest, if six { ICMPV6 } else { ICMP });
    message[0] = if six { REPLY6 } else { REPLY };
    message[2..4].fill(0);
    sum_up(&header, message);
    if cx.out.has_room(ROOM) {
        let _ = send_long(cx, to, header, message);
    }
}

/// Tells the guest that nobody has the port that it sent a datagram of `length` bytes of data to.
pub fn port_unreachable(
    cx: &mut Context<'_, '_>,
    guest: SocketAddr,
    peer: SocketAddr,
    length: usize,
) {
    let six = guest.is_ipv6();
    let Some(to) = cx.link.neighbor(guest.ip()) else { return };
    // The packet's header as it was, but for what only routers look at.
    let original = Header::new(guest.ip(), peer.ip(), UDP);
    let mut message = vec![0; ECHO_HEADER + original.len() + UDP_HEADER];
    message[..2].copy_from_slice(&if six { UNREACHABLE6 } else { UNREACHABLE });
    let (header, datagram) = message[ECHO_HEADER..].split_at_mut(original.len());
    let length = UDP_HEADER + length;
    original.write(header, length, 0, 0);
    datagram[..2].copy_from_slice(&guest.port().to_be_bytes());
    datagram[2..4].copy_from_slice(&peer.port().to_be_bytes());
    datagram[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    let header = Header::new(peer.ip(), guest.ip(), if six { ICMPV6 } else { ICMP });
    sum_up(&header, &mut message);
    let _ = cx.send(to, header, message.len(), |payload| payload.copy_from_slice(&message));
}

/// Fills in the checksum, which is zero.
fn sum_up(header: &Header, message: &mut [u8]) {
    if header.source.is_ipv6() {
        finish(header, message, 2);
    } else {
        let check = !fold(sum(message));
        message[2..4].copy_from_slice(&check.to_be_bytes());
    }
}
