//! One counter of the 8254: access modes, latches, and the six counting modes.

/// Input clock, in Hz.
pub(super) const FREQUENCY: u64 = 1_193_182;
const NS_PER_S: u128 = 1_000_000_000;

/// Ticks of the input clock in `ns` nanoseconds.
pub(super) fn ticks_in(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(FREQUENCY) / NS_PER_S) as u64
}

/// Nanoseconds until `ticks` have passed, rounded up so that they really have.
pub(super) fn ns_of(ticks: u64) -> u64 {
    let ns = (u128::from(ticks) * NS_PER_S).div_ceil(u128::from(FREQUENCY));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// A time of the clock, which stays below 2^63 for the next 292 years.
pub(super) fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Nanoseconds from `start` to `now`.
pub(super) fn since(start: i64, now: u64) -> u64 {
    u64::try_from(signed(now).saturating_sub(start)).unwrap_or(0)
}

/// What a data port access reads or writes next (`read_state`, `write_state` of KVM).
const LOW: u8 = 1;
const HIGH: u8 = 2;
const WORD_LOW: u8 = 3;
const WORD_HIGH: u8 = 4;

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    /// Initial count, 1 to 65536 (10000 in BCD); 0 after a control word until one is written.
    pub count: u32,
    pub latched_count: u16,
    /// 0, or the read state of a latched count.
    pub count_latched: u8,
    pub status_latched: bool,
    pub status: u8,
    pub read_state: u8,
    pub write_state: u8,
    pub write_latch: u8,
    pub rw_mode: u8,
    pub mode: u8,
    pub bcd: bool,
    pub gate: bool,
    /// When the count was loaded (modes 1 and 5: triggered). Signed: a restored counter may have
    /// started before the present clock did.
    pub load_ns: i64,
    /// Time since then when the gate stopped the counter.
    pub held_ns: Option<u64>,
}

impl Channel {
    pub fn new(gate: bool) -> Self {
        Self {
            count: 0,
            latched_count: 0,
            count_latched: 0,
            status_latched: false,
            status: 0,
            read_state: WORD_LOW,
            write_state: WORD_LOW,
            write_latch: 0,
            rw_mode: 3,
            mode: 3,
            bcd: false,
            gate,
            load_ns: 0,
            held_ns: Some(0),
        }
    }

    pub fn gate(&self) -> bool {
        self.gate
    }

    /// Ticks counted since the load.
    fn elapsed(&self, now: u64) -> u64 {
        ticks_in(self.held_ns.unwrap_or(since(self.load_ns, now)))
    }

