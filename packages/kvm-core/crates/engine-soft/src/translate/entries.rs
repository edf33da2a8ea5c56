//! The tables through which one block finds another: from a linear address to translated code.
//!
//! The large one holds what was entered in all contexts. Branches first look into a small one of their
//! class, which only ever holds what is valid in the present context, so that one comparison tells.
//! The stubs fill it from the large one.

use std::mem::offset_of;

use super::stamps::Stamps;
use crate::table::{Plain, Table};
use crate::tlb::{CLASSES, Class};

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
    /// Where links enter it, behind that.
    ways: [u32; 2],
}

impl EntryPoint {
    fn new(rip: u64, context: u64, code: Code) -> Self {
        // A region is small.
        let ways = [code.linked, code.forward].map(|at| at.wrapping_sub(code.entry) as u32);
        Self { rip, context, code: code.entry, ways }
    }

    fn code(&self) -> Code {
        let [linked, forward] = self.ways.map(|way| self.code + u64::from(way));
        Code { entry: self.code, linked, forward }
    }
}

/// Where translated code of a block is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// With the flags in their place.
    pub entry: u64,
    /// With the flags live as well.
    pub linked: u64,
    /// The same for a jump that needs no poll.
    pub forward: u64,
}

impl Code {
    /// Where a linked jump arrives, one forward in its page or another.
    pub fn linked(&self, forward: bool) -> u64 {
        if forward { self.forward } else { self.linked }
    }
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
const NONE: EntryPoint = EntryPoint { rip: 0, context: 0, code: 0, ways: [0; 2] };

/// An entry point of the present context.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Near {
    rip: u64,
    code: u64,
}

// SAFETY: numbers.
unsafe impl Plain for Near {}

pub const NEAR_CODE: i32 = offset_of!(Near, code) as i32;
const NEAR: usize = 2048;
/// The bits of an address that are the offset of its entry.
pub const NEAR_MASK: i32 = ((NEAR - 1) * size_of::<Near>()) as i32;
const PAGE_OF_NEAR: usize = 4096 / size_of::<Near>();
const NO_NEAR: Near = Near { rip: 0, code: 0 };
/// For the first entry, in which 0 would be found.
const NO_FIRST: Near = Near { rip: size_of::<Near>() as u64, code: 0 };

/// The tables of one vCPU.
#[derive(Debug)]
pub struct Entries {
    all: Table<EntryPoint, COUNT>,
    near: Table<Near, { NEAR * CLASSES }>,
    /// The context that each class's small table is for.
    contexts: [u64; CLASSES],
    /// A bit for each page that may have entry points, by the low bits of its number.
    pages: Box<[u64; PAGE_WORDS]>,
    /// For jumps that know where they lead.
    pub stamps: Stamps,
}

const PAGE_WORDS: usize = 64;

impl Default for Entries {
    fn default() -> Self {
        let mut entries = Self {
            all: Table::default(),
            near: Table::default(),
            contexts: [0; CLASSES],
            pages: Box::new([0; PAGE_WORDS]),
            stamps: Stamps::default(),
        };
        entries.clear_near();
        entries
    }
}

/// Where a page's bit is.
fn page_bit(linear: u64) -> (usize, u64) {
    let number = linear >> 12;
    ((number >> 6) as usize % PAGE_WORDS, 1 << (number & 63))
}

/// The first entry of an address's set. The stubs compute the same.
fn set(rip: u64) -> usize {
    (((rip >> 6) ^ (rip & (OF_PAGE as u64 - 1))) as usize & SET_MASK) * WAYS
}

impl Entries {
    /// Tables of which the small ones' address fits an instruction, if there is room for them.
    pub fn low() -> Self {
        let mut entries = Self { near: Table::low(), ..Self::default() };
        entries.clear_near();
        entries
    }

    /// What translated code takes as the start of the table.
    pub fn address(&self) -> u64 {
        self.all.as_ptr() as u64
    }

    /// Where the small table of each class is.
    pub fn near_addresses(&self) -> [u64; CLASSES] {
        std::array::from_fn(|class| &raw const self.near[class * NEAR] as u64)
    }

