//! How long a vCPU runs before it looks at the clock again.
//!
//! Timers that nobody else watches are only seen at such a look, which costs about as much as a
//! thousand instructions of translated code. Interpreted code is fifty times as slow, so that no
//! fixed number of instructions is both rare and soon enough: the number follows from the time that
//! the last ones took.

/// Instructions at least and at most.
const LEAST: u64 = 4096;
const MOST: u64 = 1 << 17;
/// Nanoseconds: a slice that took less is too short, one that took more too long.
const SHORT_NS: u64 = 15_000;
const LONG_NS: u64 = 50_000;

/// The instructions from one look to the next.
#[derive(Debug)]
pub struct Slice {
    length: u64,
    /// Instructions retired, and the time, when it began.
    began: u64,
    began_ns: u64,
}

impl Default for Slice {
    fn default() -> Self {
        Self { length: LEAST, began: 0, began_ns: 0 }
    }
}

impl Slice {
    /// Begins a slice after `retired` instructions at `now_ns`; yields the count at which it ends.
    pub fn begin(&mut self, retired: u64, now_ns: u64) -> u64 {
        // One that an exit cut short says nothing about the guest's speed.
        if retired.wrapping_sub(self.began) >= self.length {
            match now_ns.saturating_sub(self.began_ns) {
                ..SHORT_NS => self.length = (self.length * 2).min(MOST),
                LONG_NS.. => self.length = (self.length / 2).max(LEAST),
                _ => {}
            }
        }
        self.began = retired;
        self.began_ns = now_ns;
        retired.wrapping_add(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs slices at a speed in instructions per microsecond; yields the length of the last.
    fn after(slice: &mut Slice, speed: u64, slices: u32) -> u64 {
        let (mut retired, mut now) = (slice.began, slice.began_ns);
        for _ in 0..slices {
            let end = slice.begin(retired, now);
            now += (end - retired) * 1000 / speed;
            retired = end;
        }
        slice.begin(retired, now) - retired
    }

    #[test]
    fn the_length_follows_the_speed() {
        let mut slice = Slice::default();
        assert_eq!(after(&mut slice, 3000, 10), 65536);
        assert_eq!(after(&mut slice, 50, 10), LEAST);
        assert_eq!(after(&mut slice, 1_000_000, 20), MOST);
    }

    #[test]
    fn slices_that_were_cut_short_change_nothing() {
        let mut slice = Slice::default();
        let length = after(&mut slice, 3000, 10);
        for n in 0..20 {
            let (retired, now) = (slice.began + 100, slice.began_ns + n % 2 * 1_000_000);
            assert_eq!(slice.begin(retired, now) - retired, length);
        }
    }
}
