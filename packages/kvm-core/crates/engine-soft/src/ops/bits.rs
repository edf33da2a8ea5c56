//! Bit tests and bit scans.

use kvm_cpu::Trap;

use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::Width;

/// Operation numbers, as in the opcode's reg field minus 4.
pub(crate) const BT: u8 = 0;
pub(crate) const BTS: u8 = 1;
pub(crate) const BTR: u8 = 2;
pub(crate) const BTC: u8 = 3;

#[inline(always)]
fn apply<const K: u8>(a: u64, mask: u64) -> u64 {
    match K {
        BTS => a | mask,
        BTR => a & !mask,
        BTC => a ^ mask,
        _ => a,
    }
}

#[inline(always)]
fn test_reg<W: Width, const K: u8>(v: &mut Vcpu, dst: u8, bit: u64) {
    let a = v.get::<W>(dst);
    let mask = 1 << (bit & u64::from(W::BITS - 1));
    v.cpu.arith.set_cf(a & mask != 0);
    if K != BT {
        v.set::<W>(dst, apply::<K>(a, mask));
    }
}

pub(crate) fn reg_reg<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let bit = v.get::<W>(op.src);
    test_reg::<W, K>(v, op.dst, bit);
    Ok(())
}

pub(crate) fn reg_imm<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    test_reg::<W, K>(v, op.dst, op.imm);
    Ok(())
}

#[inline(always)]
fn test_mem<W: Width, const K: u8>(
    v: &mut Vcpu,
    linear: u64,
    segment: u8,
    bit: u64,
    locked: bool,
) -> Done {
    let mask = 1 << (bit & u64::from(W::BITS - 1));
    if K == BT {
        let a = v.read::<W>(linear, segment)?;
        v.cpu.arith.set_cf(a & mask != 0);
        return Ok(());
    }
    v.modify::<W>(linear, segment, locked, |v, a| {
        v.cpu.arith.set_cf(a & mask != 0);
        apply::<K>(a, mask)
    })
}

/// `op.imm`: the bit number, plus 256 for a LOCK prefix.
pub(crate) fn mem_imm<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), K != BT)?;
    test_mem::<W, K>(v, linear, op.seg, op.imm, op.imm & 256 != 0)
}

/// The bit offset in a register reaches beyond the operand, in both directions.
pub(crate) fn mem_reg<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let bit = W::sx(v.get::<W>(op.src)) as i64;
    let step = (bit >> W::BITS.trailing_zeros()) * i64::from(W::BYTES);
    let offset = super::truncate(v.effective(op).wrapping_add(step as u64), op.addressing);
    let linear = if op.addressing == crate::op::FLAT {
        offset
    } else {
        v.linear_general(op.seg, offset, u64::from(W::BYTES), K != BT)?
    };
    test_mem::<W, K>(v, linear, op.seg, bit as u64, op.imm != 0)
}

#[inline(always)]
fn operand<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Result<u64, Trap> {
    if MEM {
        let linear = v.linear(op, u64::from(W::BYTES), false)?;
        v.read::<W>(linear, op.seg)
    } else {
        Ok(v.get::<W>(op.src))
    }
}

/// BSF and BSR: with a zero source the destination keeps its value (AMD; Intel documents
/// "undefined" and does the same). The upper half of a 32-bit destination is kept then too.
pub(crate) fn scan<W: Width, const REVERSE: bool, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let a = operand::<W, MEM>(v, op)?;
    v.cpu.arith.update(kvm_cpu::flags::ZF, if a == 0 { kvm_cpu::flags::ZF } else { 0 });
    if a != 0 {
        let n = if REVERSE { 63 - a.leading_zeros() } else { a.trailing_zeros() };
        v.set::<W>(op.dst, u64::from(n));
    }
    Ok(())
}

/// TZCNT, LZCNT.
pub(crate) fn count_zeros<W: Width, const LEADING: bool, const MEM: bool>(
    v: &mut Vcpu,
    op: &Op,
) -> Done {
    let a = operand::<W, MEM>(v, op)?;
    let n = if a == 0 {
        W::BITS
    } else if LEADING {
        a.leading_zeros() - (64 - W::BITS)
    } else {
        a.trailing_zeros()
    };
    v.set::<W>(op.dst, u64::from(n));
    v.cpu.arith.logic(u64::from(n));
    v.cpu.arith.set_cf(a == 0);
    Ok(())
}

pub(crate) fn popcnt<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let a = operand::<W, MEM>(v, op)?;
    v.set::<W>(op.dst, u64::from(a.count_ones()));
    // All flags but ZF are cleared, PF and SF too.
    v.cpu.arith.set(if a == 0 { kvm_cpu::flags::ZF } else { 0 });
    Ok(())
}
