//! Which instructions leave the arithmetic flags in use: only there must a memory check, which
//! clobbers them, save and restore them.

use iced_x86::{Instruction, Mnemonic as M, OpKind, Register, RflagsBits};

const ARITH: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// What an instruction does with the arithmetic flags, as a set of bits of [`RflagsBits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    pub reads: u32,
    /// Certainly overwritten, whatever the operands are.
    pub kills: u32,
    /// Some may be overwritten.
    pub changes: bool,
}

/// Everything is needed and nothing goes: what must be assumed of code that is not known.
pub const UNKNOWN: Effect = Effect { reads: ARITH, kills: 0, changes: true };

/// The effect of an instruction that is emitted as such.
pub fn effect(i: &Instruction) -> Effect {
    // The manuals have MOV from a control register leave undefined flags. No processor touches them.
    if i.mnemonic() == M::Mov {
        return Effect { reads: 0, kills: 0, changes: false };
    }
    let reads = i.rflags_read() & ARITH;
    let modified = i.rflags_modified() & ARITH;
    let kills = if may_keep(i) { 0 } else { modified };
    Effect { reads, kills, changes: modified != 0 }
}

/// A shift by zero leaves all flags.
fn may_keep(i: &Instruction) -> bool {
    let count = match i.mnemonic() {
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr => 1,
        M::Shld | M::Shrd => 2,
        _ => return false,
    };
    match i.op_kind(count) {
        OpKind::Register => i.op_register(count) == Register::CL,
        _ => {
            let mask =
                if i.op0_register().size() == 8 || i.memory_size().size() == 8 { 63 } else { 31 };
            i.immediate(count) & mask == 0
        }
    }
}

/// For each instruction of a block, which flags are still needed *after* it. `after` is what the
/// code behind the block needs.
pub fn live_after(effects: &[Effect], after: u32, out: &mut Vec<u32>) {
    let mut live = after;
    out.clear();
    out.resize(effects.len(), 0);
    for (n, e) in effects.iter().enumerate().rev() {
        out[n] = live;
        live = live & !e.kills | e.reads;
    }
}

/// What is needed before an instruction, given what is needed after it.
pub fn live_before(e: Effect, after: u32) -> u32 {
    after & !e.kills | e.reads
}

/// All six.
pub const ALL: u32 = ARITH;

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::Decoder;

    fn effects(bytes: &[u8]) -> Vec<Effect> {
        Decoder::new(64, bytes, 0).into_iter().map(|i| effect(&i)).collect()
    }

    #[test]
    fn flags_are_dead_before_a_comparison_and_live_behind_it() {
        // mov eax,[rdi]; cmp eax,1; mov ecx,[rsi]; jne
        let e = effects(&[0x8b, 0x07, 0x83, 0xf8, 1, 0x8b, 0x0e, 0x75, 0]);
        let mut after = Vec::new();
        live_after(&e, 0, &mut after);
        assert_eq!(after, [0, RflagsBits::ZF, RflagsBits::ZF, 0]);
        live_after(&e, ALL, &mut after);
        assert_eq!(live_before(e[0], after[0]), 0);
    }

    #[test]
    fn inc_keeps_the_carry_and_a_shift_by_cl_everything() {
        let e = effects(&[0xff, 0xc0, 0xd3, 0xe0, 0xc1, 0xe0, 0x20, 0xc1, 0xe0, 0x01]);
        assert_eq!(e[0].kills, ALL & !RflagsBits::CF);
        assert_eq!(e[1].kills, 0);
        // By 32, which is 0 for a 32-bit operand.
        assert_eq!(e[2].kills, 0);
        assert_eq!(e[3].kills, ALL);
    }
}
