//! Instruction handlers, grouped by what they do.

pub(crate) mod alu;
pub(crate) mod bcd;
pub(crate) mod bits;
pub(crate) mod branch;
pub(crate) mod exchange;
pub(crate) mod flag;
pub(crate) mod io;
pub(crate) mod mov;
pub(crate) mod muldiv;
mod port_string;
pub(crate) mod shift;
pub(crate) mod stack;
pub(crate) mod string;
pub(crate) mod system;
pub(crate) mod vector;
pub(crate) mod xstate;

use kvm_cpu::{Trap, Vector, reg, seg};

use crate::op::{ADDR16, ADDR32, FLAT, HIGH_BYTE, Op};
use crate::vcpu::Vcpu;
use crate::width::Width;

impl Vcpu {
    /// A general register, zero-extended from width `W`.
    #[inline(always)]
    pub(crate) fn get<W: Width>(&self, r: u8) -> u64 {
        if W::BITS == 8 && r >= HIGH_BYTE {
            return (self.cpu.regs[usize::from(r - HIGH_BYTE) & 31] >> 8) & 0xff;
        }
        W::zx(self.cpu.regs[usize::from(r) & 31])
    }

    /// Writes a general register: 32 bits clear the upper half, 8 and 16 keep the rest.
    #[inline(always)]
    pub(crate) fn set<W: Width>(&mut self, r: u8, value: u64) {
        let regs = &mut self.cpu.regs;
        match W::BITS {
            64 => regs[usize::from(r) & 31] = value,
            32 => regs[usize::from(r) & 31] = value & 0xffff_ffff,
            16 => {
                let reg = &mut regs[usize::from(r) & 31];
                *reg = (*reg & !0xffff) | (value & 0xffff);
            }
            _ if r >= HIGH_BYTE => {
                let reg = &mut regs[usize::from(r - HIGH_BYTE) & 31];
                *reg = (*reg & !0xff00) | ((value & 0xff) << 8);
            }
            _ => {
                let reg = &mut regs[usize::from(r) & 31];
                *reg = (*reg & !0xff) | (value & 0xff);
            }
        }
    }

    /// The effective address before segmentation and truncation.
    #[inline(always)]
    pub(crate) fn effective(&self, op: &Op) -> u64 {
        let regs = &self.cpu.regs;
        regs[usize::from(op.base) & 31]
            .wrapping_add(regs[usize::from(op.index) & 31] << (op.scale & 3))
            .wrapping_add(op.disp.cast_unsigned())
    }

    /// The effective address truncated to the address size (what LEA yields).
    #[inline(always)]
    pub(crate) fn offset(&self, op: &Op) -> u64 {
        truncate(self.effective(op), op.addressing)
    }

    /// The linear address of the memory operand, after segment checks for `len` bytes.
    #[inline(always)]
    pub(crate) fn linear(&mut self, op: &Op, len: u64, write: bool) -> Result<u64, Trap> {
        let offset = self.effective(op);
        if op.addressing == FLAT {
            return Ok(offset);
        }
        self.linear_general(op.seg, truncate(offset, op.addressing), len, write)
    }

    /// Applies segmentation to an offset.
    #[inline(never)]
    pub(crate) fn linear_general(
        &mut self,
        segment: u8,
        offset: u64,
        len: u64,
        write: bool,
    ) -> Result<u64, Trap> {
        let s = &self.cpu.segs[usize::from(segment) & 7];
        if self.cpu.mode == kvm_cpu::Mode::Long64 {
            let based = usize::from(segment) == seg::FS || usize::from(segment) == seg::GS;
            return Ok(if based { s.base.wrapping_add(offset) } else { offset });
        }
        // The common case, a present read-write (or readable) data segment that grows up; all
        // others are worth a function call.
        let type_ok =
            s.access & 0x98 == 0x90 && s.access & 0x04 == 0 && (!write || s.access & 2 != 0);
        if type_ok && !s.unusable && offset.saturating_add(len - 1) <= u64::from(s.limit) {
            return Ok(s.base.wrapping_add(offset) & 0xffff_ffff);
        }
        kvm_cpu::segment::check_segment(&mut self.cpu, usize::from(segment), offset, len, write)
    }

    /// Where the stack pointer wraps: 2, 4 or 8 bytes.
    #[inline(always)]
    pub(crate) fn stack_mask(&self) -> u64 {
        if self.cpu.mode == kvm_cpu::Mode::Long64 {
            u64::MAX
        } else if self.cpu.segs[seg::SS].big() {
            0xffff_ffff
        } else {
            0xffff
        }
    }

    /// Linear address of a stack slot of `len` bytes at stack offset `sp`.
    #[inline(always)]
    pub(crate) fn stack_linear(&mut self, sp: u64, len: u64, write: bool) -> Result<u64, Trap> {
        if self.cpu.mode == kvm_cpu::Mode::Long64 {
            return Ok(sp);
        }
        self.linear_general(seg::SS as u8, sp, len, write)
    }

    /// Sets the stack pointer, keeping the bits beyond its width.
    #[inline(always)]
    pub(crate) fn set_sp(&mut self, sp: u64) {
        let mask = self.stack_mask();
        let reg = &mut self.cpu.regs[reg::RSP];
        *reg = if mask == 0xffff_ffff { sp & mask } else { (*reg & !mask) | (sp & mask) };
    }

    /// Pushes a value of width `W`.
    #[inline(always)]
    pub(crate) fn push<W: Width>(&mut self, value: u64) -> Result<(), Trap> {
        let sp = self.cpu.regs[reg::RSP].wrapping_sub(u64::from(W::BYTES)) & self.stack_mask();
        let linear = self.stack_linear(sp, u64::from(W::BYTES), true)?;
        self.write::<W>(linear, seg::SS as u8, value)?;
        self.set_sp(sp);
        Ok(())
    }

    /// Reads the stack slot at `depth` bytes above the top without moving the stack pointer.
    #[inline(always)]
    pub(crate) fn peek<W: Width>(&mut self, depth: u64) -> Result<u64, Trap> {
        let sp = self.cpu.regs[reg::RSP].wrapping_add(depth) & self.stack_mask();
        let linear = self.stack_linear(sp, u64::from(W::BYTES), false)?;
        self.read::<W>(linear, seg::SS as u8)
    }

    /// #UD as a handler's result.
    pub(crate) fn undefined(&mut self) -> Trap {
        self.cpu.raise(Vector::Ud, 0)
    }
}

/// Truncates an effective address to its address size.
#[inline(always)]
pub(crate) fn truncate(offset: u64, addressing: u8) -> u64 {
    match addressing {
        ADDR16 => offset & 0xffff,
        ADDR32 => offset & 0xffff_ffff,
        _ => offset,
    }
}

/// The mask of an address size.
pub(crate) fn address_mask(addressing: u8) -> u64 {
    truncate(u64::MAX, addressing)
}
