//! Save and load as `struct kvm_pit_state2`.

use kvm_abi::{KvmError, Reader, Writer};

use super::Pit;
use super::channel::{Channel, signed};

/// Size of `struct kvm_pit_state2`.
pub const PIT_STATE_BYTES: usize = 112;
const HPET_LEGACY: u32 = 1;
const SPEAKER_DATA_ON: u32 = 2;
/// Our own flag in `extra`: the words after it are valid.
const EXTRA_VALID: u32 = 0x8254;

/// `struct kvm_pit_channel_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PitChannelState {
    /// Initial count, 1 to 65536; 0 where a control word awaits one.
    pub count: u32,
    /// Latched count.
    pub latched_count: u16,
    /// 0, or how the latched count is read: 1 low, 2 high, 3 low then high, 4 high of both.
    pub count_latched: u8,
    /// 1 if the status is latched.
    pub status_latched: u8,
    /// Latched status.
    pub status: u8,
    /// Next byte to read, coded as `count_latched`.
    pub read_state: u8,
    /// Next byte to write, coded as `count_latched`.
    pub write_state: u8,
    /// Low byte that waits for its high byte.
    pub write_latch: u8,
    /// Access mode of the control word, 1 to 3.
    pub rw_mode: u8,
    /// Counting mode, 0 to 5.
    pub mode: u8,
    /// 1 for BCD.
    pub bcd: u8,
    /// Gate input.
    pub gate: u8,
    /// When the count was loaded, in nanoseconds of the VM's clock.
    pub count_load_time: i64,
}

/// `struct kvm_pit_state2`.
///
/// KVM leaves the reserved words zero. Here they hold what a continuation needs besides: the time
/// of saving, so that a load under another clock keeps the phase, the undelivered ticks, and how
/// long a gated counter had run. A state with zeros there loads as KVM would load it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PitState {
    /// The three counters.
    pub channels: [PitChannelState; 3],
    /// `KVM_PIT_FLAGS_HPET_LEGACY` (1), `KVM_PIT_FLAGS_SPEAKER_DATA_ON` (2).
    pub flags: u32,
    /// The reserved words.
    pub extra: [u32; 9],
}

impl PitState {
    /// Reads the C layout. `EINVAL` if it is short.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KvmError> {
        let mut r = Reader::new(bytes);
        let mut state = Self::default();
        for c in &mut state.channels {
            *c = PitChannelState {
                count: r.u32(),
                latched_count: r.u16(),
                count_latched: r.u8(),
                status_latched: r.u8(),
                status: r.u8(),
                read_state: r.u8(),
                write_state: r.u8(),
                write_latch: r.u8(),
                rw_mode: r.u8(),
                mode: r.u8(),
                bcd: r.u8(),
                gate: r.u8(),
                count_load_time: r.u64() as i64,
            };
        }
        state.flags = r.u32();
        state.extra = std::array::from_fn(|_| r.u32());
        if !r.complete() {
            let reason = format!("a PIT state has {PIT_STATE_BYTES} bytes, not {}", bytes.len());
            return Err(KvmError::invalid(reason));
        }
        Ok(state)
    }

    /// The C layout.
    pub fn to_bytes(&self) -> [u8; PIT_STATE_BYTES] {
        let mut w = Writer::new();
        for c in &self.channels {
            w.u32(c.count).u16(c.latched_count).u8(c.count_latched).u8(c.status_latched);
            w.u8(c.status).u8(c.read_state).u8(c.write_state).u8(c.write_latch);
            w.u8(c.rw_mode).u8(c.mode).u8(c.bcd).u8(c.gate).u64(c.count_load_time as u64);
        }
        w.u32(self.flags);
        self.extra.iter().for_each(|v| {
            w.u32(*v);
        });
        let mut bytes = [0; PIT_STATE_BYTES];
        bytes.copy_from_slice(&w.0);
        bytes
    }
}

fn words(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

impl Channel {
    fn save(&self) -> PitChannelState {
        PitChannelState {
            count: self.count,
            latched_count: self.latched_count,
            count_latched: self.count_latched,
            status_latched: self.status_latched.into(),
            status: self.status,
            read_state: self.read_state,
            write_state: self.write_state,
            write_latch: self.write_latch,
            rw_mode: self.rw_mode,
            mode: self.mode,
            bcd: self.bcd.into(),
            gate: self.gate.into(),
            count_load_time: self.load_ns,
        }
    }

    /// What hardware cannot hold is brought into range.
    fn load_state(s: &PitChannelState, load_ns: i64, held_ns: Option<u64>) -> Self {
        Self {
            count: s.count.min(if s.bcd != 0 { 10_000 } else { 0x1_0000 }),
            latched_count: s.latched_count,
            count_latched: s.count_latched.min(4),
            status_latched: s.status_latched != 0,
            status: s.status,
            read_state: s.read_state.clamp(1, 4),
            write_state: s.write_state.clamp(1, 4),
            write_latch: s.write_latch,
            rw_mode: s.rw_mode.clamp(1, 3),
            mode: s.mode.min(5),
            bcd: s.bcd != 0,
            gate: s.gate != 0,
            load_ns,
            held_ns,
        }
    }
}

impl Pit {
    pub fn save(&self, now: u64) -> PitState {
        let speaker = if self.speaker_on { SPEAKER_DATA_ON } else { 0 };
        let muted = if self.ticks.muted { HPET_LEGACY } else { 0 };
        let [now_low, now_high] = words(now);
        // One more than the nanoseconds: zero stands for a counter that runs.
        let held = |c: &Channel| words(c.held_ns.map_or(0, |ns| ns.saturating_add(1)));
        let [held_low, held_high] = held(&self.channels[2]);
        let unacked = u32::from(!self.ticks.acked);
        let waiting = u32::from(self.channels[0].held_ns.is_some())
            | u32::from(self.channels[1].held_ns.is_some()) << 1;
        let valid = EXTRA_VALID | unacked << 16 | waiting << 17;
        let pending = self.ticks.pending;
        PitState {
            channels: [0, 1, 2].map(|i| self.channels[i].save()),
            flags: speaker | muted,
            extra: [valid, now_low, now_high, pending, held_low, held_high, 0, 0, 0],
        }
    }

    pub fn load(&mut self, s: &PitState, now: u64) {
        let [valid, now_low, now_high, pending, held_low, held_high, ..] = s.extra;
        let ours = valid & 0xffff == EXTRA_VALID;
        let saved_at = u64::from(now_low) | u64::from(now_high) << 32;
        let held = (u64::from(held_low) | u64::from(held_high) << 32).checked_sub(1);
        self.speaker_on = s.flags & SPEAKER_DATA_ON != 0;
        self.ticks.muted = s.flags & HPET_LEGACY != 0;
        for (i, c) in s.channels.iter().enumerate() {
            // The clock of the load may have another origin than that of the save: what counts is
            // how long ago the count was loaded.
            let age = signed(saved_at).saturating_sub(c.count_load_time);
            let then = signed(now).saturating_sub(age);
            let (load_ns, held_ns) = match (ours, i) {
                (true, 2) => (then, held),
                (true, _) => (then, (valid >> (17 + i) & 1 != 0).then_some(0)),
                (false, _) => (signed(now), (c.gate == 0 || c.count == 0).then_some(0)),
            };
            self.channels[i] = Channel::load_state(c, load_ns, held_ns);
        }
        self.ticks.start(&self.channels[0], now);
        if ours {
            self.ticks.pending = pending;
            self.ticks.acked = valid >> 16 & 1 == 0;
        }
    }
}
