//! The MSR faces of a local APIC: x2APIC registers, `IA32_APIC_BASE`, `IA32_TSC_DEADLINE`.

use super::regs::{self, APIC_BASE_ENABLE, APIC_BASE_X2APIC, Effects, Regs, Reject};
use super::{Gp, Lapic};
use crate::wake::Wake;

/// Bits of `IA32_APIC_BASE` below the address that must be zero.
const BASE_RESERVED: u64 = 0x2ff;

impl From<Reject> for Gp {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::NoRegister => Gp::NoRegister,
            Reject::ReadOnly => Gp::ReadOnly,
            Reject::Reserved => Gp::ReservedBits,
        }
    }
}

/// The register offset that an MSR number stands for.
fn register_of(msr: u32) -> Result<u32, Gp> {
    match msr {
        0x800..=0x8ff => Ok((msr - 0x800) << 4),
        _ => Err(Gp::NoRegister),
    }
}

impl Lapic {
    /// RDMSR of 0x800 to 0x8ff.
    pub fn x2apic_read(&self, msr: u32) -> Result<u64, Gp> {
        let reg = register_of(msr)?;
        let (value, wake) = self.update(|r| {
            if !r.x2apic() {
                return Err(Gp::NotX2apic);
            }
            if reg == regs::ICR {
                return Ok(r.icr);
            }
            Ok(u64::from(r.read(reg, &*self.clock)?))
        });
        self.finish(Effects::default(), wake);
        value
    }

    /// WRMSR of 0x800 to 0x8ff.
    pub fn x2apic_write(&self, msr: u32, value: u64) -> Result<(), Gp> {
        let reg = register_of(msr)?;
        let (result, wake) = self.update(|r| {
            if !r.x2apic() {
                return Err(Gp::NotX2apic);
            }
            if reg == regs::ICR {
                return Ok(r.write_icr(value)?);
            }
            let low = u32::try_from(value).map_err(|_| Gp::ReservedBits)?;
            Ok(r.write(reg, low, &*self.clock)?)
        });
        self.finish(result?, wake);
        Ok(())
    }

    /// A guest's WRMSR of `IA32_APIC_BASE`: the mode may go xAPIC to x2APIC, and through disabled
    /// back to xAPIC; every other change is #GP (SDM, "x2APIC State Transitions").
    pub fn set_base(&self, value: u64) -> Result<(), Gp> {
        self.change_base(value, true)
    }

    /// `apic_base` of `KVM_SET_SREGS`: any valid mode, from any other.
    pub fn set_base_by_host(&self, value: u64) -> Result<(), Gp> {
        self.change_base(value, false)
    }

    fn change_base(&self, value: u64, guest: bool) -> Result<(), Gp> {
        let (result, wake) = self.update(|r| {
            check_base(r, value, guest)?;
            let changed = r.base ^ value;
            r.base = value;
            if changed & (APIC_BASE_ENABLE | APIC_BASE_X2APIC) != 0 && !r.x2apic() {
                r.id = r.vcpu as u8;
            }
            if !r.hw_enabled() {
                r.timer.set_tsc_deadline(0, 0);
            }
            if changed & APIC_BASE_X2APIC != 0 {
                // x2APIC mode derives the logical ID; an earlier one does not come back.
                r.ldr = 0;
            }
            Ok(())
        });
        self.finish(Effects::default(), wake);
        result
    }

    /// `IA32_TSC_DEADLINE`: zero unless the timer is in that mode and armed.
    pub fn tsc_deadline(&self) -> u64 {
        let (value, wake) = self.update(|r| {
            // A deadline that has passed reads as zero, whether or not it was polled yet.
            r.fire_due(self.clock.now_ns());
            r.timer.tsc_deadline
        });
        self.finish(Effects::default(), wake);
        value
    }

    /// A write of `IA32_TSC_DEADLINE`, in guest TSC ticks. One in the past fires at once.
    pub fn set_tsc_deadline(&self, tsc: u64) {
        let ((), wake) = self.update(|r| {
            if r.hw_enabled() && r.timer.is_deadline() {
                let now = self.clock.now_ns();
                r.fire_due(now);
                r.timer.set_tsc_deadline(tsc, now);
                r.fire_due(now);
            }
        });
        self.finish(Effects::default(), wake);
    }

    /// Tells how the guest's TSC follows the injected clock, so that TSC deadlines can be timed:
    /// `tsc = now_ns * khz / 1_000_000 + offset`, modulo 2^64. An armed deadline moves along.
    pub fn set_tsc(&self, khz: u64, offset: i64) {
        let ((), wake) = self.update(|r| r.timer.set_tsc(khz, offset, self.clock.now_ns()));
        if wake {
            self.wake(Wake::Interrupt);
        }
    }
}

fn check_base(r: &Regs, value: u64, guest: bool) -> Result<(), Gp> {
    let address_bits = u32::from(r.features.physical_address_bits.min(63));
    if value & BASE_RESERVED != 0 || value >> address_bits != 0 {
        return Err(Gp::ReservedBits);
    }
    let on = |base: u64| base & APIC_BASE_ENABLE != 0;
    let x2 = |base: u64| base & APIC_BASE_X2APIC != 0;
    if x2(value) && !r.features.x2apic {
        return Err(Gp::ReservedBits);
    }
    let leaves_x2apic_upwards = x2(r.base) && on(value) && !x2(value);
    let skips_xapic = !on(r.base) && x2(value);
    if (x2(value) && !on(value)) || (guest && (leaves_x2apic_upwards || skips_xapic)) {
        return Err(Gp::Transition);
    }
    Ok(())
}
