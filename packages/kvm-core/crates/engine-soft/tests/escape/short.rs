//! The same for 32-bit code of compatibility mode: offsets that wrap at 4 GiB, where there is memory that
//! only 64-bit addresses reach, in segments that are flat and segments that are not.

use iced_x86::{Code, Encoder, Instruction, OpKind, Register};
use kvm_abi::exit::Exit;

use super::fence::Neighbour;
use super::layout::{CODE_AT, PAGE, SPARE_AT, edges, find, piece};
use super::machine::{End, GDT, State};
use super::matrix::{INT3, Rig, around};
use super::number;
use super::ops::{Access, Op, Place};
use super::rng::{Rng, case_seed};
use super::shape::{FLAT, FOUR_GIB, Shape};

const SEED: u64 = 0x7368_6f72_7420;
const FLAT_CODE: u64 = 0x3b;
const FLAT_DATA: u64 = 0x2b;
/// Descriptor and selector of a stack that is not flat.
const OTHER_STACK: u64 = 0x83;
const ES: usize = 0;
const SS: usize = 1;
const DS: usize = 2;
const FS: usize = 3;
const GS: usize = 4;
const RSP: usize = 4;
const RBP: usize = 5;

struct Case {
    op: Op,
    target: u32,
    offset: u32,
    segment: usize,
    shapes: [Shape; 5],
    state: State,
    instruction: Instruction,
    code: Vec<u8>,
    at: u64,
}

/// A general register of 32 or 16 bits.
fn register(first: Register, n: usize) -> Register {
    Register::try_from(first as usize + n).unwrap()
}

impl Case {
    /// `None` if the addressing form that comes up cannot do it.
    fn new(rng: &mut Rng, op: Op, target: u32) -> Option<Self> {
        let base = rng.pick(&[CODE_AT[0], CODE_AT[4]]);
        let at = match rng.below(4) {
            0 => PAGE - 1 - rng.below(16),
            _ => 64 + rng.below(PAGE - 128),
        };
        let mut gpr = [0; 16];
        // Most often as 32-bit code leaves them; else 64-bit code was there before.
        let wide = rng.chance(1, 8);
        gpr.iter_mut().for_each(|r| *r = rng.value() & if wide { u64::MAX } else { 0xffff_ffff });
        gpr[RSP] = SPARE_AT + PAGE / 2;
        (gpr[6], gpr[7]) = (SPARE_AT + 0x100, SPARE_AT + 0x200);
        let state = State { gpr, rip: base + at, fs: 0, gs: 0 };
        let mut case = Self {
            op,
            target,
            offset: 0,
            segment: DS,
            shapes: [FLAT; 5],
            state,
            instruction: op.instruction(),
            code: Vec::new(),
            at,
        };
        if op.code == Code::Call_rel32_32 {
            case.instruction.set_near_branch32((case.state.rip + 64) as u32);
        }
        for n in 0..case.instruction.op_count() {
            match case.instruction.op_kind(n) {
                OpKind::MemorySegRSI => case.instruction.set_op_kind(n, OpKind::MemorySegESI),
                OpKind::MemoryESRDI => case.instruction.set_op_kind(n, OpKind::MemoryESEDI),
                _ => {}
            }
        }
        case.aim(rng)?;
        let mut encoder = Encoder::new(32);
        encoder.encode(&case.instruction, case.state.rip).ok()?;
        case.code = encoder.take_buffer();
        case.code.push(INT3);
        Some(case)
    }

    /// Chooses the shape of the segment and so the offset.
    fn settle(&mut self, rng: &mut Rng, segment: usize) {
        // What else uses the stack wants it flat.
        let must = segment == SS && self.op.two() || segment == ES && self.op.two();
        if !must && rng.chance(1, 2) {
            let size = self.op.size as u32;
            self.shapes[segment] = Shape::around(rng, self.target, size, segment == SS);
        }
        self.segment = segment;
        self.offset = self.target.wrapping_sub(self.shapes[segment].base);
    }

