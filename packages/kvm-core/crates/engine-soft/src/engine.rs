//! The VM side of the software engine.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::regs::MpState;
use kvm_abi::{Entropy, KvmError};
use kvm_cpu::cpuid;
use kvm_cpu::engine::{VcpuEngine, VcpuRequests, VmContext, VmEngine};
use kvm_memory::MemoryListener;

use crate::entropy::HostEntropy;
use crate::thunk::HostCpu;
use crate::tlb::Tlb;
use crate::translate::{Entries, Policy};
use crate::vcpu::Vcpu;
use crate::watch::Watch;

/// TSC frequency of a new vCPU. The TSC is derived from the VM's clock, so that any frequency is as
/// good as another; this one makes it count nanoseconds.
const TSC_KHZ: u32 = 1_000_000;

/// The engine of one VM.
pub struct SoftEngine {
    host: HostCpu,
    watch: Arc<Watch>,
    watching: Mutex<bool>,
    entropy: Arc<dyn Entropy>,
    policy: Policy,
}

impl fmt::Debug for SoftEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftEngine").field("host", &self.host).finish_non_exhaustive()
    }
}

impl SoftEngine {
    /// An engine for one VM, with the host's random bits.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_entropy(Arc::new(HostEntropy))
    }

    /// An engine for one VM that takes random bits from `entropy`.
    #[must_use]
    pub fn with_entropy(entropy: Arc<dyn Entropy>) -> Arc<Self> {
        Self::with_policy(entropy, Policy::default())
    }

    /// An engine that translates as `policy` says.
    #[must_use]
    pub fn with_policy(entropy: Arc<dyn Entropy>, policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            host: HostCpu::detect(),
            watch: Arc::new(Watch::default()),
            watching: Mutex::new(false),
            entropy,
            policy,
        })
    }
}

/// CPUID of the host.
fn host_cpuid(function: u32, index: u32) -> (u32, u32, u32, u32) {
    let r = std::arch::x86_64::__cpuid_count(function, index);
    (r.eax, r.ebx, r.ecx, r.edx)
}

impl VmEngine for SoftEngine {
    fn create_vcpu(
        &self,
        id: u32,
        context: VmContext,
        requests: Arc<VcpuRequests>,
    ) -> Result<Box<dyn VcpuEngine>, KvmError> {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if !*watching {
            let listener: Arc<dyn MemoryListener> = Arc::clone(&self.watch) as _;
            context.memory.add_listener(Arc::downgrade(&listener) as Weak<dyn MemoryListener>);
            *watching = true;
        }
        let mut vcpu = Vcpu::new(
            id,
            context,
            requests,
            Arc::clone(&self.watch),
            self.host,
            Arc::clone(&self.entropy),
            TSC_KHZ,
        );
        vcpu.policy = self.policy;
        if self.policy.immediate_tables {
            vcpu.tlb = Tlb::low();
            vcpu.blocks.entries = Entries::low();
        }
        vcpu.bind_apic();
        if vcpu.cpu.lapic.is_none() {
            // Nobody could send INIT: as on KVM all vCPUs run, and userspace parks them.
            vcpu.cpu.mp_state = MpState::Runnable;
        }
        vcpu.refresh_context();
        Ok(Box::new(vcpu))
    }

    fn supported_cpuid(&self) -> Vec<CpuidEntry> {
        cpuid::supported(&host_cpuid)
    }

    fn cpuid_for_model(
        &self,
        model: &str,
        features: &[(String, bool)],
    ) -> Result<Vec<CpuidEntry>, KvmError> {
        cpuid::cpuid_for_model(model, features, &host_cpuid)
    }

    fn cpu_models(&self) -> Vec<&'static str> {
        cpuid::MODELS.to_vec()
    }

    fn cpu_features(&self) -> Vec<&'static str> {
        cpuid::feature_names()
    }

    fn msr_index_list(&self) -> Vec<u32> {
        kvm_cpu::msr::msr_index_list()
    }
}
