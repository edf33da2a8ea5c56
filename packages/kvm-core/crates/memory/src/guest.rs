//! The guest physical address space of a VM.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use kvm_abi::{Errno, KvmError};

use crate::region::Region;
use crate::{GuestRam, Memslot, PAGE_BYTES, SlotKeeper, SlotTable};

/// Who must hear of changes: the vCPUs, through the VM or the engine.
pub trait MemoryListener: Send + Sync {
    /// A new table was published. Returns when no vCPU uses the old one any more.
    fn slots_changed(&self);
    /// Something other than a vCPU wrote to pages that hold code.
    fn code_written(&self, gpa: u64, len: u64);
    /// Dirty bits were taken or cleared, and the caller has not seen them yet. Every vCPU must
    /// forget for which pages it has set the bit already; returns when all have. Only then may
    /// the caller read the pages: a write before that point is in what it reads, and a write
    /// after it sets the bit again.
    fn dirty_log_harvested(&self);
}

/// Memslots, dirty log and device access. Shared by the vCPUs, the irqchip and all isolates.
pub struct GuestMemory {
    table: RwLock<Arc<SlotTable>>,
    generation: AtomicU64,
    /// Held over a whole change, so that changes and harvests are in one order.
    change: Mutex<()>,
    manual_protect: AtomicBool,
    listeners: RwLock<Vec<Weak<dyn MemoryListener>>>,
    keeper: RwLock<Option<Arc<dyn SlotKeeper>>>,
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory").field("table", &self.table()).finish_non_exhaustive()
    }
}

