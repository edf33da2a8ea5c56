//! The string instructions, with repeat prefixes.
//!
//! A repeated instruction does a bounded piece of work and then either completes or stays where it
//! is, so that interrupts, kicks and timers are seen between pieces. Registers are exact after
//! every element.

use kvm_cpu::flags::DF;
use kvm_cpu::{Trap, reg, seg};

use super::{address_mask, alu};
use crate::linear::PAGE;
use crate::op::{Done, Op};
use crate::tlb::Tlb;
use crate::vcpu::Vcpu;
use crate::width::Width;

pub(crate) const MOVS: u8 = 0;
pub(crate) const STOS: u8 = 1;
pub(crate) const LODS: u8 = 2;
pub(crate) const SCAS: u8 = 3;
pub(crate) const CMPS: u8 = 4;
pub(crate) const INS: u8 = 5;
pub(crate) const OUTS: u8 = 6;

/// `op.imm`: no repeat prefix.
pub(crate) const ONCE: u64 = 0;
/// `op.imm`: REP, or REPE where the instruction compares.
pub(crate) const REP: u64 = 1;
/// `op.imm`: REPNE.
pub(crate) const REPNE: u64 = 2;

/// Elements of a repeated instruction between looks at what else is to be done.
const PIECE: u64 = 4096;

/// Replaces the bits under `mask` of a register; a 32-bit mask clears the upper half.
pub(crate) fn merge(old: u64, new: u64, mask: u64) -> u64 {
    if mask == 0xffff { (old & !mask) | (new & mask) } else { new & mask }
}

pub(super) fn step<W: Width>(v: &Vcpu) -> u64 {
    if v.cpu.rflags & DF != 0 { (u64::from(W::BYTES)).wrapping_neg() } else { u64::from(W::BYTES) }
}

pub(super) fn advance(v: &mut Vcpu, register: usize, by: u64, mask: u64) {
    let old = v.cpu.regs[register];
    v.cpu.regs[register] = merge(old, old.wrapping_add(by), mask);
}

impl Vcpu {
    fn source<W: Width>(&mut self, op: &Op, mask: u64) -> Result<u64, Trap> {
        let offset = self.cpu.regs[reg::RSI] & mask;
        let linear = self.linear_general(op.seg, offset, u64::from(W::BYTES), false)?;
        self.read::<W>(linear, op.seg)
    }

    pub(super) fn destination<W: Width>(&mut self, mask: u64, write: bool) -> Result<u64, Trap> {
        let offset = self.cpu.regs[reg::RDI] & mask;
        self.linear_general(seg::ES as u8, offset, u64::from(W::BYTES), write)
    }

    /// One element. Registers move only after the last access.
    #[inline(always)]
    fn element<W: Width, const K: u8>(&mut self, op: &Op, mask: u64) -> Done {
        let by = step::<W>(self);
        let es = seg::ES as u8;
        match K {
            MOVS => {
                let value = self.source::<W>(op, mask)?;
                let linear = self.destination::<W>(mask, true)?;
                self.write::<W>(linear, es, value)?;
            }
            STOS => {
                let linear = self.destination::<W>(mask, true)?;
                let value = self.get::<W>(reg::RAX as u8);
                self.write::<W>(linear, es, value)?;
            }
            LODS => {
                let value = self.source::<W>(op, mask)?;
                self.set::<W>(reg::RAX as u8, value);
            }
            SCAS => {
                let linear = self.destination::<W>(mask, false)?;
                let b = self.read::<W>(linear, es)?;
                let a = self.get::<W>(reg::RAX as u8);
                alu::compute::<W, { alu::CMP }>(&mut self.cpu.arith, a, b);
            }
            CMPS => {
                let a = self.source::<W>(op, mask)?;
                let linear = self.destination::<W>(mask, false)?;
                let b = self.read::<W>(linear, es)?;
                alu::compute::<W, { alu::CMP }>(&mut self.cpu.arith, a, b);
            }
            INS => {
                let port = self.cpu.regs[reg::RDX] as u16;
                kvm_cpu::system::check_io(self, port, W::BYTES)?;
                let linear = self.destination::<W>(mask, true)?;
                // The destination is checked first: a port read cannot be taken back.
                let via = crate::linear::Via::Segment(es);
                self.probe(linear, u64::from(W::BYTES), kvm_cpu::Access::Write, via)?;
                let value = self.port_read(port, W::BYTES)?;
                self.write::<W>(linear, es, value)?;
            }
            _ => {
                let port = self.cpu.regs[reg::RDX] as u16;
                kvm_cpu::system::check_io(self, port, W::BYTES)?;
                let value = self.source::<W>(op, mask)?;
                self.port_write(port, W::BYTES, value)?;
            }
        }
        if matches!(K, MOVS | LODS | CMPS | OUTS) {
            advance(self, reg::RSI, by, mask);
        }
        if matches!(K, MOVS | STOS | SCAS | CMPS | INS) {
            advance(self, reg::RDI, by, mask);
        }
        Ok(())
    }

