//! What a software engine did to execute the guest's code.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::refusals::Refusals;

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
    /// What the guest asked for in vain.
    pub refusals: Refusals,
    /// What the vCPU does at the moment.
    place: AtomicU8,
    /// Nanoseconds spent at each [`Place`], as far as samples tell.
    time: [AtomicU64; PLACES],
}

/// What a vCPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// It is halted, stopped or not started.
    Outside,
    /// Guest code is interpreted, or events are delivered.
    Interpreter,
    /// Translated guest code runs.
    Translated,
    /// Translated code had an instruction interpreted.
    Helper,
    /// It waits for the answer of a device.
    Device,
}

const PLACES: usize = 5;

impl Place {
    const ALL: [Self; PLACES] =
        [Self::Outside, Self::Interpreter, Self::Translated, Self::Helper, Self::Device];
}

/// Adds to a counter that only one thread writes.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl CodeCounters {
    /// The names and present values.
    #[must_use]
    pub fn read(&self) -> [(&'static str, u64); 13] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |place: Place| get(&self.time[place as usize]);
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
            ("translatedNs", time(Place::Translated)),
            ("interpretedNs", time(Place::Interpreter)),
            ("helperNs", time(Place::Helper)),
            ("deviceNs", time(Place::Device)),
        ]
    }

    /// The vCPU's own thread says what it does from now on, which costs one store.
    #[inline(always)]
    pub fn set_place(&self, place: Place) {
        self.place.store(place as u8, Ordering::Relaxed);
    }

    /// As [`set_place`](Self::set_place), and whatever the thread looks at next is looked at later.
    pub fn enter(&self, place: Place) {
        self.place.swap(place as u8, Ordering::SeqCst);
    }

    /// What the vCPU does at the moment.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::ALL[usize::from(self.place.load(Ordering::SeqCst)) % PLACES]
    }

    /// Takes it that the vCPU did for `ns` nanoseconds what it does now. Only one thread samples.
    pub fn sample(&self, ns: u64) -> Place {
        let place = self.place();
        add(&self.time[place as usize], ns);
        place
    }
}
