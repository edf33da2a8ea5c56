//! Decoded blocks: straight-line runs of instructions, found by where their bytes lie.
//!
//! A block is keyed by guest *physical* address and decode mode, so that one decoding serves every
//! mapping of the page. A small table by the same key serves the common case. It knows nothing of linear
//! addresses, so that no flush of the TLB empties it, and a program's next process finds it full.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub use run::{Block, BlockBox};

use crate::cold::Cold;
use crate::page_code::{MAX_LINEAR, PageCode};
use crate::table::{Plain, Table};
use crate::translate::{Code, Entries};

mod run;

/// Most instructions in a block.
pub const MAX_OPS: usize = 64;
/// Lines of blocks that are found at the first look.
const LINES: usize = 16384;
/// Blocks of a line, all of the same 64 bytes of code. It is a line of the host's caches, too: what runs
/// seldom is waited for once for all of them.
const OF_LINE: usize = 4;
/// Pairs of pages that are known to be noted.
const NOTED: usize = 256;

/// Multiplicative hashing of one integer: keys are addresses, not chosen by an adversary who
/// could gain more than slowing down his own vCPU.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0 ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// Stores beside code after which it is cheaper to forget the code until it runs. Where it runs at once,
/// as where firmware has its stack in a page of code, it is not: there are more each time.
const LEAST_PATIENCE: u32 = 256;
const MOST_PATIENCE: u32 = 1 << 24;
/// Pages with another number of stores, at most.
const MOST_IMPATIENT: usize = 1024;

type Map<V> = HashMap<u64, V, BuildHasherDefault<AddressHasher>>;

#[derive(Clone, Copy)]
struct Near {
    /// The block's key and one: none has 0.
    tag: u64,
    block: *const Block,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([Near; OF_LINE]);

// SAFETY: numbers and pointers that nobody follows where the number is 0.
unsafe impl Plain for Line {}

const NOBODY: Near = Near { tag: 0, block: std::ptr::null() };

/// All blocks of one vCPU.
pub struct BlockCache {
    blocks: Map<BlockBox>,
    /// How many of them have a translation.
    translated: usize,
    /// Those that may go.
    cold: Cold,
    pages: Map<PageCode>,
    near: Table<Line, LINES>,
    /// Physical and linear pages of which the former's list is known to have the latter.
    noted: Box<[(u64, u64); NOTED]>,
    /// For pages that had stores beside code: how many they may have the next time.
    patience: Map<u32>,
    /// From linear addresses to translated code.
    pub entries: Entries,
    /// Part of what makes an entry point valid: a new value forgets all at once.
    epoch: u64,
    /// Blocks withdrawn while one of them may be executing.
    graveyard: Vec<BlockBox>,
    /// Pages that hold no code any more: the vCPU that owns the cache ends its holds on them.
    pub released: Vec<u64>,
    /// Counts decoded blocks.
    pub decoded: u64,
    /// Counts blocks withdrawn to make room.
    pub evicted: u64,
    /// Counts blocks withdrawn because their bytes changed.
    pub invalidated: u64,
}

impl Default for BlockCache {
    fn default() -> Self {
        Self {
            blocks: Map::default(),
            translated: 0,
            cold: Cold::default(),
            pages: Map::default(),
            patience: Map::default(),
            near: Table::default(),
            noted: Box::new([NOT_NOTED; NOTED]),
            entries: Entries::default(),
            epoch: 0,
            graveyard: Vec::new(),
            released: Vec::new(),
            decoded: 0,
            evicted: 0,
            invalidated: 0,
        }
    }
}

const NOT_NOTED: (u64, u64) = (u64::MAX, u64::MAX);

// SAFETY: the raw pointers point into boxes that the cache itself owns; they move with it.
unsafe impl Send for BlockCache {}

/// The key of a block: guest physical addresses have at most 52 bits.
pub fn key(gpa: u64, bits: u32) -> u64 {
    (gpa << 2) | u64::from(bits >> 5)
}

/// In which line of the table of what was there lately a key is.
#[inline(always)]
fn line_of(key: u64) -> usize {
    let bytes = key >> (2 + 6);
    (bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LINES.trailing_zeros())) as usize
}

impl BlockCache {
    /// The block at a physical address, if it was there lately.
    #[inline(always)]
    pub fn near(&self, key: u64) -> Option<*const Block> {
        let Line(line) = &self.near[line_of(key)];
        line.iter().find(|near| near.tag == key + 1).map(|near| near.block)
    }

    /// Lets a block be found at the first look.
    pub fn bring_near(&mut self, key: u64, block: *const Block) {
        let Line(line) = &mut self.near[line_of(key)];
        // Nobody is there twice: it would be put away only once.
        let at = line.iter().position(|near| near.tag == key + 1).unwrap_or(OF_LINE - 1);
        line[..=at].rotate_right(1);
        line[0] = Near { tag: key + 1, block };
    }

