//! What the translator knows of a guest instruction: which of the few shapes it has that are emitted
//! as host instructions. Everything else is the interpreter's.

use iced_x86::Instruction;

use super::asm::Opcode;
use super::flat::Kind;
use super::strings::{self, Element};
use super::system::{System, system};
use super::vector::{self, VectorForm};
use crate::features::GuestFeatures;
use crate::thunk::Feature;

/// What an instruction does with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub read: bool,
    pub write: bool,
}

const R: Access = Access { read: true, write: false };
const W: Access = Access { read: false, write: true };
const RW: Access = Access { read: true, write: true };
const NONE: Access = Access { read: false, write: false };

/// A register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A general register by its number.
    General(u8),
    /// AH, CH, DH or BH as 4 to 7.
    High(u8),
    /// No register: the number extends the opcode.
    Extension(u8),
}

/// The operand in ModRM.rm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Register(Register),
    Memory,
}

/// An instruction with a ModRM byte.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub op: Opcode,
    pub reg: Register,
    pub rm: Operand,
    pub reg_access: Access,
    pub rm_access: Access,
    /// Bytes of the memory operand.
    pub size: u8,
    /// Locked, or an exchange with memory, which always is: must not cross a cache line.
    pub locked: bool,
    /// Bytes of the immediate, the last ones of the instruction.
    pub imm: u8,
}

/// The shapes that are emitted.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Nothing at all.
    Nothing,
    /// The guest's own bytes: their operands are pinned to the same registers.
    Verbatim,
    Modrm(Form),
    /// With vector registers, or VEX-encoded.
    Vector(VectorForm),
    /// DIV of 32 or 64 bits.
    Divide(Form),
    /// LEA: an address and no access.
    Lea(Form),
    /// MOV with an immediate, BSWAP: the register is part of the opcode.
    InOpcode {
        op: Opcode,
        reg: u8,
        access: Access,
        imm: u8,
    },
    /// MOVS, STOS, LODS.
    Element(Element),
    /// REP MOVS, REP STOS.
    Repeated(Element),
    Push(u8),
    PushImmediate(i32),
    Pop(u8),
    Leave,
    Jump,
    /// With the condition's number.
    Branch(u8),
    Call,
    /// JMP and CALL through a register or memory.
    Indirect(Form, bool),
    /// With the bytes of arguments to drop.
    Return(u16),
    System(System),
}

impl Shape {
    /// True for what says itself where the guest goes on.
    pub fn transfers(&self) -> bool {
        matches!(
            self,
            Self::Jump | Self::Branch(_) | Self::Call | Self::Indirect(..) | Self::Return(_)
        )
    }
}

/// The parts of an encoding.
pub struct Parts {
    pub op: Opcode,
    pub rex: u8,
    /// Index of the byte after the opcode.
    pub after: usize,
    pub address_size: bool,
    kind: Kind,
}

/// Splits prefixes and opcode; `None` for VEX and EVEX and for what the table does not know.
pub fn split(bytes: &[u8], kind: Kind) -> Option<Parts> {
    let mut op = Opcode::default();
    let mut address_size = false;
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            0x66 => op.operand_size = true,
            0x67 => address_size = true,
            0xf0 => op.lock = true,
            b @ (0xf2 | 0xf3) => op.rep = *b,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
            _ => break,
        }
        at += 1;
    }
    let mut rex = 0;
    if kind == Kind::Long && bytes.get(at)? & 0xf0 == 0x40 {
        rex = bytes[at];
        at += 1;
    }
    op.wide = rex & 8 != 0;
    op.byte = *bytes.get(at)?;
    if op.byte == 0x0f {
        op.map = 1;
        at += 1;
        op.byte = *bytes.get(at)?;
        if matches!(op.byte, 0x38 | 0x3a) {
            op.map = if op.byte == 0x38 { 2 } else { 3 };
            at += 1;
            op.byte = *bytes.get(at)?;
        }
    }
    Some(Parts { op, rex, after: at + 1, address_size, kind })
}

