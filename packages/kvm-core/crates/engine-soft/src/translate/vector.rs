//! Instructions with vector registers and those of the VEX encodings. Vector registers are the
//! host's own while a block runs that has any (see `vector_state`), so that an instruction without
//! memory or general registers is copied as it stands.

use iced_x86::{Instruction, Mnemonic, OpCodeOperandKind as Operands, OpKind};
use smallvec::SmallVec;

use super::asm::{Opcode, Rm, Vex, host};
use super::emit::Emitter;
use super::flat::Kind;
use super::guest::{Access, Shape, split};
use super::state::{pinned, register};
use crate::features::GuestFeatures;
use crate::thunk::{self, Class, VecOp};

/// How an instruction is encoded.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Legacy(Opcode),
    Vex(Vex),
}

/// An operand in one of the three register fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// A number that is the same on the host: a vector register or a part of the opcode.
    Same(u8),
    /// A general register.
    General(u8, Access),
    Memory,
}

/// An instruction of this file.
#[derive(Clone, Copy, Debug)]
pub struct VectorForm {
    encoding: Encoding,
    reg: Field,
    rm: Field,
    vvvv: Field,
    /// There is an immediate.
    imm: bool,
    /// It names a register.
    has_is4: bool,
    /// Bytes of the memory operand.
    size: u8,
    write: bool,
    /// The memory operand must be a multiple of its size.
    aligned: bool,
    /// Which vector registers it needs, see `vector_state`.
    pub level: u8,
}

/// What the bytes say.
struct Parts {
    encoding: Encoding,
    /// Index of the ModRM byte, if there is one.
    modrm: usize,
    vvvv: u8,
}

fn parts(bytes: &[u8], kind: Kind) -> Option<Parts> {
    let start = bytes.iter().position(|b| !matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65))?;
    let bytes_at = |at: usize| bytes.get(start + at).copied();
    let (first, second, third) = match bytes_at(0)? {
        0xc5 => (bytes_at(1)? & 0x80 | 0x61, bytes_at(1)? & 0x7f, 1),
        0xc4 => (bytes_at(1)?, bytes_at(2)?, 2),
        _ => {
            let p = split(bytes, kind)?;
            if p.address_size || p.op.lock || p.op.map == 0 {
                return None;
            }
            let encoding = Encoding::Legacy(p.op);
            return Some(Parts { encoding, modrm: p.after, vvvv: 0 });
        }
    };
    let vex = Vex {
        map: first & 31,
        pp: second & 3,
        wide: second & 0x80 != 0,
        long: second & 4 != 0,
        byte: bytes_at(third + 1)?,
    };
    Some(Parts {
        encoding: Encoding::Vex(vex),
        modrm: start + third + 2,
        vvvv: second >> 3 & 15 ^ 15,
    })
}

/// The shape of an instruction that is here at home.
pub fn shape(i: &Instruction, bytes: &[u8], features: &GuestFeatures, kind: Kind) -> Option<Shape> {
    let op = thunk::prepare(i, &features.thunks).filter(VecOp::is_plain)?;
    let level = match op.class() {
        Class::Sse => 1,
        Class::Avx => 2,
        Class::General | Class::VexGeneral => 0,
        _ => return None,
    };
    let p = parts(bytes, kind)?;
    let modrm = bytes.get(p.modrm).copied().unwrap_or(0);
    let mut form = VectorForm {
        encoding: p.encoding,
        reg: Field::Same(modrm >> 3 & 7),
        rm: Field::Same(modrm & 7),
        vvvv: Field::Same(p.vvvv),
        imm: false,
        has_is4: false,
        size: 0,
        write: false,
        aligned: false,
        level,
    };
    let code = i.op_code();
    for n in 0..i.op_count() {
        let (general, read, write) = op.operand(n as usize);
        let number = match i.op_kind(n) {
            OpKind::Register => i.op_register(n).number() as u8,
            OpKind::Immediate8 => {
                form.imm = true;
                continue;
            }
            OpKind::Memory => {
                let m = op.mem()?;
                // An alignment other than the size is nobody's.
                if m.align != 0 && m.align != m.bytes {
                    return None;
                }
                form.rm = Field::Memory;
                form.size = m.bytes;
                form.write = m.write;
                form.aligned = m.align != 0;
                continue;
            }
            _ => return None,
        };
        let field = if general {
            // Smaller ones are partial or may be AH to BH.
            if !matches!(i.op_register(n).size(), 4 | 8) {
                return None;
            }
            let number = i.op_register(n).full_register().number() as u8;
            Field::General(number, Access { read, write })
        } else {
            Field::Same(number)
        };
        match code.op_kind(n) {
            Operands::xmm_reg | Operands::ymm_reg | Operands::r32_reg | Operands::r64_reg => {
                form.reg = field
            }
            Operands::xmm_rm
            | Operands::ymm_rm
            | Operands::r32_rm
            | Operands::r64_rm
            | Operands::xmm_or_mem
            | Operands::ymm_or_mem
            | Operands::r32_or_mem
            | Operands::r64_or_mem => form.rm = field,
            Operands::xmm_vvvv | Operands::ymm_vvvv | Operands::r32_vvvv | Operands::r64_vvvv => {
                form.vvvv = field
            }
            Operands::xmm_is4 | Operands::ymm_is4 => (form.imm, form.has_is4) = (true, true),
            _ => return None,
        }
    }
    let fits = fits(&form) && (kind == Kind::Long || means_the_same(i, &form, bytes));
    fits.then_some(Shape::Vector(form))
}

