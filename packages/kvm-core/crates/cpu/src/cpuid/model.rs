//! CPU models: identity, caches and topology around a set of features.

use kvm_abi::KvmError;
use kvm_abi::cpuid::{CpuidEntry, FLAG_SIGNIFICANT_INDEX};

use super::features::Word;
use super::set::{FeatureSet, nearest};
use super::{HostCpuid, PKRU_OFFSET, host_register, xsave_compacted_size, xsave_size};

/// Model names.
pub const MODELS: [&str; 5] = ["qemu64", "max", "host", "IvyBridge", "Opteron_G1"];

/// What `qemu64` has on QEMU 7.2 beside [`COMMON`].
const QEMU64: &[&str] = &["cx16", "lahf-lm"];

/// What every model of QEMU's has and the engine too, with what its KVM adds.
const COMMON: &[&str] = &[
    "fpu",
    "de",
    "pse",
    "tsc",
    "msr",
    "pae",
    "mce",
    "cx8",
    "apic",
    "sep",
    "mtrr",
    "pge",
    "mca",
    "cmov",
    "pat",
    "pse36",
    "clflush",
    "mmx",
    "fxsr",
    "sse",
    "sse2",
    "pni",
    "x2apic",
    "hypervisor",
    "syscall",
    "nx",
    "lm",
    "kvmclock",
    "kvm-nopiodelay",
    "kvmclock-stable-bit",
];

/// What `IvyBridge` has on QEMU 7.2 beside [`COMMON`].
const IVY_BRIDGE: &[&str] = &[
    "avx",
    "xsave",
    "aes",
    "tsc-deadline",
    "popcnt",
    "sse4.2",
    "sse4.1",
    "cx16",
    "ssse3",
    "pclmulqdq",
    "f16c",
    "rdrand",
    "fsgsbase",
    "smep",
    "erms",
    "rdtscp",
    "lahf-lm",
    "xsaveopt",
    "arat",
];

/// What `max` does not have although it works: with an address space for each process the kernel's own
/// translations have to be found again in each of them, where a load of CR3 without PCIDs keeps them.
const SLOW: &[&str] = &["pcid", "invpcid"];

/// Who the CPU says it is.
struct Identity {
    /// EBX, EDX, ECX of leaf 0.
    vendor: [u32; 3],
    /// Family, model and stepping as leaf 1 EAX has them.
    signature: u32,
    /// 48 bytes, padded with zeros.
    brand: [u8; 48],
    phys_bits: u32,
}

const AMD: [u32; 3] = [0x6874_7541, 0x6974_6e65, 0x444d_4163];
const INTEL: [u32; 3] = [0x756e_6547, 0x4965_6e69, 0x6c65_746e];

fn brand(text: &str) -> [u8; 48] {
    let mut out = [0; 48];
    for (to, from) in out.iter_mut().take(47).zip(text.bytes()) {
        *to = from;
    }
    out
}

impl Identity {
    /// AMD family 15 model 107 stepping 1.
    fn qemu(text: &str) -> Self {
        Self::of(AMD, 0x0006_0fb1, text)
    }

    fn of(vendor: [u32; 3], signature: u32, text: &str) -> Self {
        Self { vendor, signature, brand: brand(text), phys_bits: 40 }
    }

    fn host(host: HostCpuid<'_>) -> Self {
        let (_, b, c, d) = host(0, 0);
        let register = |leaf: u32, n: usize| host_register(host, leaf, 0, n);
        let mut text = [0; 48];
        for (i, chunk) in text.chunks_exact_mut(4).enumerate() {
            let leaf = 0x8000_0002 + (i / 4) as u32;
            chunk.copy_from_slice(&register(leaf, i % 4).to_le_bytes());
        }
        let phys_bits = register(0x8000_0008, 0) & 0xff;
        Self {
            vendor: [b, d, c],
            signature: register(1, 0) & 0x0fff_3fff,
            brand: text,
            phys_bits: if (36..=52).contains(&phys_bits) { phys_bits } else { 36 },
        }
    }