/// Whether a segment override or prefix makes a difference that only the interpreter knows.
fn usual(parts: &Parts, i: &Instruction) -> bool {
    // With REX.W the operand-size prefix means nothing; leave oddities alone.
    !(parts.address_size || parts.op.operand_size && parts.op.wide) && i.len() <= 15
}

/// The shape of an instruction, or `None` for the interpreter.
pub fn shape(i: &Instruction, bytes: &[u8], features: &GuestFeatures, kind: Kind) -> Option<Shape> {
    integer(i, bytes, features, kind).or_else(|| vector::shape(i, bytes, features, kind))
}

fn integer(i: &Instruction, bytes: &[u8], features: &GuestFeatures, kind: Kind) -> Option<Shape> {
    let parts = split(bytes, kind)?;
    if !usual(&parts, i) {
        return None;
    }
    let memory = || match modrm_sized(i, bytes, &parts, parts.op, NONE, R, parts.slot())? {
        Shape::Modrm(form) => Some(form),
        _ => None,
    };
    if !parts.op.lock
        && !parts.op.operand_size
        && let Some(op) = system(i, memory)
    {
        return Some(Shape::System(op));
    }
    match parts.op.map {
        0 => one_byte(i, bytes, &parts),
        1 => two_bytes(i, bytes, &parts, features),
        _ => None,
    }
}

