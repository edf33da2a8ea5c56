//! Two-operand arithmetic and logic, and the one-operand forms of it.

use kvm_cpu::flags::{LazyFlags, add_carries, sub_borrows};

use crate::linear::{load, store};
use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::Width;

/// Operation numbers, as in the opcode's bits 3 to 5.
pub(crate) const ADD: u8 = 0;
pub(crate) const OR: u8 = 1;
pub(crate) const ADC: u8 = 2;
pub(crate) const SBB: u8 = 3;
pub(crate) const AND: u8 = 4;
pub(crate) const SUB: u8 = 5;
pub(crate) const XOR: u8 = 6;
/// Subtraction whose result is dropped.
pub(crate) const CMP: u8 = 7;
/// Conjunction whose result is dropped.
pub(crate) const TEST: u8 = 8;

const fn keeps_result(kind: u8) -> bool {
    kind != CMP && kind != TEST
}

/// Computes `a op b` (both zero-extended) and the flags.
#[inline(always)]
pub(crate) fn compute<W: Width, const K: u8>(f: &mut LazyFlags, a: u64, b: u64) -> u64 {
    match K {
        ADD | ADC => {
            let carry = if K == ADC { f.cf() } else { 0 };
            let r = W::zx(a.wrapping_add(b).wrapping_add(carry));
            f.arith(W::sx(r), add_carries(a, b, r), W::BITS);
            r
        }
        SUB | CMP | SBB => {
            let borrow = if K == SBB { f.cf() } else { 0 };
            let r = W::zx(a.wrapping_sub(b).wrapping_sub(borrow));
            f.arith(W::sx(r), sub_borrows(a, b, r), W::BITS);
            r
        }
        _ => {
            let r = match K {
                OR => a | b,
                XOR => a ^ b,
                _ => a & b,
            };
            f.logic(W::sx(r));
            r
        }
    }
}

pub(crate) fn reg_reg<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let (a, b) = (v.get::<W>(op.dst), v.get::<W>(op.src));
    let r = compute::<W, K>(&mut v.cpu.arith, a, b);
    if keeps_result(K) {
        v.set::<W>(op.dst, r);
    }
    Ok(())
}

pub(crate) fn reg_imm<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let a = v.get::<W>(op.dst);
    let r = compute::<W, K>(&mut v.cpu.arith, a, W::zx(op.imm));
    if keeps_result(K) {
        v.set::<W>(op.dst, r);
    }
    Ok(())
}

pub(crate) fn reg_mem<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let host = v.readable::<W>(op);
    if host == 0 {
        return slow_reg_mem::<W, K>(v, op);
    }
    // SAFETY: `readable` found the operand in mapped RAM.
    let b = unsafe { load::<W>(host) };
    let a = v.get::<W>(op.dst);
    let r = compute::<W, K>(&mut v.cpu.arith, a, b);
    if keeps_result(K) {
        v.set::<W>(op.dst, r);
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn slow_reg_mem<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), false)?;
    let b = v.read::<W>(linear, op.seg)?;
    let a = v.get::<W>(op.dst);
    let r = compute::<W, K>(&mut v.cpu.arith, a, b);
    if keeps_result(K) {
        v.set::<W>(op.dst, r);
    }
    Ok(())
}

#[inline(always)]
fn on_memory<W: Width, const K: u8>(v: &mut Vcpu, op: &Op, b: u64, locked: bool) -> Done {
    if !keeps_result(K) {
        let linear = v.linear(op, u64::from(W::BYTES), false)?;
        let a = v.read::<W>(linear, op.seg)?;
        compute::<W, K>(&mut v.cpu.arith, a, b);
        return Ok(());
    }
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let flags = v.cpu.arith;
    v.modify::<W>(linear, op.seg, locked, |v, a| {
        // A locked operation may be tried again: the carry must be the one from before.
        v.cpu.arith = flags;
        compute::<W, K>(&mut v.cpu.arith, a, b)
    })
}

pub(crate) fn mem_reg<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let b = v.get::<W>(op.src);
    in_place::<W, K>(v, op, b)
}

pub(crate) fn mem_imm<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    in_place::<W, K>(v, op, W::zx(op.imm))
}

#[inline(always)]
fn in_place<W: Width, const K: u8>(v: &mut Vcpu, op: &Op, b: u64) -> Done {
    let host = if keeps_result(K) { v.writable::<W>(op) } else { v.readable::<W>(op) };
    if host == 0 {
        return slow_in_place::<W, K>(v, op, b);
    }
    // SAFETY: found in mapped RAM just now.
    let a = unsafe { load::<W>(host) };
    let r = compute::<W, K>(&mut v.cpu.arith, a, b);
    if keeps_result(K) {
        // SAFETY: `writable` says that it may be stored to.
        unsafe { store::<W>(host, r) };
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn slow_in_place<W: Width, const K: u8>(v: &mut Vcpu, op: &Op, b: u64) -> Done {
    on_memory::<W, K>(v, op, b, false)
}

pub(crate) fn lock_mem_reg<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let b = v.get::<W>(op.src);
    on_memory::<W, K>(v, op, b, true)
}

pub(crate) fn lock_mem_imm<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    on_memory::<W, K>(v, op, W::zx(op.imm), true)
}

pub(crate) const INC: u8 = 0;
pub(crate) const DEC: u8 = 1;
pub(crate) const NEG: u8 = 2;
pub(crate) const NOT: u8 = 3;

#[inline(always)]
fn unary<W: Width, const K: u8>(f: &mut LazyFlags, a: u64) -> u64 {
    match K {
        INC => {
            let r = W::zx(a.wrapping_add(1));
            f.arith_keep_cf(W::sx(r), add_carries(a, 1, r), W::BITS);
            r
        }
        DEC => {
            let r = W::zx(a.wrapping_sub(1));
            f.arith_keep_cf(W::sx(r), sub_borrows(a, 1, r), W::BITS);
            r
        }
        NEG => {
            let r = W::zx(0u64.wrapping_sub(a));
            f.arith(W::sx(r), sub_borrows(0, a, r), W::BITS);
            r
        }
        _ => W::zx(!a),
    }
}

pub(crate) fn unary_reg<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let a = v.get::<W>(op.dst);
    let r = unary::<W, K>(&mut v.cpu.arith, a);
    v.set::<W>(op.dst, r);
    Ok(())
}

/// `op.imm` is 1 for a LOCK prefix.
pub(crate) fn unary_mem<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let flags = v.cpu.arith;
    v.modify::<W>(linear, op.seg, op.imm != 0, |v, a| {
        v.cpu.arith = flags;
        unary::<W, K>(&mut v.cpu.arith, a)
    })
}
