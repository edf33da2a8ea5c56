//! vCPUs on the calling thread and on their own, with a scripted engine.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{Script, Step, eventually, io};
use kvm_abi::control::{self, slot, state};
use kvm_abi::exit::{Exit, RUN_PIO_DATA_OFFSET, reason, run};
use kvm_abi::regs::Regs;
use kvm_abi::{Clock, Errno};
use kvm_vm::{CLOSE_LIMIT, Host, Phase, RouteKind, Space, ThreadOptions, Vcpu, Vm};

const ISOLATE: u64 = 7;

fn vm(steps: &[Step], irqchip: bool) -> (Arc<Vm>, Arc<Vcpu>, Arc<Script>) {
    let script = Script::new(steps);
    let vm = Vm::new(script.clone()).unwrap();
    if irqchip {
        vm.create_irqchip().unwrap();
    }
    let vcpu = vm.create_vcpu(0).unwrap();
    (vm, vcpu, script)
}

fn reason_in(vcpu: &Vcpu) -> u32 {
    u32::from_le_bytes(vcpu.page().get(run::EXIT_REASON))
}

/// Answers exits of `host` on a thread of its own until the VM closes.
fn serve(host: Arc<Host>, vcpu: Arc<Vcpu>, answer: u8) -> std::thread::JoinHandle<u32> {
    host.bind(ISOLATE, Duration::from_micros(50)).unwrap();
    std::thread::spawn(move || {
        let mut served = 0;
        while host.page().u32(control::CLOSED).load(Ordering::SeqCst) == 0 {
            host.doorbell().take();
            if host.page().u32(control::PENDING).swap(0, Ordering::SeqCst) != 0 {
                vcpu.page().set(RUN_PIO_DATA_OFFSET, &[answer]);
                assert!(host.complete(0));
                served += 1;
            } else if host.rearm() {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        served
    })
}

#[test]
fn exits_fill_the_page_and_reads_are_answered_from_it() {
    let (_vm, vcpu, script) = vm(
        &[
            Step::Exit(io(true, 0x10, 0x55)),
            Step::Exit(io(false, 0x20, 0)),
            Step::Exit(Exit::Mmio { write: false, gpa: 0xd000_0000_1234, len: 8, data: [0; 8] }),
            Step::Exit(Exit::Hypercall { nr: 12, args: [1, 2, 3, 4, 0, 0] }),
            Step::Exit(Exit::Shutdown),
        ],
        false,
    );
    let page = vcpu.page().clone();
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO);
    assert_eq!(page.get(run::IO_DIRECTION), [1, 1]);
    assert_eq!(page.get(run::IO_PORT), [0x10, 0]);
    assert_eq!(page.get(run::IO_COUNT), [1, 0, 0, 0]);
    assert_eq!(page.get(RUN_PIO_DATA_OFFSET), [0x55]);
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO);
    assert_eq!(page.get(run::IO_DIRECTION), [0, 1]);
    page.set(RUN_PIO_DATA_OFFSET, &[0xab]);
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::MMIO);
    assert_eq!(u64::from_le_bytes(page.get(run::MMIO_PHYS_ADDR)), 0xd000_0000_1234);
    page.set(run::MMIO_DATA, &0x1122_3344_5566_7788u64.to_le_bytes());
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::HYPERCALL);
    assert_eq!(script.answers(), [0xab, 0x1122_3344_5566_7788]);
    page.set(run::HYPERCALL_RET, &99u64.to_le_bytes());
    page.set(run::KVM_VALID_REGS, &1u64.to_le_bytes());
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::SHUTDOWN);
    assert_eq!(reason_in(&vcpu), reason::SHUTDOWN);
    assert_eq!(u64::from_le_bytes(page.get(run::SYNC_REGS)), 99, "RAX in the synced registers");
    assert_eq!(vcpu.stats().exits, 5);
}

