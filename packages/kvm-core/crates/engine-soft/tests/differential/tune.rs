//! Values that make an instruction do more than fault: quotients that fit, counts that end,
//! comparands that are equal.

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use super::build::Builder;
use super::forms::Form;

/// Adjusts the state for one instruction.
pub fn state(b: &mut Builder<'_>, i: &mut Instruction, memory: bool) {
    let g = &mut b.state.gpr;
    match i.mnemonic() {
        M::Div if b.rng.chance(4, 5) => g[2] = b.rng.below(3),
        M::Idiv if b.rng.chance(4, 5) => {
            g[2] = if b.rng.chance(1, 2) { 0 } else { u64::MAX };
        }
        M::Bt | M::Bts | M::Btr | M::Btc if memory && i.op1_kind() == OpKind::Register => {
            // The bit offset reaches beyond the operand; the address register must stay.
            let r = i.op1_register().full_register();
            if r != i.memory_base().full_register()
                && r != i.memory_index().full_register()
                && b.rng.chance(7, 8)
            {
                let bits = b.rng.below(6000) as i64 - 3000;
                g[r.number()] = bits as u64;
            }
        }
        // A count beyond the operand leaves everything undefined.
        M::Shld | M::Shrd if i.op1_register().size() == 2 => {
            g[1] &= !0x10;
            i.set_immediate8(i.immediate8() & !0x10);
        }
        M::Maskmovdqu | M::Vmaskmovdqu | M::Maskmovq => {
            g[7] = super::spots::random(b.rng, b.bits == 32, 16);
        }
        _ => {}
    }
    if string(i) {
        b.state.gpr[1] = match b.rng.below(8) {
            0 => 0,
            1 => b.rng.next(),
            2 => 1,
            3 => (b.rng.next() << 32) | b.rng.below(20),
            _ => b.rng.below(600),
        };
    }
    if matches!(i.mnemonic(), M::Loop | M::Loope | M::Loopne | M::Jcxz | M::Jecxz | M::Jrcxz)
        && b.rng.chance(1, 2)
    {
        b.state.gpr[1] = b.rng.pick(&[0, 1, 2, 1 << 32, (1 << 32) | 1, 1 << 16]);
    }
    let name = format!("{:?}", i.mnemonic());
    if name.starts_with("Xsave") || name.starts_with("Xrstor") {
        // Components beyond AVX are the host's own.
        b.state.gpr[0] &= !0 << 32 | 7;
        b.state.gpr[2] = b.rng.next() << 32;
    }
    let environment = matches!(
        i.mnemonic(),
        M::Fnsave
            | M::Frstor
            | M::Fnstenv
            | M::Fldenv
            | M::Fxsave
            | M::Fxsave64
            | M::Fxrstor
            | M::Fxrstor64
            | M::Enter
    );
    if environment || name.starts_with('X') && !matches!(i.mnemonic(), M::Xchg | M::Xadd | M::Xor) {
        // Where alignment is checked, processors differ in what they check of these.
        b.state.rflags &= !(1 << 18);
    }
    if super::host::is_intel() && unchecked_by_intel(i) {
        b.state.rflags &= !(1 << 18);
        if matches!(i.mnemonic(), M::Iret | M::Iretd | M::Iretq) {
            // Linux takes the fault for a split lock, and tries again for ever.
            b.state.gpr[4] &= !7;
        }
    }
    selectors(b, i);
}

/// What Intel's processors do not check for alignment, in whole or in part: operands wider than a
/// general register, selectors on the stack, and IRET, whose fault shows the new flags.
fn unchecked_by_intel(i: &Instruction) -> bool {
    let selector =
        matches!(i.mnemonic(), M::Push | M::Pop) && i.op0_register().is_segment_register();
    i.memory_size().size() > 8
        || selector
        || matches!(
            i.mnemonic(),
            M::Retf | M::Iret | M::Iretd | M::Iretq | M::Vcvtps2ph | M::Vcvtph2ps
        )
}

/// True for the string instructions.
pub fn string(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| {
        matches!(
            i.op_kind(n),
            OpKind::MemorySegRSI
                | OpKind::MemoryESRDI
                | OpKind::MemorySegESI
                | OpKind::MemoryESEDI
                | OpKind::MemorySegSI
                | OpKind::MemoryESDI
        )
    })
}

/// Selectors that exist, for the instructions that take one in a register.
fn selectors(b: &mut Builder<'_>, i: &Instruction) {
    let at = match i.mnemonic() {
        M::Mov if i.op0_kind() == OpKind::Register && i.op0_register().is_segment_register() => 1,
        M::Lar | M::Lsl => 1,
        M::Verr | M::Verw => 0,
        _ => return,
    };
    if i.op_kind(at) != OpKind::Register {
        return;
    }
    let n = i.op_register(at).full_register().number();
    // Linux keeps segments of its own at the end of its table.
    let of_linux = matches!(b.state.gpr[n] & 0xffff, 0x60..0x80);
    if of_linux || b.rng.chance(3, 4) {
        b.state.gpr[n] = b.rng.pick(&SELECTORS);
    }
}

/// Null, the kernel's, the user's, one beyond the table.
pub const SELECTORS: [u64; 12] = [0, 3, 0x10, 0x18, 0x23, 0x2b, 0x33, 0x40, 0x2a, 0x1b, 0x83, 0xf3];

/// The alignment that operands of a form keep because processors disagree about its violation.
pub fn alignment(form: Form) -> u64 {
    match form.code.mnemonic() {
        M::Sha1msg1
        | M::Sha1msg2
        | M::Sha1nexte
        | M::Sha1rnds4
        | M::Sha256msg1
        | M::Sha256msg2
        | M::Sha256rnds2 => 16,
        _ => 1,
    }
}
