//! Packets that the guest cut (RFC 791, section 3.2).

use std::net::IpAddr;

use crate::packet::{Fragment, Packet};

/// Packets of which parts are missing, at most, and how long for.
const PACKETS: usize = 32;
const PATIENCE_US: u64 = 15_000_000;
/// The longest payload.
const LONGEST: usize = 65_515;
/// Parts of one packet; the smallest link that there may be makes fewer of the longest.
const PARTS: usize = 1400;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u16,
}

#[derive(Debug)]
struct Incomplete {
    key: Key,
    since_us: u64,
    bytes: Vec<u8>,
    /// What is there, as start and end, in order.
    parts: Vec<(usize, usize)>,
    /// Known when the last part is there.
    length: Option<usize>,
}

/// Packets of which parts are missing.
#[derive(Debug, Default)]
pub struct Reassembly {
    incomplete: Vec<Incomplete>,
}

impl Reassembly {
    /// Adds a part. Returns the payload when it was the last one that was missing. Parts that overlap, or
    /// contradict each other, make the packet one that is not to be had.
    pub fn add(&mut self, now_us: u64, packet: &Packet<'_>, part: Fragment) -> Option<Vec<u8>> {
        self.incomplete.retain(|other| now_us.saturating_sub(other.since_us) < PATIENCE_US);
        let (start, end) = (part.offset, part.offset + packet.payload.len());
        if start == end || end > LONGEST || (part.more && !packet.payload.len().is_multiple_of(8)) {
            return None;
        }
        let key = Key {
            source: packet.header.source,
            destination: packet.header.destination,
            protocol: packet.header.protocol,
            identification: part.identification,
        };
        let index = match self.incomplete.iter().position(|other| other.key == key) {
            Some(index) => index,
            None => {
                if self.incomplete.len() >= PACKETS {
                    self.incomplete.remove(0);
                }
                let (bytes, parts) = (Vec::new(), Vec::new());
                self.incomplete.push(Incomplete {
                    key,
                    since_us: now_us,
                    bytes,
                    parts,
                    length: None,
                });
                self.incomplete.len() - 1
            }
        };
        let whole = &mut self.incomplete[index];
        if !whole.add(start, packet.payload, part.more) {
            self.incomplete.remove(index);
            return None;
        }
        whole.is_complete().then(|| self.incomplete.remove(index).bytes)
    }
}

impl Incomplete {
    fn add(&mut self, start: usize, payload: &[u8], more: bool) -> bool {
        let end = start + payload.len();
        let at = self.parts.partition_point(|(other, _)| *other < start);
        let before = at.checked_sub(1).map_or(0, |before| self.parts[before].1);
        let after = self.parts.get(at).map_or(usize::MAX, |(other, _)| *other);
        if self.parts.get(at) == Some(&(start, end)) {
            // The same once more.
            return true;
        }
        let beyond = self.length.is_some_and(|length| end > length || !more);
        let short = !more && self.parts.last().is_some_and(|(_, last)| *last > end);
        if before > start || after < end || beyond || short || self.parts.len() >= PARTS {
            return false;
        }
        if !more {
            self.length = Some(end);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(payload);
        // Parts that touch become one: the usual order makes one that grows.
        match at.checked_sub(1).filter(|before| self.parts[*before].1 == start) {
            Some(before) => self.parts[before].1 = end,
            None => self.parts.insert(at, (start, end)),
        }
        true
    }

    fn is_complete(&self) -> bool {
        let mut end = 0;
        for (start, next) in &self.parts {
            if *start != end {
                return false;
            }
            end = *next;
        }
        self.length == Some(end)
    }
}