#[test]
fn immediate_exit_kick_and_timeout_leave_the_guest() {
    let (_vm, vcpu, _) = vm(&[], true);
    vcpu.page().set(run::IMMEDIATE_EXIT, &[1]);
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::INTR);
    vcpu.page().set(run::IMMEDIATE_EXIT, &[0]);
    vcpu.kick();
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::INTR);
    let start = Instant::now();
    assert_eq!(vcpu.run_sync(ISOLATE, Some(Duration::from_millis(20))).unwrap(), reason::INTR);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(vcpu.run_sync(ISOLATE, Some(Duration::ZERO)).unwrap(), reason::INTR);
}

#[test]
fn hlt_sleeps_with_an_irqchip_and_exits_without() {
    let (_vm, vcpu, _) = vm(&[Step::Halt], false);
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::HLT);

    let (vm, vcpu, _) = vm(&[Step::Halt, Step::Halt, Step::Exit(io(true, 1, 1))], true);
    let chip = vm.irqchip().unwrap().own().unwrap().clone();
    let msi = |gsi, data| kvm_irqchip::Route {
        gsi,
        target: kvm_irqchip::RouteTarget::Msi { addr: 0xfee0_0000, data },
    };
    chip.set_gsi_routing(&[msi(1, 0x41), msi(2, 0x51)]).unwrap();
    // A software-enabled APIC takes interrupts; only the wake-up matters here.
    chip.lapic(0).unwrap().mmio_write(0xf0, &0x1ffu32.to_le_bytes());
    let (own, foreign) = (vm.irqfd(1, false, None).unwrap(), vm.irqfd(2, false, None).unwrap());
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        own.trigger();
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(chip.ack_interrupt(0), Some(0x41));
        let (raw, one) = (foreign.fd().unwrap(), 1u64);
        // SAFETY: eight bytes of a live variable, written to an eventfd that is open.
        unsafe { libc::write(raw, (&raw const one).cast(), 8) };
        std::thread::sleep(Duration::from_millis(50));
    });
    let start = Instant::now();
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(vcpu.stats().halts, 2);
    waker.join().unwrap();
}

#[test]
fn a_timer_of_the_irqchip_wakes_a_halted_vcpu() {
    let (vm, vcpu, _) = vm(&[Step::Halt, Step::Exit(Exit::Shutdown)], true);
    let lapic = vm.irqchip().unwrap().own().unwrap().lapic(0).unwrap();
    lapic.mmio_write(0xf0, &0x1ffu32.to_le_bytes());
    lapic.mmio_write(0x3e0, &0xbu32.to_le_bytes());
    lapic.mmio_write(0x320, &0x40u32.to_le_bytes());
    lapic.mmio_write(0x380, &30_000_000u32.to_le_bytes());
    let start = vm.clock().now_ns();
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::SHUTDOWN);
    let slept = vm.clock().now_ns() - start;
    assert!((25_000_000..1_000_000_000).contains(&slept), "slept {slept} ns");
}

#[test]
fn work_for_the_isolate_ends_run_sync() {
    let (vm, vcpu, _) = vm(&[Step::Out(0x40, 1), Step::Spin], false);
    let host = vm.host(0).unwrap();
    host.bind(ISOLATE, Duration::ZERO).unwrap();
    vm.ioeventfd(Space::Pio, 0x40, 1, None, 5, 0).unwrap();
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::INTR);
    assert_eq!(host.page().u32(control::IOEVENT_BITMAP).load(Ordering::SeqCst), 1 << 5);
    // Still waiting: the next entry returns at once as well.
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::INTR);
    assert_eq!(vcpu.stats().kernel_exits, 1);
}

#[test]
fn a_panic_is_an_internal_error_with_its_message() {
    let (_vm, vcpu, _) = vm(&[Step::Panic], false);
    for _ in 0..2 {
        assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::INTERNAL_ERROR);
        assert_eq!(vcpu.failure().unwrap(), "the script says so");
    }
    let suberror = u32::from_le_bytes(vcpu.page().get(run::INTERNAL_SUBERROR));
    assert_eq!(suberror, kvm_vm::INTERNAL_ERROR_PANIC);
}

