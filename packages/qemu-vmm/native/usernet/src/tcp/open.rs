//! How connections begin: what the guest wants, what the program and the host say to it, and what comes
//! through a forward.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use smoltcp::wire::IpEndpoint;

use super::connection::{Connection, Stage};
use super::{Key, Tcp, segment_limit, stretch};
use crate::config::{HostAddr, Protocol};
use crate::context::Context;
use crate::host::{self, Token};
use crate::packet::Packet;
use crate::question::{Answer, Asked, PATIENCE_US, Question};
use crate::translate::{inward, outward};

/// Ports that nobody has for good (RFC 6335, section 6).
const FIRST_PORT: u16 = 49_152;

impl Tcp {
    /// The guest wants a connection.
    pub(super) fn begin(&mut self, cx: &mut Context<'_, '_>, key: Key, packet: &Packet<'_>) {
        let forward = cx.config.guest_forward(Protocol::Tcp, key.peer);
        let ask = cx.config.ask || forward.is_some_and(|forward| forward.to.is_none());
        if self.table.is_full() {
            return self.refuse(cx, packet.bytes, key);
        }
        if ask && (forward.is_some() || !cx.config.restrict) {
            let mut connection = Connection::new(key, Stage::Asked(packet.bytes.into()), None);
            let until_us = cx.now_us + PATIENCE_US;
            connection.until_us = Some(until_us);
            let token = self.table.add(connection);
            self.table.wake(token.index, until_us);
            let (id, Key { guest, peer }) = (Asked::Tcp(token).id(), key);
            return self.questions.push(Question { id, protocol: Protocol::Tcp, guest, peer });
        }
        let Some(target) = target(cx, key) else { return self.refuse(cx, packet.bytes, key) };
        let token =
            self.table.add(Connection::new(key, Stage::Connecting(packet.bytes.into()), None));
        self.connect(cx, token, &target);
    }

    /// What the program says to a question. An answer to one that is gone is no error.
    pub fn answer(&mut self, cx: &mut Context<'_, '_>, token: Token, answer: Answer) {
        let Some(connection) = self.table.with_mut(token) else { return };
        let Stage::Asked(first) = &mut connection.stage else { return };
        let first = std::mem::take(first);
        let key = connection.key;
        if matches!(answer, Answer::Drop) {
            // It stays, so that nobody is asked again when the guest repeats itself.
            connection.stage = Stage::Dropped;
            return;
        }
        connection.stage = Stage::Connecting(first);
        connection.until_us = None;
        let target = match answer {
            Answer::Allow => target(cx, key),
            Answer::Refuse | Answer::Drop => None,
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
    pub(super) fn fail(&mut self, cx: &mut Context<'_, '_>, index: u32) {
        let Some(connection) = self.table.get_mut(index) else { return };
        let key = connection.key;
        let stage = std::mem::replace(&mut connection.stage, Stage::Open);
        self.table.remove(index);
        if let Stage::Connecting(first) | Stage::Asked(first) = stage {
            self.refuse(cx, &first, key);
        }
    }

    /// The host answered: the guest may have its connection.
    pub(super) fn connected(&mut self, cx: &mut Context<'_, '_>, index: u32) {
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
}

/// Where a connection goes when the program has nothing against it.
fn target(cx: &mut Context<'_, '_>, key: Key) -> Option<HostAddr> {
    match cx.config.guest_forward(Protocol::Tcp, key.peer) {
        Some(forward) => forward.to.clone(),
        None => outward(cx.config, cx.resolver, cx.now_us, 0, key.peer).map(HostAddr::Inet),
    }
}

fn endpoint(address: SocketAddr) -> IpEndpoint {
    IpEndpoint::from(address)
}
