//! Builds random instructions of a form, and the state in which they mean something.

use iced_x86::{
    Code, Decoder, Encoder, Instruction, Mnemonic as M, OpCodeOperandKind as K, OpKind, Register,
};

use super::forms::Form;
use super::layout::{CODE, HIGH, LOW, PAGE};
use super::memory_operand;
use super::rng::Rng;
use super::spots;
use super::state::{RSP, State, USER_CS, USER_CS32};

/// One test case.
#[derive(Clone, Debug)]
pub struct Case {
    pub state: State,
    /// Code bytes; they are followed by INT3.
    pub code: Vec<u8>,
    /// Where in the code pages they lie.
    pub offset: usize,
    pub instructions: Vec<Instruction>,
    /// Bytes put into data pages beforehand, at arena addresses.
    pub patches: Vec<(u64, Vec<u8>)>,
}

/// What is being built.
pub struct Builder<'a> {
    pub rng: &'a mut Rng,
    pub state: State,
    pub bits: u32,
    /// Address of the instruction.
    pub ip: u64,
    /// Memory operands lie at multiples of this.
    pub align: u64,
    /// See [`Case::patches`].
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Where the explicit memory operand lies.
    pub target: Option<u64>,
    /// The registers that address memory, where a whole block is built: they keep their values.
    pub anchors: &'static [usize],
}

impl<'a> Builder<'a> {
    /// A builder of one instruction.
    pub fn new(rng: &'a mut Rng, state: State, bits: u32, ip: u64) -> Self {
        let patches = Vec::new();
        Self { rng, state, bits, ip, align: 1, patches, target: None, anchors: &[] }
    }
}

/// A random register out of a run of registers of one kind.
fn reg(rng: &mut Rng, first: Register, count: usize) -> Register {
    let n = rng.below(count as u64) as usize;
    Register::try_from(first as usize + n).unwrap()
}