#[test]
fn a_thread_posts_its_exits_and_takes_the_answers() {
    let mut steps = vec![Step::In(0x60); 2000];
    steps.push(Step::Out(0x61, 1));
    let (vm, vcpu, script) = vm(&steps, false);
    let server = serve(vm.host(0).unwrap(), vcpu.clone(), 0x5a);
    vcpu.start(ThreadOptions::default()).unwrap();
    assert_eq!(vcpu.start(ThreadOptions::default()).unwrap_err().errno, Errno::EBUSY);
    eventually("all exits", || vcpu.stats().exits == 2001 && vcpu.phase() == Phase::Running);
    assert_eq!(vcpu.run_sync(1, None).unwrap_err().errno, Errno::EBUSY);
    assert_eq!(vcpu.with_engine(|e| Ok(e.regs())).unwrap_err().errno, Errno::EBUSY);
    assert_eq!(script.answers(), vec![0x5a; 2000]);
    assert!(vm.close_blocking(CLOSE_LIMIT));
    assert_eq!(server.join().unwrap(), 2001);
    assert_eq!(vcpu.with_engine(|e| Ok(e.regs())).unwrap_err().errno, Errno::EBADF);
    assert_eq!(vm.create_vcpu(1).unwrap_err().errno, Errno::EBADF);
}

#[test]
fn pause_completes_the_instruction_and_gives_the_registers() {
    let (vm, vcpu, script) = vm(&[Step::In(0x60)], true);
    let host = vm.host(0).unwrap();
    host.bind(ISOLATE, Duration::ZERO).unwrap();
    vcpu.start(ThreadOptions::default()).unwrap();
    eventually("the exit", || vcpu.phase() == Phase::Exit);
    // Registers can be used while the exit waits.
    vcpu.with_engine(|e| e.set_regs(&Regs { rbx: 3, ..Regs::default() })).unwrap();
    let (tx, rx) = channel();
    let tx2 = tx.clone();
    vcpu.pause(Box::new(move || tx.send(()).unwrap()));
    vcpu.pause(Box::new(move || tx2.send(()).unwrap()));
    assert!(rx.recv_timeout(Duration::from_millis(30)).is_err(), "the exit is not answered yet");
    vcpu.page().set(RUN_PIO_DATA_OFFSET, &[9]);
    assert!(host.complete(0));
    assert!(!host.complete(0));
    for _ in 0..2 {
        rx.recv_timeout(Duration::from_secs(5)).unwrap();
    }
    assert_eq!(vcpu.phase(), Phase::Paused);
    assert_eq!(script.answers(), [9]);
    assert!(!vcpu.with_engine(|e| Ok(e.io_pending())).unwrap());
    assert_eq!(vcpu.with_engine(|e| Ok(e.regs().rbx)).unwrap(), 3);
    vcpu.resume().unwrap();
    assert_eq!(vcpu.with_engine(|e| Ok(e.regs())).unwrap_err().errno, Errno::EBUSY);
}

#[test]
fn stop_gives_the_exit_up_and_the_next_run_shows_it_again() {
    let (vm, vcpu, script) = vm(&[Step::In(0x60), Step::Exit(Exit::Shutdown)], true);
    let host = vm.host(0).unwrap();
    vcpu.start(ThreadOptions::default()).unwrap();
    let word = control::SLOTS + slot::STATE;
    eventually("the sleep", || host.page().u32(word).load(Ordering::SeqCst) == state::SLEEPING);
    let (tx, rx) = channel();
    vcpu.stop(Box::new(move || tx.send(()).unwrap()));
    rx.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(!host.complete(0), "nobody waits any more");
    assert_eq!(vcpu.phase(), Phase::Idle);
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO);
    vcpu.page().set(RUN_PIO_DATA_OFFSET, &[4]);
    let mut why = vcpu.run_sync(ISOLATE, None).unwrap();
    if why == reason::INTR {
        why = vcpu.run_sync(ISOLATE, None).unwrap();
    }
    assert_eq!(why, reason::SHUTDOWN);
    assert_eq!(script.answers(), [4]);
    // A stopped vCPU starts again.
    vcpu.start(ThreadOptions::default()).unwrap();
    eventually("running", || vcpu.phase() == Phase::Running);
}

