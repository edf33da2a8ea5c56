//! Where the arithmetic flags are. The check of a memory access destroys the host's, so that live ones
//! are put into the vCPU first. They stay there until an instruction needs them, or all that are live
//! are written anew: a function's end, which restores many registers, saves them once.

use super::asm::host;
use super::emit::Emitter;
use super::flags;
use super::state::RAX;
use super::stubs::{load_flags, save_flags};

impl Emitter<'_> {
    /// Moves the flags to or from their place.
    pub fn change_flags(&mut self, from: bool, to: bool) {
        match (from, to) {
            (true, false) => self.load_live_flags(),
            (false, true) => self.save_live_flags(),
            _ => {}
        }
    }

    /// Keeps the flags from what comes next, which destroys them.
    pub fn protect_flags(&mut self) {
        if !self.flags_saved {
            self.save_live_flags();
            self.flags_saved = true;
        }
    }

    /// Has the host have the flags.
    pub fn need_flags(&mut self) {
        if self.flags_saved {
            self.load_live_flags();
            self.flags_saved = false;
        }
    }

    /// What an instruction needs of the flags before the host executes it.
    pub fn flags_before(&mut self, n: usize) {
        if !self.flags_saved {
            return;
        }
        let effect = self.source.effects[n];
        let keeps = self.live[n] & !effect.kills != 0;
        if effect.reads != 0 || effect.changes && keeps {
            self.need_flags();
        }
    }

    /// After it they are the host's again if it changed them.
    pub fn flags_after(&mut self, n: usize) {
        if self.source.effects[n].changes {
            self.flags_saved = false;
        }
    }

    /// True if a check in front of instruction `n` must leave the flags as they are.
    pub fn flags_live_at_check(&self, n: usize) -> bool {
        flags::live_before(self.source.effects[n], self.live[n]) != 0
    }

    /// Puts live flags where a check cannot reach them. R10 is free, as it always is before a check.
    pub fn save_live_flags(&mut self) {
        save_flags(&mut self.asm, host::R10);
    }

    /// Takes them back.
    pub fn load_live_flags(&mut self) {
        self.asm.store(RAX, host::RAX);
        load_flags(&mut self.asm, host::RAX);
        self.asm.restore_flags();
        self.asm.load(host::RAX, RAX);
    }
}
