//! Which decoded blocks without a translation stay: in the order in which they came, with a second
//! chance for those that ran again.
//!
//! How many there may be follows what the guest does. Much of a boot runs once, and to keep that would
//! only take memory; a compiler comes back to a hundred thousand blocks. So the room grows by one for
//! each block that has to be decoded again soon after it went.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasherDefault;

use crate::block::AddressHasher;

/// Blocks there is always room for.
pub const LEAST: usize = 32_000;
/// Blocks there may ever be: some 300 bytes each.
const MOST: usize = 128_000;
/// By how much a block that comes again makes the room grow: what it stands for is more than itself.
const STEP: usize = 4;
/// Blocks that went and are remembered, at most.
const GONE: usize = 1 << 15;

/// The queue of the blocks that may go.
#[derive(Debug)]
pub struct Cold {
    /// Keys, with some of blocks that went by another way or have been translated. One that went so and
    /// came again is there more than once.
    queue: VecDeque<u64>,
    room: usize,
    /// Keys of blocks that went lately, each where its hash puts it. Made at the first.
    gone: Vec<u64>,
}

impl Default for Cold {
    fn default() -> Self {
        Self { queue: VecDeque::new(), room: LEAST, gone: Vec::new() }
    }
}

fn place(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - GONE.trailing_zeros())) as usize
}

impl Cold {
    /// How many blocks there may be.
    pub fn room(&self) -> usize {
        self.room
    }

    /// A block came.
    pub fn came(&mut self, key: u64) {
        if let Some(gone) = self.gone.get_mut(place(key))
            && *gone == key
        {
            *gone = u64::MAX;
            self.room = (self.room + STEP).min(MOST);
        }
        self.queue.push_back(key);
    }

    /// The block whose turn it is to go, if there is any.
    pub fn next(&mut self) -> Option<u64> {
        self.queue.pop_front()
    }

    /// That block gets another chance.
    pub fn again(&mut self, key: u64) {
        self.queue.push_back(key);
    }

    /// That block went.
    pub fn went(&mut self, key: u64) {
        if self.gone.is_empty() {
            self.gone = vec![u64::MAX; GONE];
        }
        self.gone[place(key)] = key;
    }

    /// True when the queue should be rid of what is not to go any more.
    pub fn untidy(&self) -> bool {
        self.queue.len() > 2 * self.room
    }

    /// Keeps only what `stays` says, each once, where it came last: where code is decoded again after
    /// each store beside it, the queue would be full of the same few keys.
    pub fn tidy(&mut self, mut stays: impl FnMut(u64) -> bool) {
        let mut kept: HashSet<u64, BuildHasherDefault<AddressHasher>> = HashSet::default();
        let mut queue = VecDeque::with_capacity(self.queue.capacity());
        for key in self.queue.drain(..).rev() {
            if stays(key) && kept.insert(key) {
                queue.push_front(key);
            }
        }
        self.queue = queue;
    }

    /// Starts over with these.
    pub fn restart(&mut self, keys: impl Iterator<Item = u64>) {
        self.queue = keys.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_few_keys_do_not_pile_up() {
        let mut cold = Cold::default();
        let mut tidied = 0;
        for i in 0..100 * LEAST as u64 {
            cold.came(i % 10);
            if cold.untidy() {
                cold.tidy(|_| true);
                tidied += 1;
            }
            assert!(cold.queue.len() <= 2 * LEAST + 1);
        }
        assert!(tidied < 100, "{tidied} times");
        cold.tidy(|key| key != 3);
        assert_eq!(cold.queue, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_block_that_came_again_is_the_youngest() {
        let mut cold = Cold::default();
        [1, 2, 3, 1].into_iter().for_each(|key| cold.came(key));
        cold.tidy(|_| true);
        assert_eq!(cold.queue, [2, 3, 1]);
    }
}
