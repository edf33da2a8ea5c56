//! Which blocks are translated, and what is known of those that are.

use iced_x86::Instruction;
use kvm_decode::{Decoded, Dialect, decode};

use super::access::addressable;
use super::asm::{Assembler, Tables};
use super::emit;
use super::entries::Code;
use super::flags;
use super::flat::Kind;
use super::guest::{self, Form, Operand, Register, Shape};
use super::memory::CodeMemory;
use super::region::{self, Count, Facts, Page, Region, Source};
use super::state::pinned;
use super::strings;
use super::stubs::Stubs;
use super::system::System;
use super::{CODE_BYTES, Policy};
use crate::block::{self, Block, BlockCache};
use crate::features::GuestFeatures;
use crate::op::{Handler, Op};
use crate::tlb::Class;

const PAGE: usize = 4096;
/// Sites per block: one for each instruction.
pub const SITES: u32 = 64;
/// Translated blocks, dead ones included, before all are dropped.
const MAX_KNOWN: usize = 1 << 19;
/// More code than any region becomes.
const MAX_REGION_BYTES: usize = 48 << 10;
/// Instructions of a region after which no more blocks are added.
const REGION_OPS: usize = 96;
/// Blocks of a region at most.
const REGION_BLOCKS: usize = 32;
/// How far the use of flags is followed into other code.
const LOOK_AHEAD: usize = 12;

/// A translated block.
#[derive(Debug)]
pub struct Known {
    pub ops: *const [Op],
    /// Instructions that are not the interpreter's.
    pub native: u64,
    /// Offset in its page of the first instruction.
    start: u16,
    /// Where it is entered; nowhere if it is only part of a region.
    code: Option<Code>,
    class: Class,
    /// Another translation of the same block, for another class.
    next: u32,
}

impl Known {
    /// Offset in its page of instruction `n`.
    pub fn offset(&self, n: usize) -> u64 {
        // SAFETY: the block lives while its translation is used.
        let ops = unsafe { &*self.ops };
        u64::from(self.start) + ops[..n].iter().map(|op| u64::from(op.len)).sum::<u64>()
    }
}

/// The translated code of one vCPU.
#[derive(Debug)]
pub struct Translator {
    memory: CodeMemory,
    pub stubs: Stubs,
    stub_bytes: usize,
    known: Vec<Known>,
    /// Executions of a block that lets it come along in a region.
    warm: u8,
    /// Instructions are counted one by one.
    exact: bool,
    /// Somebody else watches the clock: they need not be counted at all.
    timed: bool,
}

// SAFETY: the pointers are to boxes of the block cache of the same vCPU.
unsafe impl Send for Translator {}

/// What the guest's code is decoded as.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    pub features: &'a GuestFeatures,
    pub dialect: Dialect,
    pub kind: Kind,
}

impl Guest<'_> {
    fn decode(&self, bytes: &[u8], at: usize) -> Decoded {
        decode(self.kind.bits(), bytes, at as u64, self.dialect)
    }

    /// The key of the block at a guest physical address.
    fn key(&self, gpa: u64) -> u64 {
        block::key(gpa, self.kind.bits())
    }
}

impl Translator {
    /// Reserves memory for code. `interpret` is the engine's function for single instructions.
    /// With `timed` requests come when it is time to look at the clock.
    pub fn new(
        policy: Policy,
        interpret: u64,
        tables: Tables,
        timed: bool,
    ) -> std::io::Result<Self> {
        let mut memory = CodeMemory::new(policy.cache_bytes.max(CODE_BYTES.0))?;
        let mut asm = Assembler::new(memory.next(), tables);
        let stubs = Stubs::assemble(&mut asm, interpret);
        memory.push(asm.code());
        let stub_bytes = memory.used();
        Ok(Self {
            memory,
            stubs,
            stub_bytes,
            // Number 0 stands for none.
            known: vec![nothing()],
            warm: policy.threshold / 4,
            exact: false,
            timed,
        })
    }

    /// The block that a site belongs to, and the index of its instruction.
    pub fn at_site(&self, site: u32) -> (&Known, usize) {
        (&self.known[(site / SITES) as usize], (site % SITES) as usize)
    }

    /// Links a jump of a translated block.
    pub fn link(&mut self, after: u64, linked: u64) {
        self.memory.patch(after, linked);
    }

    /// Drops everything if there may be no room for one more region. True if so.
    pub fn make_room(&mut self, blocks: &mut BlockCache) -> bool {
        let full = !self.memory.fits(MAX_REGION_BYTES) || self.known.len() >= MAX_KNOWN;
        if full {
            self.reset(blocks);
        }
        full
    }

