//! The state of a vCPU that is not in the guest.

use kvm_abi::KvmError;
use kvm_abi::regs::{DebugRegs, GuestDebug, MpState, Regs, Sregs, VcpuEvents};
use kvm_vm::{fpu_from_xsave, fpu_into_xsave};
use napi::bindgen_prelude::{BigInt, BigUint64Array, BigUint64ArraySlice, Uint8Array, Uint32Array};
use napi_derive::napi;

use crate::error::{Result, js};
use crate::kvm::{cpuid_entries, cpuid_words};
use crate::numbers::{byte, integer, number, quad, word};
use crate::vcpu::NativeVcpu;

/// u64 words of `kvm_debugregs`.
const DEBUGREGS_WORDS: usize = 16;

fn sized<const N: usize>(words: &[u64], what: &str) -> Result<[u64; N]> {
    words
        .try_into()
        .map_err(|_| js(KvmError::invalid(format!("{what} is {N} words, not {}", words.len()))))
}

#[napi]
impl NativeVcpu {
    /// `KVM_GET_REGS`.
    #[napi]
    pub fn get_regs(&self, mut into: BigUint64ArraySlice<'_>) -> Result<()> {
        let regs = self.vcpu.with_engine(|e| Ok(e.regs())).map_err(js)?.to_array();
        if into.len() != regs.len() {
            let what = format!("kvm_regs is {} words, not {}", regs.len(), into.len());
            return Err(js(KvmError::invalid(what)));
        }
        // SAFETY: the caller's array, which nothing else uses during this call.
        unsafe { into.as_mut() }.copy_from_slice(&regs);
        Ok(())
    }

    /// `KVM_SET_REGS`.
    #[napi]
    pub fn set_regs(&self, regs: &[u64]) -> Result<()> {
        let regs = Regs::from_array(&sized(regs, "kvm_regs")?);
        self.vcpu.with_engine(|e| e.set_regs(&regs)).map_err(js)
    }

    /// `KVM_GET_SREGS`.
    #[napi]
    pub fn get_sregs(&self) -> Result<Uint8Array> {
        let sregs = self.vcpu.with_engine(|e| Ok(e.sregs())).map_err(js)?;
        Ok(sregs.to_bytes().into())
    }

    /// `KVM_SET_SREGS`.
    #[napi]
    pub fn set_sregs(&self, sregs: &[u8]) -> Result<()> {
        let sregs = Sregs::from_bytes(sregs).map_err(js)?;
        self.vcpu.with_engine(|e| e.set_sregs(&sregs)).map_err(js)
    }

    /// `KVM_GET_FPU`.
    #[napi]
    pub fn get_fpu(&self) -> Result<Uint8Array> {
        let fpu = self.vcpu.with_engine(|e| fpu_from_xsave(&e.xsave())).map_err(js)?;
        Ok(fpu.into())
    }

    /// `KVM_SET_FPU`.
    #[napi]
    pub fn set_fpu(&self, fpu: &[u8]) -> Result<()> {
        self.vcpu
            .with_engine(|e| {
                let mut area = e.xsave();
                fpu_into_xsave(fpu, &mut area)?;
                e.set_xsave(&area)
            })
            .map_err(js)
    }

    /// `KVM_GET_XSAVE2`.
    #[napi]
    pub fn get_xsave(&self) -> Result<Uint8Array> {
        self.vcpu.with_engine(|e| Ok(e.xsave())).map(Into::into).map_err(js)
    }

    /// `KVM_SET_XSAVE`.
    #[napi]
    pub fn set_xsave(&self, area: &[u8]) -> Result<()> {
        self.vcpu.with_engine(|e| e.set_xsave(area)).map_err(js)
    }

    /// XCR0.
    #[napi]
    pub fn get_xcr0(&self) -> Result<BigInt> {
        self.vcpu.with_engine(|e| Ok(e.xcr0())).map(Into::into).map_err(js)
    }

    /// Sets XCR0.
    #[napi]
    pub fn set_xcr0(&self, value: BigInt) -> Result<()> {
        let value = quad(&value, "XCR0")?;
        self.vcpu.with_engine(|e| e.set_xcr0(value)).map_err(js)
    }

    /// `KVM_GET_VCPU_EVENTS`.
    #[napi]
    pub fn get_vcpu_events(&self) -> Result<Uint8Array> {
        let events = self.vcpu.with_engine(|e| Ok(e.vcpu_events())).map_err(js)?;
        Ok(events.to_bytes().into())
    }

    /// `KVM_SET_VCPU_EVENTS`.
    #[napi]
    pub fn set_vcpu_events(&self, events: &[u8]) -> Result<()> {
        let events = VcpuEvents::from_bytes(events).map_err(js)?;
        self.vcpu.with_engine(|e| e.set_vcpu_events(&events)).map_err(js)
    }

    /// `KVM_GET_DEBUGREGS`.
    #[napi]
    pub fn get_debug_regs(&self) -> Result<BigUint64Array> {
        let regs = self.vcpu.with_engine(|e| Ok(e.debugregs())).map_err(js)?;
        let mut words = vec![0; DEBUGREGS_WORDS];
        words[..4].copy_from_slice(&regs.db);
        (words[4], words[5]) = (regs.dr6, regs.dr7);
        Ok(words.into())
    }

