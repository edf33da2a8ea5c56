//! Far JMP and far CALL, directly and through gates (SDM volume 2, CALL and JMP; volume 3, 5.8).

use crate::bits::canonical;
use crate::exception::{inner_stack, tss_rsp, tss_stack};
use crate::segment::{
    Descriptor, fetch, fetch_upper, is_null, load_real_segment, mark_accessed, null_seg,
    selector_error,
};
use crate::stack::{Frame, Stack};
use crate::{Exec, Seg, Trap, Vector, reg, seg, task};

/// The low `bytes` bytes of an offset.
fn truncate(offset: u64, bytes: u8) -> u64 {
    match bytes {
        2 => offset & 0xffff,
        4 => offset & 0xffff_ffff,
        _ => offset,
    }
}

/// Far JMP to `selector:offset`; `size` is the operand size in bytes: 2, 4 or 8.
///
/// # Errors
/// #GP, #NP, #TS, #SS or #PF as the SDM has it; nothing has changed then.
pub fn far_jump<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    offset: u64,
    size: u8,
    next: u64,
) -> Result<(), Trap> {
    let offset = truncate(offset, size);
    if e.cpu().real_or_v86() {
        return enter_real(e, selector, offset);
    }
    let (target, d) = resolve(e, selector)?;
    match target {
        Target::Code => {
            check_direct(e, selector, &d)?;
            let cpl = e.cpu().cpl;
            enter(e, selector, d, offset, cpl)
        }
        Target::Gate(gate) => {
            let cpl = e.cpu().cpl;
            let fits = if d.is_conforming() { d.dpl() <= cpl } else { d.dpl() == cpl };
            if !fits {
                return Err(e.cpu().gp(selector_error(gate.selector)));
            }
            require_present(e, gate.selector, &d)?;
            enter(e, gate.selector, d, gate.offset, cpl)
        }
        Target::Task(tss) => task::jump(e, tss, next),
    }
}

/// Far CALL to `selector:offset`; `next` is the return address.
///
/// # Errors
/// As for [`far_jump`].
pub fn far_call<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    offset: u64,
    size: u8,
    next: u64,
) -> Result<(), Trap> {
    let offset = truncate(offset, size);
    let stack = Stack::current(e.cpu());
    let mut frame = Frame::new(size);
    frame.push(u64::from(e.cpu().segs[seg::CS].selector));
    frame.push(next);
    if e.cpu().real_or_v86() {
        frame.probe(e, &stack)?;
        let sp = frame.write(e, &stack)?;
        check_real(e, offset)?;
        move_stack(e, &stack, sp);
        return enter_real(e, selector, offset);
    }
    let (target, d) = resolve(e, selector)?;
    match target {
        Target::Code => {
            check_direct(e, selector, &d)?;
            frame.probe(e, &stack)?;
            push_then_enter(e, &frame, &stack, selector, d, offset)
        }
        Target::Gate(gate) => call_gate(e, &gate, d, next),
        Target::Task(tss) => task::call(e, tss, next),
    }
}

fn move_stack<E: Exec + ?Sized>(e: &mut E, stack: &Stack, sp: u64) {
    let cpu = e.cpu();
    cpu.regs[reg::RSP] = stack.merge(cpu.regs[reg::RSP], sp);
}

/// The last steps of a call that keeps CPL. Processors look at the target when the return address is
/// written already, which stays below the stack pointer then.
fn push_then_enter<E: Exec + ?Sized>(
    e: &mut E,
    frame: &Frame,
    stack: &Stack,
    selector: u16,
    mut d: Descriptor,
    offset: u64,
) -> Result<(), Trap> {
    mark_accessed(e, &mut d)?;
    let sp = frame.write(e, stack)?;
    check_target(e, &d, offset)?;
    move_stack(e, stack, sp);
    let cpl = e.cpu().cpl;
    enter(e, selector, d, offset, cpl)
}

fn check_real<E: Exec + ?Sized>(e: &mut E, offset: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    if offset > u64::from(cpu.segs[seg::CS].limit) { Err(cpu.gp(0)) } else { Ok(()) }
}

/// Loads CS:IP in real and virtual-8086 mode.
pub(crate) fn enter_real<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    offset: u64,
) -> Result<(), Trap> {
    check_real(e, offset)?;
    let cpu = e.cpu();
    load_real_segment(cpu, seg::CS, selector);
    cpu.regs[reg::RIP] = offset;
    cpu.update_mode();
    e.context_changed();
    Ok(())
}

/// #GP(0) unless `offset` is a place to execute at in segment `code`.
pub(crate) fn check_target<E: Exec + ?Sized>(
    e: &mut E,
    code: &Descriptor,
    offset: u64,
) -> Result<(), Trap> {
    let cpu = e.cpu();
    let ok = if cpu.long_active() && code.is_long() {
        canonical(offset)
    } else {
        offset <= u64::from(code.limit())
    };
    if ok { Ok(()) } else { Err(cpu.gp(0)) }
}

/// Loads CS:RIP in protected mode.
fn enter<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    code: Descriptor,
    offset: u64,
    cpl: u8,
) -> Result<(), Trap> {
    load_code(e, selector, code, offset, cpl)?;
    e.context_changed();
    Ok(())
}

/// Loads CS:RIP in protected mode; the caller tells the engine that the context changed.
pub(crate) fn load_code<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    mut code: Descriptor,
    offset: u64,
    cpl: u8,
) -> Result<(), Trap> {
    check_target(e, &code, offset)?;
    mark_accessed(e, &mut code)?;
    let cpu = e.cpu();
    cpu.cpl = cpl;
    cpu.segs[seg::CS] = code.to_seg(selector & !3 | u16::from(cpl));
    cpu.regs[reg::RIP] = offset;
    cpu.update_mode();
    Ok(())
}

