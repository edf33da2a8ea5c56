//! What does not need a VM: engines, CPUID, capabilities.

use std::sync::Arc;

use kvm_abi::KvmError;
use kvm_abi::cap;
use kvm_abi::control::MAX_VCPUS;
use kvm_abi::cpuid::CpuidEntry;
use kvm_cpu::engine::VmEngine;
use kvm_vm::{Engine, SoftOptions, Vm};
use napi::Env;
use napi::bindgen_prelude::Uint32Array;
use napi_derive::napi;

use crate::error::{Result, js};
use crate::isolate::Isolate;
use crate::numbers::integer;
use crate::vm::NativeVm;

/// `KVM_GET_API_VERSION`.
const API_VERSION: u32 = 12;
/// u32 words of a CPUID entry in the arrays that cross the boundary.
const CPUID_WORDS: usize = 7;

/// CPUID entries as words: function, index, flags, EAX, EBX, ECX, EDX.
pub fn cpuid_words(entries: &[CpuidEntry]) -> Vec<u32> {
    entries
        .iter()
        .flat_map(|e| [e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx])
        .collect()
}

/// The entries of an array as `cpuid_words` makes it.
pub fn cpuid_entries(words: &[u32]) -> Result<Vec<CpuidEntry>> {
    let (entries, rest) = words.as_chunks::<CPUID_WORDS>();
    if !rest.is_empty() {
        return Err(js(KvmError::invalid("CPUID entries have seven words")));
    }
    let entry = |&[function, index, flags, eax, ebx, ecx, edx]: &[u32; CPUID_WORDS]| CpuidEntry {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
    };
    Ok(entries.iter().map(entry).collect())
}

/// An engine kind, opened.
#[napi]
pub struct NativeKvm {
    opened: Engine,
    /// Answers questions that need no VM.
    engine: Arc<dyn VmEngine>,
}

#[napi]
impl NativeKvm {
    /// Opens the software CPU.
    #[napi(factory)]
    pub fn open_soft(code_bytes: Option<f64>, perf_map: bool) -> Result<Self> {
        let bytes = |n| integer(n, "codeBytes").map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let code_bytes = code_bytes.map(bytes).transpose()?;
        let opened = Engine::soft(SoftOptions { code_bytes, perf_map }).map_err(js)?;
        let engine = opened.for_vm();
        Ok(Self { opened, engine })
    }

    /// Opens the host's KVM, by the path of its device.
    #[napi(factory)]
    pub fn open_host(device: Option<String>) -> Result<Self> {
        let opened = Engine::host(device.as_deref()).map_err(js)?;
        let engine = opened.for_vm();
        Ok(Self { opened, engine })
    }

    /// `KVM_GET_API_VERSION`.
    #[napi(getter)]
    pub fn api_version(&self) -> u32 {
        API_VERSION
    }

    /// `KVM_CHECK_EXTENSION`.
    #[napi]
    pub fn check_extension(&self, number: u32) -> u32 {
        if let Some(value) = self.engine.check_extension(number) {
            return value;
        }
        match number {
            cap::NR_MEMSLOTS => kvm_memory::MAX_MEMSLOTS,
            cap::NR_VCPUS | cap::MAX_VCPUS | cap::MAX_VCPU_ID => MAX_VCPUS as u32,
            cap::IRQ_ROUTING => kvm_irqchip::KVM_MAX_IRQ_ROUTES,
            cap::SYNC_REGS => 7,
            cap::MULTI_ADDRESS_SPACE => kvm_memory::ADDRESS_SPACES,
            cap::SET_GUEST_DEBUG
            | cap::IRQCHIP
            | cap::HLT
            | cap::USER_MEMORY
            | cap::EXT_CPUID
            | cap::CLOCKSOURCE
            | cap::PIT
            | cap::MP_STATE
            | cap::DESTROY_MEMORY_REGION_WORKS
            | cap::USER_NMI
            | cap::JOIN_MEMORY_REGIONS_WORKS
            | cap::IRQFD
            | cap::PIT2
            | cap::PIT_STATE2
            | cap::IOEVENTFD
            | cap::ADJUST_CLOCK
            | cap::INTERNAL_ERROR_DATA
            | cap::VCPU_EVENTS
            | cap::DEBUGREGS
            | cap::XSAVE
            | cap::XCRS
            | cap::TSC_CONTROL
            | cap::GET_TSC_KHZ
            | cap::SIGNAL_MSI
            | cap::READONLY_MEM
            | cap::IRQFD_RESAMPLE
            | cap::IOEVENTFD_NO_LENGTH
            | cap::IOEVENTFD_ANY_LENGTH
            | cap::IMMEDIATE_EXIT
            | cap::X86_SMM
            | cap::MANUAL_DIRTY_LOG_PROTECT2 => 1,
            _ => 0,
        }
    }

    /// `KVM_CREATE_VM`: the VM ends with this isolate at the latest.
    #[napi]
    pub fn create_vm(&self, env: Env) -> Result<NativeVm> {
        let isolate = Isolate::of(env.raw())?;
        let vm = Vm::new(self.opened.for_vm()).map_err(js)?;
        isolate.own(vm.clone());
        Ok(NativeVm::new(vm))
    }

    /// `KVM_GET_SUPPORTED_CPUID`.
    #[napi]
    pub fn supported_cpuid(&self) -> Uint32Array {
        cpuid_words(&self.engine.supported_cpuid()).into()
    }

    /// CPUID of a model; `names[i]` is switched as `on[i]` says.
    #[napi]
    pub fn cpuid_for_model(
        &self,
        model: String,
        names: Vec<String>,
        on: Vec<bool>,
    ) -> Result<Uint32Array> {
        let features: Vec<_> = names.into_iter().zip(on).collect();
        let entries = self.engine.cpuid_for_model(&model, &features).map_err(js)?;
        Ok(cpuid_words(&entries).into())
    }

    /// Model names.
    #[napi]
    pub fn cpu_models(&self) -> Vec<&'static str> {
        self.engine.cpu_models()
    }

    /// Feature names.
    #[napi]
    pub fn cpu_features(&self) -> Vec<&'static str> {
        self.engine.cpu_features()
    }

    /// `KVM_GET_MSR_INDEX_LIST`.
    #[napi]
    pub fn msr_index_list(&self) -> Uint32Array {
        self.engine.msr_index_list().into()
    }
}

/// The VM with this number, which another isolate of the process created.
#[napi]
pub fn attach_vm(id: u32) -> Result<NativeVm> {
    Vm::by_id(id).map(NativeVm::new).map_err(js)
}
