//! Far RET and IRET in every mode (SDM volume 2, RET and IRET; volume 3, 5.8.6).

use crate::bits::acc;
use crate::far::{check_target, enter_real, load_code};
use crate::segment::{Descriptor, fetch, is_null, mark_accessed, null_seg, selector_error};
use crate::stack::{Stack, segment_mask};
use crate::{Exec, Mode, Seg, Trap, Vector, flags, reg, seg, task};

/// Far RET with `size` bytes per item, releasing `extra` bytes of parameters.
///
/// # Errors
/// #GP, #NP, #SS or #PF as the SDM has it; nothing has changed then.
pub fn far_ret<E: Exec + ?Sized>(e: &mut E, size: u8, extra: u16) -> Result<(), Trap> {
    let stack = Stack::current(e.cpu());
    let step = u64::from(size);
    let rip = stack.peek(e, 0, size)?;
    let cs = stack.peek(e, step, size)? as u16;
    let released = step * 2 + u64::from(extra);
    if e.cpu().real_or_v86() {
        enter_real(e, cs, rip)?;
        drop_items(e, &stack, released);
        return Ok(());
    }
    let code = return_code(e, cs)?;
    check_target(e, &code, rip)?;
    let cpl = e.cpu().cpl;
    let rpl = (cs & 3) as u8;
    if rpl == cpl {
        load_code(e, cs, code, rip, cpl)?;
        drop_items(e, &stack, released);
        e.context_changed();
        return Ok(());
    }
    let sp = stack.peek(e, released, size)?;
    let ss = stack.peek(e, released + step, size)? as u16;
    let ss = return_stack(e, ss, &code, rpl)?;
    leave(e, cs, code, rip, rpl, ss, sp.wrapping_add(u64::from(extra)))?;
    e.context_changed();
    Ok(())
}

/// IRET, IRETD or IRETQ by operand size in bytes. `next` is only for a return to a task.
///
/// # Errors
/// As for [`far_ret`].
pub fn iret<E: Exec + ?Sized>(e: &mut E, size: u8, next: u64) -> Result<(), Trap> {
    // Even an IRET that faults ends the blocking of NMIs (SDM volume 3, 6.7.1).
    e.cpu().events.nmi_masked = false;
    let cpu = e.cpu();
    if cpu.real_or_v86() {
        return iret_real(e, size);
    }
    if cpu.rflags & flags::NT != 0 {
        if cpu.long_active() {
            return Err(cpu.gp(0));
        }
        return task::iret(e, next);
    }
    let stack = Stack::current(cpu);
    let long = cpu.mode == Mode::Long64;
    let cpl = cpu.cpl;
    let step = u64::from(size);
    let rip = stack.peek(e, 0, size)?;
    let cs = stack.peek(e, step, size)? as u16;
    let popped = stack.peek(e, step * 2, size)?;
    if size == 4 && popped & flags::VM != 0 && cpl == 0 && !e.cpu().long_active() {
        return iret_to_v86(e, &stack, rip, cs, popped);
    }
    let code = return_code(e, cs)?;
    check_target(e, &code, rip)?;
    let rpl = (cs & 3) as u8;
    let mask = iret_mask(e, size);
    if rpl == cpl && !long {
        load_code(e, cs, code, rip, cpl)?;
        drop_items(e, &stack, step * 3);
    } else {
        let sp = stack.peek(e, step * 3, size)?;
        let ss = stack.peek(e, step * 4, size)? as u16;
        let ss = return_stack(e, ss, &code, rpl)?;
        leave(e, cs, code, rip, rpl, ss, sp)?;
    }
    load_flags(e, popped, mask);
    Ok(())
}

/// The flags that IRET may change, by operand size and the privilege that it starts with.
fn iret_mask<E: Exec + ?Sized>(e: &mut E, size: u8) -> u64 {
    let cpu = e.cpu();
    let mut mask = flags::ARITH | flags::TF | flags::DF | flags::NT;
    if size > 2 {
        mask |= flags::RF | flags::AC | flags::ID;
    }
    if u64::from(cpu.cpl) <= cpu.rflags >> 12 & 3 {
        mask |= flags::IF;
    }
    if cpu.cpl == 0 {
        mask |= flags::IOPL;
        if size > 2 {
            mask |= flags::VIF | flags::VIP;
        }
    }
    mask
}

fn load_flags<E: Exec + ?Sized>(e: &mut E, popped: u64, mask: u64) {
    let cpu = e.cpu();
    let now = cpu.get_rflags();
    cpu.set_rflags(now & !mask | popped & mask);
    e.privilege_changed();
}

fn drop_items<E: Exec + ?Sized>(e: &mut E, stack: &Stack, bytes: u64) {
    let cpu = e.cpu();
    cpu.regs[reg::RSP] = stack.merge(cpu.regs[reg::RSP], stack.sp.wrapping_add(bytes));
}

