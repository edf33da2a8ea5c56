//! Frames from the transmit queue to the network behind the card, and from there to the receive queue (VirtIO 1.2,
//! section 5.1.6), with results that the device model would have, too.

use crate::{Chain, Layout, Memory, Positions, Queue, Result, Strange};

/// Bytes of a record before what it has: its length.
const LENGTH: usize = 4;
/// Bytes of `struct virtio_net_hdr_v1`.
const HEADER: usize = 12;
/// The longest frame: a packet of 64 KiB less one, its Ethernet header and a tag, rounded up.
const MOST_FRAME: usize = 65_550;
const LEAST_FRAME: usize = 14;
const BATCH_BYTES: usize = 512 << 10;
/// Batches of the network that are delivered at a time.
const TURNS: usize = 16;

// Of the header, and what it may ask for.
const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const GSO_SIZE: usize = 4;
const CSUM_START: usize = 6;
const CSUM_OFFSET: usize = 8;
const NUM_BUFFERS: usize = 10;
const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_ECN: u8 = 0x80;

const ETHERTYPE: usize = 12;
const VLAN: [u8; 2] = [0x81, 0x00];

/// The network behind a card. Frames are records: their length (32 bits) with what follows, a `virtio_net_hdr_v1`, the frame, and
/// padding to a multiple of 4.
pub trait Backend {
    /// Takes all of `frames`, and writes answers behind the `used` bytes of `out`; how many are used then. [`Strange`] when
    /// the network is gone.
    fn input(&mut self, frames: &[u8], out: &mut [u8], used: usize) -> Result<usize>;
    /// Writes what there is for the guest, as `input`; true when it should be called again.
    fn poll(&mut self, out: &mut [u8], used: usize) -> Result<(usize, bool)>;
}

/// A queue of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Towards the guest.
    Receive,
    /// From the guest.
    Transmit,
}

/// What the driver negotiated and asked for.
#[derive(Debug, Clone, Copy)]
pub struct CardConfig {
    /// A frame may go to several buffers (`VIRTIO_NET_F_MRG_RXBUF`).
    pub mergeable: bool,
    /// The driver takes checksums that are not there, or were checked (`VIRTIO_NET_F_GUEST_CSUM`).
    pub checksums: bool,
    /// What the driver may ask for: one bit each for partial checksums, TCP over IPv4 and IPv6, ECN, UDP in fragments and in
    /// segments.
    pub offloads: u32,
    /// Its address.
    pub mac: [u8; 6],
    /// Frames to that address pass the filter.
    pub unicast: bool,
    /// Frames to everybody pass the filter.
    pub broadcast: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames from the guest, and their bytes.
    pub sent: (u64, u64),
    /// Frames to the guest, and their bytes.
    pub received: (u64, u64),
    /// Frames of the guest's that made no sense.
    pub errors: u64,
    /// Times that the queues were looked at.
    pub runs: u64,
    /// Interrupts of both queues.
    pub interrupts: u64,
}

/// The data queues of a card that its model has lent.
#[derive(Debug)]
pub struct Card<M> {
    memory: M,
    config: CardConfig,
    rx: Queue,
    tx: Queue,
    /// Frames of the guest's.
    batch: Vec<u8>,
    /// Frames of the network's, of which those before `from` were delivered.
    out: Vec<u8>,
    from: usize,
    used: usize,
    chain: Chain,
    buffers: Vec<Chain>,
    counts: Counts,
}

