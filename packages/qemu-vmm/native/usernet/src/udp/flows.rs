//! What the program decided about datagrams from one port of the guest's to one address and port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{Key, SWEEP_US, Udp, Whom};
use crate::config::{HostAddr, Protocol};
use crate::context::Context;
use crate::host;
use crate::icmp::port_unreachable;
use crate::question::{Answer, Asked, Question};

/// Datagrams that wait for an answer of the program's, and bytes of all that wait.
const WAITING: usize = 16;
const WAITING_BYTES: usize = 4 << 20;

#[derive(Debug)]
enum Verdict {
    /// Not yet known. These wait.
    Asked(Vec<Vec<u8>>),
    Allow,
    Refuse,
    Drop,
    /// A socket of its own has them.
    Instead,
}

#[derive(Debug)]
struct Flow {
    number: u64,
    verdict: Verdict,
    used_us: u64,
}

/// The guest's end, and whom it writes to.
type Ends = (SocketAddr, SocketAddr);

/// All of them.
#[derive(Debug)]
pub struct Flows {
    flows: HashMap<Ends, Flow>,
    numbers: HashMap<u64, Ends>,
    next: u64,
    waiting_bytes: usize,
    limit: usize,
}

impl Flows {
    /// None, and room for `limit`.
    pub fn new(limit: usize) -> Self {
        let (flows, numbers) = (HashMap::new(), HashMap::new());
        Self { flows, numbers, next: 0, waiting_bytes: 0, limit }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    fn add(&mut self, ends: Ends, now_us: u64) -> u64 {
        if self.flows.len() >= self.limit {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.used_us);
            if let Some(ends) = oldest.map(|(ends, _)| *ends) {
                self.remove(ends);
            }
        }
        let number = self.next;
        // Below 2^32, so that the number of the question fits.
        self.next = (self.next + 1) & 0xffff_ffff;
        let flow = Flow { number, verdict: Verdict::Asked(Vec::new()), used_us: now_us };
        self.flows.insert(ends, flow);
        self.numbers.insert(number, ends);
        number
    }

    fn remove(&mut self, ends: Ends) {
        let Some(flow) = self.flows.remove(&ends) else { return };
        self.numbers.remove(&flow.number);
        if let Verdict::Asked(waiting) = flow.verdict {
            self.waiting_bytes -= waiting.iter().map(Vec::len).sum::<usize>();
        }
    }

    fn refuse(&mut self, ends: Ends) {
        if let Some(flow) = self.flows.get_mut(&ends) {
            flow.verdict = Verdict::Refuse;
        }
    }

    /// Gives up those that the guest has not used for so long.
    pub fn sweep(&mut self, now_us: u64, idle_us: u64) {
        let idle = |flow: &Flow| now_us.saturating_sub(flow.used_us) >= idle_us;
        let gone: Vec<Ends> =
            self.flows.iter().filter(|(_, flow)| idle(flow)).map(|(ends, _)| *ends).collect();
        for ends in gone {
            self.remove(ends);
        }
    }
}

impl Udp {
    /// Does with a datagram what the program says, and asks it about the first.
    pub(super) fn by_decision(
        &mut self,
        cx: &mut Context<'_, '_>,
        guest: SocketAddr,
        peer: SocketAddr,
        data: &[u8],
    ) {
        let ends = (guest, peer);
        if !self.flows.flows.contains_key(&ends) {
            let id = Asked::Udp(self.flows.add(ends, cx.now_us)).id();
            self.questions.push(Question { id, protocol: Protocol::Udp, guest, peer });
            self.sweep_us.get_or_insert(cx.now_us + SWEEP_US);
        }
        let Some(flow) = self.flows.flows.get_mut(&ends) else { return };
        flow.used_us = cx.now_us;
        match &mut flow.verdict {
            Verdict::Asked(waiting) => {
                if waiting.len() < WAITING && self.flows.waiting_bytes + data.len() < WAITING_BYTES
                {
                    self.flows.waiting_bytes += data.len();
                    waiting.push(data.to_vec());
                }
            }
            Verdict::Allow => self.as_usual(cx, guest, peer, data),
            Verdict::Refuse => port_unreachable(cx, guest, peer, data.len()),
            Verdict::Drop => {}
            Verdict::Instead => self.instead(cx, guest, peer, data),
        }
    }

    /// What the program says to a question. An answer to one that is gone is no error.
    pub fn answer(&mut self, cx: &mut Context<'_, '_>, number: u64, answer: Answer) {
        let Some(&(guest, peer)) = self.flows.numbers.get(&number) else { return };
        let Some(flow) = self.flows.flows.get_mut(&(guest, peer)) else { return };
        let Verdict::Asked(waiting) = &mut flow.verdict else { return };
        let waiting = std::mem::take(waiting);
        self.flows.waiting_bytes -= waiting.iter().map(Vec::len).sum::<usize>();
        flow.verdict = match answer {
            Answer::Allow => Verdict::Allow,
            Answer::Refuse => Verdict::Refuse,
            Answer::Drop => Verdict::Drop,
            Answer::Redirect(_) | Answer::Socket(_) => Verdict::Instead,
        };
        let socket = match answer {
            Answer::Redirect(to) => Some(connected(&to)),
            Answer::Socket(socket) => Some(Ok(socket)),
            Answer::Allow | Answer::Refuse | Answer::Drop => None,
        };
        if let Some(socket) = socket {
            let key = Key { guest, whom: Whom::Instead(peer) };
            if let Some(index) = self.keys.get(&key) {
                self.remove(*index as usize);
            }
            if self.port(cx, key, || socket).is_none() {
                self.flows.refuse((guest, peer));
            }
        }
        for data in waiting {
            self.by_decision(cx, guest, peer, &data);
        }
    }

    /// Sends a datagram to whom a guest forward leads. None: the program would have to answer, and let it pass.
    pub(super) fn forwarded(
        &mut self,
        cx: &mut Context<'_, '_>,
        guest: SocketAddr,
        peer: SocketAddr,
        target: Option<&HostAddr>,
        data: &[u8],
    ) {
        let Some(target) = target else { return };
        let key = Key { guest, whom: Whom::Instead(peer) };
        if self.port(cx, key, || connected(target)).is_some() {
            self.instead(cx, guest, peer, data);
        }
    }

    fn instead(
        &mut self,
        cx: &mut Context<'_, '_>,
        guest: SocketAddr,
        peer: SocketAddr,
        data: &[u8],
    ) {
        let index = self.keys.get(&Key { guest, whom: Whom::Instead(peer) });
        let Some(port) = index.and_then(|index| self.slots[*index as usize].port.as_mut()) else {
            // Its socket gave way to others: the program is asked again.
            return self.flows.remove((guest, peer));
        };
        port.used_us = cx.now_us;
        // A datagram that the host does not take is lost, as anywhere; an error is that of the one before.
        let sent = rustix::net::send(&port.socket, data, SendFlags::NOSIGNAL);
        if sent == Err(Errno::CONNREFUSED) {
            port_unreachable(cx, guest, peer, data.len());
        }
    }
}

/// A socket that takes answers from nobody else.
fn connected(to: &HostAddr) -> Result<OwnedFd, Errno> {
    let HostAddr::Inet(to) = to else { return Err(Errno::INVAL) };
    let socket = host::datagrams(to.is_ipv6(), None)?;
    rustix::net::connect(&socket, to)?;
    Ok(socket)
}
