//! Nothing of a VM outlives it. One test, so that no other thread of this process interferes.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::guests::{Guest, engines, guest};
use common::{Script, Step, eventually};
use kvm_abi::Errno;
use kvm_memory::{Backing, GuestRam};
use kvm_vm::{CLOSE_LIMIT, Phase, Space, ThreadOptions, Vm};

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn one_life(round: u32) {
    let vm = Vm::new(Script::new(&[Step::In(0x60)])).unwrap();
    vm.create_irqchip().unwrap();
    let ram = GuestRam::new(16 << 20, Backing::Anon).unwrap();
    vm.memory().set_user_memory_region(0, 0, 16 << 20, 1, Some(ram.clone()), 0).unwrap();
    for page in 0..4096 {
        vm.memory().write(page * 4096, &[1]).unwrap();
    }
    let posted = vm.create_vcpu(0).unwrap();
    let idle = vm.create_vcpu(1).unwrap();
    let host = vm.host(0).unwrap();
    host.bind(1, Duration::ZERO).unwrap();
    let irqfd = vm.irqfd(3, true, None).unwrap();
    irqfd.fd().unwrap();
    vm.ioeventfd(Space::Mmio, 0x1000, 4, None, 0, 0).unwrap().fd().unwrap();
    posted.start(ThreadOptions::default()).unwrap();
    eventually("the exit", || posted.phase() == Phase::Exit);
    idle.run_sync(1, Some(Duration::from_millis(1))).unwrap();
    assert_eq!(Vm::by_id(vm.id()).unwrap().id(), vm.id());
    if round.is_multiple_of(2) {
        assert!(vm.close_blocking(CLOSE_LIMIT));
        assert!(Vm::by_id(vm.id()).is_err());
    }
    let id = vm.id();
    drop((vm, posted, idle, irqfd, host));
    assert!(Vm::by_id(id).is_err());
    assert_eq!(Arc::strong_count(&ram), 1, "somebody still holds the RAM");
}

/// The same with engines that execute code: a guest that never exits is closed, and its
/// descriptors go though somebody still holds its handles.
fn lives_of_engines() {
    for (name, engine) in engines() {
        let mut before = 0;
        for round in 0..12 {
            let Guest { vm, vcpu, ram } = guest(&engine, true, &[0xeb, 0xfe]);
            let irqfd = vm.irqfd(3, true, Some(Arc::new(|| ()))).unwrap();
            let event = vm.ioeventfd(Space::Mmio, 0xd_0000, 4, None, 0, 0).unwrap();
            vcpu.start(ThreadOptions::default()).unwrap();
            eventually("the entry", || vcpu.stats().entries > 0);
            assert!(vm.close_blocking(CLOSE_LIMIT), "{name}");
            irqfd.close();
            if name == "host" {
                assert_eq!(vm.clock_data().unwrap_err().errno, Errno::EBADF);
            }
            drop((vcpu, event, irqfd));
            let open = count("/proc/self/fd");
            assert_eq!(Arc::strong_count(&ram), 1, "{name}: somebody still holds the RAM");
            drop((vm, ram));
            match round {
                0 => {}
                1 => before = open,
                _ => assert_eq!(open, before, "{name}: descriptors"),
            }
        }
    }
}

#[test]
fn a_hundred_vms_leave_nothing_behind() {
    for round in 0..4 {
        one_life(round);
    }
    let before = (count("/proc/self/fd"), count("/proc/self/task"), resident_kib());
    for round in 0..100 {
        one_life(round);
    }
    let after = (count("/proc/self/fd"), count("/proc/self/task"), resident_kib());
    assert_eq!(before.0, after.0, "descriptors");
    assert_eq!(before.1, after.1, "threads");
    assert!(after.2 < before.2 + 4096, "resident memory went from {} to {} KiB", before.2, after.2);
    lives_of_engines();
}
