//! Blocks: several instructions in a row, with memory operands at registers that stay.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic as M, OpAccess, OpCodeOperandKind,
    OpKind,
};

use super::build::{self, Builder, Case, encode};
use super::compare::{eflags, undefined_bits};
use super::forms::{self, Form};
use super::layout::{CODE, HIGH, LOW, PAGE};
use super::machine::Pair;
use super::rng::{Rng, case_seed};
use super::spots;
use super::state::{RSP, State, USER_CS, USER_CS32};

/// Registers that address memory.
const ANCHORS_64: &[usize] = &[12, 13, 14, 15];
const ANCHORS_32: &[usize] = &[3];

/// The registers that address memory in a mode.
pub fn anchors(bits: u32) -> &'static [usize] {
    if bits == 64 { ANCHORS_64 } else { ANCHORS_32 }
}

/// The forms of a mode that usually complete, found by trying them.
pub fn pool(pair: &mut Pair, bits: u32) -> Vec<Form> {
    const TRIES: u64 = 8;
    forms::tested(bits)
        .into_iter()
        .filter(|&form| {
            let done = (0..TRIES).filter(|&n| {
                let mut rng = Rng::new(case_seed(1, form.code as u64, n));
                build::case(&mut rng, form).is_ok_and(|case| pair.completes(&case))
            });
            forms::on_host(form) && fits(form) && done.count() as u64 * 2 >= TRIES
        })
        .collect()
}

/// Whether a form makes sense within a block: it goes on to the next, addresses memory explicitly
/// or not at all, and leaves nothing to the processor but flags.
fn fits(form: Form) -> bool {
    let mut i = Instruction::default();
    i.set_code(form.code);
    let name = format!("{:?}", i.mnemonic());
    // Linux has segments of its own that a random selector finds.
    let selector = matches!(i.mnemonic(), M::Lar | M::Lsl | M::Verr | M::Verw)
        || form.code.op_code().op0_kind() == OpCodeOperandKind::seg_reg;
    // How much of its slot a pushed selector fills differs.
    let selector = selector || name.starts_with("Push") && pushes_selector(form);
    let odd = selector
        || matches!(i.mnemonic(), M::Popf | M::Popfd | M::Popfq | M::Enter | M::Leave | M::Xlatb)
        || matches!(i.mnemonic(), M::Emms | M::Fnsave | M::Frstor | M::Fldenv | M::Fnstenv)
        || name.contains("askmov")
        || name.contains("gather")
        || name.contains("Xsave")
        || name.contains("Fxsave")
        || name.contains("rstor");
    i.flow_control() == FlowControl::Next && !odd
}

fn pushes_selector(form: Form) -> bool {
    let name = format!("{:?}", form.code);
    ["CS", "DS", "ES", "FS", "GS", "SS"].iter().any(|segment| name.ends_with(segment))
}

/// Flags that are undefined after all of `instructions`.
pub fn undefined_after(instructions: &[Instruction]) -> u64 {
    instructions.iter().fold(0, |undefined, i| {
        let defined = eflags(i.rflags_modified()) & !undefined_bits(i);
        // What changes them depends on a count may leave them as they are.
        let defined = if by_count(i) { 0 } else { defined };
        undefined & !defined | undefined_bits(i)
    })
}

fn by_count(i: &Instruction) -> bool {
    matches!(
        i.mnemonic(),
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd
    )
}

/// True if `i` shows flags that may be undefined.
pub fn shows(i: &Instruction, undefined: u64) -> bool {
    let all = matches!(i.mnemonic(), M::Pushf | M::Pushfd | M::Pushfq | M::Lahf);
    undefined != 0 && (all || eflags(i.rflags_read()) & undefined != 0)
}

/// A random block of forms from the pool.
pub fn case(rng: &mut Rng, pool: &[Form], bits: u32) -> Case {
    let anchors = anchors(bits);
    let mut state = State::random(rng, if bits == 64 { USER_CS } else { USER_CS32 });
    // Alignment checks have their own rules by processor.
    state.rflags &= !(1 << 18);
    let mut arena = || if bits == 64 && rng.chance(1, 2) { HIGH } else { LOW };
    let (code_base, stack_base) = (arena(), arena());
    for &n in anchors {
        let base = arena();
        state.gpr[n] = base + 0x8000;
    }
    for n in [RSP, 6, 7] {
        state.gpr[n] = spots::harmless(rng, stack_base) & !7;
    }
    state.gpr[1] = rng.below(40);
    let fixed = state.gpr;
    let mut offset = 64 + rng.below(7000) as usize;
    if rng.chance(1, 4) {
        offset = PAGE as usize - rng.below(40) as usize;
    }
    let start = code_base + CODE as u64 * PAGE + offset as u64;
    let mut builder = Builder::new(rng, state, bits, start);
    builder.anchors = anchors;
    let length = 5 + builder.rng.below(16) as usize;
    let (mut code, mut instructions) = (Vec::new(), Vec::new());
    let mut undefined = 0;
    let mut factory = InstructionInfoFactory::new();
    while instructions.len() < length {
        let form = builder.rng.pick(pool);
        builder.ip = start + code.len() as u64;
        let built = builder.instruction(form);
        for &n in anchors.iter().chain(&[1, RSP, 6, 7]) {
            builder.state.gpr[n] = fixed[n];
        }
        let Ok(built) = built else { continue };
        let Some((bytes, seen)) = encode(bits, &built, builder.ip) else { continue };
        if seen.code() != form.code || unfit(&seen) || shows(&seen, undefined) {
            continue;
        }
        let keeps = factory.info(&seen).used_registers().iter().all(|used| {
            let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            let register = used.register();
            !written || !register.is_gpr() || !anchors.contains(&register.full_register().number())
        });
        if !keeps || offset + code.len() + bytes.len() >= 2 * PAGE as usize {
            continue;
        }
        code.extend_from_slice(&bytes);
        instructions.push(seen);
        undefined = undefined_after(&instructions);
    }
    let (mut state, patches) = (builder.state, builder.patches);
    state.rip = start;
    state.rflags &= !(1 << 18);
    Case { state, code, offset, instructions, patches }
}

/// What depends on the values that registers happen to have: string instructions with a prefix run
/// into the end of the pages, bit offsets lead anywhere, shifts beyond the operand are undefined.
pub fn unfit(i: &Instruction) -> bool {
    let double = matches!(i.mnemonic(), M::Shld | M::Shrd)
        && i.op1_register().size() == 2
        && i.op2_kind() == OpKind::Register;
    let bit = matches!(i.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && i.op0_kind() == OpKind::Memory
        && i.op1_kind() == OpKind::Register;
    bit || double || super::tune::string(i) && (i.has_rep_prefix() || i.has_repne_prefix())
}
