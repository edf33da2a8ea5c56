//! How a block ends: jumps, calls, returns.

use super::asm::{Opcode, host};
use super::emit::{Emitter, in_page};
use super::guest::{Form, Operand, Register};
use super::state::{BACK, PAGE_BASE, pinned, register};

impl Emitter<'_> {
    /// Goes to an offset from the start of the page. `n` is the instruction that does it.
    pub fn go_to(&mut self, target: i64, n: usize) {
        match in_page(target) {
            Some(offset) => match self.linked_to(offset) {
                Some(linked) => self.asm.jump(linked),
                None => {
                    let after = self.asm.jump_later();
                    self.exit(after, offset);
                }
            },
            None => {
                self.linear(target);
                self.asm.mov_imm32(host::R11, self.site(n));
                let to = self.class_stubs().jump;
                self.asm.jump(to);
            }
        }
    }

    /// The linear address of an offset from the start of the page to R10.
    fn linear(&mut self, target: i64) {
        self.asm.load(host::R10, PAGE_BASE);
        #[allow(clippy::cast_possible_truncation)]
        self.asm.lea(host::R10, host::R10, None, target as i32);
    }

    pub fn branch(&mut self, n: usize, condition: u8) {
        let (taken, next) = (self.target(n), i64::from(self.offset(n + 1)));
        match in_page(taken) {
            Some(offset) => {
                let after = self.asm.jcc_later(condition);
                match self.linked_to(offset) {
                    Some(linked) => self.asm.aim(after, linked),
                    None => self.exit(after, offset),
                }
                self.go_to(next, n);
            }
            None => {
                let over = self.asm.jcc_later(condition ^ 1);
                self.go_to(taken, n);
                self.asm.land(over);
                self.go_to(next, n);
            }
        }
    }

    pub fn call(&mut self, n: usize) {
        let target = self.target(n);
        let back = i64::from(self.offset(n + 1));
        let Some(offset) = in_page(target) else {
            self.return_address(back);
            self.linear(target);
            self.asm.mov_imm32(host::R11, self.site(n));
            let to = self.class_stubs().call;
            self.asm.jump(to);
            return;
        };
        let live = self.live_after(n);
        let slot = self.call_check(n, live);
        self.linear(back);
        self.asm.modrm(Opcode::wide(0x89), host::R10, slot);
        self.asm.lea(host::R9, host::R9, None, -8);
        self.go_to(i64::from(offset), n);
    }

    /// The return address to its place, flags untouched.
    fn return_address(&mut self, back: i64) {
        self.linear(back);
        self.asm.store(BACK, host::R10);
    }

    /// JMP and CALL through a register or memory.
    pub fn indirect(&mut self, n: usize, form: Form, call: bool) {
        if call {
            self.return_address(i64::from(self.offset(n + 1)));
        }
        match form.rm {
            Operand::Register(Register::General(r)) => match pinned(r) {
                Some(from) => self.asm.mov(host::R10, from),
                None => self.asm.load(host::R10, register(r)),
            },
            _ => {
                // The stubs save the flags; here they must survive.
                let rm = self.access(n, 8, false, false, true, false);
                self.asm.modrm(Opcode::wide(0x8b), host::R10, rm);
            }
        }
        self.asm.mov_imm32(host::R11, self.site(n));
        let stubs = self.class_stubs();
        self.asm.jump(if call { stubs.call } else { stubs.jump });
    }
}