    fn put_away(&mut self, key: u64) {
        let Line(line) = &mut self.near[line_of(key)];
        if let Some(near) = line.iter_mut().find(|near| near.tag == key + 1) {
            *near = NOBODY;
        }
    }

    /// Remembers the translated code for a linear address, made of what is at a physical one.
    pub fn enter(&mut self, rip: u64, context: u64, code: Code, gpa: u64) {
        self.reached(gpa, rip);
        self.entries.insert(rip, context, code);
    }

    fn reached(&mut self, gpa: u64, rip: u64) {
        let pages = (gpa & !0xfff, rip & !0xfff);
        let noted = &mut self.noted[(rip >> 12) as usize % NOTED];
        if *noted == pages {
            return;
        }
        if let Some(page) = self.pages.get_mut(&pages.0) {
            page.reached_from(rip);
            *noted = pages;
        }
    }

    fn remove_page(&mut self, gpa: u64) -> Option<PageCode> {
        let page = self.pages.remove(&gpa)?;
        self.noted.fill(NOT_NOTED);
        self.released.push(gpa);
        Some(page)
    }

    /// Part of what makes an entry point valid: changes when all are forgotten.
    #[inline(always)]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Says that a block has a translation.
    pub fn set_translated(&mut self, key: u64, number: u32) {
        if let Some(block) = self.blocks.get(&key) {
            self.translated += usize::from(block.translated() == 0);
            block.set_translated(number);
            let first = block.gpa & 0xfff;
            if let Some(page) = self.pages.get_mut(&(block.gpa & !0xfff)) {
                page.translated.add(first, first + u64::from(block.bytes) - 1);
            }
        }
    }

    /// Says that no block has a translation any more.
    pub fn forget_translations(&mut self) {
        self.translated = 0;
        for block in self.blocks.values() {
            block.set_translated(0);
            block.cool();
        }
        self.pages.values_mut().for_each(|page| page.translated.clear());
        self.cold.restart(self.blocks.keys().copied());
        self.entries.clear();
        self.forget_addresses();
    }

    /// Counts bytes of a page that holds code as code: what was derived from them goes with them.
    pub fn cover(&mut self, page_gpa: u64, start: u64, end: u64) {
        if let Some(page) = self.pages.get_mut(&page_gpa) {
            page.decoded.add(start, end);
            page.translated.add(start, end);
        }
    }

    /// The block at a physical address.
    pub fn find(&self, key: u64) -> Option<*const Block> {
        self.blocks.get(&key).map(BlockBox::as_ptr)
    }

    /// Withdraws blocks without a translation until there is room for one more.
    pub fn make_room(&mut self) {
        while self.blocks.len() - self.translated >= self.cold.room() {
            let Some(key) = self.cold.next() else { return };
            match self.blocks.get(&key) {
                Some(block) if block.translated() == 0 => {
                    if block.ran() {
                        self.cold.again(key);
                    } else {
                        self.withdraw(key);
                        self.cold.went(key);
                        self.evicted += 1;
                    }
                }
                _ => {}
            }
        }
    }

    /// Withdraws one block, which has no translation.
    fn withdraw(&mut self, key: u64) {
        let Some(block) = self.blocks.remove(&key) else { return };
        self.put_away(key);
        self.forget_key(block.gpa & !0xfff, key);
        if let Some(second) = block.second_page() {
            self.forget_key(second, key);
        }
        self.graveyard.push(block);
    }

    /// Blocks with and without translations.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Notes that bytes of a page are about to be decoded. True if none were before.
    pub fn hold(&mut self, page_gpa: u64) -> bool {
        let before = self.pages.len();
        self.pages.entry(page_gpa).or_default();
        self.pages.len() != before
    }

    /// Stores a block and yields it. The pages it lies in are held by the caller.
    pub fn insert(&mut self, key: u64, block: BlockBox) -> *const Block {
        self.decoded += 1;
        let first = block.gpa & !0xfff;
        let start = block.gpa & 0xfff;
        let end = start + u64::from(block.bytes) - 1;
        let page = self.pages.entry(first).or_default();
        page.blocks.push(key);
        page.decoded.add(start, end);
        page.near_misses = 0;
        if let Some(second) = block.second_page() {
            let page = self.pages.entry(second).or_default();
            page.blocks.push(key);
            page.decoded.add(0, end - 0x1000);
            page.near_misses = 0;
        }
        let at = block.as_ptr();
        if let Some(old) = self.blocks.insert(key, block) {
            self.put_away(key);
            self.translated -= usize::from(old.translated() != 0);
            self.graveyard.push(old);
        }
        self.cold.came(key);
        if self.cold.untidy() {
            let blocks = &self.blocks;
            self.cold.tidy(|key| blocks.get(&key).is_some_and(|b| b.translated() == 0));
        }
        at
    }

