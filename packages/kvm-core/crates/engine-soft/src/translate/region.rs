//! What is translated together: a block and the blocks of its page that it leads to.
//!
//! Within a region jumps need no check of anything: the budget and requests are looked at where the
//! region is entered and at the head of each loop. Guest registers R9 to R11, which have no host
//! register, borrow those of registers that the region does not use.

use iced_x86::{Instruction, InstructionInfoFactory, OpAccess};

use smallvec::SmallVec;

use super::asm::Opcode;
use super::flags::{self, Effect, UNKNOWN};
use super::flat::Kind;
use super::guest::Shape;
use super::state::pinned;
use crate::op::{FLAT, Op};
use crate::tlb::Class;

/// Guest code of one block, instruction by instruction.
pub struct Source<'a> {
    pub ops: &'a [Op],
    pub instructions: Vec<Instruction>,
    /// The bytes of the block.
    pub bytes: &'a [u8],
    /// The shapes of those that are emitted.
    pub shapes: Vec<Option<Shape>>,
    /// What each does with the flags.
    pub effects: Vec<Effect>,
    /// General registers that those which are emitted use and write, as bits.
    pub used: Vec<u16>,
    pub written: Vec<u16>,
    /// Offset in the page of each instruction, and of the end.
    pub offsets: Vec<u16>,
    pub kind: Kind,
    /// The first number of the block's sites.
    pub site: u32,
}

impl Source<'_> {
    /// One without instructions.
    pub fn empty() -> Self {
        Self {
            ops: &[],
            instructions: Vec::new(),
            bytes: &[],
            shapes: Vec::new(),
            effects: Vec::new(),
            used: Vec::new(),
            written: Vec::new(),
            offsets: Vec::new(),
            kind: Kind::Long,
            site: 0,
        }
    }

    /// Its lists, empty, for another block.
    pub fn emptied(mut self) -> Source<'static> {
        self.instructions.clear();
        self.shapes.clear();
        self.effects.clear();
        self.used.clear();
        self.written.clear();
        self.offsets.clear();
        let Self { instructions, shapes, effects, used, written, offsets, .. } = self;
        Source { instructions, shapes, effects, used, written, offsets, ..Source::empty() }
    }

    /// Looks all instructions up at once. What is the interpreter's works on the registers in the vCPU,
    /// and on all flags.
    pub fn find_facts(&mut self, factory: &mut InstructionInfoFactory) {
        for (i, shape) in self.instructions.iter().zip(&self.shapes) {
            let (mut used, mut written) = (0, 0);
            if shape.is_some() {
                for register in factory.info(i).used_registers() {
                    if register.register().is_gpr() {
                        let bit = 1 << register.register().full_register().number();
                        used |= bit;
                        if !matches!(register.access(), OpAccess::Read | OpAccess::CondRead) {
                            written |= bit;
                        }
                    }
                }
            }
            self.effects.push(shape.map_or(UNKNOWN, |_| flags::effect(i)));
            self.used.push(used);
            self.written.push(written);
        }
    }
}

impl Source<'_> {
    /// Index of the last instruction.
    pub fn last(&self) -> usize {
        self.ops.len() - 1
    }

    /// Offset, from the start of the page, of the target of a relative branch.
    pub fn target(&self, n: usize) -> i64 {
        i64::from(self.offsets[n]).wrapping_add(self.ops[n].imm.cast_signed())
    }

    /// Where the block goes as far as that is known: at most two offsets from the start of the page.
    pub fn successors(&self) -> Successors {
        let last = self.last();
        let next = i64::from(self.offsets[last + 1]);
        match self.shapes[last] {
            Some(Shape::Jump | Shape::Call) => {
                Successors { near: Some(self.target(last)), far: None }
            }
            Some(Shape::Branch(_)) => Successors { near: Some(next), far: Some(self.target(last)) },
            Some(Shape::Indirect(..) | Shape::Return(_)) | None => {
                Successors { near: None, far: None }
            }
            Some(_) => Successors { near: Some(next), far: None },
        }
    }

    /// True if the operand of an instruction has the linear address that its registers and
    /// displacement add up to.
    pub fn direct(&self, n: usize) -> bool {
        match self.kind {
            Kind::Long => self.ops[n].addressing == FLAT,
            Kind::Flat => super::short_access::based_at_zero(&self.ops[n]),
        }
    }

    /// The displacement of such an operand, if it is near.
    pub fn displacement(&self, n: usize) -> Option<i32> {
        let disp = self.ops[n].disp;
        match self.kind {
            Kind::Long => i32::try_from(disp).ok(),
            #[allow(clippy::cast_possible_truncation)]
            Kind::Flat => Some(disp as i32),
        }
    }

    /// True if an instruction with this opcode works on all bits that an address has.
    pub fn adds_addresses(&self, op: Opcode) -> bool {
        match self.kind {
            Kind::Long => op.wide,
            Kind::Flat => !op.operand_size,
        }
    }

    /// True for a call, whose target is a region of its own.
    pub fn calls(&self) -> bool {
        matches!(self.shapes[self.last()], Some(Shape::Call))
    }
}

