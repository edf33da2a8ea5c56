//! PUSH, POP, ENTER, LEAVE.

use kvm_cpu::{Access, reg, seg};

use crate::linear::Via;
use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::Width;

pub(crate) fn push_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<W>(op.src);
    v.push::<W>(value)
}

pub(crate) fn push_imm<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    v.push::<W>(op.imm)
}

pub(crate) fn push_mem<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), false)?;
    let value = v.read::<W>(linear, op.seg)?;
    v.push::<W>(value)
}

pub(crate) fn push_segment<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = u64::from(v.cpu.segs[usize::from(op.src) & 7].selector);
    v.push::<W>(value)
}

pub(crate) fn pop_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.peek::<W>(0)?;
    let sp = v.cpu.regs[reg::RSP].wrapping_add(u64::from(W::BYTES));
    v.set_sp(sp);
    v.set::<W>(op.dst, value);
    Ok(())
}

/// The destination's address is computed after the stack pointer moved; a fault moves it back.
pub(crate) fn pop_mem<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.peek::<W>(0)?;
    let before = v.cpu.regs[reg::RSP];
    v.set_sp(before.wrapping_add(u64::from(W::BYTES)));
    let written = v
        .linear(op, u64::from(W::BYTES), true)
        .and_then(|linear| v.write::<W>(linear, op.seg, value));
    if written.is_err() {
        v.cpu.regs[reg::RSP] = before;
    }
    written
}

/// POP into DS, ES, SS, FS, GS.
pub(crate) fn pop_segment<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.peek::<W>(0)?;
    // The slot's upper bytes are read but not used. The stack pointer moves in the old stack
    // segment, whose width may not be the new one's.
    let before = v.cpu.regs[reg::RSP];
    v.set_sp(before.wrapping_add(u64::from(W::BYTES)));
    #[allow(clippy::cast_possible_truncation)]
    let loaded = kvm_cpu::segment::load_segment(v, usize::from(op.dst), value as u16);
    if loaded.is_err() {
        v.cpu.regs[reg::RSP] = before;
        return loaded;
    }
    if usize::from(op.dst) == seg::SS {
        v.cpu.events.mov_ss_shadow = true;
        v.attention = true;
    }
    Ok(())
}

pub(crate) fn leave<W: Width>(v: &mut Vcpu, _op: &Op) -> Done {
    let bp = v.cpu.regs[reg::RBP] & v.stack_mask();
    let linear = v.stack_linear(bp, u64::from(W::BYTES), false)?;
    let value = v.read::<W>(linear, seg::SS as u8)?;
    v.set_sp(bp.wrapping_add(u64::from(W::BYTES)));
    v.set::<W>(reg::RBP as u8, value);
    Ok(())
}

/// ENTER imm16, imm8: `op.imm` holds the size, `op.disp` the nesting level (0 to 31).
pub(crate) fn enter<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let bytes = u64::from(W::BYTES);
    let level = (op.disp & 31).cast_unsigned();
    let mask = v.stack_mask();
    let mut sp = v.cpu.regs[reg::RSP];
    let bp = v.cpu.regs[reg::RBP];
    let frame_pointer = sp.wrapping_sub(bytes);
    // All that can fault comes first.
    let via = Via::Segment(seg::SS as u8);
    for n in 1..level {
        let linear = v.stack_linear(bp.wrapping_sub(n * bytes) & mask, bytes, false)?;
        v.check_linear(linear, W::BYTES, via)?;
        v.probe(linear, bytes, Access::Read, via)?;
    }
    for n in 1..=level + 1 {
        let linear = v.stack_linear(sp.wrapping_sub(n * bytes) & mask, bytes, true)?;
        v.check_linear(linear, W::BYTES, via)?;
        v.probe(linear, bytes, Access::Write, via)?;
    }
    let end = sp.wrapping_sub((level + 1) * bytes).wrapping_sub(op.imm);
    // The new top of the stack must be writable too (SDM, ENTER).
    let linear = v.stack_linear(end & mask, bytes, true)?;
    v.probe(linear, bytes, Access::Write, via)?;
    // The old frame's display is read while the new one is written: they may overlap.
    for n in 0..=level {
        let value = if n == 0 {
            v.get::<W>(reg::RBP as u8)
        } else if n == level {
            frame_pointer
        } else {
            let linear = v.stack_linear(bp.wrapping_sub(n * bytes) & mask, bytes, false)?;
            v.read::<W>(linear, seg::SS as u8)?
        };
        sp = sp.wrapping_sub(bytes);
        let linear = v.stack_linear(sp & mask, bytes, true)?;
        v.write::<W>(linear, seg::SS as u8, value)?;
    }
    v.set::<W>(reg::RBP as u8, frame_pointer);
    v.set_sp(end);
    Ok(())
}
