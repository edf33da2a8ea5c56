//! Sources of random bits for RDRAND and RDSEED.

use std::sync::atomic::{AtomicU64, Ordering};

use kvm_abi::Entropy;

/// `getrandom(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostEntropy;

impl Entropy for HostEntropy {
    fn next(&self) -> Option<u64> {
        let mut out = [0u8; 8];
        // SAFETY: the buffer has the length given.
        let n = unsafe { libc::getrandom(out.as_mut_ptr().cast(), 8, libc::GRND_NONBLOCK) };
        (n == 8).then(|| u64::from_ne_bytes(out))
    }
}

/// A generator whose bits follow from a seed (splitmix64), for runs that must repeat.
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// The generator for `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn next(&self) -> Option<u64> {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ (z >> 31))
    }
}
