//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// The sum of 16-bit words, not yet folded: sums of parts can be added. A part of odd length counts
/// as if a zero followed.
pub fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0u64;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total + u64::from(u32::from_be_bytes(last))
}

/// The sum as 16 bits, without the complement.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 9293, section 3.1; RFC 8200, 8.1).
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    address(source) + address(destination) + u64::from(protocol) + length as u64
}

fn address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// Whether a transport header and its data have the right checksum.
pub fn holds(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> bool {
    fold(pseudo(source, destination, protocol, bytes.len()) + sum(bytes)) == 0xffff
}
