//! Vector registers in translated code.
//!
//! The host has the guest's vector registers only while code runs that uses them: `Hot::vectors` is
//! the *level*, 0 for none, 1 for XMM0 to XMM15 and MXCSR (the upper halves stay in the vCPU, where
//! legacy SSE leaves them alone), 2 for YMM0 to YMM15 and MXCSR. A block that needs a level raises it
//! at its start; whatever calls the interpreter or leaves the code takes the registers back, as the
//! host's compiler uses them for its own ends.
//!
//! A level is refused while the guest may not use such instructions or has unmasked a SIMD exception,
//! which must never be raised in the host. The block is interpreted then.

use super::asm::{Assembler, Opcode, Rm, Vex, host};
use super::state::{
    BUDGET, HOST_MXCSR, MXCSR, PAGE_BASE, RAX, RIP, VECTORS, VECTORS_ALLOWED, spill,
    vector_register,
};
use super::stubs::left;
use crate::thunk::{Class, Feature};
use crate::vcpu::Vcpu;

/// Levels, 0 included.
pub const LEVELS: usize = 3;
const REGISTERS: u8 = 16;

impl Vcpu {
    /// The levels that are allowed now.
    pub(super) fn vectors_allowed(&self) -> u32 {
        let open = |class: Class| self.vector_gate & (1 << class as u8) != 0;
        if !self.vectors.simd_masked() || !open(Class::Sse) {
            0
        } else if open(Class::Avx) && self.host.has(Feature::AVX) {
            0b110
        } else {
            0b010
        }
    }
}

fn state(disp: i32) -> Rm {
    Rm::State { index: None, disp }
}

/// Loads or stores all registers of a level.
fn move_all(asm: &mut Assembler, level: usize, store: bool) {
    let byte = if store { 0x29 } else { 0x28 };
    for r in 0..REGISTERS {
        let place = state(vector_register(r));
        if level == 2 {
            asm.vex(Vex { map: 1, pp: 0, wide: false, long: true, byte }, r, 0, place);
        } else {
            asm.modrm(Opcode::two(byte), r, place);
        }
    }
}

/// `ldmxcsr` (2) or `stmxcsr` (3).
fn mxcsr(asm: &mut Assembler, extension: u8, place: i32) {
    asm.modrm(Opcode::two(0xae), extension, state(place));
}

fn set_level(asm: &mut Assembler, level: usize) {
    asm.modrm(Opcode::narrow(0xc7), 0, state(VECTORS));
    asm.bytes(&(level as u32).to_le_bytes());
}

/// `cmp dword [VECTORS], level`.
pub fn compare_level(asm: &mut Assembler, level: usize) {
    asm.modrm(Opcode::narrow(0x83), 7, state(VECTORS));
    asm.byte(level as u8);
}

/// Called: takes the registers back, whatever the level is. Destroys the flags.
pub fn emit_take_back(asm: &mut Assembler) -> u64 {
    let at = asm.here();
    compare_level(asm, 2);
    let less = asm.jcc_later(2);
    move_all(asm, 2, true);
    // vzeroupper
    asm.bytes(&[0xc5, 0xf8, 0x77]);
    let join = asm.jump_later();
    asm.land(less);
    compare_level(asm, 1);
    let none = asm.jcc_later(2);
    move_all(asm, 1, true);
    asm.land(join);
    mxcsr(asm, 3, MXCSR);
    mxcsr(asm, 2, HOST_MXCSR);
    set_level(asm, 0);
    asm.land(none);
    asm.byte(0xc3);
    at
}

/// Calls [`emit_take_back`] if it has anything to do. Destroys the flags.
pub fn take_back(asm: &mut Assembler, stub: u64) {
    compare_level(asm, 0);
    let nothing = asm.jcc_later(4);
    asm.call(stub);
    asm.land(nothing);
}

/// `test byte [VECTORS_ALLOWED], bit`, and a jump if it is clear.
fn refused(asm: &mut Assembler, level: usize) -> usize {
    asm.modrm(Opcode { byte_rm: true, ..Opcode::narrow(0xf6) }, 0, state(VECTORS_ALLOWED));
    asm.byte(1 << level);
    asm.jcc_later(4)
}

/// Loads the registers of a level that is higher than the present one.
fn load(asm: &mut Assembler, level: usize, stub: u64) {
    if level == 2 {
        // What the host has is newer than what would be loaded.
        take_back(asm, stub);
    }
    move_all(asm, level, false);
    mxcsr(asm, 2, MXCSR);
    set_level(asm, level);
}

/// Called at the start of a block, with RAX live and the flags in their place: raises the level.
/// Where that is refused the code is left, with RIP at the offset R10 of the page and R11
/// instructions back in the budget.
pub fn emit_raise(asm: &mut Assembler, level: usize, stub: u64, leave: u64) -> u64 {
    let at = asm.here();
    let no = refused(asm, level);
    load(asm, level, stub);
    asm.byte(0xc3);
    asm.land(no);
    asm.store(RAX, host::RAX);
    asm.modrm(Opcode::wide(0x01), host::R11, state(BUDGET));
    asm.modrm(Opcode::wide(0x03), host::R10, state(PAGE_BASE));
    asm.store(RIP, host::R10);
    spill(asm);
    asm.mov_imm32(host::RAX, left::BUDGET as u32);
    asm.jump(leave);
    at
}

/// The same after the interpreter came back to such a block. The jump is taken where the level is
/// refused.
pub fn raise_again(asm: &mut Assembler, level: usize, stub: u64) -> usize {
    let no = refused(asm, level);
    load(asm, level, stub);
    no
}