fn one_byte(i: &Instruction, bytes: &[u8], p: &Parts) -> Option<Shape> {
    let byte = p.op.byte;
    let simple = p.op.rep == 0 && !p.op.lock;
    // REP before a return and XACQUIRE before a store are hints.
    let op = Opcode { rep: 0, ..p.op };
    let low = byte & 7;
    Some(match byte {
        0x00..=0x3f if low < 4 => {
            let compare = byte >> 3 == 7;
            let write = if compare { R } else { RW };
            let (reg, rm) = if low < 2 { (R, write) } else { (write, R) };
            modrm(i, bytes, p, op, reg, rm, low & 1 == 0, low & 1 == 0, 0)?
        }
        0x00..=0x3f if low < 6 && simple => Shape::Verbatim,
        0x40..=0x4f if simple && p.kind == Kind::Flat => step_register(op, byte),
        0x50..=0x57 if simple && !op.operand_size => Shape::Push(low | (p.rex & 1) << 3),
        0x58..=0x5f if simple && !op.operand_size => Shape::Pop(low | (p.rex & 1) << 3),
        0x63 if op.wide => modrm_sized(i, bytes, p, op, W, R, 4)?,
        0x68 | 0x6a if simple && !op.operand_size =>
        {
            #[allow(clippy::cast_possible_truncation)]
            Shape::PushImmediate(i.immediate(0) as i32)
        }
        0x69 => modrm(i, bytes, p, op, W, R, false, false, if op.operand_size { 2 } else { 4 })?,
        0x6b => modrm(i, bytes, p, op, W, R, false, false, 1)?,
        0x70..=0x7f if simple && !op.operand_size => Shape::Branch(byte & 15),
        0x80 | 0x81 | 0x83 => {
            let compare = extension(bytes, p)? == 7;
            let imm = if byte != 0x81 {
                1
            } else if op.operand_size {
                2
            } else {
                4
            };
            let access = if compare { R } else { RW };
            modrm(i, bytes, p, op, NONE, access, false, byte == 0x80, imm)?
        }
        0x84 | 0x85 => modrm(i, bytes, p, op, R, R, byte == 0x84, byte == 0x84, 0)?,
        0x86 | 0x87 => {
            let Shape::Modrm(form) = modrm(i, bytes, p, op, RW, RW, byte == 0x86, byte == 0x86, 0)?
            else {
                return None;
            };
            Shape::Modrm(Form { locked: true, ..form })
        }
        0x88 | 0x89 => modrm(i, bytes, p, op, R, W, byte == 0x88, byte == 0x88, 0)?,
        0x8a | 0x8b => modrm(i, bytes, p, op, W, R, byte == 0x8a, byte == 0x8a, 0)?,
        0x8d => match modrm(i, bytes, p, op, W, NONE, false, false, 0)? {
            Shape::Modrm(form) if form.rm == Operand::Memory => Shape::Lea(form),
            _ => return None,
        },
        0x90 if simple && p.rex & 1 == 0 => Shape::Nothing,
        0x91..=0x97 if simple && p.rex & 1 == 0 && low != 4 => Shape::Verbatim,
        0xa4 | 0xa5 | 0xaa..=0xad if simple => Shape::Element(strings::element(op)?),
        0xa4 | 0xa5 | 0xaa | 0xab if p.op.rep == 0xf3 && !p.op.lock => {
            Shape::Repeated(strings::element(op)?)
        }
        0x98 | 0x99 | 0xa8 | 0xa9 if simple => Shape::Verbatim,
        0xa0..=0xa3 if simple && p.kind == Kind::Flat => accumulator(op, byte),
        0xb0..=0xb7 if simple => {
            let number = low | (p.rex & 1) << 3;
            if p.rex == 0 && number >= 4 {
                // AH to BH, which are where they were.
                Shape::Verbatim
            } else {
                let op = Opcode { byte: 0xb0, byte_reg: true, wide: false, ..op };
                Shape::InOpcode { op, reg: number, access: RW, imm: 1 }
            }
        }
        0xb8..=0xbf if simple => Shape::InOpcode {
            op: Opcode { byte: 0xb8, ..op },
            reg: low | (p.rex & 1) << 3,
            access: if op.operand_size { RW } else { W },
            imm: if op.wide {
                8
            } else if op.operand_size {
                2
            } else {
                4
            },
        },
        0xc0 | 0xc1 => modrm(i, bytes, p, op, NONE, RW, false, byte == 0xc0, 1)?,
        0xd0..=0xd3 => modrm(i, bytes, p, op, NONE, RW, false, byte & 1 == 0, 0)?,
        0xc2 if !op.operand_size => Shape::Return(i.immediate16()),
        0xc3 if !op.operand_size => Shape::Return(0),
        0xc6 | 0xc7 if extension(bytes, p)? == 0 => {
            let imm = if byte == 0xc6 {
                1
            } else if op.operand_size {
                2
            } else {
                4
            };
            modrm(i, bytes, p, op, NONE, W, false, byte == 0xc6, imm)?
        }
        0xc9 if simple && !op.operand_size => Shape::Leave,
        0xe8 if simple && !op.operand_size => Shape::Call,
        0xe9 | 0xeb if simple && !op.operand_size => Shape::Jump,
        0xf5 | 0xf8 | 0xf9 if simple => Shape::Verbatim,
        0xf6 | 0xf7 => {
            let small = byte == 0xf6;
            match extension(bytes, p)? {
                0 | 1 => {
                    let imm = if small {
                        1
                    } else if op.operand_size {
                        2
                    } else {
                        4
                    };
                    modrm(i, bytes, p, op, NONE, R, false, small, imm)?
                }
                2 | 3 => modrm(i, bytes, p, op, NONE, RW, false, small, 0)?,
                4 | 5 => modrm(i, bytes, p, op, NONE, R, false, small, 0)?,
                // Whether a signed quotient fits is not a matter of one comparison.
                6 if !small && !op.operand_size => {
                    match modrm(i, bytes, p, op, NONE, R, false, false, 0)? {
                        Shape::Modrm(form) => Shape::Divide(form),
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        0xfe | 0xff if extension(bytes, p)? < 2 => {
            modrm(i, bytes, p, op, NONE, RW, false, byte == 0xfe, 0)?
        }
        0xff if !op.operand_size && matches!(extension(bytes, p)?, 2 | 4) => {
            let call = extension(bytes, p)? == 2;
            match modrm_sized(i, bytes, p, op, NONE, R, p.slot())? {
                Shape::Modrm(form) => Shape::Indirect(form, call),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn two_bytes(i: &Instruction, bytes: &[u8], p: &Parts, features: &GuestFeatures) -> Option<Shape> {
    let byte = p.op.byte;
    let op = p.op;
    let plain = op.rep == 0;
    Some(match byte {
        0x0d | 0x18 => match extension(bytes, p) {
            // Hints, with a memory operand that is not accessed.
            Some(0..=3) if i.op_count() == 1 => Shape::Nothing,
            _ => return None,
        },
        0x1e if op.rep == 0xf3 && matches!(bytes.get(p.after), Some(0xfa | 0xfb)) => Shape::Nothing,
        0x1f if plain => Shape::Nothing,
        0x40..=0x4f if plain => modrm(i, bytes, p, op, RW, R, false, false, 0)?,
        0x80..=0x8f if plain && !op.operand_size => Shape::Branch(byte & 15),
        0x90..=0x9f if plain => modrm(i, bytes, p, op, NONE, W, false, true, 0)?,
        // A bit offset in a register reaches beyond the operand in memory.
        0xa3 | 0xab | 0xb3 | 0xbb if plain && bytes.get(p.after)? >> 6 == 3 => {
            modrm(i, bytes, p, op, R, if byte == 0xa3 { R } else { RW }, false, false, 0)?
        }
        0xa4 | 0xac if plain => modrm(i, bytes, p, op, R, RW, false, false, 1)?,
        0xa5 | 0xad if plain => modrm(i, bytes, p, op, R, RW, false, false, 0)?,
        0xaf if plain => modrm(i, bytes, p, op, RW, R, false, false, 0)?,
        0xb0 | 0xb1 if plain => modrm(i, bytes, p, op, R, RW, byte == 0xb0, byte == 0xb0, 0)?,
        0xc0 | 0xc1 if plain => modrm(i, bytes, p, op, RW, RW, byte == 0xc0, byte == 0xc0, 0)?,
        0xb6 | 0xbe if plain => modrm(i, bytes, p, op, narrow(op), R, false, true, 0)?,
        0xb7 | 0xbf if plain => modrm_sized(i, bytes, p, op, narrow(op), R, 2)?,
        0xb8 if op.rep == 0xf3 && features.thunks.has(Feature::POPCNT) => {
            modrm(i, bytes, p, op, narrow(op), R, false, false, 0)?
        }
        0xba if plain && extension(bytes, p)? >= 4 => {
            let access = if extension(bytes, p)? == 4 { R } else { RW };
            modrm(i, bytes, p, op, NONE, access, false, false, 1)?
        }
        0xbc | 0xbd if plain => modrm(i, bytes, p, op, RW, R, false, false, 0)?,
        0xbc if op.rep == 0xf3 && features.thunks.has(Feature::BMI1) => {
            modrm(i, bytes, p, op, narrow(op), R, false, false, 0)?
        }
        0xbd if op.rep == 0xf3 && features.thunks.has(Feature::LZCNT) => {
            modrm(i, bytes, p, op, narrow(op), R, false, false, 0)?
        }
        0xc7 if plain && !op.operand_size && extension(bytes, p)? == 1 => {
            if op.wide && !features.cx16 {
                return None;
            }
            let size = if op.wide { 16 } else { 8 };
            match modrm_sized(i, bytes, p, op, NONE, RW, size)? {
                // Aligned, as the 16-byte form must be.
                Shape::Modrm(form) if form.rm == Operand::Memory => {
                    Shape::Modrm(Form { locked: true, ..form })
                }
                _ => return None,
            }
        }
        0xc8..=0xcf if plain && !op.operand_size && !op.lock => Shape::InOpcode {
            op: Opcode { byte: 0xc8, ..op },
            reg: byte & 7 | (p.rex & 1) << 3,
            access: RW,
            imm: 0,
        },
        _ => return None,
    })
}

impl Parts {
    /// Bytes of a stack slot.
    fn slot(&self) -> u8 {
        self.kind.slot().unsigned_abs() as u8
    }
}

/// INC and DEC of 32-bit code, whose opcodes are REX prefixes in 64-bit code.
fn step_register(op: Opcode, byte: u8) -> Shape {
    Shape::Modrm(Form {
        op: Opcode { byte: 0xff, ..op },
        reg: Register::Extension(byte >> 3 & 1),
        rm: Operand::Register(Register::General(byte & 7)),
        reg_access: NONE,
        rm_access: RW,
        size: if op.operand_size { 2 } else { 4 },
        locked: false,
        imm: 0,
    })
}

/// MOV between AL, AX or EAX and an absolute address of 32 bits: as the form with ModRM.
fn accumulator(op: Opcode, byte: u8) -> Shape {
    let (small, store) = (byte & 1 == 0, byte & 2 != 0);
    let full = !small && !op.operand_size;
    let reg_access = match (store, full) {
        (true, _) => R,
        (false, true) => W,
        // The rest of the register stays.
        (false, false) => RW,
    };
    let opcode = if store { 0x88 } else { 0x8a } | byte & 1;
    Shape::Modrm(Form {
        op: Opcode { byte: opcode, byte_reg: small, byte_rm: small, ..op },
        reg: Register::General(0),
        rm: Operand::Memory,
        reg_access,
        rm_access: if store { W } else { R },
        size: match (small, op.operand_size) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 4,
        },
        locked: false,
        imm: 0,
    })
}

/// A 16-bit destination keeps the rest of its register.
fn narrow(op: Opcode) -> Access {
    if op.operand_size { RW } else { W }
}

fn extension(bytes: &[u8], p: &Parts) -> Option<u8> {
    Some(bytes.get(p.after)? >> 3 & 7)
}

fn modrm_sized(
    i: &Instruction,
    bytes: &[u8],
    p: &Parts,
    op: Opcode,
    reg: Access,
    rm: Access,
    size: u8,
) -> Option<Shape> {
    match modrm(i, bytes, p, op, reg, rm, false, false, 0)? {
        Shape::Modrm(form) => Some(Shape::Modrm(Form { size, ..form })),
        other => Some(other),
    }
}

/// An instruction with a ModRM byte; `NONE` for `reg` says that the field extends the opcode.
#[allow(clippy::too_many_arguments)]
fn modrm(
    i: &Instruction,
    bytes: &[u8],
    p: &Parts,
    op: Opcode,
    reg_access: Access,
    rm_access: Access,
    byte_reg: bool,
    byte_rm: bool,
    imm: u8,
) -> Option<Shape> {
    let byte = *bytes.get(p.after)?;
    let width = if byte_rm {
        1
    } else if op.wide {
        8
    } else if op.operand_size {
        2
    } else {
        4
    };
    let register = |number: u8, small: bool| {
        if small && p.rex == 0 && number >= 4 {
            Register::High(number)
        } else {
            Register::General(number)
        }
    };
    let reg = byte >> 3 & 7;
    let reg = if reg_access == NONE {
        Register::Extension(reg)
    } else {
        register(reg | (p.rex & 4) << 1, byte_reg)
    };
    let rm = if byte >> 6 == 3 {
        Operand::Register(register(byte & 7 | (p.rex & 1) << 3, byte_rm))
    } else {
        Operand::Memory
    };
    // An 8- or 16-bit result leaves the rest of its register: it must be there before.
    let partial = |access: Access, small: bool| {
        let keeps = access.write && (small || op.operand_size);
        Access { read: access.read || keeps, ..access }
    };
    let op = Opcode { byte_reg, byte_rm, ..op };
    let rm_access = match rm {
        Operand::Register(_) => partial(rm_access, byte_rm),
        Operand::Memory => rm_access,
    };
    Some(Shape::Modrm(Form {
        op,
        reg,
        rm,
        reg_access: partial(reg_access, byte_reg),
        rm_access,
        size: width,
        locked: op.lock,
        imm,
    }))
    .filter(|_| !(op.lock && rm != Operand::Memory) && i.len() >= p.after)
}
