//! Interrupts at exact places: shadows, counts, halts, kicks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kvm_abi::exit::Exit;
use kvm_cpu::engine::request;
use kvm_engine_soft::TranslationPolicy;

use super::alarm::ThreadAlarm;
use super::machine::{CODE, Machine, Mode};
use super::policy::policy;

const DONE: Exit = Exit::Io { write: true, port: 0xf4, size: 1, value: 0 };
const IF: u64 = 0x200;

#[test]
fn sti_lets_one_more_instruction_pass() {
    // sti; inc ebx; inc ebx; out 0xf4, al, and a handler that halts.
    let code = [0xfb, 0xff, 0xc3, 0xff, 0xc3, 0xe6, 0xf4];
    for mode in [Mode::Long, Mode::Protected32, Mode::Compat] {
        let mut m = Machine::new(mode, &code);
        m.vcpu.interrupt(0x40).unwrap();
        assert_eq!(m.run_to_fault(), 0x40, "{mode:?}");
        assert_eq!(m.regs().rbx, 1, "{mode:?}");
    }
}

#[test]
fn cli_in_the_shadow_of_sti_wins() {
    // sti; cli; out 0xf4, al
    let mut m = Machine::new(Mode::Long, &[0xfb, 0xfa, 0xe6, 0xf4]);
    m.vcpu.interrupt(0x40).unwrap();
    assert_eq!(m.vcpu.run(), DONE);
}

#[test]
fn a_load_of_ss_shadows_one_instruction_across_exits() {
    // mov ss, cx; inc ebx; inc ebx; out 0xf4, al
    let code = [0x8e, 0xd1, 0xff, 0xc3, 0xff, 0xc3, 0xe6, 0xf4];
    let mut m = Machine::new(Mode::Protected32, &code);
    m.set(|r| (r.rcx, r.rflags) = (0x10, 2 | IF));
    m.vcpu.stop_at_instruction(Some(1)).unwrap();
    assert_eq!(m.vcpu.run(), Exit::CountReached);
    assert_eq!(m.vcpu.vcpu_events().interrupt_shadow & 1, 1);
    assert!(!m.vcpu.interrupt_window().0);
    m.vcpu.interrupt(0x40).unwrap();
    assert_eq!(m.run_to_fault(), 0x40);
    assert_eq!(m.regs().rbx, 1);
}

/// `l: add rax, rcx; dec rcx; jnz l; out 0xf4, al`: three instructions for each number.
const SUM: [u8; 10] = [0x48, 0x01, 0xc8, 0x48, 0xff, 0xc9, 0x75, 0xf8, 0xe6, 0xf4];

#[test]
fn the_guest_stops_exactly_at_a_count() {
    let starts = [0, 3, 6];
    for stop in [0u64, 1, 2, 3, 64, 65, 100, 8191, 8192, 8193, 20_000] {
        let mut m = Machine::new(Mode::Long, &SUM);
        m.set(|r| r.rcx = 10_000);
        m.vcpu.stop_at_instruction(Some(stop)).unwrap();
        assert_eq!(m.vcpu.run(), Exit::CountReached);
        assert_eq!(m.vcpu.instructions(), stop);
        let r = m.regs();
        assert_eq!(r.rip - CODE, starts[(stop % 3) as usize], "{stop}");
        assert_eq!(r.rcx, 10_000 - (stop + 1) / 3, "{stop}");
        assert!(stop == 0 || m.vcpu.stop_at_instruction(Some(stop - 1)).is_err());
        // And goes on as if nothing had been.
        let exit = m.vcpu.run();
        assert!(matches!(exit, Exit::Io { port: 0xf4, .. }), "{exit:?}");
        assert_eq!((m.regs().rax, m.vcpu.instructions()), (50_005_000, 30_000));
    }
}

#[test]
fn an_interrupt_at_any_instruction_changes_nothing_else() {
    for stop in 0..60 {
        let mut m = Machine::new(Mode::Long, &SUM);
        // inc r15; iretq
        m.handler(2, &[0x49, 0xff, 0xc7, 0x48, 0xcf]);
        m.set(|r| r.rcx = 20);
        m.vcpu.stop_at_instruction(Some(stop)).unwrap();
        assert_eq!(m.vcpu.run(), Exit::CountReached);
        m.vcpu.nmi();
        let exit = m.vcpu.run();
        assert!(matches!(exit, Exit::Io { port: 0xf4, .. }), "{exit:?}");
        let r = m.regs();
        assert_eq!((r.rax, r.r15, m.vcpu.instructions()), (210, 1, 62), "{stop}");
    }
}

