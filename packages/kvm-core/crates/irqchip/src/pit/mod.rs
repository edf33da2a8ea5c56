//! The i8254 programmable interval timer: three counters from a 1.193182 MHz clock. Counter 0 is
//! the PC's timer interrupt, counter 2 the speaker and, through port 0x61, a stopwatch.
//!
//! No counter ticks: all that software can see is computed from the time since the count was
//! loaded.

mod channel;
mod state;
#[cfg(test)]
mod tests;
mod tick;

use channel::Channel;
pub use state::{PIT_STATE_BYTES, PitChannelState, PitState};
use tick::Ticks;

/// `KVM_CREATE_PIT2`: port 0x61 belongs to the PIT too.
pub const KVM_PIT_SPEAKER_DUMMY: u32 = 1;

/// The PIT and the two bits of port 0x61 that belong to it.
#[derive(Clone, Debug)]
pub(crate) struct Pit {
    channels: [Channel; 3],
    has_speaker_port: bool,
    speaker_on: bool,
    /// Counter 0's interrupts.
    pub ticks: Ticks,
}

impl Pit {
    pub fn new(has_speaker_port: bool) -> Self {
        // Counter 2's gate is bit 0 of port 0x61; the other two gates are wired high.
        let channels = [true, true, false].map(Channel::new);
        Self { channels, has_speaker_port, speaker_on: false, ticks: Ticks::default() }
    }

    /// The state after power-up; how the VM wants it wired and its ticks delivered stays.
    pub fn reset(&self) -> Self {
        let mut fresh = Self::new(self.has_speaker_port);
        fresh.ticks.reinject = self.ticks.reinject;
        fresh
    }

    /// True if the byte at `port` is the PIT's.
    pub fn owns(&self, port: u16) -> bool {
        matches!(port, 0x40..=0x43) || (port == 0x61 && self.has_speaker_port)
    }

    /// Reads one byte of a port that the PIT owns.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        match port {
            0x40..=0x42 => self.channels[usize::from(port & 3)].read(now),
            0x61 => self.read_speaker(now),
            _ => 0,
        }
    }

    /// Writes one byte of a port that the PIT owns.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        match port {
            0x40..=0x42 => {
                let index = usize::from(port & 3);
                let complete = self.channels[index].write(value, now);
                if index == 0 && complete {
                    self.ticks.start(&self.channels[0], now);
                } else if index == 0 && self.channels[0].count == 0 {
                    self.ticks.stop();
                }
            }
            0x43 => self.write_control(value, now),
            0x61 => {
                self.speaker_on = value & 2 != 0;
                self.channels[2].set_gate(value & 1 != 0, now);
            }
            _ => {}
        }
    }

    fn write_control(&mut self, value: u8, now: u64) {
        let select = usize::from(value >> 6);
        if let Some(channel) = self.channels.get_mut(select) {
            channel.control(value, now);
            if select == 0 && value & 0x30 != 0 {
                self.ticks.stop();
            }
            return;
        }
        // Read-back: the latch bits are active low, bits 3:1 select counters.
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if value & (2 << index) != 0 {
                if value & 0x20 == 0 {
                    channel.latch_count(now);
                }
                if value & 0x10 == 0 {
                    channel.latch_status(now);
                }
            }
        }
    }

    /// Gate and speaker bits as written, OUT of counter 2, and a bit that toggles with the
    /// "refresh" cycles, every 16 us or so, which old software times loops with.
    fn read_speaker(&self, now: u64) -> u8 {
        let refresh = (now >> 14 & 1) as u8;
        let channel = &self.channels[2];
        u8::from(channel.gate())
            | u8::from(self.speaker_on) << 1
            | refresh << 4
            | u8::from(channel.output(now)) << 5
    }
}
