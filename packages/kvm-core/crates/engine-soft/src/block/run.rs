//! One block: its head and its instructions in one piece of memory. What runs seldom is not in the
//! host's caches, so that each piece more would be waited for.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::op::Op;
use crate::thunk::VecOp;

/// No page has this address.
const NO_PAGE: u64 = u64::MAX;

/// A run of decoded instructions, of which only the last may change control flow. They lie behind this
/// head, see [`ops`](Self::ops).
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Block {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Guest physical page of the second half, for an instruction that straddles two pages.
    second_page: u64,
    /// Operands of vector instructions, which `Op::imm` of those points to.
    #[allow(clippy::vec_box, clippy::box_collection)]
    _vectors: Option<Box<Vec<Box<VecOp>>>>,
    /// Number of its first translation, or 0.
    translated: Cell<u32>,
    /// Bytes that the instructions take.
    pub bytes: u16,
    count: u8,
    /// Executions by the interpreter, as far as they are counted.
    heat: Cell<u8>,
    /// What that was when the block was last looked at.
    seen: Cell<u8>,
}

impl Block {
    /// The instructions in order.
    ///
    /// # Safety
    /// `this` comes from a [`BlockBox`], which lives as long as the instructions are used.
    #[inline(always)]
    pub unsafe fn ops<'a>(this: *const Self) -> &'a [Op] {
        // SAFETY: `BlockBox::new` put that many there, and nobody changes them.
        unsafe { std::slice::from_raw_parts(this.add(1).cast(), usize::from((*this).count)) }
    }

    /// Guest physical page of the second half, for an instruction that straddles two pages.
    pub fn second_page(&self) -> Option<u64> {
        (self.second_page != NO_PAGE).then_some(self.second_page)
    }

    /// Number of its first translation, or 0.
    #[inline(always)]
    pub fn translated(&self) -> u32 {
        self.translated.get()
    }

    pub(super) fn set_translated(&self, number: u32) {
        self.translated.set(number);
    }

    /// Executions by the interpreter, 255 at most.
    pub fn executions(&self) -> u8 {
        self.heat.get()
    }

    /// Begins anew to count executions.
    pub(super) fn cool(&self) {
        self.heat.set(0);
        // To have run once is not to have run again.
        self.seen.set(1);
    }

    /// True if the block ran since this was last asked.
    pub(super) fn ran(&self) -> bool {
        // Where the counter stops it would say no for ever.
        let heat = self.heat.get().min(254);
        self.heat.set(heat);
        self.seen.replace(heat) != heat && heat > 1
    }

    /// Counts an execution; true if this one makes `threshold`.
    #[inline(always)]
    pub fn heats_to(&self, threshold: u8) -> bool {
        let heat = self.heat.get().saturating_add(1);
        self.heat.set(heat);
        heat == threshold
    }
}

/// A block on the heap, which does not move.
#[derive(Debug)]
pub struct BlockBox(NonNull<Block>);

fn layout(count: u8) -> Layout {
    const OP: usize = size_of::<Op>();
    const { assert!(align_of::<Block>() >= align_of::<Op>() && !std::mem::needs_drop::<Op>()) };
    let bytes = size_of::<Block>() + usize::from(count) * OP;
    Layout::from_size_align(bytes, align_of::<Block>()).expect("small")
}

impl BlockBox {
    /// A block over `ops`, at most 255, whose vector operands stay where they are.
    #[allow(clippy::vec_box)]
    pub fn new(
        ops: &[Op],
        vectors: Vec<Box<VecOp>>,
        bytes: u16,
        gpa: u64,
        second_page: Option<u64>,
    ) -> Self {
        let count = u8::try_from(ops.len()).expect("a block is short");
        let head = Block {
            gpa,
            second_page: second_page.unwrap_or(NO_PAGE),
            _vectors: (!vectors.is_empty()).then(|| Box::new(vectors)),
            translated: Cell::new(0),
            bytes,
            count,
            heat: Cell::new(0),
            seen: Cell::new(1),
        };
        let layout = layout(count);
        // SAFETY: not empty.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }.cast::<Block>()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: there is room for the head and for as many instructions.
        unsafe {
            at.write(head);
            std::ptr::copy_nonoverlapping(ops.as_ptr(), at.add(1).cast().as_ptr(), ops.len());
        }
        Self(at)
    }

    /// Where it is.
    pub fn as_ptr(&self) -> *const Block {
        self.0.as_ptr()
    }
}

impl Deref for BlockBox {
    type Target = Block;
    fn deref(&self) -> &Block {
        // SAFETY: lives as long as this.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for BlockBox {
    fn drop(&mut self) {
        let layout = layout(self.count);
        // SAFETY: made by `new` with this layout; nobody else has it.
        unsafe {
            self.0.drop_in_place();
            dealloc(self.0.as_ptr().cast(), layout);
        }
    }
}
