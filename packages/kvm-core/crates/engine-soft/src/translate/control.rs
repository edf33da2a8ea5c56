//! How a block ends: jumps, calls, returns.

use super::asm::{Rm, host};
use super::emit::{Emitter, in_page};
use super::guest::{Form, Operand, Register};
use super::state::{BACK, PAGE_BASE, register};

impl Emitter<'_> {
    /// Goes to an offset from the start of the page. `n` is the instruction that does it.
    pub fn go_to(&mut self, target: i64, n: usize) {
        if let Some(block) = self.region.find(target) {
            self.jump_inside(block);
        } else if let Some(offset) = in_page(target) {
            self.exit(offset);
        } else {
            self.give_back();
            self.linear(target);
            self.asm.mov_imm32(host::R11, self.site(n));
            let to = self.class_stubs().jump[usize::from(self.flags_saved)];
            self.asm.jump(to);
        }
    }

    /// The linear address of an offset from the start of the page to R10.
    fn linear(&mut self, target: i64) {
        self.asm.load(host::R10, PAGE_BASE);
        #[allow(clippy::cast_possible_truncation)]
        let sum = Rm::Mem { base: host::R10, index: None, disp: target as i32 };
        self.asm.modrm(self.full(0x8d), host::R10, sum);
    }

    pub fn branch(&mut self, n: usize, condition: u8) {
        let (taken, next) = (self.source.target(n), i64::from(self.offset(n + 1)));
        // What follows needs no jump.
        if self.region.find(taken).is_some_and(|block| self.follows(block)) {
            self.branch_to(next, taken, condition ^ 1, n);
        } else {
            self.branch_to(taken, next, condition, n);
        }
    }

    fn branch_to(&mut self, there: i64, else_there: i64, condition: u8, n: usize) {
        if let Some(block) = self.region.find(there) {
            let after = self.asm.jcc_later(condition);
            self.aim_inside(after, block);
        } else if let Some(offset) = in_page(there) {
            let after = self.asm.jcc_later(condition);
            self.exit_from(after, offset);
        } else {
            let over = self.asm.jcc_later(condition ^ 1);
            self.go_to(there, n);
            self.asm.land(over);
        }
        self.go_to(else_there, n);
    }

    pub fn call(&mut self, n: usize) {
        let target = self.source.target(n);
        let back = i64::from(self.offset(n + 1));
        let Some(offset) = in_page(target) else {
            if self.grouped(n) {
                self.call_away(n, back, target);
                return;
            }
            self.give_back();
            self.return_address(back);
            #[allow(clippy::cast_possible_truncation)]
            self.asm.lea(host::R10, host::R10, None, (target - back) as i32);
            self.asm.mov_imm32(host::R11, self.site(n));
            let to = self.class_stubs().call[usize::from(self.flags_saved)];
            self.asm.jump(to);
            return;
        };
        let live = self.live_after(n);
        let slot = self.call_check(n, live);
        self.linear(back);
        self.asm.modrm(self.full(0x89), host::R10, slot);
        self.move_stack(-self.slot());
        self.exit(offset);
    }

    /// Calls another page, with the addend of the stack in R11. What is written below the stack
    /// pointer is what the interpreter writes there if it has to do it all, also where the target is
    /// not canonical.
    fn call_away(&mut self, n: usize, back: i64, target: i64) {
        self.linear(back);
        let slot = Rm::Mem { base: host::R9, index: Some((host::R11, 0)), disp: -self.slot() };
        self.asm.modrm(self.full(0x89), host::R10, slot);
        #[allow(clippy::cast_possible_truncation)]
        let sum = Rm::Mem { base: host::R10, index: None, disp: (target - back) as i32 };
        self.asm.modrm(self.full(0x8d), host::R10, sum);
        self.give_back();
        self.asm.mov_imm32(host::R11, self.site(n));
        let to = self.class_stubs().call_to[usize::from(self.flags_saved)];
        self.asm.jump(to);
    }

    /// The return address to its place, flags untouched.
    fn return_address(&mut self, back: i64) {
        self.linear(back);
        self.asm.store(BACK, host::R10);
    }

    /// RET.
    pub fn go_back(&mut self, n: usize) {
        let stubs = self.class_stubs();
        let saved = usize::from(self.flags_saved);
        if self.grouped(n) {
            let slot = Rm::Mem { base: host::R9, index: Some((host::R11, 0)), disp: 0 };
            self.asm.modrm(self.full(0x8b), host::R10, slot);
            self.give_back();
            self.asm.mov_imm32(host::R11, self.site(n));
            self.asm.jump(stubs.ret_to[saved]);
        } else {
            self.give_back();
            self.asm.mov_imm32(host::R11, self.site(n));
            self.asm.jump(stubs.ret[saved]);
        }
    }

    /// JMP and CALL through a register or memory.
    pub fn indirect(&mut self, n: usize, form: Form, call: bool) {
        if call {
            self.return_address(i64::from(self.offset(n + 1)));
        }
        match form.rm {
            Operand::Register(Register::General(r)) => match self.home(r) {
                Some(from) => self.asm.mov(host::R10, from),
                None => self.asm.load(host::R10, register(r)),
            },
            _ => {
                // The stubs save the flags; here they must survive.
                let rm = self.access(n, form.size, false, false, true, false);
                self.asm.modrm(self.full(0x8b), host::R10, rm);
            }
        }
        self.give_back();
        self.asm.mov_imm32(host::R11, self.site(n));
        let stubs = self.class_stubs();
        let to = if call { stubs.call } else { stubs.jump };
        self.asm.jump(to[usize::from(self.flags_saved)]);
    }
}
