//! `kvm_cpuid_entry2`.

/// `KVM_CPUID_FLAG_SIGNIFCANT_INDEX`: the entry is for one value of ECX.
pub const FLAG_SIGNIFICANT_INDEX: u32 = 1;

/// One CPUID leaf, or one sub-leaf where `FLAG_SIGNIFICANT_INDEX` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidEntry {
    /// EAX on input.
    pub function: u32,
    /// ECX on input, where it matters.
    pub index: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Result.
    pub eax: u32,
    /// Result.
    pub ebx: u32,
    /// Result.
    pub ecx: u32,
    /// Result.
    pub edx: u32,
}
