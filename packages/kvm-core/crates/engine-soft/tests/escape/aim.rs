//! Addressing forms: registers and displacements whose sum is a chosen address.

use iced_x86::{Instruction, Register};

use super::machine::State;
use super::ops::{Op, Place};
use super::rng::Rng;

const RSP: usize = 4;
const RBP: usize = 5;

/// Registers that the operands of the instructions are in: they may address memory, too.
fn gpr(narrow: bool, n: usize) -> Register {
    let first = if narrow { Register::EAX } else { Register::RAX };
    Register::try_from(first as usize + n).unwrap()
}

fn displacement(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => 0,
        1 => (rng.below(256) as i64 - 128).cast_unsigned(),
        2 => i64::from(rng.next() as i32).cast_unsigned(),
        // At the end of what fits, where the size of the access is added to it.
        _ => rng.pick(&[0x7fff_ffff, 0x7fff_fff0, !0x7fff_ffff, 0x7fff_ffc0]),
    }
}

/// Aims the instruction at `target`. Yields whether the stack segment is used, or `None` if the
/// form cannot reach it.
pub fn at(
    rng: &mut Rng,
    op: &Op,
    i: &mut Instruction,
    state: &mut State,
    target: u64,
) -> Option<bool> {
    let g = &mut state.gpr;
    match op.place {
        Place::Push => g[RSP] = target.wrapping_add(op.size),
        Place::Pop => g[RSP] = target,
        Place::Leave => g[RBP] = target,
        Place::Source => g[6] = target,
        Place::Destination => g[7] = target,
        Place::Offset => {
            let offset = target.wrapping_sub(segment(rng, i, state, target));
            i.set_memory_displ_size(8);
            i.set_memory_displacement64(offset);
        }
        Place::Modrm => return modrm(rng, op, i, state, target),
    }
    Some(matches!(op.place, Place::Push | Place::Pop | Place::Leave))
}

/// FS, GS or neither; yields the base.
fn segment(rng: &mut Rng, i: &mut Instruction, state: &mut State, target: u64) -> u64 {
    let base = match rng.below(4) {
        0 => target,
        1 => target.wrapping_sub(rng.below(0x1000)),
        2 => rng.next() >> 17,
        _ => !(rng.next() >> 17),
    };
    let base = if super::layout::canonical(base) { base } else { rng.below(1 << 47) };
    match rng.below(8) {
        0 => {
            i.set_segment_prefix(Register::FS);
            state.fs = base;
        }
        1 => {
            i.set_segment_prefix(Register::GS);
            state.gs = base;
        }
        _ => return 0,
    }
    base
}

fn modrm(
    rng: &mut Rng,
    op: &Op,
    i: &mut Instruction,
    state: &mut State,
    target: u64,
) -> Option<bool> {
    let base_value = segment(rng, i, state, target);
    let flat = i.segment_prefix() == Register::None;
    let offset = target.wrapping_sub(base_value);
    let narrow = offset >> 32 == 0 && rng.chance(1, 4);
    // The stack pointer may be used besides.
    let pushes = op.two();
    let base = loop {
        let n = rng.below(16) as usize;
        if n != RSP || !pushes {
            break n;
        }
    };
    let index = loop {
        let n = rng.below(16) as usize;
        if n != RSP && n != base {
            break n;
        }
    };
    let scale = rng.pick(&[1u32, 2, 4, 8]);
    i.set_memory_displ_size(1);
    let stack = flat && (base == RSP || base == RBP);
    let set = |rng: &mut Rng, state: &mut State, n: usize, value: u64| {
        // A narrow address ignores the upper half.
        let upper = if narrow { rng.next() << 32 } else { value & !0xffff_ffff };
        state.gpr[n] = upper | value & 0xffff_ffff;
    };
    let mut d = displacement(rng);
    let used = match rng.below(8) {
        0 => {
            // A displacement alone.
            let extended = i64::from(offset as i32).cast_unsigned();
            if !narrow && extended != offset {
                return None;
            }
            i.set_memory_displ_size(if narrow { 4 } else { 8 });
            d = offset;
            false
        }
        1 => {
            // From the instruction.
            let distance = offset.wrapping_sub(state.rip).cast_signed();
            if !narrow && i32::try_from(distance).is_err() || distance.unsigned_abs() > 0x7fff_ff00
            {
                return None;
            }
            i.set_memory_base(if narrow { Register::EIP } else { Register::RIP });
            i.set_memory_displ_size(if narrow { 4 } else { 8 });
            i.set_memory_displacement64(offset);
            return Some(false);
        }
        2 => {
            // An index alone.
            let rest = offset & if narrow { 0xffff_ffff } else { u64::MAX };
            let times = rest / u64::from(scale);
            d = rest - times * u64::from(scale);
            i.set_memory_index(gpr(narrow, index));
            i.set_memory_index_scale(scale);
            i.set_memory_displ_size(if narrow { 4 } else { 8 });
            set(rng, state, index, times);
            false
        }
        3 => {
            // The same register twice.
            if base == RSP {
                return None;
            }
            let rest = offset & if narrow { 0xffff_ffff } else { u64::MAX };
            let times = rest / (u64::from(scale) + 1);
            d = rest - times * (u64::from(scale) + 1);
            i.set_memory_base(gpr(narrow, base));
            i.set_memory_index(gpr(narrow, base));
            i.set_memory_index_scale(scale);
            set(rng, state, base, times);
            true
        }
        4 | 5 => {
            // Whatever the index is: the sum goes around the end.
            let value = state.gpr[index].wrapping_mul(u64::from(scale));
            i.set_memory_base(gpr(narrow, base));
            i.set_memory_index(gpr(narrow, index));
            i.set_memory_index_scale(scale);
            set(rng, state, base, offset.wrapping_sub(value).wrapping_sub(d));
            true
        }
        _ => {
            i.set_memory_base(gpr(narrow, base));
            set(rng, state, base, offset.wrapping_sub(d));
            true
        }
    };
    if d == 0 && i.memory_displ_size() == 1 {
        i.set_memory_displ_size(0);
    }
    i.set_memory_displacement64(if narrow { d & 0xffff_ffff } else { d });
    Some(used && stack)
}
