//! Frames on a stack: everything is checked and probed before the first byte is written, so that
//! a fault leaves no trace in the guest.

use crate::bits::{acc, canonical};
use crate::segment::inside_limit;
use crate::{Cpu, Exec, Mode, Seg, Trap, Vector, reg, seg};

/// The largest frame: a call gate with 31 parameters, or an entry from virtual-8086 mode.
const MAX: usize = 40;

/// A stack, present or to be switched to.
#[derive(Clone, Copy)]
pub(crate) struct Stack {
    /// Its segment.
    pub ss: Seg,
    /// The stack pointer; bits outside `mask` do not take part.
    pub sp: u64,
    /// 16, 32 or 64 ones.
    pub mask: u64,
    /// The segment does not count: 64-bit mode.
    pub flat: bool,
    /// A stack of a more privileged level than the present one.
    pub supervisor: bool,
    /// Error code of #SS: the selector of a stack that is being switched to, or the EXT bit.
    pub error: u32,
}

/// The bits of the stack pointer that a stack segment uses outside 64-bit mode.
pub(crate) fn segment_mask(ss: &Seg) -> u64 {
    if ss.big() { 0xffff_ffff } else { 0xffff }
}

impl Stack {
    /// The stack in use.
    pub fn current(cpu: &Cpu) -> Self {
        let ss = cpu.segs[seg::SS];
        let flat = cpu.mode == Mode::Long64;
        let mask = if flat { u64::MAX } else { segment_mask(&ss) };
        Self { ss, sp: cpu.regs[reg::RSP], mask, flat, supervisor: false, error: 0 }
    }

    /// Linear address of `len` bytes at stack offset `at`.
    fn linear<E: Exec + ?Sized>(
        &self,
        e: &mut E,
        at: u64,
        len: u64,
        write: bool,
    ) -> Result<u64, Trap> {
        let ok = if self.flat {
            canonical(at) && canonical(at.wrapping_add(len - 1))
        } else {
            let usable = !self.ss.unusable
                && (e.cpu().real_or_v86() && !self.supervisor
                    || !write
                    || self.ss.access & acc::RW != 0);
            usable && inside_limit(&self.ss, at, len)
        };
        if !ok {
            return Err(e.cpu().raise(Vector::Ss, self.error));
        }
        Ok(if self.flat { at } else { self.ss.base.wrapping_add(at) & 0xffff_ffff })
    }

    /// Reads `size` bytes `offset` above the stack pointer.
    pub fn peek<E: Exec + ?Sized>(&self, e: &mut E, offset: u64, size: u8) -> Result<u64, Trap> {
        let at = self.sp.wrapping_add(offset) & self.mask;
        let linear = self.linear(e, at, u64::from(size), false)?;
        e.read_linear(linear, size, self.supervisor)
    }

    /// `rsp` with the stack pointer replaced as far as the stack's width goes.
    pub fn merge(&self, rsp: u64, sp: u64) -> u64 {
        // 32-bit writes clear the upper half, 16-bit writes keep everything above.
        if self.mask == 0xffff { rsp & !0xffff | sp & 0xffff } else { sp & self.mask }
    }
}

/// Values to push, first to last.
pub(crate) struct Frame {
    size: u8,
    values: [u64; MAX],
    count: usize,
}

impl Frame {
    /// An empty frame of items with `size` bytes: 2, 4 or 8.
    pub fn new(size: u8) -> Self {
        Self { size, values: [0; MAX], count: 0 }
    }

    /// Adds a value.
    pub fn push(&mut self, value: u64) {
        if let Some(slot) = self.values.get_mut(self.count) {
            *slot = value;
            self.count += 1;
        }
    }

    fn items(&self) -> impl Iterator<Item = (u64, u64)> {
        let size = u64::from(self.size);
        self.values.iter().take(self.count).copied().zip((1..).map(move |n: u64| n * size))
    }

    /// Checks limits and permissions of the whole frame.
    pub fn probe<E: Exec + ?Sized>(&self, e: &mut E, stack: &Stack) -> Result<(), Trap> {
        let size = u64::from(self.size);
        let total = size * self.count as u64;
        let sp = stack.sp & stack.mask;
        if total == 0 {
            return Ok(());
        }
        if sp >= total {
            let whole = match stack.linear(e, sp - total, total, true) {
                Ok(linear) => e.probe_write(linear, total, stack.supervisor),
                Err(trap) => Err(trap),
            };
            // After a fault the items are tried in their order, so that CR2 names the first one.
            if whole != Err(Trap::Fault) {
                return whole;
            }
        }
        for (_, below) in self.items() {
            let linear = stack.linear(e, sp.wrapping_sub(below) & stack.mask, size, true)?;
            e.probe_write(linear, size, stack.supervisor)?;
        }
        Ok(())
    }

    /// Writes the frame and gives the new stack pointer (all of RSP is the caller's to merge).
    pub fn write<E: Exec + ?Sized>(&self, e: &mut E, stack: &Stack) -> Result<u64, Trap> {
        let mut sp = stack.sp & stack.mask;
        for (value, below) in self.items() {
            sp = stack.sp.wrapping_sub(below) & stack.mask;
            let linear = stack.linear(e, sp, u64::from(self.size), true)?;
            e.write_linear(linear, self.size, value, stack.supervisor)?;
        }
        Ok(sp)
    }
}
