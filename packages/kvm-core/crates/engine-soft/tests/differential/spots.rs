//! Addresses worth a try: inside pages, at their ends, across permissions, nowhere.

use super::layout::{HIGH, LOW, PAGE};
use super::rng::Rng;

/// An address for an operand of `size` bytes; `low` keeps it below 4 GiB.
pub fn random(rng: &mut Rng, low: bool, size: u64) -> u64 {
    let base = if low || rng.chance(1, 2) { LOW } else { HIGH };
    let page = |n: u64| base + n * PAGE;
    // Before, at and across the end of a page.
    let around = |rng: &mut Rng, end: u64| end.wrapping_sub(rng.below(size + size / 2 + 2));
    match rng.below(40) {
        0..=15 => page(rng.pick(&[4, 5, 6, 8, 10, 12, 13])) + 64 * rng.below(60) + 64,
        16..=23 => page(rng.pick(&[4, 5, 6, 8, 10, 12, 13])) + 64 + rng.below(3900),
        24..=27 => around(rng, page(5)),
        28 | 29 => around(rng, page(7)),
        30 => around(rng, page(9)),
        31 => around(rng, page(10)),
        32 => page(9) + rng.below(PAGE - 64),
        33 => around(rng, page(4)),
        34 => page(rng.pick(&[3, 7, 11, 14])) + rng.below(PAGE),
        35 => page(rng.pick(&[4, 8, 12])) + rng.below(16),
        36 => page(12) + 16 * rng.below(200),
        37 => around(rng, page(13)),
        38 if !low => match rng.below(4) {
            0 => 0x0000_8000_0000_0000 + rng.below(1 << 20),
            1 => 0xffff_7fff_ffff_f000 - rng.below(1 << 20),
            2 => 0xffff_9000_0000_0000 + rng.below(1 << 20),
            _ => rng.next() | 1 << 62,
        },
        _ => page(6) + 8 * rng.below(400),
    }
}

/// Inside a page of ordinary data.
pub fn harmless(rng: &mut Rng, base: u64) -> u64 {
    base + rng.pick(&[4, 5, 6, 8, 10, 12, 13]) * PAGE + 64 + rng.below(3500)
}

/// A segment base: small, so that the sum with it stays a meaningful address.
pub fn small_base(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => 0,
        1 => rng.below(1 << 12),
        2 => rng.below(1 << 31),
        _ => 0x1000_0000_0000 + rng.below(1 << 32),
    }
}
