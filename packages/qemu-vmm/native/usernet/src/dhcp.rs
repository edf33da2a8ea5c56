//! The DHCP server (RFC 2131, RFC 2132), which also answers BOOTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{Config, Config4};
use crate::context::Context;
use crate::datagram::send;
use crate::link::{EVERYBODY, Mac};

/// Ports of server and client.
pub const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// BOOTP promises that much room for options.
const LEAST: usize = 300;
/// What a client takes that does not say more, without the headers of IP and UDP.
const MOST: usize = 548;

const BROADCAST: u16 = 0x8000;

const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVERS: u8 = 6;
const HOST_NAME: u8 = 12;
const DOMAIN_NAME: u8 = 15;
const REQUESTED: u8 = 50;
const LEASE_TIME: u8 = 51;
const MESSAGE_TYPE: u8 = 53;
const SERVER: u8 = 54;
const BOOT_SERVER: u8 = 66;
const BOOT_FILE: u8 = 67;
const SEARCH: u8 = 119;
const END: u8 = 255;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

/// Addresses that are given; QEMU gives as many.
pub const LEASES: usize = 16;
const LEASE_SECONDS: u32 = 86_400;

/// Who has which of the addresses.
#[derive(Debug, Default)]
pub struct Dhcp {
    leases: [Option<Mac>; LEASES],
}

/// What a client says.
struct Message<'a> {
    fixed: &'a [u8; FIXED],
    kind: Option<u8>,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

impl<'a> Message<'a> {
    fn parse(data: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; FIXED] = data.first_chunk()?;
        // A request, over Ethernet.
        if fixed[..3] != [1, 1, 6] {
            return None;
        }
        let mut message = Self { fixed, kind: None, requested: None, server: None };
        let Some(mut options) = data[FIXED..].strip_prefix(&COOKIE) else { return Some(message) };
        while let [code, rest @ ..] = options {
            if *code == END {
                break;
            }
            if *code == 0 {
                options = rest;
                continue;
            }
            let Some((length, rest)) = rest.split_first() else { break };
            let Some(value) = rest.get(..usize::from(*length)) else { break };
            options = &rest[value.len()..];
            match (*code, value) {
                (MESSAGE_TYPE, [kind]) => message.kind = Some(*kind),
                (REQUESTED, [a, b, c, d]) => {
                    message.requested = Some(Ipv4Addr::new(*a, *b, *c, *d))
                }
                (SERVER, [a, b, c, d]) => message.server = Some(Ipv4Addr::new(*a, *b, *c, *d)),
                _ => {}
            }
        }
        Some(message)
    }

    fn client(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.fixed[12], self.fixed[13], self.fixed[14], self.fixed[15])
    }

    fn mac(&self) -> Mac {
        let mut mac = [0; 6];
        mac.copy_from_slice(&self.fixed[28..34]);
        mac
    }
}

impl Dhcp {
    /// Who has which address.
    pub fn leases(&self) -> &[Option<Mac>] {
        &self.leases
    }

    /// Replaces them; those that are not named are free.
    pub fn load(&mut self, leases: &[Option<Mac>]) {
        self.leases = [None; LEASES];
        for (lease, saved) in self.leases.iter_mut().zip(leases) {
            *lease = *saved;
        }
    }

    /// A datagram to the server's port.
    pub fn input(&mut self, cx: &mut Context<'_, '_>, data: &[u8]) {
        let Some(v4) = &cx.config.v4 else { return };
        let Some(message) = Message::parse(data) else { return };
        let mac = message.mac();
        if mac[0] & 1 != 0 {
            return;
        }
        match message.kind {
            // BOOTP: the address is the client's for good.
            None => {
                let Some(address) = self.lease(v4, mac, None) else { return };
                cx.link.learn(address.into(), mac);
                reply(cx, v4, &message, None, address);
            }
            Some(DISCOVER) => {
                let Some(address) = self.lease(v4, mac, message.requested) else { return };
                reply(cx, v4, &message, Some(OFFER), address);
            }
            Some(REQUEST) => self.request(cx, v4, &message),
            Some(INFORM) => reply(cx, v4, &message, Some(ACK), Ipv4Addr::UNSPECIFIED),
            // What was declined stays taken, by a card that nobody has.
            Some(DECLINE) => self.give_up(mac, Some([0; 6])),
            Some(RELEASE) => self.give_up(mac, None),
            Some(_) => {}
        }
    }

    fn request(&mut self, cx: &mut Context<'_, '_>, v4: &Config4, message: &Message<'_>) {
        // An offer of somebody else's was taken.
        if message.server.is_some_and(|server| server != v4.host) {
            return;
        }
        let mac = message.mac();
        let wanted = message.requested.unwrap_or(message.client());
        match self.lease(v4, mac, Some(wanted)) {
            Some(address) if address == wanted => {
                cx.link.learn(address.into(), mac);
                reply(cx, v4, message, Some(ACK), address);
            }
            _ => reply(cx, v4, message, Some(NAK), Ipv4Addr::UNSPECIFIED),
        }
    }

