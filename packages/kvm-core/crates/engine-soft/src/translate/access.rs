//! Memory operands: addresses, checks against the TLB, the stack.

use kvm_cpu::reg;

use super::asm::{Opcode, Rm, host};
use super::emit::Emitter;
use super::flat::Kind;
use super::guest::{Form, Register};
use super::state::{PAGE_BASE, SCRATCH, field, register, segment_base};
use super::stubs::{entry_field, tlb_compare, tlb_entry};
use super::ways_out::Jumps;
use crate::op::{ADDR64, FLAT, Op};

const NONE: u8 = reg::ZERO as u8;
const INSTRUCTION_POINTER: u8 = reg::RIP as u8;

/// True if an address can be computed: it has 64 bits and its parts are near.
pub fn addressable(op: &Op, offset: u16, kind: Kind) -> bool {
    if kind == Kind::Flat {
        return super::short_access::addressable(op);
    }
    let disp = op.disp + if op.base == INSTRUCTION_POINTER { i64::from(offset) } else { 0 };
    // Room for the size of the access.
    let near = i32::try_from(disp).is_ok_and(|d| d < i32::MAX - 64);
    near && matches!(op.addressing, FLAT | ADDR64)
}

impl Emitter<'_> {
    fn homeless(&self, r: u8) -> bool {
        r < NONE && self.home(r).is_none()
    }

    /// True if computing the address takes both scratch registers.
    pub fn takes_both(&self, op: &Op, segments: bool) -> bool {
        let segment = segments && op.addressing == ADDR64;
        let base = op.base == INSTRUCTION_POINTER || self.homeless(op.base);
        let places = [segment, base, self.homeless(op.index)];
        places.into_iter().filter(|&p| p).count() > 1
    }

    /// [`address`](Self::address) for one that takes both scratch registers.
    fn far_address(&mut self, n: usize, to: u8, segments: bool) {
        let op = self.source.ops[n];
        let other = if to == host::R10 { host::R11 } else { host::R10 };
        #[allow(clippy::cast_possible_truncation)]
        let disp = op.disp as i32;
        let disp = if op.base == INSTRUCTION_POINTER {
            self.asm.load(to, PAGE_BASE);
            disp + i32::from(self.offset(n))
        } else if op.base == NONE {
            self.asm.mov_signed(to, 0);
            disp
        } else if let Some(base) = self.home(op.base) {
            self.asm.mov(to, base);
            disp
        } else {
            self.asm.load(to, register(op.base));
            disp
        };
        if op.index != NONE {
            let index = self.home(op.index).unwrap_or_else(|| {
                self.asm.load(other, register(op.index));
                other
            });
            self.asm.lea(to, to, Some((index, op.scale)), disp);
        } else if disp != 0 {
            self.asm.lea(to, to, None, disp);
        }
        if segments && op.addressing == ADDR64 {
            self.asm.load(other, segment_base(op.seg));
            self.asm.lea(to, to, Some((other, 0)), 0);
        }
    }

    /// The linear address of the operand of instruction `n` plus `more` to a scratch register,
    /// flags untouched. LEA ignores segments.
    fn address(&mut self, n: usize, to: u8, more: i32, segments: bool) {
        let op = self.source.ops[n];
        #[allow(clippy::cast_possible_truncation)]
        let disp = op.disp as i32 + more;
        let index = (op.index != NONE).then_some(op.index);
        if segments && op.addressing == ADDR64 {
            self.asm.load(to, segment_base(op.seg));
            if let Some(base) = self.home(op.base).filter(|_| op.base != NONE) {
                self.asm.lea(to, to, Some((base, 0)), disp);
            } else if disp != 0 {
                self.asm.lea(to, to, None, disp);
            }
            if let Some(index) = index.and_then(|r| self.home(r)) {
                self.asm.lea(to, to, Some((index, op.scale)), 0);
            }
            return;
        }
        let base = match op.base {
            NONE => None,
            INSTRUCTION_POINTER => {
                self.asm.load(to, PAGE_BASE);
                let disp = disp + i32::from(self.offset(n));
                self.asm.lea(to, to, None, disp);
                return;
            }
            r => Some(self.home(r).unwrap_or_else(|| {
                self.asm.load(to, register(r));
                to
            })),
        };
        let index = index.map(|r| {
            self.home(r).unwrap_or_else(|| {
                self.asm.load(to, register(r));
                to
            })
        });
        match (base, index) {
            (Some(base), Some(index)) => self.asm.lea(to, base, Some((index, op.scale)), disp),
            (Some(base), None) if disp == 0 && base == to => {}
            (Some(base), None) if disp == 0 => self.asm.mov(to, base),
            (Some(base), None) => self.asm.lea(to, base, None, disp),
            (None, Some(index)) => self.asm.lea_scaled(to, index, op.scale, disp),
            (None, None) => self.asm.mov_signed(to, disp),
        }
    }

    /// The offset of the operand, as LEA yields it.
    pub fn effective(&mut self, n: usize, to: u8) {
        if self.flat() {
            self.short_offset(n, to);
        } else if self.takes_both(&self.source.ops[n], false) {
            self.far_address(n, to, false);
        } else {
            self.address(n, to, 0, false);
        }
    }

    /// LEA as one instruction, where all registers are pinned.
    pub fn lea_at_once(&mut self, n: usize, form: Form) -> bool {
        let op = self.source.ops[n];
        let Register::General(to) = form.reg else { return false };
        let (Some(to), Some(base)) = (self.home(to), self.home(op.base)) else { return false };
        if op.base >= NONE || form.op.operand_size {
            return false;
        }
        let index = match op.index {
            NONE => None,
            r => match self.home(r) {
                Some(index) => Some((index, op.scale)),
                None => return false,
            },
        };
        #[allow(clippy::cast_possible_truncation)]
        let rm = Rm::Mem { base, index, disp: op.disp as i32 };
        self.asm.modrm(form.op, to, rm);
        true
    }

    /// The base register and displacement of an operand that is nothing more.
    pub fn simple(&self, n: usize) -> Option<(u8, i32)> {
        let op = &self.source.ops[n];
        let plain = self.source.direct(n) && op.index == NONE && op.base < NONE;
        #[allow(clippy::cast_possible_truncation)]
        self.home(op.base).filter(|_| plain).map(|base| (base, op.disp as i32))
    }

    /// Checks the memory operand of instruction `n` and yields how to reach it. R11 is in use until
    /// the access, R10 is free if `data` asks for it.
    pub fn access(
        &mut self,
        n: usize,
        size: u8,
        write: bool,
        aligned: bool,
        live: bool,
        data: bool,
    ) -> Rm {
        if self.grouped(n) {
            let rm = match self.simple(n) {
                Some((base, disp)) => Rm::Mem { base, index: Some((host::R11, 0)), disp },
                None => self.table_access(n),
            };
            self.flags_before(n);
            return rm;
        }
        if live {
            self.protect_flags();
        }
        if self.flat() {
            let rm = self.short_access(n, size, write, aligned);
            self.flags_before(n);
            return rm;
        }
        let class = self.class();
        let tag = if write { field::WRITE } else { field::READ };
        let far = self.takes_both(&self.source.ops[n], true);
        if far {
            self.far_address(n, host::R11, true);
            self.asm.store(SCRATCH, host::R11);
        } else {
            self.address(n, host::R11, 0, true);
        }
        let more = i32::from(size) - 1;
        if self.simple(n).is_some() {
            self.address(n, host::R10, more, true);
        } else if more == 0 {
            self.asm.mov(host::R10, host::R11);
        } else {
            // What has an index and a displacement takes the host longer.
            self.asm.lea(host::R10, host::R11, None, more);
        }
        let at = tlb_entry(&mut self.asm, class);
        // A locked access that is not aligned may lie in two cache lines.
        tlb_compare(&mut self.asm, host::R10, at + tag, if aligned { size } else { 1 });
        let miss = self.asm.jcc_later(5);
        self.slow_path(n, miss);
        self.asm.modrm(Opcode::wide(0x8b), host::R11, entry_field(at + field::ADDEND));
        let rm = match self.simple(n) {
            Some((base, disp)) => Rm::Mem { base, index: Some((host::R11, 0)), disp },
            None => {
                if far {
                    self.asm.load(host::R10, SCRATCH);
                } else {
                    self.address(n, host::R10, 0, true);
                }
                if data {
                    self.asm.lea(host::R11, host::R10, Some((host::R11, 0)), 0);
                    Rm::Mem { base: host::R11, index: None, disp: 0 }
                } else {
                    Rm::Mem { base: host::R10, index: Some((host::R11, 0)), disp: 0 }
                }
            }
        };
        self.flags_before(n);
        rm
    }

    /// An access to a table that was checked as a whole, whose addend is in R11. Only the access itself
    /// waits for the index.
    fn table_access(&mut self, n: usize) -> Rm {
        let op = self.source.ops[n];
        let homes = self.home(op.base).zip(self.home(op.index));
        let (base, index) = homes.expect("groups are of registers that have a home");
        #[allow(clippy::cast_possible_truncation)]
        let disp = op.disp as i32;
        self.asm.lea(host::R11, base, Some((host::R11, 0)), disp);
        Rm::Mem { base: host::R11, index: Some((index, op.scale)), disp: 0 }
    }

    /// Checks a stack slot at a pinned register plus `disp`; the addend is in R11 then.
    pub fn stack_check(&mut self, n: usize, base: u8, disp: i32, write: bool, live: bool) -> Rm {
        if self.grouped(n) {
            return Rm::Mem { base, index: Some((host::R11, 0)), disp };
        }
        if live {
            self.protect_flags();
        }
        let class = self.class();
        self.asm.lea(host::R11, base, None, disp);
        let at = tlb_entry(&mut self.asm, class);
        self.asm.lea(host::R10, base, None, disp + self.slot() - 1);
        // From a register of 32 bits down one comes to addresses that wrap, up one does not at once.
        let beyond = if disp < 0 { self.beyond() } else { None };
        let tag = if write { field::WRITE } else { field::READ };
        tlb_compare(&mut self.asm, host::R10, at + tag, 1);
        let miss = self.asm.jcc_later(5);
        self.slow_path(n, miss);
        if let Some(beyond) = beyond {
            self.or_slow(beyond);
        }
        self.asm.modrm(Opcode::wide(0x8b), host::R11, entry_field(at + field::ADDEND));
        Rm::Mem { base, index: Some((host::R11, 0)), disp }
    }

    /// PUSH of a register or an immediate.
    pub fn push(&mut self, n: usize, r: Option<u8>, imm: i32) {
        let live = self.live_after(n);
        let slot = self.stack_check(n, host::R9, -self.slot(), true, live);
        match r {
            Some(r) => {
                let from = self.home(r).unwrap_or_else(|| {
                    self.asm.load(host::R10, register(r));
                    host::R10
                });
                self.asm.modrm(self.full(0x89), from, slot);
            }
            None => {
                self.asm.modrm(self.full(0xc7), 0, slot);
                self.asm.bytes(&imm.to_le_bytes());
            }
        }
        self.move_stack(-self.slot());
    }

    /// POP to a register.
    pub fn pop(&mut self, n: usize, r: u8) {
        let live = self.live_after(n);
        let slot = self.stack_check(n, host::R9, 0, false, live);
        let to = self.home(r).unwrap_or(host::R10);
        self.asm.modrm(self.full(0x8b), to, slot);
        if to != host::R9 {
            self.move_stack(self.slot());
        }
        if self.home(r).is_none() {
            self.asm.store(register(r), to);
        }
    }

    /// LEAVE: the stack pointer from RBP, and RBP from the stack.
    pub fn leave(&mut self, n: usize) {
        const RBP: u8 = 5;
        let live = self.live_after(n);
        let slot = self.stack_check(n, RBP, 0, false, live);
        let sum = Rm::Mem { base: RBP, index: None, disp: self.slot() };
        self.asm.modrm(self.full(0x8d), host::R9, sum);
        self.asm.modrm(self.full(0x8b), RBP, slot);
    }

    /// Checks the range from `low` to `high` relative to a host register. The addend is in R11 then.
    /// Yields the jumps that are taken if the check fails.
    pub fn group_check(&mut self, base: u8, low: i32, high: i32, write: bool) -> Jumps {
        let class = self.class();
        self.asm.lea(host::R11, base, None, low);
        let at = tlb_entry(&mut self.asm, class);
        self.asm.lea(host::R10, base, None, high - 1);
        let beyond = self.beyond();
        let tag = if write { field::WRITE } else { field::READ };
        tlb_compare(&mut self.asm, host::R10, at + tag, 1);
        let miss = self.asm.jcc_later(5);
        self.asm.modrm(Opcode::wide(0x8b), host::R11, entry_field(at + field::ADDEND));
        beyond.into_iter().chain([miss]).collect()
    }

    /// The check of a call's push; the interpreter makes the whole call if it fails.
    pub fn call_check(&mut self, n: usize, live: bool) -> Rm {
        self.stack_check(n, host::R9, -self.slot(), true, live)
    }
}
