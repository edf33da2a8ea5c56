//! The network: everything together.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::arp;
use crate::batch::{ETHERNET, Out, Record, Records};
use crate::config::{Config, Forward, Protocol};
use crate::context::Context;
use crate::dhcp::{self, Dhcp};
use crate::host::{self, Kind, Poller, Ready, Timer, Token};
use crate::icmp::{self, Pings};
use crate::link::{ARP, Header, ICMP, ICMPV6, IPV4, IPV6, Link, Mac, TCP, UDP};
use crate::ndp;
use crate::packet::Packet;
use crate::question::{Answer, Asked, Question};
use crate::reassembly::Reassembly;
use crate::resolver::Resolver;
use crate::state::{State, StateError};
use crate::tcp::Tcp;
use crate::tftp::{self, Parties, Tftp};
use crate::translate::may_be_guest;
use crate::udp::{Udp, is_router};

/// Connections that are accepted at a time.
const BURST: usize = 64;
/// How long no connection is accepted when the process has no descriptors left.
const PAUSE_US: u64 = 100_000;

#[derive(Debug)]
struct Listener {
    id: u32,
    forward: Forward,
    socket: OwnedFd,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let crate::config::HostAddr::Unix(path) = &self.forward.host {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How much is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// TCP connections.
    pub tcp: usize,
    /// Bytes of their buffers.
    pub tcp_memory: usize,
    /// Ports of UDP.
    pub udp: usize,
}

/// A network with one guest, or several behind one card.
#[derive(Debug)]
pub struct Net {
    config: Config,
    link: Link,
    poller: Poller,
    timer: Timer,
    resolver: Resolver,
    tcp: Tcp,
    udp: Udp,
    pings: Pings,
    dhcp: Dhcp,
    tftp: Tftp,
    reassembly: Reassembly,
    listeners: Vec<Listener>,
    next_listener: u32,
    accepting: bool,
    accept_again_us: Option<u64>,
    ready: Vec<Ready>,
}

/// Borrows what the parts share.
macro_rules! context {
    ($net:ident, $now_us:expr, $out:expr) => {
        &mut Context {
            config: &$net.config,
            link: &mut $net.link,
            poller: &$net.poller,
            resolver: &mut $net.resolver,
            now_us: $now_us,
            out: $out,
        }
    };
}

impl Net {
    /// A network without forwards.
    pub fn new(config: Config) -> io::Result<Self> {
        let poller = Poller::new()?;
        let link = Link::new(config.mac);
        let tcp = Tcp::new(&config, &link);
        Ok(Self {
            timer: Timer::new(&poller)?,
            resolver: Resolver::new(config.resolv_conf.clone(), config.name_servers.clone()),
            udp: Udp::new(config.max_udp),
            tcp,
            link,
            poller,
            pings: Pings::default(),
            dhcp: Dhcp::default(),
            tftp: Tftp::default(),
            reassembly: Reassembly::default(),
            listeners: Vec::new(),
            next_listener: 0,
            accepting: false,
            accept_again_us: None,
            ready: Vec::new(),
            config,
        })
    }

    /// What the guest's card accepts: bits `ACCEPTS_…`.
    pub fn set_accepts(&mut self, accepts: u32) {
        self.link.accepts = accepts;
    }

    /// What is in use.
    pub fn usage(&self) -> Usage {
        Usage { tcp: self.tcp.count(), tcp_memory: self.tcp.memory(), udp: self.udp.count() }
    }

    /// Opens a port of the host that leads into the guest.
    pub fn add_forward(&mut self, forward: Forward) -> io::Result<u32> {
        let id = self.next_listener;
        let kind = match forward.protocol {
            Protocol::Tcp => Kind::Listener,
            Protocol::Udp => Kind::UdpForward,
        };
        let token = Token { kind, index: id, generation: 0 };
        let socket = match (forward.protocol, &forward.host) {
            (Protocol::Tcp, host) => host::listen(host)?,
            (Protocol::Udp, crate::config::HostAddr::Inet(at)) => {
                host::datagrams(at.is_ipv6(), Some(*at))?
            }
            (Protocol::Udp, crate::config::HostAddr::Unix(_)) => return Err(Errno::INVAL.into()),
        };
        self.poller.add(socket.as_fd(), token)?;
        self.next_listener = self.next_listener.wrapping_add(1);
        match forward.protocol {
            Protocol::Udp => self.udp.forwards.add(id, socket, forward.guest),
            Protocol::Tcp => self.listeners.push(Listener { id, forward, socket }),
        }
        Ok(id)
    }

