//! What a software engine did to execute the guest's code.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one vCPU since its creation. Its own thread alone writes them; others may read at any
/// time, and may see a value that is a moment old.
#[derive(Debug, Default)]
pub struct CodeCounters {
    /// Blocks of instructions that were decoded.
    pub decoded_blocks: AtomicU64,
    /// Blocks that went because there was no room.
    pub evicted_blocks: AtomicU64,
    /// Blocks that went because their bytes changed.
    pub invalidated_blocks: AtomicU64,
    /// Regions that were translated to host code.
    pub translations: AtomicU64,
    /// Bytes of host code that are kept.
    pub code_bytes: AtomicU64,
    /// Times that all host code was dropped to make room.
    pub code_resets: AtomicU64,
    /// Instructions that were executed by the interpreter.
    pub interpreted: AtomicU64,
    /// Of these, those that translated code left to it: memory accesses that were not simple, branches
    /// to code that was not found, instructions that are not translated.
    pub slow_paths: AtomicU64,
    /// Of these, those for the last instruction of a block: nearly all are branches whose target was not
    /// found at once.
    pub branch_misses: AtomicU64,
}

/// Adds to a counter that only one thread writes.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl CodeCounters {
    /// The names and present values.
    #[must_use]
    pub fn read(&self) -> [(&'static str, u64); 9] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("decodedBlocks", get(&self.decoded_blocks)),
            ("evictedBlocks", get(&self.evicted_blocks)),
            ("invalidatedBlocks", get(&self.invalidated_blocks)),
            ("translations", get(&self.translations)),
            ("codeBytes", get(&self.code_bytes)),
            ("codeResets", get(&self.code_resets)),
            ("interpretedInstructions", get(&self.interpreted)),
            ("slowPaths", get(&self.slow_paths)),
            ("branchMisses", get(&self.branch_misses)),
        ]
    }
}