/// Where a block goes.
#[derive(Clone, Copy, Debug)]
pub struct Successors {
    /// What comes next if no branch is taken, or is the only one.
    pub near: Option<i64>,
    /// The target of a conditional branch.
    pub far: Option<i64>,
}

impl Successors {
    fn all(self) -> impl Iterator<Item = i64> {
        self.near.into_iter().chain(self.far)
    }
}

/// What the emitter asks about other code of the page.
pub trait Page {
    /// The linked entry of the region at an offset, if it is translated, for a jump forward or
    /// another.
    fn linked(&self, offset: u16, forward: bool) -> Option<u64>;
    /// The flags that code at an offset may read before it overwrites them.
    fn needs(&self, offset: u16) -> u32;
}

/// How translated code counts instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Each: a region is one block.
    Exactly,
    /// Enough to know when to look at the clock.
    Roughly,
    Not,
}

/// Blocks in the order in which they are laid out; the first is the entry.
pub struct Region<'a> {
    pub blocks: Vec<Source<'a>>,
    pub kind: Kind,
    pub class: Class,
    /// Where each block goes within the region.
    inside: Vec<SmallVec<[usize; 2]>>,
    /// The flags that each block's ways out need.
    outside: Vec<u32>,
    /// What each block needs of the flags.
    pub needs: Vec<u32>,
    /// Targets of jumps backwards.
    pub loops: Vec<bool>,
    /// Guest registers and whose host registers they have.
    pub borrowed: Vec<(u8, u8)>,
    pub count: Count,
}

impl<'a> Region<'a> {
    /// Prepares blocks for the emitter.
    pub fn new(
        blocks: Vec<Source<'a>>,
        kind: Kind,
        class: Class,
        count: Count,
        page: &dyn Page,
    ) -> Self {
        let mut region = Self {
            inside: Vec::new(),
            outside: Vec::new(),
            needs: vec![0; blocks.len()],
            loops: vec![false; blocks.len()],
            borrowed: Vec::new(),
            count,
            blocks,
            kind,
            class,
        };
        region.find_ways(page);
        region.find_needs();
        region.find_loops();
        if count != Count::Exactly && kind == Kind::Long {
            region.borrow();
        }
        region
    }

    /// The block at an offset from the start of the page.
    pub fn find(&self, offset: i64) -> Option<usize> {
        self.blocks.iter().position(|b| i64::from(b.offsets[0]) == offset)
    }

    fn find_ways(&mut self, page: &dyn Page) {
        for block in &self.blocks {
            let successors = block.successors();
            let mut inside = SmallVec::new();
            let mut outside = if successors.near.is_none() { flags::ALL } else { 0 };
            for to in successors.all() {
                match (self.find(to), super::emit::in_page(to)) {
                    (Some(to), _) => inside.push(to),
                    (None, Some(offset)) => outside |= page.needs(offset),
                    (None, None) => outside = flags::ALL,
                }
            }
            self.inside.push(inside);
            self.outside.push(outside);
        }
    }

    /// The flags that code behind a block needs.
    pub fn needs_behind(&self, block: usize) -> u32 {
        self.inside[block].iter().fold(self.outside[block], |all, &to| all | self.needs[to])
    }

    fn find_needs(&mut self) {
        loop {
            let mut changed = false;
            for block in (0..self.blocks.len()).rev() {
                let behind = self.needs_behind(block);
                let effects = &self.blocks[block].effects;
                let before = effects.iter().rev().fold(behind, |l, &e| flags::live_before(e, l));
                changed |= before != self.needs[block];
                self.needs[block] = before;
            }
            if !changed {
                return;
            }
        }
    }

    fn find_loops(&mut self) {
        for (block, ways) in self.inside.iter().enumerate() {
            for &to in ways.iter().filter(|&&to| to <= block) {
                self.loops[to] = true;
            }
        }
    }

    /// Instructions from a poll to the next in the order of the layout: about what is executed.
    pub fn weight(&self, poll: usize) -> usize {
        let mut sum = self.blocks[poll].ops.len();
        for block in poll + 1..self.blocks.len() {
            if self.loops[block] {
                break;
            }
            sum += self.blocks[block].ops.len();
        }
        sum
    }

    /// Gives R9 to R11 the host registers of registers that are not used here, if that pays.
    fn borrow(&mut self) {
        let mut uses = [0usize; 16];
        for bits in self.blocks.iter().flat_map(|b| &b.used) {
            for (r, count) in uses.iter_mut().enumerate() {
                *count += usize::from(bits >> r & 1);
            }
        }
        let loops = self.inside.iter().enumerate().any(|(n, ways)| ways.iter().any(|&w| w <= n));
        // Each way in and out costs two accesses per register.
        let worth = if loops { 2 } else { 8 };
        let mut wanted: Vec<u8> =
            (0..16).filter(|&r| pinned(r).is_none() && uses[usize::from(r)] >= worth).collect();
        wanted.sort_by_key(|&r| std::cmp::Reverse(uses[usize::from(r)]));
        let free = [15u8, 14, 13, 12, 5, 3, 8, 7, 6, 2, 1];
        let donors = free.into_iter().filter(|&r| uses[usize::from(r)] == 0);
        self.borrowed = wanted.into_iter().zip(donors).collect();
    }
}
