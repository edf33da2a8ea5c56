//! The VM's time, driven by the host's monotonic clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kvm_abi::Clock;
use kvm_abi::clock::{CLOCK_HOST_TSC, CLOCK_REALTIME, CLOCK_TSC_STABLE, ClockData};

/// Nanoseconds since the VM was created, plus what `set` added.
#[derive(Debug)]
pub struct HostClock {
    /// Added to the host's clock, wrapping.
    offset: AtomicU64,
}

impl Default for HostClock {
    fn default() -> Self {
        Self { offset: AtomicU64::new(host_ns().wrapping_neg()) }
    }
}

impl HostClock {
    /// `KVM_GET_CLOCK`.
    #[must_use]
    pub fn get(&self) -> ClockData {
        ClockData {
            clock: self.now_ns(),
            flags: CLOCK_TSC_STABLE | CLOCK_REALTIME | CLOCK_HOST_TSC,
            realtime: self.wall_ns(),
            host_tsc: host_tsc(),
        }
    }

    /// `KVM_SET_CLOCK`: the guest's time goes on from `data.clock`, plus the time that has passed
    /// since `data.realtime` where that is valid. Timers are kept in this time, so it is set
    /// before the state of the irqchip.
    pub fn set(&self, data: &ClockData) {
        let passed = if data.flags & CLOCK_REALTIME != 0 {
            self.wall_ns().saturating_sub(data.realtime)
        } else {
            0
        };
        let target = data.clock.saturating_add(passed);
        self.offset.store(target.wrapping_sub(host_ns()), Ordering::Release);
    }
}

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        host_ns().wrapping_add(self.offset.load(Ordering::Acquire))
    }

    fn wall_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// CLOCK_MONOTONIC: the clock that futex time-outs and timers run on, so that a sleep ends when
/// this clock says so.
fn host_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live variable. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned())
}

#[cfg(target_arch = "x86_64")]
fn host_tsc() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_tsc() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_near_zero_and_can_be_set() {
        let clock = HostClock::default();
        assert!(clock.now_ns() < 1_000_000_000);
        clock.set(&ClockData { clock: 1 << 40, ..ClockData::default() });
        let now = clock.now_ns();
        assert!((1 << 40..(1 << 40) + 1_000_000_000).contains(&now));
        let realtime = clock.wall_ns() - 5_000_000_000;
        clock.set(&ClockData { clock: 0, flags: CLOCK_REALTIME, realtime, host_tsc: 0 });
        assert!((5_000_000_000..6_000_000_000).contains(&clock.now_ns()));
        assert!(clock.now_ns() <= clock.now_ns());
    }
}
