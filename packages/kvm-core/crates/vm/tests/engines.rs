//! The same guests on every engine: the exits, pages and events are the same.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::eventually;
use common::guests::{
    CODE, Guest, ISOLATE, engines, guest, guest_with, long_mode, outs, port_access,
};
use kvm_abi::control;
use kvm_abi::exit::{reason, run};
use kvm_abi::regs::{GuestDebug, MpState, Regs, guestdbg};
use kvm_memory::{MEM_LOG_DIRTY_PAGES, MEM_READONLY};
use kvm_vm::{CLOSE_LIMIT, Phase, Resampled, RouteKind, Space, ThreadOptions, Vcpu};

const SECOND: Option<Duration> = Some(Duration::from_secs(5));

/// Runs to the next exit that is not a time-out.
fn next(vcpu: &Vcpu) -> u32 {
    vcpu.run_sync(ISOLATE, SECOND).unwrap()
}

#[test]
fn a_real_mode_loop_exits_for_ports_and_memory() {
    #[rustfmt::skip]
    let code = [
        0xba, 0x10, 0x00,       // mov dx, 0x10
        0xb9, 0x03, 0x00,       // mov cx, 3
        0x88, 0xc8,             // again: mov al, cl
        0xee,                   // out dx, al
        0xec,                   // in al, dx
        0xa2, 0x00, 0x05,       // mov [0x500], al
        0xe2, 0xf7,             // loop again
        0xb8, 0x00, 0xd0,       // mov ax, 0xd000
        0x8e, 0xc0,             // mov es, ax
        0x26, 0xa1, 0x34, 0x12, // mov ax, es:[0x1234]
        0x26, 0xa3, 0x36, 0x12, // mov es:[0x1236], ax
        0xf4,                   // hlt
    ];
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest(&engine, false, &code);
        let page = vcpu.page().clone();
        for left in [3, 2, 1] {
            assert_eq!(next(&vcpu), reason::IO, "{name}");
            let (port, size, count, at) = port_access(&vcpu);
            assert_eq!((port, size, count), (0x10, 1, 1), "{name}");
            assert_eq!(page.get(run::IO_DIRECTION), [1], "{name}");
            assert_eq!(page.get(at), [left], "{name}");
            assert_eq!(next(&vcpu), reason::IO, "{name}");
            assert_eq!(page.get(run::IO_DIRECTION), [0], "{name}");
            page.set(port_access(&vcpu).3, &[0x40 + left]);
        }
        assert_eq!(next(&vcpu), reason::MMIO, "{name}");
        assert_eq!(u64::from_le_bytes(page.get(run::MMIO_PHYS_ADDR)), 0xd_1234, "{name}");
        assert_eq!((page.get(run::MMIO_LEN), page.get(run::MMIO_IS_WRITE)), ([2], [0]), "{name}");
        page.set(run::MMIO_DATA, &[0xcd, 0xab]);
        assert_eq!(next(&vcpu), reason::MMIO, "{name}");
        assert_eq!(u64::from_le_bytes(page.get(run::MMIO_PHYS_ADDR)), 0xd_1236, "{name}");
        assert_eq!((page.get(run::MMIO_DATA), page.get(run::MMIO_IS_WRITE)), ([0xcd, 0xab], [1]));
        assert_eq!(next(&vcpu), reason::HLT, "{name}");
        let mut byte = [0];
        vm.memory().read(0x500, &mut byte).unwrap();
        assert_eq!(byte, [0x41], "{name}");
    }
}