    /// Where one listens; None for a UNIX socket.
    pub fn forward_address(&self, id: u32) -> Option<SocketAddr> {
        let tcp = self.listeners.iter().find(|listener| listener.id == id);
        let socket =
            tcp.map(|listener| &listener.socket).or_else(|| self.udp.forwards.socket(id))?;
        host::local(socket.as_fd())
    }

    /// Closes one again. What came through stays.
    pub fn remove_forward(&mut self, id: u32) {
        self.listeners.retain(|listener| listener.id != id);
        self.udp.forwards.remove(id);
    }

    /// Questions about connections, since the last time.
    pub fn questions(&mut self) -> Vec<Question> {
        let mut questions = std::mem::take(&mut self.tcp.questions);
        questions.append(&mut self.udp.questions);
        questions
    }

    /// What the program says to one. An answer to one that is gone is no error.
    pub fn answer(&mut self, now_us: u64, id: u64, answer: Answer, out: &mut Out<'_>) {
        let cx = context!(self, now_us, out);
        match Asked::from_id(id) {
            Asked::Tcp(token) => self.tcp.answer(cx, token, answer),
            Asked::Udp(number) => self.udp.answer(cx, number, answer),
        }
        self.arm(now_us);
    }

    /// What a saved machine has of it.
    pub fn save(&self) -> State {
        State { leases: self.dhcp.leases().to_vec(), connections: self.tcp.severed(&self.link) }
    }

    /// Goes on with the guest of a saved machine: its addresses stay its own, its connections are reset by the
    /// next [`Net::poll`], which has to be called. Those that there are now end. Forwards stay, and so does UDP,
    /// whose ends promise one another nothing.
    pub fn load(&mut self, state: State) -> Result<(), StateError> {
        state.check(self.config.max_tcp)?;
        self.dhcp.load(&state.leases);
        self.link.forget();
        for severed in &state.connections {
            self.link.learn(severed.guest.ip(), severed.card);
        }
        self.tcp.sever(state.connections);
        self.reassembly = Reassembly::default();
        Ok(())
    }

    /// Takes all frames of a batch from an offset on, and answers those that can be answered at once.
    /// [`Net::poll`] does the rest.
    pub fn input(&mut self, now_us: u64, bytes: &[u8], out: &mut Out<'_>) {
        for record in Records::new(bytes) {
            self.frame(now_us, record, out);
        }
        self.arm(now_us);
    }

    fn frame(&mut self, now_us: u64, record: Record<'_>, out: &mut Out<'_>) {
        let (header, body) = record.frame.split_at(ETHERNET);
        let mac: Mac = [header[6], header[7], header[8], header[9], header[10], header[11]];
        let for_router = header[..6] == self.link.mac || header[0] & 1 != 0;
        if !for_router || mac[0] & 1 != 0 {
            return;
        }
        match u16::from_be_bytes([header[12], header[13]]) {
            ARP => arp::input(&self.config, &mut self.link, body, out),
            IPV4 if self.config.v4.is_some() => {
                let Some((packet, fragment)) = Packet::v4(body, mac, record.trusted) else {
                    return;
                };
                let Some(fragment) = fragment else { return self.packet(now_us, &packet, out) };
                if let Some(whole) = self.reassembly.add(now_us, &packet, fragment) {
                    // The checksum is over all of it, and cannot have been left to the receiver.
                    let packet = Packet { payload: &whole, trusted: false, ..packet };
                    self.packet(now_us, &packet, out);
                }
            }
            IPV6 if self.config.v6.is_some() => {
                let Some(packet) = Packet::v6(body, mac, record.trusted) else { return };
                self.packet(now_us, &packet, out);
            }
            _ => {}
        }
    }