impl Builder<'_> {
    /// Fills one operand. False for a kind that is not dealt with.
    fn operand(&mut self, i: &mut Instruction, n: u32, kind: K) -> bool {
        let wide = self.bits == 64;
        let count = if wide { 16 } else { 8 };
        let memory_instead = self.rng.chance(3, 5);
        let first = match kind {
            K::r8_or_mem
            | K::r16_or_mem
            | K::r32_or_mem
            | K::r64_or_mem
            | K::mm_or_mem
            | K::xmm_or_mem
            | K::ymm_or_mem
                if memory_instead =>
            {
                i.set_op_kind(n, OpKind::Memory);
                memory_operand::random(self, i);
                return true;
            }
            K::mem | K::mem_mib => {
                i.set_op_kind(n, OpKind::Memory);
                memory_operand::random(self, i);
                return true;
            }
            K::mem_offs => {
                i.set_op_kind(n, OpKind::Memory);
                memory_operand::absolute(self, i);
                return true;
            }
            K::mem_vsib32x | K::mem_vsib64x | K::mem_vsib32y | K::mem_vsib64y => {
                i.set_op_kind(n, OpKind::Memory);
                let first = if matches!(kind, K::mem_vsib32x | K::mem_vsib64x) {
                    Register::XMM0
                } else {
                    Register::YMM0
                };
                let index = reg(self.rng, first, count);
                memory_operand::vector_index(self, i, index);
                return true;
            }
            // AH to BH and SPL to R15L are all among the twenty.
            K::r8_or_mem | K::r8_reg | K::r8_opcode => {
                let r = reg(self.rng, Register::AL, if wide { 20 } else { 8 });
                i.set_op_kind(n, OpKind::Register);
                i.set_op_register(n, r);
                return true;
            }
            K::r16_or_mem | K::r16_reg | K::r16_reg_mem | K::r16_rm | K::r16_opcode => Register::AX,
            K::r32_or_mem
            | K::r32_reg
            | K::r32_reg_mem
            | K::r32_rm
            | K::r32_opcode
            | K::r32_vvvv => Register::EAX,
            K::r64_or_mem
            | K::r64_reg
            | K::r64_reg_mem
            | K::r64_rm
            | K::r64_opcode
            | K::r64_vvvv => Register::RAX,
            K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv | K::xmm_is4 => Register::XMM0,
            K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv | K::ymm_is4 => Register::YMM0,
            K::mm_or_mem | K::mm_reg | K::mm_rm => {
                i.set_op_kind(n, OpKind::Register);
                i.set_op_register(n, reg(self.rng, Register::MM0, 8));
                return true;
            }
            K::sti_opcode => {
                i.set_op_kind(n, OpKind::Register);
                i.set_op_register(n, reg(self.rng, Register::ST0, 8));
                return true;
            }
            K::seg_reg => {
                i.set_op_kind(n, OpKind::Register);
                i.set_op_register(n, reg(self.rng, Register::ES, 6));
                return true;
            }
            K::cr_reg => {
                i.set_op_kind(n, OpKind::Register);
                i.set_op_register(n, self.rng.pick(&[Register::CR0, Register::CR3, Register::CR4]));
                return true;
            }
            K::dr_reg => {
                i.set_op_kind(n, OpKind::Register);
                i.set_op_register(n, reg(self.rng, Register::DR0, 8));
                return true;
            }
            _ => return self.fixed_operand(i, n, kind),
        };
        i.set_op_kind(n, OpKind::Register);
        i.set_op_register(n, reg(self.rng, first, count));
        true
    }

    /// Operands without a choice of register.
    fn fixed_operand(&mut self, i: &mut Instruction, n: u32, kind: K) -> bool {
        let register = match kind {
            K::es => Register::ES,
            K::cs => Register::CS,
            K::ss => Register::SS,
            K::ds => Register::DS,
            K::fs => Register::FS,
            K::gs => Register::GS,
            K::al => Register::AL,
            K::cl => Register::CL,
            K::ax => Register::AX,
            K::dx => Register::DX,
            K::eax => Register::EAX,
            K::rax => Register::RAX,
            K::st0 => Register::ST0,
            _ => return self.immediate(i, n, kind),
        };
        i.set_op_kind(n, OpKind::Register);
        i.set_op_register(n, register);
        true
    }

    fn immediate(&mut self, i: &mut Instruction, n: u32, kind: K) -> bool {
        let value = self.rng.value();
        match kind {
            K::imm8 => {
                if i.op_kind(0) == OpKind::Immediate8
                    || i.op_kind(0) == OpKind::Immediate16 && n == 1
                {
                    i.set_op_kind(n, OpKind::Immediate8_2nd);
                    i.set_immediate8_2nd(value as u8);
                } else {
                    i.set_op_kind(n, OpKind::Immediate8);
                    i.set_immediate8(if i.code() == Code::Int_imm8 && value as u8 == 0x80 {
                        0x81
                    } else {
                        value as u8
                    });
                }
            }
            K::imm8_const_1 => {
                i.set_op_kind(n, OpKind::Immediate8);
                i.set_immediate8(1);
            }
            K::imm8sex16 => {
                i.set_op_kind(n, OpKind::Immediate8to16);
                i.set_immediate8to16(i16::from(value as i8));
            }
            K::imm8sex32 => {
                i.set_op_kind(n, OpKind::Immediate8to32);
                i.set_immediate8to32(i32::from(value as i8));
            }
            K::imm8sex64 => {
                i.set_op_kind(n, OpKind::Immediate8to64);
                i.set_immediate8to64(i64::from(value as i8));
            }
            K::imm16 => {
                i.set_op_kind(n, OpKind::Immediate16);
                i.set_immediate16(value as u16);
            }
            K::imm32 => {
                i.set_op_kind(n, OpKind::Immediate32);
                i.set_immediate32(value as u32);
            }
            K::imm32sex64 => {
                i.set_op_kind(n, OpKind::Immediate32to64);
                i.set_immediate32to64(i64::from(value as i32));
            }
            K::imm64 => {
                i.set_op_kind(n, OpKind::Immediate64);
                i.set_immediate64(value);
            }
            K::seg_rSI | K::es_rDI | K::seg_rDI | K::seg_rBX_al => {
                return self.string_operand(i, n, kind);
            }
            K::farbr2_2 => {
                i.set_op_kind(n, OpKind::FarBranch16);
                i.set_far_branch16(value as u16);
                i.set_far_branch_selector(super::contents::code_selector(self) as u16);
            }
            K::farbr4_2 => {
                i.set_op_kind(n, OpKind::FarBranch32);
                i.set_far_branch32(super::contents::code(self) as u32);
                i.set_far_branch_selector(super::contents::code_selector(self) as u16);
            }
            _ => return self.branch(i, n, kind),
        }
        true
    }

    /// Implicit memory operands; the address size is the same for all of an instruction.
    fn string_operand(&mut self, i: &mut Instruction, n: u32, kind: K) -> bool {
        let short = match (n, self.bits) {
            (0, _) => self.rng.chance(1, 6),
            // The second operand follows the first.
            (_, 64) => matches!(
                i.op0_kind(),
                OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI
            ),
            _ => matches!(
                i.op0_kind(),
                OpKind::MemorySegSI | OpKind::MemoryESDI | OpKind::MemorySegDI
            ),
        };
        let short = if i.op_count() == 2 && n == 1 && matches!(i.op0_kind(), OpKind::Register) {
            self.rng.chance(1, 6)
        } else {
            short
        };
        let wide = self.bits == 64;
        // Sixteen-bit addresses reach nothing but page faults.
        let (full, half) = (wide && !short, wide || !short);
        if kind == K::seg_rBX_al {
            i.set_op_kind(n, OpKind::Memory);
            i.set_memory_base(match (full, half) {
                (true, _) => Register::RBX,
                (_, true) => Register::EBX,
                _ => Register::BX,
            });
            i.set_memory_index(Register::AL);
            i.set_memory_index_scale(1);
        } else {
            i.set_op_kind(
                n,
                match (kind, full, half) {
                    (K::seg_rSI, true, _) => OpKind::MemorySegRSI,
                    (K::seg_rSI, _, true) => OpKind::MemorySegESI,
                    (K::seg_rSI, ..) => OpKind::MemorySegSI,
                    (K::es_rDI, true, _) => OpKind::MemoryESRDI,
                    (K::es_rDI, _, true) => OpKind::MemoryESEDI,
                    (K::es_rDI, ..) => OpKind::MemoryESDI,
                    (_, true, _) => OpKind::MemorySegRDI,
                    (_, _, true) => OpKind::MemorySegEDI,
                    _ => OpKind::MemorySegDI,
                },
            );
        }
        if kind != K::es_rDI && wide && self.anchors.is_empty() && self.rng.chance(1, 8) {
            i.set_segment_prefix(self.rng.pick(&[Register::FS, Register::GS]));
        }
        for register in [3, 6, 7] {
            let at = spots::random(self.rng, !full, u64::from(8u8));
            self.state.gpr[register] = if full { at } else { (self.rng.next() << 32) | at };
        }
        if i.segment_prefix() != Register::None {
            let far = self.state.gpr[6] >> 47 != 0 || self.state.gpr[3] >> 47 != 0;
            let base = if far { 0 } else { spots::small_base(self.rng) };
            (self.state.fs_base, self.state.gs_base) = (base, base);
            self.state.gpr[6] = self.state.gpr[6].wrapping_sub(base);
            self.state.gpr[3] = self.state.gpr[3].wrapping_sub(base);
        }
        if !wide {
            for r in &mut self.state.gpr {
                *r &= 0xffff_ffff;
            }
        }
        true
    }

    fn branch(&mut self, i: &mut Instruction, n: u32, kind: K) -> bool {
        let reach: i64 = match kind {
            K::br16_1 | K::br32_1 | K::br64_1 => 100,
            K::br16_2 | K::br32_4 | K::br64_4 => 4000,
            _ => return false,
        };
        let distance = self.rng.below(2 * reach as u64) as i64 - reach;
        // Never into itself, which might not end.
        let distance = if (-1..16).contains(&distance) { 20 } else { distance };
        let target = self.ip.wrapping_add_signed(distance);
        match kind {
            K::br16_1 | K::br16_2 => {
                i.set_op_kind(n, OpKind::NearBranch16);
                i.set_near_branch16(target as u16);
            }
            K::br32_1 | K::br32_4 => {
                i.set_op_kind(n, OpKind::NearBranch32);
                i.set_near_branch32(target as u32);
            }
            _ => {
                i.set_op_kind(n, OpKind::NearBranch64);
                i.set_near_branch64(target);
            }
        }
        true
    }

    /// A random instruction of `form`; the state follows.
    ///
    /// # Errors
    /// An operand that this test cannot make.
    pub fn instruction(&mut self, form: Form) -> Result<Instruction, String> {
        self.align = super::tune::alignment(form);
        let info = form.code.op_code();
        let mut i = Instruction::default();
        i.set_code(form.code);
        if self.anchors.is_empty() {
            self.stack_and_counters(form.code);
        }
        for (n, &kind) in info.op_kinds().iter().enumerate() {
            if !self.operand(&mut i, n as u32, kind) {
                return Err(format!("operand kind {kind:?}"));
            }
        }
        let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
        if info.can_use_lock_prefix() && i.op0_kind() == OpKind::Memory && self.rng.chance(1, 3) {
            i.set_has_lock_prefix(true);
        }
        if info.can_use_rep_prefix() && self.rng.chance(1, 2) {
            i.set_has_rep_prefix(true);
        } else if info.can_use_repne_prefix() && self.rng.chance(1, 3) {
            i.set_has_repne_prefix(true);
        }
        super::tune::state(self, &mut i, memory);
        super::contents::fill(self, &i);
        if self.bits == 32 {
            for r in &mut self.state.gpr {
                *r &= 0xffff_ffff;
            }
        }
        Ok(i)
    }

    /// Registers that instructions use without saying so.
    fn stack_and_counters(&mut self, code: Code) {
        let low = self.bits == 32;
        let mut stack = spots::random(self.rng, low, 8);
        if self.rng.chance(3, 4) {
            stack &= !7;
        }
        self.state.gpr[RSP] = stack;
        if self.rng.chance(1, 2) || matches!(code.mnemonic(), M::Leave | M::Enter) {
            self.state.gpr[5] = spots::random(self.rng, low, 8);
        }
    }
}

