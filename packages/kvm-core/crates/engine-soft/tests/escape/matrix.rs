//! Accesses at and around every boundary, against what the page tables say.

use std::fmt::Write as _;

use iced_x86::{Code, Encoder, Formatter, Instruction, IntelFormatter};
use kvm_abi::exit::Exit;

use super::aim;
use super::fence::Neighbour;
use super::layout::{CODE_AT, PAGE, SPARE_AT, canonical, data_pages, edges, find, piece};
use super::machine::{End, Machine, State, Who};
use super::number;
use super::ops::{self, Access, Op, Place};
use super::rng::{Rng, case_seed};

const SEED: u64 = 0x6573_6361_7065;
pub const INT3: u8 = 0xcc;
const BREAKPOINT: u8 = 3;
const RSP: usize = 4;
const RBP: usize = 5;

/// What must happen.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Fault { vector: u8, error: u64, cr2: u64 },
    Completes,
}

struct Case {
    op: Op,
    who: Who,
    target: u64,
    state: State,
    instruction: Instruction,
    code: Vec<u8>,
    offset: u64,
    stack: bool,
}

impl Case {
    /// A case of `op` at `target`; `None` if the addressing form cannot reach it.
    fn new(rng: &mut Rng, op: Op, target: u64, who: Who) -> Option<Self> {
        let near =
            CODE_AT.iter().min_by_key(|&&at| target.wrapping_sub(at).min(at.wrapping_sub(target)));
        let base = if rng.chance(1, 2) { *near? } else { rng.pick(&CODE_AT) };
        let offset = match rng.below(4) {
            0 => PAGE - 1 - rng.below(16),
            _ => 64 + rng.below(PAGE - 128),
        };
        let mut gpr = [0; 16];
        gpr.iter_mut().for_each(|r| *r = rng.value());
        gpr[RSP] = SPARE_AT + PAGE / 2;
        gpr[6] = SPARE_AT + 0x100;
        gpr[7] = SPARE_AT + 0x200;
        let mut state = State { gpr, rip: base + offset, fs: 0, gs: 0 };
        let mut instruction = op.instruction();
        if op.code == Code::Call_rel32_64 {
            instruction.set_near_branch64(state.rip + 64);
        }
        let stack = aim::at(rng, &op, &mut instruction, &mut state, target)?;
        let mut encoder = Encoder::new(64);
        encoder.encode(&instruction, state.rip).ok()?;
        let mut code = encoder.take_buffer();
        code.push(INT3);
        Some(Self { op, who, target, state, instruction, code, offset, stack })
    }

    fn last(&self) -> u64 {
        self.target.wrapping_add(self.op.size - 1)
    }

    /// Each page of the operand: its first byte in it.
    fn pages(&self) -> Vec<u64> {
        let second = self.last() & !(PAGE - 1);
        if self.target & !(PAGE - 1) == second {
            vec![self.target]
        } else {
            vec![self.target, second]
        }
    }

    fn expected(&self) -> Expected {
        let fault = |vector, error, cr2| Expected::Fault { vector, error, cr2 };
        if self.target & (self.op.align - 1) != 0 {
            return fault(13, 0, 0);
        }
        // The mantissa of a ten-byte number comes before the rest.
        let first = if self.op.size == 10 { 8 } else { self.op.size };
        if !canonical(self.target) || !canonical(self.target.wrapping_add(first - 1)) {
            return fault(if self.stack { 12 } else { 13 }, 0, 0);
        }
        let write = self.op.access != Access::Read;
        let mut error = if write { 2 } else { 0 };
        if self.who == Who::User {
            error |= 4;
        }
        for at in self.pages() {
            match find(at) {
                _ if !canonical(at) => return fault(if self.stack { 12 } else { 13 }, 0, 0),
                None => return fault(14, error, at),
                Some(_) if self.who == Who::SupervisorKept => return fault(14, error | 1, at),
                Some(page) if write && !page.writable => return fault(14, error | 1, at),
                Some(_) => {}
            }
        }
        Expected::Completes
    }

    /// Guest physical addresses of the operand's bytes.
    fn physical(&self) -> Vec<u64> {
        (0..self.op.size)
            .filter_map(|n| {
                let at = self.target.wrapping_add(n);
                Some(find(at)?.gpa + (at & (PAGE - 1)))
            })
            .collect()
    }

    /// True if some byte is not in RAM that may be accessed so.
    fn leaves(&self) -> bool {
        let write = self.op.access != Access::Read;
        self.physical().iter().any(|&gpa| match piece(gpa) {
            None => true,
            Some((n, _)) => write && super::layout::PIECES[n].readonly,
        })
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        IntelFormatter::new().format(&self.instruction, &mut text);
        let mut out = format!(
            "{text} at {:#x} as {:?}, operand at {:#x}\n",
            self.state.rip, self.who, self.target
        );
        let _ =
            writeln!(out, "  {:02x?} fs {:#x} gs {:#x}", self.code, self.state.fs, self.state.gs);
        let _ = writeln!(out, "  {:x?}", self.state.gpr);
        out
    }
}

