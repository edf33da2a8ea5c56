//! How a block ends: jumps, calls, returns.

use super::asm::{Rm, host};
use super::dispatch::{Variety, Way};
use super::emit::{Emitter, in_page};
use super::guest::{Form, Operand, Register};
use super::state::{PAGE_BASE, SCRATCH, register};

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
            self.dispatch(n, Way::Jump, Variety::One);
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
        let live = self.live_after(n);
        let slot = self.call_check(n, live);
        self.linear(back);
        self.asm.modrm(self.full(0x89), host::R10, slot);
        match in_page(target) {
            Some(offset) => {
                self.move_stack(-self.slot());
                self.exit(offset);
            }
            None => self.call_away(n, back, target),
        }
    }

    /// Calls another page, with the return address in R10 and on the stack. What is written below the
    /// stack pointer is what the interpreter writes there if it has to do it all, also where the target
    /// is not canonical.
    fn call_away(&mut self, n: usize, back: i64, target: i64) {
        #[allow(clippy::cast_possible_truncation)]
        let sum = Rm::Mem { base: host::R10, index: None, disp: (target - back) as i32 };
        self.asm.modrm(self.full(0x8d), host::R10, sum);
        self.give_back();
        self.dispatch(n, Way::Call, Variety::One);
    }

    /// RET.
    pub fn go_back(&mut self, n: usize) {
        let live = self.live_after(n);
        let slot = self.stack_check(n, host::R9, 0, false, live);
        self.asm.modrm(self.full(0x8b), host::R10, slot);
        self.give_back();
        self.dispatch(n, Way::Return, Variety::Some);
    }

    /// JMP and CALL through a register or memory.
    pub fn indirect(&mut self, n: usize, form: Form, call: bool) {
        match form.rm {
            Operand::Register(Register::General(r)) => match self.home(r) {
                Some(from) => self.asm.mov(host::R10, from),
                None => self.asm.load(host::R10, register(r)),
            },
            _ => {
                let live = self.live_after(n);
                let rm = self.access(n, form.size, false, false, live, false);
                self.asm.modrm(self.full(0x8b), host::R10, rm);
            }
        }
        if !call {
            self.give_back();
            self.dispatch(n, Way::Jump, Variety::Many);
            return;
        }
        self.asm.store(SCRATCH, host::R10);
        let live = self.live_after(n);
        let slot = self.call_check(n, live);
        self.linear(i64::from(self.offset(n + 1)));
        self.asm.modrm(self.full(0x89), host::R10, slot);
        self.give_back();
        self.asm.load(host::R10, SCRATCH);
        self.dispatch(n, Way::Call, Variety::Many);
    }
}