    fn intel(&self) -> bool {
        self.vendor == INTEL
    }
}

/// The CPUID entries of a model with features switched on or off by name. The name `kvm` stands
/// for the whole paravirtual leaf.
///
/// # Errors
/// `EINVAL` for an unknown model or feature, with the nearest known one; `EOPNOTSUPP` for a feature
/// that the engine or the host does not have.
pub fn cpuid_for_model(
    model: &str,
    features: &[(String, bool)],
    host: HostCpuid<'_>,
) -> Result<Vec<CpuidEntry>, KvmError> {
    let (identity, mut set) = match model {
        "qemu64" => {
            let identity = Identity::qemu("QEMU Virtual CPU version 2.5+");
            (identity, FeatureSet::named(&[COMMON, QEMU64].concat(), host))
        }
        "max" => {
            let identity = Identity::qemu("QEMU Virtual CPU version 2.5+");
            (identity, FeatureSet::all(host, false).without(SLOW))
        }
        "IvyBridge" => {
            let set = FeatureSet::named(&[COMMON, IVY_BRIDGE].concat(), host);
            (Identity::of(INTEL, 0x0003_06a9, "Intel Xeon E3-12xx v2 (Ivy Bridge)"), set)
        }
        "Opteron_G1" => {
            let set = FeatureSet::named(COMMON, host);
            (Identity::of(AMD, 0x0000_0f61, "AMD Opteron 240 (Gen 1 Class Opteron)"), set)
        }
        "host" => {
            let identity = Identity::host(host);
            let set = FeatureSet::all(host, identity.intel());
            (identity, set)
        }
        _ => {
            let near = nearest(model, MODELS.into_iter());
            return Err(KvmError::invalid(format!(
                "CPU model {model} does not exist, the nearest is {near}"
            )));
        }
    };
    let mut kvm = true;
    let mut named = Vec::with_capacity(features.len());
    for (name, on) in features {
        if name == "kvm" {
            kvm = *on;
        } else {
            named.push((name.clone(), *on));
        }
    }
    set.apply(&named, host)?;
    Ok(entries(&identity, &set, kvm))
}

/// `KVM_GET_SUPPORTED_CPUID`: everything on this host.
#[must_use]
pub fn supported(host: HostCpuid<'_>) -> Vec<CpuidEntry> {
    let identity = Identity::host(host);
    let set = FeatureSet::all(host, identity.intel());
    entries(&identity, &set, true)
}

fn plain(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry { function, index: 0, flags: 0, eax, ebx, ecx, edx }
}

fn indexed(function: u32, index: u32, registers: [u32; 4]) -> CpuidEntry {
    CpuidEntry { index, flags: FLAG_SIGNIFICANT_INDEX, ..plain(function, registers) }
}

fn entries(id: &Identity, set: &FeatureSet, kvm: bool) -> Vec<CpuidEntry> {
    let mut out = Vec::with_capacity(40);
    basic_leaves(&mut out, id, set);
    xsave_leaves(&mut out, set);
    if kvm {
        out.push(plain(0x4000_0000, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]));
        out.push(plain(0x4000_0001, [set.word(Word::Kvm), 0, 0, 0]));
    }
    extended_leaves(&mut out, id, set);
    out
}

