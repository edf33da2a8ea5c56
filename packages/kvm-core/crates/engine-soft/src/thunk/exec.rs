//! Execution of a resolved instruction.

use iced_x86::Code;

use super::kinds::{bit, kind, operand};
use super::op::{HIGH_BYTE, MEMORY, VecOp};
use super::state::{MXCSR_FLAGS, MXCSR_MASKS, Vector, VectorState, X87Pointers};
use super::stubs::{self, Frame, MxcsrPair};
use super::{mmx, x87};

/// MXCSR: underflow mask.
const UM: u32 = 1 << 11;
/// MXCSR: flush to zero.
const FTZ: u32 = 1 << 15;
/// MXCSR: underflow flag.
const UE: u32 = 1 << 4;
/// MXCSR: the flags of exceptions found before the operation: invalid, denormal, zero divide.
const PRE_COMPUTATION: u32 = 7;

/// Where memory operands are copied to and from.
#[repr(C, align(64))]
#[derive(Clone, Debug)]
pub struct Scratch(pub [u8; 128]);

impl Default for Scratch {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Scratch {
    /// The first eight bytes, zero-extended from `bytes`.
    pub(super) fn low(&self, bytes: u8) -> u64 {
        let mut word = [0; 8];
        let len = usize::from(bytes).min(8);
        word[..len].copy_from_slice(&self.0[..len]);
        u64::from_le_bytes(word)
    }

    pub(super) fn set_low(&mut self, value: u64) {
        self.0[..8].copy_from_slice(&value.to_le_bytes());
    }

    pub(super) fn vector(&self) -> Vector {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&self.0[..32]);
        Vector::from_bytes(&bytes)
    }

    pub(super) fn set_vector(&mut self, value: Vector) {
        self.0[..32].copy_from_slice(&value.to_bytes());
    }
}

/// Everything but vector state that an instruction reads and writes.
#[derive(Debug)]
pub struct Operands<'a> {
    /// The memory operand.
    pub mem: &'a mut Scratch,
    /// RAX to R15; entries from 16 on are not touched.
    pub gpr: &'a mut [u64; 32],
    /// Arithmetic flags in EFLAGS positions, see `VecOp::flags_read` and `VecOp::flags_written`.
    pub flags: u64,
    /// Where this instruction and its memory operand are, for x87 (FOP is known from
    /// `VecOp::with_bytes`).
    pub x87: X87Pointers,
    /// x87 environments have their real-mode format: real and virtual-8086 mode.
    pub real_format: bool,
    /// Cleared if the memory operand must not be written after all: an x87 store met an unmasked
    /// exception.
    pub store: bool,
}

/// An exception that the instruction raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VecFault {
    /// Unmasked SIMD floating-point exception; MXCSR has its flags. #XM, or #UD without
    /// CR4.OSXMMEXCPT.
    Simd,
    /// An x87 exception is pending: #MF, or the external interrupt if CR0.NE is clear.
    X87,
    /// #GP(0): a reserved bit of MXCSR.
    GeneralProtection,
}

/// Executes `op`. On an error no register but MXCSR's flags has changed.
///
/// Not for operations with `VecOp::by_element`.
pub fn execute(op: &VecOp, state: &mut VectorState, io: &mut Operands<'_>) -> Result<(), VecFault> {
    match op.kind {
        kind::VEC => return vector(op, state, io),
        kind::MOVE => move_vector(op, state, io),
        kind::LOAD_LOW => load_low(op, state, io),
        kind::STORE_LOW => store_low(op, state, io),
        kind::BYTE_MASK => {
            let [low, high, ..] = state.vec[usize::from(op.regs[1] & 15)].0;
            let mask = byte_mask(low) | (byte_mask(high) << 8);
            set_gpr(io, op.regs[0], op.form.ops[0] & operand::KIND, mask);
        }
        kind::MIXED => return mixed(op, state, io),
        kind::MMX => return mmx::execute(op, state, io),
        kind::X87 => return x87::execute(op, state, io),
        kind::EMMS => return mmx::emms(state),
        kind::LDMXCSR => {
            #[allow(clippy::cast_possible_truncation)]
            let value = io.mem.low(4) as u32;
            if !state.set_mxcsr(value) {
                return Err(VecFault::GeneralProtection);
            }
        }
        kind::STMXCSR => io.mem.set_low(u64::from(state.mxcsr)),
        kind::ZERO_UPPER => {
            for vector in state.vec.iter_mut().take(usize::from(op.registers)) {
                vector.0[2..].fill(0);
            }
        }
        kind::ZERO_ALL => {
            for vector in state.vec.iter_mut().take(usize::from(op.registers)) {
                *vector = Vector::default();
            }
        }
        kind::FENCE => std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst),
        kind::STORE_GPR => io.mem.set_low(gpr(io, op.regs[1], operand::GPR64)),
        kind::NOP => {}
        _ => return x87::control(op, state, io),
    }
    Ok(())
}

