//! Near jumps, calls and returns. Targets are kept relative to the instruction, so that a block
//! serves every mapping of its page.

use kvm_cpu::{Mode, Trap, reg};

use crate::condition::holds;
use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::{W8, Width};

/// Goes to `target` after truncation to the operand size; checks the code segment's limit.
#[inline(always)]
fn go<W: Width>(v: &mut Vcpu, op: &Op, target: u64) -> Done {
    let target = W::zx(target);
    v.check_target(target)?;
    v.cpu.regs[reg::RIP] = target.wrapping_sub(u64::from(op.len));
    Ok(())
}

impl Vcpu {
    /// #GP(0) for a branch target that is not canonical or beyond the code segment's limit.
    #[inline(always)]
    pub(crate) fn check_target(&mut self, target: u64) -> Result<(), Trap> {
        let ok = if self.cpu.mode == Mode::Long64 {
            crate::linear::canonical(target)
        } else {
            target <= u64::from(self.cpu.segs[kvm_cpu::seg::CS].limit)
        };
        if ok { Ok(()) } else { Err(self.cpu.gp(0)) }
    }

    /// The address after the instruction.
    #[inline(always)]
    pub(crate) fn next_ip(&self, op: &Op) -> u64 {
        self.cpu.rip().wrapping_add(u64::from(op.len))
    }
}

pub(crate) fn jump_rel<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let target = v.cpu.rip().wrapping_add(op.imm);
    go::<W>(v, op, target)
}

/// The frequent case of a 64-bit relative jump, whose target the decoder has bounded.
pub(crate) fn jcc<W: Width, const C: u8>(v: &mut Vcpu, op: &Op) -> Done {
    if holds::<C>(&v.cpu.arith) {
        let target = v.cpu.rip().wrapping_add(op.imm);
        return go::<W>(v, op, target);
    }
    Ok(())
}

/// Pushes the return address and goes to `target`. Processors look at the target behind the store: a
/// fault leaves the return address below the stack pointer, and one of the stack comes first.
#[inline(always)]
fn call<W: Width>(v: &mut Vcpu, op: &Op, target: u64) -> Done {
    let back = v.next_ip(op);
    let before = v.cpu.regs[reg::RSP];
    v.push::<W>(back)?;
    let done = go::<W>(v, op, target);
    if done.is_err() {
        v.cpu.regs[reg::RSP] = before;
    }
    done
}

pub(crate) fn call_rel<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let target = v.cpu.rip().wrapping_add(op.imm);
    call::<W>(v, op, target)
}

#[inline(always)]
fn target<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Result<u64, Trap> {
    if MEM {
        let linear = v.linear(op, u64::from(W::BYTES), false)?;
        v.read::<W>(linear, op.seg)
    } else {
        Ok(v.get::<W>(op.src))
    }
}

pub(crate) fn jump_indirect<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let target = target::<W, MEM>(v, op)?;
    go::<W>(v, op, target)
}

pub(crate) fn call_indirect<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let target = target::<W, MEM>(v, op)?;
    call::<W>(v, op, target)
}

/// RET and RET imm16.
pub(crate) fn ret<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let target = v.peek::<W>(0)?;
    go::<W>(v, op, target)?;
    let sp = v.cpu.regs[reg::RSP].wrapping_add(u64::from(W::BYTES)).wrapping_add(op.imm);
    v.set_sp(sp);
    Ok(())
}

pub(crate) const LOOP: u8 = 0;
pub(crate) const LOOPE: u8 = 1;
pub(crate) const LOOPNE: u8 = 2;
pub(crate) const JCXZ: u8 = 3;

/// LOOPcc and JrCXZ: the counter has the address size (`op.addressing`), the target `W`.
pub(crate) fn counted<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let mask = super::address_mask(op.addressing);
    let old = v.cpu.regs[reg::RCX];
    let count = if K == JCXZ { old & mask } else { old.wrapping_sub(1) & mask };
    let taken = match K {
        LOOP => count != 0,
        LOOPE => count != 0 && v.cpu.arith.zf(),
        LOOPNE => count != 0 && !v.cpu.arith.zf(),
        _ => count == 0,
    };
    if taken {
        let target = v.cpu.rip().wrapping_add(op.imm);
        go::<W>(v, op, target)?;
    }
    if K != JCXZ {
        v.cpu.regs[reg::RCX] = super::string::merge(old, count, mask);
    }
    Ok(())
}

/// SALC: AL = CF ? 0xff : 0.
pub(crate) fn salc(v: &mut Vcpu, _op: &Op) -> Done {
    let value = if v.cpu.arith.cf() != 0 { 0xff } else { 0 };
    v.set::<W8>(reg::RAX as u8, value);
    Ok(())
}
