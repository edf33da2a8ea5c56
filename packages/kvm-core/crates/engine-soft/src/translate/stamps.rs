//! What makes a jump's knowledge of its target valid: a number for each context, and other numbers for all
//! of them as soon as anything is forgotten that a jump may know.

use std::collections::HashSet;

/// Contexts whose numbers are remembered.
const CONTEXTS: usize = 64;
/// No context has this number: a jump that knows nothing compares with it.
pub const NEVER: u32 = 0;

/// The numbers of one vCPU.
#[derive(Debug)]
pub struct Stamps {
    /// Contexts and their numbers. No context is 0.
    of: [(u64, u32); CONTEXTS],
    next: u32,
    /// Linear pages that jumps lead to.
    pages: HashSet<u64>,
}

impl Default for Stamps {
    fn default() -> Self {
        Self { of: [(0, NEVER); CONTEXTS], next: NEVER + 1, pages: HashSet::new() }
    }
}

impl Stamps {
    /// The number of a context. When there are no more all have [`NEVER`], and no jump knows anything.
    #[inline]
    pub fn get(&mut self, context: u64) -> u32 {
        // Class, mode, address space and epoch.
        let place = (context ^ context >> 12 ^ context >> 32) as usize % CONTEXTS;
        let (known, stamp) = self.of[place];
        if known == context { stamp } else { self.add(place, context) }
    }

    #[cold]
    fn add(&mut self, place: usize, context: u64) -> u32 {
        if self.next == u32::MAX {
            return NEVER;
        }
        self.of[place] = (context, self.next);
        self.next += 1;
        self.next - 1
    }

    /// A jump is about to know an address.
    pub fn note(&mut self, rip: u64) {
        self.pages.insert(rip >> 12);
    }

    /// The addresses of a page lead elsewhere from now on.
    pub fn forget_page(&mut self, linear: u64) {
        if self.pages.contains(&(linear >> 12)) {
            self.forget();
        }
    }

    /// All do.
    pub fn forget(&mut self) {
        self.of = [(0, NEVER); CONTEXTS];
        self.pages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_keeps_its_number_until_something_is_forgotten() {
        let mut stamps = Stamps::default();
        let (a, b) = (stamps.get(0x1050), stamps.get(0x2050));
        assert!(a != b && a != NEVER && b != NEVER);
        assert_eq!((stamps.get(0x1050), stamps.get(0x2050)), (a, b));
        stamps.note(0x40_1234);
        stamps.forget_page(0x40_2000);
        assert_eq!(stamps.get(0x1050), a);
        stamps.forget_page(0x40_1fff);
        let again = stamps.get(0x1050);
        assert!(![a, b, NEVER].contains(&again));
        // What nobody knows any more needs not be forgotten twice.
        stamps.forget_page(0x40_1000);
        assert_eq!(stamps.get(0x1050), again);
    }

    #[test]
    fn contexts_that_displace_each_other_never_share_a_number() {
        let mut stamps = Stamps::default();
        let mut seen = HashSet::new();
        for round in 0..3 {
            for n in 1..=2 * CONTEXTS as u64 {
                assert!(seen.insert(stamps.get(n << 12 | 0x50)), "round {round}");
            }
        }
    }

    #[test]
    fn after_the_last_number_nobody_knows_anything() {
        let mut stamps = Stamps { next: u32::MAX - 1, ..Stamps::default() };
        assert_eq!(stamps.get(0x1050), u32::MAX - 1);
        assert_eq!(stamps.get(0x2050), NEVER);
        stamps.forget();
        assert_eq!(stamps.get(0x1050), NEVER);
    }
}