/// True for a general register that has no host register unless it borrows one.
fn homeless(field: Field) -> bool {
    matches!(field, Field::General(r, _) if pinned(r).is_none())
}

/// Whether the bits that 32-bit code ignores are as they must be in 64-bit code.
fn means_the_same(i: &Instruction, form: &VectorForm, bytes: &[u8]) -> bool {
    // These leave the registers alone that 32-bit code does not have.
    if matches!(i.mnemonic(), Mnemonic::Vzeroupper | Mnemonic::Vzeroall) {
        return false;
    }
    let Encoding::Vex(vex) = form.encoding else { return true };
    let start = bytes.iter().position(|b| matches!(b, 0xc4 | 0xc5));
    let Some([first, second, third, ..]) = start.and_then(|at| bytes.get(at..)) else {
        return false;
    };
    // VEX.B and the top bit of VEX.vvvv, both inverted; W where it would make a general register wide.
    let extended = match first {
        0xc4 => second & 0x20 == 0 || third & 0x40 == 0,
        _ => false,
    };
    let general = [form.reg, form.rm, form.vvvv].iter().any(|f| matches!(f, Field::General(..)));
    let register = form.imm && form.has_is4 && bytes.last().is_some_and(|b| b & 0x80 != 0);
    !(extended || register || general && vex.wide)
}

/// Whether the two scratch registers are enough: a memory operand takes one of them.
fn fits(form: &VectorForm) -> bool {
    let fields = [form.reg, form.rm, form.vvvv];
    let memory = usize::from(form.rm == Field::Memory);
    fields.into_iter().filter(|&f| homeless(f)).count() + memory <= 2
}

impl VectorForm {
    /// Size of the memory operand, and whether it is written, if it may lie anywhere.
    pub fn loose_memory(&self) -> Option<(u8, bool)> {
        (self.rm == Field::Memory && !self.aligned).then_some((self.size, self.write))
    }

    /// True if there is a memory operand.
    pub fn has_memory(&self) -> bool {
        self.rm == Field::Memory
    }
}

impl Emitter<'_> {
    /// True if all register operands have the same numbers on the host.
    pub fn verbatim(&self, form: &VectorForm) -> bool {
        [form.reg, form.rm, form.vvvv].into_iter().all(|field| match field {
            Field::Same(_) => true,
            Field::General(r, _) => self.home(r) == Some(r),
            Field::Memory => false,
        })
    }

    fn homeless_field(&self, field: Field) -> bool {
        matches!(field, Field::General(r, _) if self.home(r).is_none())
    }

    /// An instruction of this file.
    pub fn vector(&mut self, n: usize, form: VectorForm) {
        if !form.has_memory() {
            self.flags_before(n);
        }
        if self.verbatim(&form) {
            self.asm.bytes(self.bytes_of(n));
            return;
        }
        let rm = form.has_memory().then(|| {
            let scratch = self.homeless_field(form.reg) || self.homeless_field(form.vvvv);
            let live = self.flags_live_at_check(n);
            self.access(n, form.size, form.write, form.aligned, live, scratch)
        });
        let mut free = [host::R11, host::R10];
        let mut left = if rm.is_some() { &mut free[1..] } else { &mut free[..] }.iter().copied();
        let mut put_back = SmallVec::<[(u8, u8); 2]>::new();
        let [reg, to, vvvv] = [form.reg, form.rm, form.vvvv].map(|field| match field {
            Field::Same(number) => number,
            Field::Memory => 0,
            Field::General(r, access) => self.home(r).unwrap_or_else(|| {
                let scratch = left.next().unwrap_or(host::R10);
                if access.read {
                    self.asm.load(scratch, register(r));
                }
                if access.write {
                    put_back.push((r, scratch));
                }
                scratch
            }),
        });
        let rm_operand = rm.unwrap_or(Rm::Reg(to));
        match form.encoding {
            Encoding::Legacy(op) => self.asm.modrm(op, reg, rm_operand),
            Encoding::Vex(op) => self.asm.vex(op, reg, vvvv, rm_operand),
        }
        if form.imm {
            let last = self.bytes_of(n).last().copied().unwrap_or(0);
            self.asm.byte(last);
        }
        // MULX with the same register twice keeps the high half, which is in ModRM.reg.
        for (r, scratch) in put_back.into_iter().rev() {
            self.asm.store(register(r), scratch);
        }
    }
}