    fn set(&mut self, n: usize, value: u32) {
        let g = &mut self.state.gpr[n];
        *g = *g & !0xffff_ffff | u64::from(value);
    }

    fn aim(&mut self, rng: &mut Rng) -> Option<()> {
        let (size, place) = (self.op.size as u32, self.op.place);
        match place {
            Place::Push | Place::Pop | Place::Leave => {
                self.settle(rng, SS);
                match place {
                    Place::Push => self.state.gpr[RSP] = self.offset.wrapping_add(size).into(),
                    Place::Pop => self.state.gpr[RSP] = self.offset.into(),
                    _ => self.set(RBP, self.offset),
                }
            }
            Place::Destination => {
                self.settle(rng, ES);
                self.set(7, self.offset);
            }
            Place::Source | Place::Offset | Place::Modrm => return self.operand(rng),
        }
        Some(())
    }

    fn operand(&mut self, rng: &mut Rng) -> Option<()> {
        let base = match self.op.place {
            Place::Modrm => Some(rng.below(8) as usize).filter(|&n| n != RSP || !self.op.two()),
            _ => None,
        };
        let prefix = match rng.below(12) {
            0 => Some((Register::ES, ES)),
            1 => Some((Register::SS, SS)),
            2 | 3 => Some((Register::FS, FS)),
            4 => Some((Register::GS, GS)),
            _ => None,
        };
        let short = rng.chance(1, 8) && self.op.place == Place::Modrm;
        let stack = matches!(base, Some(RSP | RBP)) && (!short || base == Some(RBP));
        let segment = prefix.map_or(if stack { SS } else { DS }, |(_, segment)| segment);
        if let Some((register, _)) = prefix {
            self.instruction.set_segment_prefix(register);
        }
        self.settle(rng, segment);
        let offset = self.offset;
        if self.op.place == Place::Source {
            self.set(6, offset);
            return Some(());
        }
        let i = &mut self.instruction;
        if self.op.place == Place::Offset {
            i.set_memory_displ_size(4);
            i.set_memory_displacement64(offset.into());
            return Some(());
        }
        let Some(base) = base else {
            // Nothing but a number.
            i.set_memory_displ_size(4);
            i.set_memory_displacement64(offset.into());
            return Some(());
        };
        let d = match rng.below(4) {
            0 => 0,
            1 => (rng.below(256) as i32 - 128).cast_unsigned(),
            2 => rng.next() as u32,
            _ => rng.pick(&[0x7fff_ffff, 0x7fff_fff0, 0x8000_0000, 0xffff_fff0]),
        };
        i.set_memory_displ_size(u32::from(d != 0 || base == RBP));
        if short {
            // 16 bits of [bx], [bp], [si] or [di].
            if offset > 0xffff || !matches!(base, 3 | RBP | 6 | 7) || self.op.two() {
                return None;
            }
            let d = d & 0xffff;
            i.set_memory_base(register(Register::AX, base));
            i.set_memory_displ_size(u32::from(d != 0 || base == RBP));
            i.set_memory_displacement64(d.into());
            let upper = rng.next() as u32 & 0xffff_0000;
            self.set(base, upper | offset.wrapping_sub(d) & 0xffff);
            return Some(());
        }
        i.set_memory_base(register(Register::EAX, base));
        let mut rest = offset.wrapping_sub(d);
        i.set_memory_displacement64(d.into());
        if rng.chance(1, 2) {
            let index = rng.below(8) as usize;
            if index == RSP || index == base {
                return None;
            }
            let scale = rng.pick(&[1u32, 2, 4, 8]);
            i.set_memory_index(register(Register::EAX, index));
            i.set_memory_index_scale(scale);
            // The sum goes around.
            rest = rest.wrapping_sub((self.state.gpr[index] as u32).wrapping_mul(scale));
        }
        if base == RSP {
            self.state.gpr[RSP] = rest.into();
        } else {
            self.set(base, rest);
        }
        Some(())
    }