    /// `KVM_SET_DEBUGREGS`.
    #[napi]
    pub fn set_debug_regs(&self, words: &[u64]) -> Result<()> {
        let [a, b, c, d, dr6, dr7, rest @ ..] = sized::<DEBUGREGS_WORDS>(words, "kvm_debugregs")?;
        if rest != [0; 10] {
            return Err(js(KvmError::invalid("kvm_debugregs has flags that nothing knows")));
        }
        let regs = DebugRegs { db: [a, b, c, d], dr6, dr7 };
        self.vcpu.with_engine(|e| e.set_debugregs(&regs)).map_err(js)
    }

    /// `KVM_SET_GUEST_DEBUG`.
    #[napi]
    pub fn set_guest_debug(&self, control: f64, debugreg: &[u64]) -> Result<()> {
        let debugreg = sized(debugreg, "debugreg")?;
        let debug = GuestDebug { control: word(control, "control")?, debugreg };
        self.vcpu.with_engine(|e| e.set_guest_debug(&debug)).map_err(js)
    }

    /// `KVM_GET_LAPIC`.
    #[napi]
    pub fn get_lapic(&self) -> Result<Uint8Array> {
        self.vcpu.lapic_state().map(Into::into).map_err(js)
    }

    /// `KVM_SET_LAPIC`.
    #[napi]
    pub fn set_lapic(&self, state: &[u8]) -> Result<()> {
        self.vcpu.set_lapic_state(state).map_err(js)
    }

    /// `KVM_GET_MP_STATE`.
    #[napi]
    pub fn get_mp_state(&self) -> Result<u32> {
        self.vcpu.with_engine(|e| Ok(e.mp_state() as u32)).map_err(js)
    }

    /// `KVM_SET_MP_STATE`.
    #[napi]
    pub fn set_mp_state(&self, state: f64) -> Result<()> {
        let state = MpState::from_u32(word(state, "mp_state")?).map_err(js)?;
        self.vcpu.with_engine(|e| e.set_mp_state(state)).map_err(js)
    }

    /// `KVM_GET_CPUID2`, seven words per entry.
    #[napi]
    pub fn get_cpuid2(&self) -> Result<Uint32Array> {
        let entries = self.vcpu.with_engine(|e| Ok(e.cpuid())).map_err(js)?;
        Ok(cpuid_words(&entries).into())
    }

    /// `KVM_SET_CPUID2`.
    #[napi]
    pub fn set_cpuid2(&self, words: &[u32]) -> Result<()> {
        let entries = cpuid_entries(words)?;
        self.vcpu.with_engine(|e| e.set_cpuid(&entries)).map_err(js)
    }

    /// `KVM_GET_MSRS`.
    #[napi]
    pub fn get_msrs(&self, indices: &[u32]) -> Result<BigUint64Array> {
        let values = self
            .vcpu
            .with_engine(|e| {
                indices
                    .iter()
                    .map(|index| e.msr(*index))
                    .collect::<std::result::Result<Vec<u64>, KvmError>>()
            })
            .map_err(js)?;
        Ok(values.into())
    }

    /// `KVM_SET_MSRS`: stops at the first that is refused.
    #[napi]
    pub fn set_msrs(&self, indices: &[u32], values: &[u64]) -> Result<()> {
        self.vcpu
            .with_engine(|e| {
                indices.iter().zip(values).try_for_each(|(index, value)| e.set_msr(*index, *value))
            })
            .map_err(js)
    }

    /// What the engine left out since the last call.
    #[napi]
    pub fn take_notes(&self) -> Result<Vec<String>> {
        self.vcpu.with_engine(|e| Ok(e.take_notes())).map_err(js)
    }

    /// `KVM_GET_TSC_KHZ`.
    #[napi]
    pub fn get_tsc_khz(&self) -> Result<u32> {
        self.vcpu.with_engine(|e| Ok(e.tsc_khz())).map_err(js)
    }

    /// `KVM_SET_TSC_KHZ`.
    #[napi]
    pub fn set_tsc_khz(&self, khz: f64) -> Result<()> {
        let khz = word(khz, "khz")?;
        self.vcpu.with_engine(|e| e.set_tsc_khz(khz)).map_err(js)
    }

    /// `KVM_TRANSLATE`.
    #[napi]
    pub fn translate(&self, gva: BigInt) -> Result<Option<f64>> {
        let gva = quad(&gva, "gva")?;
        let gpa = self.vcpu.with_engine(|e| Ok(e.translate(gva))).map_err(js)?;
        Ok(gpa.map(number))
    }

    /// Retired instructions.
    #[napi]
    pub fn instructions(&self) -> Result<f64> {
        self.vcpu.with_engine(|e| Ok(number(e.instructions()))).map_err(js)
    }

    /// Stop before this instruction; negative for never.
    #[napi]
    pub fn stop_at_instruction(&self, count: f64) -> Result<()> {
        let count = if count < 0.0 { None } else { Some(integer(count, "count")?) };
        self.vcpu.with_engine(|e| e.stop_at_instruction(count)).map_err(js)
    }

    /// `KVM_INTERRUPT`.
    #[napi]
    pub fn interrupt(&self, vector: f64) -> Result<()> {
        let vector = byte(vector, "vector")?;
        self.vcpu.with_engine(|e| e.interrupt(vector)).map_err(js)
    }
}
