//! Which decoded blocks without a translation stay: in the order in which they came, with a second
//! chance for those that ran again.
//!
//! How many there may be follows what the guest does. Much of a boot runs once, and to keep that would
//! only take memory; a compiler comes back to a hundred thousand blocks. So the room grows by one for
//! each block that has to be decoded again soon after it went.

use std::collections::VecDeque;

/// Blocks there is always room for.
pub const LEAST: usize = 4_000;
/// Blocks there may ever be: some 300 bytes each.
const MOST: usize = 64_000;
/// Blocks that went and are remembered, at most.
const GONE: usize = 1 << 14;

/// The queue of the blocks that may go.
#[derive(Debug)]
pub struct Cold {
    /// Keys, with some of blocks that went by another way or have been translated.
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
            self.room = (self.room + 1).min(MOST);
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

    /// Keeps only what `stays` says.
    pub fn tidy(&mut self, mut stays: impl FnMut(u64) -> bool) {
        self.queue.retain(|&key| stays(key));
    }

    /// Starts over with these.
    pub fn restart(&mut self, keys: impl Iterator<Item = u64>) {
        self.queue = keys.collect();
    }
}
