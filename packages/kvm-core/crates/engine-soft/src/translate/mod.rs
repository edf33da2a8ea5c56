//! The translator, tier 1: blocks that run often become host code.
//!
//! Host and guest have the same instruction set, so that most instructions are copied: their
//! registers are pinned to host registers, their flags are the host's, and a memory operand becomes
//! a check against the software TLB and an access through its addend. All other instructions, and
//! every access that the TLB does not answer, call the interpreter for that one instruction.
//!
//! 64-bit mode, and 32-bit code with flat segments (`flat`). `emit` builds a block, `stubs` is the fixed code around the blocks, `run` is
//! how the engine gets into them and back.

mod access;
mod addend;
mod asm;
mod bounds;
mod control;
mod dispatch;
mod emit;
mod entries;
mod entry;
mod flag_state;
mod flags;
mod flat;
mod group;
mod guest;
mod members;
mod memory;
pub mod perf_map;
mod region;
mod run;
mod select;
mod short_access;
mod stamps;
mod state;
mod strings;
mod stubs;
mod system;
mod targets;
mod vector;
mod vector_state;
mod ways_out;

pub use entries::{Code, Entries};
pub use flat::{FLAT_CONTEXT, Kind};
pub use select::Translator;
pub use state::Hot;

/// When and how a vCPU translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Executions of a block before it is translated; 0 never translates.
    pub threshold: u8,
    /// Jumps through the table of entry points before one of them learns its target: to write into code takes
    /// as long as many a jump, and a program's hot ones come up soon.
    pub learn_after: u16,
    /// Bytes of translated code kept before all is dropped.
    pub cache_bytes: usize,
    /// Addresses of tables are put into instructions where they fit.
    pub immediate_tables: bool,
    /// What is translated is written to the map that `perf` reads; see [`perf_map::start`].
    pub perf_map: bool,
}

/// Bytes of translated code that a vCPU keeps: at least, without another wish, and at most, so that
/// every jump reaches every place.
pub const CODE_BYTES: (usize, usize, usize) = (1 << 20, 128 << 20, 1 << 30);

impl Policy {
    /// Interpret everything.
    pub const OFF: Self = Self {
        threshold: 0,
        learn_after: 0,
        cache_bytes: 0,
        immediate_tables: false,
        perf_map: false,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            threshold: 16,
            learn_after: 63,
            cache_bytes: CODE_BYTES.1,
            immediate_tables: true,
            perf_map: false,
        }
    }
}
