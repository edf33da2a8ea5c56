//! From a decoded instruction to what [`execute`](super::execute) needs.

use std::fmt;

use iced_x86::{Code, CodeSize, Instruction, OpKind, Register};

use super::host::{Feature, HostCpu};
use super::kinds::{NO_SLOT, SLOT_BYTES, bit, class, kind, operand};
use super::table::{Form, form};

/// `VecOp::regs` of a memory operand.
pub(super) const MEMORY: u8 = 0xff;
/// `VecOp::regs` of AH, CH, DH and BH start here.
pub(super) const HIGH_BYTE: u8 = 20;

/// What the caller checks before it executes an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing: general registers, fences, prefetches.
    General,
    /// VEX-encoded general-register instruction: #UD in real and virtual-8086 mode.
    VexGeneral,
    /// x87: #NM if CR0.EM or CR0.TS.
    X87,
    /// MMX: #UD if CR0.EM, #NM if CR0.TS.
    Mmx,
    /// SSE: #UD if CR0.EM or not CR4.OSFXSR, #NM if CR0.TS.
    Sse,
    /// AVX: #UD in real and virtual-8086 mode, without CR4.OSXSAVE or XCR0[2:1] = 3; #NM if CR0.TS.
    Avx,
    /// `FWAIT`: #NM if CR0.MP and CR0.TS.
    Wait,
}

/// The memory operand of a [`VecOp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemOperand {
    /// Size in bytes, 1 to 108.
    pub bytes: u8,
    /// The caller fills the scratch before execution.
    pub read: bool,
    /// The caller writes the scratch back after execution.
    pub write: bool,
    /// #GP if the linear address is not a multiple of this; 0 if any address will do.
    pub align: u8,
}

/// One vector, x87, MMX or bit-manipulation instruction, resolved.
#[derive(Clone, Copy)]
pub struct VecOp {
    pub(super) form: &'static Form,
    /// Offset of the thunk.
    pub(super) body: u32,
    /// Register numbers of the operands, [`MEMORY`] for memory.
    pub(super) regs: [u8; 4],
    /// Low 11 bits of the opcode, x87 only.
    pub(super) fop: u16,
    pub(super) kind: u8,
    pub(super) has_mem: bool,
    /// Gathers: number of the index register and its shift.
    pub(super) index: u8,
    pub(super) scale: u8,
    /// Vector registers that the mode has: outside 64-bit mode VZEROALL leaves the upper eight.
    pub(super) registers: u8,
}

impl fmt::Debug for VecOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VecOp({:?}, {:?})", self.form.code, self.regs)
    }
}

/// Resolves `instr`. `None` if it is none of the instructions dealt with here, or if the host lacks
/// it (#UD: the CPU model must not offer more than the host has).
#[must_use]
pub fn prepare(instr: &Instruction, host: &HostCpu) -> Option<VecOp> {
    let form = form(instr.code())?;
    if !host.has(form.feature) || (form.class == class::AVX && !host.has(Feature::AVX)) {
        return None;
    }
    let mut op = VecOp {
        form,
        body: 0,
        regs: [0; 4],
        fop: 0,
        kind: form.kind,
        has_mem: false,
        index: 0,
        scale: 0,
        registers: match instr.code_size() {
            CodeSize::Code16 | CodeSize::Code32 => 8,
            _ => 16,
        },
    };
    let mut st = 0;
    for i in 0..instr.op_count().min(4) {
        let at = i as usize;
        match instr.op_kind(i) {
            OpKind::Register => {
                let register = instr.op_register(i);
                op.regs[at] = number(register)?;
                if form.ops[at] & operand::KIND == operand::ST && register != Register::ST0 {
                    st = op.regs[at];
                }
            }
            OpKind::Immediate8 => {}
            _ => {
                op.regs[at] = MEMORY;
                op.has_mem = true;
            }
        }
    }
    if op.kind == kind::GATHER {
        // Destination, index and mask must be three registers.
        let index = number(instr.memory_index())?;
        if op.regs[0] == op.regs[2] || index == op.regs[0] || index == op.regs[2] {
            return None;
        }
    }
    if op.has_mem {
        op.kind = form.mem_kind;
        op.index = number(instr.memory_index()).unwrap_or(0) & 15;
        op.scale = u8::try_from(instr.memory_index_scale().trailing_zeros()).unwrap_or(0) & 3;
    }
    let first = if op.has_mem && form.mem_slot != NO_SLOT { form.mem_slot } else { form.slot };
    if first != NO_SLOT {
        let variant = if form.bits & bit::BY_IMM != 0 {
            instr.immediate8()
        } else if form.bits & bit::BY_ST != 0 {
            st & 7
        } else {
            0
        };
        op.body = (first + u32::from(variant)) * SLOT_BYTES as u32;
    }
    Some(op)
}

