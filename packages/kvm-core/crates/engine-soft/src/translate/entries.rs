//! The table through which one block finds another: from a linear address to translated code.

use std::mem::offset_of;

use crate::table::{Plain, Table};

/// One entry point.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EntryPoint {
    /// Linear address.
    rip: u64,
    /// Address space, privilege, mode and the epoch of the decoded code.
    context: u64,
    /// Where the block is entered.
    code: u64,
    /// Where links enter it.
    linked: u64,
}

/// Where translated code of a block is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// With RAX and the flags in their places.
    pub entry: u64,
    /// With all registers live.
    pub linked: u64,
}

pub const ENTRY_BYTES: usize = size_of::<EntryPoint>();
pub const ENTRY_RIP: i32 = offset_of!(EntryPoint, rip) as i32;
pub const ENTRY_CONTEXT: i32 = offset_of!(EntryPoint, context) as i32;
pub const ENTRY_CODE: i32 = offset_of!(EntryPoint, code) as i32;

const COUNT: usize = 32768;
/// Bits of a slot's number.
pub const SLOT_MASK: usize = COUNT - 1;
/// Entries of one page lie together, so that a page can be swept.
const OF_PAGE: usize = 128;

// SAFETY: numbers.
unsafe impl Plain for EntryPoint {}

/// No context is zero: it has an address-space number.
const NONE: EntryPoint = EntryPoint { rip: 0, context: 0, code: 0, linked: 0 };

/// The table of one vCPU.
#[derive(Debug, Default)]
pub struct Entries(Table<EntryPoint, COUNT>);

/// The stubs compute the same.
fn slot(rip: u64) -> usize {
    ((rip >> 5) ^ (rip & (OF_PAGE as u64 - 1))) as usize & SLOT_MASK
}

impl Entries {
    /// What translated code takes as the start of the table.
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The code for an address in a context.
    #[inline(always)]
    pub fn find(&self, rip: u64, context: u64) -> Option<Code> {
        let e = &self.0[slot(rip)];
        let code = Code { entry: e.code, linked: e.linked };
        (e.rip == rip && e.context == context).then_some(code)
    }

    /// Enters an address.
    pub fn insert(&mut self, rip: u64, context: u64, code: Code) {
        self.0[slot(rip)] = EntryPoint { rip, context, code: code.entry, linked: code.linked };
    }

    /// Forgets the addresses of one page.
    pub fn forget_page(&mut self, linear: u64) {
        let first = (linear >> 5) as usize & SLOT_MASK & !(OF_PAGE - 1);
        for entry in &mut self.0[first..first + OF_PAGE] {
            if entry.rip >> 12 == linear >> 12 {
                *entry = NONE;
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.fill(NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_swept_and_no_other() {
        let mut e = Entries::default();
        let code = |rip| Code { entry: rip, linked: rip + 1 };
        for rip in (0x1000..0x4000).step_by(7) {
            e.insert(rip, 5, code(rip));
        }
        e.insert(0x1000, 5, code(0x1000));
        assert_eq!(e.find(0x1000, 5), Some(code(0x1000)));
        assert_eq!(e.find(0x1000, 6), None);
        let before: Vec<_> = (0x1000..0x4000u64).filter(|&r| e.find(r, 5).is_some()).collect();
        e.forget_page(0x2abc);
        for rip in before {
            assert_eq!(e.find(rip, 5).is_some(), !(0x2000..0x3000).contains(&rip), "{rip:#x}");
        }
        // A page whose addresses have the same slots.
        e.insert(0x10_2010, 5, code(0x10_2010));
        e.forget_page(0x2000);
        assert_eq!(e.find(0x10_2010, 5), Some(code(0x10_2010)));
    }
}