/// Encodes at `ip` and decodes again: what the processors will see.
pub fn encode(bits: u32, i: &Instruction, ip: u64) -> Option<(Vec<u8>, Instruction)> {
    let mut encoder = Encoder::new(bits);
    encoder.encode(i, ip).ok()?;
    let bytes = encoder.take_buffer();
    let mut decoder = Decoder::with_ip(bits, &bytes, ip, super::host::decoder_options());
    let seen = decoder.decode();
    (seen.len() == bytes.len()).then_some((bytes, seen))
}

/// Prefixes that most instructions ignore.
const PREFIXES: [u8; 11] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];

/// Puts one more prefix in front, unless that makes another instruction of it. LOCK where it is
/// illegal stays: it makes an undefined one.
fn add_prefix(rng: &mut Rng, form: Form, ip: u64, code: &mut Vec<u8>, seen: &mut Instruction) {
    let prefix = rng.pick(&PREFIXES);
    // Some processors take LOOPE with F2 for LOOPNE and the reverse, or allow LOCK VERW, or make two
    // accesses of MOVBE with 66 and REX.W, neither of which is checked for alignment.
    let quirk = match form.code.mnemonic() {
        M::Loope | M::Loopne => matches!(prefix, 0xf2 | 0xf3),
        M::Verw => prefix == 0xf0,
        M::Movbe => prefix == 0x66,
        _ => super::tune::alignment(form) > 1,
    };
    if quirk {
        return;
    }
    let mut longer = vec![prefix];
    longer.extend_from_slice(code);
    let mut decoder = Decoder::with_ip(form.bits, &longer, ip, super::host::decoder_options());
    let now = decoder.decode();
    let locked = longer[0] == 0xf0 && now.is_invalid() && longer.len() <= 15;
    if locked || now.code() == form.code && now.len() == longer.len() {
        *code = longer;
        if !locked {
            *seen = now;
        }
    }
}

