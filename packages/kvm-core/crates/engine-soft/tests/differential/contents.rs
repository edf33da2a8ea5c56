//! What lies where an instruction reads: comparands that are equal, images that can be restored,
//! pointers and frames that lead somewhere.

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use super::build::Builder;
use super::layout::{CODE, HIGH, LOW, PAGE};
use super::state::{AREA, RSP, USER_CS, USER_CS32, USER_DS, random_area};
use super::tune::SELECTORS;

/// Adjusts memory, and registers that hold code addresses.
pub fn fill(b: &mut Builder<'_>, i: &Instruction) {
    let size = i.op_code().memory_size().size();
    match i.mnemonic() {
        M::Cmpxchg if b.rng.chance(1, 2) => {
            let ax = b.state.gpr[0];
            operand(b, &ax.to_le_bytes()[..size.min(8)]);
        }
        M::Cmpxchg8b if b.rng.chance(1, 2) => {
            let (a, d) = (b.state.gpr[0] as u32, b.state.gpr[2] as u32);
            operand(b, &(u64::from(d) << 32 | u64::from(a)).to_le_bytes());
        }
        M::Cmpxchg16b if b.rng.chance(1, 2) => {
            let pair = u128::from(b.state.gpr[2]) << 64 | u128::from(b.state.gpr[0]);
            operand(b, &pair.to_le_bytes());
        }
        M::Ldmxcsr | M::Vldmxcsr => {
            let mxcsr = mxcsr(b);
            operand(b, &mxcsr);
        }
        M::Fxrstor | M::Fxrstor64 => {
            let mut image = random_area(b.rng).0[..512].to_vec();
            if b.rng.chance(1, 4) {
                image[24..28].copy_from_slice(&mxcsr(b));
            }
            operand(b, &image);
        }
        M::Xrstor | M::Xrstor64 => xsave_image(b),
        M::Xsave | M::Xsave64 | M::Xsaveopt | M::Xsaveopt64 if b.rng.chance(3, 4) => {
            // The header's old XSTATE_BV is kept in part.
            if let Some(at) = b.target {
                let header = (b.rng.next() & 7).to_le_bytes().to_vec();
                b.patches.push((at.wrapping_add(512), header));
            }
        }
        M::Lfs | M::Lgs | M::Lss | M::Lds | M::Les => far_pointer(b, size, false),
        M::Jmp | M::Call if i.is_jmp_far_indirect() || i.is_call_far_indirect() => {
            far_pointer(b, size, true);
        }
        M::Jmp | M::Call => near_pointer(b, i, size),
        M::Lar | M::Lsl | M::Verr | M::Verw | M::Mov if size == 2 && i.op_count() != 0 => {
            let selector = b.rng.pick(&SELECTORS) as u16;
            let loads_segment =
                i.op0_kind() == OpKind::Register && i.op0_register().is_segment_register();
            if i.mnemonic() != M::Mov || loads_segment {
                operand(b, &selector.to_le_bytes());
            }
        }
        M::Pop if i.op0_kind() == OpKind::Register && i.op0_register().is_segment_register() => {
            let selector = b.rng.pick(&SELECTORS) as u16;
            stack(b, &[u64::from(selector)], 2);
        }
        M::Ret if b.rng.chance(7, 8) => {
            let target = code(b);
            stack(b, &[target], stack_width(b, i));
        }
        M::Retf if b.rng.chance(7, 8) => {
            let (target, cs) = (code(b), code_selector(b));
            let (sp, ss) = (b.state.gpr[RSP] ^ 0x40, data_selector(b));
            let width = operand_width(b, i);
            stack(b, &[target, cs], width);
            // The outer stack, for the selectors that lead out, lies after the parameters.
            let at = b.state.gpr[RSP].wrapping_add(2 * width as u64 + u64::from(i.immediate16()));
            words(b, at, &[sp, ss], width);
        }
        M::Iret | M::Iretd | M::Iretq if b.rng.chance(7, 8) => {
            let (target, cs, ss) = (code(b), code_selector(b), data_selector(b));
            // TF would trap in the code after it.
            let flags = b.rng.next() & !0x100;
            let sp = b.state.gpr[RSP] ^ 0x80;
            stack(b, &[target, cs, flags, sp, ss], operand_width(b, i));
        }
        M::Popf | M::Popfd | M::Popfq if b.rng.chance(3, 4) => {
            let flags = b.rng.next() & !0x100;
            stack(b, &[flags], 8);
        }
        _ => {}
    }
}

