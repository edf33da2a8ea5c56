//! The instructions: every kind of access at every size.

use iced_x86::{Code, Instruction, Mnemonic as M, OpCodeOperandKind as K, OpKind, Register};

/// How an instruction reaches the address under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An operand with a ModRM byte.
    Modrm,
    /// An absolute address in the instruction.
    Offset,
    /// Below RSP, at RSP, at RBP.
    Push,
    Pop,
    Leave,
    /// At RSI or RDI.
    Source,
    Destination,
}

/// What it does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    /// Reads and writes: faults as a write.
    Modify,
}

#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub code: Code,
    pub place: Place,
    pub access: Access,
    pub size: u64,
    pub lock: bool,
    /// Must lie at a multiple of this.
    pub align: u64,
    /// Where it goes on is what it reads.
    pub jumps: bool,
}

impl Op {
    pub const fn new(code: Code, access: Access, size: u64) -> Self {
        let place = Place::Modrm;
        Self { code, place, access, size, lock: false, align: 1, jumps: false }
    }

    pub const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub const fn locked(self) -> Self {
        Self { lock: true, ..self }
    }

    pub const fn aligned(self) -> Self {
        Self { align: self.size, ..self }
    }

    pub const fn jumping(self) -> Self {
        Self { jumps: true, ..self }
    }

    /// True if it makes another access, to memory that is not under test.
    pub fn two(self) -> bool {
        let mnemonic = self.code.mnemonic();
        let stack = matches!(mnemonic, M::Push | M::Pop | M::Call) && self.place == Place::Modrm;
        stack || matches!(mnemonic, M::Movsb | M::Cmpsd | M::Movsw | M::Movsd | M::Movsq | M::Cmpsq)
    }

    /// The instruction without its memory operand's registers.
    pub fn instruction(self) -> Instruction {
        let mut i = Instruction::default();
        i.set_code(self.code);
        for (n, &kind) in (0..).zip(self.code.op_code().op_kinds()) {
            operand(&mut i, n, kind);
        }
        i.set_has_lock_prefix(self.lock);
        i
    }
}

fn operand(i: &mut Instruction, n: u32, kind: K) {
    let register = match kind {
        K::mem | K::mem_offs => {
            i.set_op_kind(n, OpKind::Memory);
            return;
        }
        K::r8_or_mem
        | K::r16_or_mem
        | K::r32_or_mem
        | K::r64_or_mem
        | K::mm_or_mem
        | K::xmm_or_mem
        | K::ymm_or_mem => {
            i.set_op_kind(n, OpKind::Memory);
            return;
        }
        K::seg_rSI => return i.set_op_kind(n, OpKind::MemorySegRSI),
        K::es_rDI => return i.set_op_kind(n, OpKind::MemoryESRDI),
        K::imm8 => {
            i.set_op_kind(n, OpKind::Immediate8);
            return i.set_immediate8(1);
        }
        K::imm16 => {
            i.set_op_kind(n, OpKind::Immediate16);
            return i.set_immediate16(8);
        }
        K::imm32 => {
            i.set_op_kind(n, OpKind::Immediate32);
            return i.set_immediate32(0x1234_5678);
        }
        K::imm32sex64 => {
            i.set_op_kind(n, OpKind::Immediate32to64);
            return i.set_immediate32to64(0x1234_5678);
        }
        K::br64_4 => return i.set_op_kind(n, OpKind::NearBranch64),
        K::br32_4 => return i.set_op_kind(n, OpKind::NearBranch32),
        K::al => Register::AL,
        K::ax => Register::AX,
        K::eax => Register::EAX,
        K::rax => Register::RAX,
        K::r8_reg => Register::DL,
        K::r16_reg | K::r16_opcode => Register::DX,
        K::r32_reg | K::r32_opcode => Register::EDX,
        K::r64_reg | K::r64_opcode => Register::RDX,
        K::r32_vvvv => Register::EBX,
        K::r64_vvvv => Register::RBX,
        K::mm_reg => Register::MM1,
        K::xmm_reg => Register::XMM3,
        K::xmm_vvvv => Register::XMM9,
        K::ymm_reg => Register::YMM3,
        K::ymm_vvvv => Register::YMM9,
        K::st0 => Register::ST0,
        other => panic!("{other:?}"),
    };
    i.set_op_kind(n, OpKind::Register);
    i.set_op_register(n, register);
}

