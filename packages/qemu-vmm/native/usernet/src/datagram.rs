//! UDP datagrams on their way to the guest.

use std::net::SocketAddr;

use crate::batch::ETHERNET;
use crate::context::Context;
use crate::link::{Header, IPV4, IPV4_HEADER, IPV6, IPV6_HEADER, MTU, Mac, UDP, ethernet, finish};

const UDP_HEADER: usize = 8;
/// `Fragment`, an extension header (RFC 8200, section 4.5).
const FRAGMENT: u8 = 44;
const FRAGMENT_HEADER: usize = 8;

/// The longest that fits into a packet.
pub const MAX_DATAGRAM: usize = 65_535 - IPV4_HEADER - UDP_HEADER;

/// Bytes of a batch that a datagram of any length needs at most, cut into packets.
pub const ROOM: usize = 65_536 + 50 * 96;

/// Sends data from one address to another, in several packets when it has to be. None when there was
/// no room.
pub fn send(
    cx: &mut Context<'_, '_>,
    to: Mac,
    source: SocketAddr,
    guest: SocketAddr,
    data: &[u8],
) -> Option<()> {
    if data.len() > MAX_DATAGRAM {
        return None;
    }
    let header = Header::new(source.ip(), guest.ip(), UDP);
    let length = UDP_HEADER + data.len();
    let fill = |segment: &mut [u8]| {
        segment[..2].copy_from_slice(&source.port().to_be_bytes());
        segment[2..4].copy_from_slice(&guest.port().to_be_bytes());
        segment[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        segment[6..8].fill(0);
        segment[UDP_HEADER..].copy_from_slice(data);
        finish(&header, segment, 6);
    };
    if header.len() + length <= MTU {
        return cx.send(to, header, length, fill);
    }
    let mut segment = vec![0; length];
    fill(&mut segment);
    send_long(cx, to, header, &segment)
}

/// Sends a payload of any length, in several packets when it has to be.
pub fn send_long(cx: &mut Context<'_, '_>, to: Mac, header: Header, segment: &[u8]) -> Option<()> {
    if header.len() + segment.len() <= MTU {
        return cx.send(to, header, segment.len(), |payload| payload.copy_from_slice(segment));
    }
    let six = header.source.is_ipv6();
    let before = if six { IPV6_HEADER + FRAGMENT_HEADER } else { IPV4_HEADER };
    let step = (MTU - before) & !7;
    let (mac, identification) = (cx.link.mac, cx.link.identification());
    for (number, part) in segment.chunks(step).enumerate() {
        let at = number * step;
        let more = at + part.len() < segment.len();
        cx.out.push(ETHERNET + before + part.len(), |frame| {
            ethernet(frame, to, mac, if six { IPV6 } else { IPV4 });
            let packet = &mut frame[ETHERNET..];
            if six {
                let fragment = Header { protocol: FRAGMENT, ..header };
                fragment.write(packet, FRAGMENT_HEADER + part.len(), 0, 0);
                let extension = &mut packet[IPV6_HEADER..][..FRAGMENT_HEADER];
                extension[..2].copy_from_slice(&[header.protocol, 0]);
                extension[2..4].copy_from_slice(&(at as u16 | u16::from(more)).to_be_bytes());
                extension[4..6].fill(0);
                extension[6..].copy_from_slice(&identification.to_be_bytes());
            } else {
                let word = (at / 8) as u16 | if more { 0x2000 } else { 0 };
                header.write(packet, part.len(), identification, word);
            }
            packet[before..].copy_from_slice(part);
        })?;
    }
    Some(())
}
