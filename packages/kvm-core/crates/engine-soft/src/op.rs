//! The decoded form of an instruction: a handler and its operands in 32 bytes... and a bit.

use kvm_cpu::Trap;

use crate::vcpu::Vcpu;

/// What every handler returns.
pub type Done = Result<(), Trap>;

/// Executes one instruction. On success RIP still names the instruction: the run loop adds its
/// length, so that a handler which sets RIP itself subtracts the length first.
pub type Handler = fn(&mut Vcpu, &Op) -> Done;

/// Addressing kind: 64-bit addresses, no segment base, no check but the page tables'.
pub const FLAT: u8 = 0;
/// Any other addressing goes through the general path; these bits say which address size.
pub const ADDR16: u8 = 1;
/// 32-bit addresses.
pub const ADDR32: u8 = 2;
/// 64-bit addresses with a segment base (FS or GS).
pub const ADDR64: u8 = 3;

/// Byte registers at or above this number are AH, CH, DH, BH.
pub const HIGH_BYTE: u8 = 20;

/// One decoded instruction.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)]
pub struct Op {
    /// Executes it.
    pub handler: Handler,
    /// Immediate, branch displacement, or what the handler says.
    pub imm: u64,
    /// Displacement of the memory operand.
    pub disp: i64,
    /// Base register (16 if none, 17 for RIP).
    pub base: u8,
    /// Index register (16 if none).
    pub index: u8,
    /// Shift of the index, 0 to 3.
    pub scale: u8,
    /// Segment register of the memory operand.
    pub seg: u8,
    /// First register operand.
    pub dst: u8,
    /// Second register operand.
    pub src: u8,
    /// Length in bytes.
    pub len: u8,
    /// Addressing kind.
    pub addressing: u8,
}