use Access::{Modify, Read, Write};
use Place::{Destination, Leave, Offset, Pop, Push, Source};

/// All of them.
pub fn all() -> Vec<Op> {
    let mut ops = integer();
    ops.extend(locked());
    ops.extend(vector());
    ops.extend(elsewhere());
    let host = |op: &Op| super::on_host(op.code);
    ops.retain(host);
    ops
}

fn integer() -> Vec<Op> {
    let op = Op::new;
    vec![
        op(Code::Mov_r8_rm8, Read, 1),
        op(Code::Mov_r16_rm16, Read, 2),
        op(Code::Mov_r32_rm32, Read, 4),
        op(Code::Mov_r64_rm64, Read, 8),
        op(Code::Movzx_r32_rm8, Read, 1),
        op(Code::Movzx_r64_rm16, Read, 2),
        op(Code::Movsxd_r64_rm32, Read, 4),
        op(Code::Add_r64_rm64, Read, 8),
        op(Code::Cmp_rm32_r32, Read, 4),
        op(Code::Test_rm8_r8, Read, 1),
        op(Code::Imul_r64_rm64, Read, 8),
        op(Code::Bt_rm32_imm8, Read, 4),
        op(Code::Cmovne_r64_rm64, Read, 8),
        op(Code::Cmove_r32_rm32, Read, 4),
        op(Code::Bsf_r64_rm64, Read, 8),
        op(Code::Movbe_r32_m32, Read, 4),
        op(Code::Mov_rm8_r8, Write, 1),
        op(Code::Mov_rm16_r16, Write, 2),
        op(Code::Mov_rm32_r32, Write, 4),
        op(Code::Mov_rm64_r64, Write, 8),
        op(Code::Mov_rm32_imm32, Write, 4),
        op(Code::Mov_rm64_imm32, Write, 8),
        op(Code::Setne_rm8, Write, 1),
        op(Code::Movnti_m64_r64, Write, 8),
        op(Code::Movbe_m64_r64, Write, 8),
        op(Code::Pop_rm64, Write, 8),
        op(Code::Push_rm64, Read, 8),
        op(Code::Add_rm8_r8, Modify, 1),
        op(Code::Inc_rm16, Modify, 2),
        op(Code::Shl_rm32_imm8, Modify, 4),
        op(Code::Not_rm64, Modify, 8),
        op(Code::Sbb_rm64_r64, Modify, 8),
        op(Code::Btc_rm16_imm8, Modify, 2),
        op(Code::Shld_rm32_r32_imm8, Modify, 4),
        op(Code::Xchg_rm8_r8, Modify, 1),
        op(Code::Xchg_rm64_r64, Modify, 8),
        op(Code::Cmpxchg_rm32_r32, Modify, 4),
        op(Code::Jmp_rm64, Read, 8).jumping(),
        op(Code::Call_rm64, Read, 8).jumping(),
    ]
}

fn locked() -> Vec<Op> {
    let op = |code, size| Op::new(code, Modify, size).locked();
    vec![
        op(Code::Add_rm8_r8, 1),
        op(Code::Sub_rm16_r16, 2),
        op(Code::Xadd_rm32_r32, 4),
        op(Code::Dec_rm64, 8),
        op(Code::Cmpxchg_rm64_r64, 8),
        op(Code::Bts_rm32_imm8, 4),
        op(Code::Cmpxchg8b_m64, 8),
        op(Code::Cmpxchg16b_m128, 16).aligned(),
        Op::new(Code::Cmpxchg16b_m128, Modify, 16).aligned(),
    ]
}

