//! Masked moves and gathers, which touch memory element by element.

use super::kinds::{bit, kind, operand};
use super::mmx;
use super::op::VecOp;
use super::state::{Vector, VectorState};

/// Guest memory around the effective address of an instruction.
pub trait ElementMemory {
    /// Why an access fails.
    type Error;
    /// Reads `bytes` (1 to 8) at the effective address plus `offset`, zero-extended. The sum wraps at
    /// the address size.
    fn read(&mut self, offset: i64, bytes: u8) -> Result<u64, Self::Error>;
    /// Writes the low `bytes` of `value` there.
    fn write(&mut self, offset: i64, bytes: u8, value: u64) -> Result<(), Self::Error>;
}

/// Executes an instruction with `VecOp::by_element`.
///
/// For gathers the effective address is that without the index. The caller has tested
/// `VectorState::x87_pending` where `VecOp::waits`. On an error a gather has completed the elements
/// before the failing one and cleared their masks, as the architecture allows; a masked load has
/// changed nothing; a masked store has stored the elements before.
pub fn execute_elements<M: ElementMemory>(
    op: &VecOp,
    state: &mut VectorState,
    memory: &mut M,
) -> Result<(), M::Error> {
    match op.kind {
        kind::MASK_LOAD => mask_load(op, state, memory),
        kind::MASK_STORE => mask_store(op, state, memory),
        kind::MASK_BYTES => mask_bytes(op, state, memory),
        _ => gather(op, state, memory),
    }
}

fn register(op: &VecOp, i: usize) -> usize {
    usize::from(op.regs[i] & 15)
}

fn vector_bytes(op: &VecOp) -> usize {
    if op.form.bits & bit::YMM != 0 { 32 } else { 16 }
}

/// Element `i` of `bytes` each, zero-extended.
fn element(vector: &Vector, i: usize, bytes: usize) -> u64 {
    let at = i * bytes;
    let word = vector.0[(at / 8) & 3] >> (8 * (at % 8));
    if bytes == 8 { word } else { word & ((1 << (8 * bytes)) - 1) }
}

fn set_element(vector: &mut Vector, i: usize, bytes: usize, value: u64) {
    let at = i * bytes;
    let word = &mut vector.0[(at / 8) & 3];
    if bytes == 8 {
        *word = value;
    } else {
        let shift = 8 * (at % 8);
        let mask = ((1 << (8 * bytes)) - 1) << shift;
        *word = (*word & !mask) | ((value << shift) & mask);
    }
}

fn selected(mask: &Vector, i: usize, bytes: usize) -> bool {
    element(mask, i, bytes) >> (8 * bytes - 1) != 0
}

fn mask_load<M: ElementMemory>(
    op: &VecOp,
    state: &mut VectorState,
    memory: &mut M,
) -> Result<(), M::Error> {
    let bytes = op.form.element;
    let size = usize::from(bytes);
    let mask = state.vec[register(op, 1)];
    let mut result = Vector::default();
    for i in 0..vector_bytes(op) / size {
        if selected(&mask, i, size) {
            let value = memory.read((i * size) as i64, bytes)?;
            set_element(&mut result, i, size, value);
        }
    }
    state.vec[register(op, 0)] = result;
    Ok(())
}

fn mask_store<M: ElementMemory>(
    op: &VecOp,
    state: &VectorState,
    memory: &mut M,
) -> Result<(), M::Error> {
    let bytes = op.form.element;
    let size = usize::from(bytes);
    let mask = state.vec[register(op, 1)];
    let source = state.vec[register(op, 2)];
    for i in 0..vector_bytes(op) / size {
        if selected(&mask, i, size) {
            memory.write((i * size) as i64, bytes, element(&source, i, size))?;
        }
    }
    Ok(())
}

fn mask_bytes<M: ElementMemory>(
    op: &VecOp,
    state: &mut VectorState,
    memory: &mut M,
) -> Result<(), M::Error> {
    let is_mmx = op.form.ops[1] & operand::KIND == operand::MMX;
    let get = |i: usize| {
        if is_mmx {
            Vector([mmx::register(state, op.regs[i]), 0, 0, 0])
        } else {
            state.vec[register(op, i)]
        }
    };
    let (source, mask) = (get(1), get(2));
    for i in 0..if is_mmx { 8 } else { 16 } {
        if selected(&mask, i, 1) {
            memory.write(i as i64, 1, element(&source, i, 1))?;
        }
    }
    if is_mmx {
        mmx::enter(state);
    }
    Ok(())
}

fn gather<M: ElementMemory>(
    op: &VecOp,
    state: &mut VectorState,
    memory: &mut M,
) -> Result<(), M::Error> {
    let (bytes, index_bytes) = (op.form.element, usize::from(op.form.index));
    let size = usize::from(bytes);
    let (target, mask) = (register(op, 0), register(op, 2));
    let indices = state.vec[usize::from(op.index)];
    let count = vector_bytes(op) / size.max(index_bytes);
    for i in 0..count {
        if !selected(&state.vec[mask], i, size) {
            // Done with this one too, should a later one fault.
            set_element(&mut state.vec[mask], i, size, 0);
            continue;
        }
        let index = element(&indices, i, index_bytes);
        #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)]
        let index = if index_bytes == 4 { i64::from(index as u32 as i32) } else { index as i64 };
        let value = memory.read(index.wrapping_shl(u32::from(op.scale)), bytes)?;
        set_element(&mut state.vec[target], i, size, value);
        set_element(&mut state.vec[mask], i, size, 0);
    }
    for i in count * size / 4..8 {
        set_element(&mut state.vec[target], i, 4, 0);
    }
    state.vec[mask] = Vector::default();
    Ok(())
}