fn number(register: Register) -> Option<u8> {
    let number = match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            usize::from(HIGH_BYTE) + (register as usize - Register::AH as usize)
        }
        _ if register.is_gpr() => register.full_register().number(),
        _ if register.is_xmm() || register.is_ymm() => register.number(),
        _ if register.is_mm() || register.is_st() => register.number(),
        _ => return None,
    };
    u8::try_from(number).ok()
}

impl VecOp {
    /// The memory operand that goes through the scratch. `None` if there is none, or if it is accessed
    /// by element ([`by_element`](Self::by_element)) or not at all (prefetches).
    #[must_use]
    pub fn mem(&self) -> Option<MemOperand> {
        if !self.has_mem || self.by_element() || self.kind == kind::NOP {
            return None;
        }
        let at = self.regs.iter().position(|&reg| reg == MEMORY)?;
        let access = self.form.ops[at];
        Some(MemOperand {
            bytes: self.form.mem_bytes,
            read: access & operand::READ != 0,
            write: access & operand::WRITE != 0,
            align: self.form.align,
        })
    }

    /// True for masked moves and gathers, which go to
    /// [`execute_elements`](super::execute_elements).
    #[must_use]
    pub fn by_element(&self) -> bool {
        matches!(self.kind, kind::MASK_LOAD | kind::MASK_STORE | kind::MASK_BYTES | kind::GATHER)
    }

    /// True for gathers: the effective address is computed without the index register.
    #[must_use]
    pub fn is_gather(&self) -> bool {
        self.kind == kind::GATHER
    }

    /// True for `MASKMOVQ` and `MASKMOVDQU`: the effective address is DS:rDI.
    #[must_use]
    pub fn is_masked_bytes(&self) -> bool {
        self.kind == kind::MASK_BYTES
    }

    /// True if the instruction of the host, with the guest's registers in place and all SIMD
    /// exceptions masked, does all that there is to do.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let copied = matches!(
            self.kind,
            kind::VEC
                | kind::MIXED
                | kind::MOVE
                | kind::LOAD_LOW
                | kind::STORE_LOW
                | kind::STORE_GPR
                | kind::BYTE_MASK
                | kind::ZERO_UPPER
                | kind::ZERO_ALL
        );
        copied && self.form.bits & bit::MMX_STATE == 0
    }

    /// Whether operand `at` is a general register, and whether it is read and written.
    #[must_use]
    pub fn operand(&self, at: usize) -> (bool, bool, bool) {
        let op = self.form.ops.get(at).copied().unwrap_or(operand::NONE);
        let general = (operand::GPR8..=operand::GPR64).contains(&(op & operand::KIND));
        (general, op & operand::READ != 0, op & operand::WRITE != 0)
    }

    /// What to check before execution.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.form.class {
            class::VEX_GENERAL => Class::VexGeneral,
            class::X87 => Class::X87,
            class::MMX => Class::Mmx,
            class::SSE => Class::Sse,
            class::AVX => Class::Avx,
            class::WAIT => Class::Wait,
            _ => Class::General,
        }
    }

    /// True if pending x87 exceptions come first: test `VectorState::x87_pending` before the memory
    /// operand is read. [`execute`](super::execute) tests it too.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.form.bits & bit::WAITS != 0 && self.kind != kind::VEC
    }

    /// True for a store of the x87 unit that an unmasked exception keeps from happening.
    #[must_use]
    pub fn is_x87_store(&self) -> bool {
        self.kind == kind::X87 && self.mem().is_some_and(|m| m.write)
    }

    /// True if `Operands::x87` and, for the environment formats, `Operands::real_format` matter.
    #[must_use]
    pub fn needs_x87_pointers(&self) -> bool {
        self.form.class == class::X87
    }

    /// The CPUID feature that a guest needs for it.
    #[must_use]
    pub fn feature(&self) -> Feature {
        self.form.feature
    }

    /// The iced code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.form.code
    }

    /// EFLAGS bits that are read from `Operands::flags`.
    #[must_use]
    pub fn flags_read(&self) -> u64 {
        u64::from(self.form.flags_read)
    }

    /// EFLAGS bits that are changed in `Operands::flags`. Architecturally undefined ones get what the
    /// host CPU gives.
    #[must_use]
    pub fn flags_written(&self) -> u64 {
        u64::from(self.form.flags_written)
    }

    /// Notes the x87 opcode for FOP from the bytes of the instruction.
    #[must_use]
    pub fn with_bytes(mut self, bytes: &[u8]) -> Self {
        if self.form.class == class::X87
            && let Some(at) = bytes.iter().position(|byte| (0xd8..=0xdf).contains(byte))
        {
            let modrm = bytes.get(at + 1).copied().unwrap_or(0);
            self.fop = (u16::from(bytes[at] & 7) << 8) | u16::from(modrm);
        }
        self
    }
}