    /// Prepares the small table of a class for code in a context.
    #[inline]
    pub fn enter(&mut self, class: Class, context: u64) {
        if self.contexts[class as usize] != context {
            self.contexts[class as usize] = context;
            self.empty_near(class as usize);
        }
    }

    #[inline(never)]
    fn empty_near(&mut self, class: usize) {
        let table = &mut self.near[class * NEAR..][..NEAR];
        table.fill(NO_NEAR);
        table[0] = NO_FIRST;
    }

    fn clear_near(&mut self) {
        (0..CLASSES).for_each(|class| self.empty_near(class));
    }

    /// The code for an address in a context.
    #[inline(always)]
    pub fn find(&self, rip: u64, context: u64) -> Option<Code> {
        let first = set(rip);
        let e =
            self.all[first..first + WAYS].iter().find(|e| e.rip == rip && e.context == context)?;
        Some(e.code())
    }

    /// Enters an address. The last one entered is found first.
    pub fn insert(&mut self, rip: u64, context: u64, code: Code) {
        let (word, bit) = page_bit(rip);
        self.pages[word] |= bit;
        let first = set(rip);
        let old = self.all[first];
        if old.rip != rip || old.context != context {
            self.all[first + 1] = old;
        }
        self.all[first] = EntryPoint::new(rip, context, code);
    }

    /// Forgets the addresses of one page.
    pub fn forget_page(&mut self, linear: u64) {
        self.stamps.forget_page(linear);
        let (word, bit) = page_bit(linear);
        if self.pages[word] & bit == 0 {
            return;
        }
        for class in 0..CLASSES {
            let first = class * NEAR
                + linear as usize / size_of::<Near>() % NEAR / PAGE_OF_NEAR * PAGE_OF_NEAR;
            for entry in &mut self.near[first..first + PAGE_OF_NEAR] {
                if entry.rip >> 12 == linear >> 12 {
                    // Its place is another's.
                    entry.rip = !entry.rip;
                }
            }
        }
        let first = ((linear >> 6) as usize & SET_MASK & !(OF_PAGE - 1)) * WAYS;
        for entry in &mut self.all[first..first + OF_PAGE * WAYS] {
            if entry.rip >> 12 == linear >> 12 {
                *entry = NONE;
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.all.fill(NONE);
        self.pages.fill(0);
        self.stamps.forget();
        self.clear_near();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_swept_and_no_other() {
        let mut e = Entries::default();
        let code = |rip| Code { entry: rip, linked: rip + 1, forward: rip + 2 };
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
    fn a_place_of_nobody_matches_no_address() {
        let other = |e: &Entries| {
            e.near.iter().enumerate().all(|(n, near)| {
                let selects = (near.rip & NEAR_MASK as u64) as usize / size_of::<Near>();
                selects != n % NEAR
            })
        };
        let mut e = Entries::default();
        assert!(other(&e));
        let fill = |e: &mut Entries| {
            for (n, near) in e.near.iter_mut().enumerate() {
                *near = Near { rip: 0x7000_0000 + (n % NEAR * size_of::<Near>()) as u64, code: 1 };
            }
        };
        // A page and its eight aliases: all but one are others' pages.
        for rip in (0x7000_0000..0x7000_8000u64).step_by(4096) {
            e.insert(rip, 5, Code { entry: 1, linked: 2, forward: 3 });
        }
        fill(&mut e);
        e.forget_page(0x7000_3000);
        e.forget_page(0x7100_4000);
        let left = e.near.iter().filter(|near| near.rip >> 12 == 0x7_0003).count();
        let all = e.near.iter().filter(|near| near.rip >> 15 == 0x7000_0000 >> 15).count();
        assert_eq!((left, all), (0, 7 * PAGE_OF_NEAR * CLASSES));
        for class in [Class::Supervisor, Class::SupervisorAc, Class::User, Class::Checked] {
            e.enter(class, 9);
        }
        assert!(other(&e));
        // The same context again keeps them.
        fill(&mut e);
        e.enter(Class::User, 9);
        assert!(!other(&e));
        e.clear();
        assert!(other(&e));
    }

    #[test]
    fn two_addresses_of_a_set_are_both_found() {
        let mut e = Entries::default();
        let code = |rip| Code { entry: rip, linked: rip + 1, forward: rip + 2 };
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
