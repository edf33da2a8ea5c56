//! CPUID that the kernel can give to a guest.

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::{Errno, KvmError};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_cpu::cpuid;
use kvm_ioctls::Kvm;

use crate::error::failed;

/// `KVM_CAP_TSC_DEADLINE_TIMER`.
const CAP_TSC_DEADLINE_TIMER: u64 = 72;
const HYPERVISOR: u32 = 1 << 31;
const TSC_DEADLINE: u32 = 1 << 24;
const ARAT: u32 = 1 << 2;
/// Bits of leaf 1 EDX that AMD repeats in leaf 0x80000001 EDX.
const AMD_ALIASES: u32 = 0x0183_f3ff;

/// `KVM_GET_SUPPORTED_CPUID`, with what the kernel does but leaves to user space to announce.
pub(crate) fn supported(kvm: &Kvm) -> Result<Vec<CpuidEntry>, KvmError> {
    let list = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|e| failed("KVM_GET_SUPPORTED_CPUID", &e))?;
    let mut entries: Vec<_> = list.as_slice().iter().map(from_kernel).collect();
    let deadline = kvm.check_extension_raw(CAP_TSC_DEADLINE_TIMER) > 0;
    announce(&mut entries, deadline);
    Ok(entries)
}

fn announce(entries: &mut [CpuidEntry], deadline: bool) {
    let basic = find(entries, 1, 0).map_or(0, |e| e.edx);
    for entry in entries {
        match entry.function {
            1 => entry.ecx |= HYPERVISOR | if deadline { TSC_DEADLINE } else { 0 },
            6 => entry.eax |= ARAT,
            // A kernel on an Intel CPU leaves out what an AMD model repeats.
            0x8000_0001 => entry.edx |= basic & AMD_ALIASES,
            _ => {}
        }
    }
}

fn find(entries: &[CpuidEntry], function: u32, index: u32) -> Option<&CpuidEntry> {
    entries.iter().find(|e| e.function == function && (e.flags & 1 == 0 || e.index == index))
}

/// CPUID of a model, without what the kernel does not support.
///
/// # Errors
/// As `kvm_cpu::cpuid::cpuid_for_model`, and `EOPNOTSUPP` for a feature that was asked for by name
/// and that the kernel does not support.
pub(crate) fn for_model(
    model: &str,
    features: &[(String, bool)],
    supported: &[CpuidEntry],
) -> Result<Vec<CpuidEntry>, KvmError> {
    let features = without_keys(features)?;
    let host = |function, index| {
        find(supported, function, index).map_or((0, 0, 0, 0), |e| (e.eax, e.ebx, e.ecx, e.edx))
    };
    for (name, _) in features.iter().filter(|(name, on)| *on && name != "kvm") {
        let with = cpuid::cpuid_for_model(model, &[(name.clone(), true)], &host)?;
        let without = cpuid::cpuid_for_model(model, &[(name.clone(), false)], &host)?;
        let lost = |entries: &[CpuidEntry]| {
            let mut masked = entries.to_vec();
            mask(&mut masked, supported);
            words(entries).zip(words(&masked)).map(|(all, kept)| all & !kept).collect::<Vec<_>>()
        };
        if lost(&with) != lost(&without) {
            return Err(KvmError::new(
                Errno::EOPNOTSUPP,
                format!("feature {name} is not supported by the host's KVM"),
            ));
        }
    }
    let mut entries = cpuid::cpuid_for_model(model, &features, &host)?;
    mask(&mut entries, supported);
    Ok(entries)
}

/// Protection keys stay off: where a kernel has PKRU in its XSAVE areas depends on the processor,
/// and the models of this project have it in one place.
fn without_keys(features: &[(String, bool)]) -> Result<Vec<(String, bool)>, KvmError> {
    const KEYS: [&str; 2] = ["pku", "pks"];
    if let Some((name, _)) = features.iter().find(|(name, on)| *on && KEYS.contains(&name.as_str()))
    {
        return Err(KvmError::new(
            Errno::EOPNOTSUPP,
            format!("feature {name} is not there yet on the host's KVM"),
        ));
    }
    let off = KEYS.map(|name| (name.to_string(), false));
    Ok(features.iter().cloned().chain(off).collect())
}

fn words(entries: &[CpuidEntry]) -> impl Iterator<Item = u32> + '_ {
    entries.iter().filter(|e| !matches!(e.function, 0 | 0x4000_0000 | 0x8000_0000)).flat_map(|e| {
        // The sizes of leaf 0xD and the addresses' widths are no features.
        match e.function {
            1 | 6 | 7 | 0x4000_0001 | 0x8000_0001 | 0x8000_0007 => [e.eax, e.ebx, e.ecx, e.edx],
            _ => [0; 4],
        }
    })
}

