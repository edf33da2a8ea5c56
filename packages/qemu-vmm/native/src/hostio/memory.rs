//! Where a buffer lies, for `O_DIRECT`, which wants it aligned.

use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;

/// The address of a view's first byte modulo `alignment`, a power of two. Buffers do not move.
#[napi]
pub fn misalignment(view: Uint8Array, alignment: u32) -> u32 {
    // Only the low bits matter: truncation is meant.
    (view.as_ptr() as usize as u32) & alignment.wrapping_sub(1)
}
