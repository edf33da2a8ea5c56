//! What smoltcp takes for a network card: one packet to read, and the batch to write to.

use std::net::IpAddr;

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::batch::{ACCEPTS_CSUM, ACCEPTS_TSO4, ACCEPTS_TSO6, ETHERNET, Offload, Out};
use crate::checksum::{fold, pseudo};
use crate::link::{Header, IPV4, IPV4_HEADER, IPV6, IPV6_HEADER, Link, Mac, TCP, ethernet, finish};
use crate::packet::{FLAG_FIN, FLAG_PSH, FLAG_RST, FLAG_SYN};

/// The longest packet, IPv4 header included.
pub const MAX_PACKET: usize = 65_535;
const TCP_HEADER: usize = 20;
/// Where a TCP header has its checksum (RFC 9293, section 3.1).
const CHECKSUM_AT: usize = 16;
/// Data of a segment that is not cut for a guest that takes less.
pub const LEAST_MSS: u16 = 536;
/// Room that must be there before smoltcp may make a packet: the longest one, cut into the smallest
/// segments.
const ROOM: usize = MAX_PACKET + (MAX_PACKET / LEAST_MSS as usize + 1) * 96;

/// One connection's view of the link for one call of smoltcp.
#[derive(Debug)]
pub struct Wire<'a, 'b> {
    /// What the guest sent.
    pub packet: Option<&'a [u8]>,
    /// Where frames go.
    pub out: &'a mut Out<'b>,
    /// The link.
    pub link: &'a Link,
    /// The guest's card. None: it is not known, nothing can be sent.
    pub to: Option<Mac>,
    /// Data in a segment of the guest's; longer ones are cut, if possible by its card.
    pub mss: u16,
    /// Where packets are that are to be cut here.
    pub scratch: &'a mut Vec<u8>,
    /// Something was to be sent and found no room.
    pub blocked: bool,
    /// Packets that were sent.
    pub sent: usize,
    /// The sequence number behind the last of them.
    pub end: Option<u32>,
}

/// What smoltcp may rely on. Checksums are looked at before it sees a packet, and filled in after.
fn capabilities() -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::ignored();
    checksum.ipv4 = Checksum::Tx;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MAX_PACKET;
    capabilities.checksum = checksum;
    capabilities
}