    /// A trigger starts modes 1 and 5; the gate's level stops the others.
    fn is_triggered_mode(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    /// A control word that is not a read-back: a counter latch, or a new mode.
    pub fn control(&mut self, value: u8, now: u64) {
        let access = value >> 4 & 3;
        if access == 0 {
            self.latch_count(now);
            return;
        }
        self.rw_mode = access;
        self.read_state = access;
        self.write_state = access;
        // Modes 6 and 7 are 2 and 3 with a don't-care bit.
        self.mode = value >> 1 & 7;
        if self.mode > 5 {
            self.mode -= 4;
        }
        self.bcd = value & 1 != 0;
        self.count = 0;
        self.held_ns = Some(0);
    }

    /// Writes the data port. True if that completed a count.
    pub fn write(&mut self, value: u8, now: u64) -> bool {
        match self.write_state {
            LOW => self.load(value.into(), now),
            HIGH => self.load(u16::from(value) << 8, now),
            WORD_LOW => {
                self.write_latch = value;
                self.write_state = WORD_HIGH;
                if self.mode == 0 {
                    // The first byte of two stops the count and drops OUT.
                    self.count = 0;
                    self.held_ns = Some(0);
                }
                return false;
            }
            _ => {
                self.write_state = WORD_LOW;
                self.load(u16::from_le_bytes([self.write_latch, value]), now);
            }
        }
        true
    }

    fn load(&mut self, value: u16, now: u64) {
        let binary = if self.bcd { from_bcd(value) } else { value.into() };
        let full = if self.bcd { 10_000 } else { 0x1_0000 };
        // Digits above nine are the guest's mistake; they must not exceed the counter.
        self.count = if binary == 0 { full } else { binary.min(full) };
        // Triggered modes wait for the gate; one already triggered goes on, with the new count.
        // A running periodic counter restarts at once, as KVM's does.
        if !self.is_triggered_mode() {
            self.load_ns = signed(now);
            self.held_ns = (!self.gate).then_some(0);
        }
    }

    /// Drives the gate. Its rising edge restarts all modes but 0 and 4, which just go on.
    pub fn set_gate(&mut self, gate: bool, now: u64) {
        let rising = gate && !self.gate;
        let falling = !gate && self.gate;
        self.gate = gate;
        if falling && !self.is_triggered_mode() && self.held_ns.is_none() {
            self.held_ns = Some(since(self.load_ns, now));
        }
        if rising && self.count != 0 {
            let already = match self.mode {
                0 | 4 => self.held_ns.unwrap_or(0),
                _ => 0,
            };
            self.load_ns = signed(now).saturating_sub(signed(already));
            self.held_ns = None;
        }
    }

    /// The counting element, as a read would show it.
    fn value(&self, now: u64) -> u16 {
        if self.count == 0 {
            return 0;
        }
        let count = u64::from(self.count);
        let elapsed = self.elapsed(now);
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let value = match self.mode {
            2 => count - elapsed % count,
            3 => {
                // Counts down by two in each half; odd counts spend one tick more in the first.
                let phase = elapsed % count;
                let first_half = count.div_ceil(2);
                let step = if phase < first_half { phase } else { phase - first_half };
                (count & !1) - 2 * step.min(count / 2)
            }
            // These wrap around and go on.
            _ => (count + modulus - elapsed % modulus) % modulus,
        };
        let value = (value % modulus) as u16;
        if self.bcd { to_bcd(value) } else { value }
    }

    /// The OUT pin.
    pub fn output(&self, now: u64) -> bool {
        if self.count == 0 {
            return self.mode != 0;
        }
        let count = u64::from(self.count);
        let elapsed = self.elapsed(now);
        let untriggered = self.is_triggered_mode() && self.held_ns.is_some();
        let gated_off = !self.gate;
        match self.mode {
            0 => elapsed >= count,
            1 => untriggered || elapsed >= count,
            2 => gated_off || elapsed % count != count - 1,
            3 => gated_off || elapsed % count < count.div_ceil(2),
            4 => elapsed != count,
            _ => untriggered || elapsed != count,
        }
    }

    /// Freezes the count for reading; a second latch before the read is ignored.
    pub fn latch_count(&mut self, now: u64) {
        if self.count_latched == 0 {
            self.latched_count = self.value(now);
            self.count_latched = self.rw_mode;
        }
    }

    /// Freezes the status byte for reading: OUT, null count, access, mode, BCD.
    pub fn latch_status(&mut self, now: u64) {
        if !self.status_latched {
            self.status = u8::from(self.output(now)) << 7
                | u8::from(self.count == 0) << 6
                | self.rw_mode << 4
                | self.mode << 1
                | u8::from(self.bcd);
            self.status_latched = true;
        }
    }

    /// Reads the data port: the latched status, then the latched count, else the live count.
    pub fn read(&mut self, now: u64) -> u8 {
        if self.status_latched {
            self.status_latched = false;
            return self.status;
        }
        if self.count_latched != 0 {
            let [low, high] = self.latched_count.to_le_bytes();
            let (byte, next) = match self.count_latched {
                LOW => (low, 0),
                WORD_LOW => (low, WORD_HIGH),
                _ => (high, 0),
            };
            self.count_latched = next;
            return byte;
        }
        let [low, high] = self.value(now).to_le_bytes();
        match self.read_state {
            LOW => low,
            HIGH => high,
            WORD_LOW => {
                self.read_state = WORD_HIGH;
                low
            }
            _ => {
                self.read_state = WORD_LOW;
                high
            }
        }
    }
}

fn from_bcd(value: u16) -> u32 {
    (0..4).rev().fold(0, |sum, digit| sum * 10 + u32::from(value >> (4 * digit) & 0xf))
}

fn to_bcd(value: u16) -> u16 {
    let digit = |unit: u16| value / unit % 10;
    digit(1) | (digit(10) << 4) | (digit(100) << 8) | (digit(1000) << 12)
}