fn require_present<E: Exec + ?Sized>(e: &mut E, selector: u16, d: &Descriptor) -> Result<(), Trap> {
    if d.present() { Ok(()) } else { Err(e.cpu().raise(Vector::Np, selector_error(selector))) }
}

/// Privilege checks for a code segment that is named directly.
fn check_direct<E: Exec + ?Sized>(e: &mut E, selector: u16, d: &Descriptor) -> Result<(), Trap> {
    let cpu = e.cpu();
    let cpl = cpu.cpl;
    let privileged = if d.is_conforming() {
        d.dpl() <= cpl
    } else {
        (selector & 3) as u8 <= cpl && d.dpl() == cpl
    };
    // L and D together are reserved in long mode.
    let both = cpu.long_active() && d.is_long() && d.is_big();
    if !privileged || both {
        return Err(cpu.gp(selector_error(selector)));
    }
    require_present(e, selector, d)
}

/// What a call gate says.
struct Gate {
    selector: u16,
    offset: u64,
    /// Bytes per pushed item.
    size: u8,
    parameters: u64,
}

/// Where a far transfer goes, beside the descriptor of the code segment.
enum Target {
    Code,
    Gate(Gate),
    /// The selector of a TSS.
    Task(u16),
}

fn resolve<E: Exec + ?Sized>(e: &mut E, selector: u16) -> Result<(Target, Descriptor), Trap> {
    if is_null(selector) {
        return Err(e.cpu().gp(0));
    }
    let error = selector_error(selector);
    let d = fetch(e, selector, Vector::Gp, 0)?;
    let Some(kind) = d.system_type() else {
        if !d.is_code() {
            return Err(e.cpu().gp(error));
        }
        return Ok((Target::Code, d));
    };
    let cpu = e.cpu();
    let long = cpu.long_active();
    let known = if long { kind == 12 } else { matches!(kind, 1 | 4 | 5 | 9 | 12) };
    if !known || d.dpl() < cpu.cpl || d.dpl() < (selector & 3) as u8 {
        return Err(cpu.gp(error));
    }
    require_present(e, selector, &d)?;
    match kind {
        1 | 9 => return Ok((Target::Task(selector), d)),
        5 => return Ok((Target::Task((d.raw >> 16) as u16), d)),
        _ => {}
    }
    let upper = if long { fetch_upper(e, selector, Vector::Gp)? } else { 0 };
    let wide = kind == 12;
    let gate = Gate {
        selector: (d.raw >> 16) as u16,
        offset: d.raw & 0xffff | if wide { d.raw >> 48 << 16 } else { 0 } | upper << 32,
        size: if long {
            8
        } else if wide {
            4
        } else {
            2
        },
        parameters: if long { 0 } else { d.raw >> 32 & 31 },
    };
    if is_null(gate.selector) {
        return Err(e.cpu().gp(0));
    }
    let code = fetch(e, gate.selector, Vector::Gp, 0)?;
    let wrong_size = long && (!code.is_long() || code.is_big());
    if !code.is_code() || wrong_size {
        return Err(e.cpu().gp(selector_error(gate.selector)));
    }
    Ok((Target::Gate(gate), code))
}

fn call_gate<E: Exec + ?Sized>(
    e: &mut E,
    gate: &Gate,
    mut code: Descriptor,
    next: u64,
) -> Result<(), Trap> {
    let cpl = e.cpu().cpl;
    if code.dpl() > cpl {
        return Err(e.cpu().gp(selector_error(gate.selector)));
    }
    require_present(e, gate.selector, &code)?;
    let old = Stack::current(e.cpu());
    let cs = u64::from(e.cpu().segs[seg::CS].selector);
    let mut frame = Frame::new(gate.size);
    if code.is_conforming() || code.dpl() == cpl {
        check_target(e, &code, gate.offset)?;
        frame.push(cs);
        frame.push(next);
        frame.probe(e, &old)?;
        return push_then_enter(e, &frame, &old, gate.selector, code, gate.offset);
    }
    let level = code.dpl();
    let stack = if e.cpu().long_active() {
        let sp = tss_rsp(e, u64::from(level), 0)?;
        let ss = Seg::default();
        Stack { ss, sp, mask: u64::MAX, flat: true, supervisor: true, error: 0 }
    } else {
        let (sp, ss) = tss_stack(e, level, 0)?;
        inner_stack(e, sp, ss, level, 0)?
    };
    check_target(e, &code, gate.offset)?;
    let cpu = e.cpu();
    frame.push(u64::from(cpu.segs[seg::SS].selector));
    frame.push(cpu.regs[reg::RSP]);
    for i in (0..gate.parameters).rev() {
        let value = old.peek(e, i * u64::from(gate.size), gate.size)?;
        frame.push(value);
    }
    frame.push(cs);
    frame.push(next);
    frame.probe(e, &stack)?;
    mark_accessed(e, &mut code)?;
    let sp = frame.write(e, &stack)?;
    let cpu = e.cpu();
    cpu.segs[seg::SS] = if stack.flat { null_seg(u16::from(level), level) } else { stack.ss };
    cpu.regs[reg::RSP] = stack.merge(cpu.regs[reg::RSP], sp);
    enter(e, gate.selector, code, gate.offset, level)
}
