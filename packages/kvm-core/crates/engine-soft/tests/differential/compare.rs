//! What must be equal, and the exceptions that the architecture leaves open.

use iced_x86::{Instruction, Mnemonic as M, OpKind, RflagsBits};

use super::state::{Outcome, State};

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// CF, PF, AF, ZF, SF, OF.
pub const ARITHMETIC: u64 = 0x8d5;

/// EFLAGS positions of iced's bits.
pub fn eflags(bits: u32) -> u64 {
    let table = [
        (RflagsBits::CF, 0),
        (RflagsBits::PF, 2),
        (RflagsBits::AF, 4),
        (RflagsBits::ZF, 6),
        (RflagsBits::SF, 7),
        (RflagsBits::OF, 11),
    ];
    table.iter().filter(|(b, _)| bits & b != 0).map(|(_, at)| 1 << at).sum()
}

/// The flags that are undefined after an instruction.
pub fn undefined_flags(i: &Instruction, before: &State) -> u64 {
    let by_count = matches!(
        i.mnemonic(),
        M::Shl | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd | M::Sal
    );
    if by_count && i.op_kind(i.op_count() - 1) == iced_x86::OpKind::Register {
        let mask =
            if i.op0_register().size() == 8 || i.memory_size().size() == 8 { 63 } else { 31 };
        let count = before.gpr[1] & mask;
        // Nothing changes for zero, and all is defined but OF for one.
        if count == 0 {
            return 0;
        }
    }
    undefined_bits(i)
}

/// The flags that are undefined after an instruction whatever the count in CL is.
pub fn undefined_bits(i: &Instruction) -> u64 {
    // Rotated by its own width and the carry, an operand is what it was; OF need not be.
    let whole = matches!(i.mnemonic(), M::Rcl | M::Rcr)
        && i.op1_kind() == iced_x86::OpKind::Immediate8
        && i.immediate8() & 31 > 1;
    eflags(i.rflags_undefined() | if whole { RflagsBits::OF } else { 0 })
}

/// Whether the x87 instruction that raised what is pending has a memory operand. Without one, FDP is what an earlier
/// instruction left: the last with an operand, or on other processors the last of these that raised something.
fn has_data_pointer(code: &[Instruction], outcome: &Outcome) -> bool {
    let raised = code.iter().find(|i| i.ip32() == outcome.state.area.u32(8));
    raised.is_none_or(|i| i.op_kinds().any(|kind| kind == OpKind::Memory))
}

/// Differences, one per line; empty if all is well.
pub fn differences(
    (before, code): (&State, &[Instruction]),
    native: &Outcome,
    tier0: &Outcome,
    undefined: u64,
) -> Vec<String> {
    let mut out = Vec::new();
    let mut note = |what: &str, n: u64, t: u64| {
        if n != t {
            out.push(format!("{what}: host {n:#x}, tier 0 {t:#x}"));
        }
    };
    let (a, b) = (&native.event, &tier0.event);
    note("vector", a.vector.into(), b.vector.into());
    // Linux hides what is mapped in its own half.
    let hidden = u64::from(a.vector == 14 && a.address >= 0x7fff_ffff_f000);
    note("error code", a.error | hidden, b.error | hidden);
    note("cr2", a.address, b.address);
    let (a, b) = (&native.state, &tier0.state);
    note("rip", a.rip, b.rip);
    for (n, name) in NAMES.iter().enumerate() {
        note(name, a.gpr[n], b.gpr[n]);
    }
    note("rflags", a.rflags & !undefined, b.rflags & !undefined);
    note("cs", a.cs.into(), b.cs.into());
    note("ss", a.ss.into(), b.ss.into());
    for (n, name) in ["ds", "es", "fs", "gs"].iter().enumerate() {
        // The return to user code makes every null selector zero.
        let null = |s: u16| if s < 4 { 0 } else { s };
        note(name, null(a.data_segments[n]).into(), null(b.data_segments[n]).into());
    }
    note("fs base", a.fs_base, b.fs_base);
    note("gs base", a.gs_base, b.gs_base);
    let (a, b) = (&a.area, &b.area);
    note("fcw", a.u16(0).into(), b.u16(0).into());
    note("fsw", a.u16(2).into(), b.u16(2).into());
    note("ftw", (a.u16(4) & 255).into(), (b.u16(4) & 255).into());
    // Some processors keep the last pointers only while an exception is pending, and then those of
    // the instruction that raised it.
    const ES: u16 = 0x80;
    if a.u16(2) & ES != 0 && before.area.u16(2) & ES == 0 {
        // Some keep the opcode of an unmasked exception only.
        if a.u16(6) != 0 {
            note("fop", a.u16(6).into(), b.u16(6).into());
        }
        note("fip", a.u32(8).into(), b.u32(8).into());
        note("fip's upper half", a.u32(12).into(), b.u32(12).into());
        // An instruction without a memory operand may clear it, too.
        if (a.u32(16), a.u32(20)) != (0, 0) && has_data_pointer(code, native) {
            note("fdp", a.u32(16).into(), b.u32(16).into());
            note("fdp's upper half", a.u32(20).into(), b.u32(20).into());
        }
    }
    note("mxcsr", a.u32(24).into(), b.u32(24).into());
    for n in 0..8 {
        if a.st(n) != b.st(n) {
            out.push(format!("st{n}: host {:02x?}, tier 0 {:02x?}", a.st(n), b.st(n)));
        }
    }
    for n in 0..16 {
        if a.ymm(n) != b.ymm(n) {
            out.push(format!("ymm{n}: host {:02x?}, tier 0 {:02x?}", a.ymm(n), b.ymm(n)));
        }
    }
    out
}
