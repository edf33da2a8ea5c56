//! From `iced-x86` instructions to handlers and operands.
//!
//! Each submodule knows a group of mnemonics and returns the handler, or `None` to let the next
//! one try. What nobody knows is #UD, as on a processor without the feature.

mod branches;
mod integer;
mod shifts;
mod strings;
mod system;
mod vector;

use iced_x86::{Instruction, OpKind, Register};
use kvm_cpu::reg;

use crate::features::GuestFeatures;
use crate::op::{ADDR16, ADDR32, ADDR64, FLAT, HIGH_BYTE, Handler, Op};
use crate::thunk::VecOp;

/// Builds the operations of one block.
#[allow(missing_debug_implementations)]
pub struct Lowering {
    bits: u32,
    features: GuestFeatures,
    ops: Vec<Op>,
    #[allow(clippy::vec_box)]
    vectors: Vec<Box<VecOp>>,
    ended: bool,
}

impl Lowering {
    /// For code of the given default size. The operations are put into `ops`, which is used again and
    /// again: what is kept of them takes no more memory than they need.
    pub fn new(bits: u32, features: GuestFeatures, mut ops: Vec<Op>) -> Self {
        ops.clear();
        Self { bits, features, ops, vectors: Vec::new(), ended: false }
    }

    /// Instructions so far.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// True after an instruction that must be the last.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What was built.
    #[allow(clippy::vec_box)]
    pub fn finish(self) -> (Vec<Op>, Vec<Box<VecOp>>) {
        (self.ops, self.vectors)
    }

    /// Adds an instruction that raises #UD.
    pub fn add_undefined(&mut self) {
        self.ops.push(undefined_op());
        self.ended = true;
    }

    /// Adds one instruction, which lies at `ip` and is encoded in `bytes`.
    pub fn add(&mut self, i: &Instruction, ip: u64, bytes: &[u8]) {
        let mut x =
            Context { i, ip, bytes, bits: self.bits, features: self.features, op: empty_op(i) };
        x.memory();
        let handler = integer::lower(&mut x)
            .or_else(|| shifts::lower(&mut x))
            .or_else(|| branches::lower(&mut x))
            .or_else(|| strings::lower(&mut x))
            .or_else(|| system::lower(&mut x))
            .or_else(|| vector::lower(&mut x, &self.features.thunks, &mut self.vectors));
        match handler {
            Some(handler) => {
                x.op.handler = handler;
                self.ops.push(x.op);
            }
            None => {
                // For who asks what it was; an instruction that nobody knows is none.
                let name = i.mnemonic() as u64 + 1;
                self.ops.push(Op { imm: name, ..undefined_op() });
                self.ended = true;
            }
        }
    }
}

fn empty_op(i: &Instruction) -> Op {
    Op {
        handler: crate::fetch::undefined,
        imm: 0,
        disp: 0,
        base: reg::ZERO as u8,
        index: reg::ZERO as u8,
        scale: 0,
        seg: 0,
        dst: 0,
        src: 0,
        #[allow(clippy::cast_possible_truncation)]
        len: i.len() as u8,
        addressing: FLAT,
    }
}

/// An operation that raises #UD.
fn undefined_op() -> Op {
    empty_op(&Instruction::default())
}

/// One instruction being lowered.
pub(crate) struct Context<'a> {
    pub i: &'a Instruction,
    pub ip: u64,
    pub bytes: &'a [u8],
    pub bits: u32,
    pub features: GuestFeatures,
    pub op: Op,
}

