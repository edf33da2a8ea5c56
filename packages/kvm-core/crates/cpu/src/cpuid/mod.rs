//! CPUID: models, features by name, and the instruction.
//!
//! A model advertises only what the engine executes and, for data instructions that the host CPU
//! executes, what the host has.

mod features;
mod model;
mod set;
#[cfg(test)]
mod tests;

use kvm_abi::cpuid::{CpuidEntry, FLAG_SIGNIFICANT_INDEX};

use crate::bits::cr4;
use crate::{Cpu, Exec};

pub use features::{Feature, Need, Word};
pub use model::{MODELS, cpuid_for_model, supported};
pub use set::FeatureSet;

/// The host's CPUID instruction: leaf and sub-leaf to EAX, EBX, ECX, EDX.
pub type HostCpuid<'a> = &'a dyn Fn(u32, u32) -> (u32, u32, u32, u32);

/// One register (0 is EAX) of a host leaf; 0 for a leaf beyond the host's last.
fn host_register(host: HostCpuid<'_>, leaf: u32, sub: u32, register: usize) -> u32 {
    let (last, ..) = host(leaf & 0x8000_0000, 0);
    if leaf > last && leaf & 0xf000_0000 != 0x4000_0000 {
        return 0;
    }
    let (a, b, c, d) = host(leaf, sub);
    [a, b, c, d][register & 3]
}

/// Names of all features that models can have, and `kvm` for the paravirtual leaf as a whole.
#[must_use]
pub fn feature_names() -> Vec<&'static str> {
    features::FEATURES.iter().map(|f| f.name).chain(["kvm"]).collect()
}

/// Bytes of a standard-format XSAVE area for the components in `xcr0`.
#[must_use]
pub fn xsave_size(xcr0: u64) -> u32 {
    match xcr0 {
        _ if xcr0 & component::PKRU != 0 => PKRU_OFFSET + PKRU_BYTES,
        _ if xcr0 & component::AVX != 0 => AVX_OFFSET + AVX_BYTES,
        _ => AVX_OFFSET,
    }
}

/// Bytes of a compacted XSAVE area: the components without gaps between them.
#[must_use]
pub fn xsave_compacted_size(xcr0: u64) -> u32 {
    let part = |bit: u64, bytes: u32| if xcr0 & bit != 0 { bytes } else { 0 };
    AVX_OFFSET + part(component::AVX, AVX_BYTES) + part(component::PKRU, PKRU_BYTES)
}

/// XSAVE state components beyond the legacy region, as bits of XCR0.
pub mod component {
    /// The upper halves of the YMM registers.
    pub const AVX: u64 = 1 << 2;
    /// The rights of protection keys.
    pub const PKRU: u64 = 1 << 9;
}

/// Where the upper halves of the YMM registers lie in an XSAVE area, and their size.
pub const AVX_OFFSET: u32 = 576;
const AVX_BYTES: u32 = 256;
/// Where PKRU lies in the standard format, and its size: a word and its padding.
pub const PKRU_OFFSET: u32 = 2688;
const PKRU_BYTES: u32 = 8;

/// The CPUID instruction: EAX, EBX, ECX, EDX with the parts that depend on state filled in.
/// A leaf that does not exist reads as zero, on Intel a basic one as the highest basic leaf.
pub fn cpuid<E: Exec + ?Sized>(e: &mut E, leaf: u32, sub: u32) -> (u32, u32, u32, u32) {
    let cpu = e.cpu();
    let Some(entry) = lookup(cpu, leaf, sub) else { return (0, 0, 0, 0) };
    let CpuidEntry { function, mut ebx, mut ecx, mut edx, eax, .. } = entry;
    let apic_on = cpu.apic_base_value() & 0x800 != 0;
    match function {
        1 => {
            ebx = ebx & 0x00ff_ffff | (cpu.id & 0xff) << 24;
            // OSXSAVE
            ecx = ecx & !(1 << 27) | if cpu.cr4 & cr4::OSXSAVE != 0 { 1 << 27 } else { 0 };
            if !apic_on {
                edx &= !(1 << 9);
            }
        }
        7 if sub == 0 && cpu.cr4 & cr4::PKE != 0 => ecx |= 1 << 4,
        0xb | 0x1f => edx = cpu.id,
        0xd if sub == 0 => ebx = xsave_size(cpu.xcr0),
        0xd if sub == 1 && eax & 0xa != 0 => ebx = xsave_compacted_size(cpu.xcr0 | cpu.xss),
        0x8000_0001 if !apic_on => edx &= !(1 << 9),
        _ => {}
    }
    (eax, ebx, ecx, edx)
}

fn lookup(cpu: &Cpu, leaf: u32, sub: u32) -> Option<CpuidEntry> {
    let find = |leaf: u32| {
        cpu.cpuid
            .iter()
            .find(|e| {
                let any = e.flags & FLAG_SIGNIFICANT_INDEX == 0;
                e.function == leaf && (any || e.index == sub)
            })
            .copied()
    };
    let last_basic = cpu.cpuid.iter().find(|e| e.function == 0).map_or(0, |e| e.eax);
    if cpu.caps.intel && leaf < 0x4000_0000 && leaf > last_basic {
        return find(last_basic);
    }
    find(leaf).or_else(|| {
        // Levels of the topology leaves beyond the last one still give the level's number and the
        // x2APIC id.
        let first = matches!(leaf, 0xb | 0x1f) && cpu.cpuid.iter().any(|e| e.function == leaf);
        first.then(|| CpuidEntry { function: leaf, ecx: sub & 0xff, ..CpuidEntry::default() })
    })
}
