//! Layout of the control page that the vCPU threads and the device isolate share.
//!
//! All words are u32, naturally aligned, one cache line per writer.

/// `pending[8]`: bit i is set when vCPU i posted an exit.
pub const PENDING: usize = 0x000;
/// `pendingEv`: which one-way sources have work, see `EV_*`.
pub const PENDING_EV: usize = 0x020;
/// 1 while the device isolate is, or is about to be, asleep: the producer rings the doorbell.
pub const ARMED: usize = 0x040;
/// 1 once the VM is closing.
pub const CLOSED: usize = 0x080;
/// 4096 bits: which ioeventfd was signalled.
pub const IOEVENT_BITMAP: usize = 0x100;
/// How many ioeventfds a VM can have.
pub const IOEVENT_MAX: usize = 4096;
/// Head, tail and 64 entries of {u64 tag, i32 result} of the completion ring.
pub const COMPLETIONS: usize = 0x800;
/// The first vCPU slot.
pub const SLOTS: usize = 0x1000;
/// Bytes per vCPU slot.
pub const SLOT_BYTES: usize = 128;
/// How many vCPUs the pending mask can hold.
pub const MAX_VCPUS: usize = 256;
/// Ring of posted writes: head (u32, the isolate's), 64 bytes on tail (u32, the vCPUs'), then
/// from `POSTED_ENTRIES` on the entries.
pub const POSTED: usize = SLOTS + MAX_VCPUS * SLOT_BYTES;
/// Offset of the tail of the posted ring from `POSTED`.
pub const POSTED_TAIL: usize = 64;
/// Offset of the first entry from `POSTED`.
pub const POSTED_ENTRIES: usize = 128;
/// Entries of the posted ring, a power of two.
pub const POSTED_MAX: usize = 256;
/// Bytes of an entry: u64 address, u64 value, u32 size, u32 space (0 ports, 1 memory), padding.
pub const POSTED_BYTES: usize = 32;
/// Bytes of the whole control page.
pub const BYTES: usize = POSTED + POSTED_ENTRIES + POSTED_MAX * POSTED_BYTES;

/// `pendingEv`: the ioevent bitmap has bits.
pub const EV_IOEVENT: u32 = 1;
/// `pendingEv`: the completion ring has entries.
pub const EV_COMPLETION: u32 = 2;
/// `pendingEv`: a control event (a vCPU stopped, a fault).
pub const EV_CONTROL: u32 = 4;
/// `pendingEv`: the ring of posted writes has entries.
pub const EV_POSTED: u32 = 8;

/// Offsets in a vCPU slot.
pub mod slot {
    /// State, see `state`.
    pub const STATE: usize = 0;
    /// Counts exits.
    pub const EXIT_SEQ: usize = 4;
    /// Which device host is to answer.
    pub const HOST_ID: usize = 8;
    /// The vCPU's present spin window in nanoseconds.
    pub const SPIN_WINDOW: usize = 12;
    /// Statistics: answers that came while spinning.
    pub const SPIN_HITS: usize = 16;
    /// Statistics: waits that had to sleep.
    pub const SPIN_MISSES: usize = 20;
}

/// Values of a slot's state word.
pub mod state {
    /// No exit is waiting, or it was answered.
    pub const IDLE: u32 = 0;
    /// An exit waits; the vCPU is spinning.
    pub const POSTED: u32 = 1;
    /// An exit waits; the vCPU sleeps in a futex on this word.
    pub const SLEEPING: u32 = 2;
    /// The vCPU was told to give up the exit; never overwritten.
    pub const ABORTED: u32 = 3;
}