fn vector() -> Vec<Op> {
    let op = Op::new;
    vec![
        op(Code::Movups_xmm_xmmm128, Read, 16),
        op(Code::Movups_xmmm128_xmm, Write, 16),
        op(Code::Movaps_xmm_xmmm128, Read, 16).aligned(),
        op(Code::Movaps_xmmm128_xmm, Write, 16).aligned(),
        op(Code::Movdqu_xmm_xmmm128, Read, 16),
        op(Code::Movdqa_xmmm128_xmm, Write, 16).aligned(),
        op(Code::Lddqu_xmm_m128, Read, 16),
        op(Code::Movntdq_m128_xmm, Write, 16).aligned(),
        op(Code::Addps_xmm_xmmm128, Read, 16).aligned(),
        op(Code::Pxor_xmm_xmmm128, Read, 16).aligned(),
        op(Code::Movss_xmm_xmmm32, Read, 4),
        op(Code::Movsd_xmmm64_xmm, Write, 8),
        op(Code::Movss_xmmm32_xmm, Write, 4),
        op(Code::Movd_xmm_rm32, Read, 4),
        op(Code::Movq_rm64_xmm, Write, 8),
        op(Code::Movhpd_xmm_m64, Read, 8),
        op(Code::Cvtsi2sd_xmm_rm64, Read, 8),
        op(Code::Pmovzxbw_xmm_xmmm64, Read, 8),
        op(Code::Pextrw_r32m16_xmm_imm8, Write, 2),
        op(Code::Movq_mm_mmm64, Read, 8),
        op(Code::Movq_mmm64_mm, Write, 8),
        op(Code::Fld_m80fp, Read, 10),
        op(Code::Fstp_m80fp, Write, 10),
        op(Code::Fild_m16int, Read, 2),
        op(Code::Fistp_m64int, Write, 8),
        op(Code::Ldmxcsr_m32, Read, 4),
        op(Code::Stmxcsr_m32, Write, 4),
        op(Code::VEX_Vmovups_ymm_ymmm256, Read, 32),
        op(Code::VEX_Vmovups_ymmm256_ymm, Write, 32),
        op(Code::VEX_Vmovaps_ymm_ymmm256, Read, 32).aligned(),
        op(Code::VEX_Vmovaps_ymmm256_ymm, Write, 32).aligned(),
        op(Code::VEX_Vmovdqu_xmm_xmmm128, Read, 16),
        op(Code::VEX_Vmovdqa_xmmm128_xmm, Write, 16).aligned(),
        op(Code::VEX_Vmovntdq_m256_ymm, Write, 32).aligned(),
        op(Code::VEX_Vaddpd_ymm_ymm_ymmm256, Read, 32),
        op(Code::VEX_Vpaddd_xmm_xmm_xmmm128, Read, 16),
        op(Code::VEX_Vaddss_xmm_xmm_xmmm32, Read, 4),
        op(Code::VEX_Vbroadcastss_ymm_m32, Read, 4),
        op(Code::VEX_Vextractf128_xmmm128_ymm_imm8, Write, 16),
        op(Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8, Read, 16),
        op(Code::VEX_Andn_r64_r64_rm64, Read, 8),
        op(Code::VEX_Mulx_r32_r32_rm32, Read, 4),
    ]
}

/// Operands that the registers give away.
fn elsewhere() -> Vec<Op> {
    let op = Op::new;
    vec![
        op(Code::Mov_AL_moffs8, Read, 1).at(Offset),
        op(Code::Mov_RAX_moffs64, Read, 8).at(Offset),
        op(Code::Mov_moffs16_AX, Write, 2).at(Offset),
        op(Code::Mov_moffs32_EAX, Write, 4).at(Offset),
        op(Code::Push_r64, Write, 8).at(Push),
        op(Code::Push_r16, Write, 2).at(Push),
        op(Code::Pushq_imm32, Write, 8).at(Push),
        op(Code::Pushfq, Write, 8).at(Push),
        op(Code::Call_rel32_64, Write, 8).at(Push),
        op(Code::Pop_r64, Read, 8).at(Pop),
        op(Code::Pop_r16, Read, 2).at(Pop),
        op(Code::Retnq, Read, 8).at(Pop).jumping(),
        op(Code::Retnq_imm16, Read, 8).at(Pop).jumping(),
        op(Code::Leaveq, Read, 8).at(Leave),
        op(Code::Lodsb_AL_m8, Read, 1).at(Source),
        op(Code::Lodsq_RAX_m64, Read, 8).at(Source),
        op(Code::Movsw_m16_m16, Read, 2).at(Source),
        op(Code::Movsq_m64_m64, Read, 8).at(Source),
        op(Code::Stosb_m8_AL, Write, 1).at(Destination),
        op(Code::Stosd_m32_EAX, Write, 4).at(Destination),
        op(Code::Movsd_m32_m32, Write, 4).at(Destination),
        op(Code::Movsq_m64_m64, Write, 8).at(Destination),
        op(Code::Scasd_EAX_m32, Read, 4).at(Destination),
        op(Code::Cmpsq_m64_m64, Read, 8).at(Source),
    ]
}