#[test]
fn the_next_isolate_inherits_the_exits_of_a_dead_one() {
    let (vm, vcpu, script) = vm(&[Step::In(0x60)], true);
    let host = vm.host(3).unwrap();
    vm.route(Space::Pio, 0x60, 1, RouteKind::Js, None, 3).unwrap();
    host.bind(1, Duration::ZERO).unwrap();
    assert_eq!(host.bind(2, Duration::ZERO).unwrap_err().errno, Errno::EBUSY);
    vcpu.start(ThreadOptions::default()).unwrap();
    eventually("the exit", || vcpu.phase() == Phase::Exit);
    // The first isolate takes the bit and dies.
    eventually("the bit", || host.page().u32(control::PENDING).swap(0, Ordering::SeqCst) == 1);
    host.unbind(1);
    host.bind(2, Duration::ZERO).unwrap();
    assert_eq!(host.page().u32(control::PENDING).load(Ordering::SeqCst), 1);
    vcpu.page().set(RUN_PIO_DATA_OFFSET, &[8]);
    assert!(host.complete(0));
    eventually("the answer", || script.answers() == [8]);
}

#[test]
fn posted_latched_and_ignored_routes_need_no_exit() {
    let steps = [Step::Out(0x3f8, b'x'.into()), Step::In(0x3fd), Step::In(0x80), Step::In(0x81)];
    let (vm, vcpu, script) = vm(&steps, false);
    vm.route(Space::Pio, 0x3f8, 1, RouteKind::Posted, None, 0).unwrap();
    let lsr = vm.route(Space::Pio, 0x3fd, 1, RouteKind::Latched, None, 0).unwrap();
    vm.route(Space::Pio, 0x80, 1, RouteKind::Ignore, None, 0).unwrap();
    lsr.latch().unwrap().u8(0).store(0x60, Ordering::SeqCst);
    assert_eq!(vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO);
    assert_eq!(vcpu.page().get(run::IO_PORT), [0x81, 0]);
    assert_eq!(script.answers(), [0x60, 0xff]);
    let host = vm.host(0).unwrap();
    let ring = control::POSTED + control::POSTED_TAIL;
    assert_eq!(host.page().u32(ring).load(Ordering::SeqCst), 1);
    assert_eq!(host.page().u32(control::PENDING_EV).load(Ordering::SeqCst), control::EV_POSTED);
}

#[test]
fn a_resampling_irqfd_is_told_about_the_acknowledgement() {
    let (vm, _vcpu, _) = vm(&[], true);
    let told = Arc::new(AtomicU32::new(0));
    let counter = told.clone();
    let notify: kvm_vm::Resampled = Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    assert!(vm.irqfd(5, false, Some(notify.clone())).is_err());
    assert_eq!(vm.irqfd(4096, true, None).unwrap_err().errno, Errno::EINVAL);
    let fd = vm.irqfd(5, true, Some(notify)).unwrap();
    let chip = vm.irqchip().unwrap().own().unwrap();
    // Initialise the PIC and take the interrupt.
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0), (0x4d0, 0x20)]
    {
        assert!(chip.pio_write(port, 1, value));
    }
    chip.lapic(0).unwrap().mmio_write(0xf0, &0x1ffu32.to_le_bytes());
    chip.lapic(0).unwrap().mmio_write(0x350, &0x700u32.to_le_bytes());
    fd.trigger();
    assert_eq!(chip.ack_interrupt(0), Some(0x25));
    assert_eq!(told.load(Ordering::SeqCst), 0);
    assert!(chip.pio_write(0x20, 1, 0x20));
    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert!(fd.resample_fd().is_some());
    assert!(!chip.has_interrupt(0), "the line was lowered");
    fd.close();
    chip.irq_line(5, true).unwrap();
    assert_eq!(chip.ack_interrupt(0), Some(0x25));
    chip.pio_write(0x20, 1, 0x20);
    assert_eq!(told.load(Ordering::SeqCst), 1);
}
