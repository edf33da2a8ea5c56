//! INIT and SIPI, and the states in which a vCPU waits.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, byte_ptr, gpr32::*, gpr64::*, qword_ptr};
use kvm_abi::exit::reason;
use kvm_abi::regs::MpState;
use kvm_vm::ThreadOptions;
use std::time::Duration;

use super::machine::Machine;

const AP_CODE: u64 = 0xa000;
const STARTED: u64 = 0x5000;
const X2APIC_ICR: u32 = 0x830;
const INIT: u32 = 0x4500;
const SIPI: u32 = 0x4600;

fn state(m: &Machine, vcpu: usize) -> MpState {
    m.vcpus[vcpu].with_engine(|e| Ok(e.mp_state())).unwrap()
}

/// Sends interrupt commands to the vCPU with this number, then runs `rest`.
fn boot(
    commands: &[(u32, u32)],
    rest: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> CodeAssembler {
    boot_after(|_| Ok(()), commands, rest)
}

/// The same behind other code.
fn boot_after(
    first: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    commands: &[(u32, u32)],
    rest: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> CodeAssembler {
    let mut a = CodeAssembler::new(64).unwrap();
    first(&mut a).unwrap();
    let mut code = || -> Result<(), IcedError> {
        a.mov(ecx, 0x1b)?;
        a.rdmsr()?;
        a.or(eax, 0xc00)?;
        a.wrmsr()?;
        for (command, to) in commands {
            a.mov(ecx, X2APIC_ICR)?;
            a.mov(edx, *to)?;
            a.mov(eax, *command)?;
            a.wrmsr()?;
        }
        Ok(())
    };
    code().unwrap();
    rest(&mut a).unwrap();
    a
}

fn out(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut stay = a.create_label();
    a.set_label(&mut stay)?;
    a.out(0xf4, iced_x86::code_asm::gpr8::al)?;
    a.jmp(stay)
}

fn run_boot(m: &Machine, mut program: CodeAssembler) {
    m.load(0, &mut program);
    let why = m.vcpus[0].run_sync(0, Some(Duration::from_secs(30))).unwrap();
    assert_eq!(why, reason::IO);
}

#[test]
fn the_boot_processor_starts_the_others() {
    let m = Machine::new(4, true);
    // mov ax, cs; mov [0x5000 + bx], ... : each one counts itself: lock inc byte [0x5000]; hlt
    m.vm.memory().write(AP_CODE, &[0xf0, 0xfe, 0x06, 0x00, 0x50, 0xf4]).unwrap();
    for id in 1..4 {
        assert_eq!(state(&m, id), MpState::Uninitialized);
        m.vcpus[id].start(ThreadOptions::default()).unwrap();
    }
    let mut commands = Vec::new();
    for to in 1..4 {
        // As the manual has it, the SIPI twice: the second one is ignored.
        commands.extend([(INIT, to), (SIPI | 10, to), (SIPI | 10, to)]);
    }
    run_boot(
        &m,
        boot(&commands, |a| {
            let mut wait = a.create_label();
            a.mov(rdi, STARTED)?;
            a.set_label(&mut wait)?;
            a.pause()?;
            a.cmp(byte_ptr(rdi), 3)?;
            a.jne(wait)?;
            out(a)
        }),
    );
    assert_eq!(m.read_u64(STARTED), 3);
    for id in 1..4 {
        let (sent, paused) = std::sync::mpsc::channel();
        m.vcpus[id].pause(Box::new(move || sent.send(()).unwrap()));
        paused.recv().unwrap();
        let s = m.vcpus[id].with_engine(|e| Ok(e.sregs())).unwrap();
        assert_eq!((s.cs.selector, s.cs.base), (0xa00, AP_CODE));
    }
}

#[test]
fn a_parked_vcpu_shows_what_it_was_sent() {
    let m = Machine::new(3, true);
    run_boot(&m, boot(&[(INIT, 1), (INIT, 2), (SIPI | 10, 2)], out));
    assert_eq!(state(&m, 1), MpState::InitReceived);
    assert_eq!(state(&m, 2), MpState::Runnable);
    let s = m.vcpus[2].with_engine(|e| Ok(e.sregs())).unwrap();
    assert_eq!(s.cs.base, AP_CODE);
}

#[test]
fn a_startup_before_init_means_nothing() {
    let m = Machine::new(2, true);
    run_boot(&m, boot(&[(SIPI | 10, 1)], out));
    assert_eq!(state(&m, 1), MpState::Uninitialized);
    let m = Machine::new(2, true);
    run_boot(&m, boot(&[(SIPI | 10, 1), (INIT, 1)], out));
    assert_eq!(state(&m, 1), MpState::InitReceived);
}

#[test]
fn waiting_states_survive_a_save() {
    for wanted in [MpState::Uninitialized, MpState::InitReceived, MpState::Halted] {
        let m = Machine::new(2, true);
        m.vcpus[1].with_engine(|e| e.set_mp_state(wanted)).unwrap();
        // An entry without anything to do leaves them as they are.
        let why = m.vcpus[1].run_sync(0, Some(Duration::ZERO)).unwrap();
        assert_eq!((why, state(&m, 1)), (reason::INTR, wanted));
    }
}

#[test]
fn a_received_sipi_can_be_restored() {
    let m = Machine::new(2, true);
    m.vm.memory().write(AP_CODE, &[0xe6, 0xf4]).unwrap();
    m.vcpus[1]
        .with_engine(|e| {
            let mut events = e.vcpu_events();
            events.sipi_vector = 10;
            events.flags |= 2;
            e.set_vcpu_events(&events)?;
            e.set_mp_state(MpState::SipiReceived)
        })
        .unwrap();
    assert_eq!(m.vcpus[1].run_sync(0, None).unwrap(), reason::IO);
}

#[test]
fn without_an_irqchip_every_vcpu_runs() {
    let m = Machine::new(2, false);
    assert_eq!((state(&m, 0), state(&m, 1)), (MpState::Runnable, MpState::Runnable));
}

#[test]
fn two_vcpus_halt_and_wake_each_other() {
    // Fixed interrupts to and fro, each received in HLT.
    let m = Machine::new(2, true);
    let handler = 0x2_0000u64;
    // inc qword [counter of the vCPU, in RBX]; EOI; iretq
    let mut a = CodeAssembler::new(64).unwrap();
    a.inc(qword_ptr(rbx)).unwrap();
    a.mov(ecx, 0x80b).unwrap();
    a.mov(edx, 0).unwrap();
    a.mov(eax, 0).unwrap();
    a.wrmsr().unwrap();
    a.iretq().unwrap();
    m.vm.memory().write(handler, &a.assemble(handler).unwrap()).unwrap();
    let gate = handler & 0xffff | 8 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
    m.write_words(0x3_0000 + 0x40 * 16, &[gate, 0]);
    for (me, other) in [(0usize, 1u32), (1, 0)] {
        let mut a = boot(&[], |_| Ok(()));
        let mut code = || -> Result<(), IcedError> {
            let mut ready = a.create_label();
            let (mut again, mut sleep) = (a.create_label(), a.create_label());
            // Software-enable the APIC.
            a.mov(ecx, 0x80f)?;
            a.mov(edx, 0)?;
            a.mov(eax, 0x1ff)?;
            a.wrmsr()?;
            a.mov(rbx, STARTED + me as u64 * 64)?;
            a.mov(r15, 0u64)?;
            if me == 1 {
                a.mov(byte_ptr(rbx + 64), 1)?;
            } else {
                a.set_label(&mut ready)?;
                a.pause()?;
                a.cmp(byte_ptr(rbx + 128), 1)?;
                a.jne(ready)?;
            }
            a.set_label(&mut again)?;
            if me == 0 {
                a.mov(ecx, X2APIC_ICR)?;
                a.mov(edx, other)?;
                a.mov(eax, 0x40)?;
                a.wrmsr()?;
            }
            a.inc(r15)?;
            a.set_label(&mut sleep)?;
            a.sti()?;
            a.hlt()?;
            a.cli()?;
            a.cmp(qword_ptr(rbx), r15)?;
            a.jb(sleep)?;
            if me == 1 {
                a.mov(ecx, X2APIC_ICR)?;
                a.mov(edx, other)?;
                a.mov(eax, 0x40)?;
                a.wrmsr()?;
            }
            a.cmp(r15, 500)?;
            a.jb(again)?;
            out(&mut a)
        };
        code().unwrap();
        m.load(me, &mut a);
        m.vcpus[me]
            .with_engine(|e| {
                let mut s = e.sregs();
                s.idt = kvm_abi::regs::Dtable { base: 0x3_0000, limit: 0xfff };
                e.set_sregs(&s)
            })
            .unwrap();
    }
    std::thread::scope(|scope| {
        for vcpu in &m.vcpus {
            scope.spawn(move || {
                let why = vcpu.run_sync(0, Some(Duration::from_secs(60))).unwrap();
                assert_eq!(why, reason::IO, "vCPU {}", vcpu.id());
            });
        }
    });
    assert_eq!((m.read_u64(STARTED), m.read_u64(STARTED + 64)), (500, 500));
}

#[test]
fn a_paravirtual_kick_ends_a_halt_with_interrupts_off() {
    // vCPU 0 halts with IF clear; vCPU 1 kicks it: the 500 rounds come to an end.
    let m = Machine::new(2, true);
    let turn = STARTED;
    for me in 0..2u64 {
        let mut a = CodeAssembler::new(64).unwrap();
        let mut code = || -> Result<(), IcedError> {
            let (mut again, mut wait) = (a.create_label(), a.create_label());
            a.mov(rdi, turn)?;
            a.mov(r15, 0u64)?;
            a.set_label(&mut again)?;
            a.inc(r15)?;
            a.set_label(&mut wait)?;
            if me == 0 {
                a.hlt()?;
                a.cmp(qword_ptr(rdi), r15)?;
                a.jb(wait)?;
                a.mov(qword_ptr(rdi + 64), r15)?;
            } else {
                a.mov(qword_ptr(rdi), r15)?;
                // KVM_HC_KICK_CPU: flags, APIC id.
                a.mov(eax, 5)?;
                a.mov(rbx, 0u64)?;
                a.mov(ecx, 0)?;
                a.vmmcall()?;
                a.pause()?;
                a.cmp(qword_ptr(rdi + 64), r15)?;
                a.jb(wait)?;
            }
            a.cmp(r15, 500)?;
            a.jb(again)?;
            out(&mut a)
        };
        code().unwrap();
        m.load(me as usize, &mut a);
    }
    std::thread::scope(|scope| {
        for vcpu in &m.vcpus {
            scope.spawn(move || {
                let why = vcpu.run_sync(0, Some(Duration::from_secs(60))).unwrap();
                assert_eq!(why, reason::IO, "vCPU {}", vcpu.id());
            });
        }
    });
    assert_eq!(m.read_u64(turn + 64), 500);
}

#[test]
fn a_paravirtual_ipi_reaches_the_ids_of_its_bitmap() {
    let m = Machine::new(4, true);
    run_boot(
        &m,
        boot(&[], |a| {
            // KVM_HC_SEND_IPI: an NMI to ids 1 and 3, counted from 1.
            a.mov(eax, 10)?;
            a.mov(rbx, 0b101u64)?;
            a.mov(ecx, 0)?;
            a.mov(edx, 1)?;
            a.mov(rsi, 0x400u64)?;
            a.vmmcall()?;
            out(a)
        }),
    );
    let taken = m.vcpus[0].with_engine(|e| Ok(e.regs().rax)).unwrap();
    let nmi = |id: usize| m.vcpus[id].with_engine(|e| Ok(e.vcpu_events().nmi_pending)).unwrap();
    assert_eq!((taken, nmi(1), nmi(2), nmi(3)), (2, 1, 0, 1));
}

#[test]
fn a_processor_has_begun_when_the_sipi_is_sent() {
    // jmp 0:0xb000; there: lock inc byte [0x5000]; hlt
    let code = 0xb000ea_u64;
    // Put there long before, or by the vCPU that now waits, whose permission to store to it has to be taken back.
    for is_fresh in [false, true] {
        let m = Machine::new(2, true);
        m.vm.memory().write(0xb000, &[0xf0, 0xfe, 0x06, 0x00, 0x50, 0xf4]).unwrap();
        if !is_fresh {
            m.vm.memory().write(AP_CODE, &code.to_le_bytes()).unwrap();
        }
        m.vcpus[1].start(ThreadOptions::default()).unwrap();
        start_and_overwrite(&m, is_fresh.then_some(code));
    }
}

fn start_and_overwrite(m: &Machine, code: Option<u64>) {
    let store = |a: &mut CodeAssembler, value: u64| {
        a.mov(rdi, AP_CODE)?;
        a.mov(rax, value)?;
        a.mov(qword_ptr(rdi), rax)
    };
    // Its code is gone at once, as SeaBIOS does it when a guest resumes: only HLT is left.
    run_boot(
        m,
        boot_after(
            |a| code.map_or(Ok(()), |code| store(a, code)),
            &[(INIT, 1), (SIPI | 10, 1)],
            |a| {
                store(a, 0xf4f4_f4f4_f4f4_f4f4)?;
                out(a)
            },
        ),
    );
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while m.read_u64(STARTED) != 1 {
        assert!(std::time::Instant::now() < end, "the processor ran what came after its start");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(m.vcpus[1].late_starts(), 0, "its sender waited in vain");
}