/// Runs an instruction under the guest's MXCSR with all exceptions masked, and finds from the flags
/// what an unmasked exception would have done. `run` starts from the same operands each time and its
/// last results count. Gives the new MXCSR; `Err` if the exception is delivered.
///
/// The flags that come with a delivered exception are approximate in two cases. Dot products are
/// several operations: flags of those before the exception are not reported. With an overflow or
/// underflow that is delivered the processor sets PE if the result would be inexact even with an
/// unbounded exponent, this sets it if the masked response is inexact.
///
/// `ignores_ftz` is asked for one that flushes nothing, after it ran: is one of its results tiny?
fn guarded(
    mxcsr: u32,
    mut run: impl FnMut(&mut MxcsrPair),
    ignores_ftz: impl FnOnce() -> bool,
) -> Result<u32, u32> {
    let mut pair = MxcsrPair { run: mxcsr, out: 0 };
    if mxcsr & MXCSR_MASKS == MXCSR_MASKS {
        run(&mut pair);
        return Ok(pair.out);
    }
    let underflow_unmasked = mxcsr & UM == 0;
    // FTZ has no effect where underflow is unmasked.
    let ignored = if underflow_unmasked { FTZ } else { 0 };
    let base = (mxcsr | MXCSR_MASKS) & !(MXCSR_FLAGS | ignored);
    // A tiny result raises unmasked underflow even if it is exact, which masked underflow does not
    // report. Flushing to zero reports every tiny result.
    let mut tiny = 0;
    if underflow_unmasked {
        pair.run = base | FTZ;
        run(&mut pair);
        tiny = pair.out & UE;
    }
    pair.run = base;
    run(&mut pair);
    if underflow_unmasked && ignores_ftz() {
        tiny = UE;
    }
    let raised = (pair.out & MXCSR_FLAGS) | tiny;
    let unmasked = !(mxcsr >> 7) & MXCSR_FLAGS;
    if raised & unmasked & PRE_COMPUTATION != 0 {
        // Nothing was computed, in no element: no flags of results.
        return Err(mxcsr | (raised & PRE_COMPUTATION));
    }
    if raised & unmasked != 0 { Err(mxcsr | raised) } else { Ok(mxcsr | raised) }
}

/// How many half-precision numbers a conversion yields, which flushes none of them to zero.
fn halves_of(code: Code) -> Option<usize> {
    match code {
        Code::VEX_Vcvtps2ph_xmmm64_xmm_imm8 => Some(4),
        Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8 => Some(8),
        _ => None,
    }
}

/// One of the first half-precision numbers is denormal.
fn has_tiny(result: &Vector, count: usize) -> bool {
    let bytes = result.to_bytes();
    let halves = bytes.chunks_exact(2).take(count);
    halves.map(|h| u16::from_le_bytes([h[0], h[1]])).any(|h| h & 0x7c00 == 0 && h & 0x3ff != 0)
}

/// Takes over the outcome of [`guarded`].
fn settle(state: &mut VectorState, outcome: Result<u32, u32>) -> Result<(), VecFault> {
    match outcome {
        Ok(mxcsr) => {
            state.mxcsr = mxcsr;
            Ok(())
        }
        Err(mxcsr) => {
            state.mxcsr = mxcsr;
            Err(VecFault::Simd)
        }
    }
}