impl Context<'_> {
    /// Fills the memory operand, if there is an explicit one.
    fn memory(&mut self) {
        let i = self.i;
        let (base, index) = (i.memory_base(), i.memory_index());
        let has_memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
        if !has_memory {
            return;
        }
        let size = if base != Register::None {
            base.size()
        } else if index != Register::None {
            index.size()
        } else {
            match i.memory_displ_size() {
                2 => 2,
                4 => 4,
                8 => 8,
                // No displacement at all cannot be without a base; be safe.
                _ => (self.bits / 8) as usize,
            }
        };
        self.op.disp = i.memory_displacement64().cast_signed();
        if base == Register::RIP || base == Register::EIP {
            // iced gives the target; blocks are position-independent.
            self.op.base = reg::RIP as u8;
            self.op.disp = self.op.disp.wrapping_sub(self.ip.cast_signed());
        } else if base != Register::None {
            self.op.base = number(base);
        }
        if index != Register::None {
            self.op.index = number(index);
            #[allow(clippy::cast_possible_truncation)]
            {
                self.op.scale = i.memory_index_scale().trailing_zeros() as u8;
            }
        }
        self.op.seg = self.memory_segment();
        self.op.addressing = self.addressing(size, self.op.seg);
    }

    /// The segment register of the memory operand. In 64-bit mode only FS and GS can be chosen: the
    /// other prefixes are ignored, also for the vector of the fault.
    pub fn memory_segment(&self) -> u8 {
        let chosen = self.i.memory_segment();
        if self.bits != 64 || matches!(chosen, Register::FS | Register::GS) {
            return segment(chosen);
        }
        match self.i.memory_base() {
            Register::RSP | Register::ESP | Register::RBP | Register::EBP => segment(Register::SS),
            _ => segment(Register::DS),
        }
    }

    /// The addressing kind for an address size in bytes and a segment.
    pub fn addressing(&self, size: usize, seg: u8) -> u8 {
        match size {
            2 => ADDR16,
            4 => ADDR32,
            _ if usize::from(seg) == kvm_cpu::seg::FS || usize::from(seg) == kvm_cpu::seg::GS => {
                ADDR64
            }
            _ => FLAT,
        }
    }

    /// True if operand `n` is in memory.
    pub fn is_mem(&self, n: u32) -> bool {
        self.i.op_kind(n) == OpKind::Memory
    }

    /// True if operand `n` is a general register.
    pub fn is_gpr(&self, n: u32) -> bool {
        self.i.op_kind(n) == OpKind::Register && self.i.op_register(n).is_gpr()
    }

    /// True if operand `n` is an immediate.
    pub fn is_imm(&self, n: u32) -> bool {
        n < self.i.op_count()
            && matches!(
                self.i.op_kind(n),
                OpKind::Immediate8
                    | OpKind::Immediate8_2nd
                    | OpKind::Immediate16
                    | OpKind::Immediate32
                    | OpKind::Immediate64
                    | OpKind::Immediate8to16
                    | OpKind::Immediate8to32
                    | OpKind::Immediate8to64
                    | OpKind::Immediate32to64
            )
    }

    /// Width in bytes of operand `n`, a register or memory.
    pub fn width(&self, n: u32) -> usize {
        if self.is_mem(n) { self.i.memory_size().size() } else { self.i.op_register(n).size() }
    }

    /// Number of the register operand `n`.
    pub fn reg(&self, n: u32) -> u8 {
        number(self.i.op_register(n))
    }

    /// Immediate operand `n`, sign-extended as the instruction says.
    pub fn imm(&self, n: u32) -> u64 {
        self.i.immediate(n)
    }

    /// True with a LOCK prefix.
    pub fn locked(&self) -> bool {
        self.i.has_lock_prefix()
    }
}

/// Number of a general register; AH to BH follow at [`HIGH_BYTE`].
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn number(r: Register) -> u8 {
    match r {
        Register::AH => HIGH_BYTE,
        Register::CH => HIGH_BYTE + 1,
        Register::DH => HIGH_BYTE + 2,
        Register::BH => HIGH_BYTE + 3,
        _ => r.full_register().number() as u8,
    }
}

/// Index of a segment register.
pub(crate) fn segment(r: Register) -> u8 {
    match r {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::FS => 4,
        Register::GS => 5,
        _ => 3,
    }
}

/// Picks a handler by operand form: register or memory.
pub(crate) fn either(memory: bool, in_memory: Handler, in_register: Handler) -> Handler {
    if memory { in_memory } else { in_register }
}
