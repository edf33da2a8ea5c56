//! Moves: plain, extending, conditional, and address arithmetic.

use std::sync::atomic::{Ordering, fence};

use kvm_cpu::reg;

use crate::condition::holds;
use crate::linear::{load, store};
use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::Width;

pub(crate) fn reg_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<W>(op.src);
    v.set::<W>(op.dst, value);
    Ok(())
}

pub(crate) fn reg_imm<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    v.set::<W>(op.dst, op.imm);
    Ok(())
}

pub(crate) fn reg_mem<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let host = v.readable::<W>(op);
    if host == 0 {
        return slow_load::<W, W, false>(v, op);
    }
    // SAFETY: `readable` found the operand in mapped RAM.
    let value = unsafe { load::<W>(host) };
    v.set::<W>(op.dst, value);
    Ok(())
}

/// A load, extended from `S` to `D`, that the TLB does not answer.
#[cold]
#[inline(never)]
fn slow_load<D: Width, S: Width, const SIGNED: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(S::BYTES), false)?;
    let value = v.read::<S>(linear, op.seg)?;
    v.set::<D>(op.dst, if SIGNED { S::sx(value) } else { value });
    Ok(())
}

/// A store that the TLB does not answer.
#[cold]
#[inline(never)]
fn slow_store<W: Width>(v: &mut Vcpu, op: &Op, value: u64) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    v.write::<W>(linear, op.seg, value)
}

pub(crate) fn mem_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<W>(op.src);
    let host = v.writable::<W>(op);
    if host == 0 {
        return slow_store::<W>(v, op, value);
    }
    // SAFETY: `writable` found the operand in RAM that may be stored to.
    unsafe { store::<W>(host, value) };
    Ok(())
}

pub(crate) fn mem_imm<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let host = v.writable::<W>(op);
    if host == 0 {
        return slow_store::<W>(v, op, op.imm);
    }
    // SAFETY: as in `mem_reg`.
    unsafe { store::<W>(host, op.imm) };
    Ok(())
}

pub(crate) fn lea<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let offset = v.offset(op);
    v.set::<W>(op.dst, offset);
    Ok(())
}

pub(crate) fn zero_extend_reg<D: Width, S: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<S>(op.src);
    v.set::<D>(op.dst, value);
    Ok(())
}

pub(crate) fn zero_extend_mem<D: Width, S: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let host = v.readable::<S>(op);
    if host == 0 {
        return slow_load::<D, S, false>(v, op);
    }
    // SAFETY: as in `reg_mem`.
    let value = unsafe { load::<S>(host) };
    v.set::<D>(op.dst, value);
    Ok(())
}

pub(crate) fn sign_extend_reg<D: Width, S: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = S::sx(v.get::<S>(op.src));
    v.set::<D>(op.dst, value);
    Ok(())
}

pub(crate) fn sign_extend_mem<D: Width, S: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let host = v.readable::<S>(op);
    if host == 0 {
        return slow_load::<D, S, true>(v, op);
    }
    // SAFETY: as in `reg_mem`.
    let value = S::sx(unsafe { load::<S>(host) });
    v.set::<D>(op.dst, value);
    Ok(())
}

pub(crate) fn cmov_reg<W: Width, const C: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let value = if holds::<C>(&v.cpu.arith) { v.get::<W>(op.src) } else { v.get::<W>(op.dst) };
    // Also when the condition is false: a 32-bit destination is zero-extended.
    v.set::<W>(op.dst, value);
    Ok(())
}

pub(crate) fn cmov_mem<W: Width, const C: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), false)?;
    let loaded = v.read::<W>(linear, op.seg)?;
    let value = if holds::<C>(&v.cpu.arith) { loaded } else { v.get::<W>(op.dst) };
    v.set::<W>(op.dst, value);
    Ok(())
}

pub(crate) fn setcc_reg<const C: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let value = u64::from(holds::<C>(&v.cpu.arith));
    v.set::<crate::width::W8>(op.dst, value);
    Ok(())
}

pub(crate) fn setcc_mem<const C: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let value = u64::from(holds::<C>(&v.cpu.arith));
    let linear = v.linear(op, 1, true)?;
    v.write::<crate::width::W8>(linear, op.seg, value)
}

/// CBW, CWDE, CDQE: the lower half of the accumulator, sign-extended to width `D`.
pub(crate) fn widen_accumulator<D: Width, S: Width>(v: &mut Vcpu, _op: &Op) -> Done {
    let value = S::sx(v.get::<S>(reg::RAX as u8));
    v.set::<D>(reg::RAX as u8, value);
    Ok(())
}

/// CWD, CDQ, CQO: the sign of the accumulator into rDX.
pub(crate) fn sign_into_dx<W: Width>(v: &mut Vcpu, _op: &Op) -> Done {
    let sign = (W::sx(v.get::<W>(reg::RAX as u8)) as i64 >> 63) as u64;
    v.set::<W>(reg::RDX as u8, sign);
    Ok(())
}

pub(crate) fn bswap<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<W>(op.dst);
    // With a 16-bit operand the result is undefined; processors yield zero.
    let swapped = if W::BITS == 16 { 0 } else { value.swap_bytes() >> (64 - W::BITS) };
    v.set::<W>(op.dst, swapped);
    Ok(())
}

pub(crate) fn movbe_load<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), false)?;
    let value = v.read::<W>(linear, op.seg)?.swap_bytes() >> (64 - W::BITS);
    v.set::<W>(op.dst, value);
    Ok(())
}

pub(crate) fn movbe_store<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<W>(op.src).swap_bytes() >> (64 - W::BITS);
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    v.write::<W>(linear, op.seg, value)
}

/// XLAT: AL from the table at rBX. The lowering puts rBX into `op.base`.
pub(crate) fn xlat(v: &mut Vcpu, op: &Op) -> Done {
    let al = v.get::<crate::width::W8>(reg::RAX as u8);
    let offset = super::truncate(v.effective(op).wrapping_add(al), op.addressing);
    let linear = v.linear_general(op.seg, offset, 1, false)?;
    let value = v.read::<crate::width::W8>(linear, op.seg)?;
    v.set::<crate::width::W8>(reg::RAX as u8, value);
    Ok(())
}

/// MFENCE: loads and stores of this vCPU are those of its host thread.
pub(crate) fn mfence(_v: &mut Vcpu, _op: &Op) -> Done {
    fence(Ordering::SeqCst);
    Ok(())
}

pub(crate) fn pause(v: &mut Vcpu, _op: &Op) -> Done {
    v.pause();
    Ok(())
}

pub(crate) fn nop(_v: &mut Vcpu, _op: &Op) -> Done {
    Ok(())
}
