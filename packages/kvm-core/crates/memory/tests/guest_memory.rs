//! Memslots, device access, dirty log and listeners, as the VM and the engine use them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use kvm_abi::Errno;
use kvm_memory::{
    Backing, GuestMemory, GuestRam, MEM_LOG_DIRTY_PAGES, MEM_READONLY, MemoryListener, Region,
    SlotTable,
};

const KIB4: u64 = 4096;

fn ram(pages: usize) -> Arc<GuestRam> {
    GuestRam::new(pages * 4096, Backing::Anon).unwrap()
}

fn errno<T: std::fmt::Debug>(result: Result<T, kvm_abi::KvmError>) -> Errno {
    result.unwrap_err().errno
}

#[derive(Default)]
struct Recorder {
    calls: Mutex<Vec<String>>,
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl MemoryListener for Recorder {
    fn slots_changed(&self) {
        self.calls.lock().unwrap().push("slots".into());
    }
    fn code_written(&self, gpa: u64, len: u64) {
        self.calls.lock().unwrap().push(format!("code {gpa:#x} {len:#x}"));
    }
    fn dirty_log_harvested(&self) {
        self.calls.lock().unwrap().push("harvest".into());
    }
}

fn listen(memory: &GuestMemory) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder::default());
    let listener: Weak<dyn MemoryListener> = Arc::downgrade(&recorder) as _;
    memory.add_listener(listener);
    recorder
}

#[test]
fn ram_is_aligned_zeroed_and_fenced_by_guard_pages() {
    for backing in [Backing::Anon, Backing::Memfd] {
        let ram = GuestRam::new(3 << 20, backing).unwrap();
        assert_eq!(ram.as_ptr() as usize % (2 << 20), 0);
        assert_eq!(ram.len(), 3 << 20);
        assert_eq!(ram.fd().is_some(), backing == Backing::Memfd);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let (start, end) = (ram.as_ptr() as usize, ram.as_ptr() as usize + ram.len());
        assert!(maps.lines().any(|l| l.contains(&format!("-{start:x} ---p"))), "below");
        assert!(maps.lines().any(|l| l.starts_with(&format!("{end:x}-")) && l.contains("---p")));
        assert_eq!(ram.resident_bytes(), 0);
        // SAFETY: the first byte of the mapping.
        unsafe { ram.as_ptr().write_volatile(1) };
        assert!(ram.resident_bytes() >= KIB4);
    }
    assert_eq!(errno(GuestRam::new(0, Backing::Anon)), Errno::EINVAL);
    assert_eq!(errno(GuestRam::new(4097, Backing::Anon)), Errno::EINVAL);
    assert_eq!(errno(GuestRam::new(1 << 52, Backing::Anon)), Errno::ENOMEM);
    assert_eq!(errno(GuestRam::new(usize::MAX - 4095, Backing::Memfd)), Errno::ENOMEM);
}

#[test]
fn several_changes_are_one_for_those_who_look() {
    let memory = GuestMemory::new();
    let seen = listen(&memory);
    let block = ram(16);
    let region = |slot, gpa, pages: u64, flags| Region {
        slot,
        gpa,
        size: pages * KIB4,
        flags,
        ram: Some(block.clone()),
        offset: 0,
    };
    memory.set_user_memory_regions([region(1, 0, 4, 0), region(2, 0x4000, 4, 0)]).unwrap();
    assert_eq!(seen.take(), ["slots"]);
    // The same slot goes and comes back read-only.
    memory.set_user_memory_regions([region(1, 0, 0, 0), region(1, 0, 4, MEM_READONLY)]).unwrap();
    assert_eq!(seen.take(), ["slots"]);
    assert!(memory.table().find(0).unwrap().readonly());
    let generation = memory.generation();
    let bad = [region(1, 0, 0, 0), region(3, 0x4000, 1, 0)];
    assert_eq!(errno(memory.set_user_memory_regions(bad)), Errno::EEXIST);
    assert_eq!(memory.generation(), generation, "an error leaves all as it was");
    assert!(memory.table().find(0).is_some());
    memory.set_user_memory_regions([]).unwrap();
    assert_eq!(seen.take(), [""; 0]);
}

