//! What the vCPUs of a VM owe each other: answers, standing still, and waiting without a deadlock.

use std::sync::Arc;

use kvm_memory::Writers;

use crate::vcpu::Vcpu;
use crate::watch::Stopped;

/// Looks before a wait gives up the host CPU: the other side answers within a block of
/// instructions, unless it does not run.
const SPINS: u32 = 200;
/// PAUSEs in a row after which the guest is taken to wait for a vCPU that does not run.
const PATIENCE: u32 = 64;
/// Ticks of the host's time-stamp counter between two PAUSEs of one loop.
const LOOP_TICKS: u64 = 2000;

/// A loop that waits for another thread of this process.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    fn wait(&mut self) {
        self.0 += 1;
        if self.0 < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

impl Vcpu {
    /// Gives back permissions to store that other vCPUs asked for. Only between two accesses: no
    /// host address from the TLB is in use.
    pub(crate) fn answer_others(&mut self) {
        let tlb = &mut self.tlb;
        self.member.answer(|page| tlb.revoke_writes(page));
    }

    /// Executes nothing until `done`, nor while another vCPU has stopped this one.
    fn stand_still(&mut self, done: impl Fn() -> bool) {
        loop {
            let mut backoff = Backoff::default();
            self.member.park(true);
            while self.watch.stopped() || !done() {
                self.answer_others();
                backoff.wait();
            }
            self.member.park(false);
            // Who saw it standing still did not wait for its answer.
            self.answer_others();
            // Who stops the others says so and then looks whether they stand still, this side the
            // other way round: one of the two sees the other.
            if !self.watch.stopped() {
                return;
            }
        }
    }

    /// Does what may wait for another vCPU, and does not touch the guest's memory: that one may be waiting for an answer of
    /// this vCPU, or for it to stop.
    pub(crate) fn aside<R>(&mut self, action: impl FnOnce(&mut Self) -> R) -> R {
        self.member.park(true);
        let result = action(self);
        self.stand_still(|| true);
        result
    }

    /// Stands still while another vCPU wants it.
    pub(crate) fn stand_still_if_asked(&mut self) {
        if self.watch.stopped() {
            self.stand_still(|| true);
        }
    }

    /// Stops all other vCPUs between two instructions. Host addresses found before are not good
    /// any more.
    pub(crate) fn stop_others(&mut self) -> Stopped {
        let stopped = loop {
            if let Some(stopped) = self.watch.try_stop() {
                break stopped;
            }
            self.stand_still(|| true);
        };
        let me = Arc::clone(&self.member);
        let members = self.watch.members();
        let others = members.iter().filter(|m| !Arc::ptr_eq(m, &me));
        others.clone().for_each(|m| m.ask());
        for m in others {
            let mut backoff = Backoff::default();
            while !m.stands_still() {
                self.answer_others();
                backoff.wait();
            }
        }
        stopped
    }

    /// Holds a page as code: from now on all stores to it are announced. Returns when no vCPU
    /// stores to it unseen, so that its bytes can be read.
    pub(crate) fn mark_code(&mut self, page: u64) {
        let table = Arc::clone(&self.table);
        let Some(slot) = table.find(page) else { return };
        if !self.blocks.hold(page) {
            return;
        }
        let writers = slot.page_flags(page).hold_code();
        if writers == Writers::Nobody {
            return;
        }
        let shown: Vec<u64> = table.aliases(page).collect();
        shown.iter().for_each(|&alias| self.tlb.revoke_writes(Some(alias)));
        if writers != Writers::One(self.cpu.id) {
            let members = self.watch.members();
            let asked: Vec<_> = members
                .iter()
                .filter(|m| !Arc::ptr_eq(m, &self.member))
                .map(|m| (m, m.revoke(&shown)))
                .collect();
            self.stand_still(|| asked.iter().all(|(m, ticket)| m.has_answered(*ticket)));
        }
        slot.page_flags(page).revoked();
    }

    /// PAUSE: a vCPU that goes on spinning may be waiting for one that has no host CPU.
    pub(crate) fn pause(&mut self) {
        // SAFETY: reads a counter.
        let now = unsafe { core::arch::x86_64::_rdtsc() };
        let since = now.wrapping_sub(self.last_pause);
        self.last_pause = now;
        self.pauses = if since > LOOP_TICKS { 0 } else { self.pauses + 1 };
        if self.pauses >= PATIENCE {
            self.pauses = 0;
            std::thread::yield_now();
        }
    }
}
