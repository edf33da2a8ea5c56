//! Which blocks of a buffer are zeros, at the speed of the memory.

use napi::bindgen_prelude::{Uint8ArraySlice, Uint32ArraySlice};
use napi_derive::napi;

/// Lengths of runs in bytes, by turns of blocks with data and of blocks of zeros, beginning with
/// data (which may be 0 bytes long). Returns how many of `runs` were set. A block is `block_bytes`
/// long, the last one may be shorter. Where `runs` is too short for what follows, that is left
/// out.
#[napi]
pub fn zero_runs(
    bytes: Uint8ArraySlice<'_>,
    block_bytes: u32,
    mut runs: Uint32ArraySlice<'_>,
) -> u32 {
    // SAFETY: nobody else has a reference into this array during the call.
    let runs = unsafe { runs.as_mut() };
    let mut count = 0;
    let mut zeros = false;
    let mut length = 0u32;
    for block in bytes.chunks((block_bytes as usize).max(1)) {
        if is_zero(block) != zeros {
            put(runs, &mut count, length);
            zeros = !zeros;
            length = 0;
        }
        length = length.saturating_add(block.len() as u32);
    }
    put(runs, &mut count, length);
    count as u32
}

fn put(runs: &mut [u32], count: &mut usize, length: u32) {
    if let Some(run) = runs.get_mut(*count) {
        *run = length;
        *count += 1;
    }
}

/// Data has a byte that is not zero early, as a rule: the first bytes are looked at alone.
pub fn is_zero(block: &[u8]) -> bool {
    let (head, rest) = block.split_at(block.len().min(64));
    let none = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
    // `or` over a whole piece becomes vector instructions.
    none(head) && rest.chunks(512).all(none)
}
