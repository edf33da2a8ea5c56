//! Time is injected: nothing in the engine reads the host clock by itself.

/// A monotonic time source. One instance serves all vCPUs and timers of a VM.
pub trait Clock: Send + Sync {
    /// Nanoseconds since an arbitrary origin; never goes backwards.
    fn now_ns(&self) -> u64;

    /// Nanoseconds of UTC since 1970-01-01, for the paravirtual wall clock.
    fn wall_ns(&self) -> u64;
}
