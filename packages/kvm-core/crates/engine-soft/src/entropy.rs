//! Random bits for RDRAND and RDSEED.

/// The source of one vCPU: the host's, or a seeded generator for runs that must repeat.
#[derive(Debug)]
pub enum Entropy {
    /// `getrandom(2)`.
    Host,
    /// xorshift64* from a seed.
    Seeded(u64),
}

impl Entropy {
    /// The host's source.
    #[must_use]
    pub fn new() -> Self {
        Self::Host
    }

    /// 64 random bits; `None` while the host has none.
    pub fn next(&mut self) -> Option<u64> {
        match self {
            Self::Host => {
                let mut out = [0u8; 8];
                // SAFETY: the buffer has the length given.
                let n = unsafe { libc::getrandom(out.as_mut_ptr().cast(), 8, libc::GRND_NONBLOCK) };
                (n == 8).then(|| u64::from_ne_bytes(out))
            }
            Self::Seeded(state) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                Some(state.wrapping_mul(0x2545_f491_4f6c_dd1d))
            }
        }
    }
}
