//! SYSCALL, SYSRET, SYSENTER, SYSEXIT and SWAPGS (SDM volume 2; AMD APM volume 3).

use crate::bits::{canonical, cr0, efer};
use crate::{Cpu, Exec, Mode, Seg, Trap, flags, reg, seg};

/// A flat code segment as these instructions load it, whatever the descriptor tables say.
fn flat_code(selector: u16, dpl: u8, long: bool) -> Seg {
    Seg {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        access: 0x9b | dpl << 5,
        flags: if long { 0xa } else { 0xc },
        unusable: false,
    }
}

/// A flat stack segment.
fn flat_data(selector: u16, dpl: u8) -> Seg {
    Seg {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        access: 0x93 | dpl << 5,
        flags: 0xc,
        unusable: false,
    }
}

fn set_level(cpu: &mut Cpu, code: u16, stack: u16, dpl: u8, long: bool) {
    cpu.segs[seg::CS] = flat_code(code, dpl, long);
    cpu.segs[seg::SS] = flat_data(stack, dpl);
    cpu.cpl = dpl;
    cpu.update_mode();
}

/// SYSCALL; `next` is the return address.
///
/// # Errors
/// #UD without EFER.SCE, in real and virtual-8086 mode, and on Intel outside 64-bit mode.
pub fn syscall<E: Exec + ?Sized>(e: &mut E, next: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    let long64 = cpu.mode == Mode::Long64;
    if cpu.efer & efer::SCE == 0 || cpu.real_or_v86() || !(long64 || cpu.caps.amd) {
        return Err(cpu.ud());
    }
    let selector = (cpu.msrs.star >> 32) as u16 & 0xfffc;
    let long = cpu.long_active();
    if long {
        let old_flags = cpu.get_rflags() & !flags::RF;
        cpu.regs[reg::RCX] = next;
        cpu.regs[reg::R11] = old_flags;
        cpu.regs[reg::RIP] = if long64 { cpu.msrs.lstar } else { cpu.msrs.cstar };
        cpu.set_rflags(old_flags & !cpu.msrs.sfmask);
    } else {
        cpu.regs[reg::RCX] = next & 0xffff_ffff;
        cpu.regs[reg::RIP] = cpu.msrs.star & 0xffff_ffff;
        cpu.rflags &= !(flags::VM | flags::IF | flags::RF);
    }
    set_level(cpu, selector, selector.wrapping_add(8), 0, long);
    e.privilege_changed();
    Ok(())
}

/// SYSRET; `wide` is the 64-bit operand size, which returns to 64-bit mode.
///
/// # Errors
/// #UD without EFER.SCE or on Intel outside 64-bit mode, #GP(0) above CPL 0 and, on Intel, for a
/// return address that is not canonical.
pub fn sysret<E: Exec + ?Sized>(e: &mut E, wide: bool) -> Result<(), Trap> {
    let cpu = e.cpu();
    if cpu.efer & efer::SCE == 0 || !(cpu.mode == Mode::Long64 || cpu.caps.amd) {
        return Err(cpu.ud());
    }
    if cpu.cr0 & cr0::PE == 0 || cpu.cpl != 0 {
        return Err(cpu.gp(0));
    }
    let rcx = cpu.regs[reg::RCX];
    if wide && cpu.caps.intel && !canonical(rcx) {
        return Err(cpu.gp(0));
    }
    let base = (cpu.msrs.star >> 48) as u16;
    let code = if wide { base.wrapping_add(16) } else { base } | 3;
    let stack = base.wrapping_add(8) | 3;
    if cpu.long_active() {
        let loaded = cpu.regs[reg::R11] & 0x3c_7fd7;
        cpu.set_rflags(loaded);
    } else {
        cpu.rflags |= flags::IF;
    }
    cpu.regs[reg::RIP] = if wide { rcx } else { rcx & 0xffff_ffff };
    set_level(cpu, code, stack, 3, wide);
    e.privilege_changed();
    Ok(())
}

/// SYSENTER. AMD has it outside long mode only.
///
/// # Errors
/// #GP(0) in real mode or without a target, #UD on AMD in long mode.
pub fn sysenter<E: Exec + ?Sized>(e: &mut E) -> Result<(), Trap> {
    let cpu = e.cpu();
    let long = cpu.long_active();
    if long && cpu.caps.amd {
        return Err(cpu.ud());
    }
    let selector = cpu.msrs.sysenter_cs as u16 & 0xfffc;
    if cpu.cr0 & cr0::PE == 0 || selector == 0 {
        return Err(cpu.gp(0));
    }
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    cpu.regs[reg::RSP] = cpu.msrs.sysenter_esp & mask;
    cpu.regs[reg::RIP] = cpu.msrs.sysenter_eip & mask;
    cpu.rflags &= !(flags::VM | flags::IF | flags::RF);
    set_level(cpu, selector, selector.wrapping_add(8), 0, long);
    e.context_changed();
    Ok(())
}

/// SYSEXIT; `wide` is the 64-bit operand size.
///
/// # Errors
/// #GP(0) in real mode, above CPL 0, without a target or for addresses that are not canonical;
/// #UD on AMD in long mode.
pub fn sysexit<E: Exec + ?Sized>(e: &mut E, wide: bool) -> Result<(), Trap> {
    let cpu = e.cpu();
    if cpu.long_active() && cpu.caps.amd {
        return Err(cpu.ud());
    }
    let base = cpu.msrs.sysenter_cs as u16 & 0xfffc;
    if base == 0 || cpu.cr0 & cr0::PE == 0 || cpu.cpl != 0 {
        return Err(cpu.gp(0));
    }
    let (rsp, rip) = (cpu.regs[reg::RCX], cpu.regs[reg::RDX]);
    if wide && !(canonical(rsp) && canonical(rip)) {
        return Err(cpu.gp(0));
    }
    let mask = if wide { u64::MAX } else { 0xffff_ffff };
    cpu.regs[reg::RSP] = rsp & mask;
    cpu.regs[reg::RIP] = rip & mask;
    let code = base.wrapping_add(if wide { 32 } else { 16 }) | 3;
    set_level(cpu, code, code.wrapping_add(8), 3, wide);
    e.context_changed();
    Ok(())
}

/// SWAPGS.
///
/// # Errors
/// #UD outside 64-bit mode, #GP(0) above CPL 0.
pub fn swapgs<E: Exec + ?Sized>(e: &mut E) -> Result<(), Trap> {
    let cpu = e.cpu();
    if cpu.mode != Mode::Long64 {
        return Err(cpu.ud());
    }
    cpu.require_cpl0()?;
    std::mem::swap(&mut cpu.segs[seg::GS].base, &mut cpu.msrs.kernel_gs_base);
    Ok(())
}