/// Builds a case of one instruction.
///
/// # Errors
/// What makes the form impossible to build.
pub fn case(rng: &mut Rng, form: Form) -> Result<Case, String> {
    let mut why = String::from("nothing encodable");
    for _ in 0..60 {
        let cs = if form.bits == 64 { USER_CS } else { USER_CS32 };
        let state = State::random(rng, cs);
        let offset = match rng.below(8) {
            // Across the two code pages, and up to the end of the second.
            0 => PAGE as usize - rng.below(16) as usize,
            1 => 2 * PAGE as usize - 1 - rng.below(16) as usize,
            _ => 64 * (2 + rng.below(100) as usize) + rng.below(8) as usize,
        };
        let base = if form.bits == 64 && rng.chance(1, 2) { HIGH } else { LOW };
        let ip = base + CODE as u64 * PAGE + offset as u64;
        let mut builder = Builder::new(rng, state, form.bits, ip);
        let i = builder.instruction(form)?;
        let (mut state, patches) = (builder.state, builder.patches);
        state.rip = ip;
        match encode(form.bits, &i, ip) {
            Some((mut code, mut seen)) if seen.code() == form.code => {
                if rng.chance(1, 8) {
                    add_prefix(rng, form, ip, &mut code, &mut seen);
                }
                if offset + code.len() > 2 * PAGE as usize {
                    why = "the code pages end".into();
                    continue;
                }
                return Ok(Case { state, code, offset, instructions: vec![seen], patches });
            }
            Some((code, seen)) => {
                why = format!("{code:02x?} is decoded as {:?}", seen.code());
            }
            None => {
                let mut encoder = Encoder::new(form.bits);
                if let Err(e) = encoder.encode(&i, ip) {
                    why = e.to_string();
                }
            }
        }
    }
    Err(why)
}
