//! The state of a VM on every engine: what is read can be written, and is the same afterwards.

mod common;

use common::guests::{Guest, ISOLATE, engines, guest, port_access};
use kvm_abi::exit::reason;
use kvm_abi::regs::{DebugRegs, MpState, Regs, Sregs, VcpuEvents};
use kvm_abi::{Errno, KvmError};
use kvm_vm::{ClockData, Engine};

/// Time stamp counters and what counts with them go on by themselves.
const RUNNING: &[u32] = &[0x10, 0x3b, 0x6e0];

struct Saved {
    regs: Regs,
    sregs: Sregs,
    xcr0: u64,
    xsave: Vec<u8>,
    events: VcpuEvents,
    debug: DebugRegs,
    mp: MpState,
    msrs: Vec<(u32, u64)>,
    lapic: Vec<u8>,
    chips: Vec<[u8; 512]>,
}

fn save(engine: &Engine, g: &Guest) -> Saved {
    let indices = engine.for_vm().msr_index_list();
    let chip = g.vm.irqchip().unwrap();
    let lapic = g.vcpu.lapic_state().unwrap();
    g.vcpu
        .with_engine(|e| {
            let msrs = indices
                .iter()
                .filter(|index| !RUNNING.contains(index))
                .map(|index| e.msr(*index).map(|value| (*index, value)))
                .collect::<Result<_, KvmError>>()?;
            Ok(Saved {
                regs: e.regs(),
                sregs: e.sregs(),
                xcr0: e.xcr0(),
                xsave: e.xsave(),
                events: e.vcpu_events(),
                debug: e.debugregs(),
                mp: e.mp_state(),
                msrs,
                lapic,
                chips: (0..3).map(|n| chip.irqchip_state(n)).collect::<Result<_, _>>()?,
            })
        })
        .unwrap()
}

fn load(g: &Guest, saved: &Saved) {
    let chip = g.vm.irqchip().unwrap();
    g.vcpu
        .with_engine(|e| {
            e.set_sregs(&saved.sregs)?;
            e.set_xcr0(saved.xcr0)?;
            e.set_xsave(&saved.xsave)?;
            for (index, value) in &saved.msrs {
                e.set_msr(*index, *value)?;
            }
            e.set_debugregs(&saved.debug)
        })
        .unwrap();
    g.vcpu.set_lapic_state(&saved.lapic).unwrap();
    for (n, state) in (0..).zip(&saved.chips) {
        chip.set_irqchip_state(n, state).unwrap();
    }
    g.vcpu
        .with_engine(|e| {
            e.set_mp_state(saved.mp)?;
            e.set_vcpu_events(&saved.events)?;
            e.set_regs(&saved.regs)
        })
        .unwrap();
}

#[test]
fn a_guest_goes_on_in_another_vm() {
    #[rustfmt::skip]
    let code = [
        0xd9, 0xeb,                         // fldpi
        0xb0, 0x36, 0xe6, 0x43,             // PIT channel 0: mode 3
        0xb0, 0x34, 0xe6, 0x40, 0xe6, 0x40, // count 0x3434
        0xb0, 0x5a, 0xe6, 0x21,             // PIC mask
        0xe6, 0x10,                         // out 0x10, al
        0x04, 0x01,                         // add al, 1
        0xe6, 0x10,                         // out 0x10, al
        0xf4,
    ];
    for (name, engine) in engines() {
        let from = guest(&engine, true, &code);
        assert_eq!(from.vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO, "{name}");
        from.vcpu.page().set(kvm_abi::exit::run::IMMEDIATE_EXIT, &[1]);
        assert_eq!(from.vcpu.run_sync(ISOLATE, None).unwrap(), reason::INTR, "{name}");
        from.vcpu
            .with_engine(|e| {
                let regs = e.regs();
                e.set_regs(&Regs { r15: 0x1122_3344_5566_7788, ..regs })?;
                e.set_debugregs(&DebugRegs { db: [1, 2, 3, 4], dr6: 0xffff_0ff0, dr7: 0x400 })?;
                e.set_msr(0x277, 0x0007_0406_0007_0406)
            })
            .unwrap();
        let saved = save(&engine, &from);
        let pit = from.vm.irqchip().unwrap().pit_state().unwrap();

        let to = guest(&engine, true, &code);
        load(&to, &saved);
        to.vm.irqchip().unwrap().set_pit_state(&pit).unwrap();
        let again = save(&engine, &to);
        assert_eq!(again.regs, saved.regs, "{name}");
        assert_eq!(again.sregs, saved.sregs, "{name}");
        assert_eq!(again.events, saved.events, "{name}");
        assert_eq!(again.debug, saved.debug, "{name}");
        assert_eq!(again.mp, saved.mp, "{name}");
        assert_eq!(again.msrs, saved.msrs, "{name}");
        assert!(saved.msrs.contains(&(0x277, 0x0007_0406_0007_0406)), "{name}: PAT");
        assert!(again.chips == saved.chips && again.xsave == saved.xsave, "{name}");
        let count = to.vm.irqchip().unwrap().pit_state().unwrap().channels[0].count;
        assert_eq!(count, 0x3434, "{name}");
        assert_eq!(to.vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO, "{name}");
        assert_eq!(to.vcpu.page().get(port_access(&to.vcpu).3), [0x5b], "{name}");
    }
}