impl GuestMemory {
    /// An empty address space.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            table: RwLock::default(),
            generation: AtomicU64::new(0),
            change: Mutex::default(),
            manual_protect: AtomicBool::new(false),
            listeners: RwLock::default(),
            keeper: RwLock::default(),
        })
    }

    /// The present memslots.
    #[must_use]
    pub fn table(&self) -> Arc<SlotTable> {
        self.present().clone()
    }

    /// Number of the present table.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// `KVM_SET_USER_MEMORY_REGION`: creates, moves, re-flags or (size 0) deletes a slot. All
    /// numbers are multiples of 4 KiB; `offset` counts from the start of `ram`. For an existing
    /// slot `ram` may be left out.
    ///
    /// # Errors
    /// `EEXIST` for an overlap, `EINVAL` for anything else that KVM refuses.
    pub fn set_user_memory_region(
        &self,
        slot: u32,
        gpa: u64,
        size: u64,
        flags: u32,
        ram: Option<Arc<GuestRam>>,
        offset: u64,
    ) -> Result<(), KvmError> {
        self.set_user_memory_regions([Region { slot, gpa, size, flags, ram, offset }])
    }

    /// Several changes, one after the other, of which vCPUs see all or none: memory that is deleted
    /// and created anew is never absent. A kernel that runs the guest has no such call: there a
    /// vCPU may see each.
    ///
    /// # Errors
    /// As [`set_user_memory_region`](Self::set_user_memory_region), and nothing has changed then; of
    /// changes that the kernel refuses, those before are made.
    pub fn set_user_memory_regions(
        &self,
        regions: impl IntoIterator<Item = Region>,
    ) -> Result<(), KvmError> {
        let _order = self.changing();
        let mut steps: Vec<(u32, Arc<SlotTable>)> = Vec::new();
        let mut table = self.table();
        for region in regions {
            let slot = region.slot;
            if let Some(new) = region.apply(&table)? {
                table = Arc::new(new);
                steps.push((slot, table.clone()));
            }
        }
        let keeper = self.keeper();
        let mut reached = None;
        let mut result = Ok(());
        for (slot, table) in steps {
            if let Some(keeper) = &keeper {
                result = keeper.set_slot(slot, table.by_number(slot).map(|slot| &**slot));
                if result.is_err() {
                    break;
                }
            }
            reached = Some(table);
        }
        if let Some(table) = reached {
            let generation = table.generation;
            *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
            self.generation.store(generation, Ordering::Release);
            self.tell(|l| l.slots_changed());
        }
        result
    }

    /// `KVM_GET_DIRTY_LOG`: one bit per page of the slot, rounded up to 64 pages. The bits are
    /// cleared unless [`set_manual_protect`](Self::set_manual_protect) is on.
    ///
    /// # Errors
    /// `ENOENT` if the slot does not exist or has no log.
    pub fn get_dirty_log(&self, slot: u32) -> Result<Vec<u8>, KvmError> {
        let _order = self.changing();
        let take = !self.manual_protect.load(Ordering::Relaxed);
        if let Some(keeper) = self.keeper() {
            let table = self.table();
            if let Some(kept) = table.by_number(slot).filter(|s| s.logs_dirty()) {
                let words = keeper.take_dirty(kept)?;
                self.logged(slot, |log| log.merge(&words))?;
            }
        }
        let bits = self.logged(slot, |log| log.collect(take))?;
        if take {
            self.tell(|l| l.dirty_log_harvested());
        }
        Ok(bits)
    }

    /// `KVM_CLEAR_DIRTY_LOG`: clears those of the `num_pages` pages from `first_page` on whose
    /// bits are set in `bitmap`.
    ///
    /// # Errors
    /// `ENOENT` as for `get_dirty_log`, `EINVAL` for a range that is not 64-page aligned or not
    /// inside the slot.
    pub fn clear_dirty_log(
        &self,
        slot: u32,
        first_page: u64,
        num_pages: u64,
        bitmap: &[u8],
    ) -> Result<(), KvmError> {
        let _order = self.changing();
        self.logged(slot, |log| log.clear(first_page, num_pages, bitmap))??;
        self.tell(|l| l.dirty_log_harvested());
        Ok(())
    }

    /// `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`: with `on`, `get_dirty_log` leaves the bits set.
    pub fn set_manual_protect(&self, on: bool) {
        self.manual_protect.store(on, Ordering::Relaxed);
    }

    /// Reports that a device wrote `len` bytes at `gpa`: feeds the dirty log and tells the engine
    /// about code pages. Parts outside RAM are ignored.
    pub fn mark_written(&self, gpa: u64, len: u64) {
        self.mark_all_written([(gpa, len)]);
    }

    /// [`mark_written`](Self::mark_written) for ranges of address and length, which costs little
    /// more than for one.
    pub fn mark_all_written(&self, ranges: impl IntoIterator<Item = (u64, u64)>) {
        let table = self.present();
        // Pairs with the engine, which flags a page before it reads the page's bytes as code.
        fence(Ordering::SeqCst);
        let mut code = Vec::new();
        for (gpa, len) in ranges {
            let end = gpa.saturating_add(len);
            for slot in &table.slots {
                let (from, to) = (gpa.max(slot.gpa), end.min(slot.end()));
                if from < to {
                    slot.mark_dirty(from, to - from);
                    code_pages(&table, slot, from, to, &mut code);
                }
            }
        }
        drop(table);
        for gpa in code {
            self.tell(|l| l.code_written(gpa, PAGE_BYTES));
        }
    }

    /// Gives the whole pages of a range back to the host, as far as they are in slots that the guest
    /// may write, and reports them as written. See [`GuestRam::discard`](crate::GuestRam::discard).
    ///
    /// # Errors
    /// The first that the host has met; the rest of the range was tried all the same.
    pub fn discard(&self, gpa: u64, len: u64) -> Result<(), KvmError> {
        let table = self.present();
        let end = gpa.saturating_add(len);
        let mut result = Ok(());
        for slot in table.slots.iter().filter(|slot| !slot.readonly()) {
            let (from, to) = (gpa.max(slot.gpa), end.min(slot.end()));
            if from < to {
                let done = slot.ram.discard(from - slot.gpa + slot.offset, to - from);
                result = result.and(done);
            }
        }
        drop(table);
        self.mark_written(gpa, len);
        result
    }

    /// Copies guest memory at `gpa` into `dst`. Aligned accesses of 2, 4 and 8 bytes are single.
    ///
    /// # Errors
    /// `EFAULT`, with nothing copied, if a part lies outside RAM.
    pub fn read(&self, gpa: u64, dst: &mut [u8]) -> Result<(), KvmError> {
        let to = dst.as_mut_ptr();
        let inside = self.present().pieces(gpa, dst.len() as u64, |slot, at, bytes, done| {
            // SAFETY: `pieces` cuts at the slot's end, `done + bytes` is at most `dst.len()`, and
            // the table that is borrowed holds the RAM.
            unsafe { copy(slot.host_ptr(at), to.add(done as usize), bytes as usize) }
        });
        inside.then_some(()).ok_or_else(|| outside(gpa, dst.len()))
    }

    /// Copies `src` into guest memory at `gpa` and reports it as `mark_written` does. A device
    /// may write to a read-only slot: that flag is for the guest.
    ///
    /// # Errors
    /// `EFAULT`, with nothing copied, if a part lies outside RAM.
    pub fn write(&self, gpa: u64, src: &[u8]) -> Result<(), KvmError> {
        let from = src.as_ptr();
        let inside = self.present().pieces(gpa, src.len() as u64, |slot, at, bytes, done| {
            // SAFETY: as in `read`, with the roles exchanged.
            unsafe { copy(from.add(done as usize), slot.host_ptr(at), bytes as usize) }
        });
        if !inside {
            return Err(outside(gpa, src.len()));
        }
        self.mark_written(gpa, src.len() as u64);
        Ok(())
    }

    /// Adds a listener; it leaves when its last `Arc` goes.
    pub fn add_listener(&self, listener: Weak<dyn MemoryListener>) {
        let mut all = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|l| l.strong_count() != 0);
        all.push(listener);
    }

    /// Has `keeper` mirror the slots from now on; none of them may exist yet. `None` ends it.
    pub fn set_keeper(&self, keeper: Option<Arc<dyn SlotKeeper>>) {
        *self.keeper.write().unwrap_or_else(PoisonError::into_inner) = keeper;
    }

    fn keeper(&self) -> Option<Arc<dyn SlotKeeper>> {
        self.keeper.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn present(&self) -> RwLockReadGuard<'_, Arc<SlotTable>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: impl Fn(&dyn MemoryListener)) {
        let all = self.listeners.read().unwrap_or_else(PoisonError::into_inner).clone();
        for listener in all.iter().filter_map(Weak::upgrade) {
            what(&*listener);
        }
    }

    fn logged<T>(
        &self,
        number: u32,
        f: impl FnOnce(&crate::dirty::DirtyBitmap) -> T,
    ) -> Result<T, KvmError> {
        let table = self.table();
        let slot = table
            .by_number(number)
            .ok_or_else(|| KvmError::new(Errno::ENOENT, format!("slot {number} does not exist")))?;
        let log = slot.dirty.as_ref().ok_or_else(|| {
            KvmError::new(Errno::ENOENT, format!("slot {number} does not log dirty pages"))
        })?;
        Ok(f(log))
    }
}

