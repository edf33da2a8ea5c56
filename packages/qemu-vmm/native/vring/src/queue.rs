//! The device's side of a split virtqueue (VirtIO 1.2, section 2.7), for chains as drivers usually make them.

use std::sync::atomic::{Ordering, fence};

use crate::{Memory, Result, Strange};

const DESC_BYTES: usize = 16;
const F_NEXT: u16 = 1;
const F_WRITE: u16 = 2;
const F_INDIRECT: u16 = 4;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT` and `VIRTQ_USED_F_NO_NOTIFY`.
const F_QUIET: u16 = 1;

/// Descriptors of a usual chain at most, and bytes of each.
const MOST_BUFFERS: usize = 256;
const MOST_BYTES: u32 = 1 << 22;
/// No address is higher, so that sums do not overflow.
const MOST_GPA: u64 = 1 << 52;

/// Where a queue is, and what was negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Descriptors, a power of two.
    pub size: u16,
    /// The descriptor table.
    pub desc: u64,
    /// The available ring.
    pub avail: u64,
    /// The used ring.
    pub used: u64,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
}

/// How far a queue is, as the device model counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Of the next chain in the available ring.
    pub last_avail: u16,
    /// Of the next element of the used ring.
    pub used_idx: u16,
    /// `used_idx` when the driver was last considered for an interrupt.
    pub signalled: u16,
}

/// A chain: what the driver wants read, then what it wants written.
#[derive(Debug, Default)]
pub struct Chain {
    /// Index of its first descriptor.
    pub head: u16,
    /// Address and length of each buffer.
    buffers: Vec<(u64, u32)>,
    readable: usize,
    /// Bytes of the device-readable buffers.
    pub readable_bytes: usize,
    /// Bytes of the device-writable buffers.
    pub writable_bytes: usize,
}

impl Chain {
    /// Copies the device-readable bytes to `to`, which has room for all of them.
    pub fn read(&self, memory: &impl Memory, to: &mut [u8]) -> Result<()> {
        let mut rest = to;
        for &(gpa, length) in &self.buffers[..self.readable] {
            let (here, behind) = rest.split_at_mut_checked(length as usize).ok_or(Strange)?;
            if !memory.read(gpa, here) {
                return Err(Strange);
            }
            rest = behind;
        }
        Ok(())
    }

    /// Copies `from`, which is not longer than there is room, to the device-writable bytes.
    pub fn write(&self, memory: &impl Memory, from: &[u8]) -> Result<()> {
        let mut rest = from;
        for &(gpa, length) in &self.buffers[self.readable..] {
            let (here, behind) = rest.split_at(rest.len().min(length as usize));
            if here.is_empty() {
                break;
            }
            if !memory.write(gpa, here) {
                return Err(Strange);
            }
            rest = behind;
        }
        Ok(())
    }

    fn clear(&mut self, head: u16) {
        self.head = head;
        self.buffers.clear();
        self.readable = 0;
        self.readable_bytes = 0;
        self.writable_bytes = 0;
    }

    fn append(&mut self, gpa: u64, length: u32, writable: bool) -> Result<()> {
        let unusual = length == 0 || length > MOST_BYTES || gpa >= MOST_GPA;
        // What the device reads comes first.
        let disorder = !writable && self.readable < self.buffers.len();
        if unusual || disorder || self.buffers.len() == MOST_BUFFERS {
            return Err(Strange);
        }
        self.buffers.push((gpa, length));
        if writable {
            self.writable_bytes += length as usize;
        } else {
            self.readable += 1;
            self.readable_bytes += length as usize;
        }
        Ok(())
    }
}

struct Descriptor {
    gpa: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn parse(bytes: &[u8; DESC_BYTES]) -> Self {
        let low = u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]));
        let high = u64::from_le_bytes(*bytes.last_chunk().unwrap_or(&[0; 8]));
        Self {
            gpa: low,
            length: high as u32,
            flags: (high >> 32) as u16,
            next: (high >> 48) as u16,
        }
    }
}

/// A queue that was lent.
#[derive(Debug)]
pub struct Queue {
    layout: Layout,
    at: Positions,
    /// The last `avail.idx` that was read.
    avail_idx: u16,
    /// `used.idx` as the driver sees it.
    published: u16,
    /// An indirect table.
    table: Vec<u8>,
}

impl Queue {
    /// Goes on where the device model is, with nothing in flight.
    pub fn new(layout: Layout, at: Positions) -> Self {
        Self { layout, at, avail_idx: at.last_avail, published: at.used_idx, table: Vec::new() }
    }

    /// Where the device model goes on. What was pushed has to be published before.
    pub fn positions(&self) -> Positions {
        self.at
    }

    /// Descriptors.
    pub fn size(&self) -> u16 {
        self.layout.size
    }

    /// Pops the next chain into `chain`; false when there is none.
    pub fn pop(&mut self, memory: &impl Memory, chain: &mut Chain) -> Result<bool> {
        if !self.has_chains(memory)? {
            return Ok(false);
        }
        let slot = u64::from(self.at.last_avail & (self.layout.size - 1));
        let head = self.word(memory, self.layout.avail + 4 + 2 * slot)?;
        chain.clear(head);
        self.walk(memory, chain, head)?;
        self.at.last_avail = self.at.last_avail.wrapping_add(1);
        Ok(true)
    }

    /// Leaves the last `count` chains that were popped, and not pushed, in the ring.
    pub fn unpop(&mut self, count: u16) {
        self.at.last_avail = self.at.last_avail.wrapping_sub(count);
    }

    /// Whether `pop` finds one.
    pub fn has_chains(&mut self, memory: &impl Memory) -> Result<bool> {
        if self.at.last_avail == self.avail_idx {
            self.look(memory)?;
        }
        Ok(self.at.last_avail != self.avail_idx)
    }

    /// Reads `avail.idx`.
    fn look(&mut self, memory: &impl Memory) -> Result<()> {
        let idx = self.word(memory, self.layout.avail + 2)?;
        // What the driver wrote before the index must not be read before it.
        fence(Ordering::SeqCst);
        if idx.wrapping_sub(self.at.last_avail) > self.layout.size {
            return Err(Strange);
        }
        self.avail_idx = idx;
        Ok(())
    }

    /// Gives a chain back, of which the first `written` bytes were written. The driver sees it when it is published.
    pub fn push(&mut self, memory: &impl Memory, head: u16, written: u32) -> Result<()> {
        let slot = u64::from(self.at.used_idx & (self.layout.size - 1));
        let mut element = [0; 8];
        element[..2].copy_from_slice(&head.to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        // Aligned to 4 only: the driver looks at neither half before it is told of the index.
        if !memory.write(self.layout.used + 4 + 8 * slot, &element) {
            return Err(Strange);
        }
        self.at.used_idx = self.at.used_idx.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver what was pushed; true when it wants an interrupt for that.
    pub fn publish(&mut self, memory: &impl Memory) -> Result<bool> {
        if self.published != self.at.used_idx {
            fence(Ordering::SeqCst);
            self.set_word(memory, self.layout.used + 2, self.at.used_idx)?;
            self.published = self.at.used_idx;
        }
        let (before, now) = (self.at.signalled, self.at.used_idx);
        if before == now {
            return Ok(false);
        }
        fence(Ordering::SeqCst);
        let wanted = if self.layout.event_idx {
            let event =
                self.word(memory, self.layout.avail + 4 + 2 * u64::from(self.layout.size))?;
            now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
        } else {
            self.word(memory, self.layout.avail)? & F_QUIET == 0
        };
        self.at.signalled = now;
        Ok(wanted)
    }

    /// Asks the driver not to kick: a hint.
    pub fn disable_notification(&self, memory: &impl Memory) -> Result<()> {
        if self.layout.event_idx {
            Ok(())
        } else {
            self.set_word(memory, self.layout.used, F_QUIET)
        }
    }

    /// Asks for kicks again; true when there are chains, for which there may be no kick.
    pub fn enable_notification(&mut self, memory: &impl Memory) -> Result<bool> {
        Ok(self.ask_for_more(memory)? || self.has_chains(memory)?)
    }

    /// Asks for kicks for chains behind those that were seen; true when some came meanwhile.
    pub fn ask_for_more(&mut self, memory: &impl Memory) -> Result<bool> {
        let seen = self.avail_idx;
        if self.layout.event_idx {
            let event = self.layout.used + 4 + 8 * u64::from(self.layout.size);
            self.set_word(memory, event, seen)?;
        } else {
            self.set_word(memory, self.layout.used, 0)?;
        }
        fence(Ordering::SeqCst);
        self.look(memory)?;
        Ok(self.avail_idx != seen)
    }

    fn walk(&mut self, memory: &impl Memory, chain: &mut Chain, head: u16) -> Result<()> {
        let mut index = head;
        for _ in 0..self.layout.size {
            if index >= self.layout.size {
                return Err(Strange);
            }
            let mut bytes = [0; DESC_BYTES];
            if !memory.read(self.layout.desc + 16 * u64::from(index), &mut bytes) {
                return Err(Strange);
            }
            let entry = Descriptor::parse(&bytes);
            if entry.flags & F_INDIRECT != 0 {
                return self.walk_indirect(memory, chain, &entry);
            }
            chain.append(entry.gpa, entry.length, entry.flags & F_WRITE != 0)?;
            if entry.flags & F_NEXT == 0 {
                return Ok(());
            }
            index = entry.next;
        }
        Err(Strange)
    }

    /// A table that is the whole chain.
    fn walk_indirect(
        &mut self,
        memory: &impl Memory,
        chain: &mut Chain,
        of: &Descriptor,
    ) -> Result<()> {
        let length = of.length as usize;
        let count = length / DESC_BYTES;
        let usual = self.layout.indirect
            && of.flags & F_NEXT == 0
            && chain.buffers.is_empty()
            && length.is_multiple_of(DESC_BYTES)
            && (1..=MOST_BUFFERS).contains(&count)
            && of.gpa < MOST_GPA;
        if !usual {
            return Err(Strange);
        }
        self.table.resize(length, 0);
        if !memory.read(of.gpa, &mut self.table) {
            return Err(Strange);
        }
        let mut index = 0;
        for _ in 0..count {
            let bytes = self.table.chunks_exact(DESC_BYTES).nth(index);
            let bytes = bytes.and_then(|bytes| bytes.first_chunk()).ok_or(Strange)?;
            let entry = Descriptor::parse(bytes);
            if entry.flags & F_INDIRECT != 0 {
                return Err(Strange);
            }
            chain.append(entry.gpa, entry.length, entry.flags & F_WRITE != 0)?;
            if entry.flags & F_NEXT == 0 {
                return Ok(());
            }
            index = usize::from(entry.next);
        }
        Err(Strange)
    }

    fn word(&self, memory: &impl Memory, gpa: u64) -> Result<u16> {
        let mut bytes = [0; 2];
        if memory.read(gpa, &mut bytes) { Ok(u16::from_le_bytes(bytes)) } else { Err(Strange) }
    }

    fn set_word(&self, memory: &impl Memory, gpa: u64, value: u16) -> Result<()> {
        if memory.write(gpa, &value.to_le_bytes()) { Ok(()) } else { Err(Strange) }
    }
}
