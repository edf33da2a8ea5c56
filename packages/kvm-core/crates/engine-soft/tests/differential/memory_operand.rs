//! Explicit memory operands: every addressing form, aimed at a chosen address.

use iced_x86::{Instruction, Register};

use super::build::Builder;
use super::layout::{HIGH, LOW};
use super::rng::Rng;
use super::spots;

fn gpr(first: Register, n: usize) -> Register {
    Register::try_from(first as usize + n).unwrap()
}

/// A displacement of any encoding.
fn displacement(rng: &mut Rng) -> i64 {
    match rng.below(4) {
        0 => 0,
        1 | 2 => rng.below(256) as i64 - 128,
        _ => i64::from(rng.next() as i32 >> rng.below(20)),
    }
}

fn operand_bytes(i: &Instruction) -> u64 {
    (i.code().op_code().memory_size().size() as u64).max(1)
}

/// The base of the operand's segment, chosen if there is an override.
fn segment(b: &mut Builder<'_>, i: &mut Instruction, target: u64) -> u64 {
    if !b.rng.chance(1, 6) {
        return 0;
    }
    let prefix = b.rng.pick(&[
        Register::FS,
        Register::GS,
        Register::FS,
        Register::GS,
        Register::ES,
        Register::SS,
        Register::DS,
        Register::CS,
    ]);
    i.set_segment_prefix(prefix);
    if b.bits == 32 {
        // All flat; stores through CS fault.
        return 0;
    }
    // Processors disagree about an offset that is not canonical where the sum with the base is.
    let base = if target >> 47 == 0 { spots::small_base(b.rng) } else { 0 };
    match prefix {
        Register::FS => b.state.fs_base = base,
        Register::GS => b.state.gs_base = base,
        _ => return 0,
    }
    base
}

/// Writes a register so that its low `width` bits are `value`; the rest is random for 32 bits.
fn write(b: &mut Builder<'_>, n: usize, value: u64, narrow: bool) {
    b.state.gpr[n] = if narrow && b.bits == 64 {
        (b.rng.next() << 32) | (value & 0xffff_ffff)
    } else if b.bits == 32 {
        value & 0xffff_ffff
    } else {
        value
    };
}

/// A random base, index, scale and displacement.
pub fn random(b: &mut Builder<'_>, i: &mut Instruction) {
    if !b.anchors.is_empty() {
        return anchored(b, i);
    }
    if b.bits == 32 && b.align == 1 && b.rng.chance(1, 12) {
        segment(b, i, 0);
        return sixteen_bits(b, i);
    }
    let narrow = b.bits == 32 || b.rng.chance(1, 8);
    let target = spots::random(b.rng, narrow, operand_bytes(i)) & !(b.align - 1);
    let base_value = segment(b, i, target);
    b.target = Some(target);
    let offset = target.wrapping_sub(base_value);
    aim(b, i, offset, narrow);
}

/// From a register that keeps its value through a block, mostly to where nothing faults.
fn anchored(b: &mut Builder<'_>, i: &mut Instruction) {
    let n = b.rng.pick(b.anchors);
    let value = b.state.gpr[n];
    let low = value < 1 << 32;
    let target = if b.rng.chance(1, 24) {
        spots::random(b.rng, low, operand_bytes(i))
    } else {
        spots::harmless(b.rng, if low { LOW } else { HIGH })
    };
    let target = target & !(b.align.max(operand_bytes(i).next_power_of_two().min(16)) - 1);
    let d = target.wrapping_sub(value).cast_signed();
    let Ok(d) = i32::try_from(d) else { return anchored(b, i) };
    b.target = Some(target);
    let narrow = b.bits == 32 || low && b.rng.chance(1, 8);
    let first = if narrow { Register::EAX } else { Register::RAX };
    i.set_memory_base(gpr(first, n));
    i.set_memory_displ_size(1);
    let d = i64::from(d).cast_unsigned();
    i.set_memory_displacement64(if narrow { d & 0xffff_ffff } else { d });
}

/// Sixteen-bit addresses reach nothing that is mapped, but fault where they should.
fn sixteen_bits(b: &mut Builder<'_>, i: &mut Instruction) {
    use Register::{BP, BX, DI, None, SI};
    let (base, index) = b.rng.pick(&[
        (BX, SI),
        (BX, DI),
        (BP, SI),
        (BP, DI),
        (SI, None),
        (DI, None),
        (BX, None),
        (BP, None),
        (None, None),
    ]);
    i.set_memory_base(base);
    i.set_memory_index(index);
    let wide = base == None || b.rng.chance(1, 2);
    i.set_memory_displ_size(if wide { 2 } else { 1 });
    let d = if wide { b.rng.next() & 0xffff } else { b.rng.below(128) };
    i.set_memory_displacement64(d);
}

