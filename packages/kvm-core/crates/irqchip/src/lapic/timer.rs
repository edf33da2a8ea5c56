//! The local APIC's timer: one-shot and periodic from a divided 1 GHz bus clock, and TSC deadline.
//!
//! It holds the time of its next expiry and nothing ticks; `expire` catches up in one step,
//! however late it is called.

/// One tick of the undivided bus clock: 1 GHz, as KVM has it.
const BUS_CYCLE_NS: u64 = 1;
/// No periodic timer runs faster than this: a guest that asks for a period of a few nanoseconds
/// would keep the host busy with nothing else. KVM's default for `min_timer_period_us`.
pub(super) const MIN_PERIOD_NS: u64 = 200_000;

const ONE_SHOT: u32 = 0;
const PERIODIC: u32 = 1;
const TSC_DEADLINE: u32 = 2;

/// How far a saved countdown had got.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Stopped,
    Nanoseconds(u64),
    /// The current count register, all that KVM saves.
    Ticks(u32),
}

/// Timer registers and the armed expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    /// Bits 18:17 of the timer's local vector.
    mode: u32,
    pub initial_count: u32,
    pub divide_config: u32,
    period_ns: u64,
    /// When it expires next, on the injected clock.
    pub target_ns: Option<u64>,
    pub tsc_deadline: u64,
    tsc_khz: u64,
    tsc_offset: i64,
}

impl Default for Timer {
    fn default() -> Self {
        Self {
            mode: ONE_SHOT,
            initial_count: 0,
            divide_config: 0,
            period_ns: 0,
            target_ns: None,
            tsc_deadline: 0,
            tsc_khz: 1_000_000,
            tsc_offset: 0,
        }
    }
}

impl Timer {
    /// Back to reset; the relation of TSC and clock is not the timer's and stays.
    pub fn stop(&mut self) {
        let (tsc_khz, tsc_offset) = (self.tsc_khz, self.tsc_offset);
        *self = Self { tsc_khz, tsc_offset, ..Self::default() };
    }

    /// Divide configuration 0b0000 is 2, 0b1010 is 128, 0b1011 is 1.
    fn divisor(&self) -> u64 {
        let code = (self.divide_config & 3) | (self.divide_config & 8) >> 1;
        BUS_CYCLE_NS << ((code + 1) & 7)
    }

    fn count_ns(&self, count: u32) -> u64 {
        u64::from(count) * self.divisor()
    }

    fn update_period(&mut self) {
        self.period_ns = self.count_ns(self.initial_count);
        if self.mode == PERIODIC && self.period_ns != 0 {
            self.period_ns = self.period_ns.max(MIN_PERIOD_NS);
        }
    }

    /// Switching to or from TSC deadline disarms; between the other two the count goes on.
    pub fn set_mode(&mut self, mode: u32) {
        if mode == self.mode {
            return;
        }
        if (mode == TSC_DEADLINE) != (self.mode == TSC_DEADLINE) {
            self.target_ns = None;
            self.tsc_deadline = 0;
            self.initial_count = 0;
        }
        self.mode = mode;
        self.update_period();
    }

    pub fn is_deadline(&self) -> bool {
        self.mode == TSC_DEADLINE
    }

    /// A write of the initial count: starts, or with zero stops.
    pub fn start(&mut self, count: u32, now: u64) {
        if self.mode == TSC_DEADLINE {
            return;
        }
        self.initial_count = count;
        self.update_period();
        self.target_ns = (self.period_ns != 0).then(|| now.saturating_add(self.period_ns));
    }

    /// Takes over a saved countdown.
    pub fn resume(&mut self, initial_count: u32, left: Left, now: u64) {
        self.target_ns = None;
        self.tsc_deadline = 0;
        self.initial_count = initial_count;
        self.update_period();
        if self.mode == TSC_DEADLINE || self.period_ns == 0 {
            return;
        }
        let left = match left {
            Left::Nanoseconds(ns) => ns,
            // A periodic timer that KVM saved at its very end starts over.
            Left::Ticks(0) if self.mode == PERIODIC => self.period_ns,
            Left::Ticks(0) | Left::Stopped => return,
            Left::Ticks(count) => self.count_ns(count),
        };
        // One that was periodic may still run out a stretched period.
        let longest = self.period_ns.max(MIN_PERIOD_NS);
        self.target_ns = Some(now.saturating_add(left.min(longest)));
    }

    /// A change of speed in mid-count: the count stays, so the time left is rescaled.
    pub fn set_divide_config(&mut self, value: u32, now: u64) {
        let old = self.divisor();
        self.divide_config = value;
        let new = self.divisor();
        if self.mode == TSC_DEADLINE || old == new {
            return;
        }
        self.update_period();
        if let Some(target) = self.target_ns {
            let left = target.saturating_sub(now) / old * new;
            // A period that had been stretched to the minimum is not rescaled beyond the new one.
            self.target_ns = Some(now.saturating_add(left.min(self.period_ns)));
        }
    }

    /// The current count register.
    pub fn current_count(&self, now: u64) -> u32 {
        let Some(target) = self.target_ns else { return 0 };
        if self.mode == TSC_DEADLINE {
            return 0;
        }
        let ticks = target.saturating_sub(now) / self.divisor();
        u32::try_from(ticks).unwrap_or(u32::MAX).min(self.initial_count)
    }

    /// Nanoseconds until the count ends, if one runs.
    pub fn remaining_ns(&self, now: u64) -> Option<u64> {
        if self.mode == TSC_DEADLINE {
            return None;
        }
        Some(self.target_ns?.saturating_sub(now))
    }

    /// True if an expiry is due; the next one, if any, is armed. Missed periods count as one.
    pub fn expire(&mut self, now: u64) -> bool {
        let Some(target) = self.target_ns else { return false };
        if target > now {
            return false;
        }
        self.target_ns = None;
        if self.mode == PERIODIC && self.period_ns != 0 {
            let periods = (now - target) / self.period_ns + 1;
            self.target_ns = Some(target.saturating_add(periods.saturating_mul(self.period_ns)));
        }
        self.tsc_deadline = 0;
        true
    }

    /// A write of `IA32_TSC_DEADLINE`: zero disarms. Without effect in the other modes.
    pub fn set_tsc_deadline(&mut self, tsc: u64, now: u64) {
        if self.mode == TSC_DEADLINE {
            self.tsc_deadline = tsc;
            self.arm_deadline(now);
        }
    }

    /// Tells how the guest's TSC follows the clock.
    pub fn set_tsc(&mut self, khz: u64, offset: i64, now: u64) {
        self.tsc_khz = khz;
        self.tsc_offset = offset;
        if self.mode == TSC_DEADLINE {
            self.arm_deadline(now);
        }
    }

    fn arm_deadline(&mut self, now: u64) {
        if self.tsc_deadline == 0 || self.tsc_khz == 0 {
            self.target_ns = None;
            return;
        }
        let elapsed = u128::from(now) * u128::from(self.tsc_khz) / 1_000_000;
        let tsc = (elapsed as u64).wrapping_add_signed(self.tsc_offset);
        let ahead = u128::from(self.tsc_deadline.saturating_sub(tsc)) * 1_000_000;
        let wait = ahead.div_ceil(u128::from(self.tsc_khz));
        self.target_ns = Some(now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)));
    }
}
