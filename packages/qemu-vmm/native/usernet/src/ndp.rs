//! Whose card has which IPv6 address, and which network this is (RFC 4861).

use std::net::{IpAddr, Ipv6Addr};

use crate::batch::{ETHERNET, Out};
use crate::config::{Config, Config6};
use crate::context::Context;
use crate::link::{Header, ICMPV6, IPV6, IPV6_HEADER, Link, Mac, ethernet, finish, multicast};
use crate::packet::Packet;
use crate::translate::{link_local, may_be_guest};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

const SOURCE_CARD: u8 = 1;
const TARGET_CARD: u8 = 2;
const PREFIX: u8 = 3;
/// RFC 8106.
const NAME_SERVER: u8 = 25;

/// A packet that came through a router has fewer (RFC 4861, section 7.1).
const HOPS: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How long a guest may use router, prefix and name server, in seconds.
const ROUTER_LIFETIME: u16 = 1800;
const VALID_LIFETIME: u32 = 86_400;
const PREFERRED_LIFETIME: u32 = 14_400;

/// A message that is not about echo.
pub fn input(cx: &mut Context<'_, '_>, packet: &Packet<'_>) {
    let Some(v6) = &cx.config.v6 else { return };
    let message = packet.payload;
    let usual = packet.header.hops == HOPS && message.len() >= 8 && message[1] == 0;
    if !usual || !packet.checksum_holds() {
        return;
    }
    let IpAddr::V6(source) = packet.header.source else { return };
    match message[0] {
        ROUTER_SOLICITATION => advertise(cx.link, v6, cx.out),
        NEIGHBOR_SOLICITATION => {
            let Some(target) = target(message) else { return };
            let card = option(&message[24..], SOURCE_CARD);
            learn(cx, source, card.unwrap_or(packet.mac));
            if [v6.host, v6.dns, link_local(v6.host)].contains(&target) {
                answer(cx, source, packet.mac, target);
            }
        }
        NEIGHBOR_ADVERTISEMENT => {
            let Some(target) = target(message) else { return };
            let card = option(&message[24..], TARGET_CARD);
            learn(cx, target, card.unwrap_or(packet.mac));
        }
        _ => {}
    }
}

fn learn(cx: &mut Context<'_, '_>, address: Ipv6Addr, card: Mac) {
    if may_be_guest(cx.config, address.into()) {
        cx.link.learn(address.into(), card);
    }
}

fn target(message: &[u8]) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets))
}

/// The address in an option.
fn option(mut options: &[u8], wanted: u8) -> Option<Mac> {
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return None;
        }
        if kind == wanted {
            return options[2..8].try_into().ok();
        }
        options = &options[length..];
    }
    None
}

fn answer(cx: &mut Context<'_, '_>, asker: Ipv6Addr, card: Mac, target: Ipv6Addr) {
    // Who looks whether an address is free has none yet: all are told.
    let anonymous = asker.is_unspecified();
    let (to, card) = if anonymous { (ALL_NODES, multicast(ALL_NODES)) } else { (asker, card) };
    let mac = cx.link.mac;
    // Router, solicited, override.
    let flags = if anonymous { 0xa0 } else { 0xe0 };
    let mut message = [0; 32];
    message[0] = NEIGHBOR_ADVERTISEMENT;
    message[4] = flags;
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[TARGET_CARD, 1]);
    message[26..32].copy_from_slice(&mac);
    send(cx.link, target, to, card, &message, cx.out);
}

/// Asks who has an address.
pub fn ask(config: &Config, link: &Link, address: Ipv6Addr, out: &mut Out<'_>) {
    let Some(v6) = &config.v6 else { return };
    let [.., a, b, c] = address.octets();
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut message = [0; 32];
    message[0] = NEIGHBOR_SOLICITATION;
    message[8..24].copy_from_slice(&address.octets());
    message[24..26].copy_from_slice(&[SOURCE_CARD, 1]);
    message[26..32].copy_from_slice(&link.mac);
    send(link, link_local(v6.host), group, multicast(group), &message, out);
}

/// Tells everybody of router, prefix and name server.
pub fn advertise(link: &Link, v6: &Config6, out: &mut Out<'_>) {
    let mut message = [0; 80];
    message[0] = ROUTER_ADVERTISEMENT;
    message[4] = 64;
    message[6..8].copy_from_slice(&ROUTER_LIFETIME.to_be_bytes());
    message[16..18].copy_from_slice(&[SOURCE_CARD, 1]);
    message[18..24].copy_from_slice(&link.mac);
    let prefix = &mut message[24..56];
    // On the link, and for making addresses from (SLAAC, RFC 4862).
    prefix[..4].copy_from_slice(&[PREFIX, 4, v6.prefix, 0xc0]);
    prefix[4..8].copy_from_slice(&VALID_LIFETIME.to_be_bytes());
    prefix[8..12].copy_from_slice(&PREFERRED_LIFETIME.to_be_bytes());
    prefix[16..32].copy_from_slice(&v6.net.octets());
    let server = &mut message[56..80];
    server[..2].copy_from_slice(&[NAME_SERVER, 3]);
    server[4..8].copy_from_slice(&u32::from(ROUTER_LIFETIME).to_be_bytes());
    server[8..24].copy_from_slice(&v6.dns.octets());
    send(link, link_local(v6.host), ALL_NODES, multicast(ALL_NODES), &message, out);
}

fn send(link: &Link, from: Ipv6Addr, to: Ipv6Addr, card: Mac, message: &[u8], out: &mut Out<'_>) {
    let header = Header { hops: HOPS, ..Header::new(from.into(), to.into(), ICMPV6) };
    let start = ETHERNET + IPV6_HEADER;
    // Without room the guest asks again.
    let _ = out.push(start + message.len(), |frame| {
        ethernet(frame, card, link.mac, IPV6);
        header.write(&mut frame[ETHERNET..], message.len(), 0, 0);
        frame[start..].copy_from_slice(message);
        finish(&header, &mut frame[start..], 2);
    });
}
