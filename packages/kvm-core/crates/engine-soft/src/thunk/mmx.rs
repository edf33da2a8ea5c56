//! MMX instructions. MM registers are the mantissas of the physical x87 registers.

use super::exec::{Operands, VecFault, commit, frame, guarded_frame};
use super::kinds::operand;
use super::op::{MEMORY, VecOp};
use super::state::VectorState;
use super::stubs;

pub(super) fn execute(
    op: &VecOp,
    state: &mut VectorState,
    io: &mut Operands<'_>,
) -> Result<(), VecFault> {
    if state.x87_pending() {
        return Err(VecFault::X87);
    }
    let mut frame = frame(op, state, io);
    for i in 0..3 {
        if op.form.ops[i] & operand::KIND == operand::MMX {
            frame.mm[i] = match op.regs[i] {
                MEMORY => io.mem.low(op.form.mem_bytes),
                reg => register(state, reg),
            };
        }
    }
    let body = op.body as usize;
    let mem = io.mem.0.as_mut_ptr();
    guarded_frame(state, &mut frame, |frame| {
        // SAFETY: the frame is valid, thunks access at most 16 bytes at `mem`, and `prepare` made sure
        // that the host has the instruction.
        unsafe { stubs::frame_mmx(frame, mem, body) };
    })?;
    enter(state);
    if op.form.ops[0] & (operand::KIND | operand::WRITE) == operand::MMX | operand::WRITE {
        match op.regs[0] {
            MEMORY => io.mem.set_low(frame.mm[0]),
            reg => {
                let target = &mut state.x87.st[usize::from(reg & 7)];
                target[..8].copy_from_slice(&frame.mm[0].to_le_bytes());
                target[8..10].fill(0xff);
            }
        }
    }
    commit(op, &frame, state, io);
    Ok(())
}

/// `EMMS`: all registers are marked empty.
pub(super) fn emms(state: &mut VectorState) -> Result<(), VecFault> {
    if state.x87_pending() {
        return Err(VecFault::X87);
    }
    enter(state);
    state.x87.ftw = 0;
    Ok(())
}

/// The mantissa of physical register `reg`.
pub(super) fn register(state: &VectorState, reg: u8) -> u64 {
    let place = state.x87.place(usize::from(reg & 7));
    let mut word = [0; 8];
    word.copy_from_slice(&state.x87.st[place][..8]);
    u64::from_le_bytes(word)
}

/// The transition that every MMX instruction makes: TOP is 0 and all registers are in use.
pub(super) fn enter(state: &mut VectorState) {
    let top = state.x87.top();
    state.x87.st.rotate_right(top);
    state.x87.fsw &= !(7 << 11);
    state.x87.ftw = 0xff;
}
