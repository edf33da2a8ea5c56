//! Memory accesses of a block that one check can answer for: those relative to the same register, all
//! near to each other. A function's saved registers and its variables are the usual case.
//!
//! The check asks the TLB for the whole range at once and keeps the addend. Where it fails, because
//! the range crosses pages or some of it is no plain memory, the block goes on in a copy of itself in
//! which each access is checked alone. The copy is also where a slow path comes back to, as the
//! interpreter may have changed what the check found out.
//!
//! An access with an index is one of these if the index has just been made small: the whole table is
//! checked. A check of the one place takes part in what the guest waits for, from the index to the
//! data; the table's does not, so that even one access gains by it.

use super::bounds;
use super::flat::Kind;
use super::guest::{Form, Operand, Register, Shape};
use super::region::Source;
use super::system::System;

/// Bytes between the first and the last of a group.
const SPAN: i32 = 1024;
/// The same for accesses with an index, which may lie anywhere in a table.
const TABLE: i32 = 2048;
/// Groups of a block.
pub const GROUPS: usize = 8;
const RSP: u8 = 4;
const RBP: u8 = 5;

/// Accesses with one check.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The check comes before this instruction.
    pub at: usize,
    /// Guest register.
    pub base: u8,
    /// The range, from the value that the register has at the check.
    pub low: i32,
    pub high: i32,
    pub write: bool,
    /// Instructions, as bits.
    pub members: u64,
}

impl Group {
    /// True if an instruction is one of the group.
    pub fn contains(&self, n: usize) -> bool {
        self.members >> n & 1 != 0
    }

    /// The last instruction.
    pub fn last(&self) -> usize {
        self.members.checked_ilog2().unwrap_or(0) as usize
    }
}

/// One access relative to a register, with all bytes where it may be.
#[derive(Clone, Copy)]
struct Access {
    base: u8,
    disp: i32,
    size: i32,
    write: bool,
    indexed: bool,
}

/// The access of an instruction, if it is one that a group can have.
fn access(source: &Source<'_>, n: usize) -> Option<Access> {
    let op = &source.ops[n];
    let slot = source.kind.slot();
    let stack = |disp, write| Some(Access { base: RSP, disp, size: slot, write, indexed: false });
    let memory = |size: u8, write| {
        if !source.direct(n) || op.base >= 16 {
            return None;
        }
        let indexed = usize::from(op.index) != kvm_cpu::reg::ZERO;
        let table = if indexed { bounds::table(source, n)? } else { 0 };
        let disp = source.displacement(n).filter(|d| d.unsigned_abs() < 1 << 20)?;
        Some(Access { base: op.base, disp, size: table + i32::from(size), write, indexed })
    };
    match source.shapes[n]? {
        Shape::Push(_) | Shape::PushImmediate(_) => stack(-slot, true),
        Shape::Pop(_) | Shape::Return(_) => stack(0, false),
        Shape::Leave => {
            Some(Access { base: RBP, disp: 0, size: slot, write: false, indexed: false })
        }
        Shape::Call => stack(-slot, true),
        Shape::Modrm(form) if form.rm == Operand::Memory && !form.locked => {
            memory(form.size, form.rm_access.write)
        }
        Shape::Vector(form) => {
            form.loose_memory().and_then(|(size, write)| memory(size, write)).filter(|a| !a.indexed)
        }
        _ => None,
    }
}

/// What an instruction adds to a register, if it does nothing else to it.
fn step(source: &Source<'_>, n: usize, register: u8) -> Option<i32> {
    let shape = source.shapes[n]?;
    let i = &source.instructions[n];
    match shape {
        Shape::Push(_)
        | Shape::PushImmediate(_)
        | Shape::Call
        | Shape::System(System::PushMemory(_) | System::PushFlags)
            if register == RSP =>
        {
            Some(-source.kind.slot())
        }
        Shape::Pop(r) if register == RSP && r != RSP => Some(source.kind.slot()),
        Shape::Modrm(Form { op, reg: Register::Extension(e), rm, imm, .. })
            if rm == Operand::Register(Register::General(register))
                && source.adds_addresses(op)
                && op.map == 0
                && imm > 0
                && matches!(op.byte, 0x81 | 0x83)
                && matches!(e, 0 | 5) =>
        {
            #[allow(clippy::cast_possible_truncation)]
            let value = match source.kind {
                Kind::Long => i32::try_from(i.immediate(1).cast_signed()).ok()?,
                Kind::Flat => i.immediate(1) as i32,
            };
            let value = if e == 0 { value } else { value.checked_neg()? };
            (value.unsigned_abs() < 1 << 20).then_some(value)
        }
        Shape::Lea(form) => {
            let op = &source.ops[n];
            let same = form.reg == Register::General(register)
                && op.base == register
                && usize::from(op.index) == kvm_cpu::reg::ZERO
                && source.direct(n)
                && source.adds_addresses(form.op);
            let disp = source.displacement(n).filter(|d| d.unsigned_abs() < 1 << 20);
            disp.filter(|_| same)
        }
        _ => None,
    }
}

