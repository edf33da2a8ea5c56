//! Memslots and the immutable table of them.

use std::sync::Arc;

use crate::dirty::DirtyBitmap;
use crate::{GuestRam, MEM_LOG_DIRTY_PAGES, MEM_READONLY, PAGE_BYTES, PageFlags};

/// A piece of a [`GuestRam`] at a guest physical address. Never empty.
#[derive(Clone, Debug)]
pub struct Memslot {
    /// Number that the VMM gave it.
    pub slot: u32,
    /// First guest physical address.
    pub gpa: u64,
    /// Bytes, a multiple of 4 KiB.
    pub size: u64,
    /// `MEM_*` bits.
    pub flags: u32,
    /// The memory behind it.
    pub ram: Arc<GuestRam>,
    /// Where in `ram` the slot begins.
    pub offset: u64,
    pub(crate) dirty: Option<Arc<DirtyBitmap>>,
}

impl Memslot {
    /// One past the last guest physical address.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.gpa + self.size
    }

    /// True if `gpa` is in the slot.
    #[inline]
    #[must_use]
    pub fn contains(&self, gpa: u64) -> bool {
        gpa.wrapping_sub(self.gpa) < self.size
    }

    /// The host address of `gpa`, which must be inside the slot. It is good for the rest of the
    /// slot and as long as something holds `ram`.
    #[inline]
    #[must_use]
    pub fn host_ptr(&self, gpa: u64) -> *mut u8 {
        debug_assert!(self.contains(gpa));
        self.ram.as_ptr().wrapping_add((gpa - self.gpa + self.offset) as usize)
    }

    /// True if the guest may not write.
    #[inline]
    #[must_use]
    pub fn readonly(&self) -> bool {
        self.flags & MEM_READONLY != 0
    }

    /// True if writes are to be recorded.
    #[inline]
    #[must_use]
    pub fn logs_dirty(&self) -> bool {
        self.flags & MEM_LOG_DIRTY_PAGES != 0
    }

    /// Records a write of `len` bytes at `gpa` (inside the slot); nothing if the slot has no log.
    #[inline]
    pub fn mark_dirty(&self, gpa: u64, len: u64) {
        if let Some(dirty) = &self.dirty
            && len != 0
        {
            let first = gpa.saturating_sub(self.gpa);
            dirty.mark(first / PAGE_BYTES, first.saturating_add(len - 1) / PAGE_BYTES);
        }
    }

    /// What vCPUs know about the page of `gpa` (inside the slot). It belongs to the RAM, so all slots
    /// that show the page share it.
    #[inline]
    #[must_use]
    pub fn page_flags(&self, gpa: u64) -> &PageFlags {
        debug_assert!(self.contains(gpa));
        &self.ram.page_flags()[((gpa - self.gpa + self.offset) / PAGE_BYTES) as usize]
    }
}

/// The memslots at one moment, in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub struct SlotTable {
    pub(crate) slots: Vec<Arc<Memslot>>,
    pub(crate) generation: u64,
}

impl SlotTable {
    /// The slot that contains `gpa`.
    #[inline]
    #[must_use]
    pub fn find(&self, gpa: u64) -> Option<&Memslot> {
        let after = self.slots.partition_point(|slot| slot.gpa <= gpa);
        let slot = self.slots.get(after.checked_sub(1)?)?;
        slot.contains(gpa).then_some(&**slot)
    }

    /// All slots, by rising address.
    #[must_use]
    pub fn slots(&self) -> &[Arc<Memslot>] {
        &self.slots
    }

    /// The slot with number `slot`.
    #[must_use]
    pub fn by_number(&self, slot: u32) -> Option<&Arc<Memslot>> {
        self.slots.iter().find(|s| s.slot == slot)
    }

    /// Which table this is: every change makes a new number.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All addresses at which the byte at `gpa` shows, through any slot. None if it lies in no slot.
    pub fn aliases(&self, gpa: u64) -> impl Iterator<Item = u64> + '_ {
        self.find(gpa).into_iter().flat_map(move |slot| {
            let in_ram = gpa - slot.gpa + slot.offset;
            self.slots.iter().filter(|s| Arc::ptr_eq(&s.ram, &slot.ram)).filter_map(move |s| {
                let within = in_ram.wrapping_sub(s.offset);
                (within < s.size).then(|| s.gpa + within)
            })
        })
    }

    /// Calls `f(slot, gpa, bytes, done)` for each piece of `[gpa, gpa + len)` in turn, where
    /// `done` bytes came before. False, without any call, if a part lies in no slot.
    pub(crate) fn pieces(
        &self,
        gpa: u64,
        len: u64,
        mut f: impl FnMut(&Memslot, u64, u64, u64),
    ) -> bool {
        if !self.covers(gpa, len) {
            return false;
        }
        let mut done = 0;
        while done < len {
            let at = gpa + done;
            let Some(slot) = self.find(at) else { return false };
            let bytes = (slot.end() - at).min(len - done);
            f(slot, at, bytes, done);
            done += bytes;
        }
        true
    }

    fn covers(&self, gpa: u64, len: u64) -> bool {
        let Some(end) = gpa.checked_add(len) else { return false };
        let mut at = gpa;
        while at < end {
            match self.find(at) {
                Some(slot) => at = slot.end(),
                None => return false,
            }
        }
        true
    }
}
