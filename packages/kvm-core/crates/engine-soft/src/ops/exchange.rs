//! XCHG, XADD, CMPXCHG and their double-width forms.

use kvm_cpu::{flags, reg};

use super::alu;
use crate::linear::{PAGE, Via};
use crate::op::{Done, Op};
use crate::tlb::Tlb;
use crate::vcpu::Vcpu;
use crate::width::{W32, W64, Width};

pub(crate) fn xchg_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let (a, b) = (v.get::<W>(op.dst), v.get::<W>(op.src));
    v.set::<W>(op.dst, b);
    v.set::<W>(op.src, a);
    Ok(())
}

/// With memory XCHG is always locked.
pub(crate) fn xchg_mem<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let b = v.get::<W>(op.src);
    let mut old = 0;
    v.modify::<W>(linear, op.seg, true, |_, a| {
        old = a;
        b
    })?;
    v.set::<W>(op.src, old);
    Ok(())
}

pub(crate) fn xadd_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let (a, b) = (v.get::<W>(op.dst), v.get::<W>(op.src));
    let r = alu::compute::<W, { alu::ADD }>(&mut v.cpu.arith, a, b);
    v.set::<W>(op.src, a);
    v.set::<W>(op.dst, r);
    Ok(())
}

/// `op.imm` is 1 for a LOCK prefix.
pub(crate) fn xadd_mem<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let b = v.get::<W>(op.src);
    let mut old = 0;
    v.modify::<W>(linear, op.seg, op.imm != 0, |v, a| {
        old = a;
        alu::compute::<W, { alu::ADD }>(&mut v.cpu.arith, a, b)
    })?;
    v.set::<W>(op.src, old);
    Ok(())
}

pub(crate) fn cmpxchg_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let (a, b) = (v.get::<W>(reg::RAX as u8), v.get::<W>(op.dst));
    alu::compute::<W, { alu::CMP }>(&mut v.cpu.arith, a, b);
    if a == b {
        let new = v.get::<W>(op.src);
        v.set::<W>(op.dst, new);
    } else {
        v.set::<W>(reg::RAX as u8, b);
    }
    Ok(())
}

/// The destination is written in either case, as the bus sees it: with its old value on failure.
pub(crate) fn cmpxchg_mem<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, u64::from(W::BYTES), true)?;
    let (expected, new) = (v.get::<W>(reg::RAX as u8), v.get::<W>(op.src));
    let mut old = 0;
    v.modify::<W>(linear, op.seg, op.imm != 0, |v, b| {
        old = b;
        alu::compute::<W, { alu::CMP }>(&mut v.cpu.arith, expected, b);
        if expected == b { new } else { b }
    })?;
    if old != expected {
        v.set::<W>(reg::RAX as u8, old);
    }
    Ok(())
}

/// CMPXCHG8B (`W32` halves) and CMPXCHG16B (`W64` halves, 16-byte alignment checked).
pub(crate) fn cmpxchg_double<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let half = u64::from(W::BYTES);
    let linear = v.linear(op, half * 2, true)?;
    if half == 8 && linear & 15 != 0 {
        return Err(v.cpu.gp(0));
    }
    let (ax, dx) = (v.get::<W>(reg::RAX as u8), v.get::<W>(reg::RDX as u8));
    let (bx, cx) = (v.get::<W>(reg::RBX as u8), v.get::<W>(reg::RCX as u8));
    let (low, high) = if half == 4 {
        let mut seen = 0;
        let (expected, new) = (dx << 32 | ax, cx << 32 | bx);
        v.modify::<W64>(linear, op.seg, true, |_, old| {
            seen = old;
            if old == expected { new } else { old }
        })?;
        (W32::zx(seen), seen >> 32)
    } else {
        v.exchange_16(linear, op.seg, (ax, dx), (bx, cx))?
    };
    let equal = (low, high) == (ax, dx);
    if !equal {
        v.set::<W>(reg::RAX as u8, low);
        v.set::<W>(reg::RDX as u8, high);
    }
    v.cpu.arith.update(flags::ZF, if equal { flags::ZF } else { 0 });
    Ok(())
}

impl Vcpu {
    /// Compare and exchange of 16 aligned bytes; yields what was there.
    fn exchange_16(
        &mut self,
        linear: u64,
        segment: u8,
        expected: (u64, u64),
        new: (u64, u64),
    ) -> Result<(u64, u64), kvm_cpu::Trap> {
        let e = self.tlb.entry(linear);
        if e.write == Tlb::tag(linear) && (linear & 0xfff) <= PAGE - 16 {
            let host = linear.wrapping_add(e.addend);
            // SAFETY: a matching write tag says that the page is mapped, writable RAM; the address
            // is aligned, which the caller checked; the guest's CPUID has CX16 only on a host that
            // has it.
            return Ok(unsafe { compare_exchange_16(host, expected, new) });
        }
        let via = Via::Segment(segment);
        self.probe(linear, 16, kvm_cpu::Access::Write, via)?;
        let gpa = self.translate(linear, kvm_cpu::Access::Write, via)?;
        if let Some(host) = self.writable_ram(gpa) {
            self.note_breakpoint(linear, 16, true);
            // SAFETY: writable RAM of the slot table this vCPU holds, else as above.
            let old = unsafe { compare_exchange_16(host, expected, new) };
            self.ram_written(gpa, 16);
            return Ok(old);
        }
        let low = self.read_slow(linear, 8, via)?;
        let high = self.read_slow(linear + 8, 8, via)?;
        let (a, b) = if (low, high) == expected { new } else { (low, high) };
        self.write_slow(linear, 8, via, a)?;
        self.write_slow(linear + 8, 8, via, b)?;
        Ok((low, high))
    }
}

/// # Safety
/// `host` is mapped, writable and 16-byte aligned.
unsafe fn compare_exchange_16(host: u64, expected: (u64, u64), new: (u64, u64)) -> (u64, u64) {
    let (mut low, mut high) = expected;
    // SAFETY: by the caller. RBX is reserved by the compiler, so it is swapped in and out.
    unsafe {
        std::arch::asm!(
            "xchg {b}, rbx",
            "lock cmpxchg16b [{p}]",
            "mov rbx, {b}",
            b = inout(reg) new.0 => _,
            p = in(reg) host,
            inout("rax") low,
            inout("rdx") high,
            in("rcx") new.1,
            options(nostack),
        );
    }
    (low, high)
}
