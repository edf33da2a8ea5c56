//! Code that no assembler makes: random bytes, prefixes without end, jumps into the middle of
//! instructions. There is no host to compare with, as it might call the kernel: all tiers must agree.

use iced_x86::{Decoder, Instruction};
use kvm_engine_soft::TranslationPolicy;

use super::blocks;
use super::compare::{ARITHMETIC, undefined_bits};
use super::forms::Form;
use super::guest::Guest;
use super::host::decoder_options;
use super::layout::{CODE, HIGH, LOW, PAGE, data_pages};
use super::rng::Rng;
use super::spots;
use super::state::{RSP, State, USER_CS, USER_CS32, vector};

/// Instructions of a run.
const MOST: u64 = 300;

/// Random code and where it begins.
#[derive(Clone, Debug)]
pub struct Noise {
    state: State,
    code: Vec<u8>,
    offset: usize,
    bits: u32,
}

/// One instruction's worth of bytes with many prefixes; or hardly.
fn prefixed(rng: &mut Rng, code: &mut Vec<u8>) {
    const PREFIXES: [u8; 11] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];
    let count = if rng.chance(1, 3) { rng.below(17) } else { rng.below(4) };
    for _ in 0..count {
        code.push(rng.pick(&PREFIXES));
    }
    if rng.chance(1, 2) {
        code.push(0x40 | rng.below(16) as u8);
    }
    match rng.below(8) {
        0..3 => {}
        3 | 4 => code.push(0x0f),
        5 => code.extend_from_slice(&[0x0f, rng.pick(&[0x38, 0x3a])]),
        6 => code.extend_from_slice(&[0xc5, rng.next() as u8]),
        _ => code.extend_from_slice(&[0xc4, rng.next() as u8 & 0xe3, rng.next() as u8]),
    }
    // Opcode, ModRM and what may follow.
    for _ in 0..2 + rng.below(6) {
        code.push(rng.next() as u8);
    }
}

/// Random code of one kind or another.
pub fn case(rng: &mut Rng, pool: &[Form], bits: u32) -> Noise {
    let mut state = State::random(rng, if bits == 64 { USER_CS } else { USER_CS32 });
    let mut code = Vec::new();
    let mut offset = 64 + rng.below(3900) as usize;
    match rng.below(3) {
        0 => code.extend((0..20 + rng.below(60)).map(|_| rng.next() as u8)),
        1 => (0..4 + rng.below(8)).for_each(|_| prefixed(rng, &mut code)),
        _ => {
            // What makes sense, with some bytes changed, and jumps to anywhere in it.
            let case = blocks::case(rng, pool, bits);
            (state, code, offset) = (case.state, case.code, case.offset);
            for _ in 0..rng.below(3) {
                let at = rng.below(code.len() as u64) as usize;
                code[at] = rng.next() as u8;
            }
            for _ in 0..1 + rng.below(3) {
                let at = rng.below(code.len() as u64) as usize;
                let distance = rng.below(60) as i8 - 40;
                code.splice(at..(at + 2).min(code.len()), [0xeb, distance.cast_unsigned()]);
            }
        }
    }
    if state.rip == 0 {
        for n in 0..16 {
            if n == RSP || rng.chance(1, 2) {
                let low = bits == 32 || rng.chance(1, 2);
                state.gpr[n] = spots::random(rng, low, 8);
            }
        }
        let base = if bits == 64 && rng.chance(1, 2) { HIGH } else { LOW };
        state.rip = base + CODE as u64 * PAGE + offset as u64;
    }
    code.truncate(2 * PAGE as usize - offset);
    Noise { state, code, offset, bits }
}

/// Two tiers.
#[derive(Debug)]
pub struct Tiers {
    tested: Guest,
    interpreter: Guest,
    policy: TranslationPolicy,
    template: Vec<(usize, Vec<u8>)>,
}

