//! Delivery of exceptions and interrupts (SDM volume 3, chapter 6; AMD APM volume 2, chapter 8).

use crate::bits::{acc, canonical, cr0, dr};
use crate::segment::{self, Descriptor, fetch, is_null, mark_accessed, null_seg, selector_error};
use crate::stack::{Frame, Stack, segment_mask};
use crate::{Exec, Fault, Mode, Seg, Trap, Vector, flags, reg, seg, task};

/// What is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An exception. RIP names the instruction for faults, the next one for #DB traps.
    Fault(Fault),
    /// A maskable interrupt.
    External(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// INT n; `next` is the address of the following instruction.
    IntN {
        /// The vector.
        vector: u8,
        /// RIP to return to.
        next: u64,
    },
    /// INT3 (vector 3) and INTO (vector 4).
    Trap {
        /// The vector.
        vector: u8,
        /// RIP to return to.
        next: u64,
    },
    /// INT1, which counts as hardware: no privilege check.
    Icebp {
        /// RIP to return to.
        next: u64,
    },
}

/// An event in the form that delivery wants.
pub(crate) struct Delivery {
    pub vector: u8,
    pub error: Option<u32>,
    pub rip: u64,
    /// The EXT bit of error codes raised meanwhile.
    pub ext: u32,
    /// The gate's DPL counts.
    pub soft: bool,
    /// RF in the pushed flags.
    pub rf: bool,
}

impl Delivery {
    /// The error code that names the gate.
    pub fn gate_error(&self) -> u32 {
        u32::from(self.vector) << 3 | 2 | self.ext
    }
}

/// How many exceptions may come of one event. Each round moves up a class, and a fault within a double
/// fault ends it, but for the benign ones: an alignment check for the push of an alignment check
/// locks up a processor. Here the machine stops.
const ROUNDS: u32 = 8;

/// Delivers an event, and the faults that this raises in turn, up to the double fault.
///
/// # Errors
/// `Trap::Shutdown` for a triple fault; `Trap::Exit` when the engine must leave the guest first
/// (the event is then delivered again from its start).
pub fn deliver<E: Exec + ?Sized>(e: &mut E, event: Event) -> Result<(), Trap> {
    let mut event = event;
    for _ in 0..ROUNDS {
        match attempt(e, event) {
            Ok(()) => return Ok(()),
            Err(Trap::Fault) => {}
            Err(other) => return Err(other),
        }
        let second = e.cpu().fault;
        if second.vector == Vector::Pf {
            // Even if a double fault comes of it.
            e.cpu().cr2 = second.address;
        }
        let first = match event {
            Event::Fault(f) => class(f.vector),
            _ => Class::Benign,
        };
        // SDM table 6-5.
        event = match (first, class(second.vector)) {
            (Class::Double, Class::Contributory | Class::PageFault | Class::Double) => {
                return Err(Trap::Shutdown);
            }
            (Class::Contributory, Class::Contributory)
            | (Class::PageFault, Class::Contributory | Class::PageFault) => {
                Event::Fault(Fault { vector: Vector::Df, error: 0, address: 0 })
            }
            _ => Event::Fault(second),
        };
    }
    Err(Trap::Shutdown)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    Double,
}

fn class(vector: Vector) -> Class {
    match vector {
        Vector::De | Vector::Ts | Vector::Np | Vector::Ss | Vector::Gp => Class::Contributory,
        Vector::Pf => Class::PageFault,
        Vector::Df => Class::Double,
        _ => Class::Benign,
    }
}