fn basic_leaves(out: &mut Vec<CpuidEntry>, id: &Identity, set: &FeatureSet) {
    let [b, d, c] = id.vendor;
    out.push(plain(0, [0xd, b, c, d]));
    let clflush = if set.has("clflush") { 8 << 8 } else { 0 };
    out.push(plain(1, [id.signature, clflush, set.word(Word::Leaf1Ecx), set.word(Word::Leaf1Edx)]));
    if id.intel() {
        // Leaf 4 has the caches.
        out.push(plain(2, [0x00ff_ff01, 0, 0, 0]));
        out.push(indexed(4, 0, [0x121, 0x01c0_003f, 63, 1]));
        out.push(indexed(4, 1, [0x122, 0x01c0_003f, 63, 1]));
        out.push(indexed(4, 2, [0x143, 0x03c0_003f, 4095, 1]));
        out.push(indexed(4, 3, [0, 0, 0, 0]));
    }
    out.push(plain(6, [set.word(Word::Leaf6Eax), 0, 0, 0]));
    out.push(indexed(
        7,
        0,
        [0, set.word(Word::Leaf7Ebx), set.word(Word::Leaf7Ecx), set.word(Word::Leaf7Edx)],
    ));
    // One thread per core, one core: no bits of the APIC id are below the package.
    out.push(indexed(0xb, 0, [0, 1, 0x100, 0]));
    out.push(indexed(0xb, 1, [0, 1, 0x201, 0]));
}

fn xsave_leaves(out: &mut Vec<CpuidEntry>, set: &FeatureSet) {
    if !set.has("xsave") {
        return;
    }
    let avx = set.has("avx");
    let pku = set.has("pku");
    let xcr0 = if avx { 7 } else { 3 } | if pku { 1 << 9 } else { 0 };
    out.push(indexed(0xd, 0, [xcr0, xsave_size(1), xsave_size(u64::from(xcr0)), 0]));
    let compacted = set.word(Word::XsaveEax) & 2 != 0;
    let size = if compacted { xsave_compacted_size(1) } else { 0 };
    out.push(indexed(0xd, 1, [set.word(Word::XsaveEax), size, 0, 0]));
    if avx {
        // Size and offset of the upper halves of YMM0 to YMM15.
        out.push(indexed(0xd, 2, [256, 576, 0, 0]));
    }
    if pku {
        out.push(indexed(0xd, 9, [8, PKRU_OFFSET, 0, 0]));
    }
}

/// Bits of leaf 1 EDX that AMD repeats in leaf 0x80000001 EDX.
const AMD_ALIASES: u32 = 0x0183_f3ff;

fn extended_leaves(out: &mut Vec<CpuidEntry>, id: &Identity, set: &FeatureSet) {
    let [b, d, c] = id.vendor;
    let amd = !id.intel();
    let more = set.word(Word::Ext21Eax);
    let last = if more != 0 { 0x8000_0021 } else { 0x8000_0008 };
    out.push(plain(0x8000_0000, if amd { [last, b, c, d] } else { [last, 0, 0, 0] }));
    let aliases = if amd { set.word(Word::Leaf1Edx) & AMD_ALIASES } else { 0 };
    out.push(plain(
        0x8000_0001,
        [
            if amd { id.signature } else { 0 },
            0,
            set.word(Word::Ext1Ecx),
            set.word(Word::Ext1Edx) | aliases,
        ],
    ));
    for (leaf, bytes) in (0x8000_0002..).zip(id.brand.chunks_exact(16)) {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = chunk.iter().rev().fold(0, |w, byte| w << 8 | u32::from(*byte));
        }
        out.push(plain(leaf, words));
    }
    if amd {
        // TLBs, then 64 KiB two-way L1 caches with 64-byte lines, one line per tag.
        out.push(plain(0x8000_0005, [0x01ff_01ff, 0x01ff_01ff, 0x4002_0140, 0x4002_0140]));
        // 512 KiB 16-way L2, 16 MiB 16-way L3.
        out.push(plain(0x8000_0006, [0, 0x4200_4200, 0x0200_8140, 0x0080_8140]));
    } else {
        out.push(plain(0x8000_0006, [0, 0, 0x1000_8040, 0]));
    }
    out.push(plain(0x8000_0007, [0, 0, 0, set.word(Word::Apm)]));
    let linear_bits = if set.has("lm") { 48 } else { 32 };
    out.push(plain(0x8000_0008, [id.phys_bits | linear_bits << 8, 0, 0, 0]));
    if more != 0 {
        out.push(plain(0x8000_0021, [more, 0, 0, 0]));
    }
}
