//! Decimal adjustments and the other instructions that 64-bit mode dropped.

use kvm_cpu::flags::{AF, CF, OF, PF, SF, ZF};
use kvm_cpu::{Vector, flags, reg};

use crate::op::{Done, HIGH_BYTE, Op};
use crate::vcpu::Vcpu;
use crate::width::{W8, W16, Width};

const AL: u8 = reg::RAX as u8;
const AH: u8 = HIGH_BYTE;

fn result_flags(al: u64) -> u64 {
    let mut f = 0;
    if al == 0 {
        f |= ZF;
    }
    if al & 0x80 != 0 {
        f |= SF;
    }
    if al.count_ones() & 1 == 0 {
        f |= PF;
    }
    f
}

/// DAA, and DAS where `SUBTRACT`.
pub(crate) fn decimal<const SUBTRACT: bool>(v: &mut Vcpu, _op: &Op) -> Done {
    let old = v.get::<W8>(AL);
    let f = v.cpu.arith.get();
    let mut al = old;
    let mut out = 0;
    let adjust = |al: u64, by: u64| {
        if SUBTRACT { al.wrapping_sub(by) & 0xff } else { al.wrapping_add(by) & 0xff }
    };
    if old & 0xf > 9 || f & AF != 0 {
        al = adjust(al, 6);
        out |= AF;
        if SUBTRACT && (f & CF != 0 || old < 6) {
            out |= CF;
        }
    }
    if old > 0x99 || f & CF != 0 {
        al = adjust(al, 0x60);
        out |= CF;
    }
    v.set::<W8>(AL, al);
    v.cpu.arith.set(out | result_flags(al));
    Ok(())
}

/// AAA, and AAS where `SUBTRACT`.
pub(crate) fn ascii<const SUBTRACT: bool>(v: &mut Vcpu, _op: &Op) -> Done {
    let f = v.cpu.arith.get();
    let ax = v.get::<W16>(AL);
    if ax & 0xf > 9 || f & AF != 0 {
        let ax = if SUBTRACT { ax.wrapping_sub(0x106) } else { ax.wrapping_add(0x106) };
        v.set::<W16>(AL, ax & 0xff0f);
        v.cpu.arith.set(f & (OF | SF | ZF | PF) | AF | CF);
    } else {
        v.set::<W16>(AL, ax & 0xff0f);
        v.cpu.arith.set(f & (OF | SF | ZF | PF));
    }
    Ok(())
}

pub(crate) fn aam(v: &mut Vcpu, op: &Op) -> Done {
    if op.imm & 0xff == 0 {
        return Err(v.cpu.raise(Vector::De, 0));
    }
    let (al, base) = (v.get::<W8>(AL), op.imm & 0xff);
    v.set::<W8>(AH, al / base);
    v.set::<W8>(AL, al % base);
    v.cpu.arith.set(result_flags(al % base));
    Ok(())
}

pub(crate) fn aad(v: &mut Vcpu, op: &Op) -> Done {
    let al = W8::zx(v.get::<W8>(AL) + v.get::<W8>(AH) * (op.imm & 0xff));
    v.set::<W16>(AL, al);
    v.cpu.arith.set(result_flags(al));
    Ok(())
}

/// BOUND: #BR outside the two bounds in memory.
pub(crate) fn bound<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let size = u64::from(W::BYTES);
    let linear = v.linear(op, size * 2, false)?;
    let low = W::sx(v.read::<W>(linear, op.seg)?) as i64;
    let high = W::sx(v.read::<W>(v.further(linear, size), op.seg)?) as i64;
    let index = W::sx(v.get::<W>(op.dst)) as i64;
    if index < low || index > high {
        return Err(v.cpu.raise(Vector::Br, 0));
    }
    Ok(())
}

/// ARPL: raises the RPL of the destination to the source's. Not recognised in real mode.
pub(crate) fn arpl_reg(v: &mut Vcpu, op: &Op) -> Done {
    if v.cpu.real_or_v86() {
        return Err(v.undefined());
    }
    let (a, b) = (v.get::<W16>(op.dst), v.get::<W16>(op.src));
    let raise = a & 3 < b & 3;
    if raise {
        v.set::<W16>(op.dst, a & !3 | b & 3);
    }
    v.cpu.arith.update(flags::ZF, if raise { flags::ZF } else { 0 });
    Ok(())
}

pub(crate) fn arpl_mem(v: &mut Vcpu, op: &Op) -> Done {
    if v.cpu.real_or_v86() {
        return Err(v.undefined());
    }
    let linear = v.linear(op, 2, false)?;
    let b = v.get::<W16>(op.src);
    if v.read::<W16>(linear, op.seg)? & 3 >= b & 3 {
        v.cpu.arith.update(flags::ZF, 0);
        return Ok(());
    }
    let linear = v.linear(op, 2, true)?;
    v.modify::<W16>(linear, op.seg, false, |v, a| {
        let raise = a & 3 < b & 3;
        v.cpu.arith.update(flags::ZF, if raise { flags::ZF } else { 0 });
        if raise { a & !3 | b & 3 } else { a }
    })
}
