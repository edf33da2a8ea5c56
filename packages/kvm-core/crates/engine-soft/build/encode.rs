//! Encodes each form with the fixed registers that the stubs load.
//!
//! Operand `i` is `xmm(1+i)`, `r(8+i)` or `mm(1+i)`; memory is `[rsi]`. XMM0, RAX, RCX and RDX stay
//! free for implicit operands.

use iced_x86::{Code, Encoder, Instruction, OpKind, Register};

use crate::kinds::{SLOT_BYTES, bit, kind, operand};
use crate::select::Form;

/// The thunks, one after the other.
#[derive(Default)]
pub struct Bodies {
    bytes: Vec<u8>,
}

impl Bodies {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds the thunks of one form and notes their place in it.
    pub fn add(&mut self, form: &mut Form) {
        if form.kind > kind::X87 {
            return;
        }
        form.slot = self.add_all(form, false);
        // Most instructions mean the same with memory loaded into a register; these do not.
        let differ = [
            Code::Insertps_xmm_xmmm32_imm8,
            Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8,
            // Without an MMX register they leave the x87 state alone.
            Code::Cvtpi2ps_xmm_mmm64,
            Code::Cvtpi2pd_xmm_mmm64,
        ];
        if differ.contains(&form.code) {
            form.mem_slot = self.add_all(form, true);
        }
    }

    fn add_all(&mut self, form: &Form, memory: bool) -> u32 {
        let first = self.bytes.len() / SLOT_BYTES;
        let variants: u16 = if form.bits & bit::BY_IMM != 0 {
            256
        } else if form.bits & bit::BY_ST != 0 {
            8
        } else {
            1
        };
        for variant in 0..variants {
            let variant = u8::try_from(variant).expect("at most 256 variants");
            self.push(&instruction(form.thunk_code, &form.ops, variant, memory));
        }
        u32::try_from(first).expect("fewer than 2^32 thunks")
    }

    fn push(&mut self, instr: &Instruction) {
        let mut encoder = Encoder::new(64);
        encoder.encode(instr, 0).unwrap_or_else(|error| panic!("{:?}: {error}", instr.code()));
        let mut bytes = encoder.take_buffer();
        bytes.push(0xc3);
        assert!(bytes.len() <= SLOT_BYTES, "{:?} does not fit a slot", instr.code());
        bytes.resize(SLOT_BYTES, 0xcc);
        self.bytes.extend_from_slice(&bytes);
    }
}

fn register(op: u8, index: u32, ymm: bool, variant: u8) -> Option<Register> {
    Some(match op & operand::KIND {
        operand::VEC if ymm => Register::YMM1 + index,
        operand::VEC => Register::XMM1 + index,
        operand::GPR8 => Register::R8L + index,
        operand::GPR16 => Register::R8W + index,
        operand::GPR32 => Register::R8D + index,
        operand::GPR64 => Register::R8 + index,
        operand::MMX => Register::MM1 + index,
        operand::ST => Register::ST0 + u32::from(variant),
        _ => return None,
    })
}

/// The instruction with its fixed operands. `memory` puts memory where a register would do as well.
pub fn instruction(code: Code, ops: &[u8; 4], variant: u8, memory: bool) -> Instruction {
    use iced_x86::OpCodeOperandKind as K;
    let kinds = code.op_code().op_kinds();
    let mut instr = Instruction::default();
    instr.set_code(code);
    for (i, (&op, &op_kind)) in ops.iter().zip(kinds).enumerate() {
        let index = u32::try_from(i).expect("at most five operands");
        let may_be_memory = matches!(
            op_kind,
            K::mem
                | K::xmm_or_mem
                | K::ymm_or_mem
                | K::mm_or_mem
                | K::r8_or_mem
                | K::r16_or_mem
                | K::r32_or_mem
                | K::r64_or_mem
        );
        if op & operand::KIND == operand::IMM {
            instr.set_op_kind(index, OpKind::Immediate8);
            instr.set_immediate8(variant);
        } else if op & operand::KIND == operand::MEM || (memory && may_be_memory) {
            instr.set_op_kind(index, OpKind::Memory);
            instr.set_memory_base(Register::RSI);
        } else {
            let ymm = format!("{op_kind:?}").starts_with("ymm");
            let variant = if op_kind == K::st0 { 0 } else { variant };
            let register = register(op, index, ymm, variant)
                .unwrap_or_else(|| panic!("{code:?}: operand {i} has no register"));
            instr.set_op_kind(index, OpKind::Register);
            instr.set_op_register(index, register);
        }
    }
    instr
}
