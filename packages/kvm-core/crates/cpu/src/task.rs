//! Hardware task switches (SDM volume 3, chapter 7). They exist outside long mode only.
//!
//! A switch has two halves. Until the old state is saved every fault belongs to the old task and
//! nothing has changed; from then on faults are raised in the new task, as on hardware.

use crate::bits::{acc, cr0, cr4, dr};
use crate::control::load_cr3_for_task;
use crate::exception::Delivery;
use crate::segment::{
    Descriptor, fetch, is_null, load_real_segment, mark_accessed, null_seg, selector_error,
};
use crate::stack::{Frame, Stack};
use crate::{Exec, Trap, Vector, flags, reg, seg};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Jump,
    Call,
    Iret,
}

/// Field offsets of a TSS.
struct Layout {
    item: u8,
    ip: u64,
    flags: u64,
    regs: u64,
    segs: u64,
    seg_count: usize,
    ldt: u64,
    /// The least limit.
    limit: u32,
}

const WIDE: Layout = Layout {
    item: 4,
    ip: 0x20,
    flags: 0x24,
    regs: 0x28,
    segs: 0x48,
    seg_count: 6,
    ldt: 0x60,
    limit: 0x67,
};
const NARROW: Layout = Layout {
    item: 2,
    ip: 0x0e,
    flags: 0x10,
    regs: 0x12,
    segs: 0x22,
    seg_count: 4,
    ldt: 0x2a,
    limit: 0x2b,
};

/// In the order of the TSS and of the instruction encoding.
const SEGMENTS: [usize; 6] = [seg::ES, seg::CS, seg::SS, seg::DS, seg::FS, seg::GS];

fn layout(access: u8) -> &'static Layout {
    if access & 8 != 0 { &WIDE } else { &NARROW }
}

fn wrap(address: u64) -> u64 {
    address & 0xffff_ffff
}

/// JMP to a TSS or task gate.
pub(crate) fn jump<E: Exec + ?Sized>(e: &mut E, tss: u16, next: u64) -> Result<(), Trap> {
    switch(e, tss, Kind::Jump, next, 0)
}

/// CALL of a TSS or task gate.
pub(crate) fn call<E: Exec + ?Sized>(e: &mut E, tss: u16, next: u64) -> Result<(), Trap> {
    switch(e, tss, Kind::Call, next, 0)
}

/// An interrupt or exception through a task gate.
pub(crate) fn interrupt<E: Exec + ?Sized>(e: &mut E, tss: u16, d: &Delivery) -> Result<(), Trap> {
    switch(e, tss, Kind::Call, d.rip, d.ext)?;
    if let Some(error) = d.error {
        let wide = e.cpu().segs[seg::TR].access & 8 != 0;
        let stack = Stack { error: d.ext, ..Stack::current(e.cpu()) };
        let mut frame = Frame::new(if wide { 4 } else { 2 });
        frame.push(u64::from(error));
        frame.probe(e, &stack)?;
        let sp = frame.write(e, &stack)?;
        let cpu = e.cpu();
        cpu.regs[reg::RSP] = stack.merge(cpu.regs[reg::RSP], sp);
    }
    Ok(())
}

/// IRET with NT set: back to the task that the link field names.
pub(crate) fn iret<E: Exec + ?Sized>(e: &mut E, next: u64) -> Result<(), Trap> {
    let base = e.cpu().segs[seg::TR].base;
    let link = e.read_linear(wrap(base), 2, true)? as u16;
    switch(e, link, Kind::Iret, next, 0)
}

/// The state of the new task as its TSS has it.
struct Incoming {
    cr3: u64,
    ip: u64,
    flags: u64,
    regs: [u64; 8],
    selectors: [u16; 6],
    ldt: u16,
    trap: bool,
}

