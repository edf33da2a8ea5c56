//! MOVS, STOS and LODS, which compilers that save space copy bytes with, and REP MOVS and REP STOS
//! within one page of each operand, which kernels use for whatever they clear or copy. The interpreter
//! has those that count down, go from page to page, or find something.

use smallvec::SmallVec;

use super::asm::{Opcode, Rm, host};
use super::emit::Emitter;
use super::flat::Kind;
use super::state::{RFLAGS, SCRATCH, field};
use super::stubs::{entry_field, tlb_compare, tlb_entry};
use crate::op::{FLAT, Op};

const RSI: u8 = 6;
const RDI: u8 = 7;
/// DF is this bit of the second byte of RFLAGS.
const DF: u8 = 4;
const PAGE: i32 = 4096;

/// One element.
#[derive(Clone, Copy, Debug)]
pub struct Element {
    /// From memory at RSI, else from RAX.
    load: bool,
    /// To memory at RDI, else to RAX.
    store: bool,
    /// Bytes.
    size: u8,
}

/// The element of an opcode of the one-byte map.
pub fn element(op: Opcode) -> Option<Element> {
    let (load, store) = match op.byte & !1 {
        0xa4 => (true, true),
        0xaa => (false, true),
        0xac => (true, false),
        _ => return None,
    };
    let size = match (op.byte & 1, op.wide, op.operand_size) {
        (0, ..) => 1,
        (_, true, _) => 8,
        (_, _, true) => 2,
        _ => 4,
    };
    Some(Element { load, store, size })
}

/// True if the operands' addresses are the registers.
pub fn direct(op: &Op, kind: Kind) -> bool {
    match kind {
        Kind::Long => {
            let based = [kvm_cpu::seg::FS, kvm_cpu::seg::GS].contains(&usize::from(op.seg));
            op.addressing == FLAT && !based
        }
        Kind::Flat => super::short_access::based_at_zero(op),
    }
}

impl Emitter<'_> {
    /// Executes one element, if addresses go up.
    pub fn element(&mut self, n: usize, e: Element) {
        self.goes_up(n);
        let op = |byte: u8| Opcode {
            operand_size: e.size == 2,
            wide: e.size == 8,
            byte_reg: e.size == 1,
            byte: byte | u8::from(e.size != 1),
            ..Opcode::narrow(0)
        };
        if e.load {
            let from = self.element_at(RSI, None, e.size, field::READ);
            let to = if e.store { host::R10 } else { host::RAX };
            self.asm.modrm(op(0x8a), to, from);
            if e.store {
                self.asm.store(SCRATCH, host::R10);
            }
        }
        if e.store {
            let to = self.element_at(RDI, None, e.size, field::WRITE);
            let from = if e.load { host::R10 } else { host::RAX };
            if e.load {
                self.asm.load(host::R10, SCRATCH);
            }
            self.asm.modrm(op(0x88), from, to);
        }
        for (moves, register) in [(e.load, RSI), (e.store, RDI)] {
            if moves {
                let sum = Rm::Mem { base: register, index: None, disp: i32::from(e.size) };
                self.asm.modrm(self.full(0x8d), register, sum);
            }
        }
    }

    /// Goes on if addresses go up.
    fn goes_up(&mut self, n: usize) {
        if self.flags_live_at_check(n) {
            self.protect_flags();
        }
        // test byte [rflags + 1], DF; jne
        self.asm.modrm(Opcode::narrow(0xf6), 0, Rm::State { index: None, disp: RFLAGS + 1 });
        self.asm.byte(DF);
        let down = self.asm.jcc_later(5);
        self.slow_path(n, down);
    }

    /// Executes all elements, if addresses go up and stay in one page of each operand.
    pub fn repeated(&mut self, n: usize, e: Element) {
        self.goes_up(n);
        // With more the sums below could wrap. cmp rcx, PAGE; ja
        self.asm.modrm(Opcode::wide(0x81), 7, Rm::Reg(host::RCX));
        self.asm.bytes(&PAGE.to_le_bytes());
        let many = self.asm.jcc_later(7);
        self.or_slow(many);
        let count = Some((host::RCX, e.size.trailing_zeros() as u8));
        if e.load {
            self.element_at(RSI, count, 0, field::READ);
            self.asm.store(SCRATCH, host::R11);
        }
        self.element_at(RDI, count, 0, field::WRITE);
        let mut addends = SmallVec::<[(u8, u8); 2]>::from_slice(&[(RDI, host::R11)]);
        if e.load {
            self.asm.load(host::R10, SCRATCH);
            addends.push((RSI, host::R10));
        }
        for &(register, addend) in &addends {
            self.asm.modrm(Opcode::wide(0x03), register, Rm::Reg(addend));
        }
        self.asm.bytes(if e.size == 2 { &[0x66, 0xf3] } else { &[0xf3] });
        if e.size == 8 {
            self.asm.byte(0x48);
        }
        self.asm.byte(if e.load { 0xa4 } else { 0xaa } | u8::from(e.size != 1));
        for (register, addend) in addends {
            self.asm.modrm(self.full(0x2b), register, Rm::Reg(addend));
        }
    }

    /// Checks what is at a register, whose addend is in R11 then: `size` bytes, and with a count so many
    /// elements of 2 to the given power.
    fn element_at(&mut self, register: u8, count: Option<(u8, u8)>, size: u8, tag: i32) -> Rm {
        self.asm.mov(host::R11, register);
        self.asm.lea(host::R10, register, count, i32::from(size) - 1);
        let class = self.class();
        let at = tlb_entry(&mut self.asm, class);
        tlb_compare(&mut self.asm, host::R10, at + tag, 1);
        let miss = self.asm.jcc_later(5);
        self.or_slow(miss);
        self.asm.modrm(Opcode::wide(0x8b), host::R11, entry_field(at + field::ADDEND));
        Rm::Mem { base: register, index: Some((host::R11, 0)), disp: 0 }
    }
}