fn vector(op: &VecOp, state: &mut VectorState, io: &mut Operands<'_>) -> Result<(), VecFault> {
    let mem = io.mem.0.as_mut_ptr();
    let registers = state.vec.as_mut_ptr();
    let pointer = |i: usize| -> *mut Vector {
        let reg = op.regs[i];
        if reg == MEMORY {
            mem.cast()
        } else {
            // SAFETY: the index is below 16, the length of the array.
            unsafe { registers.add(usize::from(reg & 15)) }
        }
    };
    let (op1, op2, op3) = (pointer(1), pointer(2), pointer(3));
    let op0 = if op.form.ops[0] & operand::KIND == operand::MEM {
        // The thunk itself stores to the scratch; the stub's store goes beside it.
        // SAFETY: the scratch has 128 bytes.
        unsafe { mem.add(64).cast() }
    } else {
        pointer(0)
    };
    let body = op.body as usize;
    let vex = op.form.bits & bit::VEX != 0;
    if op.form.bits & bit::MXCSR == 0 {
        // SAFETY: all pointers are to state registers or the scratch, valid for 32 bytes and writable;
        // thunks access at most 32 bytes at `mem`; `prepare` made sure that the host has the
        // instruction, and AVX for VEX forms.
        unsafe {
            if vex {
                stubs::vector_avx(op0, mem, op1, op2, op3, body);
            } else {
                stubs::vector_sse(op0, mem, op1, op2, op3, body);
            }
        }
        return Ok(());
    }
    let masked = state.mxcsr & MXCSR_MASKS == MXCSR_MASKS;
    let mut copy = Vector::default();
    let target: *mut Vector = if masked { op0 } else { &raw mut copy };
    let run = |pair: &mut MxcsrPair| {
        // SAFETY: as above; `pair.run` masks all exceptions and comes from MXCSR, which has no
        // reserved bit. `op0` and `target` are valid and do not overlap unless they are the same.
        unsafe {
            if !masked {
                *target = *op0;
            }
            if vex {
                stubs::vector_avx_mx(target, mem, op1, op2, pair, body);
            } else {
                stubs::vector_sse_mx(target, mem, op1, op2, pair, body);
            }
        }
    };
    let ignores_ftz = || {
        // SAFETY: `target` is valid, and nothing else uses it now.
        halves_of(op.form.code).is_some_and(|count| has_tiny(unsafe { &*target }, count))
    };
    let outcome = guarded(state.mxcsr, run, ignores_ftz);
    if !masked && outcome.is_ok() {
        // SAFETY: `op0` is valid and writable.
        unsafe { *op0 = copy };
    }
    settle(state, outcome)
}

fn move_vector(op: &VecOp, state: &mut VectorState, io: &mut Operands<'_>) {
    let value = source(op, 1, state, io);
    store_vector(op, 0, value, state, io, op.form.bits & bit::YMM != 0);
}

/// A vector operand, from a register or the scratch.
fn source(op: &VecOp, i: usize, state: &VectorState, io: &Operands<'_>) -> Vector {
    match op.regs[i] {
        MEMORY => io.mem.vector(),
        reg => state.vec[usize::from(reg & 15)],
    }
}

/// Writes a vector result: 16 bytes by a legacy form, with zeroes above by VEX.128, all by VEX.256.
fn store_vector(
    op: &VecOp,
    i: usize,
    value: Vector,
    state: &mut VectorState,
    io: &mut Operands<'_>,
    ymm: bool,
) {
    match op.regs[i] {
        MEMORY => io.mem.set_vector(value),
        reg => {
            let target = &mut state.vec[usize::from(reg & 15)].0;
            target[0] = value.0[0];
            target[1] = value.0[1];
            if ymm {
                target[2] = value.0[2];
                target[3] = value.0[3];
            } else if op.form.bits & bit::VEX != 0 {
                target[2] = 0;
                target[3] = 0;
            }
        }
    }
}

/// The top bits of the eight bytes of `word`.
fn byte_mask(word: u64) -> u64 {
    // Each top bit moves to its place in the highest byte; no two products meet in one bit there.
    (((word >> 7) & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080)) >> 56
}

fn load_low(op: &VecOp, state: &mut VectorState, io: &mut Operands<'_>) {
    let low = match (op.regs[1], op.form.ops[1] & operand::KIND) {
        (MEMORY, _) => io.mem.low(op.form.mem_bytes),
        (reg, operand::VEC) => state.vec[usize::from(reg & 15)].0[0],
        (reg, kind) => gpr(io, reg, kind),
    };
    store_vector(op, 0, Vector([low, 0, 0, 0]), state, io, false);
}

fn store_low(op: &VecOp, state: &mut VectorState, io: &mut Operands<'_>) {
    let low = state.vec[usize::from(op.regs[1] & 15)].0[0];
    match op.regs[0] {
        MEMORY => io.mem.set_low(low),
        reg => set_gpr(io, reg, op.form.ops[0] & operand::KIND, low),
    }
}

/// A general register, zero-extended from the size of `kind`.
pub(super) fn gpr(io: &Operands<'_>, reg: u8, kind: u8) -> u64 {
    let value = io.gpr[usize::from(reg & 15)];
    match kind {
        operand::GPR8 if reg >= HIGH_BYTE => (io.gpr[usize::from(reg & 3)] >> 8) & 0xff,
        operand::GPR8 => value & 0xff,
        operand::GPR16 => value & 0xffff,
        operand::GPR32 => value & 0xffff_ffff,
        _ => value,
    }
}