fn switch<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    kind: Kind,
    next: u64,
    ext: u32,
) -> Result<(), Trap> {
    let back = kind == Kind::Iret;
    let vector = if back { Vector::Ts } else { Vector::Gp };
    let error = selector_error(selector) | ext;
    if is_null(selector) || selector & 4 != 0 {
        return Err(e.cpu().raise(vector, error));
    }
    let d = fetch(e, selector, vector, ext)?;
    let wanted = if back { [3, 11] } else { [1, 9] };
    if !d.system_type().is_some_and(|t| wanted.contains(&t)) {
        return Err(e.cpu().raise(vector, error));
    }
    if !d.present() {
        return Err(e.cpu().raise(Vector::Np, error));
    }
    let new = layout(d.access());
    if d.limit() < new.limit {
        return Err(e.cpu().raise(Vector::Ts, error));
    }
    let old_tr = e.cpu().segs[seg::TR];
    let old = layout(old_tr.access);
    if old_tr.unusable || old_tr.limit < old.limit {
        return Err(e.cpu().raise(Vector::Ts, selector_error(old_tr.selector) | ext));
    }
    let mut incoming = read_tss(e, new, d.base())?;
    let old_descriptor = fetch(e, old_tr.selector, Vector::Ts, ext)?;
    e.probe_write(wrap(old_tr.base), u64::from(old.limit) + 1, true)?;
    e.probe_write(wrap(d.base()), 2, true)?;
    e.probe_write(d.address, 8, true)?;
    e.probe_write(old_descriptor.address, 8, true)?;

    let mut saved_flags = e.cpu().get_rflags();
    if back {
        saved_flags &= !flags::NT;
    }
    if kind != Kind::Call {
        set_busy(e, &old_descriptor, false)?;
    }
    save(e, old, old_tr.base, next, saved_flags)?;
    if kind == Kind::Call {
        e.write_linear(wrap(d.base()), 2, u64::from(old_tr.selector), true)?;
        incoming.flags |= flags::NT;
    }
    if !back {
        set_busy(e, &d, true)?;
    }
    let mut tr = d.to_seg(selector);
    tr.access |= 2;
    let cpu = e.cpu();
    cpu.segs[seg::TR] = tr;
    cpu.cr0 |= cr0::TS;
    // L0 to L3 belong to the task.
    cpu.dr[7] &= !0x155;
    let paging = cpu.cr0 & cr0::PG != 0;
    let pae = cpu.cr4 & cr4::PAE != 0;
    if paging && new.item == 4 {
        load_cr3_for_task(e, incoming.cr3, pae)?;
    }
    load(e, new, &incoming)?;
    if incoming.trap {
        e.cpu().events.debug_trap |= dr::DR6_BT;
    }
    Ok(())
}

fn set_busy<E: Exec + ?Sized>(e: &mut E, d: &Descriptor, busy: bool) -> Result<(), Trap> {
    let (clear, set) = if busy { (0, 2) } else { (2, 0) };
    e.update_byte(wrap(d.address.wrapping_add(5)), clear, set)
}

fn read_tss<E: Exec + ?Sized>(e: &mut E, l: &Layout, base: u64) -> Result<Incoming, Trap> {
    let item = u64::from(l.item);
    let mut read = |at: u64, size: u8| e.read_linear(wrap(base.wrapping_add(at)), size, true);
    let wide = l.item == 4;
    let mut out = Incoming {
        cr3: if wide { read(0x1c, 4)? } else { 0 },
        ip: read(l.ip, l.item)?,
        flags: read(l.flags, l.item)?,
        regs: [0; 8],
        selectors: [0; 6],
        ldt: read(l.ldt, 2)? as u16,
        trap: wide && read(0x64, 2)? & 1 != 0,
    };
    for (slot, i) in out.regs.iter_mut().zip(0u64..) {
        *slot = read(l.regs + i * item, l.item)?;
    }
    for (slot, i) in out.selectors.iter_mut().zip(0u64..).take(l.seg_count) {
        *slot = read(l.segs + i * item, 2)? as u16;
    }
    Ok(out)
}

fn save<E: Exec + ?Sized>(
    e: &mut E,
    l: &Layout,
    base: u64,
    next: u64,
    flags: u64,
) -> Result<(), Trap> {
    let item = u64::from(l.item);
    let regs = e.cpu().regs;
    let segs = e.cpu().segs;
    let mut write =
        |at: u64, size: u8, v: u64| e.write_linear(wrap(base.wrapping_add(at)), size, v, true);
    write(l.ip, l.item, next)?;
    write(l.flags, l.item, flags)?;
    for (value, i) in regs.iter().take(8).zip(0u64..) {
        write(l.regs + i * item, l.item, *value)?;
    }
    for (index, i) in SEGMENTS.iter().zip(0u64..).take(l.seg_count) {
        write(l.segs + i * item, 2, u64::from(segs[*index].selector))?;
    }
    Ok(())
}

