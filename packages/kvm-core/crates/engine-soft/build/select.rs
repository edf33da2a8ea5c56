//! Decides for every instruction code whether and how it is executed.

use iced_x86::{
    Code, CpuidFeature, EncodingKind, InstructionInfoFactory, Mnemonic, OpAccess,
    OpCodeOperandKind, Register,
};

use crate::encode;
use crate::kinds::{NO_SLOT, bit, class, kind, operand};

/// One instruction form, as `src/thunk/table.rs` declares it.
pub struct Form {
    pub code: Code,
    /// What the thunk contains; differs from `code` where a plain store stands for a non-temporal
    /// one.
    pub thunk_code: Code,
    pub slot: u32,
    pub mem_slot: u32,
    pub kind: u8,
    pub mem_kind: u8,
    pub bits: u16,
    pub ops: [u8; 4],
    pub mem_bytes: u8,
    pub align: u8,
    /// Bytes of one element and of one index, for masked moves and gathers.
    pub element: u8,
    pub index: u8,
    pub class: u8,
    pub feature: CpuidFeature,
    pub flags_read: u16,
    pub flags_written: u16,
}

pub enum Selection {
    /// Not of the instruction sets dealt with here.
    Ignore,
    /// Of those sets or their extensions, but not executed.
    Refuse(&'static str),
    Form(Form),
}

/// The instruction sets that are executed; `src/thunk/host.rs` has the same names.
const FEATURES: [CpuidFeature; 28] = [
    CpuidFeature::FPU,
    CpuidFeature::FPU287,
    CpuidFeature::FPU387,
    CpuidFeature::MMX,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::SSSE3,
    CpuidFeature::SSE4_1,
    CpuidFeature::SSE4_2,
    CpuidFeature::AES,
    CpuidFeature::PCLMULQDQ,
    CpuidFeature::SHA,
    CpuidFeature::F16C,
    CpuidFeature::FMA,
    CpuidFeature::AVX,
    CpuidFeature::AVX2,
    CpuidFeature::VAES,
    CpuidFeature::VPCLMULQDQ,
    CpuidFeature::GFNI,
    CpuidFeature::BMI1,
    CpuidFeature::BMI2,
    CpuidFeature::ADX,
    CpuidFeature::POPCNT,
    CpuidFeature::LZCNT,
    CpuidFeature::MOVBE,
    CpuidFeature::CMOV,
    CpuidFeature::INTEL8086,
];

pub fn select(code: Code) -> Selection {
    let info = code.op_code();
    let features = code.cpuid_features();
    if !info.is_instruction() || info.fwait() {
        return Selection::Ignore;
    }
    let x87 = features
        .iter()
        .any(|&f| matches!(f, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387));
    if features.contains(&CpuidFeature::INTEL8086) && !x87 && code != Code::Wait
        || features == [CpuidFeature::CMOV]
    {
        return Selection::Ignore;
    }
    if let Some(reason) = refusal(code, features) {
        return Selection::Refuse(reason);
    }
    if !features.iter().all(|f| FEATURES.contains(f)) {
        return Selection::Ignore;
    }
    if !matches!(info.encoding(), EncodingKind::Legacy | EncodingKind::VEX) {
        return Selection::Ignore;
    }
    Selection::Form(form(code, x87))
}

fn refusal(code: Code, features: &[CpuidFeature]) -> Option<&'static str> {
    let has = |feature| features.contains(&feature);
    let vector = |f: &CpuidFeature| format!("{f:?}").starts_with("AVX512");
    Some(match code.op_code().encoding() {
        EncodingKind::EVEX => "AVX-512 state is not implemented",
        EncodingKind::XOP => "XOP, LWP and TBM are not advertised",
        EncodingKind::D3NOW => "3DNow! is not advertised",
        EncodingKind::MVEX => "Xeon Phi instructions are not advertised",
        _ if features.iter().any(vector) => "AVX-512 state is not implemented",
        _ if has(CpuidFeature::FMA4) => "FMA4 is not advertised",
        _ if has(CpuidFeature::SSE4A) => "SSE4a is not advertised",
        _ if has(CpuidFeature::D3NOW) || has(CpuidFeature::D3NOWEXT) => "3DNow! is not advertised",
        _ if has(CpuidFeature::FPU287XL_ONLY) || has(CpuidFeature::FPU387SL_ONLY) => {
            "exists on one 80287 or 80387 model only"
        }
        EncodingKind::VEX if has(CpuidFeature::KNC) => "Xeon Phi instructions are not advertised",
        EncodingKind::VEX
            if features
                .iter()
                .any(|f| !FEATURES.contains(f) && format!("{f:?}").starts_with("AVX")) =>
        {
            "newer AVX extension, not advertised"
        }
        EncodingKind::VEX
            if has(CpuidFeature::SHA512) || has(CpuidFeature::SM3) || has(CpuidFeature::SM4) =>
        {
            "newer AVX extension, not advertised"
        }
        _ => return None,
    })
}