pub struct Rig {
    pub machine: Machine,
    /// What the pages under test hold.
    shadow: Vec<(u64, Vec<u8>)>,
    pub ran: u64,
}

impl Rig {
    pub fn new(neighbour: Neighbour) -> Self {
        let mut machine = Machine::new(neighbour);
        let mut rng = Rng::new(SEED);
        let shadow: Vec<_> = data_pages()
            .into_iter()
            .map(|gpa| {
                // Small numbers: as a pointer or a number they harm nobody.
                let bytes: Vec<u8> = (0..PAGE).map(|_| rng.below(100) as u8).collect();
                let (n, at) = piece(gpa).unwrap();
                machine.bytes(n)[at..at + PAGE as usize].copy_from_slice(&bytes);
                (gpa, bytes)
            })
            .collect();
        Self { machine, shadow, ran: 0 }
    }

    /// Puts bytes into RAM under test, as far as it is.
    pub fn patch(&mut self, physical: &[u64], bytes: &[u8]) {
        for (&gpa, &byte) in physical.iter().zip(bytes) {
            if let Some((n, at)) = piece(gpa) {
                self.machine.bytes(n)[at] = byte;
            }
            if let Some((_, page)) = self.shadow.iter_mut().find(|(p, _)| *p == gpa & !(PAGE - 1)) {
                page[(gpa & (PAGE - 1)) as usize] = byte;
            }
        }
    }

    fn run(&mut self, case: &Case) -> Result<(), String> {
        self.ran += 1;
        let physical = case.physical();
        let next = case.state.rip + case.code.len() as u64 - 1;
        // What is read must make sense.
        let content = match case.op.code {
            Code::Ldmxcsr_m32 => Some(0x1f80u32.to_le_bytes().to_vec()),
            _ => case.op.jumps.then(|| next.to_le_bytes().to_vec()),
        };
        if let Some(content) = content {
            if case.leaves() {
                return Ok(());
            }
            self.patch(&physical, &content);
        }
        self.machine.set_code(case.offset, &case.code);
        if case.op.code == Code::Call_rel32_64 {
            self.machine.set_code(case.offset + 64, &[INT3]);
        }
        self.machine.load(&case.state, case.who);
        let before = self.machine.vcpu.xsave();
        let expected = case.expected();
        let mut exits = 0;
        let (gpr, end) = loop {
            match self.machine.run() {
                Exit::Hlt => break self.machine.end(),
                Exit::Mmio { write, gpa, len, .. } => {
                    let all = (gpa..gpa + u64::from(len)).all(|at| physical.contains(&at));
                    if !all || expected != Expected::Completes || !case.leaves() || exits > 64 {
                        return Err(format!("leaves for {gpa:#x}"));
                    }
                    exits += 1;
                    if !write {
                        self.machine.vcpu.complete_read(&vec![1; usize::from(len)]);
                    }
                }
                exit => return Err(format!("{exit:?}")),
            }
        };
        self.judge(case, &expected, &gpr, end, next, &before)?;
        if expected == Expected::Completes && case.leaves() != (exits > 0) {
            return Err(format!("{exits} exits"));
        }
        let stores = expected == Expected::Completes && case.op.access != Access::Read;
        self.compare(if stores { &physical } else { &[] })?;
        let fence = self.machine.fence.as_ref().unwrap();
        if fence.untouched() { Ok(()) } else { Err("a canary changed".into()) }
    }

    fn judge(
        &mut self,
        case: &Case,
        expected: &Expected,
        gpr: &[u64; 16],
        end: End,
        next: u64,
        before: &[u8],
    ) -> Result<(), String> {
        match *expected {
            Expected::Fault { vector, error, cr2 } => {
                let wanted = End { vector, error, cr2, rip: case.state.rip };
                if end != wanted {
                    return Err(format!("{end:x?} instead of {wanted:x?}"));
                }
                if *gpr != case.state.gpr {
                    return Err(format!("registers changed: {gpr:x?}"));
                }
                if self.machine.vcpu.xsave() != before {
                    return Err("vector registers changed".into());
                }
            }
            Expected::Completes => {
                let landed =
                    if case.op.code == Code::Call_rel32_64 { case.state.rip + 64 } else { next };
                let wanted = End { vector: BREAKPOINT, error: 0, cr2: 0, rip: landed + 1 };
                if end != wanted {
                    return Err(format!("{end:x?} instead of {wanted:x?}"));
                }
                return self.loaded(case, gpr);
            }
        }
        Ok(())
    }

