//! Which MSRs the kernel really keeps.

use kvm_abi::KvmError;
use kvm_abi::cpuid::CpuidEntry;
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::cpuid::for_vcpu;
use crate::error::failed;

/// MSRs that describe the CPU. A kernel may refuse them though it lists them (a paravirtual KVM
/// does so for `ARCH_CAPABILITIES`), and the guest runs without.
const FEATURES: &[u32] = &[0x10a, 0xcf, 0x345, 0x8b, 0xc001_1029];
/// Hyper-V's MSRs: no model announces them, and some count by themselves.
const HYPER_V: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_01ff;
/// The VMX capability MSRs.
const VMX: std::ops::RangeInclusive<u32> = 0x480..=0x493;

/// The kernel's lists.
#[derive(Debug, Default)]
pub(crate) struct MsrLists {
    /// Those that can be read and written back: what a saved state consists of.
    pub state: Vec<u32>,
    /// Everything that the kernel says to have.
    pub listed: Vec<u32>,
    /// Those that describe the CPU.
    features: Vec<u32>,
}

impl MsrLists {
    /// Asks the kernel, and tries each MSR on a vCPU that never runs.
    pub fn probe(kvm: &Kvm, supported: &[CpuidEntry]) -> Result<Self, KvmError> {
        let list = kvm.get_msr_index_list().map_err(|e| failed("KVM_GET_MSR_INDEX_LIST", &e))?;
        let listed = list.as_slice().to_vec();
        let features = kvm.get_msr_feature_index_list();
        let features = features.map(|list| list.as_slice().to_vec()).unwrap_or_default();
        let vm = kvm.create_vm().map_err(|e| failed("KVM_CREATE_VM", &e))?;
        // The MSRs of the local APIC exist only with one.
        vm.create_irq_chip().map_err(|e| failed("KVM_CREATE_IRQCHIP", &e))?;
        let vcpu = vm.create_vcpu(0).map_err(|e| failed("KVM_CREATE_VCPU", &e))?;
        vcpu.set_cpuid2(&for_vcpu(supported, 0)?).map_err(|e| failed("KVM_SET_CPUID2", &e))?;
        let state = listed
            .iter()
            .copied()
            .filter(|index| !HYPER_V.contains(index))
            .filter(|index| read(&vcpu, *index).is_some_and(|v| write(&vcpu, *index, v)))
            .collect();
        Ok(Self { state, listed, features })
    }

    /// True for an MSR that describes the CPU.
    pub fn describes(&self, index: u32) -> bool {
        FEATURES.contains(&index) || VMX.contains(&index) || self.features.contains(&index)
    }
}

/// `KVM_GET_MSRS` for one; `None` where the kernel refuses it.
pub(crate) fn read(vcpu: &VcpuFd, index: u32) -> Option<u64> {
    let mut list =
        Msrs::from_entries(&[kvm_msr_entry { index, ..kvm_msr_entry::default() }]).ok()?;
    let count = vcpu.get_msrs(&mut list).ok()?;
    list.as_slice().first().filter(|_| count == 1).map(|entry| entry.data)
}

/// `KVM_SET_MSRS` for one; false where the kernel refuses it.
pub(crate) fn write(vcpu: &VcpuFd, index: u32, data: u64) -> bool {
    Msrs::from_entries(&[kvm_msr_entry { index, data, ..kvm_msr_entry::default() }])
        .is_ok_and(|list| vcpu.set_msrs(&list).is_ok_and(|count| count == 1))
}