/// True if an instruction does not write a register.
fn keeps(source: &Source<'_>, n: usize, register: u8) -> bool {
    source.written[n] >> register & 1 == 0
}

/// A group that may grow.
#[derive(Clone, Copy)]
struct Open {
    group: Group,
    /// What was added to the base since the check.
    moved: i32,
}

/// The groups of a block. `has_home` tells which registers addresses can be made of at once,
/// `flags_live` before which instructions a check would have to save the flags.
pub fn plan(
    source: &Source<'_>,
    has_home: impl Fn(u8) -> bool,
    flags_live: impl Fn(usize) -> bool,
    done: &mut Vec<Group>,
) {
    done.clear();
    let mut open = OpenGroups::new(SPAN, 2);
    let mut tables = OpenGroups::new(TABLE, 1);
    for n in 0..source.ops.len() {
        if source.shapes[n].is_none() {
            open.close_all(done);
            tables.close_all(done);
            continue;
        }
        if let Some(access) = access(source, n).filter(|a| has_home(a.base)) {
            if !access.indexed {
                open.join(done, access, n, source.kind);
            } else if has_home(source.ops[n].index) && access.size <= TABLE {
                tables.join(done, access, n, source.kind);
            }
        }
        open.pass(source, n, done);
        tables.pass(source, n, done);
    }
    open.close_all(done);
    tables.close_all(done);
    for group in &mut *done {
        hoist(source, group, &flags_live);
    }
    done.sort_by_key(|g| g.at);
    done.truncate(GROUPS);
}

/// The range of a check, with where its register is at an access if it was moved since.
///
/// A 32-bit register wraps where it is moved, and an address made of it is no longer what was checked. If
/// the check finds the register's place in the same page as all else, it did not wrap.
fn with_register(low: i32, high: i32, moved: i32, kind: Kind) -> (i32, i32) {
    match kind {
        Kind::Flat if moved != 0 => (low.min(moved), high.max(moved + 1)),
        _ => (low, high),
    }
}

/// Those that may grow: one for each register.
struct OpenGroups {
    of: [Option<Open>; 16],
    /// Registers that have one, as bits.
    registers: u32,
    /// Bytes that one may have.
    span: i32,
    /// Accesses for which a check of their own pays.
    least: u32,
}

impl OpenGroups {
    fn new(span: i32, least: u32) -> Self {
        Self { of: [None; 16], registers: 0, span, least }
    }

    fn close(&mut self, register: u8, done: &mut Vec<Group>) {
        self.registers &= !(1 << register);
        let closed = self.of[usize::from(register)].take();
        let least = self.least;
        done.extend(closed.map(|o| o.group).filter(|g| g.members.count_ones() >= least));
    }

    fn close_all(&mut self, done: &mut Vec<Group>) {
        while self.registers != 0 {
            self.close(self.registers.trailing_zeros() as u8, done);
        }
    }

    /// Goes past an instruction.
    fn pass(&mut self, source: &Source<'_>, n: usize, done: &mut Vec<Group>) {
        let mut left = self.registers;
        while left != 0 {
            let base = left.trailing_zeros() as u8;
            left &= left - 1;
            let by = step(source, n, base).or(keeps(source, n, base).then_some(0));
            match (by, &mut self.of[usize::from(base)]) {
                (Some(by), Some(open)) => open.moved += by,
                _ => self.close(base, done),
            }
        }
    }

    fn join(&mut self, done: &mut Vec<Group>, access: Access, n: usize, kind: Kind) {
        if let Some(o) = &mut self.of[usize::from(access.base)] {
            let low = o.group.low.min(o.moved + access.disp);
            let high = o.group.high.max(o.moved + access.disp + access.size);
            let (low, high) = with_register(low, high, o.moved, kind);
            if high - low <= self.span {
                o.group.low = low;
                o.group.high = high;
                o.group.write |= access.write;
                o.group.members |= 1 << n;
                return;
            }
            self.close(access.base, done);
        }
        let group = Group {
            at: n,
            base: access.base,
            low: access.disp,
            high: access.disp + access.size,
            write: access.write,
            members: 1 << n,
        };
        self.of[usize::from(access.base)] = Some(Open { group, moved: 0 });
        self.registers |= 1 << access.base;
    }
}

/// Moves a check that would have to save the flags to where it need not, if there is such a place
/// not far above.
fn hoist(source: &Source<'_>, group: &mut Group, flags_live: &impl Fn(usize) -> bool) {
    let mut moved = 0;
    let mut at = group.at;
    while flags_live(at) {
        if at == 0 || source.shapes[at - 1].is_none() {
            return;
        }
        at -= 1;
        match step(source, at, group.base).or(keeps(source, at, group.base).then_some(0)) {
            Some(by) => moved += by,
            None => return,
        }
    }
    let (low, high) = with_register(group.low + moved, group.high + moved, moved, source.kind);
    if high - low > SPAN.max(group.high - group.low) {
        return;
    }
    group.at = at;
    group.low = low;
    group.high = high;
}
