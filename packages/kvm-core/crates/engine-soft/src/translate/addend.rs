//! The addends of groups: found by their checks, kept in the vCPU, and in R11 from one access to the
//! next.

use super::asm::host;
use super::emit::Emitter;
use super::group::Group;
use super::guest::{Operand, Register, Shape};
use super::ways_out::Miss;

impl Emitter<'_> {
    /// Emits the checks that come before instruction `n`.
    pub fn check_groups(&mut self, n: usize) {
        for k in 0..self.groups.len() {
            let Group { at, base, low, high, write, .. } = self.groups[k];
            let Some(base) = self.home(base).filter(|_| at == n) else { continue };
            if self.flags_live_at_check(n) {
                self.protect_flags();
            }
            let from = self.group_check(base, low, high, write);
            if !self.stays(k, n) {
                self.asm.store(super::state::group(k), host::R11);
            }
            self.addend = Some(k);
            let (block, flags_saved) = (self.block, self.flags_saved);
            self.misses.extend(from.into_iter().map(|from| Miss { from, block, n, flags_saved }));
        }
    }

    /// The addend of the group that the access of instruction `n` belongs to, to R11.
    pub fn grouped(&mut self, n: usize) -> bool {
        let found = self.in_group(n);
        if let Some(k) = found {
            if self.addend != found {
                self.asm.load(host::R11, super::state::group(k));
            }
            self.addend = found;
        }
        found.is_some()
    }

    /// True if R11 keeps the addend of a group that is checked before instruction `n` up to its last
    /// access.
    fn stays(&self, k: usize, n: usize) -> bool {
        let last = self.groups[k].last();
        let before_last = (1u64 << last).saturating_sub(1 << n);
        let others = |g: &Group| g.at > n && g.at <= last || g.members & before_last != 0;
        let alone = self.groups.iter().enumerate().all(|(other, g)| other == k || !others(g));
        // Another check may come before the same instruction, behind this one.
        let latest = self.groups.iter().skip(k + 1).all(|g| g.at != n);
        alone
            && latest
            && (n..last)
                .all(|n| self.source.shapes[n].is_some_and(|shape| self.keeps_addend(n, shape)))
    }

    /// True if the addend of a group is in R11 still after an instruction, or now.
    pub fn keeps_addend(&self, n: usize, shape: Shape) -> bool {
        let home = |r| match r {
            Register::General(r) => self.home(r).is_some(),
            Register::High(_) | Register::Extension(_) => true,
        };
        match shape {
            Shape::Nothing | Shape::Verbatim | Shape::InOpcode { .. } => true,
            Shape::Modrm(form) => match form.rm {
                Operand::Register(rm) => home(rm),
                // A table's place is made where its addend was.
                Operand::Memory => self.in_group(n).is_some() && self.simple(n).is_some(),
            },
            Shape::Push(_) | Shape::PushImmediate(_) | Shape::Pop(_) | Shape::Leave => {
                self.in_group(n).is_some()
            }
            Shape::Vector(form) => self.verbatim(&form) || self.in_group(n).is_some(),
            Shape::Lea(_) => !self.takes_both(&self.source.ops[n], false),
            _ => false,
        }
    }

    fn in_group(&self, n: usize) -> Option<usize> {
        self.groups.iter().position(|g| g.contains(n))
    }
}