impl Tiers {
    pub fn new(policy: TranslationPolicy) -> Self {
        let mut rng = Rng::new(0x6e_6f69_7365);
        let page = |rng: &mut Rng| (0..PAGE / 32).flat_map(|_| vector(rng)).collect();
        let template = data_pages().map(|n| (n, page(&mut rng))).collect();
        let (tested, interpreter) = (Guest::new(policy), Guest::new(TranslationPolicy::OFF));
        Self { tested, interpreter, policy, template }
    }

    fn prepare(&mut self, noise: &Noise) {
        for guest in [&mut self.tested, &mut self.interpreter] {
            for (page, bytes) in &self.template {
                guest.bytes(*page).copy_from_slice(bytes);
            }
            guest.set_code(0, &[0xcc; 2 * PAGE as usize]);
            guest.set_code(noise.offset, &noise.code);
        }
    }

    /// Runs it on both. Yields whether they agreed on something.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&mut self, noise: &Noise) -> Result<bool, String> {
        let translates = self.policy.threshold != 0;
        // A second time with all of it translated. Data and code start anew.
        for _ in 0..2 {
            self.prepare(noise);
            let (end, seen) = self.tested.run_for(&noise.state, MOST);
            let (wanted_end, wanted) = self.interpreter.run_for(&noise.state, MOST);
            let odd = end.is_err() && !matches!(&end, Err(why) if why.contains("Count"));
            let mask = if translates { ARITHMETIC } else { 0 };
            let show = |end: &Result<_, String>, seen: &super::guest::Seen| {
                let mut regs = seen.regs;
                regs.rflags &= !mask;
                let end = end.as_ref().map(|o: &super::state::Outcome| {
                    let s = &o.state;
                    (o.event, s.rip, s.rflags & !mask, s.gpr, s.cs, s.ss, s.data_segments)
                });
                format!("{end:x?} {regs:x?}")
            };
            let (a, b) = (show(&wanted_end, &wanted), show(&end, &seen));
            let mut found = Vec::new();
            if a != b {
                found.push(format!("interpreter: {a}\n  this:        {b}"));
            }
            if wanted.area != seen.area {
                found.push("vector registers".into());
            }
            for page in data_pages().chain([CODE, CODE + 1]) {
                if self.tested.bytes(page) != self.interpreter.bytes(page) {
                    found.push(format!("page {page}"));
                }
            }
            if odd {
                self.tested = Guest::new(self.policy);
                self.interpreter = Guest::new(TranslationPolicy::OFF);
            }
            if !found.is_empty() {
                if self.leaves_flags_open(noise) {
                    return Ok(false);
                }
                let (code, state) = (&noise.code, &noise.state);
                let at = state.rip;
                return Err(format!(
                    "{code:02x?} at {at:#x}\n  {}\n  {:x?}",
                    found.join("\n  "),
                    state.gpr
                ));
            }
        }
        Ok(true)
    }

    /// Whether some instruction that is executed leaves flags undefined, which tiers may fill
    /// differently.
    fn leaves_flags_open(&mut self, noise: &Noise) -> bool {
        for n in 0..MOST {
            self.prepare(noise);
            let (end, seen) = self.interpreter.run_for(&noise.state, n);
            if !matches!(&end, Err(why) if why.contains("Count")) {
                return false;
            }
            let i = self.instruction(seen.regs.rip, noise.bits);
            if undefined_bits(&i) != 0 {
                return true;
            }
        }
        false
    }

    /// What the interpreter would execute at an address.
    fn instruction(&mut self, rip: u64, bits: u32) -> Instruction {
        let code =
            [self.interpreter.bytes(CODE).to_vec(), self.interpreter.bytes(CODE + 1).to_vec()];
        let code = code.concat();
        let at = (rip & 0xffff).wrapping_sub(CODE as u64 * PAGE) as usize;
        let rest = code.get(at..).unwrap_or_default();
        Decoder::with_ip(bits, rest, rip, decoder_options()).decode()
    }
}
