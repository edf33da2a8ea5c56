//! System management mode: the way in with an SMI, the way out with RSM (AMD APM volume 2, chapter
//! 10; SDM volume 3, chapter 32). State is saved in the 64-bit layout of AMD, which is also that of
//! KVM and of QEMU's x86-64 machines, whatever processor CPUID names: firmware for virtual machines knows
//! no other.

use kvm_abi::regs::{DebugRegs, Dtable, MpState, Regs, Segment, Sregs};

use crate::bits::{canonical, cr0, dr, efer};
use crate::{Exec, Flush, Seg, TableReg, Trap, Vector, flags, reg, seg};

/// Where the handler begins, from SMBASE.
const ENTRY: u64 = 0x8000;
/// Where the saved state is, from SMBASE; the offsets below count from there.
const AREA: u64 = 0xfe00;
const GDT: u64 = 0x60;
const IDT: u64 = 0x80;
const AUTO_HALT: u64 = 0xc9;
const EFER: u64 = 0xd0;
const REVISION: u64 = 0xfc;
const SMBASE: u64 = 0x100;
const CR4: u64 = 0x148;
const CR3: u64 = 0x150;
const CR0: u64 = 0x158;
const DR7: u64 = 0x160;
const DR6: u64 = 0x168;
const RFLAGS: u64 = 0x170;
const RIP: u64 = 0x178;
/// Of RAX; the others follow downwards in the order of their numbers.
const RAX: u64 = 0x1f8;
/// SMBASE can be moved; the state has 64-bit registers.
const REVISION_ID: u64 = 0x0002_0064;

/// Segment registers and where they are saved.
const SEGMENTS: [(usize, u64); 8] = [
    (seg::ES, 0x00),
    (seg::CS, 0x10),
    (seg::SS, 0x20),
    (seg::DS, 0x30),
    (seg::FS, 0x40),
    (seg::GS, 0x50),
    (seg::LDTR, 0x70),
    (seg::TR, 0x90),
];

/// Takes the SMI that waits. The processor is between two instructions, and not in system management
/// mode.
pub fn enter<E: Exec + ?Sized>(e: &mut E) {
    let cpu = e.cpu();
    let halted = cpu.mp_state == MpState::Halted;
    cpu.mp_state = MpState::Runnable;
    cpu.events.smi_pending = false;
    cpu.events.smm = true;
    cpu.events.smm_inside_nmi = cpu.events.nmi_masked;
    cpu.events.nmi_masked = true;
    // What an STI or a load of SS holds back came before.
    cpu.events.sti_shadow = false;
    cpu.events.mov_ss_shadow = false;
    e.smm_changed();
    save(e, halted);

    let cpu = e.cpu();
    let base = cpu.msrs.smbase;
    cpu.set_rflags(0);
    cpu.regs[reg::RIP] = ENTRY;
    cpu.cr0 &= !(cr0::PE | cr0::EM | cr0::TS | cr0::PG);
    cpu.cr4 = 0;
    cpu.efer = 0;
    cpu.dr[7] = dr::DR7_FIXED;
    cpu.idtr = TableReg::default();
    let data = Seg { limit: u32::MAX, access: 0x93, flags: 8, ..Seg::default() };
    for index in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
        cpu.segs[index] = data;
    }
    cpu.segs[seg::CS] = Seg { base: u64::from(base), selector: (base >> 4) as u16, ..data };
    cpu.cpl = 0;
    changed(e);
}

/// RSM: goes on where the SMI came.
///
/// # Errors
/// #UD outside system management mode; a shutdown where the saved state is none that a processor can
/// be in.
pub fn resume<E: Exec + ?Sized>(e: &mut E) -> Result<(), Trap> {
    if !e.cpu().events.smm {
        return Err(e.cpu().raise(Vector::Ud, 0));
    }
    let (regs, sregs) = saved(e);
    let area = area(e);
    let (dr6, dr7) = (load(e, area + DR6, 4), load(e, area + DR7, 4));
    let halted = load(e, area + AUTO_HALT, 1) & 1 != 0;
    let smbase = load(e, area + SMBASE, 4) as u32;
    let cpu = e.cpu();
    let virtual_8086 = sregs.efer & efer::LMA != 0 && regs.rflags & flags::VM != 0;
    let debug = DebugRegs { db: [cpu.dr[0], cpu.dr[1], cpu.dr[2], cpu.dr[3]], dr6, dr7 };
    if virtual_8086
        || cpu.set_sregs_block(&sregs).is_err()
        || cpu.set_regs_block(&regs).is_err()
        || cpu.set_debugregs_block(&debug).is_err()
    {
        return Err(Trap::Shutdown);
    }
    cpu.msrs.smbase = smbase;
    cpu.events.smm = false;
    cpu.events.nmi_masked = cpu.events.smm_inside_nmi;
    cpu.events.smm_inside_nmi = false;
    if halted {
        cpu.mp_state = MpState::Halted;
    }
    e.smm_changed();
    changed(e);
    Ok(())
}

fn changed<E: Exec + ?Sized>(e: &mut E) {
    e.cpu().update_mode();
    e.flush(Flush::All);
    e.context_changed();
}

