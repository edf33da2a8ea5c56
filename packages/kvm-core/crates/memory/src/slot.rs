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

/// The memslots at one moment, in the order of their addresses, as they are seen in one mode.
///
/// Those of address space 1 are seen in system management mode alone, where they lie over those of
/// address space 0.
#[derive(Clone, Debug, Default)]
pub struct SlotTable {
    pub(crate) slots: Vec<Arc<Memslot>>,
    /// Of address space 1.
    pub(crate) smm: Vec<Arc<Memslot>>,
    /// As it is seen in system management mode.
    in_smm: bool,
    pub(crate) generation: u64,
}

fn find_in(slots: &[Arc<Memslot>], gpa: u64) -> Option<&Memslot> {
    let after = slots.partition_point(|slot| slot.gpa <= gpa);
    let slot = slots.get(after.checked_sub(1)?)?;
    slot.contains(gpa).then_some(&**slot)
}

impl SlotTable {
    /// The table of the next generation: `slots`, and `smm` over them.
    pub(crate) fn next(&self, slots: Vec<Arc<Memslot>>, smm: Vec<Arc<Memslot>>) -> Self {
        Self { slots, smm, in_smm: false, generation: self.generation.wrapping_add(1) }
    }

    /// The slot that contains `gpa`.
    #[inline]
    #[must_use]
    pub fn find(&self, gpa: u64) -> Option<&Memslot> {
        if self.in_smm
            && let Some(slot) = find_in(&self.smm, gpa)
        {
            return Some(slot);
        }
        find_in(&self.slots, gpa)
    }

    /// All slots of address space 0, by rising address.
    #[must_use]
    pub fn slots(&self) -> &[Arc<Memslot>] {
        &self.slots
    }

    /// The slots of both address spaces.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Memslot>> {
        self.slots.iter().chain(&self.smm)
    }

    /// The slot with number `slot`, of either address space.
    #[must_use]
    pub fn by_number(&self, slot: u32) -> Option<&Arc<Memslot>> {
        self.all().find(|s| s.slot == slot)
    }

    /// The same slots as the other mode sees them: `None` where that makes no difference.
    #[must_use]
    pub fn other_view(&self) -> Option<Self> {
        (!self.smm.is_empty()).then(|| Self { in_smm: !self.in_smm, ..self.clone() })
    }

    /// True for the view of system management mode.
    #[must_use]
    pub fn in_smm(&self) -> bool {
        self.in_smm
    }

    /// Addresses, and bytes, at which the two modes see different memory.
    pub fn differing(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.smm.iter().flat_map(move |over| {
            self.slots.iter().filter_map(move |slot| {
                let (from, to) = (over.gpa.max(slot.gpa), over.end().min(slot.end()));
                let same = from < to && over.host_ptr(from) == slot.host_ptr(from);
                (from < to && !same).then(|| (from, to - from))
            })
        })
    }

    fn visible(&self) -> impl Iterator<Item = &Arc<Memslot>> {
        let over = if self.in_smm { &self.smm[..] } else { &[] };
        self.slots.iter().chain(over)
    }

    /// Which table this is: every change makes a new number.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All addresses at which the byte at `gpa` shows, through any slot that this mode sees. None if it
    /// lies in no slot.
    pub fn aliases(&self, gpa: u64) -> impl Iterator<Item = u64> + '_ {
        self.find(gpa).into_iter().flat_map(move |slot| {
            let in_ram = gpa - slot.gpa + slot.offset;
            self.visible().filter(|s| Arc::ptr_eq(&s.ram, &slot.ram)).filter_map(move |s| {
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
