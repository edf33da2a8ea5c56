//! Memory operands of flat code.
//!
//! Offsets have 32 bits and wrap, host registers have 64 and do not. General registers are zero above
//! bit 31 while flat code runs: all instructions see to that. So a sum that does not wrap is the
//! address as it stands, and one with a bit above 31 is not; such an access is left to the interpreter
//! or added up with 32 bits.

use kvm_cpu::{reg, seg};

use super::asm::{Opcode, Rm, host};
use super::emit::Emitter;
use super::state::{field, open, segment_base, table};
use super::stubs::{entry_field, tlb_compare, tlb_entry};
use super::ways_out::Jumps;
use crate::op::{ADDR32, Op};
use crate::tlb::{ENTRIES, Entry};

const NONE: u8 = reg::ZERO as u8;
const PAGE: u32 = 4096;

/// True if an operand is in a segment that flat code takes for granted.
pub fn based_at_zero(op: &Op) -> bool {
    op.addressing == ADDR32 && matches!(usize::from(op.seg), seg::SS | seg::DS | seg::ES)
}

/// True if the address of an operand can be computed.
pub fn addressable(op: &Op) -> bool {
    let segment = usize::from(op.seg);
    op.addressing == ADDR32 && (based_at_zero(op) || matches!(segment, seg::FS | seg::GS))
}

impl Emitter<'_> {
    /// In flat code, the jump that is taken if the address in R10 has more than 32 bits.
    pub fn beyond(&mut self) -> Option<usize> {
        self.flat().then(|| {
            // bt r10, 32; jc
            self.asm.modrm(Opcode { wide: true, ..Opcode::two(0xba) }, 4, Rm::Reg(host::R10));
            self.asm.byte(32);
            self.asm.jcc_later(2)
        })
    }

    /// The offset of the operand of instruction `n`, of 32 bits. The flags stay.
    pub fn short_offset(&mut self, n: usize, to: u8) {
        let op = self.source.ops[n];
        #[allow(clippy::cast_possible_truncation)]
        let disp = op.disp as i32;
        let home = |r: u8| if r == NONE { None } else { self.home(r) };
        match (home(op.base), home(op.index)) {
            (Some(base), Some(index)) => {
                self.asm.lea_short(to, base, Some((index, op.scale)), disp);
            }
            (Some(base), None) if disp == 0 => self.asm.mov_short(to, base),
            (Some(base), None) => self.asm.lea_short(to, base, None, disp),
            (None, Some(index)) => self.asm.lea_scaled_short(to, index, op.scale, disp),
            (None, None) => self.asm.mov_imm32(to, disp.cast_unsigned()),
        }
    }

    /// The linear address, where the flags mean nothing.
    fn short_linear(&mut self, n: usize, to: u8) {
        self.short_offset(n, to);
        let op = &self.source.ops[n];
        if !based_at_zero(op) {
            let base = Rm::State { index: None, disp: segment_base(op.seg) };
            self.asm.modrm(Opcode::narrow(0x03), to, base);
        }
    }

    /// Checks the operand of instruction `n` and yields how to reach it. R10 and R11 are in use
    /// until the access.
    pub fn short_access(&mut self, n: usize, size: u8, write: bool, aligned: bool) -> Rm {
        let op = self.source.ops[n];
        let tag = if write { field::WRITE } else { field::READ };
        let alignment = if aligned { size } else { 1 };
        if op.base == NONE && op.index == NONE && based_at_zero(&op) {
            return self.absolute(n, size, tag, alignment);
        }
        let more = i32::from(size) - 1;
        let mut away = Jumps::new();
        if !based_at_zero(&op) {
            // cmp dword [open], 0; je
            let usable = Rm::State { index: None, disp: open(op.seg) };
            self.asm.modrm(Opcode::narrow(0x83), 7, usable);
            self.asm.byte(0);
            away.push(self.asm.jcc_later(4));
            if more > 0 {
                // The segment ends where offsets wrap, which linear addresses do elsewhere.
                self.short_offset(n, host::R10);
                self.asm.lea(host::R10, host::R10, None, more);
                away.extend(self.beyond());
            }
        }
        self.short_linear(n, host::R11);
        self.asm.lea(host::R10, host::R11, None, more);
        let class = self.class();
        let at = tlb_entry(&mut self.asm, class);
        // A locked access that is not aligned may lie in two cache lines.
        tlb_compare(&mut self.asm, host::R10, at + tag, alignment);
        let miss = self.asm.jcc_later(5);
        self.slow_path(n, miss);
        away.into_iter().for_each(|from| self.or_slow(from));
        self.asm.modrm(Opcode::wide(0x8b), host::R11, entry_field(at + field::ADDEND));
        self.short_linear(n, host::R10);
        Rm::Mem { base: host::R10, index: Some((host::R11, 0)), disp: 0 }
    }

    /// [`short_access`](Self::short_access) of an address that is known.
    fn absolute(&mut self, n: usize, size: u8, tag: i32, alignment: u8) -> Rm {
        const ENTRY: u32 = size_of::<Entry>() as u32;
        #[allow(clippy::cast_possible_truncation)]
        let address = self.source.ops[n].disp as u32;
        let last = address.wrapping_add(u32::from(size) - 1);
        let at = (address / PAGE % ENTRIES as u32 * ENTRY).cast_signed();
        self.asm.load(host::R11, table(self.class()));
        self.asm.mov_imm32(host::R10, last | (PAGE - u32::from(alignment)));
        self.asm.modrm(Opcode::wide(0x3b), host::R10, entry_field(at + tag));
        let miss = self.asm.jcc_later(5);
        self.slow_path(n, miss);
        self.asm.modrm(Opcode::wide(0x8b), host::R11, entry_field(at + field::ADDEND));
        match i32::try_from(address) {
            Ok(disp) => Rm::Mem { base: host::R11, index: None, disp },
            Err(_) => {
                self.asm.mov_imm32(host::R10, address);
                Rm::Mem { base: host::R10, index: Some((host::R11, 0)), disp: 0 }
            }
        }
    }
}
