//! A second place for memslots: a kernel that runs the guest.

use kvm_abi::KvmError;

use crate::Memslot;

/// Mirrors the memslots of a [`GuestMemory`](crate::GuestMemory). Calls come one at a time.
pub trait SlotKeeper: Send + Sync {
    /// Slot `number` comes or changes, or goes where `slot` is `None`. Called before the new table
    /// is published; an error leaves everything as it was. The memory of a slot stays mapped until
    /// it has gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn set_slot(&self, number: u32, slot: Option<&Memslot>) -> Result<(), KvmError>;

    /// Takes the bits of pages that the guest has written since the last call, 64 pages a word. A
    /// write after this call is in the next one.
    ///
    /// # Errors
    /// What the kernel says.
    fn take_dirty(&self, slot: &Memslot) -> Result<Vec<u64>, KvmError>;
}
