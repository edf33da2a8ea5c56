//! x87 instructions.

use super::exec::{Operands, VecFault, set_gpr};
use super::kinds::{bit, kind, operand};
use super::op::{MEMORY, VecOp};
use super::state::VectorState;
use super::{stubs, x87_env};

/// FSW: the flags of exceptions that keep a store from happening; precision is reported after it.
const NO_STORE: u16 = 0x1f;

/// An arithmetic, load, store or compare instruction, on the host's x87 unit.
pub(super) fn execute(
    op: &VecOp,
    state: &mut VectorState,
    io: &mut Operands<'_>,
) -> Result<(), VecFault> {
    if state.x87_pending() {
        return Err(VecFault::X87);
    }
    let mut flags = stubs::pack_flags(io.flags);
    let mem = io.mem.0.as_mut_ptr();
    // SAFETY: no exception is pending, which `VectorState` keeps consistent with flags and masks, and
    // the image's MXCSR is never changed; x87 thunks access at most 10 bytes at `mem`.
    unsafe { stubs::x87(&raw mut state.x87, mem, op.body as usize, &raw mut flags) };
    let written = u64::from(op.form.flags_written);
    io.flags = (io.flags & !written) | (stubs::unpack_flags(flags) & written);

    state.pointers.fop = op.fop;
    state.pointers.fcs = io.x87.fcs;
    state.pointers.fip = io.x87.fip;
    if op.has_mem {
        state.pointers.fds = io.x87.fds;
        state.pointers.fdp = io.x87.fdp;
        if op.form.ops[0] & operand::WRITE != 0 {
            io.store = state.x87.fsw & !state.x87.fcw & NO_STORE == 0;
        }
    }
    Ok(())
}

/// A control instruction. These work on the saved state alone.
pub(super) fn control(
    op: &VecOp,
    state: &mut VectorState,
    io: &mut Operands<'_>,
) -> Result<(), VecFault> {
    if op.form.bits & bit::WAITS != 0 && state.x87_pending() {
        return Err(VecFault::X87);
    }
    match op.kind {
        kind::FNINIT => state.fninit(),
        kind::FNCLEX => {
            state.x87.fsw &= 0x7f00;
        }
        kind::FNSTCW => io.mem.set_low(u64::from(state.x87.fcw)),
        kind::FLDCW => {
            #[allow(clippy::cast_possible_truncation)]
            state.set_fcw(io.mem.low(2) as u16);
        }
        kind::FNSTSW => match op.regs[0] {
            MEMORY => io.mem.set_low(u64::from(state.x87.fsw)),
            reg => set_gpr(io, reg, operand::GPR16, u64::from(state.x87.fsw)),
        },
        kind::FNSTENV | kind::FNSAVE => {
            let wide = matches!(op.form.mem_bytes, 28 | 108);
            let at = x87_env::store(state, &mut io.mem.0, wide, io.real_format);
            if op.kind == kind::FNSAVE {
                for (i, st) in state.x87.st.iter().enumerate() {
                    io.mem.0[at + 10 * i..][..10].copy_from_slice(&st[..10]);
                }
                state.fninit();
            } else {
                state.set_fcw(state.x87.fcw | 0x3f);
            }
        }
        kind::FLDENV | kind::FRSTOR => {
            let wide = matches!(op.form.mem_bytes, 28 | 108);
            let at = x87_env::load(state, &io.mem.0, wide, io.real_format);
            if op.kind == kind::FRSTOR {
                for (i, st) in state.x87.st.iter_mut().enumerate() {
                    st[..10].copy_from_slice(&io.mem.0[at + 10 * i..][..10]);
                }
            }
        }
        // FWAIT has done its work above; FNENI, FNDISI and FNSETPM have none.
        _ => {}
    }
    Ok(())
}