/// Patches the explicit memory operand.
fn operand(b: &mut Builder<'_>, bytes: &[u8]) {
    if let Some(at) = b.target {
        b.patches.push((at, bytes.to_vec()));
    }
}

fn words(b: &mut Builder<'_>, at: u64, values: &[u64], width: usize) {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()[..width].to_vec()).collect();
    b.patches.push((at, bytes));
}

/// Patches the top of the stack.
fn stack(b: &mut Builder<'_>, values: &[u64], width: usize) {
    words(b, b.state.gpr[RSP], values, width);
}

fn operand_width(b: &Builder<'_>, i: &Instruction) -> usize {
    match i.op_code().operand_size() {
        0 => (b.bits / 8) as usize,
        bits => (bits / 8) as usize,
    }
}

/// Near returns have 64 bits in 64-bit mode.
fn stack_width(b: &Builder<'_>, i: &Instruction) -> usize {
    let width = operand_width(b, i);
    if b.bits == 64 && width == 4 { 8 } else { width }
}

/// An address in the code pages, or a bad one.
pub fn code(b: &mut Builder<'_>) -> u64 {
    let base = if b.bits == 32 || b.rng.chance(1, 2) { LOW } else { HIGH };
    match b.rng.below(12) {
        0 => super::spots::random(b.rng, b.bits == 32, 1),
        1 => 0x8000_0000_0000 | b.rng.next(),
        // Not near the instruction: a second run of it might not end.
        _ => base + CODE as u64 * PAGE + (b.ip + 0x400 + b.rng.below(0x400)) % (2 * PAGE),
    }
}

pub fn code_selector(b: &mut Builder<'_>) -> u64 {
    match b.rng.below(4) {
        0 => b.rng.pick(&SELECTORS),
        1 => USER_CS32.into(),
        _ => USER_CS.into(),
    }
}

fn data_selector(b: &mut Builder<'_>) -> u64 {
    if b.rng.chance(1, 6) { b.rng.pick(&SELECTORS) } else { USER_DS.into() }
}

fn far_pointer(b: &mut Builder<'_>, size: usize, to_code: bool) {
    if size < 4 {
        return;
    }
    let (offset, selector) = if to_code {
        let selector = code_selector(b);
        // Whether a call that leaves 64-bit mode pushes with the old or the new stack width.
        let wide_stack = b.state.gpr[RSP] > 0xffff_ffff && selector == USER_CS32.into();
        (code(b), if wide_stack { USER_CS.into() } else { selector })
    } else {
        (b.rng.value(), b.rng.pick(&SELECTORS))
    };
    let mut bytes = offset.to_le_bytes()[..size - 2].to_vec();
    bytes.extend_from_slice(&(selector as u16).to_le_bytes());
    operand(b, &bytes);
}

fn near_pointer(b: &mut Builder<'_>, i: &Instruction, size: usize) {
    let target = code(b);
    match i.op0_kind() {
        OpKind::Memory => operand(b, &target.to_le_bytes()[..size.min(8)]),
        OpKind::Register if i.op0_register().full_register().number() != RSP => {
            b.state.gpr[i.op0_register().full_register().number()] = target;
        }
        _ => {}
    }
}

/// A value for MXCSR, perhaps with reserved bits, but without AMD's bit for misaligned operands.
fn mxcsr(b: &mut Builder<'_>) -> [u8; 4] {
    let reserved = if b.rng.chance(1, 4) { 1 << b.rng.below(32) } else { 0 };
    let value = (b.rng.next() as u32 & 0xffff | reserved) & !(1 << 17);
    value.to_le_bytes()
}

fn xsave_image(b: &mut Builder<'_>) {
    let mut image = random_area(b.rng).0[..AREA].to_vec();
    let components = if b.rng.chance(7, 8) { b.rng.below(8) } else { b.rng.next() };
    image[512..520].copy_from_slice(&components.to_le_bytes());
    match b.rng.below(8) {
        // XCOMP_BV of the compacted form.
        0 => image[520..528].copy_from_slice(&(1 << 63 | 7u64).to_le_bytes()),
        1 => image[24..28].copy_from_slice(&mxcsr(b)),
        2 => image[520 + b.rng.below(24) as usize] = b.rng.next() as u8,
        _ => {}
    }
    operand(b, &image);
}