impl<M: Memory> Card<M> {
    /// Goes on where the model is.
    pub fn new(
        memory: M,
        config: CardConfig,
        rx: (Layout, Positions),
        tx: (Layout, Positions),
    ) -> Self {
        Self {
            memory,
            config,
            rx: Queue::new(rx.0, rx.1),
            tx: Queue::new(tx.0, tx.1),
            batch: Vec::with_capacity(BATCH_BYTES),
            out: vec![0; BATCH_BYTES],
            from: 0,
            used: 0,
            chain: Chain::default(),
            buffers: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Where the model goes on: with the receive queue, then the transmit queue.
    pub fn positions(&self) -> (Positions, Positions) {
        (self.rx.positions(), self.tx.positions())
    }

    /// Frames that the driver has no buffers for yet.
    pub fn undelivered(&self) -> &[u8] {
        &self.out[self.from..self.used]
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Does what there is to do in both directions, and tells which interrupts the driver wants. True when it has to be called
    /// again, as there is more than is done at a time.
    pub fn run(&mut self, net: &mut impl Backend, raise: &mut impl FnMut(Which)) -> Result<bool> {
        self.counts.runs += 1;
        let more = self.transmit(net, raise)?;
        Ok(self.poll(net, raise)? || more)
    }

    /// The frames of the transmit queue.
    fn transmit(&mut self, net: &mut impl Backend, raise: &mut impl FnMut(Which)) -> Result<bool> {
        let mut budget = self.tx.size();
        let result = loop {
            if let Err(strange) = self.tx.disable_notification(&self.memory) {
                break Err(strange);
            }
            let popped = self.take(&mut budget);
            // What came before a strange chain is not strange.
            let answered = self.answer(net, raise);
            if popped.and(answered).is_err() {
                break Err(Strange);
            }
            // A ring that was exactly full is empty now: without being asked, its driver would not kick.
            if budget == 0 && self.tx.has_chains(&self.memory) == Ok(true) {
                break Ok(true);
            }
            match self.tx.enable_notification(&self.memory) {
                Ok(true) if budget > 0 => {}
                other => break other,
            }
        };
        if self.tx.publish(&self.memory)? {
            self.counts.interrupts += 1;
            raise(Which::Transmit);
        }
        result
    }

    /// Copies frames into the batch, and gives their chains back.
    fn take(&mut self, budget: &mut u16) -> Result<()> {
        self.batch.clear();
        while *budget > 0 && self.batch.len() + record_bytes(MOST_FRAME) <= BATCH_BYTES {
            if !self.tx.pop(&self.memory, &mut self.chain)? {
                break;
            }
            *budget -= 1;
            let before = self.batch.len();
            let added = self.add();
            if added.and_then(|()| self.tx.push(&self.memory, self.chain.head, 0)).is_err() {
                self.batch.truncate(before);
                self.tx.unpop(1);
                return Err(Strange);
            }
        }
        Ok(())
    }

    /// Appends the frame of the chain, or drops it when it makes no sense.
    fn add(&mut self) -> Result<()> {
        // Without even a header it is for the model to fail.
        let frame = self.chain.readable_bytes.checked_sub(HEADER).ok_or(Strange)?;
        if !(LEAST_FRAME..=MOST_FRAME).contains(&frame) {
            self.counts.errors += 1;
            return Ok(());
        }
        let at = self.batch.len();
        self.batch.resize(at + record_bytes(frame), 0);
        let length = (HEADER + frame) as u32;
        self.batch[at..at + LENGTH].copy_from_slice(&length.to_le_bytes());
        let record = &mut self.batch[at + LENGTH..][..HEADER + frame];
        self.chain.read(&self.memory, record)?;
        if check_header(record, self.config.offloads) {
            self.counts.sent.0 += 1;
            self.counts.sent.1 += frame as u64;
        } else {
            self.counts.errors += 1;
            self.batch.truncate(at);
        }
        Ok(())
    }

    /// Hands the batch to the network, and its answers to the guest.
    fn answer(&mut self, net: &mut impl Backend, raise: &mut impl FnMut(Which)) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.used = net.input(&self.batch, &mut self.out, self.used)?;
        self.deliver(raise)
    }

    /// What the network has by itself.
    fn poll(&mut self, net: &mut impl Backend, raise: &mut impl FnMut(Which)) -> Result<bool> {
        for _ in 0..TURNS {
            self.deliver(raise)?;
            // Also when the driver has no buffers: what sockets have to say must be heard, or they say it again.
            let waits = self.from < self.used;
            let (used, more) = net.poll(&mut self.out, self.used)?;
            self.used = used;
            if waits {
                return Ok(false);
            }
            if !more {
                self.deliver(raise)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Frames to the guest, as long as there are buffers. Without, the driver kicks when it has some.
    fn deliver(&mut self, raise: &mut impl FnMut(Which)) -> Result<()> {
        if self.from == self.used {
            return Ok(());
        }
        let mut result = Ok(());
        while self.from < self.used {
            match self.put() {
                Ok(true) => {}
                Ok(false) => break,
                Err(strange) => {
                    result = Err(strange);
                    break;
                }
            }
        }
        if self.from == self.used {
            self.from = 0;
            self.used = 0;
        }
        if self.rx.publish(&self.memory)? {
            self.counts.interrupts += 1;
            raise(Which::Receive);
        }
        result
    }

    /// The next frame; false when there is no room for it.
    fn put(&mut self) -> Result<bool> {
        let at = self.from;
        let length = self.out[at..self.used].first_chunk().ok_or(Strange)?;
        let length = u32::from_le_bytes(*length) as usize;
        let record = self.out[..self.used].get(at + LENGTH..at + LENGTH + length).ok_or(Strange)?;
        let frame = record.get(HEADER..).filter(|frame| frame.len() >= LEAST_FRAME);
        let frame = frame.ok_or(Strange)?;
        if !self.passes(frame) {
            return Err(Strange);
        }
        let bytes = frame.len() as u64;
        let mut count = self.collect(length)?;
        // Some may be there, and too few: it is for more than those that the driver has to kick.
        while count == 0 {
            if !self.rx.ask_for_more(&self.memory)? {
                return Ok(false);
            }
            count = self.collect(length)?;
        }
        if let Err(strange) = self.fill(at + LENGTH, length, count) {
            self.rx.unpop(count);
            return Err(strange);
        }
        self.counts.received.0 += 1;
        self.counts.received.1 += bytes;
        self.from = at + padded(LENGTH + length);
        Ok(true)
    }

    /// Whether it is certain that the filter lets the frame through.
    fn passes(&self, frame: &[u8]) -> bool {
        let config = &self.config;
        let unicast = config.unicast && frame[..6] == config.mac;
        let broadcast = config.broadcast && frame[..6] == [0xff; 6];
        (unicast || broadcast) && frame[ETHERTYPE..][..2] != VLAN
    }

    /// Pops buffers for so many bytes into `buffers`; how many, 0 when there are not enough.
    fn collect(&mut self, needed: usize) -> Result<u16> {
        let (mut count, mut room) = (0, 0);
        while room < needed {
            if self.buffers.len() == usize::from(count) {
                self.buffers.push(Chain::default());
            }
            let chain = &mut self.buffers[usize::from(count)];
            let popped = match self.rx.pop(&self.memory, chain) {
                Ok(true) => {
                    count += 1;
                    room += chain.writable_bytes;
                    let fits = self.config.mergeable || room >= needed;
                    if fits && chain.writable_bytes > 0 { Ok(true) } else { Err(Strange) }
                }
                // More than all there are would be needed: the model drops the frame.
                Ok(false) if count == self.rx.size() => Err(Strange),
                other => other,
            };
            if popped != Ok(true) {
                self.rx.unpop(count);
                return popped.map(|_| 0);
            }
        }
        Ok(count)
    }

    /// Writes a header and its frame into `count` buffers, and gives them back.
    fn fill(&mut self, at: usize, length: usize, count: u16) -> Result<()> {
        let record = &mut self.out[at..at + length];
        // The header lies before the frame as the driver wants it, but for what only the card knows.
        let flags = record[FLAGS];
        let known = if self.config.checksums { F_NEEDS_CSUM | F_DATA_VALID } else { 0 };
        record[FLAGS] = flags & known;
        record[NUM_BUFFERS..][..2].copy_from_slice(&count.to_le_bytes());
        let chains = &self.buffers[..usize::from(count)];
        let mut rest = &record[..];
        let mut written = Ok(());
        for chain in chains {
            let (here, behind) = rest.split_at(rest.len().min(chain.writable_bytes));
            written = written.and_then(|()| chain.write(&self.memory, here));
            rest = behind;
        }
        record[FLAGS] = flags;
        record[NUM_BUFFERS..][..2].fill(0);
        written?;
        let mut left = length;
        for chain in chains {
            let here = left.min(chain.writable_bytes);
            self.rx.push(&self.memory, chain.head, here as u32)?;
            left -= here;
        }
        Ok(())
    }
}

fn padded(bytes: usize) -> usize {
    (bytes + 3) & !3
}

fn record_bytes(frame: usize) -> usize {
    padded(LENGTH + HEADER + frame)
}

/// Leaves only what was negotiated and lies within the frame; false when the frame cannot be sent.
fn check_header(record: &mut [u8], offloads: u32) -> bool {
    record[NUM_BUFFERS..][..2].fill(0);
    let flags = record[FLAGS] & F_NEEDS_CSUM;
    record[FLAGS] = flags;
    let gso_type = record[GSO_TYPE];
    if flags == 0 && gso_type == 0 {
        return true;
    }
    let half = |at: usize| usize::from(u16::from_le_bytes([record[at], record[at + 1]]));
    let Some(needed) = needed_by(gso_type) else { return false };
    // Segments all need a checksum of their own (section 5.1.6.2.1).
    if needed & !offloads != 0 || flags == 0 || gso_type != 0 && half(GSO_SIZE) == 0 {
        return false;
    }
    half(CSUM_START) + half(CSUM_OFFSET) + 2 <= record.len() - HEADER
}

/// What the receiver of a frame with partial checksum and segments of this kind has to accept.
fn needed_by(gso_type: u8) -> Option<u32> {
    const CSUM: u32 = 1;
    const ECN: u32 = 8;
    let (kind, tcp) = match gso_type & !GSO_ECN {
        0 if gso_type == 0 => return Some(CSUM),
        1 => (0x02, true),
        4 => (0x04, true),
        3 => (0x10, false),
        5 => (0x20, false),
        _ => return None,
    };
    match gso_type & GSO_ECN {
        0 => Some(CSUM | kind),
        _ if tcp => Some(CSUM | kind | ECN),
        _ => None,
    }
}
