//! Shifts and rotates.

use kvm_cpu::flags::LazyFlags;
use kvm_cpu::reg;

use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::{W8, Width};

/// Operation numbers, as in the opcode's reg field.
pub(crate) const ROL: u8 = 0;
pub(crate) const ROR: u8 = 1;
pub(crate) const RCL: u8 = 2;
pub(crate) const RCR: u8 = 3;
pub(crate) const SHL: u8 = 4;
pub(crate) const SHR: u8 = 5;
pub(crate) const SAR: u8 = 7;

fn set_cf_of(f: &mut LazyFlags, cf: u64, of: u64) {
    f.aux = (f.aux & !(3 << 62)) | (cf << 63) | ((cf ^ of) << 62);
}

fn set_shifted(f: &mut LazyFlags, res_sext: u64, cf: u64, of: u64) {
    f.res = res_sext;
    f.aux = (cf << 63) | ((cf ^ of) << 62);
}

/// Shifts `a` (zero-extended) by `count`, which is masked here as the CPU does.
#[inline(always)]
pub(crate) fn compute<W: Width, const K: u8>(f: &mut LazyFlags, a: u64, count: u64) -> u64 {
    let bits = W::BITS;
    #[allow(clippy::cast_possible_truncation)]
    let n = (count & if bits == 64 { 0x3f } else { 0x1f }) as u32;
    if n == 0 {
        return a;
    }
    let top = bits - 1;
    match K {
        SHL => {
            let r = W::zx(a << n);
            let cf = if n <= bits { (a >> (bits - n)) & 1 } else { 0 };
            set_shifted(f, W::sx(r), cf, (r >> top) ^ cf);
            r
        }
        SHR => {
            let r = if n < bits { a >> n } else { 0 };
            let cf = if n <= bits { (a >> (n - 1)) & 1 } else { 0 };
            set_shifted(f, W::sx(r), cf, (r >> top ^ r >> (top - 1)) & 1);
            r
        }
        SAR => {
            let wide = W::sx(a) as i64;
            let r = W::zx((wide >> n.min(63)) as u64);
            let cf = ((wide >> (n - 1).min(63)) & 1) as u64;
            set_shifted(f, W::sx(r), cf, 0);
            r
        }
        ROL => {
            let n = n % bits;
            let r = if n == 0 { a } else { W::zx(a << n | a >> (bits - n)) };
            let cf = r & 1;
            set_cf_of(f, cf, (r >> top) ^ cf);
            r
        }
        ROR => {
            let n = n % bits;
            let r = if n == 0 { a } else { W::zx(a >> n | a << (bits - n)) };
            let cf = r >> top;
            set_cf_of(f, cf, (r >> top ^ r >> (top - 1)) & 1);
            r
        }
        RCL => {
            let n = n % (bits + 1);
            let (mut r, mut cf) = (a, f.cf());
            for _ in 0..n {
                let out = r >> top;
                r = W::zx(r << 1 | cf);
                cf = out;
            }
            set_cf_of(f, cf, (r >> top) ^ cf);
            r
        }
        _ => {
            let n = n % (bits + 1);
            let (mut r, mut cf) = (a, f.cf());
            for _ in 0..n {
                let out = r & 1;
                r = r >> 1 | cf << top;
                cf = out;
            }
            set_cf_of(f, cf, (r >> top ^ r >> (top - 1)) & 1);
            r
        }
    }
}

pub(crate) fn reg_imm<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let a = v.get::<W>(op.dst);
    let r = compute::<W, K>(&mut v.cpu.arith, a, op.imm);
    v.set::<W>(op.dst, r);
    Ok(())
}

pub(crate) fn reg_cl<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let a = v.get::<W>(op.dst);
    let count = v.get::<W8>(reg::RCX as u8);
    let r = compute::<W, K>(&mut v.cpu.arith, a, count);
    v.set::<W>(op.dst, r);
    Ok(())
}

pub(crate) fn mem_imm<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let count = op.imm;
    v.modify::<W>(linear, op.seg, false, |v, a| compute::<W, K>(&mut v.cpu.arith, a, count))
}

pub(crate) fn mem_cl<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let count = v.get::<W8>(reg::RCX as u8);
    v.modify::<W>(linear, op.seg, false, |v, a| compute::<W, K>(&mut v.cpu.arith, a, count))
}

/// SHLD (`LEFT`) and SHRD of `a`, filled from `b`.
#[inline(always)]
fn double<W: Width, const LEFT: bool>(f: &mut LazyFlags, a: u64, b: u64, count: u64) -> u64 {
    let bits = W::BITS;
    #[allow(clippy::cast_possible_truncation)]
    let n = (count & if bits == 64 { 0x3f } else { 0x1f }) as u32;
    if n == 0 {
        return a;
    }
    let top = bits - 1;
    // A 16-bit operand shifted by more than 16 is undefined; processors go on with the first
    // operand after the second, which a 48-bit value gives.
    let (r, cf) = if LEFT {
        if bits == 16 {
            let wide = a << 32 | b << 16 | a;
            ((wide >> (32 - n)) & 0xffff, (wide >> (48 - n)) & 1)
        } else {
            (W::zx(a << n | b >> (bits - n)), (a >> (bits - n)) & 1)
        }
    } else if bits == 16 {
        let wide = a << 32 | b << 16 | a;
        ((wide >> n) & 0xffff, (wide >> (n - 1)) & 1)
    } else {
        (W::zx(a >> n | b << (bits - n)), (a >> (n - 1)) & 1)
    };
    set_shifted(f, W::sx(r), cf, ((r ^ a) >> top) & 1);
    r
}

/// The count is CL where `op.imm` is 256, else `op.imm`.
fn double_count(v: &Vcpu, op: &Op) -> u64 {
    if op.imm == 256 { v.get::<W8>(reg::RCX as u8) } else { op.imm }
}

pub(crate) fn double_reg<W: Width, const LEFT: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let (a, b, count) = (v.get::<W>(op.dst), v.get::<W>(op.src), double_count(v, op));
    let r = double::<W, LEFT>(&mut v.cpu.arith, a, b, count);
    v.set::<W>(op.dst, r);
    Ok(())
}

pub(crate) fn double_mem<W: Width, const LEFT: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let (b, count) = (v.get::<W>(op.src), double_count(v, op));
    v.modify::<W>(linear, op.seg, false, |v, a| double::<W, LEFT>(&mut v.cpu.arith, a, b, count))
}
