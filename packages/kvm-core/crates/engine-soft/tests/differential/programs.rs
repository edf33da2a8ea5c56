//! Programs: segments of straight-line code that jump to each other, loop, call, and change each
//! other's instructions.
//!
//! Every segment begins with a guard that takes one off a counter, so that every program ends.

use iced_x86::{Code, Decoder, Instruction, InstructionInfoFactory, OpAccess};

use super::blocks::{self, undefined_after};
use super::build::{Builder, Case, encode};
use super::compare::eflags;
use super::forms::Form;
use super::layout::{CODE, HIGH, LOW, PAGE};
use super::rng::Rng;
use super::spots;
use super::state::{RSP, State, USER_CS, USER_CS32};

/// The counter of the guards: R11 or EBP.
fn counter(bits: u32) -> usize {
    if bits == 64 { 11 } else { 5 }
}

/// What a displacement of four bytes refers to.
#[derive(Clone, Copy, Debug)]
enum Label {
    Segment(usize),
    End,
    /// A byte that stores change, by its offset.
    Byte(usize),
}

#[derive(Clone, Copy, Debug)]
struct Fixup {
    /// Where the displacement is.
    at: usize,
    /// End of its instruction.
    end: usize,
    label: Label,
}

/// An instruction that others change.
#[derive(Clone, Copy, Debug)]
struct Marker {
    /// The byte that changes.
    at: usize,
    /// It is an immediate operand, not an opcode.
    operand: bool,
    /// Bytes of the operand.
    bytes: usize,
}

struct Program<'a> {
    bits: u32,
    builder: Builder<'a>,
    start: u64,
    code: Vec<u8>,
    fixups: Vec<Fixup>,
    markers: Vec<Marker>,
    /// Stores to markers that may not exist yet.
    patches: Vec<Fixup>,
    segments: Vec<usize>,
    fixed: [u64; 16],
    factory: InstructionInfoFactory,
    /// What an instruction of one byte may become.
    opcodes: &'static [u8],
}

/// Opcodes of one byte that a NOP may become: CWDE, CDQ, CLD.
const ONE_BYTE: &[u8] = &[0x90, 0x98, 0x99, 0xfc];
/// With CLC and STC. Translated code does not keep a flag that the next instructions overwrite, also
/// where a store on the way there changes these instructions.
const WITH_FLAGS: &[u8] = &[0x90, 0x98, 0x99, 0xfc, 0xf8, 0xf9];