#[test]
fn slots_are_created_moved_reflagged_and_deleted() {
    let memory = GuestMemory::new();
    let seen = listen(&memory);
    let block = ram(16);
    let set = |slot, gpa, pages: u64, flags, offset: u64| {
        let ram = Some(block.clone());
        memory.set_user_memory_region(slot, gpa, pages * KIB4, flags, ram, offset * KIB4)
    };
    set(3, 0x10_0000, 8, 0, 4).unwrap();
    set(1, 0, 4, 0, 0).unwrap();
    let generation = memory.generation();
    set(1, 0, 4, 0, 0).unwrap();
    assert_eq!(memory.generation(), generation, "nothing changed");
    assert_eq!(seen.take(), ["slots", "slots"]);
    let old = memory.table();
    assert_eq!(old.slots().iter().map(|s| s.slot).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(old.find(0x10_7fff).unwrap().slot, 3);
    assert!(old.find(0x10_8000).is_none() && old.find(0xf_ffff).is_none());
    let at = old.find(0x10_1000).unwrap().host_ptr(0x10_1000) as usize;
    assert_eq!(at - block.as_ptr() as usize, 5 * 4096);

    assert_eq!(errno(set(2, 0x3000, 1, 0, 0)), Errno::EEXIST);
    assert_eq!(errno(set(3, 0x2000, 8, 0, 4)), Errno::EEXIST, "a move onto another slot");
    for bad in [set(3, 0x10_0000, 7, 0, 4), set(3, 0x10_0000, 8, MEM_READONLY, 4)] {
        assert_eq!(errno(bad), Errno::EINVAL, "size and read-only flag are fixed");
    }
    assert_eq!(errno(set(3, 0x10_0000, 8, 0, 5)), Errno::EINVAL, "so is the memory");
    assert_eq!(errno(set(40_000, 0x20_0000, 1, 0, 0)), Errno::EINVAL);
    assert_eq!(errno(set(5, 0x20_0000, 13, 0, 4)), Errno::EINVAL);
    assert_eq!(errno(set(5, u64::MAX - 0xfff, 1, 0, 0)), Errno::EINVAL);
    assert_eq!(errno(memory.set_user_memory_region(5, 0, KIB4, 0, None, 0)), Errno::EINVAL);
    assert_eq!(errno(memory.set_user_memory_region(9, 0, 0, 0, None, 0)), Errno::EINVAL);

    set(3, 0x30_0000, 8, MEM_LOG_DIRTY_PAGES, 4).unwrap();
    assert!(memory.table().find(0x10_0000).is_none());
    assert!(memory.table().find(0x30_0000).unwrap().logs_dirty());
    memory.set_user_memory_region(3, 0, 0, 0, None, 0).unwrap();
    assert!(memory.table().find(0x30_0000).is_none());
    assert_eq!(old.find(0x10_0000).unwrap().slot, 3, "who holds the old table keeps it");
}

#[test]
fn access_crosses_slots_and_stops_before_a_hole() {
    let memory = GuestMemory::new();
    memory.set_user_memory_region(0, 0, KIB4, 0, Some(ram(1)), 0).unwrap();
    memory.set_user_memory_region(1, KIB4, KIB4, MEM_READONLY, Some(ram(1)), 0).unwrap();
    let bytes: Vec<u8> = (0..100).collect();
    memory.write(KIB4 - 50, &bytes).unwrap();
    let mut back = vec![0; 100];
    memory.read(KIB4 - 50, &mut back).unwrap();
    assert_eq!(back, bytes);
    assert_eq!(errno(memory.write(2 * KIB4 - 99, &bytes)), Errno::EFAULT);
    let mut byte = [0xaa];
    memory.read(2 * KIB4 - 99, &mut byte).unwrap();
    assert_eq!(byte, [0], "a refused write writes nothing");
    assert_eq!(errno(memory.read(u64::MAX, &mut back)), Errno::EFAULT);
    assert_eq!(errno(memory.read(2 * KIB4, &mut byte)), Errno::EFAULT);
    memory.read(1 << 51, &mut []).unwrap();
    for len in [1, 2, 4, 8] {
        for at in [64, 67] {
            memory.write(at, &bytes[1..=len]).unwrap();
            memory.read(at, &mut back[..len]).unwrap();
            assert_eq!(back[..len], bytes[1..=len]);
        }
    }
}

#[test]
fn the_dirty_log_survives_what_keeps_it() {
    let memory = GuestMemory::new();
    let seen = listen(&memory);
    let block = ram(70);
    let set = |gpa, flags| {
        memory.set_user_memory_region(7, gpa, 70 * KIB4, flags, Some(block.clone()), 0)
    };
    assert_eq!(errno(memory.get_dirty_log(7)), Errno::ENOENT);
    set(0, 0).unwrap();
    memory.mark_written(0, KIB4);
    assert_eq!(errno(memory.get_dirty_log(7)), Errno::ENOENT);
    set(0, MEM_LOG_DIRTY_PAGES).unwrap();
    memory.mark_all_written([(3 * KIB4 + 5, KIB4), (0, 0), (69 * KIB4, 10 * KIB4)]);
    set(1 << 20, MEM_LOG_DIRTY_PAGES).unwrap();
    seen.take();
    let log = memory.get_dirty_log(7).unwrap();
    assert_eq!((log.len(), log[0], log[8]), (16, 0b1_1000, 0b10_0000));
    assert_eq!(seen.take(), ["harvest"]);
    assert_eq!(memory.get_dirty_log(7).unwrap(), vec![0; 16]);
    memory.set_manual_protect(true);
    memory.mark_written(1 << 20, 1);
    seen.take();
    assert_eq!(memory.get_dirty_log(7).unwrap()[0], 1);
    assert_eq!(memory.get_dirty_log(7).unwrap()[0], 1);
    assert_eq!(seen.take(), [""; 0], "nothing was cleared");
    memory.clear_dirty_log(7, 0, 64, &[1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(seen.take(), ["harvest"]);
    assert_eq!(memory.get_dirty_log(7).unwrap()[0], 0);
    assert_eq!(errno(memory.clear_dirty_log(7, 1, 1, &[0])), Errno::EINVAL);
}

#[test]
fn writes_to_code_pages_are_announced_at_every_alias() {
    let memory = GuestMemory::new();
    let block = ram(8);
    memory.set_user_memory_region(0, 0, 4 * KIB4, 0, Some(block.clone()), 0).unwrap();
    memory.set_user_memory_region(1, 0x8_0000, 4 * KIB4, 0, Some(block), 2 * KIB4).unwrap();
    let seen = listen(&memory);
    let table = memory.table();
    let _ = table.find(0x2000).unwrap().page_flags(0x2000).hold_code();
    memory.write(0x1ff0, &[0; 8]).unwrap();
    assert_eq!(seen.take(), [""; 0]);
    memory.write(0x1fff, &[0; 2]).unwrap();
    assert_eq!(seen.take(), ["code 0x2000 0x1000", "code 0x80000 0x1000"]);
    memory.mark_written(0x8_0000, 1);
    assert_eq!(seen.take().len(), 2);
    memory.mark_written(0, u64::MAX);
    assert_eq!(seen.take().len(), 4, "both slots were written as a whole");
    memory.mark_all_written([(0, 8), (0x2010, 8), (u64::MAX, 8), (0x8_0010, 0)]);
    assert_eq!(seen.take(), ["code 0x2000 0x1000", "code 0x80000 0x1000"]);
}

#[test]
fn tables_change_under_readers() {
    let memory = GuestMemory::new();
    let block = ram(4);
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = [0];
            while !stop.load(Ordering::Relaxed) {
                // Either table is right, a mixture never.
                if memory.read(0x1000, &mut byte).is_ok() {
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                let table = memory.table();
                assert!(table.slots().windows(2).all(|w| w[0].end() <= w[1].gpa));
            }
        });
        for round in 0..2000 {
            let gpa = if round % 2 == 0 { 0x1000 } else { 0x9000 };
            memory.set_user_memory_region(0, gpa, KIB4, 0, Some(block.clone()), 0).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(memory.generation(), 2000);
}

#[test]
fn whole_pages_go_back_to_the_host() {
    for backing in [Backing::Anon, Backing::Memfd] {
        let ram = GuestRam::new(1 << 20, backing).unwrap();
        ram.populate().unwrap();
        let memory = GuestMemory::new();
        let half = 1 << 19;
        memory.set_user_memory_region(0, 0, half, 0, Some(ram.clone()), 0).unwrap();
        let rom = Some(ram.clone());
        memory.set_user_memory_region(1, half, half, MEM_READONLY, rom, half).unwrap();
        memory.write(0, &[1; 5 * 4096]).unwrap();
        let before = ram.resident_bytes();
        memory.discard(100, 4 * KIB4).unwrap();
        assert_eq!(before - ram.resident_bytes(), 3 * KIB4);
        let mut bytes = vec![9; 5 * 4096];
        memory.read(0, &mut bytes).unwrap();
        assert!(bytes[..4096].iter().all(|byte| *byte == 1), "a part of a page stays");
        assert!(bytes[4096..4 * 4096].iter().all(|byte| *byte == 0));
        assert!(bytes[4 * 4096..].iter().all(|byte| *byte == 1));
        let before = ram.resident_bytes();
        memory.discard(1 << 19, 1 << 19).unwrap();
        memory.discard(1 << 40, u64::MAX).unwrap();
        memory.discard(0, 0).unwrap();
        assert_eq!(ram.resident_bytes(), before, "what the guest may not write stays");
        ram.discard(u64::MAX, 1).unwrap();
        ram.discard(0, u64::MAX).unwrap();
        assert_eq!(ram.resident_bytes(), 0);
    }
}

#[test]
fn a_second_address_space_lies_over_the_first_in_one_view() {
    const SMM: u32 = 1 << 16;
    let memory = GuestMemory::new();
    let (all, own) = (ram(4), ram(1));
    memory.set_user_memory_region(0, 0, 4 * KIB4, 0, Some(all.clone()), 0).unwrap();
    assert!(memory.table().other_view().is_none());
    memory.set_user_memory_region(SMM, KIB4, KIB4, 0, Some(own.clone()), 0).unwrap();
    memory.set_user_memory_region(SMM | 1, 8 * KIB4, KIB4, 0, Some(all.clone()), KIB4).unwrap();
    memory.set_user_memory_region(SMM | 2, 2 * KIB4, KIB4, 0, Some(all.clone()), 2 * KIB4).unwrap();

    let table = memory.table();
    let view = table.other_view().unwrap();
    assert!(view.in_smm() && !table.in_smm() && !view.other_view().unwrap().in_smm());
    let number = |table: &SlotTable, gpa| table.find(gpa).map(|slot| slot.slot);
    assert_eq!([0, KIB4, 8 * KIB4].map(|at| number(&table, at)), [Some(0), Some(0), None]);
    assert_eq!(
        [0, KIB4, 8 * KIB4].map(|at| number(&view, at)),
        [Some(0), Some(SMM), Some(SMM | 1)]
    );
    // The page at 2 shows the same memory in both.
    assert_eq!(view.differing().collect::<Vec<_>>(), [(KIB4, KIB4)]);
    assert_eq!(view.aliases(8 * KIB4).collect::<Vec<_>>(), [KIB4, 8 * KIB4]);
    assert_eq!(table.aliases(KIB4).collect::<Vec<_>>(), [KIB4]);
    // Devices see the first.
    memory.write(KIB4, &[5]).unwrap();
    let mut byte = [0];
    memory.read(KIB4, &mut byte).unwrap();
    assert_eq!((byte, errno(memory.read(8 * KIB4, &mut [0]))), ([5], Errno::EFAULT));

    let overlap = memory.set_user_memory_region(SMM | 9, KIB4, KIB4, 0, Some(own.clone()), 0);
    assert_eq!(errno(overlap), Errno::EEXIST);
    for slot in [2 << 16, SMM | 0xfffe] {
        let refused = memory.set_user_memory_region(slot, 16 * KIB4, KIB4, 0, Some(own.clone()), 0);
        assert_eq!(errno(refused), Errno::EINVAL);
    }
    for slot in [SMM, SMM | 1, SMM | 2] {
        memory.set_user_memory_region(slot, 0, 0, 0, None, 0).unwrap();
    }
    assert!(memory.table().other_view().is_none());
}
