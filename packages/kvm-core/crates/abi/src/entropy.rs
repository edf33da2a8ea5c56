//! Randomness is injected: no engine and no device asks the host by itself.

/// A source of random bits. One instance serves all vCPUs of a VM.
pub trait Entropy: Send + Sync {
    /// 64 random bits; `None` while the source has none.
    fn next(&self) -> Option<u64>;
}
