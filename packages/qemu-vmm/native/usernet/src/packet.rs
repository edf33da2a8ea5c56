//! IP packets of the guest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::{fold, holds, sum};
use crate::link::{Header, IPV4_HEADER, IPV6_HEADER, Mac, UDP};

/// A packet whose lengths hold.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// All of it, without what the frame had after it.
    pub bytes: &'a [u8],
    /// Who sends it to whom.
    pub header: Header,
    /// What comes after the header and its options.
    pub payload: &'a [u8],
    /// The card that sent it.
    pub mac: Mac,
    /// The transport checksum needs no check.
    pub trusted: bool,
}

/// The part of a packet that was cut (RFC 791, section 3.2).
#[derive(Debug, Clone, Copy)]
pub struct Fragment {
    /// Where its payload belongs.
    pub offset: usize,
    /// Another part follows.
    pub more: bool,
    /// Which packet it is of, for this sender, receiver and protocol.
    pub identification: u16,
}

impl<'a> Packet<'a> {
    /// An IPv4 packet, and which part it is when it is not a whole one.
    pub fn v4(bytes: &'a [u8], mac: Mac, trusted: bool) -> Option<(Self, Option<Fragment>)> {
        let fixed: &[u8; IPV4_HEADER] = bytes.first_chunk()?;
        let header_length = usize::from(fixed[0] & 15) * 4;
        let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if fixed[0] >> 4 != 4 || header_length < IPV4_HEADER || length < header_length {
            return None;
        }
        let bytes = bytes.get(..length)?;
        if fold(sum(&bytes[..header_length])) != 0xffff {
            return None;
        }
        let word = u16::from_be_bytes([fixed[6], fixed[7]]);
        let fragment = (word & 0x3fff != 0).then(|| Fragment {
            offset: usize::from(word & 0x1fff) * 8,
            more: word & 0x2000 != 0,
            identification: u16::from_be_bytes([fixed[4], fixed[5]]),
        });
        let address =
            |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let header = Header {
            source: address(12).into(),
            destination: address(16).into(),
            protocol: fixed[9],
            hops: fixed[8],
        };
        let payload = &bytes[header_length..];
        Some((Self { bytes, header, payload, mac, trusted }, fragment))
    }

    /// An IPv6 packet. One with extension headers is none that is of use here: its protocol number is
    /// that of the first extension.
    pub fn v6(bytes: &'a [u8], mac: Mac, trusted: bool) -> Option<Self> {
        let fixed: &[u8; IPV6_HEADER] = bytes.first_chunk()?;
        if fixed[0] >> 4 != 6 {
            return None;
        }
        let length = IPV6_HEADER + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let bytes = bytes.get(..length)?;
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&fixed[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        let header = Header {
            source: address(8),
            destination: address(24),
            protocol: fixed[6],
            hops: fixed[7],
        };
        Some(Self { bytes, header, payload: &bytes[IPV6_HEADER..], mac, trusted })
    }

    /// Whether the checksum of TCP, UDP or ICMPv6 is right, or known to be.
    pub fn checksum_holds(&self) -> bool {
        let Header { source, destination, protocol, .. } = self.header;
        self.trusted || holds(source, destination, protocol, self.payload)
    }

    /// The ports and the data of a UDP datagram whose lengths and checksum hold.
    pub fn datagram(&self) -> Option<Datagram<'a>> {
        let header: &[u8; 8] = self.payload.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let length = usize::from(word(4));
        if self.header.protocol != UDP || length < 8 {
            return None;
        }
        let segment = self.payload.get(..length)?;
        // Over IPv4 zero means that there is none (RFC 768).
        let absent = word(6) == 0 && self.header.source.is_ipv4();
        let Header { source, destination, protocol, .. } = self.header;
        if !absent && !self.trusted && !holds(source, destination, protocol, segment) {
            return None;
        }
        Some(Datagram { from: word(0), to: word(2), data: &segment[8..] })
    }
}

/// What a packet of UDP contains.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The sender's port.
    pub from: u16,
    /// The receiver's port.
    pub to: u16,
    /// What is in it.
    pub data: &'a [u8],
}

/// Ports, flags and where the data begins, of a TCP segment whose lengths hold.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// The sender's port.
    pub from: u16,
    /// The receiver's port.
    pub to: u16,
    /// Bits `FLAG_…`.
    pub flags: u8,
    /// Bytes of the header with its options.
    pub header: usize,
}

/// Flags of TCP (RFC 9293, section 3.1).
pub const FLAG_FIN: u8 = 1;
/// The first segment of a side.
pub const FLAG_SYN: u8 = 2;
/// There is no connection, or not any more.
pub const FLAG_RST: u8 = 4;
/// Data is to be handed on.
pub const FLAG_PSH: u8 = 8;
/// The acknowledgement number counts.
pub const FLAG_ACK: u8 = 16;

impl Segment {
    /// Reads the header.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed: &[u8; 20] = bytes.first_chunk()?;
        let header = usize::from(fixed[12] >> 4) * 4;
        (header >= 20 && header <= bytes.len()).then(|| Self {
            from: u16::from_be_bytes([fixed[0], fixed[1]]),
            to: u16::from_be_bytes([fixed[2], fixed[3]]),
            flags: fixed[13],
            header,
        })
    }
}

/// Where the value of the option that says the longest segment is, in the bytes of a TCP header.
pub fn mss_option(header: &[u8]) -> Option<usize> {
    let mut at = 20;
    while at < header.len() {
        match header[at] {
            0 => return None,
            1 => at += 1,
            2 if header.get(at + 1) == Some(&4) && at + 4 <= header.len() => return Some(at + 2),
            _ => at += usize::from(*header.get(at + 1)?).max(2),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_found_behind_others() {
        let mut header = [0; 32];
        header[20..28].copy_from_slice(&[1, 3, 3, 7, 2, 4, 5, 0xb4]);
        assert_eq!(mss_option(&header), Some(26));
    }

    #[test]
    fn options_that_end_too_early_have_none() {
        let mut header = [1; 24];
        header[23] = 2;
        assert_eq!(mss_option(&header), None);
        header[22..24].copy_from_slice(&[2, 4]);
        assert_eq!(mss_option(&header), None);
        header[20..22].copy_from_slice(&[9, 0]);
        assert_eq!(mss_option(&header), None);
    }
}