    fn write(&self) -> bool {
        self.op.access != Access::Read
    }

    fn linear(&self) -> impl Iterator<Item = u64> {
        let target = self.target;
        (0..self.op.size as u32).map(move |n| target.wrapping_add(n).into())
    }

    fn physical(&self) -> Vec<u64> {
        self.linear().filter_map(|at| Some(find(at)?.gpa + (at & (PAGE - 1)))).collect()
    }

    fn leaves(&self) -> bool {
        self.physical().iter().any(|&gpa| match piece(gpa) {
            None => true,
            Some((n, _)) => self.write() && super::layout::PIECES[n].readonly,
        })
    }

    /// Vector, error code and CR2 of the fault that must come.
    fn fault(&self) -> Option<(u8, u64, u64)> {
        let allowed = self.shapes[self.segment].allows(self.offset, self.op.size, self.write());
        if !allowed {
            return Some((if self.segment == SS { 12 } else { 13 }, 0, 0));
        }
        if u64::from(self.target) & (self.op.align - 1) != 0 {
            return Some((13, 0, 0));
        }
        let error = 4 | u64::from(self.write()) << 1;
        // The first byte in each page.
        let target = u64::from(self.target);
        self.linear().filter(|&at| at == target || at & (PAGE - 1) == 0).find_map(|at| {
            match find(at) {
                None => Some((14, error, at)),
                Some(page) if self.write() && !page.writable => Some((14, error | 1, at)),
                Some(_) => None,
            }
        })
    }

    fn describe(&self) -> String {
        format!(
            "{} {:02x?} at {:#x}, operand at {:#x}, offset {:#x} in {:x?}\n  {:x?}",
            self.instruction,
            self.code,
            self.state.rip,
            self.target,
            self.offset,
            self.shapes[self.segment],
            self.state.gpr
        )
    }

    fn load(&self, rig: &mut Rig) {
        let m = &mut rig.machine;
        m.set_code(self.at, &self.code);
        if self.op.code == Code::Call_rel32_32 {
            m.set_code(self.at + 64, &[INT3]);
        }
        let flat_stack = self.shapes[SS].limit == u32::MAX && self.shapes[SS].base == 0;
        m.write(GDT + (FLAT_CODE & !7), &0x00cf_fb00_0000_ffffu64.to_le_bytes());
        m.write(GDT + (OTHER_STACK & !7), &self.shapes[SS].descriptor().to_le_bytes());
        let mut s = m.vcpu.sregs();
        s.gdt.limit = 0x87;
        let data = |n: usize| self.shapes[n].segment(FLAT_DATA as u16);
        (s.es, s.ds, s.fs, s.gs) = (data(ES), data(DS), data(FS), data(GS));
        m.vcpu.set_sregs(&s).unwrap();
        self.again(rig, if flat_stack { FLAT_DATA } else { OTHER_STACK });
    }

    fn again(&self, rig: &mut Rig, ss: u64) {
        rig.machine.load_into(&self.state, FLAT_CODE, ss, 2);
    }
}

