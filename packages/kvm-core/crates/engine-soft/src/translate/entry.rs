//! Where a region and its blocks are entered: from the table of entry points, by linked jumps and from
//! within.
//!
//! A region that needs the flags keeps them in their place in the vCPU at first: where a call comes
//! back nobody knows that they are dead, and most often the next call only puts them back. Jumps
//! that have them in the host go through a few instructions out of line.

use super::asm::{Opcode, Rm, host};
use super::emit::Emitter;
use super::region::Count;
use super::state::{BUDGET, REQUESTS};
use super::vector_state::compare_level;
use super::ways_out::Leaving;

/// Addresses at the start of a region.
pub struct Entry {
    live: u64,
    /// Behind the poll, if there is one that is not a loop's.
    polled: u64,
}

impl Emitter<'_> {
    /// True if jumps within the region go to its first block, which polls for all then.
    fn entry_is_loop(&self) -> bool {
        self.region.loops[0]
    }

    fn entry_needs_flags(&self) -> bool {
        self.region.needs[0] != 0
    }

    /// The region's entry. The flags stay in their place.
    pub fn enter(&mut self) -> Entry {
        let live = self.asm.here();
        if !self.entry_is_loop() {
            self.poll(self.entry_needs_flags(), false);
        }
        let polled = self.asm.here();
        self.raise_level();
        self.borrow();
        Entry { live, polled }
    }

    /// Where jumps arrive that have the flags in the host, if the region needs them: any, and those
    /// forward in the page, of which no loop consists alone. Offsets in the code.
    pub fn enter_with_flags(&mut self, entry: Entry) -> [u64; 2] {
        let start = self.asm.here() - self.asm.len() as u64;
        // Where instructions are counted, each entry counts.
        let polled = if self.region.count == Count::Not { entry.polled } else { entry.live };
        if !self.entry_needs_flags() {
            return [entry.live, polled].map(|at| at - start);
        }
        let mut out = |to| {
            let at = self.asm.here() - start;
            self.save_live_flags();
            self.asm.jump(to);
            at
        };
        let linked = out(entry.live);
        let forward = if polled == entry.live { linked } else { out(polled) };
        // Jumps from within the region.
        let first = self.labels[0].unwrap_or(entry.live);
        if !self.pending.is_empty() {
            for (from, _) in self.pending.drain(..) {
                self.asm.land(from);
            }
            self.save_live_flags();
            self.asm.jump(first);
        }
        [linked, forward]
    }

    /// Has the host take the vector registers that the region needs. Nobody needs the flags, or they
    /// are in their place.
    fn raise_level(&mut self) {
        if self.level == 0 {
            return;
        }
        compare_level(&mut self.asm, self.level);
        let enough = self.asm.jcc_later(3);
        self.asm.mov_imm32(host::R10, u32::from(self.offset(0)));
        // What the poll took off the budget goes back if the level is refused.
        let counted = self.region.count != Count::Not && !self.entry_is_loop();
        let back = if counted { self.region.weight(0) as u32 } else { 0 };
        self.asm.mov_imm32(host::R11, back);
        self.asm.call(self.stubs.raise[self.level]);
        self.asm.land(enough);
    }

    /// The start of the present block. Yields whether the flags are in their place.
    pub fn begin_block(&mut self) -> bool {
        let block = self.block;
        let needs_flags = self.region.needs[block] != 0;
        let here = self.asm.here();
        self.labels[block] = Some(here);
        if block > 0 || !needs_flags {
            let asm = &mut self.asm;
            self.pending.retain(|&(from, to)| {
                if to == block {
                    asm.land(from);
                }
                to != block
            });
        }
        if block == 0 {
            if self.entry_is_loop() {
                self.poll(needs_flags, true);
            }
            return needs_flags;
        }
        if self.region.loops[block] {
            if needs_flags {
                self.save_live_flags();
            }
            self.poll(needs_flags, true);
            if needs_flags {
                self.load_live_flags();
            }
        }
        false
    }

    /// Leaves when a request waits, or when the budget that instructions are taken off is used up
    /// where they are counted. Another vCPU that
    /// stores code asks for it to be dropped; who executes such code must serialize first (SDM volume
    /// 3, 9.1.3), which the interpreter does, and it looks for requests as well.
    fn poll(&mut self, flags_saved: bool, borrowed: bool) {
        let offset = self.offset(0);
        // mov r11, [requests]; cmp dword [r11], 0; jne
        self.asm.load(host::R11, REQUESTS);
        let word = Rm::Mem { base: host::R11, index: None, disp: 0 };
        self.asm.modrm(Opcode::narrow(0x83), 7, word);
        self.asm.byte(0);
        let asked = self.asm.jcc_later(5);
        self.leaving.push(Leaving { from: asked, back: 0, offset, flags_saved, borrowed });
        if self.region.count != Count::Not {
            // sub qword [budget], n; js
            let n = self.region.weight(self.block) as u32;
            self.asm.modrm(Opcode::wide(0x81), 5, Rm::State { index: None, disp: BUDGET });
            self.asm.bytes(&n.to_le_bytes());
            let from = self.asm.jcc_later(8);
            self.leaving.push(Leaving { from, back: n, offset, flags_saved, borrowed });
        }
    }

    /// Jumps to a block of the region, unless it follows.
    pub fn jump_inside(&mut self, block: usize) {
        let needs_flags = self.region.needs[block] != 0;
        if block == 0 && needs_flags && !self.flags_saved {
            let from = self.asm.jump_later();
            self.pending.push((from, block));
            return;
        }
        if block > 0 && needs_flags {
            self.need_flags();
        }
        match self.labels[block] {
            Some(label) => self.asm.jump(label),
            None if self.follows(block) => {}
            None => {
                let from = self.asm.jump_later();
                self.pending.push((from, block));
            }
        }
    }

    /// Lets a conditional jump that ends at `after` go to a block of the region. The host has the
    /// flags.
    pub fn aim_inside(&mut self, after: usize, block: usize) {
        match self.labels[block] {
            Some(label) if block > 0 || !self.entry_needs_flags() => self.asm.aim(after, label),
            _ => self.pending.push((after, block)),
        }
    }
}
