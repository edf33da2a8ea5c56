//! The local APIC as the registers of the CPU show it. Without one, the few registers that exist
//! anyway are plain storage.

use kvm_abi::KvmError;
use kvm_irqchip::LapicFeatures;

use crate::{Cpu, Trap};

impl Cpu {
    /// IA32_APIC_BASE.
    #[must_use]
    pub fn apic_base_value(&self) -> u64 {
        self.lapic.as_ref().map_or(self.apic_base, |apic| apic.base())
    }

    /// IA32_APIC_BASE set from outside.
    ///
    /// # Errors
    /// `EINVAL` for reserved bits or a mode that does not exist.
    pub fn set_apic_base_value(&mut self, value: u64) -> Result<(), KvmError> {
        match &self.lapic {
            Some(apic) => apic
                .set_base_by_host(value)
                .map_err(|why| KvmError::invalid(format!("apic_base {value:#x}: {why}")))?,
            None => self.apic_base = value,
        }
        Ok(())
    }

    /// CR8: the task-priority class, 0 to 15.
    #[must_use]
    pub fn cr8_value(&self) -> u64 {
        self.lapic.as_ref().map_or(self.cr8, |apic| u64::from(apic.cr8()))
    }

    /// Sets CR8; the caller has checked that it is at most 15.
    pub fn set_cr8_value(&mut self, value: u64) {
        match &self.lapic {
            Some(apic) => apic.set_cr8((value & 15) as u8),
            None => self.cr8 = value & 15,
        }
    }

    /// A guest's WRMSR of IA32_APIC_BASE.
    pub(crate) fn write_apic_base(&mut self, value: u64) -> Result<(), Trap> {
        let accepted = match &self.lapic {
            Some(apic) => apic.set_base(value).is_ok(),
            None => {
                // Enable, x2APIC and BSP; with the address nothing else exists.
                let known = 0xd00 | (((1 << self.phys_bits) - 1) & !0xfff);
                let ok = value & !known == 0;
                if ok {
                    self.apic_base = value;
                }
                ok
            }
        };
        if accepted { Ok(()) } else { Err(self.gp(0)) }
    }

    /// Tells the local APIC what CPUID promises and how the TSC runs. Called whenever one of them
    /// changed and after `lapic` was set.
    pub fn update_apic(&self) {
        if let Some(apic) = &self.lapic {
            apic.set_features(LapicFeatures {
                x2apic: self.caps.x2apic,
                tsc_deadline: self.caps.tsc_deadline,
                physical_address_bits: self.phys_bits,
            });
            apic.set_tsc(u64::from(self.tsc_khz), self.tsc_offset);
        }
    }

    /// Moves the guest's TSC by `delta` ticks.
    pub(crate) fn shift_tsc(&mut self, delta: i64) {
        self.tsc_offset = self.tsc_offset.wrapping_add(delta);
        if let Some(apic) = &self.lapic {
            apic.set_tsc(u64::from(self.tsc_khz), self.tsc_offset);
        }
    }
}
