//! Counter 0 as an interrupt source: when it fires, and what happens to ticks that the guest is
//! too slow for.
//!
//! With reinjection (the default) every tick reaches the guest: ticks that come while the last
//! one is unacknowledged are counted and delivered one by one, each after the acknowledge of the
//! one before. A guest that keeps time by counting them is then late but not wrong.

use super::channel::{Channel, ns_of, since, ticks_in};

/// No periodic timer runs faster than this, see the local APIC's timer.
const MIN_PERIOD_NS: u64 = 200_000;

/// The armed expiry and the undelivered ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    target_ns: Option<u64>,
    /// Start of counting and ticks of the input clock per period; zero for one-shot.
    origin_ns: i64,
    period_ticks: u64,
    /// Ticks not acknowledged yet, counting the one in delivery.
    pub pending: u32,
    /// The last delivered tick was acknowledged.
    pub acked: bool,
    pub reinject: bool,
    /// The HPET has taken over the line.
    pub muted: bool,
}

impl Default for Ticks {
    fn default() -> Self {
        Self {
            target_ns: None,
            origin_ns: 0,
            period_ticks: 0,
            pending: 0,
            acked: true,
            reinject: true,
            muted: false,
        }
    }
}

impl Ticks {
    /// Counter 0 has a new count.
    pub(super) fn start(&mut self, channel: &Channel, now: u64) {
        self.forget();
        let count = u64::from(channel.count);
        self.origin_ns = channel.load_ns;
        self.period_ticks = 0;
        self.target_ns = None;
        if self.muted || count == 0 {
            return;
        }
        match channel.mode {
            // Mode 1 would need an edge of a gate that is wired high; KVM fires it as mode 0.
            0 | 1 | 4 => {
                // A restored one-shot that has fired already stays quiet.
                let left = ns_of(count).saturating_sub(since(self.origin_ns, now));
                self.target_ns = (left > 0).then(|| now.saturating_add(left));
            }
            2 | 3 => {
                self.period_ticks = count.max(ticks_in(MIN_PERIOD_NS) + 1);
                self.arm_after(now);
            }
            _ => {}
        }
    }

    /// Arms the first end of a period after `now`, counted from the origin so that nothing drifts.
    fn arm_after(&mut self, now: u64) {
        let elapsed = since(self.origin_ns, now);
        let end = |period: u64| ns_of(period.saturating_mul(self.period_ticks));
        let period = ticks_in(elapsed) / self.period_ticks + 1;
        // Ends are rounded up to nanoseconds, so one may be over although its tick is not counted.
        let end = if end(period) > elapsed { end(period) } else { end(period + 1) };
        self.target_ns = Some(now.saturating_add(end - elapsed));
    }

    /// A control word stops counter 0 until a count follows.
    pub fn stop(&mut self) {
        self.target_ns = None;
    }

    /// Forgets undelivered ticks: after reprogramming, and when the line is unmasked.
    pub fn forget(&mut self) {
        self.pending = 0;
        self.acked = true;
    }

    /// When the counter fires next.
    pub fn deadline(&self) -> Option<u64> {
        self.target_ns
    }

    /// Notes what is due at `now`. True if an interrupt is to be raised.
    pub fn poll(&mut self, now: u64) -> bool {
        let Some(target) = self.target_ns.filter(|target| *target <= now) else { return false };
        let mut fired = 1;
        self.target_ns = None;
        if self.period_ticks != 0 {
            self.arm_after(now);
            let next = self.target_ns.unwrap_or(target);
            let period = u128::from(ns_of(self.period_ticks));
            // Round to the nearest: both ends carry up to a nanosecond of rounding.
            fired = ((u128::from(next - target) + period / 2) / period).max(1);
        }
        if !self.reinject {
            return true;
        }
        let fired = u32::try_from(fired).unwrap_or(u32::MAX);
        self.pending = self.pending.saturating_add(fired);
        std::mem::take(&mut self.acked)
    }

    /// The guest acknowledged the timer interrupt. True if the next one is to be raised.
    pub fn acknowledge(&mut self) -> bool {
        if !self.reinject {
            return false;
        }
        self.acked = true;
        self.pending = self.pending.saturating_sub(1);
        self.pending > 0 && std::mem::take(&mut self.acked)
    }
}