impl<'a, 'b> Device for Wire<'a, 'b> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t, 'a, 'b>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Rx<'_>, Tx<'_, 'a, 'b>)> {
        let packet = self.packet.take()?;
        Some((Rx(packet), Tx(self)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_, 'a, 'b>> {
        self.to?;
        if !self.out.has_room(ROOM) {
            self.blocked = true;
            return None;
        }
        Some(Tx(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

/// The packet.
#[derive(Debug)]
pub struct Rx<'a>(&'a [u8]);

impl smoltcp::phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a packet.
#[derive(Debug)]
pub struct Tx<'t, 'a, 'b>(&'t mut Wire<'a, 'b>);

impl smoltcp::phy::TxToken for Tx<'_, '_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let wire = self.0;
        wire.scratch.resize(ETHERNET + length, 0);
        let result = f(&mut wire.scratch[ETHERNET..]);
        wire.sent += 1;
        // An answer to what just came may lack room: TCP repeats what is lost.
        if let Some(to) = wire.to {
            wire.end = end(wire.scratch).or(wire.end);
            write(wire.scratch, wire.link, to, wire.mss, wire.out);
        }
        result
    }
}

/// What the headers of a packet of smoltcp's say.
struct Parts {
    header: Header,
    /// Where the TCP header is in the frame.
    transport: usize,
    /// Where the data is.
    data: usize,
}

fn parts(frame: &[u8]) -> Option<Parts> {
    let packet = frame.get(ETHERNET..)?;
    let (header, length) = match packet.first()? >> 4 {
        4 => {
            let fixed: &[u8; IPV4_HEADER] = packet.first_chunk()?;
            let address = |at: usize| {
                IpAddr::from(<[u8; 4]>::try_from(&fixed[at..at + 4]).unwrap_or_default())
            };
            (Header::new(address(12), address(16), fixed[9]), IPV4_HEADER)
        }
        _ => {
            let fixed: &[u8; IPV6_HEADER] = packet.first_chunk()?;
            let address = |at: usize| {
                IpAddr::from(<[u8; 16]>::try_from(&fixed[at..at + 16]).unwrap_or_default())
            };
            (Header::new(address(8), address(24), fixed[6]), IPV6_HEADER)
        }
    };
    let transport = ETHERNET + length;
    let offset = usize::from(frame.get(transport + 12)? >> 4) * 4;
    let whole = header.protocol == TCP && offset >= TCP_HEADER && transport + offset <= frame.len();
    whole.then_some(Parts { header, transport, data: transport + offset })
}

/// The sequence number behind a segment; none for a reset, which has no numbers of its own.
fn end(frame: &[u8]) -> Option<u32> {
    let Parts { transport, data, .. } = parts(frame)?;
    let sequence = u32::from_be_bytes(*frame.get(transport + 4..)?.first_chunk()?);
    let flags = *frame.get(transport + 13)?;
    let ends = u32::from(flags & FLAG_SYN != 0) + u32::from(flags & FLAG_FIN != 0);
    let length = (frame.len() - data) as u32 + ends;
    (flags & FLAG_RST == 0).then(|| sequence.wrapping_add(length))
}

fn write(frame: &mut [u8], link: &Link, to: Mac, mss: u16, out: &mut Out<'_>) {
    // smoltcp also answers with ICMP what is no TCP; nothing of the kind is given to it.
    let Some(Parts { header, transport, data }) = parts(frame) else { return };
    let six = header.source.is_ipv6();
    ethernet(frame, to, link.mac, if six { IPV6 } else { IPV4 });
    let long = frame.len() - data > usize::from(mss);
    let tso = ACCEPTS_CSUM | if six { ACCEPTS_TSO6 } else { ACCEPTS_TSO4 };
    if long && link.accepts & tso != tso {
        return cut(frame, &Parts { header, transport, data }, mss, out);
    }
    if link.accepts & ACCEPTS_CSUM == 0 {
        finish(&header, &mut frame[transport..], CHECKSUM_AT);
        let _ = out.push(frame.len(), |to| to.copy_from_slice(frame));
        return;
    }
    let length = frame.len() - transport;
    let partial = fold(pseudo(header.source, header.destination, TCP, length));
    frame[transport + CHECKSUM_AT..][..2].copy_from_slice(&partial.to_be_bytes());
    let offload = Offload { headers: data, transport, gso_size: if long { mss } else { 0 }, six };
    let _ = out.push_offloaded(frame.len(), offload, |to| to.copy_from_slice(frame));
}

/// What a card does that segments: each part has the headers, with its own lengths and numbers.
fn cut(frame: &[u8], parts: &Parts, mss: u16, out: &mut Out<'_>) {
    let Parts { header, transport, data } = *parts;
    let sequence_at = transport + 4;
    let Some(sequence) = frame.get(sequence_at..).and_then(|rest| rest.first_chunk()) else {
        return;
    };
    let mut sequence = u32::from_be_bytes(*sequence);
    let mut rest = &frame[data..];
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(usize::from(mss)));
        rest = after;
        let length = data - transport + part.len();
        let pushed = out.push(data + part.len(), |to| {
            to[..data].copy_from_slice(&frame[..data]);
            to[data..].copy_from_slice(part);
            header.write(&mut to[ETHERNET..], length, 0, 0);
            to[sequence_at..][..4].copy_from_slice(&sequence.to_be_bytes());
            if !after.is_empty() {
                to[transport + 13] &= !(FLAG_FIN | FLAG_PSH);
            }
            finish(&header, &mut to[transport..], CHECKSUM_AT);
        });
        if pushed.is_none() {
            return;
        }
        sequence = sequence.wrapping_add(part.len() as u32);
    }
}