fn operand_kind(kind: OpCodeOperandKind) -> u8 {
    use OpCodeOperandKind as K;
    match kind {
        K::xmm_or_mem
        | K::ymm_or_mem
        | K::xmm_reg
        | K::xmm_rm
        | K::xmm_vvvv
        | K::xmm_is4
        | K::ymm_reg
        | K::ymm_rm
        | K::ymm_vvvv
        | K::ymm_is4 => operand::VEC,
        K::mm_or_mem | K::mm_reg | K::mm_rm => operand::MMX,
        K::r8_or_mem => operand::GPR8,
        K::r16_or_mem | K::r16_reg | K::r16_rm | K::ax => operand::GPR16,
        K::r32_or_mem | K::r32_reg | K::r32_rm | K::r32_vvvv => operand::GPR32,
        K::r64_or_mem | K::r64_reg | K::r64_rm | K::r64_vvvv => operand::GPR64,
        K::mem | K::seg_rDI | K::mem_vsib32x | K::mem_vsib32y | K::mem_vsib64x | K::mem_vsib64y => {
            operand::MEM
        }
        K::imm8 => operand::IMM,
        K::st0 | K::sti_opcode => operand::ST,
        other => panic!("operand kind {other:?}"),
    }
}

fn form(code: Code, x87: bool) -> Form {
    let info = code.op_code();
    let vex = info.encoding() == EncodingKind::VEX;
    let mut ops = [operand::NONE; 4];
    for (op, &kind) in ops.iter_mut().zip(info.op_kinds()) {
        *op = operand_kind(kind);
    }
    let has = |kind: u8| ops.iter().any(|op| op & operand::KIND == kind);
    let (vector, mmx) = (has(operand::VEC), has(operand::MMX));

    let mut bits = 0;
    let mut set = |condition: bool, bit: u16| bits |= if condition { bit } else { 0 };
    set(vex, bit::VEX);
    set(uses_mxcsr(code), bit::MXCSR);
    set(has(operand::IMM), bit::BY_IMM);
    set(info.op_kinds().contains(&OpCodeOperandKind::sti_opcode), bit::BY_ST);
    let named = |what: &[&str]| {
        info.op_kinds().iter().any(|k| what.iter().any(|w| format!("{k:?}").starts_with(w)))
    };
    set(named(&["ymm", "mem_vsib32y", "mem_vsib64y"]), bit::YMM);
    let vsib64 = named(&["mem_vsib64"]);

    let (kind, mem_kind) = kinds(code, x87, mmx, &ops);
    let waits = match kind {
        kind::X87 | kind::FWAIT | kind::FLDCW | kind::FLDENV | kind::FRSTOR => true,
        _ => mmx || kind == kind::EMMS,
    };
    set(waits, bit::WAITS);
    set(mmx, bit::MMX_STATE);

    let mut form = Form {
        code,
        thunk_code: match code {
            Code::Movntq_m64_mm => Code::Movq_mmm64_mm,
            other => other,
        },
        slot: NO_SLOT,
        mem_slot: NO_SLOT,
        kind,
        mem_kind,
        bits,
        ops,
        mem_bytes: u8::try_from(info.memory_size().size()).expect("no larger operand"),
        align: 0,
        element: u8::try_from(info.memory_size().element_size()).expect("no larger element"),
        index: if vsib64 { 8 } else { 4 },
        class: class_of(code, vex, vector, mmx, x87),
        feature: feature(code),
        flags_read: 0,
        flags_written: 0,
    };
    form.align = alignment(&form, vex, vector);
    describe_access(&mut form);
    form
}

