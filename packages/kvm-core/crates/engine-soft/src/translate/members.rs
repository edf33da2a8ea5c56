//! Which blocks a region is made of, and what is known of their instructions.

use std::collections::VecDeque;

use iced_x86::InstructionInfoFactory;
use smallvec::SmallVec;

use super::access::addressable;
use super::emit::{Scratch, in_page};
use super::flat::Kind;
use super::guest::{self, Form, Operand, Register, Shape};
use super::region::Source;
use super::select::{Guest, PAGE, Translator};
use super::state::pinned;
use super::strings;
use super::system::System;
use crate::block::{Block, BlockCache};
use crate::op::{Handler, Op};
use crate::tlb::Class;

/// Instructions of a region after which no more blocks are added.
const REGION_OPS: usize = 96;
/// Blocks of a region at most.
const REGION_BLOCKS: usize = 32;

/// What is used for one translation after the other: to ask the heap each time takes longer than much of
/// the work.
pub struct Workshop {
    sources: Vec<Source<'static>>,
    factory: InstructionInfoFactory,
    pub scratch: Scratch,
}

impl Default for Workshop {
    fn default() -> Self {
        let factory = InstructionInfoFactory::new();
        Self { sources: Vec::new(), factory, scratch: Scratch::default() }
    }
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop").finish_non_exhaustive()
    }
}

impl Workshop {
    fn source(&mut self) -> Source<'static> {
        self.sources.pop().unwrap_or_else(Source::empty)
    }

    /// Takes a source back.
    pub fn put_away(&mut self, source: Source<'_>) {
        self.sources.push(source.emptied());
    }
}

/// Looks for the blocks of a region.
pub struct Finder<'a, 'p> {
    pub translator: &'a Translator,
    pub blocks: &'a BlockCache,
    pub guest: Guest<'a>,
    pub page_gpa: u64,
    pub class: Class,
    pub page: &'p [u8; PAGE],
}

impl<'p> Finder<'_, 'p> {
    /// Whether a block that is led to becomes part of the region: not if it is translated already, or
    /// hardly ever ran, which would only take room.
    fn comes_along(&self, block: &Block) -> bool {
        self.translator.find(block.translated(), self.class).is_none()
            && block.executions() >= self.translator.warm()
    }

    /// The block at an offset of the page, if it is worth translating.
    fn source(&self, offset: u16, entry: bool, shop: &mut Workshop) -> Option<Source<'p>> {
        let key = self.guest.key(self.page_gpa | u64::from(offset));
        // SAFETY: found in the cache just now, which drops no block while sources are in use.
        let (block, ops): (&'p Block, &'p [Op]) = unsafe {
            let block = self.blocks.find(key)?;
            (&*block, Block::ops(block))
        };
        if block.second_page().is_some() || !entry && !self.comes_along(block) {
            return None;
        }
        let start = usize::from(offset);
        let bytes = self.page.get(start..start + usize::from(block.bytes))?;
        let mut source = Source { ops, bytes, kind: self.guest.kind, ..shop.source() };
        self.guest.decode_again(&mut source);
        source.offsets.push(offset);
        for op in ops {
            source.offsets.push(source.offsets[source.offsets.len() - 1] + u16::from(op.len));
        }
        find_shapes(&mut source, &self.guest);
        source.find_facts(&mut shop.factory);
        Some(source)
    }

    /// The block at an offset and those that it leads to, each before what it falls through to.
    pub fn members(&self, offset: u16, shop: &mut Workshop) -> Option<Vec<Source<'p>>> {
        let first = self.source(offset, true, shop)?;
        if self.translator.exact() {
            return Some(vec![first]);
        }
        let mut ops = 0;
        let mut seen = SmallVec::<[i64; 64]>::from_slice(&[i64::from(offset)]);
        let mut members = Vec::new();
        let mut next = Some(first);
        let mut later = VecDeque::new();
        while let Some(source) = next.take() {
            ops += source.ops.len();
            let successors = source.successors();
            let calls = source.calls();
            members.push(source);
            if !calls {
                later.extend(successors.far);
                // What is fallen through to comes next, all else when that ends.
                if let Some(near) = successors.near {
                    later.push_front(near);
                }
            }
            while let Some(to) = later.pop_front() {
                if ops >= REGION_OPS || members.len() >= REGION_BLOCKS {
                    break;
                }
                let Some(offset) = in_page(to).filter(|_| !seen.contains(&to)) else {
                    continue;
                };
                seen.push(to);
                next = self.source(offset, false, shop);
                if next.is_some() {
                    break;
                }
            }
        }
        Some(members)
    }
}

impl Guest<'_> {
    /// Finds the instructions of a block once more.
    fn decode_again(&self, source: &mut Source<'_>) {
        let mut reader = self.reader(source.bytes);
        let mut at = 0;
        for op in source.ops {
            let len = usize::from(op.len);
            // An instruction that does not exist is the interpreter's.
            let known = reader.at(at, at as u64).ok().filter(|i| i.len() == len);
            source.instructions.push(known.copied().unwrap_or_default());
            at += len;
        }
    }
}

fn find_shapes(source: &mut Source<'_>, guest: &Guest<'_>) {
    let Source { ops, instructions, offsets, bytes, shapes, .. } = source;
    let all = ops.iter().zip(&*instructions).zip(&*offsets);
    shapes.extend(all.map(|((op, i), &offset)| {
        let at = usize::from(offset - offsets[0]);
        let undefined = std::ptr::fn_addr_eq(op.handler, crate::fetch::undefined as Handler);
        if i.is_invalid() || undefined {
            return None;
        }
        guest::shape(i, bytes.get(at..at + i.len())?, guest.features, guest.kind)
            .filter(|shape| emittable(shape, op, offset, guest.kind))
    }));
}

/// Whether the emitter can do it with its two scratch registers.
fn emittable(shape: &Shape, op: &Op, offset: u16, kind: Kind) -> bool {
    match shape {
        Shape::Modrm(form) | Shape::Divide(form) => {
            registers_fit(form) && operand_fits(form, op, offset, kind)
        }
        Shape::Vector(form) => !form.has_memory() || addressable(op, offset, kind),
        Shape::Lea(form) => registers_fit(form) && addressable(op, offset, kind),
        Shape::Indirect(form, _) | Shape::System(System::PushMemory(form)) => {
            operand_fits(form, op, offset, kind)
        }
        Shape::Element(_) | Shape::Repeated(_) => strings::direct(op, kind),
        Shape::Return(dropped) => *dropped == 0,
        Shape::Jump | Shape::Branch(_) | Shape::Call => {
            let target = i64::from(offset).wrapping_add(op.imm.cast_signed());
            i32::try_from(target).is_ok()
        }
        _ => true,
    }
}

fn operand_fits(form: &Form, op: &Op, offset: u16, kind: Kind) -> bool {
    match form.rm {
        Operand::Register(_) => true,
        Operand::Memory => {
            let high = matches!(form.reg, Register::High(_));
            !high && addressable(op, offset, kind)
        }
    }
}

/// AH to BH exclude REX, and with it what lives in R8 to R15.
fn registers_fit(form: &Form) -> bool {
    let rm = match form.rm {
        Operand::Register(r) => r,
        Operand::Memory => Register::Extension(0),
    };
    let high = |r| matches!(r, Register::High(_));
    let low = |r| match r {
        Register::General(r) => pinned(r).is_some_and(|h| h < 8),
        _ => true,
    };
    !(high(form.reg) || high(rm)) || (low(form.reg) && low(rm) && !form.op.wide)
}
