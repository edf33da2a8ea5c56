//! Slots and the dirty log under a running vCPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvm_abi::exit::Exit;
use kvm_abi::regs::Dtable;
use kvm_cpu::engine::request;
use kvm_memory::{Backing, GuestRam, MEM_LOG_DIRTY_PAGES, MEM_READONLY};

use super::machine::{DEVICE, Machine, Mode, RAM, mmio};

/// Pages that the log names.
fn dirty(m: &Machine, slot: u32) -> Vec<usize> {
    let log = m.memory.get_dirty_log(slot).unwrap();
    (0..log.len() * 8).filter(|n| log[n / 8] >> (n % 8) & 1 != 0).collect()
}

/// A slot of RAM behind the first one.
fn add_slot(m: &Machine, pages: u64, flags: u32) -> Arc<GuestRam> {
    let ram = GuestRam::new((pages * 4096) as usize, Backing::Anon).unwrap();
    m.memory
        .set_user_memory_region(1, DEVICE, pages * 4096, flags, Some(Arc::clone(&ram)), 0)
        .unwrap();
    ram
}

#[test]
fn the_log_names_exactly_what_was_written() {
    // mov [rdi], eax; hlt
    let mut m = Machine::new(Mode::Protected32, &[0x89, 0x07, 0xf4]);
    add_slot(&m, 64, MEM_LOG_DIRTY_PAGES);
    let store = |m: &mut Machine, at: u64| {
        let rip = super::machine::CODE;
        m.set(|r| (r.rip, r.rdi) = (rip, DEVICE + at));
        m.resume();
        m.run_to_halt();
    };
    store(&mut m, 0x3000);
    store(&mut m, 0x3ffc);
    assert_eq!(dirty(&m, 1), [3]);
    assert_eq!(dirty(&m, 1), []);
    // Once more after the harvest, and across two pages.
    store(&mut m, 0x3008);
    store(&mut m, 0x8ffe);
    assert_eq!(dirty(&m, 1), [3, 8, 9]);
    // rep stosb over two and a half pages.
    m.write(super::machine::CODE, &[0xf3, 0xaa, 0xf4]);
    m.set(|r| (r.rcx, r.rax) = (0x2800, 1));
    store(&mut m, 0x1_0000);
    assert_eq!(dirty(&m, 1), [16, 17, 18]);
    // A device's write.
    m.write(DEVICE + 0x2_0000, &[1]);
    assert_eq!(dirty(&m, 1), [32]);
}

#[test]
fn page_tables_are_dirtied_by_the_walk() {
    // mov [rdi], eax; hlt, with 4 KiB pages for the second GiB.
    let mut m = Machine::new(Mode::Long, &[0x89, 0x07, 0xf4]);
    let tables = super::machine::PAGE_TABLES;
    add_slot(&m, 16, 0);
    m.write(tables + 0x1008, &(DEVICE + 0x1003).to_le_bytes());
    m.write(DEVICE + 0x1000, &(DEVICE + 0x2003).to_le_bytes());
    m.write(DEVICE + 0x2000, &(DEVICE + 0x3003).to_le_bytes());
    m.memory.set_user_memory_region(1, DEVICE, 16 * 4096, MEM_LOG_DIRTY_PAGES, None, 0).unwrap();
    m.set(|r| r.rdi = 1 << 30);
    m.run_to_halt();
    // Both tables got accessed bits, the page its content; nothing else did.
    assert_eq!(dirty(&m, 1), [1, 2, 3]);
    assert_eq!(m.read_u64(DEVICE + 0x2000) & 0x60, 0x60);
    assert_eq!(m.read_u64(DEVICE + 0x1000) & 0x60, 0x20);
}