/// Reads and writes of operands, flags and implicit registers, from a decoded sample.
fn describe_access(form: &mut Form) {
    let special = form.kind == kind::GATHER || form.kind == kind::MASK_BYTES;
    if special {
        return;
    }
    let sample = encode::instruction(form.code, &form.ops, 1, false);
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&sample);
    for (i, op) in form.ops.iter_mut().enumerate() {
        if *op == operand::NONE {
            continue;
        }
        let index = u32::try_from(i).expect("four operands");
        *op |= match info.op_access(index) {
            OpAccess::Read | OpAccess::CondRead => operand::READ,
            OpAccess::Write | OpAccess::CondWrite => operand::WRITE,
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => operand::READ | operand::WRITE,
            _ => 0,
        };
    }
    for used in info.used_registers() {
        let write = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
        match used.register() {
            Register::XMM0 | Register::YMM0 | Register::ZMM0 => {
                form.bits |= bit::XMM0 | if write { bit::XMM0_WRITE } else { 0 };
            }
            Register::ECX | Register::RCX if write => form.bits |= bit::RCX_WRITE,
            _ => {}
        }
    }
    if form.bits & bit::XMM0 != 0 || form.ops.iter().any(|op| op & operand::KIND == operand::VEC) {
        form.bits |= bit::VECTOR;
    }
    if form.kind == kind::VEC && form.bits & bit::XMM0 != 0 {
        form.kind = kind::MIXED;
        form.mem_kind = kind::MIXED;
    }
    form.flags_read = eflags(sample.rflags_read());
    form.flags_written = eflags(sample.rflags_modified());
    if form.kind == kind::VEC && form.flags_written != 0 {
        form.kind = kind::MIXED;
        form.mem_kind = kind::MIXED;
    }
}

/// EFLAGS positions of iced's flag bits.
fn eflags(bits: u32) -> u16 {
    use iced_x86::RflagsBits as B;
    let table = [(B::CF, 0), (B::PF, 2), (B::AF, 4), (B::ZF, 6), (B::SF, 7), (B::OF, 11)];
    table.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, at)| 1 << at).sum()
}

fn name(code: Code) -> String {
    let name = format!("{:?}", code.mnemonic()).to_uppercase();
    match code.op_code().encoding() {
        EncodingKind::VEX => name.strip_prefix('V').map_or(name.clone(), str::to_owned),
        _ => name,
    }
}

/// Instructions that MXCSR controls or that raise SIMD floating-point exceptions.
fn uses_mxcsr(code: Code) -> bool {
    let name = name(code);
    let typed = ["PS", "PD", "SS", "SD"].iter().any(|t| name.ends_with(t));
    let stem = &name[..name.len().saturating_sub(2)];
    let arithmetic = [
        "ADD", "SUB", "MUL", "DIV", "SQRT", "MIN", "MAX", "CMP", "COMI", "UCOMI", "ROUND", "DP",
        "ADDSUB", "HADD", "HSUB", "RCP", "RSQRT",
    ];
    let fma = ["FMADD", "FMSUB", "FNMADD", "FNMSUB"];
    typed && (arithmetic.contains(&stem) || fma.iter().any(|f| name.starts_with(f)))
        || name.starts_with("CVT")
}

