//! How a region is left: out of line, behind its blocks, where the straight way does not pass.

use smallvec::{SmallVec, smallvec};

use super::asm::host;
use super::emit::Emitter;

/// Jumps that lead to one place: where each ends.
pub type Jumps = SmallVec<[usize; 2]>;

/// Where a slow path goes on.
pub enum Back {
    /// Behind its last instruction there is nothing of the block.
    Nowhere,
    /// At an address, with the flags in their place or not.
    Here(u64, bool),
    /// Before an instruction of the copy of a block.
    Copy(usize, usize),
}

/// An access that the TLB does not answer, handled behind the blocks.
pub struct Slow {
    /// Jumps that arrive there.
    pub from: Jumps,
    pub site: u32,
    pub back: Back,
    /// The flags are in their place in the vCPU.
    pub flags_saved: bool,
}

/// A check for a group that failed.
pub struct Miss {
    pub from: usize,
    pub block: usize,
    /// The instruction before which the copy is entered.
    pub n: usize,
    pub flags_saved: bool,
}

/// A way out of a poll.
pub struct Leaving {
    /// The jump that arrives there.
    pub from: usize,
    /// What goes back to the budget.
    pub back: u32,
    /// Offset in the page at which the guest is.
    pub offset: u16,
    pub flags_saved: bool,
    /// Registers are lent there.
    pub borrowed: bool,
}

/// A jump out of the region.
pub enum Exit {
    /// The end of a jump, patched when its target is known.
    Link(usize),
    /// The end of a conditional jump to where the borrowed registers go back first.
    Around(usize),
}

impl Emitter<'_> {
    /// The ways into the copies.
    pub fn group_misses(&mut self) {
        let mut misses = std::mem::take(&mut self.misses);
        for miss in misses.drain(..) {
            let (to, saved) = self.copies[miss.block][miss.n];
            self.asm.land(miss.from);
            self.change_flags(miss.flags_saved, saved);
            self.asm.jump(to);
        }
        self.misses = misses;
    }

    /// Notes a jump to the interpreter for instruction `n`.
    pub fn slow_path(&mut self, n: usize, from: usize) {
        let (site, flags_saved) = (self.site(n), self.flags_saved);
        self.slow.push(Slow { from: smallvec![from], site, back: Back::Nowhere, flags_saved });
    }

    pub fn leave_polls(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        for l in leaving.drain(..) {
            self.asm.land(l.from);
            if l.flags_saved {
                self.load_live_flags();
            }
            if l.borrowed {
                self.give_back();
            }
            self.asm.mov_imm32(host::R10, u32::from(l.offset));
            self.asm.mov_imm32(host::R11, l.back);
            self.asm.jump(self.stubs.exhausted);
        }
        self.leaving = leaving;
    }

    pub fn slow_paths(&mut self) {
        let local = self.local_interpreter();
        let mut slow = std::mem::take(&mut self.slow);
        for s in slow.drain(..) {
            s.from.iter().for_each(|&from| self.asm.land(from));
            if s.flags_saved {
                self.load_live_flags();
            }
            self.asm.mov_imm32(host::R11, s.site);
            let (back, saved) = match s.back {
                Back::Nowhere => {
                    self.give_back();
                    self.asm.jump(self.stubs.finish);
                    continue;
                }
                Back::Here(back, saved) => (back, saved),
                Back::Copy(block, n) => self.copies[block][n],
            };
            self.asm.call(local);
            self.change_flags(false, saved);
            self.asm.jump(back);
        }
        self.slow = slow;
    }

    /// What slow paths call: the interpreter itself unless registers are borrowed.
    pub fn local_interpreter(&mut self) -> u64 {
        if self.region.borrowed.is_empty() || self.slow.is_empty() {
            return self.interpret;
        }
        let at = self.asm.here();
        // Keeps the stack aligned for the stub.
        self.asm.lea_rsp(-8);
        self.call_interpreter();
        self.asm.lea_rsp(8);
        self.asm.byte(0xc3);
        at
    }

    pub fn leave_region(&mut self) {
        let mut exits = std::mem::take(&mut self.exits);
        for (exit, offset, forward) in exits.drain(..) {
            let after = match exit {
                Exit::Link(after) => after,
                Exit::Around(from) => {
                    self.asm.land(from);
                    self.give_back();
                    match self.page.linked(offset, forward) {
                        Some(linked) => {
                            self.asm.jump(linked);
                            continue;
                        }
                        None => self.asm.jump_later(),
                    }
                }
            };
            self.asm.land(after);
            // lea r11, [rip + distance to the end of the jump]
            self.asm.bytes(&[0x4c, 0x8d, 0x1d]);
            let distance = after as i64 - (self.asm.len() as i64 + 4);
            self.asm.bytes(&(distance as i32).to_le_bytes());
            self.asm.mov_imm32(host::R10, u32::from(offset));
            self.asm.jump(self.stubs.unlinked[usize::from(forward)]);
        }
        self.exits = exits;
    }

    fn note_exit(&mut self, exit: Exit, offset: u16) {
        let forward = self.forward(offset);
        self.exits.push((exit, offset, forward));
    }

    /// True if a jump at the end of the present block to an offset goes forward.
    fn forward(&self, offset: u16) -> bool {
        offset > self.offset(self.source.last())
    }

    /// Goes to an offset of the page that is in no block of the region.
    pub fn exit(&mut self, offset: u16) {
        if self.page.needs(offset) != 0 {
            self.need_flags();
        }
        self.give_back();
        match self.page.linked(offset, self.forward(offset)) {
            Some(linked) => self.asm.jump(linked),
            None => {
                let after = self.asm.jump_later();
                self.note_exit(Exit::Link(after), offset);
            }
        }
    }

    /// The same for a conditional jump that ends at `after`.
    pub fn exit_from(&mut self, after: usize, offset: u16) {
        let kept = self.region.borrowed.is_empty();
        match self.page.linked(offset, self.forward(offset)) {
            Some(linked) if kept => self.asm.aim(after, linked),
            _ if kept => self.note_exit(Exit::Link(after), offset),
            _ => self.note_exit(Exit::Around(after), offset),
        }
    }
}