fn attempt<E: Exec + ?Sized>(e: &mut E, event: Event) -> Result<(), Trap> {
    let cpu = e.cpu();
    let rip = cpu.rip();
    let hardware = Delivery { vector: 2, error: None, rip, ext: 1, soft: false, rf: false };
    let d = match event {
        Event::Fault(f) => {
            match f.vector {
                Vector::Pf => cpu.cr2 = f.address,
                Vector::Db => {
                    cpu.dr[6] = cpu.dr[6] & !15 | f.address & dr::DR6_TRAPS | dr::DR6_FIXED;
                    cpu.dr[7] &= !dr::DR7_GD;
                }
                _ => {}
            }
            Delivery {
                vector: f.vector as u8,
                error: f.vector.has_error_code().then_some(f.error),
                rf: f.vector != Vector::Db,
                ..hardware
            }
        }
        Event::External(vector) => Delivery { vector, ..hardware },
        Event::Nmi => hardware,
        Event::Icebp { next } => Delivery { vector: 1, rip: next, ..hardware },
        Event::IntN { vector, next } => {
            let iopl = cpu.rflags >> 12 & 3;
            if cpu.mode == Mode::V86 && iopl < 3 {
                return Err(cpu.gp(0));
            }
            Delivery { vector, rip: next, ext: 0, soft: true, ..hardware }
        }
        Event::Trap { vector, next } => {
            Delivery { vector, rip: next, ext: 0, soft: true, ..hardware }
        }
    };
    if cpu.cr0 & cr0::PE == 0 {
        deliver_real(e, &d)?;
    } else if cpu.long_active() {
        deliver_long(e, &d)?;
    } else {
        deliver_protected(e, &d)?;
    }
    let events = &mut e.cpu().events;
    events.sti_shadow = false;
    events.mov_ss_shadow = false;
    if event == Event::Nmi {
        events.nmi_masked = true;
    }
    e.privilege_changed();
    Ok(())
}

/// The flags to push.
fn pushed_flags<E: Exec + ?Sized>(e: &mut E, d: &Delivery) -> u64 {
    e.cpu().get_rflags() | if d.rf { flags::RF } else { 0 }
}

fn deliver_real<E: Exec + ?Sized>(e: &mut E, d: &Delivery) -> Result<(), Trap> {
    let cpu = e.cpu();
    let at = u16::from(d.vector) * 4;
    if at + 3 > cpu.idtr.limit {
        return Err(cpu.gp(d.gate_error()));
    }
    let linear = cpu.idtr.base.wrapping_add(u64::from(at)) & 0xffff_ffff;
    let mut frame = Frame::new(2);
    frame.push(cpu.get_rflags() & 0xffff);
    frame.push(u64::from(cpu.segs[seg::CS].selector));
    frame.push(d.rip);
    let stack = Stack::current(cpu);
    let target = e.read_linear(linear, 4, true)?;
    frame.probe(e, &stack)?;
    let sp = frame.write(e, &stack)?;
    let cpu = e.cpu();
    cpu.regs[reg::RSP] = stack.merge(cpu.regs[reg::RSP], sp);
    cpu.rflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
    segment::load_real_segment(cpu, seg::CS, (target >> 16) as u16);
    cpu.regs[reg::RIP] = target & 0xffff;
    cpu.update_mode();
    Ok(())
}

/// Flags as the handler starts with them.
fn handler_flags(flags_now: u64, interrupt_gate: bool) -> u64 {
    let mut clear = flags::TF | flags::NT | flags::RF | flags::VM;
    if interrupt_gate {
        clear |= flags::IF;
    }
    flags_now & !clear
}

/// Checks a gate's code segment; gives its descriptor and the new privilege level.
fn gate_target<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    ext: u32,
) -> Result<(Descriptor, u8), Trap> {
    if is_null(selector) {
        return Err(e.cpu().gp(ext));
    }
    let error = selector_error(selector) | ext;
    let code = fetch(e, selector, Vector::Gp, ext)?;
    let cpl = e.cpu().cpl;
    if !code.is_code() || code.dpl() > cpl {
        return Err(e.cpu().gp(error));
    }
    if !code.present() {
        return Err(e.cpu().raise(Vector::Np, error));
    }
    let new_cpl = if code.is_conforming() { cpl } else { code.dpl() };
    Ok((code, new_cpl))
}

