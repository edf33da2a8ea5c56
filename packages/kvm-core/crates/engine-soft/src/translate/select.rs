//! Which blocks are translated, and what is known of those that are.

use kvm_decode::{Dialect, Reader};

use super::asm::{Assembler, Tables};
use super::emit;
use super::entries::Code;
use super::flags;
use super::flat::Kind;
use super::guest::{self, Shape};
use super::members::{Finder, Workshop};
use super::memory::CodeMemory;
use super::region::{Count, Page, Region};
use super::stubs::{Functions, Stubs};
use super::targets::Sites;
use super::{CODE_BYTES, Policy};
use crate::block::{self, BlockCache};
use crate::features::GuestFeatures;
use crate::op::Op;
use crate::tlb::Class;

pub const PAGE: usize = 4096;
/// Sites per block: one for each instruction.
pub const SITES: u32 = 64;
/// Translated blocks, dead ones included, before all are dropped.
const MAX_KNOWN: usize = 1 << 19;
/// More code than any region becomes.
const MAX_REGION_BYTES: usize = 48 << 10;
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
    workshop: Option<Box<Workshop>>,
    /// What jumps know of their targets.
    sites: Sites,
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
    pub fn reader<'b>(&self, bytes: &'b [u8]) -> Reader<'b> {
        Reader::new(self.kind.bits(), bytes, self.dialect)
    }

    /// The key of the block at a guest physical address.
    pub fn key(&self, gpa: u64) -> u64 {
        block::key(gpa, self.kind.bits())
    }
}

impl Translator {
    /// Reserves memory for code. `interpret` is the engine's function for single instructions.
    /// With `timed` requests come when it is time to look at the clock.
    pub fn new(
        policy: Policy,
        functions: Functions,
        tables: Tables,
        timed: bool,
    ) -> std::io::Result<Self> {
        let mut memory = CodeMemory::new(policy.cache_bytes.max(CODE_BYTES.0))?;
        let mut asm = Assembler::new(Vec::new(), memory.next(), tables);
        let stubs = Stubs::assemble(&mut asm, functions);
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
            workshop: None,
            sites: Sites::default(),
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

    /// Lets the jump with a number go to `code` wherever the target is `rip` and the stamp this one.
    pub fn learn(&mut self, number: u32, rip: u64, stamp: u32, code: Code) {
        self.sites.learn(&mut self.memory, number, rip, stamp, code.entry);
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
        (self.memory.start(), self.stub_bytes)
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
        // A guest that rests gives its memory back.
        self.sites = Sites::default();
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

    /// Executions of a block that lets it come along in a region.
    pub fn warm(&self) -> u8 {
        self.warm
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
        if let Some(code) = self.find(block.translated(), class) {
            return Some(code);
        }
        let mut workshop = self.workshop.take().unwrap_or_default();
        let code = self.translate_region(blocks, guest, gpa, class, page, &mut workshop);
        self.workshop = Some(workshop);
        code
    }

    fn translate_region(
        &mut self,
        blocks: &mut BlockCache,
        guest: Guest<'_>,
        gpa: u64,
        class: Class,
        page: &[u8; PAGE],
        workshop: &mut Workshop,
    ) -> Option<Code> {
        let finder =
            Finder { translator: self, blocks, guest, page_gpa: gpa & !0xfff, class, page };
        let mut members = finder.members((gpa & 0xfff) as u16, workshop)?;
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
        let scratch = &mut workshop.scratch;
        let emitted = emit::emit(&region, &self.stubs, &around, origin, self.sites.next(), scratch);
        let (first, last) = around.seen.get();
        if emitted.bytes > MAX_REGION_BYTES {
            return None;
        }
        self.sites.add(self.memory.used(), &scratch.targets);
        self.memory.push(&scratch.code);
        let (linked, forward) = (origin + emitted.linked, origin + emitted.forward);
        let code = Code { entry: origin, linked, forward };
        for (n, source) in region.blocks.into_iter().enumerate() {
            let key = guest.key(gpa & !0xfff | u64::from(source.offsets[0]));
            // SAFETY: as above.
            let next = blocks.find(key).map_or(0, |block| unsafe { (*block).translated() });
            self.known.push(Known {
                ops: source.ops,
                native: native(&source.shapes),
                start: source.offsets[0],
                code: (n == 0).then_some(code),
                class,
                next,
            });
            blocks.set_translated(key, number + n as u32);
            workshop.put_away(source);
        }
        if first <= last {
            blocks.cover(gpa & !0xfff, u64::from(first), u64::from(last));
        }
        Some(code)
    }
}

/// Which instructions are not the interpreter's, as bits.
fn native(shapes: &[Option<Shape>]) -> u64 {
    shapes.iter().enumerate().fold(0, |m, (n, s)| m | u64::from(s.is_some()) << n)
}

fn nothing() -> Known {
    Known { ops: &[], native: 0, start: 0, code: None, class: Class::Checked, next: 0 }
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
        let first = unsafe { (*found).translated() };
        self.translator.find(first, self.class).map(|code| code.linked(forward))
    }

    fn needs(&self, offset: u16) -> u32 {
        let mut at = usize::from(offset);
        let mut effects = Vec::new();
        let mut reader = self.guest.reader(self.bytes);
        for _ in 0..LOOK_AHEAD {
            let Ok(i) = reader.at(at, at as u64) else { break };
            let bytes = &self.bytes[at..at + i.len()];
            let (first, last) = self.seen.get();
            let end = (at + i.len() - 1) as u16;
            self.seen.set((first.min(at as u16), last.max(end)));
            let Some(shape) = guest::shape(i, bytes, self.guest.features, self.guest.kind) else {
                break;
            };
            effects.push(flags::effect(i));
            at += i.len();
            if shape.transfers() || at >= PAGE {
                break;
            }
        }
        effects.iter().rev().fold(flags::ALL, |live, &e| flags::live_before(e, live))
    }
}
