//! Guest physical memory: RAM mappings, memslots, the dirty log and the flags of code pages.
//!
//! A [`GuestRam`] is a mapping of host memory. A [`GuestMemory`] says which parts of which
//! mappings the guest sees where (memslots, with the rules of `KVM_SET_USER_MEMORY_REGION`). Its
//! present [`SlotTable`] is an immutable snapshot: a vCPU keeps one and is told by a
//! [`MemoryListener`] when it must fetch the next.
//!
//! The guest, the devices and the host kernel use RAM at the same time. No reference into it ever
//! exists: all access goes through raw pointers, and a value is fetched once before it is checked.
#![deny(missing_docs)]

mod dirty;
mod guest;
mod hugetlb;
mod keeper;
mod page;
mod ram;
mod region;
mod slot;
mod smaps;

pub use guest::{GuestMemory, MemoryListener};
pub use keeper::SlotKeeper;
pub use page::{PageFlags, Writers};
pub use ram::{Backing, GuestRam};
pub use region::Region;
pub use slot::{Memslot, SlotTable};

/// Bytes of the smallest page, the granularity of memslots and of the dirty log.
pub const PAGE_BYTES: u64 = 4096;
/// `KVM_MEM_LOG_DIRTY_PAGES`.
pub const MEM_LOG_DIRTY_PAGES: u32 = 1;
/// `KVM_MEM_READONLY`: guest writes to the slot leave the guest as MMIO.
pub const MEM_READONLY: u32 = 2;
/// Number of memslots that a VM can have (`KVM_CAP_NR_MEMSLOTS`).
pub const MAX_MEMSLOTS: u32 = 32764;
/// Address spaces of a VM (`KVM_CAP_MULTI_ADDRESS_SPACE`): the second is that of system management mode.
pub const ADDRESS_SPACES: u32 = 2;
/// Where the number of the address space begins in the number of a memslot.
pub const ADDRESS_SPACE_SHIFT: u32 = 16;
/// One past the highest guest physical address that a memslot can have.
pub const MAX_GPA: u64 = 1 << 52;