#[test]
fn string_output_is_one_exit_with_a_count_or_many() {
    #[rustfmt::skip]
    let code = [
        0xbe, 0x00, 0x07,       // mov si, 0x700
        0xb9, 0x05, 0x00,       // mov cx, 5
        0xba, 0xf8, 0x03,       // mov dx, 0x3f8
        0xfc, 0xf3, 0x6e,       // cld; rep outsb
        0xf4,                   // hlt
    ];
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest(&engine, false, &code);
        vm.memory().write(0x700, b"hello").unwrap();
        let mut seen = Vec::new();
        loop {
            match next(&vcpu) {
                reason::IO => {
                    let (port, size, count, at) = port_access(&vcpu);
                    assert_eq!((port, size), (0x3f8, 1), "{name}");
                    for i in 0..count as usize {
                        seen.push(vcpu.page().get::<1>(at + i)[0]);
                    }
                }
                reason::HLT => break,
                other => panic!("{name}: exit {other}"),
            }
        }
        assert_eq!(seen, b"hello", "{name}");

        // The same into a ring, without an exit.
        let Guest { vm, vcpu, .. } = guest(&engine, false, &code);
        vm.memory().write(0x700, b"hello").unwrap();
        vm.route(Space::Pio, 0x3f8, 1, RouteKind::Posted, None, 0).unwrap();
        assert_eq!(next(&vcpu), reason::HLT, "{name}");
        let host = vm.host(0).unwrap();
        let tail = host.page().u32(control::POSTED + control::POSTED_TAIL);
        assert_eq!(tail.load(Ordering::SeqCst), 5, "{name}");
        assert_eq!(vcpu.stats().kernel_exits, 5, "{name}");
    }
}

#[test]
fn long_mode_runs_64_bit_code() {
    #[rustfmt::skip]
    let code = [
        0x48, 0xb8, 1, 2, 3, 4, 0x5a, 6, 7, 8, // mov rax, 0x080706_5a04030201
        0x48, 0xc1, 0xe8, 0x20,                 // shr rax, 32
        0xe6, 0x10,                             // out 0x10, al
        0xf4,                                   // hlt
    ];
    for (name, engine) in engines() {
        let g = guest(&engine, false, &code);
        long_mode(&g, CODE);
        assert_eq!(next(&g.vcpu), reason::IO, "{name}");
        assert_eq!(g.vcpu.page().get(port_access(&g.vcpu).3), [0x5a], "{name}");
        let (regs, gpa) = g.vcpu.with_engine(|e| Ok((e.regs(), e.translate(0x1234)))).unwrap();
        assert_eq!((regs.rax, gpa), (0x0807_065a, Some(0x1234)), "{name}");
        assert_eq!(next(&g.vcpu), reason::HLT, "{name}");
    }
}

/// A guest that takes IRQ 5 from the PIC, whose handler writes to port 0x11. It says on port 0x12
/// when it is ready.
fn interrupted(engine: &kvm_vm::Engine, level: bool) -> Guest {
    let mut code = outs(&[(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0)]);
    if level {
        code.extend([0xba, 0xd0, 0x04, 0xb0, 0x20, 0xee]); // ELCR: IRQ 5 is a level
    }
    code.extend([0xe6, 0x12, 0xfb, 0xf4, 0xeb, 0xfc]); // out 0x12, al; sti; hlt; jmp
    let g = guest(engine, true, &code);
    g.vm.memory().write(0x0d * 4, &[0x00, 0x70, 0, 0]).unwrap();
    let handler = [0xe6, 0x11, 0xb0, 0x20, 0xe6, 0x20, 0xcf]; // out 0x11, al; EOI; iret
    g.vm.memory().write(0x7000, &handler).unwrap();
    assert_eq!(next(&g.vcpu), reason::IO);
    assert_eq!(port_access(&g.vcpu).0, 0x12);
    g
}

#[test]
fn interrupts_reach_a_halted_guest() {
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = interrupted(&engine, false);
        let sleeping = |what: &str| {
            let why = vcpu.run_sync(ISOLATE, Some(Duration::from_millis(200))).unwrap();
            assert_eq!(why, reason::INTR, "{name}: {what}");
        };
        let taken = |what: &str| {
            assert_eq!(next(&vcpu), reason::IO, "{name}: {what}");
            assert_eq!(port_access(&vcpu).0, 0x11, "{name}: {what}");
        };
        sleeping("nothing came yet");
        // First, as an irqfd may still hold the line for a moment after the guest was interrupted.
        let chip = vm.irqchip().unwrap();
        chip.irq_line(5, true).unwrap();
        chip.irq_line(5, false).unwrap();
        taken("irq_line");
        let irqfd = vm.irqfd(5, false, None).unwrap();
        irqfd.trigger();
        taken("trigger");
        let (raw, one) = (irqfd.fd().unwrap(), 1u64);
        // SAFETY: eight bytes of a live variable, written to an eventfd that is open.
        unsafe { libc::write(raw, (&raw const one).cast(), 8) };
        taken("eventfd");
        irqfd.close();
        irqfd.trigger();
        if name == "host" {
            sleeping("the kernel has forgotten it");
        }
    }
}