#[test]
fn clock_reset_and_refusals() {
    for (name, engine) in engines() {
        let Guest { vm, vcpu, .. } = guest(&engine, true, &[0xf4]);
        vm.set_clock_data(&ClockData { clock: 1 << 40, ..ClockData::default() }).unwrap();
        assert!(vm.clock_data().unwrap().clock >= 1 << 40, "{name}");
        let chip = vm.irqchip().unwrap();
        let fresh = chip.irqchip_state(0).unwrap();
        let mut masked = fresh;
        masked[3] = 0x55;
        chip.set_irqchip_state(0, &masked).unwrap();
        assert_eq!(chip.irqchip_state(0).unwrap()[3], 0x55, "{name}");
        chip.reset().unwrap();
        assert_eq!(chip.irqchip_state(0).unwrap()[3], fresh[3], "{name}");
        assert_eq!(chip.irqchip_state(9).unwrap_err().errno, Errno::EINVAL, "{name}");
        assert_eq!(chip.irq_line(5000, true).unwrap_err().errno, Errno::EINVAL, "{name}");
        assert_eq!(vm.create_irqchip().unwrap_err().errno, Errno::EINVAL, "{name}");
        let e = chip.create_pit(0).unwrap_err();
        assert_eq!(e.errno, Errno::EEXIST, "{name}");
        vcpu.with_engine(|e| {
            assert_eq!(e.msr(0x1234_5678).unwrap_err().errno, Errno::EINVAL, "{name}");
            let khz = e.tsc_khz();
            assert!(khz > 0, "{name}");
            e.set_tsc_khz(khz)?;
            let sregs = e.sregs();
            let long_without_pae = Sregs { cr0: 0x8000_0011, cr4: 0, efer: 0x500, ..sregs };
            assert_eq!(e.set_sregs(&long_without_pae).unwrap_err().errno, Errno::EINVAL);
            e.set_mp_state(MpState::Halted)?;
            assert_eq!(e.mp_state(), MpState::Halted, "{name}");
            // Whether the kernel knows what the CPU's description says does not stop a guest.
            let _ = e.set_msr(0x10a, 0);
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn models_run_and_show_their_cpuid() {
    // cpuid with EAX 1; out of ECX bit 31; hlt
    let code = [0x66, 0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x66, 0xc1, 0xe9, 31, 0x88, 0xc8, 0xe6, 0x10];
    for (name, engine) in engines() {
        for model in ["qemu64", "max", "host"] {
            let entries = engine.for_vm().cpuid_for_model(model, &[]).unwrap();
            let g = guest(&engine, false, &code);
            g.vcpu.with_engine(|e| e.set_cpuid(&entries)).unwrap();
            assert_eq!(g.vcpu.run_sync(ISOLATE, None).unwrap(), reason::IO, "{name} {model}");
            let page = g.vcpu.page();
            assert_eq!(page.get(port_access(&g.vcpu).3), [1], "{name} {model}: a hypervisor");
        }
    }
}