    /// The fixed code: where it begins, and its length.
    pub fn stub_code(&self) -> (u64, usize) {
        (self.end() - self.memory.used() as u64, self.stub_bytes)
    }

    /// The address behind all code.
    pub fn end(&self) -> u64 {
        self.memory.next()
    }

    /// Bytes of code.
    pub fn bytes(&self) -> u64 {
        self.memory.used() as u64
    }

    /// Drops everything.
    pub fn reset(&mut self, blocks: &mut BlockCache) {
        self.memory.reset(self.stub_bytes);
        self.known = vec![nothing()];
        blocks.forget_translations();
    }

    /// The translation of a block for a class, given the number of its first one.
    pub fn find(&self, first: u32, class: Class) -> Option<Code> {
        let mut at = first;
        while at != 0 {
            let known = &self.known[at as usize];
            if known.class == class && known.code.is_some() {
                return known.code;
            }
            at = known.next;
        }
        None
    }

    /// Whether instructions are counted one by one from now on.
    pub fn count_exactly(&mut self, blocks: &mut BlockCache) {
        if !self.exact {
            self.exact = true;
            self.reset(blocks);
        }
    }

    /// True if they are.
    pub fn exact(&self) -> bool {
        self.exact
    }

    /// The code of the block at a guest physical address, translated now unless it was before.
    /// `None` if it is better interpreted.
    pub fn translate(
        &mut self,
        blocks: &mut BlockCache,
        guest: Guest<'_>,
        gpa: u64,
        class: Class,
        page: &[u8; PAGE],
    ) -> Option<Code> {
        let key = guest.key(gpa);
        // SAFETY: found in the cache just now, which is not changed before the last use.
        let block = unsafe { &*blocks.find(key)? };
        if let Some(code) = self.find(block.translated, class) {
            return Some(code);
        }
        let finder =
            Finder { translator: self, blocks, guest, page_gpa: gpa & !0xfff, class, page };
        let mut members = finder.members((gpa & 0xfff) as u16)?;
        let number = u32::try_from(self.known.len()).ok()?;
        for (n, source) in members.iter_mut().enumerate() {
            source.site = (number + n as u32) * SITES;
        }
        let around = Around {
            translator: self,
            blocks,
            guest,
            bytes: page,
            page_gpa: gpa & !0xfff,
            class,
            seen: std::cell::Cell::new((u16::MAX, 0)),
        };
        let count = match (self.exact, self.timed) {
            (true, _) => Count::Exactly,
            (false, false) => Count::Roughly,
            (false, true) => Count::Not,
        };
        let region = Region::new(members, guest.kind, class, count, &around);
        let origin = self.memory.next();
        let emitted = emit::emit(&region, &self.stubs, &around, origin);
        let (first, last) = around.seen.get();
        if emitted.code.len() > MAX_REGION_BYTES {
            return None;
        }
        self.memory.push(&emitted.code);
        let (linked, forward) = (origin + emitted.linked, origin + emitted.forward);
        let code = Code { entry: origin, linked, forward };
        for (n, source) in region.blocks.into_iter().enumerate() {
            let key = guest.key(gpa & !0xfff | u64::from(source.offsets[0]));
            // SAFETY: as above.
            let next = blocks.find(key).map_or(0, |block| unsafe { (*block).translated });
            self.known.push(Known {
                ops: source.ops,
                native: native(&source.shapes),
                start: source.offsets[0],
                code: (n == 0).then_some(code),
                class,
                next,
            });
            blocks.set_translated(key, number + n as u32);
        }
        if first <= last {
            blocks.cover(gpa & !0xfff, u64::from(first), u64::from(last));
        }
        Some(code)
    }
}

/// Looks for the blocks of a region.
struct Finder<'a, 'p> {
    translator: &'a Translator,
    blocks: &'a BlockCache,
    guest: Guest<'a>,
    page_gpa: u64,
    class: Class,
    page: &'p [u8; PAGE],
}

