//! The stubs of flat code that differ from those of 64-bit code: slots of the stack have 4 bytes, and the
//! stack pointer wraps.

use super::asm::{Assembler, Opcode, Rm, host};
use super::state::{BACK, field};
use super::stubs::{
    ClassStubs, begin, entry_field, look_near, near_missed, set_page, tlb_compare, tlb_entry,
};
use crate::tlb::CLASSES;

/// Bytes of a slot.
const SLOT: i32 = 4;

/// Assembles them. `missed` lets the interpreter execute the whole branch.
pub fn assemble(asm: &mut Assembler, missed: u64) -> [ClassStubs; CLASSES] {
    std::array::from_fn(|class| {
        let mut twice = |emit: &dyn Fn(&mut Assembler)| {
            [false, true].map(|saved| {
                let at = asm.here();
                begin(asm, saved);
                emit(asm);
                at
            })
        };
        ClassStubs {
            jump: twice(&|asm| emit_jump(asm, class, 0, missed)),
            call: twice(&|asm| emit_call(asm, class, missed)),
            call_to: twice(&|asm| emit_jump(asm, class, -SLOT, missed)),
            ret: twice(&|asm| emit_return(asm, class, missed)),
            ret_to: twice(&|asm| emit_jump(asm, class, SLOT, missed)),
        }
    })
}

/// The addend for a slot at R9 + `disp` to RAX, or jumps away.
fn stack_addend(asm: &mut Assembler, disp: i32, tag: i32, class: usize) -> Vec<usize> {
    asm.lea(host::R11, host::R9, None, disp);
    asm.lea(host::RAX, host::R9, None, disp + SLOT - 1);
    let mut away = Vec::new();
    if disp < 0 {
        // Below zero addresses wrap: bt rax, 32; jc
        asm.modrm(Opcode { wide: true, ..Opcode::two(0xba) }, 4, Rm::Reg(host::RAX));
        asm.byte(32);
        away.push(asm.jcc_later(2));
    }
    let at = tlb_entry(asm, class);
    tlb_compare(asm, host::RAX, at + tag, 1);
    away.push(asm.jcc_later(5));
    asm.modrm(Opcode::wide(0x8b), host::RAX, entry_field(at + field::ADDEND));
    away
}

/// `lea r9d, [r9 + by]`.
fn move_stack(asm: &mut Assembler, by: i32) {
    asm.lea_short(host::R9, host::R9, None, by);
}

/// Goes to the linear address in R10 after the stack pointer moved.
fn emit_jump(asm: &mut Assembler, class: usize, moved: i32, missed: u64) {
    let looked = look_near(asm, class);
    if moved != 0 {
        move_stack(asm, moved);
    }
    set_page(asm);
    asm.modrm(Opcode::narrow(0xff), 4, looked.code());
    near_missed(asm, &looked, false, missed);
}

fn emit_call(asm: &mut Assembler, class: usize, missed: u64) {
    let misses = stack_addend(asm, -SLOT, field::WRITE, class);
    let looked = look_near(asm, class);
    asm.modrm(Opcode::wide(0x8b), host::R11, looked.code());
    set_page(asm);
    // The return address to the stack, and there.
    asm.load(host::R10, BACK);
    let slot = Rm::Mem { base: host::R9, index: Some((host::RAX, 0)), disp: -SLOT };
    asm.modrm(Opcode::narrow(0x89), host::R10, slot);
    move_stack(asm, -SLOT);
    asm.modrm(Opcode::narrow(0xff), 4, Rm::Reg(host::R11));
    near_missed(asm, &looked, true, missed);
    misses.into_iter().for_each(|miss| asm.land(miss));
    asm.jump(missed);
}

fn emit_return(asm: &mut Assembler, class: usize, missed: u64) {
    let misses = stack_addend(asm, 0, field::READ, class);
    let slot = Rm::Mem { base: host::R9, index: Some((host::RAX, 0)), disp: 0 };
    asm.modrm(Opcode::narrow(0x8b), host::R10, slot);
    emit_jump(asm, class, SLOT, missed);
    misses.into_iter().for_each(|miss| asm.land(miss));
    asm.jump(missed);
}
