//! When a guest that does next to nothing gives the memory of its code back.
//!
//! What it needs to be idle it is to keep, be it a timer or the path of a packet that comes once a
//! second: code that is decoded anew for each of them makes the guest late, and keeps the host busy.
//! So only blocks count that were decoded while there was work.

/// Nanoseconds between two looks.
const SOME_TIME: u64 = 1_000_000_000;
/// Nanoseconds of it in which a guest runs that rests.
const NEXT_TO_NOTHING: u64 = 10_000_000;
/// Blocks worth the effort.
const MANY_BLOCKS: usize = 4_000;

/// What a vCPU did lately.
#[derive(Debug, Default)]
pub struct Rest {
    /// Time, and the time that the thread ran, at the last look.
    last: (u64, u64),
    /// Blocks at the last look.
    blocks: usize,
    /// Blocks that were decoded at rest since all were given back.
    idle: usize,
}

impl Rest {
    /// Whether all code is to be given back now, at the time `now`, with this many blocks; asked before
    /// the vCPU sleeps. `ran` says how long the thread has run so far.
    pub fn gives_back(&mut self, now: u64, ran: impl FnOnce() -> u64, blocks: usize) -> bool {
        if now.saturating_sub(self.last.0) < SOME_TIME {
            return false;
        }
        let ran = ran();
        // What another thread did for this vCPU is not seen, and the code is translated anew.
        let done = ran.saturating_sub(self.last.1);
        let more = blocks.saturating_sub(self.blocks);
        self.last = (now, ran);
        self.blocks = blocks;
        if done >= NEXT_TO_NOTHING {
            return false;
        }
        self.idle = (self.idle + more).min(blocks);
        if blocks.saturating_sub(self.idle) <= MANY_BLOCKS {
            return false;
        }
        self.blocks = 0;
        self.idle = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second later, of which so many milliseconds were work.
    fn second(rest: &mut Rest, busy_ms: u64, blocks: usize) -> bool {
        let (now, ran) = (rest.last.0 + SOME_TIME, rest.last.1 + busy_ms * 1_000_000);
        rest.gives_back(now, || ran, blocks)
    }

    #[test]
    fn code_of_work_is_given_back_at_the_first_rest() {
        let mut rest = Rest::default();
        assert!(!second(&mut rest, 900, 30_000));
        assert!(second(&mut rest, 5, 30_100));
    }

    #[test]
    fn a_busy_guest_keeps_its_code() {
        let mut rest = Rest::default();
        for _ in 0..10 {
            assert!(!second(&mut rest, 10, 30_000));
        }
    }

    #[test]
    fn what_is_needed_at_rest_stays() {
        let mut rest = Rest::default();
        assert!(!second(&mut rest, 900, 30_000));
        assert!(second(&mut rest, 5, 30_000));
        // A little more is needed each second, far more in the end than is worth the effort.
        for blocks in 1..100 {
            assert!(!second(&mut rest, 9, blocks * 100));
        }
        // Work in between does not change that, unless it needs much more itself.
        assert!(!second(&mut rest, 900, 9_900 + MANY_BLOCKS));
        assert!(!second(&mut rest, 5, 9_900 + MANY_BLOCKS));
        assert!(!second(&mut rest, 900, 9_901 + MANY_BLOCKS));
        assert!(second(&mut rest, 5, 9_901 + MANY_BLOCKS));
    }

    #[test]
    fn few_blocks_are_not_worth_it() {
        let mut rest = Rest::default();
        assert!(!second(&mut rest, 900, MANY_BLOCKS));
        assert!(!second(&mut rest, 0, MANY_BLOCKS));
    }

    #[test]
    fn nobody_looks_twice_within_a_second() {
        let mut rest = Rest::default();
        assert!(!second(&mut rest, 900, 30_000));
        assert!(!rest.gives_back(rest.last.0 + SOME_TIME - 1, || unreachable!(), 30_000));
    }
}
