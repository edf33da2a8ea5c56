//! What is translated together: a block and the blocks of its page that it leads to.
//!
//! Within a region jumps need no check of anything: the budget and requests are looked at where the
//! region is entered and at the head of each loop. Guest registers R9 to R11, which have no host
//! register, borrow those of registers that the region does not use.

use iced_x86::{Instruction, InstructionInfoFactory};

use super::flags::{self, Effect, UNKNOWN};
use super::guest::Shape;
use super::state::pinned;
use crate::op::Op;
use crate::tlb::Class;

/// Guest code of one block, instruction by instruction.
pub struct Source<'a> {
    pub ops: &'a [Op],
    pub instructions: Vec<Instruction>,
    /// The bytes of the block.
    pub bytes: &'a [u8],
    /// The shapes of those that are emitted.
    pub shapes: Vec<Option<Shape>>,
    /// Offset in the page of each instruction, and of the end.
    pub offsets: Vec<u16>,
    /// The first number of the block's sites.
    pub site: u32,
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
    /// The linked entry of the region at an offset, if it is translated.
    fn linked(&self, offset: u16) -> Option<u64>;
    /// The flags that code at an offset may read before it overwrites them.
    fn needs(&self, offset: u16) -> u32;
}

/// Blocks in the order in which they are laid out; the first is the entry.
pub struct Region<'a> {
    pub blocks: Vec<Source<'a>>,
    pub class: Class,
    /// What each block needs of the flags.
    pub needs: Vec<u32>,
    /// Blocks that look at budget and requests: the entry, and targets of jumps backwards.
    pub polls: Vec<bool>,
    /// Guest registers and whose host registers they have.
    pub borrowed: Vec<(u8, u8)>,
}

impl<'a> Region<'a> {
    /// Prepares blocks for the emitter. `exact` is for the one block of a region that counts every
    /// instruction.
    pub fn new(blocks: Vec<Source<'a>>, class: Class, exact: bool, page: &dyn Page) -> Self {
        let mut region = Self {
            needs: vec![0; blocks.len()],
            polls: vec![false; blocks.len()],
            borrowed: Vec::new(),
            blocks,
            class,
        };
        region.find_needs(page);
        region.find_polls();
        if !exact {
            region.borrow();
        }
        region
    }

    /// The block at an offset from the start of the page.
    pub fn find(&self, offset: i64) -> Option<usize> {
        self.blocks.iter().position(|b| i64::from(b.offsets[0]) == offset)
    }

    /// The effects of a block on the flags.
    pub fn effects(&self, block: usize) -> Vec<Effect> {
        let b = &self.blocks[block];
        b.instructions
            .iter()
            .zip(&b.shapes)
            .map(|(i, shape)| shape.map_or(UNKNOWN, |_| flags::effect(i)))
            .collect()
    }

    /// The flags that code behind a block needs.
    pub fn needs_behind(&self, block: usize, page: &dyn Page) -> u32 {
        let b = &self.blocks[block];
        let successors = b.successors();
        if successors.near.is_none() {
            return flags::ALL;
        }
        successors
            .all()
            .map(|to| match (self.find(to), super::emit::in_page(to)) {
                (Some(inside), _) => self.needs[inside],
                (None, Some(offset)) => page.needs(offset),
                (None, None) => flags::ALL,
            })
            .fold(0, |all, one| all | one)
    }

    fn find_needs(&mut self, page: &dyn Page) {
        loop {
            let mut changed = false;
            for block in (0..self.blocks.len()).rev() {
                let behind = self.needs_behind(block, page);
                let before =
                    self.effects(block).iter().rev().fold(behind, |l, &e| flags::live_before(e, l));
                changed |= before != self.needs[block];
                self.needs[block] = before;
            }
            if !changed {
                return;
            }
        }
    }

    fn find_polls(&mut self) {
        self.polls[0] = true;
        for block in 0..self.blocks.len() {
            for to in self.blocks[block].successors().all() {
                if let Some(to) = self.find(to)
                    && to <= block
                {
                    self.polls[to] = true;
                }
            }
        }
    }

    /// Instructions from a poll to the next in the order of the layout: about what is executed.
    pub fn weight(&self, poll: usize) -> usize {
        let mut sum = self.blocks[poll].ops.len();
        for block in poll + 1..self.blocks.len() {
            if self.polls[block] {
                break;
            }
            sum += self.blocks[block].ops.len();
        }
        sum
    }

    /// Gives R9 to R11 the host registers of registers that are not used here, if that pays.
    fn borrow(&mut self) {
        let mut factory = InstructionInfoFactory::new();
        let mut uses = [0usize; 16];
        for b in &self.blocks {
            for (i, shape) in b.instructions.iter().zip(&b.shapes) {
                if shape.is_none() {
                    continue;
                }
                for used in factory.info(i).used_registers() {
                    let register = used.register();
                    if register.is_gpr() {
                        uses[register.full_register().number() & 15] += 1;
                    }
                }
            }
        }
        let loops = self.polls.iter().skip(1).any(|&p| p)
            || self.blocks.iter().any(|b| b.successors().all().any(|to| self.find(to) == Some(0)));
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