#[test]
fn a_level_is_held_until_the_guest_acknowledges_it() {
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = interrupted(&engine, true);
        let told = Arc::new(AtomicU32::new(0));
        let counter = told.clone();
        let notify: Resampled = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let irqfd = vm.irqfd(5, true, Some(notify)).unwrap();
        irqfd.trigger();
        assert_eq!(next(&vcpu), reason::IO, "{name}");
        assert_eq!(port_access(&vcpu).0, 0x11, "{name}");
        assert_eq!(told.load(Ordering::SeqCst), 0, "{name}: before the EOI");
        let why = vcpu.run_sync(ISOLATE, Some(Duration::from_millis(300))).unwrap();
        assert_eq!(why, reason::INTR, "{name}: once, as the line was lowered");
        eventually("the acknowledgement", || told.load(Ordering::SeqCst) == 1);
    }
}

#[test]
fn ioeventfds_signal_without_an_exit() {
    #[rustfmt::skip]
    let code = [
        0xb0, 0x01, 0xe6, 0x40,             // out 0x40, 1
        0xb0, 0x02, 0xe6, 0x40,             // out 0x40, 2
        0xb8, 0x00, 0xd0, 0x8e, 0xd8,       // mov ds, 0xd000
        0xc7, 0x06, 0x00, 0x00, 0x03, 0x00, // mov word [0], 3
        0xf4,                               // hlt
    ];
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest(&engine, false, &code);
        let host = vm.host(0).unwrap();
        let bits = || host.page().u32(control::IOEVENT_BITMAP).load(Ordering::SeqCst);
        let port = vm.ioeventfd(Space::Pio, 0x40, 1, Some(1), 3, 0).unwrap();
        let word = vm.ioeventfd(Space::Mmio, 0xd_0000, 0, None, 7, 0).unwrap();
        assert!(vm.ioeventfd(Space::Pio, 0x40, 1, None, 4, 0).is_err(), "{name}");
        let user = word.fd().unwrap();
        assert_eq!(next(&vcpu), reason::IO, "{name}: the 2 does not match");
        assert_eq!(vcpu.page().get(port_access(&vcpu).3), [2], "{name}");
        assert_eq!(next(&vcpu), reason::HLT, "{name}");
        eventually("both bits", || bits() == (1 << 3 | 1 << 7));
        assert_eq!(user.take(), 1, "{name}");
        vm.remove_ioeventfd(&port);
        vcpu.with_engine(|e| e.set_regs(&Regs { rip: CODE, rflags: 2, ..Regs::default() }))
            .unwrap();
        assert_eq!(next(&vcpu), reason::IO, "{name}");
        assert_eq!(vcpu.page().get(port_access(&vcpu).3), [1], "{name}: it was removed");
    }
}

