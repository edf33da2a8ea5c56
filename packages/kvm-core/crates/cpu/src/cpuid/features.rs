//! Feature names, as QEMU's `-cpu` spells them, and where CPUID shows them.

use Need::{Always, Host};
use Word::{
    Apm, Ext1Ecx, Ext1Edx, Ext21Eax, Kvm, Leaf1Ecx, Leaf1Edx, Leaf6Eax, Leaf7Ebx, Leaf7Ecx,
    Leaf7Edx, XsaveEax,
};

/// A register of a leaf that holds feature bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Leaf 1 EDX.
    Leaf1Edx,
    /// Leaf 1 ECX.
    Leaf1Ecx,
    /// Leaf 6 EAX.
    Leaf6Eax,
    /// Leaf 7.0 EBX.
    Leaf7Ebx,
    /// Leaf 7.0 ECX.
    Leaf7Ecx,
    /// Leaf 7.0 EDX.
    Leaf7Edx,
    /// Leaf 0xD.1 EAX.
    XsaveEax,
    /// Leaf 0x80000001 EDX.
    Ext1Edx,
    /// Leaf 0x80000001 ECX.
    Ext1Ecx,
    /// Leaf 0x80000007 EDX.
    Apm,
    /// Leaf 0x40000001 EAX.
    Kvm,
    /// Leaf 0x80000021 EAX.
    Ext21Eax,
}

/// How many words there are.
pub const WORDS: usize = 12;

impl Word {
    /// Leaf, sub-leaf and register (0 is EAX, 3 EDX).
    #[must_use]
    pub fn place(self) -> (u32, u32, usize) {
        match self {
            Leaf1Edx => (1, 0, 3),
            Leaf1Ecx => (1, 0, 2),
            Leaf6Eax => (6, 0, 0),
            Leaf7Ebx => (7, 0, 1),
            Leaf7Ecx => (7, 0, 2),
            Leaf7Edx => (7, 0, 3),
            XsaveEax => (0xd, 1, 0),
            Ext1Edx => (0x8000_0001, 0, 3),
            Ext1Ecx => (0x8000_0001, 0, 2),
            Apm => (0x8000_0007, 0, 3),
            Kvm => (0x4000_0001, 0, 0),
            Ext21Eax => (0x8000_0021, 0, 0),
        }
    }
}

/// What a feature depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The engine does it alone.
    Always,
    /// The host CPU executes its instructions and must have the same bit.
    Host,
}

/// A feature that the engine can offer.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// QEMU's name.
    pub name: &'static str,
    /// Where its bit is.
    pub word: Word,
    /// Bit number.
    pub bit: u8,
    /// What it depends on.
    pub need: Need,
}

const fn f(name: &'static str, word: Word, bit: u8, need: Need) -> Feature {
    Feature { name, word, bit, need }
}