impl<'p> Finder<'_, 'p> {
    /// Whether a block that is led to becomes part of the region: not if it is translated already, or
    /// hardly ever ran, which would only take room.
    fn comes_along(&self, block: &Block) -> bool {
        self.translator.find(block.translated, self.class).is_none()
            && block.executions() >= self.translator.warm
    }

    /// The block at an offset of the page, if it is worth translating.
    fn source(&self, offset: u16, entry: bool) -> Option<Source<'p>> {
        let key = self.guest.key(self.page_gpa | u64::from(offset));
        // SAFETY: found in the cache just now, which drops no block while sources are in use.
        let block: &'p Block = unsafe { &*self.blocks.find(key)? };
        if block.second_page.is_some() || !entry && !self.comes_along(block) {
            return None;
        }
        let start = usize::from(offset);
        let bytes = self.page.get(start..start + block.bytes as usize)?;
        let instructions = decoded(&block.ops, bytes, &self.guest)?;
        let mut offsets = vec![offset];
        for op in &block.ops {
            offsets.push(offsets[offsets.len() - 1] + u16::from(op.len));
        }
        let shapes = shapes(&block.ops, &instructions, bytes, &offsets, &self.guest);
        let Facts { effects, used, written } = region::facts(&instructions, &shapes);
        Some(Source {
            ops: &block.ops,
            instructions,
            bytes,
            shapes,
            effects,
            used,
            written,
            offsets,
            kind: self.guest.kind,
            site: 0,
        })
    }

    /// The block at an offset and those that it leads to, each before what it falls through to.
    fn members(&self, offset: u16) -> Option<Vec<Source<'p>>> {
        let first = self.source(offset, true)?;
        if self.translator.exact {
            return Some(vec![first]);
        }
        let mut ops = 0;
        let mut seen = vec![i64::from(offset)];
        let mut members = Vec::new();
        let mut next = Some(first);
        let mut later = std::collections::VecDeque::new();
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
                let Some(offset) = emit::in_page(to).filter(|_| !seen.contains(&to)) else {
                    continue;
                };
                seen.push(to);
                next = self.source(offset, false);
                if next.is_some() {
                    break;
                }
            }
        }
        Some(members)
    }
}

/// Which instructions are not the interpreter's, as bits.
fn native(shapes: &[Option<Shape>]) -> u64 {
    shapes.iter().enumerate().fold(0, |m, (n, s)| m | u64::from(s.is_some()) << n)
}

fn nothing() -> Known {
    Known { ops: &[], native: 0, start: 0, code: None, class: Class::Checked, next: 0 }
}

/// The instructions of a block, if they are still those that were lowered.
fn decoded(ops: &[Op], bytes: &[u8], guest: &Guest<'_>) -> Option<Vec<Instruction>> {
    let mut at = 0;
    let mut out = Vec::with_capacity(ops.len());
    for op in ops {
        let len = usize::from(op.len);
        match guest.decode(bytes.get(at..)?, at) {
            Decoded::Instruction(i) if i.len() == len => out.push(i),
            // An instruction that does not exist is the interpreter's.
            _ => out.push(Instruction::default()),
        }
        at += len;
    }
    Some(out)
}

fn shapes(
    ops: &[Op],
    instructions: &[Instruction],
    bytes: &[u8],
    offsets: &[u16],
    guest: &Guest<'_>,
) -> Vec<Option<Shape>> {
    ops.iter()
        .zip(instructions)
        .zip(offsets)
        .map(|((op, i), &offset)| {
            let at = usize::from(offset - offsets[0]);
            let undefined = std::ptr::fn_addr_eq(op.handler, crate::fetch::undefined as Handler);
            if i.is_invalid() || undefined {
                return None;
            }
            guest::shape(i, bytes.get(at..at + i.len())?, guest.features, guest.kind)
                .filter(|shape| emittable(shape, op, offset, guest.kind))
        })
        .collect()
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

/// The rest of the page, as far as it matters to a block.
struct Around<'a> {
    translator: &'a Translator,
    blocks: &'a BlockCache,
    guest: Guest<'a>,
    bytes: &'a [u8; PAGE],
    page_gpa: u64,
    class: Class,
    /// Offsets of the first and last byte that were looked at.
    seen: std::cell::Cell<(u16, u16)>,
}

impl Page for Around<'_> {
    fn linked(&self, offset: u16, forward: bool) -> Option<u64> {
        let key = self.guest.key(self.page_gpa | u64::from(offset));
        let found = self.blocks.find(key)?;
        // SAFETY: found in the cache just now.
        let first = unsafe { (*found).translated };
        self.translator.find(first, self.class).map(|code| code.linked(forward))
    }

    fn needs(&self, offset: u16) -> u32 {
        let mut at = usize::from(offset);
        let mut effects = Vec::new();
        for _ in 0..LOOK_AHEAD {
            let Decoded::Instruction(i) = self.guest.decode(&self.bytes[at..], at) else { break };
            let bytes = &self.bytes[at..at + i.len()];
            let (first, last) = self.seen.get();
            let end = (at + i.len() - 1) as u16;
            self.seen.set((first.min(at as u16), last.max(end)));
            let Some(shape) = guest::shape(&i, bytes, self.guest.features, self.guest.kind) else {
                break;
            };
            effects.push(flags::effect(&i));
            at += i.len();
            if shape.transfers() || at >= PAGE {
                break;
            }
        }
        effects.iter().rev().fold(flags::ALL, |live, &e| flags::live_before(e, live))
    }
}