#[test]
fn a_window_opens_when_interrupts_can_be_taken() {
    // nop; sti; nop; nop; out 0xf4, al
    let mut m = Machine::new(Mode::Long, &[0x90, 0xfb, 0x90, 0x90, 0xe6, 0xf4]);
    m.vcpu.request_interrupt_window(true);
    assert_eq!(m.vcpu.run(), Exit::IrqWindowOpen);
    assert_eq!(m.regs().rip, CODE + 3);
    assert_eq!(m.vcpu.interrupt_window(), (true, true));
    assert_eq!(m.vcpu.run(), DONE);
}

#[test]
fn the_timer_ends_a_halt() {
    // sti; hlt; out 0xf4, al
    let mut m = Machine::with_irqchip(Mode::Long, &[0xfb, 0xf4, 0xe6, 0xf4]);
    // mov bl, 7; iretq
    m.handler(0x40, &[0xb3, 7, 0x48, 0xcf]);
    let irqchip = Arc::clone(m.irqchip.as_ref().unwrap());
    let lapic = irqchip.lapic(0).unwrap();
    // Software enable, one-shot timer on vector 0x40, no division, ten milliseconds.
    for (offset, value) in [(0xf0, 0x1ffu32), (0x320, 0x40), (0x3e0, 0xb), (0x380, 10_000_000)] {
        lapic.mmio_write(offset, &value.to_le_bytes());
    }
    let mut halts = 0;
    let start = Instant::now();
    loop {
        match m.vcpu.run() {
            Exit::Hlt => {
                halts += 1;
                assert!(irqchip.next_deadline_ns(0).is_some() || m.requests.any());
                std::thread::sleep(Duration::from_millis(2));
                assert!(start.elapsed() < Duration::from_secs(10), "never woken");
            }
            exit => {
                assert_eq!(exit, DONE);
                break;
            }
        }
    }
    assert!(halts > 0 && m.regs().rbx == 7);
}

#[test]
fn timers_interrupt_an_endless_loop() {
    for (alarmed, early) in [(false, false), (true, false), (true, true)] {
        // sti; l: cmp bl, 5; jne l; out 0xf4, al
        let mut m =
            Machine::with_irqchip(Mode::Long, &[0xfb, 0x80, 0xfb, 5, 0x75, 0xfb, 0xe6, 0xf4]);
        // inc bl; mov ecx, 0x80b; xor eax, eax; xor edx, edx; wrmsr; iretq
        let handler =
            [0xfe, 0xc3, 0xb9, 0x0b, 8, 0, 0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30, 0x48, 0xcf];
        m.handler(0x40, &handler);
        let alarm = ThreadAlarm::new(&m.requests, early);
        if alarmed {
            alarm.offer(&mut *m.vcpu);
        }
        // x2APIC on, software enable, periodic timer on vector 0x40, no division, two milliseconds.
        let timer = [
            (0x1b, 0xfee0_0d00),
            (0x80f, 0x1ff),
            (0x832, 0x2_0040),
            (0x83e, 0xb),
            (0x838, 2_000_000),
        ];
        for (msr, value) in timer {
            m.vcpu.set_msr(msr, value).unwrap();
        }
        // A timer that is lost ends the test, too.
        let requests = Arc::clone(&m.requests);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(20));
            requests.raise(request::EXIT);
        });
        assert_eq!(m.vcpu.run(), DONE);
        assert_eq!(m.regs().rbx, 5);
        // The first timer is armed; a policy that only interprets looks at the clock by itself.
        let armed = alarm.armed.load(Ordering::SeqCst);
        assert_eq!(armed > 0, alarmed && policy() != TranslationPolicy::OFF, "{armed} times");
    }
}

#[test]
fn a_kick_ends_an_endless_loop() {
    // l: jmp l
    let mut m = Machine::new(Mode::Long, &[0xeb, 0xfe]);
    let requests = Arc::clone(&m.requests);
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        requests.raise(request::EXIT);
    });
    assert_eq!(m.vcpu.run(), Exit::Intr);
    other.join().unwrap();
    assert_eq!(m.regs().rip, CODE);
    assert!(m.vcpu.instructions() > 0);
}
