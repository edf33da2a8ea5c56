//! What the guest's CPUID allows it to use, in the form the checks want.

use kvm_abi::cpuid::CpuidEntry;

use crate::bits::{cr4, efer};
use crate::cpuid::component;

/// Derived from CPUID when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The vendor is AMD (or Hygon): their variant where the manuals differ.
    pub amd: bool,
    /// The vendor is Intel.
    pub intel: bool,
    /// Bits of CR4 that can be set.
    pub cr4: u64,
    /// Bits of EFER that can be set.
    pub efer: u64,
    /// Bits of XCR0 that can be set; 0 without XSAVE.
    pub xcr0: u64,
    /// Pages of 1 GiB.
    pub gbpages: bool,
    /// RDTSCP or RDPID, and with them IA32_TSC_AUX.
    pub tsc_aux: bool,
    /// IA32_TSC_ADJUST.
    pub tsc_adjust: bool,
    /// The x2APIC mode of the local APIC.
    pub x2apic: bool,
    /// The TSC-deadline mode of the APIC timer.
    pub tsc_deadline: bool,
    /// INVPCID.
    pub invpcid: bool,
    /// XSAVES and IA32_XSS.
    pub xsaves: bool,
    /// XGETBV of the components in use.
    pub xgetbv1: bool,
    /// MTRRs.
    pub mtrr: bool,
    /// Machine-check banks.
    pub mca: bool,
    /// IA32_ARCH_CAPABILITIES.
    pub arch_capabilities: bool,
    /// `KVM_CPUID_FEATURES` EAX; 0 without the paravirtual leaf.
    pub kvm_features: u32,
}

impl Caps {
    /// Everything that this crate implements: what a vCPU can do before CPUID is set.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            amd: true,
            intel: false,
            cr4: CR4_ALWAYS
                | cr4::UMIP
                | cr4::FSGSBASE
                | cr4::PCIDE
                | cr4::OSXSAVE
                | cr4::SMEP
                | cr4::SMAP
                | cr4::PKE
                | cr4::PKS,
            efer: efer::SCE | efer::LME | efer::LMA | efer::NXE | efer::FFXSR,
            xcr0: 7 | component::PKRU,
            gbpages: true,
            tsc_aux: true,
            tsc_adjust: true,
            x2apic: true,
            tsc_deadline: true,
            invpcid: true,
            xsaves: false,
            xgetbv1: true,
            mtrr: true,
            mca: true,
            arch_capabilities: false,
            kvm_features: u32::MAX,
        }
    }

    /// Reads the leaves that matter. An empty list gives [`everything`](Self::everything).
    #[must_use]
    pub fn from_cpuid(entries: &[CpuidEntry]) -> Self {
        if entries.is_empty() {
            return Self::everything();
        }
        let leaf = |function: u32, index: u32| {
            entries
                .iter()
                .find(|e| e.function == function && (e.flags & 1 == 0 || e.index == index))
                .copied()
                .unwrap_or_default()
        };
        let basic = leaf(0, 0);
        let one = leaf(1, 0);
        let seven = leaf(7, 0);
        let ext = leaf(0x8000_0001, 0);
        let bit = |word: u32, n: u32| word >> n & 1 != 0;
        let when = |on: bool, bits: u64| if on { bits } else { 0 };
        let xsave = bit(one.ecx, 26);
        let kvm = leaf(0x4000_0000, 0);
        let has_kvm = [kvm.ebx, kvm.ecx, kvm.edx] == [0x4b4d_564b, 0x564b_4d56, 0x4d];
        Self {
            // "Auth", "Hygo" and "Genu" in EBX.
            amd: matches!(basic.ebx, 0x6874_7541 | 0x6f67_7948),
            intel: basic.ebx == 0x756e_6547,
            cr4: CR4_ALWAYS
                | when(bit(seven.ecx, 2), cr4::UMIP)
                | when(bit(seven.ebx, 0), cr4::FSGSBASE)
                | when(bit(one.ecx, 17), cr4::PCIDE)
                | when(xsave, cr4::OSXSAVE)
                | when(bit(seven.ebx, 7), cr4::SMEP)
                | when(bit(seven.ebx, 20), cr4::SMAP)
                | when(bit(seven.ecx, 3), cr4::PKE)
                | when(bit(seven.ecx, 31), cr4::PKS),
            efer: when(bit(ext.edx, 11), efer::SCE)
                | when(bit(ext.edx, 29), efer::LME | efer::LMA)
                | when(bit(ext.edx, 20), efer::NXE)
                | when(bit(ext.edx, 25), efer::FFXSR)
                | when(bit(leaf(0x8000_0021, 0).eax, 8), efer::AUTOIBRS),
            xcr0: when(
                xsave,
                3 | when(bit(one.ecx, 28), component::AVX)
                    | when(bit(seven.ecx, 3), component::PKRU),
            ),
            gbpages: bit(ext.edx, 26),
            tsc_aux: bit(ext.edx, 27) || bit(seven.ecx, 22),
            tsc_adjust: bit(seven.ebx, 1),
            x2apic: bit(one.ecx, 21),
            tsc_deadline: bit(one.ecx, 24),
            invpcid: bit(seven.ebx, 10),
            xsaves: bit(leaf(0xd, 1).eax, 3),
            xgetbv1: bit(leaf(0xd, 1).eax, 2),
            mtrr: bit(one.edx, 12),
            mca: bit(one.edx, 14),
            arch_capabilities: bit(seven.edx, 29),
            kvm_features: if has_kvm { leaf(0x4000_0001, 0).eax } else { 0 },
        }
    }
}

const CR4_ALWAYS: u64 = cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT;

/// Physical address bits from leaf 0x80000008; 36 where the leaf is missing, 40 without CPUID.
#[must_use]
pub fn phys_bits(entries: &[CpuidEntry]) -> u8 {
    if entries.is_empty() {
        return 40;
    }
    entries
        .iter()
        .find(|e| e.function == 0x8000_0008)
        .and_then(|e| u8::try_from(e.eax & 0xff).ok())
        .filter(|b| (32..=52).contains(b))
        .unwrap_or(36)
}
