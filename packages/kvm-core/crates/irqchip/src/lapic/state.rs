//! Save and load in the layout of `struct kvm_lapic_state`: the first KiB of the register page.
//!
//! Two things that KVM's page has no place for are kept in bytes it leaves zero, so that a load
//! continues exactly: errors not yet shown in ESR (after ESR) and the nanoseconds until the timer
//! expires (after the current count). A page without them, from KVM, loads as KVM would.

use kvm_abi::KvmError;

use super::Lapic;
use super::regs::{self, Effects, Regs};
use super::timer::Left;
use crate::sync::lock;
use crate::vectors::Vectors;

/// Size of a saved local APIC.
pub const LAPIC_STATE_BYTES: usize = 1024;

const ESR_PENDING: usize = regs::ESR as usize + 4;
/// Nanoseconds to go plus one; all ones if none run; zero where unknown.
const TIMER_LEFT: usize = regs::TMCCT as usize + 4;

type Page = [u8; LAPIC_STATE_BYTES];

fn put(page: &mut Page, at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get(page: &Page, at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&page[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn get_vectors(page: &Page, at: u32) -> Vectors {
    let mut vectors = Vectors::default();
    for (i, word) in vectors.0.iter_mut().enumerate() {
        *word = get(page, at as usize + i * 16);
    }
    // Vectors below 16 cannot be accepted, so no state holds them.
    vectors.0[0] &= !0xffff;
    vectors
}

impl Regs {
    /// Writes the page. `wide_ids` is `KVM_X2APIC_API_USE_32BIT_IDS`.
    fn save(&self, now: u64, wide_ids: bool) -> Page {
        let mut page = [0; LAPIC_STATE_BYTES];
        let mut reg = |at: u32, value: u32| put(&mut page, at as usize, value);
        reg(
            regs::ID,
            match (self.x2apic(), wide_ids) {
                (true, true) => self.vcpu,
                (true, false) => self.vcpu << 24,
                (false, _) => u32::from(self.id) << 24,
            },
        );
        reg(regs::VERSION, regs::VERSION_VALUE);
        reg(regs::TPR, self.tpr.into());
        reg(regs::PPR, self.ppr().into());
        reg(regs::LDR, self.logical_id());
        reg(regs::DFR, self.dfr);
        reg(regs::SVR, self.svr);
        for (i, at) in (0..8).map(|i| (i, i as u32 * 16)) {
            reg(regs::ISR + at, self.isr.0[i]);
            reg(regs::TMR + at, self.tmr.0[i]);
            reg(regs::IRR + at, self.irr.0[i]);
        }
        reg(regs::ESR, self.esr.into());
        reg(regs::ICR, self.icr as u32);
        reg(regs::ICR2, (self.icr >> 32) as u32);
        for (at, entry) in (regs::LVT..).step_by(16).zip(self.lvt) {
            reg(at, entry);
        }
        reg(regs::TMICT, self.timer.initial_count);
        reg(regs::TMCCT, self.timer.current_count(now));
        reg(regs::TDCR, self.timer.divide_config);
        page[ESR_PENDING] = self.esr_pending;
        let left = self.timer.remaining_ns(now).map_or(u64::MAX, |ns| ns.saturating_add(1));
        page[TIMER_LEFT..TIMER_LEFT + 8].copy_from_slice(&left.to_le_bytes());
        page
    }

    fn load(&mut self, page: &Page, now: u64, wide_ids: bool) -> Result<(), KvmError> {
        let reg = |at: u32| get(page, at as usize);
        let id = reg(regs::ID);
        if self.x2apic() && wide_ids && id != self.vcpu {
            let reason = format!("the state is of local APIC {id}, not of {}", self.vcpu);
            return Err(KvmError::invalid(reason));
        }
        if !self.x2apic() {
            self.id = (id >> 24) as u8;
            self.ldr = reg(regs::LDR) & 0xff00_0000;
        }
        self.tpr = reg(regs::TPR) as u8;
        self.dfr = reg(regs::DFR) | 0x0fff_ffff;
        self.svr = reg(regs::SVR) & 0x3ff;
        self.isr = get_vectors(page, regs::ISR);
        self.tmr = get_vectors(page, regs::TMR);
        self.irr = get_vectors(page, regs::IRR);
        self.esr = reg(regs::ESR) as u8;
        self.esr_pending = page[ESR_PENDING];
        self.icr = u64::from(reg(regs::ICR2)) << 32 | u64::from(reg(regs::ICR));
        for (i, at) in (0..regs::LVTS).map(|i| (i, regs::LVT + i as u32 * 16)) {
            self.lvt[i] = reg(at) & regs::LVT_WRITABLE[i];
        }
        self.lvt[0] |= reg(regs::LVT) & self.timer_mode_bits();
        self.timer.set_mode(self.lvt[0] >> 17 & 3);
        self.timer.divide_config = reg(regs::TDCR) & 0xb;
        let mut left = [0; 8];
        left.copy_from_slice(&page[TIMER_LEFT..TIMER_LEFT + 8]);
        let left = match u64::from_le_bytes(left) {
            0 => Left::Ticks(reg(regs::TMCCT)),
            u64::MAX => Left::Stopped,
            ns => Left::Nanoseconds(ns - 1),
        };
        self.timer.resume(reg(regs::TMICT), left, now);
        Ok(())
    }
}

impl Lapic {
    /// `KVM_GET_LAPIC`. A timer that is due fires first.
    pub fn state(&self) -> [u8; LAPIC_STATE_BYTES] {
        self.poll_timer();
        let wide_ids = self.irqchip.upgrade().is_some_and(|chip| chip.wide_ids());
        lock(&self.regs).save(self.clock.now_ns(), wide_ids)
    }

    /// `KVM_SET_LAPIC`. The mode in `IA32_APIC_BASE` must be set before, `IA32_TSC_DEADLINE`
    /// after. `EINVAL` if the state is of another x2APIC ID.
    pub fn set_state(&self, page: &[u8; LAPIC_STATE_BYTES]) -> Result<(), KvmError> {
        let wide_ids = self.irqchip.upgrade().is_some_and(|chip| chip.wide_ids());
        let (result, wake) = self.update(|r| r.load(page, self.clock.now_ns(), wide_ids));
        self.finish(Effects::default(), wake);
        result
    }
}
