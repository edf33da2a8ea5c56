//! Time is injected: nothing in the engine reads the host clock by itself.

/// `KVM_CLOCK_TSC_STABLE`.
pub const CLOCK_TSC_STABLE: u32 = 2;
/// `KVM_CLOCK_REALTIME`: `realtime` is valid.
pub const CLOCK_REALTIME: u32 = 4;
/// `KVM_CLOCK_HOST_TSC`: `host_tsc` is valid.
pub const CLOCK_HOST_TSC: u32 = 8;

/// `kvm_clock_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockData {
    /// Guest time in nanoseconds.
    pub clock: u64,
    /// `CLOCK_*`.
    pub flags: u32,
    /// UTC in nanoseconds at the moment of `clock`.
    pub realtime: u64,
    /// The host's TSC at the moment of `clock`.
    pub host_tsc: u64,
}

/// A monotonic time source. One instance serves all vCPUs and timers of a VM.
pub trait Clock: Send + Sync {
    /// Nanoseconds since an arbitrary origin; never goes backwards.
    fn now_ns(&self) -> u64;

    /// Nanoseconds of UTC since 1970-01-01, for the paravirtual wall clock.
    fn wall_ns(&self) -> u64;
}
