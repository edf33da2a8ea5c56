//! From a block to one of another page, whose address is known when it goes there.
//!
//! A processor that foresees where an indirect jump leads needs to know where it comes from, and one that
//! must not foresee it waits some thirty cycles. So each such jump of the guest compares its target with one
//! that it led to before, and goes there directly. Where that fails, it goes through the small table of entry
//! points; each time that some of them did ([`Policy::learn_after`]), one of them learns its target.
//!
//! [`Policy::learn_after`]: super::Policy::learn_after

use super::asm::{Opcode, Rm, host};
use super::emit::Emitter;
use super::stamps::NEVER;
use super::state::{SAMPLE, STAMP};
use super::stubs::{look_near, save_flags, set_page};
use super::targets::Targets;

/// How the stack pointer moves on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Jump,
    Call,
    Return,
}

impl Way {
    /// By how many slots.
    pub fn slots(self) -> i32 {
        match self {
            Self::Jump => 0,
            Self::Call => -1,
            Self::Return => 1,
        }
    }
}

/// Targets that a jump may know at most.
const TARGETS: usize = 4;

/// How many different ones a jump may lead to, apart from what other mappings make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// It names its target.
    One,
    /// Where a function was called from.
    Some,
    /// A switch's cases, a variable's functions.
    Many,
}

impl Variety {
    /// How many of them it may know.
    fn targets(self) -> usize {
        match self {
            Self::One => 1,
            Self::Some => 2,
            Self::Many => TARGETS,
        }
    }
}

/// A jump whose target is none that it knows.
pub struct Far {
    from: [usize; 2 * TARGETS],
    /// How many of these there are.
    count: usize,
    site: u32,
    way: Way,
    number: usize,
}

impl Emitter<'_> {
    /// Goes to the linear address in R10. `n` is the instruction that does it.
    pub fn dispatch(&mut self, n: usize, way: Way, variety: Variety) {
        if !self.flags_saved {
            save_flags(&mut self.asm, host::R11);
        }
        let mut far = Far { from: [0; 2 * TARGETS], count: 0, site: self.site(n), way, number: 0 };
        let mut targets = Targets::new(variety.targets());
        let mut other = None;
        for _ in 0..variety.targets() {
            if let Some(from) = other {
                self.asm.land(from);
            }
            // mov r11, rip; cmp r10, r11; jne
            self.asm.in_opcode(Opcode::wide(0xb8), host::R11);
            let rip = self.asm.len();
            self.asm.bytes(&[0; 8]);
            self.asm.modrm(Opcode::wide(0x3b), host::R10, Rm::Reg(host::R11));
            other = Some(self.asm.jcc_later(5));
            // cmp dword [STAMP], stamp; jne
            self.asm.modrm(Opcode::narrow(0x81), 7, Rm::State { index: None, disp: STAMP });
            let stamp = self.asm.len();
            self.asm.bytes(&NEVER.to_le_bytes());
            far.from[far.count] = self.asm.jcc_later(5);
            far.count += 1;
            self.go(way);
            let jump = self.asm.jump_later();
            targets.place(rip, stamp, jump);
        }
        if let Some(from) = other {
            far.from[far.count] = from;
            far.count += 1;
        }
        far.number = self.first_targets + self.targets.len();
        self.targets.push(targets);
        self.far.push(far);
    }

    /// The stack pointer and the page, without the jump.
    fn go(&mut self, way: Way) {
        if way != Way::Jump {
            self.move_stack(way.slots() * self.slot());
        }
        set_page(&mut self.asm);
    }

    /// The ways to the tables.
    pub fn far_jumps(&mut self) {
        let stubs = *self.stubs.of(self.region.kind, self.region.class);
        let class = self.class();
        let mut far = std::mem::take(&mut self.far);
        for Far { from, count, site, way, number } in far.drain(..) {
            from[..count].iter().for_each(|&from| self.asm.land(from));
            // sub dword [SAMPLE], 1; js
            self.asm.modrm(Opcode::narrow(0x83), 5, Rm::State { index: None, disp: SAMPLE });
            self.asm.byte(1);
            let sample = self.asm.jcc_later(8);
            let back = self.asm.here();
            let looked = look_near(&mut self.asm, class);
            self.go(way);
            self.asm.modrm(Opcode::narrow(0xff), 4, looked.code());
            self.asm.land(looked.miss);
            self.asm.mov_imm32(host::R11, site);
            self.asm.jump(stubs.far[way as usize]);
            self.asm.land(sample);
            self.asm.mov_imm32(host::R11, number as u32);
            self.asm.call(self.stubs.sample);
            self.asm.jump(back);
        }
        self.far = far;
    }
}