/// Loads the new task's registers; faults are the new task's.
fn load<E: Exec + ?Sized>(e: &mut E, l: &Layout, incoming: &Incoming) -> Result<(), Trap> {
    let wide = l.item == 4;
    let cpu = e.cpu();
    cpu.regs[reg::RIP] = incoming.ip;
    let flags_mask = if wide { u64::MAX } else { 0xffff };
    cpu.set_rflags(incoming.flags & flags_mask);
    for (slot, value) in cpu.regs.iter_mut().zip(incoming.regs) {
        // A 16-bit TSS leaves the upper halves, which the manual calls undefined, as ones.
        *slot = if wide { value } else { value | 0xffff_0000 };
    }
    let v86 = cpu.rflags & flags::VM != 0;
    for (index, selector) in SEGMENTS.into_iter().zip(incoming.selectors) {
        if v86 {
            load_real_segment(cpu, index, selector);
        } else {
            cpu.segs[index] = null_seg(selector, 0);
        }
    }
    let [_, cs, ss, _, _, _] = incoming.selectors;
    cpu.cpl = if v86 { 3 } else { (cs & 3) as u8 };
    cpu.segs[seg::LDTR] = null_seg(incoming.ldt, 0);
    cpu.update_mode();
    e.context_changed();
    load_ldt(e, incoming.ldt)?;
    if v86 {
        return Ok(());
    }
    let cpl = e.cpu().cpl;
    let code = load_code(e, cs)?;
    load_stack(e, ss, cpl)?;
    for (index, selector) in SEGMENTS.into_iter().zip(incoming.selectors) {
        if !matches!(index, seg::CS | seg::SS) {
            load_data(e, index, selector, cpl)?;
        }
    }
    e.context_changed();
    crate::far::check_target(e, &code, incoming.ip)
}

fn ts<E: Exec + ?Sized>(e: &mut E, selector: u16) -> Trap {
    e.cpu().raise(Vector::Ts, selector_error(selector))
}

fn load_ldt<E: Exec + ?Sized>(e: &mut E, selector: u16) -> Result<(), Trap> {
    if is_null(selector) {
        return Ok(());
    }
    if selector & 4 != 0 {
        return Err(ts(e, selector));
    }
    let d = fetch(e, selector, Vector::Ts, 0)?;
    if d.system_type() != Some(2) || !d.present() {
        return Err(ts(e, selector));
    }
    e.cpu().segs[seg::LDTR] = d.to_seg(selector);
    Ok(())
}

fn load_code<E: Exec + ?Sized>(e: &mut E, selector: u16) -> Result<Descriptor, Trap> {
    if is_null(selector) {
        return Err(ts(e, selector));
    }
    let mut d = fetch(e, selector, Vector::Ts, 0)?;
    let rpl = (selector & 3) as u8;
    let privileged = if d.is_conforming() { d.dpl() <= rpl } else { d.dpl() == rpl };
    if !d.is_code() || !privileged {
        return Err(ts(e, selector));
    }
    if !d.present() {
        return Err(e.cpu().raise(Vector::Np, selector_error(selector)));
    }
    mark_accessed(e, &mut d)?;
    let cpu = e.cpu();
    cpu.segs[seg::CS] = d.to_seg(selector);
    cpu.update_mode();
    Ok(d)
}

fn load_stack<E: Exec + ?Sized>(e: &mut E, selector: u16, cpl: u8) -> Result<(), Trap> {
    if is_null(selector) {
        return Err(ts(e, selector));
    }
    let mut d = fetch(e, selector, Vector::Ts, 0)?;
    if (selector & 3) as u8 != cpl || d.dpl() != cpl || !d.is_writable_data() {
        return Err(ts(e, selector));
    }
    if !d.present() {
        return Err(e.cpu().raise(Vector::Ss, selector_error(selector)));
    }
    mark_accessed(e, &mut d)?;
    e.cpu().segs[seg::SS] = d.to_seg(selector);
    Ok(())
}

fn load_data<E: Exec + ?Sized>(
    e: &mut E,
    index: usize,
    selector: u16,
    cpl: u8,
) -> Result<(), Trap> {
    if is_null(selector) {
        return Ok(());
    }
    let mut d = fetch(e, selector, Vector::Ts, 0)?;
    let rpl = (selector & 3) as u8;
    let privileged = d.is_conforming() || (d.dpl() >= rpl && d.dpl() >= cpl);
    if !d.is_readable() || !privileged {
        return Err(ts(e, selector));
    }
    if !d.present() {
        return Err(e.cpu().raise(Vector::Np, selector_error(selector)));
    }
    mark_accessed(e, &mut d)?;
    debug_assert!(d.access() & acc::S != 0);
    e.cpu().segs[index] = d.to_seg(selector);
    Ok(())
}