/// Writes a general register: 32-bit results are zero-extended, 16-bit ones merged.
pub(super) fn set_gpr(io: &mut Operands<'_>, reg: u8, kind: u8, value: u64) {
    let target = &mut io.gpr[usize::from(reg & 15)];
    *target = match kind {
        operand::GPR16 => (*target & !0xffff) | (value & 0xffff),
        operand::GPR32 => value & 0xffff_ffff,
        _ => value,
    };
}

/// The registers of a frame stub for `op`, MMX registers aside.
pub(super) fn frame(op: &VecOp, state: &VectorState, io: &Operands<'_>) -> Frame {
    let mut frame = Frame {
        rax: io.gpr[0],
        rcx: io.gpr[1],
        rdx: io.gpr[2],
        flags: stubs::pack_flags(io.flags),
        ..Frame::default()
    };
    if op.form.bits & bit::XMM0 != 0 {
        frame.vec[0] = state.vec[0];
    }
    for i in 0..4 {
        match op.form.ops[i] & operand::KIND {
            operand::VEC if i < 3 => frame.vec[i + 1] = source(op, i, state, io),
            kind @ operand::GPR8..=operand::GPR64 => {
                frame.gpr[i] = match op.regs[i] {
                    MEMORY => io.mem.low(op.form.mem_bytes),
                    reg => gpr(io, reg, kind),
                };
            }
            _ => {}
        }
    }
    frame
}

/// Writes the results of a frame stub, MMX registers aside.
pub(super) fn commit(op: &VecOp, frame: &Frame, state: &mut VectorState, io: &mut Operands<'_>) {
    let bits = op.form.bits;
    // MULX with the same register twice keeps the high half, which is operand 0.
    for i in (0..4).rev() {
        if op.form.ops[i] & operand::WRITE == 0 {
            continue;
        }
        match (op.form.ops[i] & operand::KIND, op.regs[i]) {
            (operand::VEC, _) if i < 3 => {
                store_vector(op, i, frame.vec[i + 1], state, io, bits & bit::VEX != 0);
            }
            (operand::GPR8..=operand::GPR64, MEMORY) => io.mem.set_low(frame.gpr[i]),
            (kind @ operand::GPR8..=operand::GPR64, reg) => set_gpr(io, reg, kind, frame.gpr[i]),
            _ => {}
        }
    }
    if bits & bit::XMM0_WRITE != 0 {
        state.vec[0].0[..2].copy_from_slice(&frame.vec[0].0[..2]);
        if bits & bit::VEX != 0 {
            state.vec[0].0[2..].fill(0);
        }
    }
    if bits & bit::RCX_WRITE != 0 {
        io.gpr[1] = frame.rcx;
    }
    let written = u64::from(op.form.flags_written);
    io.flags = (io.flags & !written) | (stubs::unpack_flags(frame.flags) & written);
}

fn mixed(op: &VecOp, state: &mut VectorState, io: &mut Operands<'_>) -> Result<(), VecFault> {
    let mut frame = frame(op, state, io);
    let bits = op.form.bits;
    let body = op.body as usize;
    let mem = io.mem.0.as_mut_ptr();
    if bits & bit::MXCSR == 0 {
        // SAFETY: the frame is valid, thunks access at most 32 bytes at `mem`, `prepare` made sure that
        // the host has the instruction, and AVX for VEX forms with vector operands.
        unsafe {
            if bits & bit::VECTOR == 0 {
                stubs::frame_gpr(&raw mut frame, mem, body);
            } else if bits & bit::VEX != 0 {
                stubs::frame_avx(&raw mut frame, mem, body);
            } else {
                stubs::frame_sse(&raw mut frame, mem, body);
            }
        }
    } else {
        let stub = if bits & bit::VEX != 0 { stubs::frame_avx_mx } else { stubs::frame_sse_mx };
        guarded_frame(state, &mut frame, |frame| {
            // SAFETY: as above; `guarded_frame` masks all exceptions.
            unsafe { stub(frame, mem, body) };
        })?;
    }
    commit(op, &frame, state, io);
    Ok(())
}

/// Runs a frame stub under the guest's MXCSR.
pub(super) fn guarded_frame(
    state: &mut VectorState,
    frame: &mut Frame,
    mut run: impl FnMut(&mut Frame),
) -> Result<(), VecFault> {
    if state.mxcsr & MXCSR_MASKS == MXCSR_MASKS {
        frame.mxcsr.run = state.mxcsr;
        run(frame);
        state.mxcsr = frame.mxcsr.out;
        return Ok(());
    }
    let start = frame.clone();
    let outcome = guarded(
        state.mxcsr,
        |pair| {
            frame.clone_from(&start);
            frame.mxcsr = *pair;
            run(frame);
            *pair = frame.mxcsr;
        },
        || false,
    );
    settle(state, outcome)
}