/// Kind with register operands only, and with a memory operand.
fn kinds(code: Code, x87: bool, mmx: bool, ops: &[u8; 4]) -> (u8, u8) {
    let name = name(code);
    let memory_first = ops[0] == operand::MEM;
    let both = |kind| (kind, kind);
    match name.as_str() {
        "MOVAPS" | "MOVAPD" | "MOVUPS" | "MOVUPD" | "MOVDQA" | "MOVDQU" | "MOVNTPS" | "MOVNTPD"
        | "MOVNTDQ" | "MOVNTDQA" | "LDDQU" => return both(kind::MOVE),
        "MOVD" | "MOVQ" if !mmx => {
            let op0 = code.op_code().op0_kind();
            return match op0 {
                OpCodeOperandKind::xmm_reg => both(kind::LOAD_LOW),
                OpCodeOperandKind::xmm_or_mem => (kind::LOAD_LOW, kind::STORE_LOW),
                _ => both(kind::STORE_LOW),
            };
        }
        "MOVSS" | "MOVSD" => {
            let store = code.op_code().op0_kind() == OpCodeOperandKind::xmm_or_mem || memory_first;
            return (kind::VEC, if store { kind::STORE_LOW } else { kind::LOAD_LOW });
        }
        "MOVLPS" | "MOVLPD" if memory_first => return both(kind::STORE_LOW),
        "PMOVMSKB" if code.op_code().op1_kind() == OpCodeOperandKind::xmm_rm => {
            return both(kind::BYTE_MASK);
        }
        "CVTPI2PS" | "CVTPI2PD" => return (kind::MMX, kind::VEC),
        "LDMXCSR" => return both(kind::LDMXCSR),
        "STMXCSR" => return both(kind::STMXCSR),
        "ZEROUPPER" => return both(kind::ZERO_UPPER),
        "ZEROALL" => return both(kind::ZERO_ALL),
        "EMMS" => return both(kind::EMMS),
        "LFENCE" | "MFENCE" | "SFENCE" => return both(kind::FENCE),
        "MOVNTI" => return both(kind::STORE_GPR),
        "MASKMOVPS" | "MASKMOVPD" | "PMASKMOVD" | "PMASKMOVQ" => {
            return both(if memory_first { kind::MASK_STORE } else { kind::MASK_LOAD });
        }
        "MASKMOVDQU" | "MASKMOVQ" => return both(kind::MASK_BYTES),
        "WAIT" => return both(kind::FWAIT),
        "FNINIT" => return both(kind::FNINIT),
        "FNCLEX" => return both(kind::FNCLEX),
        "FNSTCW" => return both(kind::FNSTCW),
        "FLDCW" => return both(kind::FLDCW),
        "FNSTSW" => return both(kind::FNSTSW),
        "FNSTENV" => return both(kind::FNSTENV),
        "FLDENV" => return both(kind::FLDENV),
        "FNSAVE" => return both(kind::FNSAVE),
        "FRSTOR" => return both(kind::FRSTOR),
        "FNENI" | "FNDISI" | "FNSETPM" => return both(kind::FNOP_OLD),
        _ => {}
    }
    if name.starts_with("PREFETCH") {
        return both(kind::NOP);
    }
    if name.contains("GATHER") {
        return both(kind::GATHER);
    }
    let plain = |op: &u8| matches!(*op, operand::NONE | operand::VEC | operand::MEM | operand::IMM);
    both(if x87 {
        kind::X87
    } else if mmx {
        kind::MMX
    } else if ops.iter().all(plain) {
        kind::VEC
    } else {
        kind::MIXED
    })
}

fn class_of(code: Code, vex: bool, vector: bool, mmx: bool, x87: bool) -> u8 {
    match code.mnemonic() {
        Mnemonic::Wait => class::WAIT,
        Mnemonic::Emms => class::MMX,
        Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr => class::SSE,
        Mnemonic::Vldmxcsr | Mnemonic::Vstmxcsr | Mnemonic::Vzeroupper | Mnemonic::Vzeroall => {
            class::AVX
        }
        _ if x87 => class::X87,
        _ if vex && vector => class::AVX,
        _ if vex => class::VEX_GENERAL,
        _ if vector => class::SSE,
        _ if mmx => class::MMX,
        _ => class::GENERAL,
    }
}

fn feature(code: Code) -> CpuidFeature {
    if code == Code::Wait {
        return CpuidFeature::FPU;
    }
    // Where two are listed the more specific one decides: FMOV needs FPU and CMOV, VEX forms AVX
    // and the extension.
    let features = code.cpuid_features();
    let base = [CpuidFeature::AVX, CpuidFeature::FPU];
    *features.iter().find(|f| !base.contains(f)).unwrap_or(&features[0])
}

/// Alignment whose violation is #GP, or 0.
fn alignment(form: &Form, vex: bool, vector: bool) -> u8 {
    let name = name(form.code);
    let aligned = ["MOVAPS", "MOVAPD", "MOVDQA", "MOVNTPS", "MOVNTPD", "MOVNTDQ", "MOVNTDQA"];
    let unaligned = ["MOVUPS", "MOVUPD", "MOVDQU", "LDDQU"];
    let free = unaligned.contains(&name.as_str())
        || name.starts_with("PCMPESTR")
        || name.starts_with("PCMPISTR")
        || form.kind == kind::MASK_BYTES;
    if vex {
        if aligned.contains(&name.as_str()) { form.mem_bytes } else { 0 }
    } else if vector && form.mem_bytes == 16 && !free {
        16
    } else {
        0
    }
}