#[test]
fn the_dirty_log_has_the_pages_of_guest_and_devices() {
    // mov [0x1000], al; mov [0x5000], al; hlt
    let code = [0xa2, 0x00, 0x10, 0xa2, 0x00, 0x50, 0xf4];
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest_with(&engine, false, &code, MEM_LOG_DIRTY_PAGES);
        let memory = vm.memory();
        memory.get_dirty_log(0).unwrap();
        let pages = |bits: &[u8]| -> Vec<usize> {
            (0..bits.len() * 8).filter(|i| bits[i / 8] >> (i % 8) & 1 != 0).collect()
        };
        let log = || pages(&memory.get_dirty_log(0).unwrap());
        let again = || {
            vcpu.with_engine(|e| e.set_regs(&Regs { rip: CODE, rflags: 2, ..Regs::default() }))
                .unwrap();
            assert_eq!(next(&vcpu), reason::HLT, "{name}");
        };
        // A kernel may count the first execution of a page as a write.
        again();
        log();
        again();
        memory.mark_written(0x9000, 1);
        assert_eq!(log(), [1, 5, 9], "{name}");
        assert!(log().is_empty(), "{name}");
        memory.set_manual_protect(true);
        again();
        assert_eq!(log(), [1, 5], "{name}");
        assert_eq!(log(), [1, 5], "{name}: not cleared by reading");
        memory.clear_dirty_log(0, 0, 64, &[2, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(log(), [5], "{name}");
        again();
        assert_eq!(log(), [1, 5], "{name}: written again");
    }
}

#[test]
fn a_write_to_a_read_only_slot_exits() {
    // mov ds, 0xe000; mov al, [0]; mov [1], al; hlt
    let code = [0xb8, 0x00, 0xe0, 0x8e, 0xd8, 0xa0, 0x00, 0x00, 0xa2, 0x01, 0x00, 0xf4];
    for (name, engine) in engines() {
        let Guest { vm, vcpu, ram } = guest(&engine, false, &code);
        let memory = vm.memory();
        memory
            .set_user_memory_region(1, 0xe_0000, 0x1000, MEM_READONLY, Some(ram), 0x9_0000)
            .unwrap();
        memory.write(0xe_0000, &[0x77]).unwrap();
        assert_eq!(next(&vcpu), reason::MMIO, "{name}");
        let page = vcpu.page();
        assert_eq!(u64::from_le_bytes(page.get(run::MMIO_PHYS_ADDR)), 0xe_0001, "{name}");
        assert_eq!(page.get(run::MMIO_DATA), [0x77], "{name}");
        assert_eq!(next(&vcpu), reason::HLT, "{name}");
        memory.set_user_memory_region(1, 0, 0, 0, None, 0).unwrap();
        vcpu.with_engine(|e| e.set_regs(&Regs { rip: CODE, rflags: 2, ..Regs::default() }))
            .unwrap();
        assert_eq!(next(&vcpu), reason::MMIO, "{name}: the slot is gone");
        assert_eq!(page.get(run::MMIO_IS_WRITE), [0], "{name}");
    }
}

#[test]
fn a_running_guest_is_kicked_paused_and_stopped() {
    let code = [0x66, 0x40, 0xeb, 0xfc]; // inc eax; jmp
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest(&engine, true, &code);
        let wait = |order: &dyn Fn(kvm_vm::Done)| {
            let (tx, rx) = channel();
            order(Box::new(move || tx.send(()).unwrap()));
            rx.recv_timeout(Duration::from_secs(10)).unwrap();
        };
        vcpu.start(ThreadOptions::default()).unwrap();
        let mut last = 0;
        // On a slow machine the first kicks come before the guest has executed anything.
        for round in 0..10_000 {
            if last > 0 && round >= 20 {
                break;
            }
            std::thread::yield_now();
            wait(&|done| vcpu.pause(done));
            assert_eq!(vcpu.phase(), Phase::Paused, "{name}");
            let rax = vcpu.with_engine(|e| Ok(e.regs().rax)).unwrap();
            last = u64::max(last, rax);
            vcpu.resume().unwrap();
            for _ in 0..10 {
                vcpu.kick();
            }
        }
        assert!(last > 0, "{name}: it ran");
        wait(&|done| vcpu.stop(done));
        assert_eq!(vcpu.phase(), Phase::Idle, "{name}");
        // On this thread, with a time limit and with immediate_exit.
        let why = vcpu.run_sync(ISOLATE, Some(Duration::from_millis(20))).unwrap();
        assert_eq!(why, reason::INTR, "{name}");
        vcpu.page().set(run::IMMEDIATE_EXIT, &[1]);
        for _ in 0..3 {
            assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::INTR, "{name}");
        }
        vcpu.page().set(run::IMMEDIATE_EXIT, &[0]);
        vcpu.start(ThreadOptions::default()).unwrap();
        assert!(vm.close_blocking(CLOSE_LIMIT), "{name}");
    }
}