/// Collects all addresses, through any slot, of the flagged pages of `slot` in `[from, to)`.
fn code_pages(table: &SlotTable, slot: &Memslot, from: u64, to: u64, out: &mut Vec<u64>) {
    let mut page = from & !(PAGE_BYTES - 1);
    while page < to {
        if slot.page_flags(page).has_code() {
            out.extend(table.aliases(page));
        }
        page += PAGE_BYTES;
    }
}

fn outside(gpa: u64, len: usize) -> KvmError {
    KvmError::new(Errno::EFAULT, format!("{len} bytes at {gpa:#x} are not all in guest RAM"))
}

/// Copies bytes of which either side may be guest memory that a vCPU changes meanwhile.
///
/// # Safety
/// `from` and `to` are valid for `len` bytes. They may overlap: both can be guest memory.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    macro_rules! single {
        ($t:ty) => {{
            let (from, to) = (from.cast::<$t>(), to.cast::<$t>());
            // SAFETY: the caller vouches for both ranges, volatile access only where aligned, and
            // any bits are a value of the type.
            unsafe {
                let value =
                    if from.is_aligned() { from.read_volatile() } else { from.read_unaligned() };
                if to.is_aligned() {
                    to.write_volatile(value);
                } else {
                    to.write_unaligned(value);
                }
            }
        }};
    }
    match len {
        1 => single!(u8),
        2 => single!(u16),
        4 => single!(u32),
        8 => single!(u64),
        // SAFETY: the caller vouches for both ranges.
        _ => unsafe { ptr::copy(from, to, len) },
    }
}
