//! Small guests for every engine that this machine has.

use std::sync::Arc;

use kvm_abi::exit::run;
use kvm_abi::regs::{Dtable, Regs, Segment, Sregs};
use kvm_memory::{Backing, GuestRam};
use kvm_vm::{Engine, SoftOptions, Vcpu, Vm};

/// Where guests begin.
pub const CODE: u64 = 0x6000;
/// Bytes of RAM at 0: the addresses from here to 1 MiB are a device's.
pub const RAM: u64 = 0x8_0000;
pub const ISOLATE: u64 = 9;

/// The soft engine, and the host's where it is there. A KVM without a CPU with virtualization is
/// somebody's emulation of it and left alone.
pub fn engines() -> Vec<(&'static str, Engine)> {
    let mut all = vec![("soft", Engine::Soft(SoftOptions::default()))];
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or("");
    if !flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        println!("host engine skipped: the CPU has neither vmx nor svm");
        return all;
    }
    match Engine::host(None) {
        Ok(engine) => all.push(("host", engine)),
        Err(error) => println!("host engine skipped: {error}"),
    }
    all
}

/// A VM with RAM that begins with `code` at `CODE` in real mode.
pub struct Guest {
    pub vm: Arc<Vm>,
    pub vcpu: Arc<Vcpu>,
    pub ram: Arc<GuestRam>,
}

pub fn guest(engine: &Engine, irqchip: bool, code: &[u8]) -> Guest {
    guest_with(engine, irqchip, code, 0)
}

pub fn guest_with(engine: &Engine, irqchip: bool, code: &[u8], flags: u32) -> Guest {
    let vm = Vm::new(engine.for_vm()).unwrap();
    if irqchip {
        vm.create_irqchip().unwrap();
        vm.irqchip().unwrap().create_pit(0).unwrap();
    }
    let ram = GuestRam::new(1 << 20, Backing::Memfd).unwrap();
    vm.memory().set_user_memory_region(0, 0, RAM, flags, Some(ram.clone()), 0).unwrap();
    vm.memory().write(CODE, code).unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    real_mode(&vcpu, CODE);
    Guest { vm, vcpu, ram }
}

/// Real mode with all segments at 0.
pub fn real_mode(vcpu: &Vcpu, rip: u64) {
    vcpu.with_engine(|e| {
        let mut sregs = e.sregs();
        for s in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
            (s.base, s.selector) = (0, 0);
        }
        e.set_sregs(&sregs)?;
        e.set_regs(&Regs { rip, rsp: 0x5000, rflags: 2, ..Regs::default() })
    })
    .unwrap();
}

/// 64-bit mode at CPL 0 with the first GiB mapped to itself.
pub fn long_mode(guest: &Guest, rip: u64) {
    let words = |at: u64, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        guest.vm.memory().write(at, &bytes).unwrap();
    };
    words(0x500, &[0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]);
    words(0x2000, &[0x3003]);
    words(0x3000, &[0x4003]);
    words(0x4000, &[0x83]);
    let flat = |selector, type_, l| Segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1 - l,
        s: 1,
        l,
        g: 1,
        avl: 0,
        unusable: 0,
    };
    guest
        .vcpu
        .with_engine(|e| {
            let sregs = e.sregs();
            let data = flat(0x10, 3, 0);
            e.set_sregs(&Sregs {
                cs: flat(8, 11, 1),
                ds: data,
                es: data,
                fs: data,
                gs: data,
                ss: data,
                gdt: Dtable { base: 0x500, limit: 23 },
                cr0: 0x8000_0011,
                cr3: 0x2000,
                cr4: 0x20,
                efer: 0x500,
                ..sregs
            })?;
            e.set_regs(&Regs { rip, rsp: 0x5000, rflags: 2, ..Regs::default() })
        })
        .unwrap();
}

/// Port, size, count and offset of the data of the port access in the page.
pub fn port_access(vcpu: &Vcpu) -> (u16, u8, u32, usize) {
    let page = vcpu.page();
    (
        u16::from_le_bytes(page.get(run::IO_PORT)),
        page.get::<1>(run::IO_SIZE)[0],
        u32::from_le_bytes(page.get(run::IO_COUNT)),
        u64::from_le_bytes(page.get(run::IO_DATA_OFFSET)) as usize,
    )
}

/// `out imm8, al` for each pair of port and value.
pub fn outs(pairs: &[(u8, u8)]) -> Vec<u8> {
    pairs.iter().flat_map(|(port, value)| [0xb0, *value, 0xe6, *port]).collect()
}
