//! Batches of frames: records one behind the other, each at a multiple of 4.
//!
//! A record is the length of what follows (32 bits), a `virtio_net_hdr_v1` of 12 bytes (VirtIO 1.2,
//! section 5.1.6) and an Ethernet frame without its check sequence; all little-endian.

const LENGTH: usize = 4;
/// Bytes of `struct virtio_net_hdr_v1`.
const HEADER: usize = 12;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// The peer takes frames whose checksum is left to it (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
pub const ACCEPTS_CSUM: u32 = 1;
/// The peer takes TCP over IPv4 in segments that are to be cut.
pub const ACCEPTS_TSO4: u32 = 2;
/// The same over IPv6.
pub const ACCEPTS_TSO6: u32 = 4;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// A frame of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The frame, from its destination address on; at least an Ethernet header.
    pub frame: &'a [u8],
    /// The checksum needs no check: it is unfinished, or somebody has looked at it.
    pub trusted: bool,
}

/// The records of a batch. Ends at the first that is not whole.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Those of the `used` bytes of a batch.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let length = u32::from_le_bytes(*self.rest.first_chunk()?) as usize;
        let body = self.rest.get(LENGTH..)?.get(..length)?;
        let frame = body.get(HEADER..).filter(|frame| frame.len() >= ETHERNET)?;
        self.rest = self.rest.get(padded(LENGTH + length)..).unwrap_or(&[]);
        Some(Record { frame, trusted: body[0] & (F_NEEDS_CSUM | F_DATA_VALID) != 0 })
    }
}

fn padded(bytes: usize) -> usize {
    (bytes + 3) & !3
}

/// Where frames are written.
#[derive(Debug)]
pub struct Out<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

/// How the receiver finishes a TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct Offload {
    /// Bytes of Ethernet, IP and TCP headers.
    pub headers: usize,
    /// Bytes of the Ethernet and IP headers: where the TCP header is.
    pub transport: usize,
    /// Bytes of data in each segment, 0 when it is not to be cut.
    pub gso_size: u16,
    /// Over IPv6.
    pub six: bool,
}

impl<'a> Out<'a> {
    /// Appends to the `used` bytes that are in the batch.
    pub fn new(bytes: &'a mut [u8], used: usize) -> Self {
        let used = used.min(bytes.len());
        Self { bytes, used }
    }

    /// Bytes of all records.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether a frame of this length has room.
    pub fn has_room(&self, frame: usize) -> bool {
        self.used + padded(LENGTH + HEADER + frame) <= self.bytes.len()
    }

    /// Appends a frame of `length` bytes that `fill` writes. None when there is no room.
    pub fn push<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        if !self.has_room(length) || length < ETHERNET {
            return None;
        }
        let record = &mut self.bytes[self.used..][..padded(LENGTH + HEADER + length)];
        record[..LENGTH].copy_from_slice(&((HEADER + length) as u32).to_le_bytes());
        record[LENGTH..LENGTH + HEADER].fill(0);
        let result = fill(&mut record[LENGTH + HEADER..][..length]);
        self.used += record.len();
        Some(result)
    }

    /// The same for a segment that the receiver finishes.
    pub fn push_offloaded<R>(
        &mut self,
        length: usize,
        offload: Offload,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        let at = self.used + LENGTH;
        let result = self.push(length, fill)?;
        let header = &mut self.bytes[at..at + HEADER];
        header[0] = F_NEEDS_CSUM;
        if offload.gso_size > 0 {
            header[1] = if offload.six { GSO_TCPV6 } else { GSO_TCPV4 };
            header[4..6].copy_from_slice(&offload.gso_size.to_le_bytes());
        }
        header[2..4].copy_from_slice(&(offload.headers as u16).to_le_bytes());
        header[6..8].copy_from_slice(&(offload.transport as u16).to_le_bytes());
        // Where a TCP header has its checksum (RFC 9293, section 3.1).
        header[8..10].copy_from_slice(&16u16.to_le_bytes());
        Some(result)
    }
}
