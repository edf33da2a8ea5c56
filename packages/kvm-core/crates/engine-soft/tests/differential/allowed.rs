//! Differences that are none: what the architecture leaves to each processor.

use iced_x86::{Instruction, Mnemonic as M, OpKind, Register};

use super::host;
use super::state::{Outcome, State, USER_CS32};

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
            | M::Bound
            | M::Fbstp
            | M::Fstp
            | M::Vmaskmovps
            | M::Vmaskmovpd
            | M::Vpmaskmovd
            | M::Vpmaskmovq
    )
}

/// Takes a selector off the stack: two bytes or its whole slot are read.
fn pops_selector(i: &Instruction) -> bool {
    i.mnemonic() == M::Retf || i.mnemonic() == M::Pop && i.op0_register().is_segment_register()
}

fn narrow_address(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| matches!(i.op_kind(n), OpKind::MemorySegESI | OpKind::MemoryESEDI))
}

/// Bytes of an element that a gather loads.
fn gather_element(name: &str) -> usize {
    let narrow = name.ends_with("ps") || name.starts_with("Vpgather") && name.ends_with('d');
    if narrow { 4 } else { 8 }
}

/// A gather that faults may have replaced the signs in its mask by whole elements.
fn same_mask(name: &str, mask: Register, native: &Outcome, tier0: &mut Outcome) {
    let (size, all) = (gather_element(name), mask.size());
    let mask = mask.number();
    let (from, to) = (native.state.area.ymm(mask), tier0.state.area.ymm(mask));
    let signs = |ymm: &[u8; 32]| -> Vec<bool> {
        ymm[..all].chunks(size).map(|element| element[size - 1] & 0x80 != 0).collect()
    };
    if signs(&from) == signs(&to) {
        tier0.state.area.set_ymm(mask, &from);
    }
}

/// A gather into half a register that faults may have cleared the other half.
fn same_upper_half(register: Register, native: &Outcome, tier0: &mut Outcome) {
    if register.is_xmm() {
        let mut value = tier0.state.area.ymm(register.number());
        value[16..].copy_from_slice(&native.state.area.ymm(register.number())[16..]);
        tier0.state.area.set_ymm(register.number(), &value);
    }
}

/// A repeated move from one of the two addresses of a page to the other. Its stores are not ordered
/// (SDM volume 3, 9.2.4), so that a load may miss one whose linear address tells of no overlap.
fn moves_under_two_names(i: &Instruction, end: &State) -> bool {
    let moves = matches!(i.mnemonic(), M::Movsb | M::Movsw | M::Movsd | M::Movsq);
    let base = match i.segment_prefix() {
        Register::FS => end.fs_base,
        Register::GS => end.gs_base,
        _ => 0,
    };
    let low = |linear: u64| linear >> 32 == 0;
    let wide = i.op1_kind() == OpKind::MemorySegRSI;
    let repeated = i.has_rep_prefix() || i.has_repne_prefix();
    moves && wide && repeated && low(end.gpr[6].wrapping_add(base)) != low(end.gpr[7])
}

/// Makes `tier0` agree with `native` where both are right.
///
/// Yields whether stores to memory may differ.
pub fn reconcile(i: &Instruction, native: &Outcome, tier0: &mut Outcome) -> bool {
    let both_fault = faulted(native) && faulted(tier0);
    let at_the_same = native.state.rip == tier0.state.rip;
    let mut memory_differs = moves_under_two_names(i, &native.state);
    if both_fault && at_the_same && several_accesses(i) {
        tier0.event = native.event;
        memory_differs = true;
    }
    let name = format!("{:?}", i.mnemonic());
    // The processor has switched from x87 to MMX when it finds out.
    let stores_mmx = name.starts_with("Mov") && i.op1_register().is_mm();
    let through_mmx =
        name.starts_with("Cvt") && name.contains("pi") || i.mnemonic() == M::Maskmovq || stores_mmx;
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
    // Whether a store without a selected byte, or a component that is not asked for, looks at its page.
    let masked = matches!(
        i.mnemonic(),
        M::Maskmovdqu | M::Vmaskmovdqu | M::Maskmovq | M::Xrstor | M::Xrstor64
    ) || name.starts_with("Xsave");
    if masked && faulted(native) && !at_the_same {
        *tier0 = native.clone();
        memory_differs = true;
    }
    let narrow =
        pops_selector(i) && tier0.event.vector == 14 && (native.event.vector != 14 || !at_the_same);
    // Code that is not 64-bit reaches CR8 by a LOCK prefix, on AMD alone.
    let cr8 = i.op0_register() == Register::CR8 || i.op1_register() == Register::CR8;
    let locked = cr8 && native.event.vector == 6;
    // The upper half of the offset may be ignored on the way to a segment of 32 bits.
    let far = matches!(i.mnemonic(), M::Retf | M::Iretq)
        && native.state.cs == USER_CS32
        && tier0.event.vector == 13;
    // Of the slot of a pushed selector the upper half may stay: it may be on a page that cannot be written, or code.
    let selector = i.mnemonic() == M::Push && i.op0_register().is_segment_register();
    let half = selector && !faulted(native);
    memory_differs |= selector;
    if faulted(tier0) && (narrow || locked || far || half) {
        *tier0 = native.clone();
    }
    if narrow_address(i) && (i.has_repe_prefix() || i.has_repne_prefix()) {
        // Where nothing is left to do, the upper halves may be cleared or stay.
        for n in [1, 6, 7] {
            let (from, to) = (native.state.gpr[n], &mut tier0.state.gpr[n]);
            if from as u32 == *to as u32 {
                *to = from;
            }
        }
    }
    if both_fault && at_the_same {
        let (first, second) = (native.event.vector, tier0.event.vector);
        // An operand around the end of the segment, and one that is misaligned besides.
        let wraps = first == 14 && matches!(second, 12 | 13) && native.event.address >= 0xffff_fff0;
        let misaligned = matches!((first, second), (14, 17) | (17, 13 | 14));
        if wraps || misaligned && host::is_intel() {
            tier0.event = native.event;
        }
        if super::tune::string(i) && (i.has_repe_prefix() || i.has_repne_prefix()) {
            // Flags of the last comparison, or those of before.
            tier0.state.rflags = native.state.rflags;
        }
        if i.mnemonic() == M::Vcvtps2ph {
            // It converts before it looks at where to store.
            tier0.event = native.event;
            let mxcsr = native.state.area.u32(24);
            tier0.state.area.set(24, &mxcsr.to_le_bytes());
        }
        if matches!(i.mnemonic(), M::Xrstor | M::Xrstor64) {
            // Components may be loaded before the fault is found.
            tier0.state.area = native.state.area.clone();
        }
        if name.contains("gather") {
            same_mask(&name, i.op2_register(), native, tier0);
            same_upper_half(i.op0_register(), native, tier0);
        }
    }
    // Besides an unmasked exception, inexact results of other elements may or may not be noted.
    if native.event.vector == 19 && tier0.event.vector == 19 {
        const PE: u32 = 0x20;
        let mxcsr = tier0.state.area.u32(24) & !PE | native.state.area.u32(24) & PE;
        tier0.state.area.set(24, &mxcsr.to_le_bytes());
    }
    memory_differs
}