fn area<E: Exec + ?Sized>(e: &mut E) -> u64 {
    u64::from(e.cpu().msrs.smbase) + AREA
}

fn save<E: Exec + ?Sized>(e: &mut E, halted: bool) {
    let area = area(e);
    let cpu = e.cpu().clone();
    for (index, at) in SEGMENTS {
        let s = &cpu.segs[index];
        store(e, area + at, 2, u64::from(s.selector));
        let access = if s.unusable { s.access & 0x7f } else { s.access };
        store(e, area + at + 2, 2, u64::from(access) | u64::from(s.flags) << 12);
        store(e, area + at + 4, 4, u64::from(s.limit));
        store(e, area + at + 8, 8, s.base);
    }
    for (table, at) in [(cpu.gdtr, GDT), (cpu.idtr, IDT)] {
        store(e, area + at + 4, 4, u64::from(table.limit));
        store(e, area + at + 8, 8, table.base);
    }
    for (n, value) in cpu.regs[..16].iter().enumerate() {
        store(e, area + RAX - 8 * n as u64, 8, *value);
    }
    store(e, area + AUTO_HALT, 1, u64::from(halted));
    store(e, area + EFER, 8, cpu.efer);
    store(e, area + REVISION, 4, REVISION_ID);
    store(e, area + SMBASE, 4, u64::from(cpu.msrs.smbase));
    for (at, value) in [
        (CR4, cpu.cr4),
        (CR3, cpu.cr3),
        (CR0, cpu.cr0),
        (DR7, cpu.dr[7]),
        (DR6, cpu.dr[6]),
        (RFLAGS, cpu.get_rflags()),
        (RIP, cpu.rip()),
    ] {
        store(e, area + at, 8, value);
    }
}

/// What was saved, or what the handler has made of it. Bits that no register has are not looked at.
fn saved<E: Exec + ?Sized>(e: &mut E) -> (Regs, Sregs) {
    let area = area(e);
    let mut general = [0; 18];
    // kvm_regs has its own order: rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15.
    for (slot, n) in [0, 3, 1, 2, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15].into_iter().enumerate()
    {
        general[slot] = load(e, area + RAX - 8 * n, 8);
    }
    general[16] = load(e, area + RIP, 8);
    general[17] = load(e, area + RFLAGS, 4) & flags::ALL;
    let mut segments = [Segment::default(); 8];
    for (index, at) in SEGMENTS {
        segments[index] = segment(e, area + at, index);
    }
    let gdt = table(e, area + GDT);
    let idt = table(e, area + IDT);
    let [cr0, cr3, cr4] = [CR0, CR3, CR4].map(|at| load(e, area + at, 8));
    let efer = load(e, area + EFER, 8);
    let now = e.cpu().sregs_block();
    let sregs = Sregs {
        cs: segments[seg::CS],
        ds: segments[seg::DS],
        es: segments[seg::ES],
        fs: segments[seg::FS],
        gs: segments[seg::GS],
        ss: segments[seg::SS],
        tr: segments[seg::TR],
        ldt: segments[seg::LDTR],
        gdt,
        idt,
        cr0,
        cr3,
        cr4,
        efer,
        ..now
    };
    (Regs::from_array(&general), sregs)
}

fn segment<E: Exec + ?Sized>(e: &mut E, at: u64, index: usize) -> Segment {
    let attributes = load(e, at + 2, 2);
    let wide = matches!(index, seg::FS | seg::GS | seg::LDTR | seg::TR);
    let base = load(e, at + 8, 8);
    let s = Seg {
        base: if wide { base } else { base & 0xffff_ffff },
        limit: load(e, at + 4, 4) as u32,
        selector: load(e, at, 2) as u16,
        access: attributes as u8,
        flags: (attributes >> 12) as u8,
        unusable: attributes & 0x80 == 0,
    };
    Segment::from(&s)
}

fn table<E: Exec + ?Sized>(e: &mut E, at: u64) -> Dtable {
    let base = load(e, at + 8, 8);
    Dtable { base: if canonical(base) { base } else { 0 }, limit: load(e, at + 4, 2) as u16 }
}

/// Writes where SMBASE says, byte by byte where that is not aligned. What is not in RAM is lost.
fn store<E: Exec + ?Sized>(e: &mut E, at: u64, size: u8, value: u64) {
    if at.is_multiple_of(u64::from(size)) {
        e.write_physical(at & 0xffff_ffff, size, value);
        return;
    }
    for i in 0..u64::from(size) {
        e.write_physical((at + i) & 0xffff_ffff, 1, value >> (8 * i) & 0xff);
    }
}

/// What is not in RAM reads as ones.
fn load<E: Exec + ?Sized>(e: &mut E, at: u64, size: u8) -> u64 {
    let ones = u64::MAX >> (64 - 8 * u32::from(size));
    if at.is_multiple_of(u64::from(size)) {
        return e.read_physical(at & 0xffff_ffff, size).unwrap_or(ones);
    }
    (0..u64::from(size))
        .map(|i| e.read_physical((at + i) & 0xffff_ffff, 1).unwrap_or(0xff) << (8 * i))
        .sum()
}
