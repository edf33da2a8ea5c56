//! Whose card has which IPv4 address (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use crate::batch::{ETHERNET, Out};
use crate::config::Config;
use crate::link::{ARP, EVERYBODY, Link, Mac, ethernet};
use crate::translate::may_be_guest;

const LENGTH: usize = 28;
/// Ethernet, IPv4, and the lengths of their addresses.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// Learns from what the guest says, and answers for the addresses that are served here.
pub fn input(config: &Config, link: &mut Link, bytes: &[u8], out: &mut Out<'_>) {
    let Some(message) = bytes.first_chunk::<LENGTH>() else { return };
    if message[..6] != PREFIX || message[6] != 0 {
        return;
    }
    let address =
        |at: usize| Ipv4Addr::new(message[at], message[at + 1], message[at + 2], message[at + 3]);
    let mut mac: Mac = [0; 6];
    mac.copy_from_slice(&message[8..14]);
    let (sender, target) = (address(14), address(24));
    if may_be_guest(config, sender.into()) {
        link.learn(sender.into(), mac);
    }
    if message[7] == REQUEST && serves(config, target) {
        send(link, REPLY, mac, (target, link.mac), (sender, mac), out);
    }
}

fn serves(config: &Config, address: Ipv4Addr) -> bool {
    config.v4.as_ref().is_some_and(|v4| [v4.host, v4.dns].contains(&address))
        || config.guest_forwards.iter().any(|forward| forward.at.ip() == IpAddr::V4(address))
}

/// Asks who has an address.
pub fn ask(config: &Config, link: &Link, address: Ipv4Addr, out: &mut Out<'_>) {
    let Some(v4) = &config.v4 else { return };
    send(link, REQUEST, EVERYBODY, (v4.host, link.mac), (address, [0; 6]), out);
}

fn send(
    link: &Link,
    operation: u8,
    to: Mac,
    sender: (Ipv4Addr, Mac),
    target: (Ipv4Addr, Mac),
    out: &mut Out<'_>,
) {
    // Without room the guest asks again.
    let _ = out.push(ETHERNET + LENGTH, |frame| {
        ethernet(frame, to, link.mac, ARP);
        let message = &mut frame[ETHERNET..];
        message[..6].copy_from_slice(&PREFIX);
        message[6..8].copy_from_slice(&[0, operation]);
        message[8..14].copy_from_slice(&sender.1);
        message[14..18].copy_from_slice(&sender.0.octets());
        message[18..24].copy_from_slice(&target.1);
        message[24..28].copy_from_slice(&target.0.octets());
    });
}