    fn packet(&mut self, now_us: u64, packet: &Packet<'_>, out: &mut Out<'_>) {
        let Header { source, destination, protocol, .. } = packet.header;
        let known = may_be_guest(&self.config, source);
        // Who has no address yet asks for one. Anybody else's address is a lie.
        if !known && !source.is_unspecified() {
            return;
        }
        if known {
            self.link.learn(source, packet.mac);
        }
        let cx = context!(self, now_us, out);
        match protocol {
            TCP if known => self.tcp.input(cx, packet),
            UDP => {
                let Some(datagram) = packet.datagram() else { return };
                let router = is_router(cx, destination);
                let everybody = destination == IpAddr::from([255, 255, 255, 255]);
                match datagram.to {
                    dhcp::SERVER_PORT if source.is_ipv4() && (router || everybody) => {
                        self.dhcp.input(cx, datagram.data);
                    }
                    tftp::SERVER_PORT if router && known && cx.config.tftp.is_some() => {
                        let parties = Parties {
                            client: (source, datagram.from).into(),
                            mac: packet.mac,
                            server: (destination, datagram.to).into(),
                        };
                        self.tftp.input(cx, parties, datagram.data);
                    }
                    _ if known => self.udp.input(cx, source, destination, datagram),
                    _ => {}
                }
            }
            ICMP if known && source.is_ipv4() && icmp::is_request(packet) => {
                self.pings.input(cx, packet)
            }
            ICMPV6 if source.is_ipv6() => {
                if known && icmp::is_request(packet) {
                    self.pings.input(cx, packet);
                } else {
                    ndp::input(cx, packet);
                }
            }
            _ => {}
        }
    }

    /// Looks after the sockets of the host and the clock, and writes what goes to the guest. True when
    /// there is more than there was room for, or than is done at a time: call it again.
    pub fn poll(&mut self, now_us: u64, out: &mut Out<'_>) -> bool {
        let mut ready = std::mem::take(&mut self.ready);
        let mut more = self.poller.take(&mut ready);
        let cx = context!(self, now_us, out);
        for event in ready.drain(..) {
            match event.token.kind {
                Kind::Tcp => self.tcp.ready(cx, event),
                Kind::Udp | Kind::UdpForward => self.udp.ready(event.token),
                Kind::Ping => self.pings.ready(event.token),
                Kind::Listener => self.accepting = true,
                Kind::Timer => self.timer.rang(),
            }
        }
        self.ready = ready;
        if self.accept_again_us.is_some_and(|at| at <= now_us) {
            self.accept_again_us = None;
            self.accepting = true;
        }
        if self.accepting {
            self.accepting = false;
            more |= self.accept(now_us, out);
        }
        if std::mem::take(&mut self.link.learned) {
            self.tcp.learned();
        }
        self.tcp.tick(now_us);
        self.udp.tick(now_us);
        self.pings.tick(now_us);
        let cx = context!(self, now_us, out);
        more |= self.udp.output(cx);
        more |= self.pings.output(cx);
        more |= self.tcp.output(cx);
        self.arm(now_us);
        more
    }

    fn accept(&mut self, now_us: u64, out: &mut Out<'_>) -> bool {
        let mut more = false;
        for listener in &self.listeners {
            let mut left = BURST;
            while left > 0 {
                left -= 1;
                match host::accept(listener.socket.as_fd()) {
                    Ok((socket, peer)) => {
                        let cx = context!(self, now_us, out);
                        self.tcp.forward(cx, socket, peer, listener.forward.guest);
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        self.accept_again_us = Some(now_us + PAUSE_US);
                        break;
                    }
                    // The client is gone again.
                    Err(_) => {}
                }
            }
            if left == 0 {
                self.accepting = true;
                more = true;
            }
        }
        more
    }

    fn arm(&mut self, now_us: u64) {
        let times =
            [self.tcp.next_us(), self.udp.next_us(), self.pings.next_us(), self.accept_again_us];
        self.timer.arm(now_us, times.into_iter().flatten().min());
    }

    /// Tells the guest of router and prefix without being asked.
    pub fn advertise(&mut self, out: &mut Out<'_>) {
        if let Some(v6) = &self.config.v6 {
            ndp::advertise(&self.link, v6, out);
        }
    }
}

impl AsFd for Net {
    /// Readable when [`Net::poll`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