/// All features that the engine can offer.
pub const FEATURES: &[Feature] = &[
    f("fpu", Leaf1Edx, 0, Always),
    f("de", Leaf1Edx, 2, Always),
    f("pse", Leaf1Edx, 3, Always),
    f("tsc", Leaf1Edx, 4, Always),
    f("msr", Leaf1Edx, 5, Always),
    f("pae", Leaf1Edx, 6, Always),
    f("mce", Leaf1Edx, 7, Always),
    f("cx8", Leaf1Edx, 8, Always),
    f("apic", Leaf1Edx, 9, Always),
    f("sep", Leaf1Edx, 11, Always),
    f("mtrr", Leaf1Edx, 12, Always),
    f("pge", Leaf1Edx, 13, Always),
    f("mca", Leaf1Edx, 14, Always),
    f("cmov", Leaf1Edx, 15, Always),
    f("pat", Leaf1Edx, 16, Always),
    f("pse36", Leaf1Edx, 17, Always),
    f("clflush", Leaf1Edx, 19, Always),
    f("mmx", Leaf1Edx, 23, Always),
    f("fxsr", Leaf1Edx, 24, Always),
    f("sse", Leaf1Edx, 25, Always),
    f("sse2", Leaf1Edx, 26, Always),
    f("pni", Leaf1Ecx, 0, Host),
    f("pclmulqdq", Leaf1Ecx, 1, Host),
    f("ssse3", Leaf1Ecx, 9, Host),
    f("fma", Leaf1Ecx, 12, Host),
    f("cx16", Leaf1Ecx, 13, Host),
    f("pcid", Leaf1Ecx, 17, Always),
    f("sse4.1", Leaf1Ecx, 19, Host),
    f("sse4.2", Leaf1Ecx, 20, Host),
    f("x2apic", Leaf1Ecx, 21, Always),
    f("movbe", Leaf1Ecx, 22, Host),
    f("popcnt", Leaf1Ecx, 23, Host),
    f("tsc-deadline", Leaf1Ecx, 24, Always),
    f("aes", Leaf1Ecx, 25, Host),
    f("xsave", Leaf1Ecx, 26, Host),
    f("avx", Leaf1Ecx, 28, Host),
    f("f16c", Leaf1Ecx, 29, Host),
    f("rdrand", Leaf1Ecx, 30, Always),
    f("hypervisor", Leaf1Ecx, 31, Always),
    f("arat", Leaf6Eax, 2, Always),
    f("fsgsbase", Leaf7Ebx, 0, Always),
    f("tsc-adjust", Leaf7Ebx, 1, Always),
    f("bmi1", Leaf7Ebx, 3, Host),
    f("avx2", Leaf7Ebx, 5, Host),
    f("smep", Leaf7Ebx, 7, Always),
    f("bmi2", Leaf7Ebx, 8, Host),
    f("erms", Leaf7Ebx, 9, Always),
    f("invpcid", Leaf7Ebx, 10, Always),
    f("rdseed", Leaf7Ebx, 18, Always),
    f("adx", Leaf7Ebx, 19, Host),
    f("smap", Leaf7Ebx, 20, Always),
    f("clflushopt", Leaf7Ebx, 23, Always),
    f("clwb", Leaf7Ebx, 24, Always),
    f("sha-ni", Leaf7Ebx, 29, Host),
    f("umip", Leaf7Ecx, 2, Always),
    f("pku", Leaf7Ecx, 3, Always),
    f("gfni", Leaf7Ecx, 8, Host),
    f("vaes", Leaf7Ecx, 9, Host),
    f("vpclmulqdq", Leaf7Ecx, 10, Host),
    f("rdpid", Leaf7Ecx, 22, Always),
    f("pks", Leaf7Ecx, 31, Always),
    f("fsrm", Leaf7Edx, 4, Always),
    f("arch-capabilities", Leaf7Edx, 29, Always),
    f("xsaveopt", XsaveEax, 0, Host),
    f("xsavec", XsaveEax, 1, Host),
    f("xgetbv1", XsaveEax, 2, Host),
    f("syscall", Ext1Edx, 11, Always),
    f("nx", Ext1Edx, 20, Always),
    f("mmxext", Ext1Edx, 22, Host),
    f("fxsr-opt", Ext1Edx, 25, Host),
    f("pdpe1gb", Ext1Edx, 26, Always),
    f("rdtscp", Ext1Edx, 27, Always),
    f("lm", Ext1Edx, 29, Always),
    f("lahf-lm", Ext1Ecx, 0, Always),
    f("cr8legacy", Ext1Ecx, 4, Always),
    f("abm", Ext1Ecx, 5, Host),
    f("3dnowprefetch", Ext1Ecx, 8, Always),
    f("invtsc", Apm, 8, Always),
    // Branches are not predicted across privileges here: a kernel need not avoid indirect ones.
    f("auto-ibrs", Ext21Eax, 8, Always),
    f("kvmclock", Kvm, 0, Always),
    f("kvm-nopiodelay", Kvm, 1, Always),
    f("kvm-pv-unhalt", Kvm, 7, Always),
    f("kvm-pv-ipi", Kvm, 11, Always),
    f("kvm-poll-control", Kvm, 12, Always),
    f("kvm-pv-sched-yield", Kvm, 13, Always),
    f("kvmclock-stable-bit", Kvm, 24, Always),
];

/// Second bits of a name: kvmclock has an old and a new pair of MSRs.
pub const ALSO: &[(&str, Word, u8)] = &[("kvmclock", Kvm, 3)];