#[test]
fn pause_completes_the_instruction_whose_exit_waits() {
    let code = [0xe4, 0x60, 0xa2, 0x00, 0x05, 0xeb, 0xfe]; // in al, 0x60; mov [0x500], al; jmp
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest(&engine, true, &code);
        let host = vm.host(0).unwrap();
        host.bind(ISOLATE, Duration::ZERO).unwrap();
        vcpu.start(ThreadOptions::default()).unwrap();
        eventually("the exit", || vcpu.phase() == Phase::Exit);
        let (tx, rx) = channel();
        vcpu.pause(Box::new(move || tx.send(()).unwrap()));
        vcpu.page().set(port_access(&vcpu).3, &[0x66]);
        assert!(host.complete(0), "{name}");
        rx.recv_timeout(Duration::from_secs(10)).unwrap();
        let (regs, pending) = vcpu.with_engine(|e| Ok((e.regs(), e.io_pending()))).unwrap();
        assert_eq!((regs.rax & 0xff, pending), (0x66, false), "{name}");
        assert!(regs.rip >= CODE + 2, "{name}");
        vcpu.resume().unwrap();
        assert!(vm.close_blocking(CLOSE_LIMIT), "{name}");
    }
}

#[test]
fn a_debugger_steps_and_an_nmi_arrives() {
    let code = [0x90, 0x90, 0xf4, 0xe6, 0x13, 0xf4]; // nop; nop; hlt; out 0x13, al; hlt
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest(&engine, true, &code);
        let debug = |control| {
            vcpu.with_engine(|e| e.set_guest_debug(&GuestDebug { control, debugreg: [0; 8] }))
                .unwrap();
        };
        debug(guestdbg::ENABLE | guestdbg::SINGLESTEP);
        for at in [1, 2] {
            assert_eq!(next(&vcpu), reason::DEBUG, "{name}");
            let pc = u64::from_le_bytes(vcpu.page().get(run::DEBUG_PC));
            assert_eq!(pc, CODE + at, "{name}");
        }
        debug(0);
        let why = vcpu.run_sync(ISOLATE, Some(Duration::from_millis(50))).unwrap();
        assert_eq!(why, reason::INTR, "{name}: halted");
        vm.memory().write(2 * 4, &[0x00, 0x70, 0, 0]).unwrap();
        vm.memory().write(0x7000, &[0xcf]).unwrap();
        vcpu.nmi();
        assert_eq!(next(&vcpu), reason::IO, "{name}");
        assert_eq!(port_access(&vcpu).0, 0x13, "{name}");
    }
}

#[test]
fn a_second_vcpu_starts_by_init_and_sipi() {
    let code = [0xf4, 0xeb, 0xfd]; // hlt; jmp
    for (name, engine) in engines() {
        let Guest { vm, .. } = guest(&engine, true, &code);
        let ap = vm.create_vcpu(1).unwrap();
        vm.memory().write(0x8000, &[0xb0, 0x77, 0xe6, 0x14, 0xf4]).unwrap(); // out 0x14, 0x77
        let state = |vcpu: &Vcpu| vcpu.with_engine(|e| Ok(e.mp_state())).unwrap();
        assert_eq!(state(&ap), MpState::Uninitialized, "{name}");
        let why = ap.run_sync(ISOLATE, Some(Duration::from_millis(50))).unwrap();
        assert_eq!(why, reason::INTR, "{name}: it waits");
        // An INIT and a SIPI with vector 8, as messages to APIC 1.
        let chip = vm.irqchip().unwrap();
        assert_eq!(chip.signal_msi(0xfee0_1000, 0x500).unwrap(), 1, "{name}");
        let _ = ap.run_sync(ISOLATE, Some(Duration::from_millis(50))).unwrap();
        assert_eq!(chip.signal_msi(0xfee0_1000, 0x608).unwrap(), 1, "{name}");
        assert_eq!(next(&ap), reason::IO, "{name}");
        assert_eq!(port_access(&ap).0, 0x14, "{name}");
        assert_eq!(ap.page().get(port_access(&ap).3), [0x77], "{name}");
        assert_eq!(state(&ap), MpState::Runnable, "{name}");
    }
}