/// Takes away the feature bits that `supported` does not have.
fn mask(entries: &mut [CpuidEntry], supported: &[CpuidEntry]) {
    for entry in entries {
        let known = find(supported, entry.function, entry.index).copied().unwrap_or_default();
        match entry.function {
            1 => {
                entry.ecx &= known.ecx;
                entry.edx &= known.edx;
            }
            // Timers that never stop are the kernel's, whatever the host has.
            6 => entry.eax &= known.eax | ARAT,
            7 if entry.index == 0 => {
                entry.ebx &= known.ebx;
                entry.ecx &= known.ecx;
                entry.edx &= known.edx;
            }
            0xd if entry.index == 1 => entry.eax &= known.eax,
            0x4000_0001 => entry.eax &= known.eax,
            0x8000_0001 => {
                entry.ecx &= known.ecx;
                entry.edx &= known.edx;
            }
            0x8000_0007 => entry.edx &= known.edx,
            0x8000_0008 if known.eax & 0xff != 0 => {
                let bits = (entry.eax & 0xff).min(known.eax & 0xff);
                entry.eax = entry.eax & !0xff | bits;
            }
            _ => {}
        }
    }
}

/// The entries for vCPU `id`: the kernel gives them to the guest as they are, so that the numbers
/// of the vCPU must be in them.
pub(crate) fn for_vcpu(entries: &[CpuidEntry], id: u32) -> Result<CpuId, KvmError> {
    let list: Vec<_> = entries
        .iter()
        .map(|entry| {
            let mut e = to_kernel(entry);
            match e.function {
                1 => e.ebx = e.ebx & 0x00ff_ffff | (id & 0xff) << 24,
                0xb | 0x1f => e.edx = id,
                _ => {}
            }
            e
        })
        .collect();
    CpuId::from_entries(&list).map_err(|_| {
        KvmError::new(
            Errno::E2BIG,
            format!("{} CPUID entries are more than {KVM_MAX_CPUID_ENTRIES}", list.len()),
        )
    })
}

/// An entry as this project has it.
pub(crate) fn from_kernel(e: &kvm_cpuid_entry2) -> CpuidEntry {
    CpuidEntry {
        function: e.function,
        index: e.index,
        flags: e.flags,
        eax: e.eax,
        ebx: e.ebx,
        ecx: e.ecx,
        edx: e.edx,
    }
}

fn to_kernel(e: &CpuidEntry) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: e.function,
        index: e.index,
        flags: e.flags,
        eax: e.eax,
        ebx: e.ebx,
        ecx: e.ecx,
        edx: e.edx,
        ..kvm_cpuid_entry2::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
        CpuidEntry { function, eax, ebx, ecx, edx, ..CpuidEntry::default() }
    }

    /// A kernel with SMEP, SSE3, SSSE3 and SSE4.1 and without SMAP.
    fn kernel() -> Vec<CpuidEntry> {
        let mut entries = vec![
            entry(0, [0xd, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
            entry(1, [0, 0, 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 21, 0x1fff_fbff]),
            entry(6, [0; 4]),
            CpuidEntry { flags: 1, ..entry(7, [0, 1 << 7, 0, 0]) },
            entry(0x4000_0001, [1 | 1 << 3, 0, 0, 0]),
            entry(0x8000_0000, [0x8000_0008, 0, 0, 0]),
            entry(0x8000_0001, [0, 0, 1, 1 << 11 | 1 << 20 | 1 << 29]),
            entry(0x8000_0008, [39 | 48 << 8, 0, 0, 0]),
        ];
        announce(&mut entries, true);
        entries
    }

    #[test]
    fn models_have_what_the_kernel_has_and_no_more() {
        let entries = for_model("max", &[], &kernel()).unwrap();
        let leaf = |function| *find(&entries, function, 0).unwrap();
        assert_eq!(leaf(7).ebx, 1 << 7, "SMEP alone");
        assert_eq!(leaf(1).ecx >> 31, 1, "the hypervisor bit");
        assert_ne!(leaf(1).ecx & TSC_DEADLINE, 0);
        assert_eq!(leaf(1).ecx & (1 << 25 | 1 << 17), 0, "neither AES nor PCID");
        assert_eq!(leaf(6).eax, ARAT);
        assert_eq!(leaf(0x8000_0008).eax & 0xff, 39);
        assert_eq!(leaf(0x4000_0001).eax & (1 << 24), 0);
        assert_ne!(leaf(0x8000_0001).edx & 1 << 4, 0, "an AMD model repeats the TSC bit");
    }

    #[test]
    fn what_is_asked_for_by_name_is_given_or_refused() {
        let on = |name: &str| for_model("qemu64", &[(name.to_owned(), true)], &kernel());
        assert!(on("smep").is_ok() && on("ssse3").is_ok());
        for name in ["smap", "pcid", "aes"] {
            assert_eq!(on(name).unwrap_err().errno, Errno::EOPNOTSUPP, "{name}");
        }
        assert!(for_model("qemu64", &[("smap".to_owned(), false)], &kernel()).is_ok());
        assert_eq!(on("nonsense").unwrap_err().errno, Errno::EINVAL);
    }

    #[test]
    fn entries_carry_the_number_of_the_vcpu() {
        let list = for_vcpu(&[entry(1, [0, 0xff00_0800, 0, 0]), entry(0xb, [0; 4])], 3).unwrap();
        assert_eq!(list.as_slice()[0].ebx, 0x0300_0800);
        assert_eq!(list.as_slice()[1].edx, 3);
        assert_eq!(for_vcpu(&[entry(1, [0; 4]); 300], 0).unwrap_err().errno, Errno::E2BIG);
    }
}
