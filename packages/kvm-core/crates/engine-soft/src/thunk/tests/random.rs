//! Random instructions and operands.

use iced_x86::{Code, Instruction, OpCodeOperandKind as K, OpKind, Register};

use super::super::kinds::operand;
use super::super::table::Form;

/// xorshift64*, so that failures repeat.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) as usize) % limit
    }

    /// Bits that are often an interesting single, double or integer.
    pub fn word(&mut self) -> u64 {
        const SINGLES: [u32; 16] = [
            0,
            0x8000_0000,
            0x3f80_0000,
            0xbf80_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            1,
            0x807f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0x4f00_0000,
            0xcf00_0000,
            0x3eaa_aaab,
            0x4048_f5c3,
        ];
        const DOUBLES: [u64; 16] = [
            0,
            1 << 63,
            0x3ff0_0000_0000_0000,
            0xbff0_0000_0000_0000,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            1,
            0x800f_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x41e0_0000_0000_0000,
            0xc3e0_0000_0000_0000,
            0x3fd5_5555_5555_5555,
            0x4009_21fb_5444_2d18,
        ];
        match self.below(5) {
            0 => u64::from(SINGLES[self.below(16)]) | (u64::from(SINGLES[self.below(16)]) << 32),
            1 => DOUBLES[self.below(16)],
            2 => self.next() & 0x0f0f_0f0f_0f0f_0f0f,
            3 => {
                // Doubles and singles of moderate size.
                let sign = self.next() & (1 << 63);
                sign | (0x3fc0_0000_0000_0000 + (self.next() >> 6))
            }
            _ => self.next(),
        }
    }
}

/// General registers for explicit operands: neither RSP nor RDI.
const GPRS: [u32; 14] = [0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/// A random instruction of `form`. Memory operands are `[rdi]`.
pub fn instruction(form: &Form, random: &mut Random) -> Instruction {
    let code: Code = form.code;
    let mut instr = Instruction::default();
    instr.set_code(code);
    for (i, &kind) in code.op_code().op_kinds().iter().enumerate() {
        let index = i as u32;
        let or_memory = matches!(
            kind,
            K::xmm_or_mem
                | K::ymm_or_mem
                | K::mm_or_mem
                | K::r8_or_mem
                | K::r16_or_mem
                | K::r32_or_mem
                | K::r64_or_mem
        );
        if matches!(kind, K::mem) || (or_memory && random.next() & 1 << 40 != 0) {
            instr.set_op_kind(index, OpKind::Memory);
            instr.set_memory_base(Register::RDI);
            continue;
        }
        if kind == K::imm8 {
            instr.set_op_kind(index, OpKind::Immediate8);
            instr.set_immediate8(random.next() as u8);
            continue;
        }
        if kind == K::seg_rDI {
            instr.set_op_kind(index, OpKind::MemorySegRDI);
            continue;
        }
        let few = random.next() & 1 << 41 != 0;
        let vector = random.below(if few { 2 } else { 16 }) as u32;
        let gpr = GPRS[random.below(if few { 3 } else { GPRS.len() })];
        let register = match form.ops[i] & operand::KIND {
            operand::VEC if format!("{kind:?}").starts_with("ymm") => Register::YMM0 + vector,
            operand::VEC => Register::XMM0 + vector,
            operand::MMX => Register::MM0 + (vector & 7),
            operand::GPR8 => {
                let high = [Register::AH, Register::CH, Register::DH, Register::BH];
                if few { high[random.below(4)] } else { Register::R8L + random.below(8) as u32 }
            }
            operand::GPR16 if kind == K::ax => Register::AX,
            operand::GPR16 => Register::AX + gpr,
            operand::GPR32 => Register::EAX + gpr,
            operand::GPR64 => Register::RAX + gpr,
            operand::ST if kind == K::st0 => Register::ST0,
            operand::ST => Register::ST0 + (vector & 7),
            other => panic!("{code:?}: operand {i} is {other}"),
        };
        instr.set_op_kind(index, OpKind::Register);
        instr.set_op_register(index, register);
    }
    // High byte registers do not exist under a REX prefix.
    if instr.op_count() == 2
        && matches!(instr.op1_register(), Register::AH | Register::CH | Register::DH | Register::BH)
    {
        instr.set_op0_register(Register::EAX + random.below(4) as u32);
        if form.ops[0] & operand::KIND == operand::GPR64 {
            instr.set_op0_register(Register::RAX);
            instr.set_op1_register(Register::BL);
        }
    }
    instr
}
