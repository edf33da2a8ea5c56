//! How far an index can reach that a block has just made small.

use iced_x86::{Code, Instruction, Mnemonic};

use super::flat::Kind;
use super::region::Source;

/// Bytes from the first to the last place of the table that instruction `n` looks into by an index, if
/// the block itself says how large the index can be.
pub fn table(source: &Source<'_>, n: usize) -> Option<i32> {
    let op = &source.ops[n];
    // A 32-bit address wraps.
    if source.kind != Kind::Long {
        return None;
    }
    // What the interpreter executes may write anything.
    let mut before = (0..n).rev().take_while(|&d| source.shapes[d].is_some());
    let definition = before.find(|&d| source.written[d] >> op.index & 1 != 0)?;
    let most = most(&source.instructions[definition], op.index)?;
    i32::try_from(most.checked_mul(1 << op.scale)?).ok()
}

/// The largest value that an instruction leaves in a register.
fn most(i: &Instruction, register: u8) -> Option<u64> {
    let to = i.op0_register();
    if to.full_register().number() != usize::from(register) {
        return None;
    }
    // What is narrower leaves the bits above.
    let all = match to {
        r if r.is_gpr32() => u64::from(u32::MAX),
        r if r.is_gpr64() => u64::MAX,
        _ => return None,
    };
    let immediate = || i.try_immediate(1).ok();
    match i.mnemonic() {
        Mnemonic::Movzx => match i.code() {
            Code::Movzx_r32_rm8 | Code::Movzx_r64_rm8 => Some(0xff),
            _ => None,
        },
        Mnemonic::And => Some(immediate()? & all),
        Mnemonic::Shr => Some(all >> (immediate()? & u64::from(all.count_ones() - 1))),
        _ => None,
    }
}
