//! Ports of the host whose datagrams go to the guest.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::{BURST, Received, receive, send_to};
use crate::context::Context;
use crate::datagram::{ROOM, send};
use crate::host::Token;
use crate::translate::inward;

/// Peers that are remembered for answers, of all forwards.
const FLOWS: usize = 1024;

#[derive(Debug)]
struct Forward {
    id: u32,
    socket: OwnedFd,
    guest: SocketAddr,
}

/// Somebody of the host who wrote to the guest, and as whom the guest saw it.
#[derive(Debug)]
struct Flow {
    forward: u32,
    peer: SocketAddr,
    seen: SocketAddr,
    guest: SocketAddr,
    used_us: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Forwards {
    forwards: Vec<Forward>,
    flows: Vec<Flow>,
}

impl Forwards {
    /// Adds one. `id` is the index of its tokens.
    pub fn add(&mut self, id: u32, socket: OwnedFd, guest: SocketAddr) {
        self.forwards.push(Forward { id, socket, guest });
    }

    /// The socket of one.
    pub fn socket(&self, id: u32) -> Option<&OwnedFd> {
        self.forwards.iter().find(|forward| forward.id == id).map(|forward| &forward.socket)
    }

    /// Removes one.
    pub fn remove(&mut self, id: u32) {
        self.forwards.retain(|forward| forward.id != id);
        self.flows.retain(|flow| flow.forward != id);
    }

    /// Sends what the guest answers; false when it is no answer to a forward.
    pub fn answer(&mut self, guest: SocketAddr, to: SocketAddr, data: &[u8], now_us: u64) -> bool {
        let found = self.flows.iter_mut().find(|flow| flow.seen == to && flow.guest == guest);
        let Some(flow) = found else { return false };
        flow.used_us = now_us;
        if let Some(forward) = self.forwards.iter().find(|forward| forward.id == flow.forward) {
            send_to(&forward.socket, data, flow.peer);
        }
        true
    }

    /// Takes what a socket has. True when there is more than there was room for.
    pub fn drain(&mut self, cx: &mut Context<'_, '_>, token: Token, buffer: &mut [u8]) -> bool {
        let Some(forward) = self.forwards.iter().find(|forward| forward.id == token.index) else {
            return false;
        };
        for _ in 0..BURST {
            if !cx.out.has_room(ROOM) {
                return true;
            }
            let (data, from) = match receive(&forward.socket, buffer) {
                Received::Nothing => return false,
                Received::Strange => continue,
                Received::Data(data, from) => (data, from),
            };
            let guest = forward.guest;
            let Some(seen) = inward(cx.config, Some(from.ip()), guest.is_ipv6()) else { continue };
            // Until the guest has said which card it has, datagrams are lost.
            let Some(to) = cx.find(guest.ip()) else { continue };
            let seen = SocketAddr::new(seen, from.port());
            remember(&mut self.flows, forward.id, from, seen, guest, cx.now_us);
            let _ = send(cx, to, seen, guest, data);
        }
        true
    }

    /// Forgets peers that were silent for so long.
    pub fn sweep(&mut self, now_us: u64, idle_us: u64) {
        self.flows.retain(|flow| now_us.saturating_sub(flow.used_us) < idle_us);
    }
}

fn remember(
    flows: &mut Vec<Flow>,
    forward: u32,
    peer: SocketAddr,
    seen: SocketAddr,
    guest: SocketAddr,
    now_us: u64,
) {
    let same = |flow: &Flow| flow.seen == seen && flow.guest == guest;
    if let Some(flow) = flows.iter_mut().find(|flow| same(flow)) {
        // Two peers can look alike to the guest: the last one gets the answer.
        (flow.forward, flow.peer, flow.used_us) = (forward, peer, now_us);
        return;
    }
    if flows.len() >= FLOWS {
        let oldest = flows.iter().enumerate().min_by_key(|(_, flow)| flow.used_us);
        if let Some((index, _)) = oldest {
            flows.swap_remove(index);
        }
    }
    flows.push(Flow { forward, peer, seen, guest, used_us: now_us });
}