    fn give_up(&mut self, mac: Mac, instead: Option<Mac>) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| **lease == Some(mac)) {
            *lease = instead;
        }
    }

    /// The client's address: the one that it has, else the one that it wants, else one that is free.
    fn lease(&mut self, v4: &Config4, mac: Mac, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let usable = |index: &usize| address(v4, *index).is_some();
        let own = self.leases.iter().position(|lease| *lease == Some(mac));
        let wanted = (0..LEASES).find(|index| {
            self.leases[*index].is_none() && wanted.is_some() && address(v4, *index) == wanted
        });
        let free = (0..LEASES).filter(usable).find(|index| self.leases[*index].is_none());
        let index = own.or(wanted).or(free)?;
        self.leases[index] = Some(mac);
        address(v4, index)
    }
}

/// The address with this number, unless it has another use.
fn address(v4: &Config4, index: usize) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(u32::from(v4.dhcp_start).checked_add(index as u32)?);
    let taken = [v4.net, v4.host, v4.dns, v4.broadcast()].contains(&address);
    (v4.contains(address) && !taken).then_some(address)
}

fn reply(
    cx: &mut Context<'_, '_>,
    v4: &Config4,
    message: &Message<'_>,
    kind: Option<u8>,
    yours: Ipv4Addr,
) {
    let mut data = vec![0; FIXED];
    data[..4].copy_from_slice(&[2, 1, 6, 0]);
    // Transaction, and the flags.
    data[4..8].copy_from_slice(&message.fixed[4..8]);
    data[10..12].copy_from_slice(&message.fixed[10..12]);
    data[16..20].copy_from_slice(&yours.octets());
    data[28..44].copy_from_slice(&message.fixed[28..44]);
    data.extend_from_slice(&COOKIE);
    let mut options = Options(data);
    if let Some(kind) = kind {
        options.add(MESSAGE_TYPE, &[kind]);
        options.add(SERVER, &v4.host.octets());
    }
    if kind != Some(NAK) {
        settings(cx.config, v4, kind.is_some() && !yours.is_unspecified(), &mut options);
    } else {
        options.0.push(END);
    }
    let mut data = options.0;
    data.resize(data.len().max(LEAST), 0);

    let flags = u16::from_be_bytes([message.fixed[10], message.fixed[11]]);
    let client = message.client();
    // Who has no address yet can often not be sent to by it, so everybody is.
    let (to, mac) = if kind != Some(NAK) && !client.is_unspecified() {
        (client, message.mac())
    } else if kind == Some(NAK) || flags & BROADCAST != 0 || yours.is_unspecified() {
        (Ipv4Addr::BROADCAST, EVERYBODY)
    } else {
        (yours, message.mac())
    };
    let from = SocketAddr::new(IpAddr::V4(v4.host), SERVER_PORT);
    // Without room the client asks again.
    let _ = send(cx, mac, from, SocketAddr::new(to.into(), CLIENT_PORT), &data);
}

fn settings(config: &Config, v4: &Config4, leased: bool, options: &mut Options) {
    options.0[20..24].copy_from_slice(&v4.host.octets());
    if let Some(file) = &config.bootfile {
        let bytes = &file.as_bytes()[..file.len().min(127)];
        options.0[108..108 + bytes.len()].copy_from_slice(bytes);
    }
    options.add(SUBNET_MASK, &v4.mask().octets());
    if leased {
        options.add(LEASE_TIME, &LEASE_SECONDS.to_be_bytes());
    }
    if !config.restrict {
        options.add(ROUTER, &v4.host.octets());
        options.add(NAME_SERVERS, &v4.dns.octets());
    }
    let texts = [
        (HOST_NAME, &config.hostname),
        (DOMAIN_NAME, &config.domainname),
        (BOOT_SERVER, &config.tftp_server_name),
        (BOOT_FILE, &config.bootfile),
    ];
    for (code, text) in texts {
        if let Some(text) = text {
            options.add(code, text.as_bytes());
        }
    }
    let search = search_list(&config.dnssearch);
    for part in search.chunks(255) {
        options.add(SEARCH, part);
    }
    options.0.push(END);
}

/// A message whose end grows.
struct Options(Vec<u8>);

impl Options {
    /// What does not fit is left out; the configuration is checked for what must.
    fn add(&mut self, code: u8, value: &[u8]) {
        if value.len() <= 255 && self.0.len() + 2 + value.len() < MOST {
            self.0.extend_from_slice(&[code, value.len() as u8]);
            self.0.extend_from_slice(value);
        }
    }
}

/// Names as DNS writes them (RFC 3397), without references to one another.
fn search_list(domains: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for domain in domains {
        for label in domain.split('.').filter(|label| !label.is_empty()) {
            let label = &label.as_bytes()[..label.len().min(63)];
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
    }
    bytes
}