impl Program<'_> {
    fn rng(&mut self) -> &mut Rng {
        self.builder.rng
    }

    fn refer(&mut self, label: Label, after: usize) {
        let at = self.code.len();
        self.code.extend_from_slice(&[0; 4]);
        self.fixups.push(Fixup { at, end: at + 4 + after, label });
    }

    /// `sub counter, 1; jz end`: all flags are defined behind it.
    fn guard(&mut self) {
        if self.bits == 64 {
            self.code.extend_from_slice(&[0x41, 0x83, 0xeb, 1]);
        } else {
            self.code.extend_from_slice(&[0x83, 0xed, 1]);
        }
        self.code.extend_from_slice(&[0x0f, 0x84]);
        self.refer(Label::End, 0);
    }

    /// One instruction out of the pool, if the first that comes fits.
    fn plain(&mut self, pool: &[Form], behind: &[Instruction]) -> Option<Instruction> {
        let form = self.builder.rng.pick(pool);
        self.builder.ip = self.start + self.code.len() as u64;
        let built = self.builder.instruction(form);
        self.builder.state.gpr = self.fixed;
        let (bytes, seen) = encode(self.bits, &built.ok()?, self.builder.ip)?;
        if seen.code() != form.code
            || blocks::unfit(&seen)
            || blocks::shows(&seen, undefined_after(behind))
        {
            return None;
        }
        let counter = counter(self.bits);
        let kept = |n: usize| n == counter || self.builder.anchors.contains(&n);
        let writes = |access| !matches!(access, OpAccess::Read | OpAccess::CondRead);
        let used = self.factory.info(&seen).used_registers();
        let keeps = used.iter().all(|u| {
            let register = u.register();
            !(writes(u.access()) && register.is_gpr() && kept(register.full_register().number()))
        });
        keeps.then(|| {
            self.code.extend_from_slice(&bytes);
            seen
        })
    }

    /// An instruction that others change.
    fn marker(&mut self) {
        let (bytes, at, operand, len): (&[u8], usize, bool, usize) = match self.rng().below(4) {
            0 => (&[0x83, 0xc2, 1], 2, true, 1),
            1 => (&[0xb8, 1, 2, 3, 4], 1, true, 4),
            2 => (&[0x34, 0x55], 1, true, 1),
            _ => (&[0x90], 0, false, 1),
        };
        let at = self.code.len() + at;
        self.code.extend_from_slice(bytes);
        self.markers.push(Marker { at, operand, bytes: len });
    }

    /// A store to a marker, which one is decided at the end; for now it takes any.
    fn patch(&mut self) {
        // mov byte ptr [x], imm8, the only one that may change an opcode.
        self.code.extend_from_slice(&[0xc6, 0x05]);
        let at = self.code.len();
        let value = self.rng().next() as u8;
        self.code.extend_from_slice(&[0, 0, 0, 0, value]);
        self.patches.push(Fixup { at, end: at + 5, label: Label::End });
    }

    /// A read-modify-write of a marker's operand, or a wider store, where the marker is known.
    fn patch_known(&mut self) {
        let known: Vec<Marker> = self.markers.iter().filter(|m| m.operand).copied().collect();
        if known.is_empty() {
            return;
        }
        let marker = self.rng().pick(&known);
        let (bytes, tail): (&[u8], &[u8]) = match self.rng().below(5) {
            // inc byte; lock add byte, dl; xchg byte, al; mov byte, dl
            0 => (&[0xfe, 0x05], &[]),
            1 => (&[0xf0, 0x00, 0x15], &[]),
            2 => (&[0x86, 0x05], &[]),
            3 => (&[0x88, 0x15], &[]),
            // mov dword, imm32, or add byte, imm8
            _ if marker.bytes == 4 => (&[0xc7, 0x05], &[0x78, 0x56, 0x34, 0x12]),
            _ => (&[0x80, 0x05], &[0x11]),
        };
        self.code.extend_from_slice(bytes);
        self.refer(Label::Byte(marker.at), tail.len());
        self.code.extend_from_slice(tail);
    }

    /// How a segment goes on: by a branch, or by falling through.
    fn terminator(&mut self, behind: &[Instruction], count: usize) {
        let to = Label::Segment(self.rng().below(count as u64) as usize);
        match self.rng().below(10) {
            0 => {
                self.code.push(0xe9);
                self.refer(to, 0);
            }
            1 => {
                self.code.push(0xe8);
                self.refer(to, 0);
            }
            2 => self.code.push(0xc3),
            3 if self.bits == 64 => {
                // lea rax, [x]; jmp rax
                self.code.extend_from_slice(&[0x48, 0x8d, 0x05]);
                self.refer(to, 0);
                self.code.extend_from_slice(&[0xff, 0xe0]);
            }
            4 => {}
            _ => {
                let condition = self.rng().below(16) as u8;
                let mut jump = Instruction::default();
                jump.set_code(CONDITIONS[usize::from(condition)]);
                if eflags(jump.rflags_read()) & undefined_after(behind) == 0 {
                    self.code.extend_from_slice(&[0x0f, 0x80 | condition]);
                    self.refer(to, 0);
                }
            }
        }
    }

    /// Lets every displacement refer to its label. Code that is not 64-bit has absolute addresses.
    fn link(&mut self) {
        let markers = self.markers.clone();
        for mut patch in std::mem::take(&mut self.patches) {
            if markers.is_empty() {
                // Onto its own operand, which it has executed already.
                patch.label = Label::Byte(patch.end - 1);
            } else {
                let marker = self.rng().pick(&markers);
                patch.label = Label::Byte(marker.at);
                if !marker.operand {
                    self.code[patch.end - 1] = self.builder.rng.pick(self.opcodes);
                }
            }
            self.fixups.push(patch);
        }
        let end = self.code.len();
        for Fixup { at, end: next, label } in std::mem::take(&mut self.fixups) {
            let (target, data) = match label {
                Label::Segment(n) => (self.segments[n], false),
                Label::End => (end, false),
                Label::Byte(at) => (at, true),
            };
            let value = if data && self.bits == 32 {
                self.start as u32 + target as u32
            } else {
                (target as u32).wrapping_sub(next as u32)
            };
            self.code[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
}

const CONDITIONS: [Code; 16] = [
    Code::Jo_rel32_64,
    Code::Jno_rel32_64,
    Code::Jb_rel32_64,
    Code::Jae_rel32_64,
    Code::Je_rel32_64,
    Code::Jne_rel32_64,
    Code::Jbe_rel32_64,
    Code::Ja_rel32_64,
    Code::Js_rel32_64,
    Code::Jns_rel32_64,
    Code::Jp_rel32_64,
    Code::Jnp_rel32_64,
    Code::Jl_rel32_64,
    Code::Jge_rel32_64,
    Code::Jle_rel32_64,
    Code::Jg_rel32_64,
];

/// How many segments a program executes at most.
const TURNS: u64 = 100;

/// A random program of forms from the pool. With `exact_flags` it may change which flags are needed.
pub fn case(rng: &mut Rng, pool: &[Form], bits: u32, exact_flags: bool) -> Case {
    let anchors = blocks::anchors(bits);
    let mut state = State::random(rng, if bits == 64 { USER_CS } else { USER_CS32 });
    state.rflags &= !(1 << 18);
    let mut arena = || if bits == 64 && rng.chance(1, 2) { HIGH } else { LOW };
    let (code_base, stack_base) = (arena(), arena());
    for &n in anchors {
        state.gpr[n] = arena() + 0x8000;
    }
    for n in [RSP, 6, 7] {
        state.gpr[n] = spots::harmless(rng, stack_base) & !7;
    }
    state.gpr[1] = rng.below(40);
    state.gpr[counter(bits)] = 1 + rng.below(TURNS);
    let fixed = state.gpr;
    // Often across the two pages.
    let offset = if rng.chance(1, 2) { PAGE - rng.below(300) } else { 64 + rng.below(3000) };
    let start = code_base + CODE as u64 * PAGE + offset;
    let mut builder = Builder::new(rng, state, bits, start);
    builder.anchors = anchors;
    let count = 2 + builder.rng.below(6) as usize;
    let mut p = Program {
        bits,
        builder,
        start,
        code: Vec::new(),
        fixups: Vec::new(),
        markers: Vec::new(),
        patches: Vec::new(),
        segments: Vec::new(),
        fixed,
        factory: InstructionInfoFactory::new(),
        opcodes: if exact_flags { WITH_FLAGS } else { ONE_BYTE },
    };
    for _ in 0..count {
        p.segments.push(p.code.len());
        p.guard();
        let mut behind = Vec::new();
        for _ in 0..p.rng().below(12) {
            match p.rng().below(20) {
                0 | 1 => p.marker(),
                2 => p.patch(),
                3 => p.patch_known(),
                _ => behind.extend(p.plain(pool, &behind)),
            }
        }
        p.terminator(&behind, count);
    }
    p.link();
    let code = std::mem::take(&mut p.code);
    let options = super::host::decoder_options();
    let instructions = Decoder::with_ip(bits, &code, start, options).into_iter().collect();
    let (mut state, patches) = (p.builder.state, p.builder.patches);
    state.rip = start;
    state.rflags &= !(1 << 18);
    Case { state, code, offset: offset as usize, instructions, patches }
}

/// True for the parts of a guard, without which a program might not end.
fn guards(case: &Case, n: usize, bits: u32) -> bool {
    let counts = |i: &Instruction| {
        matches!(i.code(), Code::Sub_rm32_imm8) && i.op0_register().number() == counter(bits)
    };
    let before = n.checked_sub(1).map(|n| &case.instructions[n]);
    counts(&case.instructions[n]) || before.is_some_and(counts)
}

/// Replaces instructions by NOPs as long as `fails` says that the rest still fails.
pub fn shrink(mut case: Case, bits: u32, mut fails: impl FnMut(&Case) -> bool) -> Case {
    for n in (0..case.instructions.len()).rev() {
        if guards(&case, n, bits) {
            continue;
        }
        let i = case.instructions[n];
        let at = (i.ip() - case.state.rip) as usize;
        let mut less = case.clone();
        less.code[at..at + i.len()].fill(0x90);
        let mut nop = Instruction::default();
        nop.set_code(Code::Nopd);
        nop.set_ip(i.ip());
        nop.set_len(i.len());
        less.instructions[n] = nop;
        if i.code() != Code::Nopd && fails(&less) {
            case = less;
        }
    }
    case
}
