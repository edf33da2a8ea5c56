//! A guest for tests: smoltcp behind a card, on one side of the network.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant as Clock};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint, Ipv4Address};
use usernet::batch::{Out, Records};
use usernet::config::Config;
use usernet::net::Net;

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
pub const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
pub const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
pub const DNS: Ipv4Address = Ipv4Address::new(10, 0, 2, 3);
/// A test that waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const BATCH: usize = 512 << 10;

/// A card: what came, and what is to go.
#[derive(Default)]
pub struct Card {
    pub received: VecDeque<Vec<u8>>,
    pub sent: Vec<Vec<u8>>,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Rx(frame), Tx(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// The guest, and the network that it is on.
pub struct Guest {
    pub net: Net,
    pub card: Card,
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    /// Longest frame that the network sent.
    pub longest: usize,
    started: Clock,
    batch: Vec<u8>,
}

/// Wraps frames into records with a header of zeroes.
pub fn records(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; frames.iter().map(|frame| frame.len() + 20).sum()];
    let mut out = Out::new(&mut bytes, 0);
    for frame in frames {
        let _ = out.push(frame.len(), |to| to.copy_from_slice(frame));
    }
    let used = out.used();
    bytes.truncate(used);
    bytes
}

impl Guest {
    /// One without an address.
    pub fn new(config: Config) -> Self {
        let mut card = Card::default();
        let mut settings = InterfaceConfig::new(EthernetAddress(MAC).into());
        settings.random_seed = 7;
        let interface = Interface::new(settings, &mut card, Instant::ZERO);
        let net = Net::new(config).expect("a network");
        let sockets = SocketSet::new(Vec::new());
        let batch = vec![0; BATCH];
        Self { net, card, interface, sockets, longest: 0, started: Clock::now(), batch }
    }

    /// One with the address that DHCP would give.
    pub fn with_address(config: Config) -> Self {
        let mut guest = Self::new(config);
        guest.set_address(IpCidr::new(ADDRESS.into(), 24));
        guest.interface.routes_mut().add_default_ipv4_route(HOST).expect("room for a route");
        guest
    }

    pub fn set_address(&mut self, address: IpCidr) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.push(address).expect("room for an address");
        });
    }

    pub fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us() as i64)
    }

    /// Brings frames to the network, and those of the network to the guest; false when there were none.
    pub fn exchange(&mut self) -> bool {
        let now = self.now_us();
        let mut out = Out::new(&mut self.batch, 0);
        let sent = std::mem::take(&mut self.card.sent);
        self.net.input(now, &records(&sent), &mut out);
        let mut more = self.net.poll(now, &mut out);
        let mut used = out.used();
        let mut busy = !sent.is_empty();
        loop {
            for record in Records::new(&self.batch[..used]) {
                busy = true;
                self.longest = self.longest.max(record.frame.len());
                self.card.received.push_back(record.frame.to_vec());
            }
            if !more {
                return busy;
            }
            let mut out = Out::new(&mut self.batch, 0);
            more = self.net.poll(now, &mut out);
            used = out.used();
        }
    }

    /// Runs both until something is so.
    pub fn until<R>(&mut self, what: &str, mut test: impl FnMut(&mut Self) -> Option<R>) -> R {
        let begin = Clock::now();
        loop {
            let now = self.now();
            self.interface.poll(now, &mut self.card, &mut self.sockets);
            let busy = self.exchange();
            if let Some(result) = test(self) {
                return result;
            }
            assert!(begin.elapsed() < PATIENCE, "waited too long for {what}");
            if !busy && self.card.received.is_empty() {
                let delay = self.interface.poll_delay(self.now(), &self.sockets);
                let us = delay.map_or(20_000, |delay| delay.total_micros().min(20_000));
                let timeout = Timespec { tv_sec: 0, tv_nsec: us as i64 * 1000 };
                let mut fds = [PollFd::from_borrowed_fd(self.net.as_fd(), PollFlags::IN)];
                let _ = poll(&mut fds, Some(&timeout));
            }
        }
    }

    /// Runs both until there is nothing left to do.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        self.until("quiet", |guest| {
            quiet = if guest.card.received.is_empty() && guest.card.sent.is_empty() {
                quiet + 1
            } else {
                0
            };
            (quiet > 5).then_some(())
        });
    }

    /// Sends one frame and returns what the network answers at once.
    pub fn send_raw(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.card.sent.push(frame);
        self.exchange();
        self.card.received.drain(..).collect()
    }

    pub fn connect(&mut self, to: impl Into<IpEndpoint>, port: u16) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; 256 << 10]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_ack_delay(None);
        socket.connect(self.interface.context(), to.into(), port).expect("a connection");
        self.sockets.add(socket)
    }

    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.listen(port).expect("a listening socket");
        self.sockets.add(socket)
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn bind_udp(&mut self, port: u16) -> SocketHandle {
        let ring =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 256 << 10]);
        let mut socket = udp::Socket::new(ring(), ring());
        socket.bind(port).expect("a port");
        self.sockets.add(socket)
    }

    pub fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Waits for a datagram.
    pub fn datagram(&mut self, handle: SocketHandle) -> (Vec<u8>, IpEndpoint) {
        self.until("a datagram", |guest| {
            let (data, about) = guest.udp(handle).recv().ok()?;
            Some((data.to_vec(), about.endpoint))
        })
    }

    /// Asks for an address and takes it.
    pub fn dhcp(&mut self) -> dhcpv4::Config<'static> {
        let handle = self.sockets.add(dhcpv4::Socket::new());
        let config = self.until("an address", |guest| {
            match guest.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
                Some(dhcpv4::Event::Configured(config)) => {
                    Some(dhcpv4::Config { packet: None, ..config })
                }
                _ => None,
            }
        });
        self.set_address(IpCidr::Ipv4(config.address));
        if let Some(router) = config.router {
            self.interface.routes_mut().add_default_ipv4_route(router).expect("room for a route");
        }
        config
    }
}