#[test]
fn stores_to_a_read_only_slot_leave_the_guest() {
    // mov eax, [rdi]; mov [rdi], ebx; hlt
    let mut m = Machine::new(Mode::Long, &[0x8b, 0x07, 0x89, 0x1f, 0xf4]);
    add_slot(&m, 1, MEM_READONLY);
    m.write(DEVICE, &[1, 2, 3, 4]);
    m.set(|r| (r.rdi, r.rbx) = (DEVICE, 0x0807_0605));
    assert_eq!(m.vcpu.run(), mmio(true, DEVICE, &[5, 6, 7, 8]));
    assert_eq!(m.run_to_halt().rax, 0x0403_0201);
    assert_eq!(m.read(DEVICE, 4), [1, 2, 3, 4]);
}

#[test]
fn a_deleted_slot_is_a_device_at_once() {
    // l: inc dword ptr [rdi]; jmp l
    let mut m = Machine::new(Mode::Long, &[0xff, 0x07, 0xeb, 0xfc]);
    m.set(|r| r.rdi = DEVICE);
    let (memory, requests) = (Arc::clone(&m.memory), Arc::clone(&m.requests));
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicBool::new(false));
    let runner = std::thread::spawn({
        let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
        move || {
            while !stop.load(Ordering::SeqCst) {
                match m.vcpu.run() {
                    Exit::Mmio { write, gpa: DEVICE, .. } => {
                        seen.store(true, Ordering::SeqCst);
                        if !write {
                            m.vcpu.complete_read(&[0; 4]);
                        }
                    }
                    Exit::Intr => {}
                    exit => panic!("{exit:?}"),
                }
            }
        }
    });
    let ram = GuestRam::new(4096, Backing::Anon).unwrap();
    let counter = || {
        // SAFETY: the RAM lives, and the vCPU's stores are machine stores.
        unsafe { ram.as_ptr().cast::<u32>().read_volatile() }
    };
    // On a busy host the vCPU may not have run at all in so many rounds.
    for round in 0..50_000 {
        if round >= 200 && seen.load(Ordering::SeqCst) && counter() > 0 {
            break;
        }
        memory.set_user_memory_region(1, DEVICE, 4096, 0, Some(Arc::clone(&ram)), 0).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(200));
        memory.set_user_memory_region(1, DEVICE, 0, 0, None, 0).unwrap();
        // Nobody writes to it from the moment the call returns.
        let now = counter();
        std::thread::yield_now();
        assert_eq!(counter(), now);
    }
    stop.store(true, Ordering::SeqCst);
    requests.raise(request::EXIT);
    runner.join().unwrap();
    assert!(seen.load(Ordering::SeqCst));
    assert!(counter() > 0);
}

#[test]
fn a_moved_slot_is_found_at_its_new_place() {
    // mov eax, [rdi]; hlt
    let mut m = Machine::new(Mode::Protected32, &[0x8b, 0x07, 0xf4]);
    add_slot(&m, 1, 0);
    m.write(DEVICE, &[9, 0, 0, 0]);
    m.set(|r| r.rdi = DEVICE);
    assert_eq!(m.run_to_halt().rax, 9);
    m.memory.set_user_memory_region(1, DEVICE + 0x5000, 4096, 0, None, 0).unwrap();
    for (at, device) in [(DEVICE, true), (DEVICE + 0x5000, false)] {
        m.set(|r| (r.rip, r.rdi, r.rax) = (super::machine::CODE, at, 0));
        m.resume();
        if device {
            assert_eq!(m.vcpu.run(), mmio(false, DEVICE, &[0; 4]));
            m.vcpu.complete_read(&[3, 0, 0, 0]);
        }
        assert_eq!(m.run_to_halt().rax, if device { 3 } else { 9 });
    }
}

#[test]
fn a_triple_fault_shuts_down() {
    for mode in super::machine::ALL_MODES {
        // ud2 without a table of handlers
        let mut m = Machine::new(mode, &[0x0f, 0x0b]);
        let mut s = m.vcpu.sregs();
        s.idt = Dtable { base: RAM - 4096, limit: 0 };
        m.vcpu.set_sregs(&s).unwrap();
        assert_eq!(m.vcpu.run(), Exit::Shutdown, "{mode:?}");
    }
}