fn deliver_protected<E: Exec + ?Sized>(e: &mut E, d: &Delivery) -> Result<(), Trap> {
    let cpu = e.cpu();
    let at = u16::from(d.vector) * 8;
    if at + 7 > cpu.idtr.limit {
        return Err(cpu.gp(d.gate_error()));
    }
    let linear = cpu.idtr.base.wrapping_add(u64::from(at)) & 0xffff_ffff;
    let gate = Descriptor { raw: e.read_linear(linear, 8, true)?, address: linear };
    let cpu = e.cpu();
    let Some(kind @ (5 | 6 | 7 | 14 | 15)) = gate.system_type() else {
        return Err(cpu.gp(d.gate_error()));
    };
    if d.soft && gate.dpl() < cpu.cpl {
        return Err(cpu.gp(d.gate_error()));
    }
    if !gate.present() {
        return Err(cpu.raise(Vector::Np, d.gate_error()));
    }
    let selector = (gate.raw >> 16) as u16;
    if kind == 5 {
        return task::interrupt(e, selector, d);
    }
    let wide = kind & 8 != 0;
    let offset = gate.raw & 0xffff | if wide { gate.raw >> 48 << 16 } else { 0 };
    let (mut code, new_cpl) = gate_target(e, selector, d.ext)?;
    let cpu = e.cpu();
    let v86 = cpu.mode == Mode::V86;
    if v86 && new_cpl != 0 {
        return Err(cpu.gp(selector_error(selector) | d.ext));
    }
    let (old_ss, old_rsp) = (cpu.segs[seg::SS], cpu.regs[reg::RSP]);
    let inner = new_cpl < cpu.cpl;
    let stack = if inner {
        let (sp, ss) = tss_stack(e, new_cpl, d.ext)?;
        inner_stack(e, sp, ss, new_cpl, d.ext)?
    } else {
        Stack { error: d.ext, ..Stack::current(cpu) }
    };
    if offset > u64::from(code.limit()) {
        return Err(e.cpu().gp(d.ext));
    }
    let mut frame = Frame::new(if wide { 4 } else { 2 });
    let pushed = pushed_flags(e, d);
    let cpu = e.cpu();
    if v86 {
        for index in [seg::GS, seg::FS, seg::DS, seg::ES] {
            frame.push(u64::from(cpu.segs[index].selector));
        }
    }
    if inner {
        frame.push(u64::from(old_ss.selector));
        frame.push(old_rsp);
    }
    frame.push(pushed);
    frame.push(u64::from(cpu.segs[seg::CS].selector));
    frame.push(d.rip);
    if let Some(error) = d.error {
        frame.push(u64::from(error));
    }
    frame.probe(e, &stack)?;
    mark_accessed(e, &mut code)?;
    let sp = frame.write(e, &stack)?;

    let cpu = e.cpu();
    if inner {
        cpu.segs[seg::SS] = stack.ss;
    }
    if v86 {
        for index in [seg::GS, seg::FS, seg::DS, seg::ES] {
            cpu.segs[index] = null_seg(0, 0);
        }
    }
    cpu.regs[reg::RSP] = stack.merge(cpu.regs[reg::RSP], sp);
    cpu.cpl = new_cpl;
    cpu.segs[seg::CS] = code.to_seg(selector & !3 | u16::from(new_cpl));
    cpu.regs[reg::RIP] = offset;
    cpu.rflags = handler_flags(cpu.rflags, kind & 1 == 0);
    cpu.update_mode();
    Ok(())
}

/// The stack pointer and selector for privilege `level` from a 16- or 32-bit TSS.
pub(crate) fn tss_stack<E: Exec + ?Sized>(
    e: &mut E,
    level: u8,
    ext: u32,
) -> Result<(u64, u16), Trap> {
    let cpu = e.cpu();
    let tr = cpu.segs[seg::TR];
    let wide = tr.access & 8 != 0;
    let at = u64::from(level) * if wide { 8 } else { 4 } + if wide { 4 } else { 2 };
    let bytes = if wide { 6 } else { 4 };
    if tr.unusable || at + bytes - 1 > u64::from(tr.limit) {
        return Err(cpu.raise(Vector::Ts, selector_error(tr.selector) | ext));
    }
    let sp_size = if wide { 4u8 } else { 2 };
    let linear = tr.base.wrapping_add(at) & 0xffff_ffff;
    let sp = e.read_linear(linear, sp_size, true)?;
    let ss = e.read_linear(linear.wrapping_add(u64::from(sp_size)) & 0xffff_ffff, 2, true)?;
    Ok((sp, ss as u16))
}

/// RSP0 to RSP2 (`slot` 0 to 2) or IST1 to IST7 (`slot` 4 to 10) of a 64-bit TSS.
pub(crate) fn tss_rsp<E: Exec + ?Sized>(e: &mut E, slot: u64, ext: u32) -> Result<u64, Trap> {
    let cpu = e.cpu();
    let tr = cpu.segs[seg::TR];
    let at = 4 + slot * 8;
    if tr.unusable || at + 7 > u64::from(tr.limit) {
        return Err(cpu.raise(Vector::Ts, selector_error(tr.selector) | ext));
    }
    e.read_linear(tr.base.wrapping_add(at), 8, true)
}

