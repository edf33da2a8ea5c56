//! MOVS, STOS and LODS without a repeat prefix, which compilers that save space copy bytes with. The
//! interpreter has those that count down, or find something.

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
        if self.flags_live_at_check(n) {
            self.protect_flags();
        }
        // test byte [rflags + 1], DF; jne
        self.asm.modrm(Opcode::narrow(0xf6), 0, Rm::State { index: None, disp: RFLAGS + 1 });
        self.asm.byte(DF);
        let down = self.asm.jcc_later(5);
        self.slow_path(n, down);
        let op = |byte: u8| Opcode {
            operand_size: e.size == 2,
            wide: e.size == 8,
            byte_reg: e.size == 1,
            byte: byte | u8::from(e.size != 1),
            ..Opcode::narrow(0)
        };
        if e.load {
            let from = self.element_at(RSI, e.size, field::READ);
            let to = if e.store { host::R10 } else { host::RAX };
            self.asm.modrm(op(0x8a), to, from);
            if e.store {
                self.asm.store(SCRATCH, host::R10);
            }
        }
        if e.store {
            let to = self.element_at(RDI, e.size, field::WRITE);
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

    /// Checks the element at a register, whose addend is in R11 then.
    fn element_at(&mut self, register: u8, size: u8, tag: i32) -> Rm {
        self.asm.mov(host::R11, register);
        self.asm.lea(host::R10, register, None, i32::from(size) - 1);
        let class = self.class();
        let at = tlb_entry(&mut self.asm, class);
        tlb_compare(&mut self.asm, host::R10, at + tag, 1);
        let miss = self.asm.jcc_later(5);
        self.or_slow(miss);
        self.asm.modrm(Opcode::wide(0x8b), host::R11, entry_field(at + field::ADDEND));
        Rm::Mem { base: register, index: Some((host::R11, 0)), disp: 0 }
    }
}