fn iret_real<E: Exec + ?Sized>(e: &mut E, size: u8) -> Result<(), Trap> {
    let cpu = e.cpu();
    let v86 = cpu.mode == Mode::V86;
    if v86 && cpu.rflags >> 12 & 3 != 3 {
        return Err(cpu.gp(0));
    }
    let stack = Stack::current(cpu);
    let step = u64::from(size);
    let rip = stack.peek(e, 0, size)?;
    let cs = stack.peek(e, step, size)? as u16;
    let popped = stack.peek(e, step * 2, size)?;
    let mut mask = flags::ARITH | flags::TF | flags::IF | flags::DF | flags::NT;
    if !v86 {
        mask |= flags::IOPL;
    }
    if size > 2 {
        mask |= flags::RF | flags::AC | flags::ID;
    }
    enter_real(e, cs, rip)?;
    drop_items(e, &stack, step * 3);
    load_flags(e, popped, mask);
    Ok(())
}

fn iret_to_v86<E: Exec + ?Sized>(
    e: &mut E,
    stack: &Stack,
    rip: u64,
    cs: u16,
    popped: u64,
) -> Result<(), Trap> {
    if rip > 0xffff {
        return Err(e.cpu().gp(0));
    }
    let sp = stack.peek(e, 12, 4)?;
    let mut selectors = [0u16; 5];
    for (slot, offset) in selectors.iter_mut().zip((16..).step_by(4)) {
        *slot = stack.peek(e, offset, 4)? as u16;
    }
    let cpu = e.cpu();
    cpu.set_rflags(popped);
    cpu.cpl = 3;
    let [ss, es, ds, fs, gs] = selectors;
    for (index, selector) in
        [(seg::CS, cs), (seg::SS, ss), (seg::ES, es), (seg::DS, ds), (seg::FS, fs), (seg::GS, gs)]
    {
        crate::segment::load_real_segment(cpu, index, selector);
    }
    cpu.regs[reg::RSP] = sp;
    cpu.regs[reg::RIP] = rip;
    cpu.update_mode();
    e.context_changed();
    Ok(())
}

/// Checks the code segment of a return.
fn return_code<E: Exec + ?Sized>(e: &mut E, selector: u16) -> Result<Descriptor, Trap> {
    if is_null(selector) {
        return Err(e.cpu().gp(0));
    }
    let error = selector_error(selector);
    let d = fetch(e, selector, Vector::Gp, 0)?;
    let cpu = e.cpu();
    let rpl = (selector & 3) as u8;
    let privileged = if d.is_conforming() { d.dpl() <= rpl } else { d.dpl() == rpl };
    let both = cpu.long_active() && d.is_long() && d.is_big();
    if !d.is_code() || rpl < cpu.cpl || !privileged || both {
        return Err(cpu.gp(error));
    }
    if !d.present() {
        return Err(cpu.raise(Vector::Np, error));
    }
    Ok(d)
}

/// Checks the stack segment of a return to privilege `rpl` and `code`.
fn return_stack<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    code: &Descriptor,
    rpl: u8,
) -> Result<Seg, Trap> {
    let to_long = e.cpu().long_active() && code.is_long();
    if is_null(selector) {
        if to_long && rpl != 3 && (selector & 3) as u8 == rpl {
            return Ok(null_seg(selector, rpl));
        }
        return Err(e.cpu().gp(0));
    }
    let error = selector_error(selector);
    let mut d = fetch(e, selector, Vector::Gp, 0)?;
    if (selector & 3) as u8 != rpl || !d.is_writable_data() || d.dpl() != rpl {
        return Err(e.cpu().gp(error));
    }
    if !d.present() {
        return Err(e.cpu().raise(Vector::Ss, error));
    }
    mark_accessed(e, &mut d)?;
    Ok(d.to_seg(selector))
}

/// Loads CS:RIP and SS:RSP; data segments that the new level may not use become null. The caller
/// tells the engine that the context changed.
fn leave<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    code: Descriptor,
    rip: u64,
    cpl: u8,
    ss: Seg,
    sp: u64,
) -> Result<(), Trap> {
    let to_long = e.cpu().long_active() && code.is_long();
    load_code(e, selector, code, rip, cpl)?;
    let cpu = e.cpu();
    cpu.segs[seg::SS] = ss;
    let old = cpu.regs[reg::RSP];
    cpu.regs[reg::RSP] = match (to_long, segment_mask(&ss)) {
        (true, _) => sp,
        (false, 0xffff) => old & !0xffff | sp & 0xffff,
        (false, _) => sp & 0xffff_ffff,
    };
    for index in [seg::ES, seg::DS, seg::FS, seg::GS] {
        let s = &mut cpu.segs[index];
        let conforming = s.access & (acc::CODE | acc::CONFORMING) == acc::CODE | acc::CONFORMING;
        if !s.unusable && s.dpl() < cpl && !conforming {
            // FS and GS keep their bases, which 64-bit code uses whatever the selector is.
            *s = Seg { base: s.base, ..null_seg(0, 0) };
        }
    }
    Ok(())
}