/// Other spellings that QEMU accepts; `_` for `-` is always accepted.
pub const ALIASES: &[(&str, &str)] = &[
    ("sse3", "pni"),
    ("pclmuldq", "pclmulqdq"),
    ("sse4-1", "sse4.1"),
    ("sse4-2", "sse4.2"),
    ("i64", "lm"),
    ("xd", "nx"),
    ("ffxsr", "fxsr-opt"),
    ("lzcnt", "abm"),
    ("tsc-deadline-timer", "tsc-deadline"),
];

/// A feature that is nothing without another.
pub const DEPENDS: &[(&str, &str)] = &[
    ("sse", "fxsr"),
    ("sse2", "sse"),
    ("pni", "sse2"),
    ("ssse3", "pni"),
    ("sse4.1", "ssse3"),
    ("sse4.2", "sse4.1"),
    ("aes", "sse2"),
    ("pclmulqdq", "sse2"),
    ("sha-ni", "sse2"),
    ("gfni", "sse2"),
    ("xsaveopt", "xsave"),
    ("xsavec", "xsave"),
    ("xgetbv1", "xsave"),
    ("avx", "xsave"),
    ("pku", "xsave"),
    ("pku", "lm"),
    ("pks", "lm"),
    ("fma", "avx"),
    ("f16c", "avx"),
    ("avx2", "avx"),
    ("vaes", "avx"),
    ("vpclmulqdq", "avx"),
    ("fsrm", "erms"),
    ("lahf-lm", "lm"),
    ("syscall", "lm"),
    ("pdpe1gb", "lm"),
    ("pcid", "lm"),
    ("invpcid", "lm"),
    ("x2apic", "apic"),
    ("tsc-deadline", "apic"),
    ("kvmclock-stable-bit", "kvmclock"),
];

/// Names that QEMU knows and this engine does not offer: switching one off is fine, switching it
/// on is refused as what it is.
pub const NOT_OFFERED: &[&str] = &[
    "vme",
    "pn",
    "ds",
    "acpi",
    "ss",
    "ht",
    "tm",
    "ia64",
    "pbe",
    "dtes64",
    "monitor",
    "ds-cpl",
    "vmx",
    "smx",
    "est",
    "tm2",
    "cid",
    "xtpr",
    "pdcm",
    "dca",
    "sgx",
    "hle",
    "rtm",
    "mpx",
    "avx512f",
    "avx512dq",
    "avx512ifma",
    "pcommit",
    "intel-pt",
    "avx512pf",
    "avx512er",
    "avx512cd",
    "avx512bw",
    "avx512vl",
    "avx512vbmi",
    "waitpkg",
    "avx512vbmi2",
    "avx512vnni",
    "avx512bitalg",
    "avx512-vpopcntdq",
    "la57",
    "bus-lock-detect",
    "cldemote",
    "movdiri",
    "movdir64b",
    "sgxlc",
    "avx512-4vnniw",
    "avx512-4fmaps",
    "avx512-vp2intersect",
    "md-clear",
    "serialize",
    "tsx-ldtrk",
    "arch-lbr",
    "amx-bf16",
    "avx512-fp16",
    "amx-tile",
    "amx-int8",
    "spec-ctrl",
    "stibp",
    "core-capability",
    "ssbd",
    "avx-vnni",
    "avx512-bf16",
    "xsaves",
    "xfd",
    "3dnow",
    "3dnowext",
    "cmp-legacy",
    "svm",
    "extapic",
    "sse4a",
    "misalignsse",
    "osvw",
    "ibs",
    "xop",
    "skinit",
    "wdt",
    "lwp",
    "fma4",
    "tce",
    "nodeid-msr",
    "tbm",
    "topoext",
    "perfctr-core",
    "perfctr-nb",
    "clzero",
    "xsaveerptr",
    "wbnoinvd",
    "ibpb",
    "ibrs",
    "amd-stibp",
    "amd-ssbd",
    "virt-ssbd",
    "amd-no-ssb",
    "npt",
    "lbrv",
    "nrip-save",
    "kvm-mmu",
    "kvm-asyncpf",
    "kvm-asyncpf-int",
    "kvm-steal-time",
    "kvm-pv-eoi",
    "kvm-pv-tlb-flush",
    "kvm-hint-dedicated",
    "kvm-msi-ext-dest-id",
    "pmu",
];