fn all() -> Vec<Op> {
    use Access::{Modify, Read, Write};
    use Place::{Destination, Leave, Offset, Pop, Push, Source};
    let op = Op::new;
    let ops = vec![
        op(Code::Mov_r8_rm8, Read, 1),
        op(Code::Mov_r16_rm16, Read, 2),
        op(Code::Mov_r32_rm32, Read, 4),
        op(Code::Movzx_r32_rm8, Read, 1),
        op(Code::Add_r32_rm32, Read, 4),
        op(Code::Cmp_rm32_r32, Read, 4),
        op(Code::Imul_r32_rm32, Read, 4),
        op(Code::Cmovne_r32_rm32, Read, 4),
        op(Code::Bsf_r32_rm32, Read, 4),
        op(Code::Bound_r32_m3232, Read, 8),
        op(Code::Mov_rm8_r8, Write, 1),
        op(Code::Mov_rm16_r16, Write, 2),
        op(Code::Mov_rm32_r32, Write, 4),
        op(Code::Mov_rm32_imm32, Write, 4),
        op(Code::Setne_rm8, Write, 1),
        op(Code::Movnti_m32_r32, Write, 4),
        op(Code::Add_rm8_r8, Modify, 1),
        op(Code::Inc_rm16, Modify, 2),
        op(Code::Not_rm32, Modify, 4),
        op(Code::Shl_rm32_imm8, Modify, 4),
        op(Code::Sbb_rm32_r32, Modify, 4),
        op(Code::Xchg_rm32_r32, Modify, 4),
        op(Code::Cmpxchg_rm32_r32, Modify, 4),
        op(Code::Xadd_rm32_r32, Modify, 4).locked(),
        op(Code::Add_rm8_r8, Modify, 1).locked(),
        op(Code::Cmpxchg8b_m64, Modify, 8).locked(),
        op(Code::Push_rm32, Read, 4),
        op(Code::Pop_rm32, Write, 4),
        op(Code::Jmp_rm32, Read, 4).jumping(),
        op(Code::Call_rm32, Read, 4).jumping(),
        op(Code::Movups_xmm_xmmm128, Read, 16),
        op(Code::Movups_xmmm128_xmm, Write, 16),
        op(Code::Movaps_xmm_xmmm128, Read, 16).aligned(),
        op(Code::Movaps_xmmm128_xmm, Write, 16).aligned(),
        op(Code::Movss_xmm_xmmm32, Read, 4),
        op(Code::Movsd_xmmm64_xmm, Write, 8),
        op(Code::Movq_mm_mmm64, Read, 8),
        op(Code::Fld_m80fp, Read, 10),
        op(Code::Fstp_m80fp, Write, 10),
        op(Code::VEX_Vmovups_ymm_ymmm256, Read, 32),
        op(Code::VEX_Vmovups_ymmm256_ymm, Write, 32),
        op(Code::Mov_AL_moffs8, Read, 1).at(Offset),
        op(Code::Mov_EAX_moffs32, Read, 4).at(Offset),
        op(Code::Mov_moffs32_EAX, Write, 4).at(Offset),
        op(Code::Push_r32, Write, 4).at(Push),
        op(Code::Push_r16, Write, 2).at(Push),
        op(Code::Pushd_imm32, Write, 4).at(Push),
        op(Code::Pushfd, Write, 4).at(Push),
        op(Code::Call_rel32_32, Write, 4).at(Push),
        op(Code::Pop_r32, Read, 4).at(Pop),
        op(Code::Pop_r16, Read, 2).at(Pop),
        op(Code::Retnd, Read, 4).at(Pop).jumping(),
        op(Code::Retnd_imm16, Read, 4).at(Pop).jumping(),
        op(Code::Leaved, Read, 4).at(Leave),
        op(Code::Lodsb_AL_m8, Read, 1).at(Source),
        op(Code::Lodsd_EAX_m32, Read, 4).at(Source),
        op(Code::Movsb_m8_m8, Read, 1).at(Source),
        op(Code::Movsd_m32_m32, Read, 4).at(Source),
        op(Code::Stosb_m8_AL, Write, 1).at(Destination),
        op(Code::Stosd_m32_EAX, Write, 4).at(Destination),
        op(Code::Movsd_m32_m32, Write, 4).at(Destination),
        op(Code::Scasd_EAX_m32, Read, 4).at(Destination),
    ];
    ops.into_iter().filter(|op| super::on_host(op.code)).collect()
}

fn one(rig: &mut Rig, seed: u64, op: Op, target: u32) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let Some(case) = (0..8).find_map(|_| Case::new(&mut rng, op, target)) else {
        return Ok(());
    };
    // More than once: then all translations are at hand, and the code may be translated.
    for turn in 0..3 {
        run(rig, &case, turn)
            .map_err(|why| format!("CASE={seed:#x} turn {turn}: {why}\n  {}", case.describe()))?;
    }
    Ok(())
}

