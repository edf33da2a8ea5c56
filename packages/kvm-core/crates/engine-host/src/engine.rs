//! The engine before there is a vCPU.

use std::fmt;
use std::sync::{Arc, OnceLock};

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::{Errno, KvmError, cap};
use kvm_cpu::engine::{VcpuEngine, VcpuRequests, VmContext, VmEngine};
use kvm_cpu::kernel::KernelVm;
use kvm_ioctls::Kvm;

use crate::cpuid;
use crate::device::{self, DEVICE};
use crate::msr::MsrLists;
use crate::vcpu::HostVcpu;
use crate::vm::HostVm;

/// What is known of the kernel; the same for all VMs of an engine.
pub(crate) struct Host {
    pub kvm: Kvm,
    pub supported: Vec<CpuidEntry>,
    msrs: OnceLock<MsrLists>,
}

impl Host {
    /// The kernel's MSRs, asked for once.
    pub fn msrs(&self) -> &MsrLists {
        // Without the lists there is nothing to save, and every access is as the kernel says.
        self.msrs.get_or_init(|| MsrLists::probe(&self.kvm, &self.supported).unwrap_or_default())
    }
}

/// The engine of one VM.
pub struct HostEngine {
    host: Arc<Host>,
    vm: OnceLock<Arc<HostVm>>,
}

impl fmt::Debug for HostEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostEngine").field("vm", &self.vm.get()).finish_non_exhaustive()
    }
}

impl HostEngine {
    /// Opens the KVM device, [`DEVICE`] unless another path is given.
    ///
    /// # Errors
    /// `ENOENT` without a device, `EACCES` without permission, `EOPNOTSUPP` for a kernel that
    /// lacks something; the message says what helps.
    pub fn open(path: Option<&str>) -> Result<Arc<Self>, KvmError> {
        let kvm = device::open(path.unwrap_or(DEVICE))?;
        let supported = cpuid::supported(&kvm)?;
        let host = Arc::new(Host { kvm, supported, msrs: OnceLock::new() });
        Ok(Arc::new(Self { host, vm: OnceLock::new() }))
    }

    /// An engine for another VM on the same open device.
    #[must_use]
    pub fn another(&self) -> Arc<Self> {
        Arc::new(Self { host: self.host.clone(), vm: OnceLock::new() })
    }
}

impl VmEngine for HostEngine {
    fn create_vcpu(
        &self,
        id: u32,
        context: VmContext,
        requests: Arc<VcpuRequests>,
    ) -> Result<Box<dyn VcpuEngine>, KvmError> {
        let vm = self.vm.get().ok_or_else(|| KvmError::new(Errno::EBADF, "there is no VM"))?;
        Ok(Box::new(HostVcpu::new(id, vm, self.host.clone(), context, requests)?))
    }

    fn supported_cpuid(&self) -> Vec<CpuidEntry> {
        self.host.supported.clone()
    }

    fn cpuid_for_model(
        &self,
        model: &str,
        features: &[(String, bool)],
    ) -> Result<Vec<CpuidEntry>, KvmError> {
        cpuid::for_model(model, features, &self.host.supported)
    }

    fn cpu_models(&self) -> Vec<&'static str> {
        kvm_cpu::cpuid::MODELS.to_vec()
    }

    fn cpu_features(&self) -> Vec<&'static str> {
        kvm_cpu::cpuid::feature_names()
    }

    fn msr_index_list(&self) -> Vec<u32> {
        self.host.msrs().state.clone()
    }

    fn create_kernel_vm(&self) -> Result<Option<Arc<dyn KernelVm>>, KvmError> {
        let vm = HostVm::create(&self.host.kvm)?;
        self.vm
            .set(vm.clone())
            .map_err(|_| KvmError::new(Errno::EEXIST, "this engine has its VM already"))?;
        Ok(Some(vm))
    }

    fn check_extension(&self, number: u32) -> Option<u32> {
        let value = self.host.kvm.check_extension_raw(u64::from(number));
        let value = u32::try_from(value).unwrap_or(0);
        Some(match number {
            // The pages of the control protocol hold this many.
            cap::NR_VCPUS | cap::MAX_VCPUS | cap::MAX_VCPU_ID => {
                value.min(kvm_abi::control::MAX_VCPUS as u32)
            }
            cap::NR_MEMSLOTS => value.min(kvm_memory::MAX_MEMSLOTS),
            cap::IRQ_ROUTING => value.min(kvm_irqchip::KVM_MAX_IRQ_ROUTES),
            // The log is kept here, so that devices' writes are in it: one page at a time or not.
            cap::MANUAL_DIRTY_LOG_PROTECT2 => 1,
            cap::MULTI_ADDRESS_SPACE => 1,
            cap::X86_SMM | cap::COALESCED_MMIO | cap::X2APIC_API => 0,
            _ => value,
        })
    }
}
