//! Instructions on RFLAGS.

use kvm_cpu::{Vector, flags, reg};

use crate::op::{Done, HIGH_BYTE, Op};
use crate::vcpu::Vcpu;
use crate::width::{W8, W16, W32, Width};

pub(crate) fn clc(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.arith.set_cf(false);
    Ok(())
}

pub(crate) fn stc(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.arith.set_cf(true);
    Ok(())
}

pub(crate) fn cmc(v: &mut Vcpu, _op: &Op) -> Done {
    let cf = v.cpu.arith.cf() == 0;
    v.cpu.arith.set_cf(cf);
    Ok(())
}

pub(crate) fn cld(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.rflags &= !flags::DF;
    Ok(())
}

pub(crate) fn std(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.rflags |= flags::DF;
    Ok(())
}

pub(crate) fn lahf(v: &mut Vcpu, _op: &Op) -> Done {
    let value = v.cpu.arith.get() & 0xff | flags::FIXED;
    v.set::<W8>(HIGH_BYTE, value);
    Ok(())
}

pub(crate) fn sahf(v: &mut Vcpu, _op: &Op) -> Done {
    let value = v.get::<W8>(HIGH_BYTE);
    v.cpu.arith.update(flags::ARITH & 0xff, value);
    Ok(())
}

/// CLI and STI (`ON`): IOPL decides, outside real mode.
pub(crate) fn interrupt_flag<const ON: bool>(v: &mut Vcpu, _op: &Op) -> Done {
    let iopl = ((v.cpu.rflags & flags::IOPL) >> 12) as u8;
    if v.cpu.cr0 & 1 != 0 {
        let v86 = v.cpu.rflags & flags::VM != 0;
        if (v86 && iopl < 3) || (!v86 && v.cpu.cpl > iopl) {
            return Err(v.cpu.raise(Vector::Gp, 0));
        }
    }
    if ON {
        if v.cpu.rflags & flags::IF == 0 {
            v.cpu.rflags |= flags::IF;
            // The shadow lasts until somebody looks: it holds off an interrupt that comes later, too.
            v.attention |= v.has_business();
            v.cpu.events.sti_shadow = true;
        }
    } else {
        v.cpu.rflags &= !flags::IF;
    }
    Ok(())
}

pub(crate) fn pushf<W: Width>(v: &mut Vcpu, _op: &Op) -> Done {
    let iopl = (v.cpu.rflags & flags::IOPL) >> 12;
    if v.cpu.rflags & flags::VM != 0 && iopl < 3 {
        return Err(v.cpu.gp(0));
    }
    // VM and RF read as zero.
    let value = v.cpu.get_rflags() & !(flags::VM | flags::RF);
    v.push::<W>(value)
}

pub(crate) fn popf<W: Width>(v: &mut Vcpu, _op: &Op) -> Done {
    let iopl = ((v.cpu.rflags & flags::IOPL) >> 12) as u8;
    let v86 = v.cpu.rflags & flags::VM != 0;
    if v86 && iopl < 3 {
        return Err(v.cpu.gp(0));
    }
    let value = v.peek::<W>(0)?;
    let mut mask = flags::ARITH | flags::TF | flags::DF | flags::NT;
    if W::BITS > 16 {
        mask |= flags::AC | flags::ID | flags::RF;
    }
    let cpl = if v.cpu.cr0 & 1 == 0 { 0 } else { v.cpu.cpl };
    if !v86 && cpl == 0 {
        mask |= flags::IOPL;
    }
    if cpl <= iopl {
        mask |= flags::IF;
    }
    let old = v.cpu.get_rflags();
    // RF is always cleared by POPF.
    let new = ((old & !mask) | (value & mask)) & !flags::RF;
    let sp = v.cpu.regs[reg::RSP].wrapping_add(u64::from(W::BYTES));
    v.set_sp(sp);
    v.cpu.set_rflags(new);
    if (old ^ new) & (flags::AC | flags::TF | flags::IF) != 0 {
        v.flags_changed(old, new);
    }
    Ok(())
}

impl Vcpu {
    /// Follows a change of AC, TF or IF.
    pub(crate) fn flags_changed(&mut self, old: u64, new: u64) {
        if (old ^ new) & flags::AC != 0 {
            kvm_cpu::Exec::privilege_changed(self);
        }
        // POPF is itself the instruction behind an STI.
        self.cpu.events.sti_shadow = false;
        self.attention |= self.has_business();
    }
}

/// CLAC and STAC (`ON`).
pub(crate) fn access_flag<const ON: bool>(v: &mut Vcpu, _op: &Op) -> Done {
    if v.cpu.cpl != 0 || v.cpu.cr0 & 1 == 0 {
        return Err(v.undefined());
    }
    if ON {
        v.cpu.rflags |= flags::AC;
    } else {
        v.cpu.rflags &= !flags::AC;
    }
    v.update_class();
    v.update_fetch_context();
    Ok(())
}

/// PUSHA and POPA live here with PUSHF because they too move many registers by one stack access.
pub(crate) fn pusha<W: Width>(v: &mut Vcpu, _op: &Op) -> Done {
    let bytes = u64::from(W::BYTES);
    let sp = v.cpu.regs[reg::RSP];
    let low = sp.wrapping_sub(8 * bytes) & v.stack_mask();
    // All or nothing: the lowest slot first tells whether the rest fits, in one page or two.
    for n in (0..8u64).rev() {
        let at = sp.wrapping_sub((n + 1) * bytes) & v.stack_mask();
        let linear = v.stack_linear(at, bytes, true)?;
        v.probe(linear, bytes, kvm_cpu::Access::Write, crate::linear::Via::Segment(2))?;
    }
    for n in 0..8u64 {
        #[allow(clippy::cast_possible_truncation)]
        let value = v.get::<W>(n as u8);
        let at = sp.wrapping_sub((n + 1) * bytes) & v.stack_mask();
        let linear = v.stack_linear(at, bytes, true)?;
        v.write::<W>(linear, 2, value)?;
    }
    v.set_sp(low);
    Ok(())
}

pub(crate) fn popa<W: Width>(v: &mut Vcpu, _op: &Op) -> Done {
    let bytes = u64::from(W::BYTES);
    let mut values = [0; 8];
    for (n, value) in values.iter_mut().enumerate() {
        *value = v.peek::<W>((7 - n as u64) * bytes)?;
    }
    for (n, value) in values.into_iter().enumerate() {
        if n != reg::RSP {
            #[allow(clippy::cast_possible_truncation)]
            v.set::<W>(n as u8, value);
        }
    }
    let sp = v.cpu.regs[reg::RSP].wrapping_add(8 * bytes);
    v.set_sp(sp);
    Ok(())
}

/// The widths that PUSHA has.
pub(crate) type Short = W16;
/// The widths that PUSHA has.
pub(crate) type Long = W32;