fn run(rig: &mut Rig, case: &Case, turn: u32) -> Result<(), String> {
    rig.ran += 1;
    let physical = case.physical();
    let next = case.state.rip + case.code.len() as u64 - 1;
    let content = match case.op.code {
        // All numbers are in bounds.
        Code::Bound_r32_m3232 => Some([0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0x7f].to_vec()),
        _ => case.op.jumps.then(|| (next as u32).to_le_bytes().to_vec()),
    };
    if let Some(content) = content {
        if case.leaves() {
            return Ok(());
        }
        rig.patch(&physical, &content);
    }
    if turn == 0 {
        case.load(rig);
    } else {
        let flat = case.shapes[SS].limit == u32::MAX && case.shapes[SS].base == 0;
        case.again(rig, if flat { FLAT_DATA } else { OTHER_STACK });
    }
    let expected = case.fault();
    let mut exits = 0;
    let (gpr, end) = loop {
        match rig.machine.run() {
            Exit::Hlt => break rig.machine.end(),
            Exit::Mmio { write, gpa, len, .. } => {
                let all = (gpa..gpa + u64::from(len)).all(|at| physical.contains(&at));
                if !all || expected.is_some() || !case.leaves() || exits > 64 {
                    return Err(format!("leaves for {gpa:#x}"));
                }
                exits += 1;
                if !write {
                    rig.machine.vcpu.complete_read(&vec![1; usize::from(len)]);
                }
            }
            exit => return Err(format!("{exit:?}")),
        }
    };
    let landed = if case.op.code == Code::Call_rel32_32 { case.state.rip + 64 } else { next };
    let wanted = match expected {
        Some((vector, error, cr2)) => End { vector, error, cr2, rip: case.state.rip },
        None => End { vector: 3, error: 0, cr2: 0, rip: landed + 1 },
    };
    if end != wanted {
        return Err(format!("{end:x?} instead of {wanted:x?}"));
    }
    if expected.is_some() && gpr != case.state.gpr {
        return Err(format!("registers changed: {gpr:x?}"));
    }
    if case.op.code == Code::Mov_r32_rm32 && expected.is_none() && !case.leaves() {
        let byte = |&gpa: &u64| {
            let (n, at) = piece(gpa).unwrap();
            rig.machine.bytes(n)[at]
        };
        let loaded: Vec<u8> = physical.iter().map(byte).collect();
        if gpr[2].to_le_bytes()[..4] != loaded[..] {
            return Err(format!("loaded {:#x} instead of {loaded:02x?}", gpr[2]));
        }
    }
    let stores = expected.is_none() && case.write();
    rig.compare(if stores { &physical } else { &[] })?;
    if rig.machine.fence.as_ref().unwrap().untouched() {
        Ok(())
    } else {
        Err("a canary changed".into())
    }
}

fn check(neighbour: Neighbour, part: u64) {
    let start = number("SEED").unwrap_or(SEED);
    let rounds = if number("LONG").is_some() { 30 } else { 1 };
    let only = number("CASE");
    let ops = all();
    let mut rig = Rig::new(neighbour);
    let mut failures = Vec::new();
    let mut n = 0;
    let edges: Vec<u64> = edges().into_iter().filter(|&e| e <= FOUR_GIB).collect();
    for round in 0..rounds {
        for (edge, &op) in edges.iter().flat_map(|e| ops.iter().map(move |op| (e, op))) {
            for target in around(*edge, op.size) {
                n += 1;
                let seed = case_seed(start, round, n);
                let due = rounds > 1 || seed.is_multiple_of(part);
                if only.map_or(!due, |only| only != seed) {
                    continue;
                }
                if let Err(why) = one(&mut rig, seed, op, target as u32) {
                    failures.push(why);
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
fn every_boundary_holds_for_32_bit_code() {
    check(Neighbour::Canary, 2);
}

#[test]
fn nothing_is_read_beyond_a_boundary_by_32_bit_code() {
    check(Neighbour::Nothing, 4);
}
