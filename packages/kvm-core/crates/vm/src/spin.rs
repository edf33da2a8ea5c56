//! How long a waiting side looks before it sleeps.
//!
//! A sleep costs two wake-ups of a CPU, some 50 us; a spin costs a busy core. The window follows
//! what pays: an answer while spinning widens it, a miss halves it, and a closed window is tried
//! again from time to time.

/// Below this a spin never pays, so the window closes.
const FLOOR_NS: u32 = 1_000;
/// Waits between two trials of a closed window.
const PROBE_EVERY: u32 = 128;

/// The adaptive window of one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpinWindow {
    ns: u32,
    max_ns: u32,
    /// Length of a trial with a closed window.
    probe_ns: u32,
    waits: u32,
    /// Rises with misses and falls with hits.
    misses: u8,
}

impl SpinWindow {
    /// A window that never exceeds `max_ns`. Trials take `probe_ns`: the side that is woken last
    /// must look as long as the other needs to wake up, or both would sleep for ever.
    pub fn new(max_ns: u32, probe_ns: u32) -> Self {
        Self { ns: max_ns, max_ns, probe_ns: probe_ns.min(max_ns), waits: 0, misses: 0 }
    }

    /// How long to spin now.
    pub fn next(&mut self) -> u32 {
        if self.ns > 0 || self.max_ns == 0 {
            return self.ns;
        }
        self.waits += 1;
        if self.waits < PROBE_EVERY {
            return 0;
        }
        self.waits = 0;
        self.probe_ns
    }

    /// The answer came while spinning.
    pub fn hit(&mut self) {
        self.misses = self.misses.saturating_sub(1);
        self.ns = (self.ns + self.ns / 4).max(self.probe_ns).min(self.max_ns);
    }

    /// The spin was in vain.
    pub fn miss(&mut self) {
        self.misses = (self.misses + 1).min(16);
        self.ns /= 2;
        if self.ns < FLOOR_NS {
            self.ns = 0;
        }
    }

    /// True if of late most spins were in vain.
    pub fn mostly_misses(&self) -> bool {
        self.misses > 8
    }

    /// The present width.
    pub fn width_ns(&self) -> u32 {
        self.ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_hits_and_misses() {
        let mut w = SpinWindow::new(20_000, 4_000);
        assert_eq!(w.next(), 20_000);
        w.hit();
        assert_eq!(w.next(), 20_000);
        for _ in 0..5 {
            w.miss();
        }
        assert_eq!(w.next(), 0);
        let trials = (0..1280).filter(|_| w.next() > 0).count();
        assert_eq!(trials, 10);
        w.hit();
        assert_eq!(w.width_ns(), 4_000);
        w.hit();
        assert_eq!(w.width_ns(), 5_000);
    }

    #[test]
    fn a_maximum_of_zero_never_spins() {
        let mut w = SpinWindow::new(0, 4_000);
        w.hit();
        assert!((0..1000).all(|_| w.next() == 0));
    }

    #[test]
    fn misses_must_dominate_for_a_while() {
        let mut w = SpinWindow::new(50_000, 50_000);
        for _ in 0..9 {
            w.miss();
        }
        assert!(w.mostly_misses());
        w.hit();
        assert!(!w.mostly_misses());
    }
}
