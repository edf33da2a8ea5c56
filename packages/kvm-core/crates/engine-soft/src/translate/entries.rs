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

const COUNT: usize = 65536;
/// Entries that an address can have: code of a large program has many entry points.
const WAYS: usize = 2;
/// Bits of a set's number.
pub const SET_MASK: usize = COUNT / WAYS - 1;
pub const SET_BYTES: usize = WAYS * ENTRY_BYTES;
/// Sets of one page lie together, so that a page can be swept.
const OF_PAGE: usize = 64;

// SAFETY: numbers.
unsafe impl Plain for EntryPoint {}

/// No context is zero.
const NONE: EntryPoint = EntryPoint { rip: 0, context: 0, code: 0, linked: 0 };

/// The table of one vCPU.
#[derive(Debug, Default)]
pub struct Entries(Table<EntryPoint, COUNT>);

/// The first entry of an address's set. The stubs compute the same.
fn set(rip: u64) -> usize {
    (((rip >> 6) ^ (rip & (OF_PAGE as u64 - 1))) as usize & SET_MASK) * WAYS
}

impl Entries {
    /// What translated code takes as the start of the table.
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The code for an address in a context.
    #[inline(always)]
    pub fn find(&self, rip: u64, context: u64) -> Option<Code> {
        let first = set(rip);
        let e =
            self.0[first..first + WAYS].iter().find(|e| e.rip == rip && e.context == context)?;
        Some(Code { entry: e.code, linked: e.linked })
    }

    /// Enters an address. The last one entered is found first.
    pub fn insert(&mut self, rip: u64, context: u64, code: Code) {
        let first = set(rip);
        let old = self.0[first];
        if old.rip != rip || old.context != context {
            self.0[first + 1] = old;
        }
        self.0[first] = EntryPoint { rip, context, code: code.entry, linked: code.linked };
    }

    /// Forgets the addresses of one page.
    pub fn forget_page(&mut self, linear: u64) {
        let first = ((linear >> 6) as usize & SET_MASK & !(OF_PAGE - 1)) * WAYS;
        for entry in &mut self.0[first..first + OF_PAGE * WAYS] {
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
        // A page whose addresses have the same sets.
        e.insert(0x20_2010, 5, code(0x20_2010));
        e.forget_page(0x2000);
        assert_eq!(e.find(0x20_2010, 5), Some(code(0x20_2010)));
    }

    #[test]
    fn two_addresses_of_a_set_are_both_found() {
        let mut e = Entries::default();
        let code = |rip| Code { entry: rip, linked: rip + 1 };
        let [a, b, c] = [0x1234, 0x20_1234, 0x40_1234];
        e.insert(a, 5, code(a));
        e.insert(b, 5, code(b));
        assert_eq!((e.find(a, 5), e.find(b, 5)), (Some(code(a)), Some(code(b))));
        // One in another context goes in its own right.
        e.insert(b, 6, code(b));
        assert_eq!(
            (e.find(a, 5), e.find(b, 6), e.find(b, 5)),
            (None, Some(code(b)), Some(code(b)))
        );
        e.insert(c, 5, code(c));
        assert_eq!(
            (e.find(a, 5), e.find(b, 6), e.find(c, 5)),
            (None, Some(code(b)), Some(code(c)))
        );
    }
}
