//! Differences that are none: what the architecture leaves to each processor.

use iced_x86::{Instruction, Mnemonic as M};

use super::state::{Outcome, USER_CS32};

/// True for an exception that restarts the instruction, as opposed to its regular end.
fn faulted(o: &Outcome) -> bool {
    !matches!(o.event.vector, 1 | 3 | 4)
}

/// Instructions of several memory accesses, or of one that is longer than a register: which of
/// several faults comes first, which byte of the operand it names and what was stored before is up
/// to the processor.
fn several_accesses(i: &Instruction) -> bool {
    matches!(
        i.mnemonic(),
        M::Call
            | M::Retf
            | M::Iret
            | M::Iretd
            | M::Iretq
            | M::Enter
            | M::Pusha
            | M::Pushad
            | M::Popa
            | M::Popad
            | M::Cmpsb
            | M::Cmpsw
            | M::Cmpsd
            | M::Cmpsq
            | M::Fnsave
            | M::Frstor
            | M::Fnstenv
            | M::Fldenv
            | M::Fxsave
            | M::Fxsave64
            | M::Fxrstor
            | M::Fxrstor64
            | M::Xsave
            | M::Xsave64
            | M::Xsavec
            | M::Xsavec64
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Xrstor
            | M::Xrstor64
            | M::Maskmovdqu
            | M::Vmaskmovdqu
            | M::Maskmovq
    )
}

/// Makes `tier0` agree with `native` where both are right.
///
/// Yields whether stores to memory may differ.
pub fn reconcile(i: &Instruction, native: &Outcome, tier0: &mut Outcome) -> bool {
    let both_fault = faulted(native) && faulted(tier0);
    let at_the_same = native.state.rip == tier0.state.rip;
    let mut memory_differs = false;
    if both_fault && at_the_same && several_accesses(i) {
        tier0.event = native.event;
        memory_differs = true;
    }
    let name = format!("{:?}", i.mnemonic());
    // The processor has switched from x87 to MMX when it finds out.
    let through_mmx = name.starts_with("Cvt") && name.contains("pi") || i.mnemonic() == M::Maskmovq;
    if both_fault && through_mmx {
        let (from, to) = (&native.state.area, &mut tier0.state.area);
        to.0[..24].copy_from_slice(&from.0[..24]);
        to.0[32..160].copy_from_slice(&from.0[32..160]);
    }
    // Exceptions of the later steps of a dot product may or may not be noted.
    if native.event.vector == 19 && name.to_lowercase().contains("dpp") {
        let mxcsr = native.state.area.u32(24);
        tier0.state.area.set(24, &mxcsr.to_le_bytes());
    }
    if both_fault && matches!(i.mnemonic(), M::Popa | M::Popad) {
        // Some registers may be popped already.
        tier0.state.gpr = native.state.gpr;
    }
    if native.state.cs == USER_CS32 && tier0.state.cs == USER_CS32 {
        // The upper halves are undefined after a change of mode.
        let (from, to) = (&native.state.gpr, &mut tier0.state.gpr);
        for (to, from) in to.iter_mut().zip(from) {
            *to = *to & 0xffff_ffff | from & !0xffff_ffff;
        }
    }
    // Whether a store without a selected byte, or a component that is not loaded, looks at its page.
    let masked = matches!(
        i.mnemonic(),
        M::Maskmovdqu | M::Vmaskmovdqu | M::Maskmovq | M::Xrstor | M::Xrstor64
    );
    if masked && faulted(native) && !at_the_same {
        *tier0 = native.clone();
        memory_differs = true;
    }
    // Besides an unmasked exception, inexact results of other elements may or may not be noted.
    if native.event.vector == 19 && tier0.event.vector == 19 {
        const PE: u32 = 0x20;
        let mxcsr = tier0.state.area.u32(24) & !PE | native.state.area.u32(24) & PE;
        tier0.state.area.set(24, &mxcsr.to_le_bytes());
    }
    memory_differs
}
