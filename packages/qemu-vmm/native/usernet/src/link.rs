//! The Ethernet side: addresses of cards, and packets into frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::batch::{ETHERNET, Out};
use crate::checksum::{fold, pseudo, sum};

/// A MAC address.
pub type Mac = [u8; 6];

/// EtherTypes.
pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;

/// Bytes of the headers that are written here: never with options.
pub const IPV4_HEADER: usize = 20;
pub const IPV6_HEADER: usize = 40;

/// Protocol numbers.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

pub const EVERYBODY: Mac = [0xff; 6];

/// Bytes of an IP packet on the link, unless the guest cuts it itself.
pub const MTU: usize = 1500;

/// Guests on the link whose address is remembered. One is usual; a hub can have more.
const NEIGHBORS: usize = 64;

/// What is known of the other side.
#[derive(Debug)]
pub struct Link {
    /// The router's own address.
    pub mac: Mac,
    /// What the other side's card accepts: bits `ACCEPTS_…`.
    pub accepts: u32,
    /// Addresses of guests, the one that was heard of last at the end.
    neighbors: Vec<(IpAddr, Mac)>,
    /// Somebody became known since this was last looked at.
    pub learned: bool,
    identification: u16,
}

impl Link {
    pub fn new(mac: Mac) -> Self {
        Self { mac, accepts: 0, neighbors: Vec::new(), learned: false, identification: 0 }
    }

    /// Forgets who was on the link.
    pub fn forget(&mut self) {
        self.neighbors.clear();
    }

    /// Remembers whose address this is.
    pub fn learn(&mut self, address: IpAddr, mac: Mac) {
        if mac[0] & 1 != 0 || self.neighbors.last() == Some(&(address, mac)) {
            return;
        }
        let known = self.neighbors.iter().position(|(known, _)| *known == address);
        let before = known.map(|at| self.neighbors.remove(at));
        if self.neighbors.len() >= NEIGHBORS {
            self.neighbors.remove(0);
        }
        self.learned |= before != Some((address, mac));
        self.neighbors.push((address, mac));
    }

    /// The card with this address.
    pub fn neighbor(&self, address: IpAddr) -> Option<Mac> {
        if let IpAddr::V4(Ipv4Addr::BROADCAST) = address {
            return Some(EVERYBODY);
        }
        if let IpAddr::V6(address) = address
            && address.is_multicast()
        {
            return Some(multicast(address));
        }
        self.neighbors.iter().rev().find(|(known, _)| *known == address).map(|(_, mac)| *mac)
    }

    /// Guests that were heard of.
    pub fn neighbors(&self) -> &[(IpAddr, Mac)] {
        &self.neighbors
    }

    /// A number for each packet, by which its fragments are known.
    pub fn identification(&mut self) -> u16 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }
}

/// The address of a multicast group (RFC 2464, section 7).
pub fn multicast(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Writes an Ethernet header.
pub fn ethernet(frame: &mut [u8], to: Mac, from: Mac, kind: u16) {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
}

/// What a packet's header says.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub hops: u8,
}

impl Header {
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self { source, destination, protocol, hops: 64 }
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        if self.source.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER }
    }

    /// Writes it for a payload of `length` bytes. `fragment` is the word with flags and offset.
    pub fn write(&self, packet: &mut [u8], length: usize, identification: u16, fragment: u16) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = &mut packet[..IPV4_HEADER];
                header[0] = 0x45;
                header[1] = 0;
                header[2..4].copy_from_slice(&((IPV4_HEADER + length) as u16).to_be_bytes());
                header[4..6].copy_from_slice(&identification.to_be_bytes());
                header[6..8].copy_from_slice(&fragment.to_be_bytes());
                header[8] = self.hops;
                header[9] = self.protocol;
                header[10..12].fill(0);
                header[12..16].copy_from_slice(&source.octets());
                header[16..20].copy_from_slice(&destination.octets());
                let check = !fold(sum(header));
                header[10..12].copy_from_slice(&check.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = &mut packet[..IPV6_HEADER];
                header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
                header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                header[6] = self.protocol;
                header[7] = self.hops;
                header[8..24].copy_from_slice(&source.octets());
                header[24..40].copy_from_slice(&destination.octets());
            }
            // Nobody makes a header of both.
            _ => packet.fill(0),
        }
    }
}

/// Sends one packet that is not longer than the link allows. None when there was no room.
pub fn send(
    link: &mut Link,
    out: &mut Out<'_>,
    to: Mac,
    header: Header,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Option<()> {
    let (from, identification) = (link.mac, link.identification());
    let kind = if header.source.is_ipv4() { IPV4 } else { IPV6 };
    let start = ETHERNET + header.len();
    out.push(start + length, |frame| {
        ethernet(frame, to, from, kind);
        header.write(&mut frame[ETHERNET..], length, identification, 0);
        fill(&mut frame[start..]);
    })
}

/// Fills in a transport checksum that is at `at` of the segment; it must be zero there.
pub fn finish(header: &Header, segment: &mut [u8], at: usize) {
    let total = pseudo(header.source, header.destination, header.protocol, segment.len());
    let mut check = !fold(total + sum(segment));
    // UDP says "no checksum" with zero (RFC 768).
    if check == 0 && header.protocol == UDP {
        check = 0xffff;
    }
    segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
}