fn aim(b: &mut Builder<'_>, i: &mut Instruction, offset: u64, narrow: bool) {
    let first = if narrow { Register::EAX } else { Register::RAX };
    let count = if b.bits == 64 { 16 } else { 8 };
    i.set_memory_displ_size(1);
    let shape = b.rng.below(16);
    if shape == 0 && (i32::try_from(offset.cast_signed()).is_ok() || narrow) {
        // A displacement alone.
        i.set_memory_displ_size(if narrow { 4 } else { 8 });
        i.set_memory_displacement64(if narrow { offset & 0xffff_ffff } else { offset });
        return;
    }
    let near = offset.wrapping_sub(b.ip).cast_signed();
    if shape == 1 && b.bits == 64 && i32::try_from(near).is_ok() && !narrow {
        i.set_memory_base(Register::RIP);
        i.set_memory_displ_size(8);
        i.set_memory_displacement64(offset);
        return;
    }
    let mut d = displacement(b.rng);
    let base = b.rng.below(count) as usize;
    // RSP cannot be an index.
    let index = match b.rng.below(count) as usize {
        4 => 5,
        n => n,
    };
    let scale = b.rng.pick(&[1u32, 2, 4, 8]);
    match shape {
        2..=6 => {
            let mut value = b.state.gpr[index];
            i.set_memory_base(gpr(first, base));
            i.set_memory_index(gpr(first, index));
            i.set_memory_index_scale(scale);
            if base == index {
                let times = u64::from(scale) + 1;
                let rest = offset & if narrow { 0xffff_ffff } else { u64::MAX };
                let x = rest / times;
                d = (rest - x * times) as i64;
                write(b, base, x, narrow);
            } else {
                if index == 4 {
                    value = 0;
                }
                let rest = offset
                    .wrapping_sub(value.wrapping_mul(u64::from(scale)))
                    .wrapping_sub(d.cast_unsigned());
                write(b, base, rest, narrow);
            }
        }
        7 => {
            i.set_memory_index(gpr(first, index));
            i.set_memory_index_scale(scale);
            let rest = offset & if narrow { 0xffff_ffff } else { u64::MAX };
            let x = rest / u64::from(scale);
            d = (rest - x * u64::from(scale)) as i64;
            i.set_memory_displ_size(if narrow { 4 } else { 8 });
            write(b, index, x, narrow);
        }
        _ => {
            i.set_memory_base(gpr(first, base));
            write(b, base, offset.wrapping_sub(d.cast_unsigned()), narrow);
        }
    }
    if d == 0 && i.memory_displ_size() == 1 {
        i.set_memory_displ_size(0);
    }
    i.set_memory_displacement64(if narrow {
        d.cast_unsigned() & 0xffff_ffff
    } else {
        d.cast_unsigned()
    });
}

/// MOV's absolute 32- or 64-bit address.
pub fn absolute(b: &mut Builder<'_>, i: &mut Instruction) {
    let narrow = b.bits == 32 || b.rng.chance(1, 3);
    let target = spots::random(b.rng, narrow, operand_bytes(i));
    let base = segment(b, i, target);
    let target = target.wrapping_sub(base);
    i.set_memory_displ_size(if narrow { 4 } else { 8 });
    i.set_memory_displacement64(if narrow { target & 0xffff_ffff } else { target });
}

/// A gather's operand: a base, and a vector of small indexes.
pub fn vector_index(b: &mut Builder<'_>, i: &mut Instruction, index: Register) {
    let count = if b.bits == 64 { 16 } else { 8 };
    let base = b.rng.below(count) as usize;
    let target = spots::random(b.rng, b.bits == 32, 8);
    let segment_base = segment(b, i, target);
    let d = displacement(b.rng);
    let first = if b.bits == 64 { Register::RAX } else { Register::EAX };
    write(b, base, target.wrapping_sub(segment_base).wrapping_sub(d.cast_unsigned()), false);
    i.set_memory_base(gpr(first, base));
    i.set_memory_index(index);
    i.set_memory_index_scale(b.rng.pick(&[1, 2, 4, 8]));
    i.set_memory_displ_size(1);
    i.set_memory_displacement64(d.cast_unsigned());
    let mut value = [0u8; 32];
    let reach = b.rng.pick(&[16u64, 64, 300, 2000]);
    let wide = format!("{:?}", i.code()).contains("_vm64");
    for chunk in value.chunks_exact_mut(if wide { 8 } else { 4 }) {
        let v = b.rng.below(reach) as i64 - reach as i64 / 2;
        let n = chunk.len();
        chunk.copy_from_slice(&v.to_le_bytes()[..n]);
    }
    let n = index.number();
    b.state.area.set_ymm(n, &value);
}
