//! Numbers shared by the build script, which writes the table of instruction forms, and the
//! executor, which reads it.

/// How a form is executed.
pub mod kind {
    /// Vector operands only: pointers to them go to the vector stub.
    pub const VEC: u8 = 0;
    /// General registers, flags or an implicit XMM0 are involved: the frame stub.
    pub const MIXED: u8 = 1;
    /// An MMX register is involved: the MMX stub.
    pub const MMX: u8 = 2;
    /// An x87 instruction that runs on the host.
    pub const X87: u8 = 3;
    /// Whole-register move, also the non-temporal ones.
    pub const MOVE: u8 = 4;
    /// Low part of the source to a zero-extended vector register (movd, movq, movss from memory).
    pub const LOAD_LOW: u8 = 5;
    /// Low part of a vector register to memory or a general register.
    pub const STORE_LOW: u8 = 6;
    /// `LDMXCSR`.
    pub const LDMXCSR: u8 = 7;
    /// `STMXCSR`.
    pub const STMXCSR: u8 = 8;
    /// `VZEROUPPER`.
    pub const ZERO_UPPER: u8 = 9;
    /// `VZEROALL`.
    pub const ZERO_ALL: u8 = 10;
    /// `EMMS`.
    pub const EMMS: u8 = 11;
    /// Prefetches: nothing happens.
    pub const NOP: u8 = 12;
    /// Memory fences.
    pub const FENCE: u8 = 13;
    /// `MOVNTI`.
    pub const STORE_GPR: u8 = 14;
    /// `VMASKMOV`/`VPMASKMOV` from memory.
    pub const MASK_LOAD: u8 = 15;
    /// `VMASKMOV`/`VPMASKMOV` to memory.
    pub const MASK_STORE: u8 = 16;
    /// `MASKMOVDQU` and `MASKMOVQ`.
    pub const MASK_BYTES: u8 = 17;
    /// AVX2 gathers.
    pub const GATHER: u8 = 18;
    /// `FWAIT`.
    pub const FWAIT: u8 = 19;
    /// `FNINIT`.
    pub const FNINIT: u8 = 20;
    /// `FNCLEX`.
    pub const FNCLEX: u8 = 21;
    /// `FNSTCW`.
    pub const FNSTCW: u8 = 22;
    /// `FLDCW`.
    pub const FLDCW: u8 = 23;
    /// `FNSTSW`.
    pub const FNSTSW: u8 = 24;
    /// `FNSTENV`.
    pub const FNSTENV: u8 = 25;
    /// `FLDENV`.
    pub const FLDENV: u8 = 26;
    /// `FNSAVE`.
    pub const FNSAVE: u8 = 27;
    /// `FRSTOR`.
    pub const FRSTOR: u8 = 28;
    /// 8087 and 80287 control instructions that later processors ignore.
    pub const FNOP_OLD: u8 = 29;
    /// `PMOVMSKB` of an XMM register, which string functions live on.
    pub const BYTE_MASK: u8 = 30;
}

/// Operand kinds in `Form::ops`, low four bits.
pub mod operand {
    /// No operand.
    pub const NONE: u8 = 0;
    /// XMM or YMM register, or memory in its place.
    pub const VEC: u8 = 1;
    /// 8-bit general register or memory.
    pub const GPR8: u8 = 2;
    /// 16-bit general register or memory.
    pub const GPR16: u8 = 3;
    /// 32-bit general register or memory.
    pub const GPR32: u8 = 4;
    /// 64-bit general register or memory.
    pub const GPR64: u8 = 5;
    /// MMX register or memory.
    pub const MMX: u8 = 6;
    /// Memory only.
    pub const MEM: u8 = 7;
    /// 8-bit immediate.
    pub const IMM: u8 = 8;
    /// x87 stack register.
    pub const ST: u8 = 9;
    /// Mask of the kind.
    pub const KIND: u8 = 15;
    /// The operand is read.
    pub const READ: u8 = 16;
    /// The operand is written.
    pub const WRITE: u8 = 32;
}

/// Bits of `Form::bits`.
pub mod bit {
    /// VEX encoding: results zero the rest of the destination register.
    pub const VEX: u16 = 1;
    /// MXCSR controls it and SIMD floating-point exceptions may be raised.
    pub const MXCSR: u16 = 2;
    /// The thunk is chosen by the immediate.
    pub const BY_IMM: u16 = 4;
    /// XMM0 is an implicit operand.
    pub const XMM0: u16 = 8;
    /// XMM0 is written.
    pub const XMM0_WRITE: u16 = 16;
    /// RCX is an implicit result.
    pub const RCX_WRITE: u16 = 32;
    /// The thunk is chosen by the x87 stack index.
    pub const BY_ST: u16 = 64;
    /// Pending x87 exceptions are delivered before it executes.
    pub const WAITS: u16 = 128;
    /// It belongs to the MMX state even if no MMX register is an operand.
    pub const MMX_STATE: u16 = 256;
    /// A 32-byte vector register is an operand.
    pub const YMM: u16 = 512;
    /// A vector register is an explicit or implicit operand.
    pub const VECTOR: u16 = 1024;
}

/// What the caller checks before execution, in `Form::class`.
pub mod class {
    /// No check.
    pub const GENERAL: u8 = 0;
    /// VEX-encoded general-register instruction: protected mode.
    pub const VEX_GENERAL: u8 = 1;
    /// CR0.EM and CR0.TS.
    pub const X87: u8 = 2;
    /// CR0.EM gives #UD, CR0.TS.
    pub const MMX: u8 = 3;
    /// As MMX, and CR4.OSFXSR.
    pub const SSE: u8 = 4;
    /// Protected mode, CR4.OSXSAVE, XCR0, CR0.TS.
    pub const AVX: u8 = 5;
    /// CR0.MP with CR0.TS.
    pub const WAIT: u8 = 6;
}

/// `Form::slot` of a form without a thunk.
pub const NO_SLOT: u32 = u32::MAX;
/// Bytes of one thunk.
pub const SLOT_BYTES: usize = 16;
