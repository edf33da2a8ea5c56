//! Multiplication and division.

use kvm_cpu::{Trap, Vector, reg};

use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::{W8, W16, Width};

const AX: u8 = reg::RAX as u8;
const DX: u8 = reg::RDX as u8;

/// The operand of a one-operand form: a register where `MEM` is false.
#[inline(always)]
fn operand<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Result<u64, Trap> {
    if MEM {
        let linear = v.linear(op, u64::from(W::BYTES), false)?;
        v.read::<W>(linear, op.seg)
    } else {
        Ok(v.get::<W>(op.src))
    }
}

#[inline(always)]
fn set_flags<W: Width>(v: &mut Vcpu, low: u64, overflow: bool) {
    v.cpu.arith.res = W::sx(low);
    v.cpu.arith.aux = u64::from(overflow) << 63;
}

#[allow(clippy::cast_possible_truncation)]
pub(crate) fn mul<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let b = operand::<W, MEM>(v, op)?;
    let product = u128::from(v.get::<W>(AX)) * u128::from(b);
    let (low, high) = (W::zx(product as u64), (product >> W::BITS) as u64);
    if W::BITS == 8 {
        v.set::<W16>(AX, product as u64);
    } else {
        v.set::<W>(AX, low);
        v.set::<W>(DX, high);
    }
    set_flags::<W>(v, low, high != 0);
    Ok(())
}

#[allow(clippy::cast_possible_truncation)]
pub(crate) fn imul<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let b = operand::<W, MEM>(v, op)?;
    let product = i128::from(W::sx(v.get::<W>(AX)) as i64) * i128::from(W::sx(b) as i64);
    let (low, high) = (W::zx(product as u64), W::zx((product >> W::BITS) as u64));
    if W::BITS == 8 {
        v.set::<W16>(AX, product as u64);
    } else {
        v.set::<W>(AX, low);
        v.set::<W>(DX, high);
    }
    set_flags::<W>(v, low, i128::from(W::sx(low) as i64) != product);
    Ok(())
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation)]
fn imul_into<W: Width>(v: &mut Vcpu, dst: u8, a: u64, b: u64) {
    let product = i128::from(W::sx(a) as i64) * i128::from(W::sx(b) as i64);
    let low = W::zx(product as u64);
    v.set::<W>(dst, low);
    set_flags::<W>(v, low, i128::from(W::sx(low) as i64) != product);
}

/// IMUL r, r/m.
pub(crate) fn imul2<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let b = operand::<W, MEM>(v, op)?;
    let a = v.get::<W>(op.dst);
    imul_into::<W>(v, op.dst, a, b);
    Ok(())
}

/// IMUL r, r/m, imm.
pub(crate) fn imul3<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let a = operand::<W, MEM>(v, op)?;
    imul_into::<W>(v, op.dst, a, op.imm);
    Ok(())
}

#[allow(clippy::cast_possible_truncation)]
pub(crate) fn div<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let b = operand::<W, MEM>(v, op)?;
    if b == 0 {
        return Err(v.cpu.raise(Vector::De, 0));
    }
    if W::BITS == 64 {
        let a = u128::from(v.get::<W>(DX)) << 64 | u128::from(v.get::<W>(AX));
        let (q, r) = (a / u128::from(b), a % u128::from(b));
        if q >> 64 != 0 {
            return Err(v.cpu.raise(Vector::De, 0));
        }
        v.set::<W>(AX, q as u64);
        v.set::<W>(DX, r as u64);
        return Ok(());
    }
    let a =
        if W::BITS == 8 { v.get::<W16>(AX) } else { v.get::<W>(DX) << W::BITS | v.get::<W>(AX) };
    let (q, r) = (a / b, a % b);
    if q >> W::BITS != 0 {
        return Err(v.cpu.raise(Vector::De, 0));
    }
    store_quotient::<W>(v, q, r);
    Ok(())
}

pub(crate) fn idiv<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let b = i128::from(W::sx(operand::<W, MEM>(v, op)?) as i64);
    if b == 0 {
        return Err(v.cpu.raise(Vector::De, 0));
    }
    let a = if W::BITS == 8 {
        i128::from(W16::sx(v.get::<W16>(AX)) as i64)
    } else {
        let high = i128::from(W::sx(v.get::<W>(DX)) as i64);
        high << W::BITS | i128::from(v.get::<W>(AX))
    };
    // i128::MIN / -1 overflows the host type too, so it is tested for first.
    let q = a.checked_div(b).unwrap_or(i128::MAX);
    let limit = 1i128 << (W::BITS - 1);
    if q >= limit || q < -limit {
        return Err(v.cpu.raise(Vector::De, 0));
    }
    #[allow(clippy::cast_possible_truncation)]
    store_quotient::<W>(v, W::zx(q as u64), W::zx((a % b) as u64));
    Ok(())
}

#[inline(always)]
fn store_quotient<W: Width>(v: &mut Vcpu, q: u64, r: u64) {
    if W::BITS == 8 {
        v.set::<W8>(AX, q);
        v.set::<W8>(crate::op::HIGH_BYTE, r);
    } else {
        v.set::<W>(AX, q);
        v.set::<W>(DX, r);
    }
}