    /// Withdraws what was made of bytes in `[gpa, gpa + len)`, which lies in one page. True if the page
    /// holds no code any more.
    pub fn invalidate(&mut self, gpa: u64, len: u64) -> bool {
        let page_gpa = gpa & !0xfff;
        let Some(page) = self.pages.get_mut(&page_gpa) else { return true };
        let (first, last) = (gpa & 0xfff, (gpa & 0xfff) + len - 1);
        let hit = page.decoded.any(first, last);
        if hit && !page.translated.any(first, last) && self.withdraw_bytes(page_gpa, first, last) {
            return !self.pages.contains_key(&page_gpa);
        }
        let Some(page) = self.pages.get_mut(&page_gpa) else { return true };
        if !hit {
            page.near_misses += 1;
            let limit = self.patience.get(&page_gpa).copied().unwrap_or(LEAST_PATIENCE);
            if page.near_misses < limit && !page.blocks.is_empty() {
                return false;
            }
            self.lose_patience(page_gpa, limit);
        }
        self.drop_page(page_gpa);
        true
    }

    /// The code of a page goes because of stores beside it. If it comes back, it may stay for longer.
    fn lose_patience(&mut self, page_gpa: u64, limit: u32) {
        if self.patience.len() >= MOST_IMPATIENT {
            self.patience.clear();
        }
        self.patience.insert(page_gpa, limit.saturating_mul(4).min(MOST_PATIENCE));
    }

    /// Withdraws the blocks with bytes at offsets `first` to `last` of a page, none of which is
    /// translated. False if there are none.
    fn withdraw_bytes(&mut self, page_gpa: u64, first: u64, last: u64) -> bool {
        let Some(page) = self.pages.get(&page_gpa) else { return false };
        let blocks = &self.blocks;
        let overlaps = |key: &&u64| {
            blocks.get(*key).is_some_and(|block| {
                // A block from the page before begins below this one.
                let start = (block.gpa & 0xfff) as i64;
                let start = if block.gpa & !0xfff == page_gpa { start } else { start - 0x1000 };
                let end = start + i64::from(block.bytes) - 1;
                start <= last as i64 && end >= first as i64
            })
        };
        let hit: Vec<u64> = page.blocks.iter().filter(overlaps).copied().collect();
        for &key in &hit {
            self.withdraw(key);
            self.invalidated += 1;
        }
        !hit.is_empty()
    }

    /// Withdraws all blocks of a page.
    pub fn drop_page(&mut self, page_gpa: u64) {
        let Some(page) = self.remove_page(page_gpa) else { return };
        for key in page.blocks {
            let Some(block) = self.blocks.remove(&key) else { continue };
            self.put_away(key);
            self.invalidated += 1;
            self.translated -= usize::from(block.translated() != 0);
            if let Some(second) = block.second_page() {
                let first = block.gpa & !0xfff;
                self.forget_key(if page_gpa == first { second } else { first }, key);
            }
            self.graveyard.push(block);
        }
        if page.linear.len() > MAX_LINEAR {
            self.forget_addresses();
        }
        for linear in page.linear {
            self.forget_page(linear);
        }
    }

    /// Takes a withdrawn block from the list of its other page, where such keys would pile up.
    fn forget_key(&mut self, page_gpa: u64, key: u64) {
        if let Some(page) = self.pages.get_mut(&page_gpa) {
            page.blocks.retain(|&k| k != key);
            if page.blocks.is_empty() {
                self.remove_page(page_gpa);
            }
        }
    }

    /// Withdraws everything.
    pub fn clear(&mut self) {
        self.translated = 0;
        self.cold = Cold::default();
        self.graveyard.extend(std::mem::take(&mut self.blocks).into_values());
        self.released.extend(self.pages.keys());
        self.pages.clear();
        self.near = Table::default();
        self.noted.fill(NOT_NOTED);
        self.patience.clear();
        self.forget_addresses();
    }

    /// Forgets where the linear addresses of a page lead.
    pub fn forget_page(&mut self, linear: u64) {
        self.entries.forget_page(linear);
    }

    /// Forgets all linear addresses.
    pub fn forget_addresses(&mut self) {
        self.epoch = self.epoch.wrapping_add(1 << 32);
        if self.epoch == 0 {
            // Entries from the first time round would be taken for present ones.
            self.entries.clear();
        }
    }

    /// Gives back the room of what was withdrawn: only while no block is executing.
    pub fn shrink(&mut self) {
        self.bury();
        self.blocks.shrink_to_fit();
        self.pages.shrink_to_fit();
        self.graveyard = Vec::new();
        self.released = Vec::new();
    }

    /// Frees withdrawn blocks: only while none is executing.
    pub fn bury(&mut self) {
        self.graveyard.clear();
    }
}

#[cfg(test)]
mod tests;