    /// Compares what plain loads loaded.
    fn loaded(&mut self, case: &Case, gpr: &[u64; 16]) -> Result<(), String> {
        if case.leaves() {
            return Ok(());
        }
        let wanted: Vec<u8> = case
            .physical()
            .iter()
            .map(|&gpa| {
                let (n, at) = piece(gpa).unwrap();
                self.machine.bytes(n)[at]
            })
            .collect();
        let got = match case.op.code {
            Code::Mov_r8_rm8 | Code::Mov_r16_rm16 | Code::Mov_r32_rm32 | Code::Mov_r64_rm64 => {
                gpr[2].to_le_bytes().to_vec()
            }
            Code::Pop_r64 | Code::Pop_r16 => gpr[2].to_le_bytes().to_vec(),
            Code::Leaveq => gpr[RBP].to_le_bytes().to_vec(),
            Code::Lodsb_AL_m8 | Code::Lodsq_RAX_m64 => gpr[0].to_le_bytes().to_vec(),
            Code::Movups_xmm_xmmm128 | Code::Movdqu_xmm_xmmm128 | Code::Movaps_xmm_xmmm128 => {
                self.machine.vcpu.xsave()[160 + 48..][..16].to_vec()
            }
            Code::VEX_Vmovups_ymm_ymmm256 | Code::VEX_Vmovaps_ymm_ymmm256 => {
                let area = self.machine.vcpu.xsave();
                [&area[160 + 48..][..16], &area[576 + 48..][..16]].concat()
            }
            _ => return Ok(()),
        };
        if got[..wanted.len()] != wanted {
            return Err(format!("loaded {got:02x?} instead of {wanted:02x?}"));
        }
        Ok(())
    }

    /// Looks for changes outside of `stored`, guest physical addresses.
    pub fn compare(&mut self, stored: &[u64]) -> Result<(), String> {
        for (gpa, bytes) in &mut self.shadow {
            let (n, at) = piece(*gpa).unwrap();
            let now = &self.machine.bytes(n)[at..at + PAGE as usize];
            if now == bytes {
                continue;
            }
            let stray = (0..PAGE)
                .find(|&o| now[o as usize] != bytes[o as usize] && !stored.contains(&(*gpa + o)));
            bytes.copy_from_slice(now);
            if let Some(o) = stray {
                return Err(format!("stored to {:#x}", *gpa + o));
            }
        }
        Ok(())
    }
}

/// Addresses around a boundary for an access of `size` bytes.
pub fn around(edge: u64, size: u64) -> Vec<u64> {
    let mut all: Vec<u64> =
        (0..=size.min(16) + 1).map(|k| edge.wrapping_add(1).wrapping_sub(k)).collect();
    if size > 16 {
        all.extend([17, size - 8, size - 1, size].map(|k| edge.wrapping_sub(k)));
    }
    // One page beyond, and one page before.
    all.extend([edge.wrapping_add(PAGE), edge.wrapping_sub(PAGE), edge.wrapping_sub(2 * size)]);
    all
}

fn one(rig: &mut Rig, seed: u64, op: Op, target: u64, smap: bool) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let who = match (smap, rng.below(8)) {
        (_, 0..4) => Who::User,
        // Of two operands either may be the first to fault.
        (true, 4) if !op.two() => Who::SupervisorKept,
        (true, _) => Who::SupervisorAc,
        (false, _) => Who::Supervisor,
    };
    assert!(rig.machine.allows(who));
    let Some(case) = (0..8).find_map(|_| Case::new(&mut rng, op, target, who)) else {
        return Ok(());
    };
    // A second time with all translations at hand.
    for _ in 0..2 {
        rig.run(&case).map_err(|why| format!("CASE={seed:#x} {why}\n  {}", case.describe()))?;
        if op.access != Access::Read || op.place == Place::Modrm && !rng.chance(1, 2) {
            break;
        }
    }
    Ok(())
}

fn run(neighbour: Neighbour, part: u64) {
    let start = number("SEED").unwrap_or(SEED);
    let rounds = if number("LONG").is_some() { 100 } else { 1 };
    let only = number("CASE");
    let ops = ops::all();
    let mut rig = Rig::new(neighbour);
    let mut failures = Vec::new();
    let mut n = 0;
    for round in 0..rounds {
        for smap in [false, true] {
            rig.machine.set_smap(smap);
            for (edge, &op) in edges().iter().flat_map(|e| ops.iter().map(move |op| (e, op))) {
                for target in around(*edge, op.size) {
                    n += 1;
                    let seed = case_seed(start, round, n);
                    // In the short run each of them with one setting of SMAP or the other.
                    let due = rounds > 1 || seed % (2 * part) == u64::from(smap);
                    if only.map_or(!due, |only| only != seed) {
                        continue;
                    }
                    if let Err(why) = one(&mut rig, seed, op, target, smap) {
                        failures.push(why);
                    }
                }
            }
        }
    }
    println!("{} accesses, seed {start:#x}", rig.ran);
    let shown = failures.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} fail\n{shown}", failures.len());
    rig.machine.fence.take().unwrap().finish();
}

#[test]
fn every_boundary_holds() {
    run(Neighbour::Canary, 1);
}

#[test]
fn nothing_is_read_beyond_a_boundary() {
    run(Neighbour::Nothing, 4);
}