    /// The linear address of the element at `offset`, and how many of `count` from there on, up or
    /// down, lie in one page, do not wrap and are within the segment.
    pub(super) fn in_one_page<W: Width>(
        &mut self,
        segment: u8,
        offset: u64,
        mask: u64,
        count: u64,
        write: bool,
    ) -> Option<(u64, u64)> {
        let size = u64::from(W::BYTES);
        let linear = self.linear_general(segment, offset, size, write).ok()?;
        let in_page = linear & 0xfff;
        // Whoever comes to the limit of the segment gets there element by element.
        if self.cpu.rflags & DF != 0 {
            if in_page + size > PAGE {
                return None;
            }
            let n = count.min(in_page / size + 1).min(offset / size + 1);
            let lowest = offset - (n.max(1) - 1) * size;
            self.linear_general(segment, lowest, n.max(1) * size, write).ok()?;
            return Some((linear, n));
        }
        let to_wrap = (mask - offset).saturating_add(1) / size;
        let n = count.min((PAGE - in_page) / size).min(to_wrap);
        self.linear_general(segment, offset, (n * size).max(1), write).ok()?;
        Some((linear, n))
    }

    /// Copies or fills whole elements inside one page of each operand. Yields how many elements
    /// were done: 0 where the general path must take over.
    fn bulk<W: Width, const K: u8>(&mut self, op: &Op, mask: u64, count: u64) -> u64 {
        let size = u64::from(W::BYTES);
        if self.io.careful() {
            return 0;
        }
        let down = self.cpu.rflags & DF != 0;
        let offset = self.cpu.regs[reg::RDI] & mask;
        let es = seg::ES as u8;
        let found = self.in_one_page::<W>(es, offset, mask, count, true);
        let Some((to, mut n)) = found else { return 0 };
        let target = self.tlb.entry(to);
        if n == 0 || target.write != Tlb::tag(to) {
            return 0;
        }
        let host_to = to.wrapping_add(target.addend);
        // Where the lowest of the elements is, given the first.
        let lowest = |first: u64, n: u64| if down { first - (n - 1) * size } else { first };
        let by = |n: u64| if down { (n * size).wrapping_neg() } else { n * size };
        if K == MOVS {
            let offset = self.cpu.regs[reg::RSI] & mask;
            let found = self.in_one_page::<W>(op.seg, offset, mask, n, false);
            let Some((from, fit)) = found else { return 0 };
            let source = self.tlb.entry(from);
            if source.read != Tlb::tag(from) {
                return 0;
            }
            let host_from = from.wrapping_add(source.addend);
            n = fit;
            // Onto what is still to be copied: repeats its start, element for element.
            let ahead = if down {
                host_from.wrapping_sub(host_to)
            } else {
                host_to.wrapping_sub(host_from)
            };
            if ahead != 0 && ahead < n * size {
                n = ahead / size;
            }
            if n == 0 {
                return 0;
            }
            // SAFETY: both tags match, so both pages are mapped RAM, and n elements stay inside
            // them. Overlap is memmove's business.
            unsafe {
                std::ptr::copy(
                    lowest(host_from, n) as *const u8,
                    lowest(host_to, n) as *mut u8,
                    (n * size) as usize,
                )
            };
            advance(self, reg::RSI, by(n), mask);
        } else {
            let value = self.get::<W>(reg::RAX as u8).to_le_bytes();
            let host_to = lowest(host_to, n);
            // SAFETY: as above; the destination is `n` elements inside a mapped page.
            unsafe {
                if W::BYTES == 1 || value[..usize::from(W::BYTES)].iter().all(|&b| b == value[0]) {
                    std::ptr::write_bytes(host_to as *mut u8, value[0], (n * size) as usize);
                } else {
                    for i in 0..n {
                        crate::linear::store::<W>(host_to + i * size, u64::from_le_bytes(value));
                    }
                }
            }
        }
        advance(self, reg::RDI, by(n), mask);
        n
    }
}

pub(crate) fn string<W: Width, const K: u8>(v: &mut Vcpu, op: &Op) -> Done {
    let mask = address_mask(op.addressing);
    if op.imm == ONCE {
        return v.element::<W, K>(op, mask);
    }
    if matches!(K, INS | OUTS) {
        // The port's permission is checked for a count of zero too.
        kvm_cpu::system::check_io(v, v.cpu.regs[reg::RDX] as u16, W::BYTES)?;
    }
    let mut left = PIECE;
    loop {
        let count = v.cpu.regs[reg::RCX] & mask;
        if count == 0 {
            return Ok(());
        }
        if matches!(K, MOVS | STOS) {
            let n = v.bulk::<W, K>(op, mask, count.min(left));
            if n != 0 {
                v.cpu.regs[reg::RCX] = merge(v.cpu.regs[reg::RCX], count - n, mask);
                left = left.saturating_sub(n);
                if left == 0 && count != n {
                    return again(v, op);
                }
                continue;
            }
        }
        if matches!(K, INS | OUTS) && v.io.careful() {
            let n = v.port_string::<W, K>(op, mask, count)?;
            if n != 0 {
                return if n == count { Ok(()) } else { again(v, op) };
            }
        }
        v.element::<W, K>(op, mask)?;
        v.cpu.regs[reg::RCX] = merge(v.cpu.regs[reg::RCX], count - 1, mask);
        if matches!(K, SCAS | CMPS) && v.cpu.arith.zf() != (op.imm == REP) {
            return Ok(());
        }
        left = left.saturating_sub(1);
        if count == 1 {
            return Ok(());
        }
        // In careful mode an element is the unit of restart, and of single-stepping.
        if v.io.careful() || left == 0 || v.attention {
            return again(v, op);
        }
    }
}

/// Stays on the instruction, after a look at clock and interrupts: no instruction retires meanwhile.
fn again(v: &mut Vcpu, op: &Op) -> Done {
    v.attention = true;
    v.next_clock = v.retired;
    v.cpu.regs[reg::RIP] = v.cpu.regs[reg::RIP].wrapping_sub(u64::from(op.len));
    v.retired = v.retired.wrapping_sub(1);
    Ok(())
}