/// Checks the stack segment for a move to a more privileged level and describes the stack.
pub(crate) fn inner_stack<E: Exec + ?Sized>(
    e: &mut E,
    sp: u64,
    selector: u16,
    cpl: u8,
    ext: u32,
) -> Result<Stack, Trap> {
    if is_null(selector) {
        return Err(e.cpu().raise(Vector::Ts, ext));
    }
    let error = selector_error(selector) | ext;
    let mut d = fetch(e, selector, Vector::Ts, ext)?;
    if (selector & 3) as u8 != cpl || d.dpl() != cpl || !d.is_writable_data() {
        return Err(e.cpu().raise(Vector::Ts, error));
    }
    if !d.present() {
        return Err(e.cpu().raise(Vector::Ss, error));
    }
    mark_accessed(e, &mut d)?;
    let ss = d.to_seg(selector);
    Ok(Stack { ss, sp, mask: segment_mask(&ss), flat: false, supervisor: true, error })
}

fn deliver_long<E: Exec + ?Sized>(e: &mut E, d: &Delivery) -> Result<(), Trap> {
    let cpu = e.cpu();
    let at = u16::from(d.vector) * 16;
    if at + 15 > cpu.idtr.limit {
        return Err(cpu.gp(d.gate_error()));
    }
    let linear = cpu.idtr.base.wrapping_add(u64::from(at));
    let gate = Descriptor { raw: e.read_linear(linear, 8, true)?, address: linear };
    let upper = e.read_linear(linear.wrapping_add(8), 8, true)?;
    let cpu = e.cpu();
    let Some(kind @ (14 | 15)) = gate.system_type() else {
        return Err(cpu.gp(d.gate_error()));
    };
    if d.soft && gate.dpl() < cpu.cpl {
        return Err(cpu.gp(d.gate_error()));
    }
    if !gate.present() {
        return Err(cpu.raise(Vector::Np, d.gate_error()));
    }
    let selector = (gate.raw >> 16) as u16;
    let offset = gate.raw & 0xffff | gate.raw >> 48 << 16 | upper << 32;
    let (mut code, new_cpl) = gate_target(e, selector, d.ext)?;
    if !code.is_long() || code.is_big() {
        return Err(e.cpu().gp(selector_error(selector) | d.ext));
    }
    let inner = new_cpl < e.cpu().cpl;
    let ist = gate.raw >> 32 & 7;
    let rsp = if ist != 0 {
        tss_rsp(e, ist + 3, d.ext)?
    } else if inner {
        tss_rsp(e, u64::from(new_cpl), d.ext)?
    } else {
        e.cpu().regs[reg::RSP]
    };
    if !canonical(offset) {
        return Err(e.cpu().gp(d.ext));
    }
    let stack = Stack {
        ss: Seg::default(),
        sp: rsp & !15,
        mask: u64::MAX,
        flat: true,
        supervisor: inner,
        error: d.ext,
    };
    let mut frame = Frame::new(8);
    let pushed = pushed_flags(e, d);
    let cpu = e.cpu();
    frame.push(u64::from(cpu.segs[seg::SS].selector));
    frame.push(cpu.regs[reg::RSP]);
    frame.push(pushed);
    frame.push(u64::from(cpu.segs[seg::CS].selector));
    frame.push(d.rip);
    if let Some(error) = d.error {
        frame.push(u64::from(error));
    }
    frame.probe(e, &stack)?;
    mark_accessed(e, &mut code)?;
    let sp = frame.write(e, &stack)?;

    let cpu = e.cpu();
    if inner {
        cpu.segs[seg::SS] = null_seg(u16::from(new_cpl), new_cpl);
    }
    cpu.regs[reg::RSP] = sp;
    cpu.cpl = new_cpl;
    cpu.segs[seg::CS] = code.to_seg(selector & !3 | u16::from(new_cpl));
    cpu.regs[reg::RIP] = offset;
    cpu.rflags = handler_flags(cpu.rflags, kind == 14);
    cpu.update_mode();
    debug_assert!(cpu.segs[seg::CS].access & acc::S != 0);
    Ok(())
}
