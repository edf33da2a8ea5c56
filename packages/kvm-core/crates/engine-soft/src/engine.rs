//! The VM side of the software engine.

use std::fmt;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::regs::MpState;
use kvm_abi::{Entropy, Errno, KvmError};
use kvm_cpu::cpuid;
use kvm_cpu::engine::{VcpuEngine, VcpuRequests, VmContext, VmEngine};
use kvm_memory::MemoryListener;

use crate::entropy::HostEntropy;
use crate::thunk::HostCpu;
use crate::tlb::Tlb;
use crate::translate::{CODE_BYTES, Entries, Policy, perf_map};
use crate::vcpu::Vcpu;
use crate::watch::Watch;

/// TSC frequency of a new vCPU. The TSC is derived from the VM's clock, so that any frequency is as
/// good as another; this one makes it count nanoseconds.
const TSC_KHZ: u32 = 1_000_000;

/// What can be wished of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftOptions {
    /// Bytes of translated code that each vCPU keeps before it drops all; within [`CODE_BYTES`].
    pub code_bytes: Option<usize>,
    /// Translated code is named in the map that `perf` reads.
    pub perf_map: bool,
}

impl SoftOptions {
    /// Checks the numbers and opens the map.
    ///
    /// # Errors
    /// `EINVAL` for a number outside the limits; what opening the map says.
    pub fn check(&self) -> Result<(), KvmError> {
        let (least, _, most) = CODE_BYTES;
        if let Some(bytes) = self.code_bytes
            && !(least..=most).contains(&bytes)
        {
            return Err(KvmError::invalid(format!(
                "a code cache of {bytes} bytes is not between {least} and {most}"
            )));
        }
        if self.perf_map {
            perf_map::start().map_err(|error| {
                let errno = match error.kind() {
                    ErrorKind::ResourceBusy => Errno::EBUSY,
                    ErrorKind::PermissionDenied => Errno::EACCES,
                    _ => Errno::EIO,
                };
                let path = perf_map::path();
                KvmError::new(
                    errno,
                    format!("perf's map {} cannot be written: {error}", path.display()),
                )
            })?;
        }
        Ok(())
    }
}

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

    /// An engine for one VM with other wishes than those of [`new`](Self::new), which were checked.
    #[must_use]
    pub fn with_options(options: SoftOptions) -> Arc<Self> {
        let policy = Policy {
            cache_bytes: options.code_bytes.unwrap_or(CODE_BYTES.1),
            perf_map: options.perf_map,
            ..Policy::default()
        };
        Self::with_policy(Arc::new(HostEntropy), policy)
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
