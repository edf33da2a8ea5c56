//! The rules of `KVM_SET_USER_MEMORY_REGION`.

use std::sync::Arc;

use kvm_abi::{Errno, KvmError};

use crate::dirty::DirtyBitmap;
use crate::{
    ADDRESS_SPACE_SHIFT, ADDRESS_SPACES, GuestRam, MAX_GPA, MAX_MEMSLOTS, MEM_LOG_DIRTY_PAGES,
    MEM_READONLY, Memslot, PAGE_BYTES, SlotTable,
};

/// What the VMM asks for (`kvm_userspace_memory_region`). All numbers but `slot` and `flags` are
/// multiples of 4 KiB.
#[derive(Debug)]
pub struct Region {
    /// Number of the slot; in its upper half that of the address space.
    pub slot: u32,
    /// Where it begins.
    pub gpa: u64,
    /// Bytes; 0 deletes the slot.
    pub size: u64,
    /// [`MEM_LOG_DIRTY_PAGES`] and [`MEM_READONLY`].
    pub flags: u32,
    /// The memory; may be left out when the slot exists.
    pub ram: Option<Arc<GuestRam>>,
    /// Where in the memory the slot begins.
    pub offset: u64,
}

impl Region {
    /// The table after this change, or `None` if nothing changes.
    pub(crate) fn apply(self, table: &SlotTable) -> Result<Option<SlotTable>, KvmError> {
        self.check_numbers()?;
        let old = table.by_number(self.slot).cloned();
        let smm = self.slot >> ADDRESS_SPACE_SHIFT != 0;
        let space = if smm { &table.smm } else { &table.slots };
        let mut slots: Vec<_> = space.iter().filter(|s| s.slot != self.slot).cloned().collect();
        if self.size == 0 {
            if old.is_none() {
                return Err(KvmError::invalid(format!(
                    "slot {} does not exist and cannot be deleted",
                    self.slot
                )));
            }
        } else {
            let new = self.slot_from(old.as_deref())?;
            if let Some(old) = &old
                && old.gpa == new.gpa
                && old.flags == new.flags
            {
                return Ok(None);
            }
            if let Some(other) = slots.iter().find(|s| new.gpa < s.end() && s.gpa < new.end()) {
                return Err(KvmError::new(
                    Errno::EEXIST,
                    format!(
                        "slot {} at {:#x}..{:#x} overlaps slot {} at {:#x}..{:#x}",
                        new.slot,
                        new.gpa,
                        new.end(),
                        other.slot,
                        other.gpa,
                        other.end()
                    ),
                ));
            }
            let at = slots.partition_point(|s| s.gpa < new.gpa);
            slots.insert(at, Arc::new(new));
        }
        Ok(Some(if smm {
            table.next(table.slots.clone(), slots)
        } else {
            table.next(slots, table.smm.clone())
        }))
    }

    fn check_numbers(&self) -> Result<(), KvmError> {
        let known = MEM_LOG_DIRTY_PAGES | MEM_READONLY;
        if self.flags & !known != 0 {
            return Err(KvmError::invalid(format!(
                "flags {:#x} has bits outside {known:#x}",
                self.flags
            )));
        }
        let (space, number) =
            (self.slot >> ADDRESS_SPACE_SHIFT, self.slot & ((1 << ADDRESS_SPACE_SHIFT) - 1));
        if space >= ADDRESS_SPACES {
            return Err(KvmError::invalid(format!(
                "slot {:#x} is of address space {space}, there are {ADDRESS_SPACES}",
                self.slot
            )));
        }
        if number >= MAX_MEMSLOTS {
            return Err(KvmError::invalid(format!("slot {number} is not below {MAX_MEMSLOTS}")));
        }
        for (name, value) in [("gpa", self.gpa), ("size", self.size), ("offset", self.offset)] {
            if !value.is_multiple_of(PAGE_BYTES) {
                return Err(KvmError::invalid(format!(
                    "{name} {value:#x} is not a multiple of {PAGE_BYTES}"
                )));
            }
        }
        match self.gpa.checked_add(self.size) {
            Some(end) if end <= MAX_GPA => Ok(()),
            _ => Err(KvmError::invalid(format!(
                "gpa {:#x} plus size {:#x} is above {MAX_GPA:#x}",
                self.gpa, self.size
            ))),
        }
    }

    /// The slot that this region describes. An existing slot can be moved and change its dirty
    /// log; its memory, size and read-only flag are fixed.
    fn slot_from(self, old: Option<&Memslot>) -> Result<Memslot, KvmError> {
        let ram = match (self.ram, old) {
            (Some(ram), _) => ram,
            (None, Some(old)) => old.ram.clone(),
            (None, None) => {
                return Err(KvmError::invalid(format!("slot {} needs RAM", self.slot)));
            }
        };
        if self.offset.checked_add(self.size).is_none_or(|end| end > ram.len() as u64) {
            return Err(KvmError::invalid(format!(
                "offset {:#x} plus size {:#x} is beyond the {:#x} bytes of the RAM",
                self.offset,
                self.size,
                ram.len()
            )));
        }
        if let Some(old) = old {
            let what = if !Arc::ptr_eq(&ram, &old.ram) || self.offset != old.offset {
                Some("memory")
            } else if self.size != old.size {
                Some("size")
            } else if (self.flags ^ old.flags) & MEM_READONLY != 0 {
                Some("read-only flag")
            } else {
                None
            };
            if let Some(what) = what {
                return Err(KvmError::invalid(format!(
                    "the {what} of slot {} cannot change: delete the slot first",
                    self.slot
                )));
            }
        }
        let dirty = (self.flags & MEM_LOG_DIRTY_PAGES != 0).then(|| {
            old.and_then(|old| old.dirty.clone())
                .unwrap_or_else(|| Arc::new(DirtyBitmap::new(self.size / PAGE_BYTES)))
        });
        Ok(Memslot {
            slot: self.slot,
            gpa: self.gpa,
            size: self.size,
            flags: self.flags,
            ram,
            offset: self.offset,
            dirty,
        })
    }
}
