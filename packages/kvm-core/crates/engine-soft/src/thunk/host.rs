//! What the host CPU can execute.

/// Instruction sets, named as `iced_x86::CpuidFeature` names them.
#[allow(non_camel_case_types, missing_docs, clippy::upper_case_acronyms)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Feature {
    FPU,
    FPU287,
    FPU387,
    CMOV,
    MMX,
    SSE,
    SSE2,
    SSE3,
    SSSE3,
    SSE4_1,
    SSE4_2,
    AES,
    PCLMULQDQ,
    SHA,
    F16C,
    FMA,
    AVX,
    AVX2,
    VAES,
    VPCLMULQDQ,
    GFNI,
    BMI1,
    BMI2,
    ADX,
    POPCNT,
    LZCNT,
    MOVBE,
}

/// The instruction sets that this host has and this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCpu {
    features: u32,
}

impl HostCpu {
    /// Asks CPUID and XCR0.
    #[must_use]
    pub fn detect() -> Self {
        use Feature as F;
        let list = [
            (F::FPU, true),
            (F::FPU287, true),
            (F::FPU387, true),
            (F::CMOV, true),
            (F::MMX, true),
            (F::SSE, true),
            (F::SSE2, true),
            (F::SSE3, is_x86_feature_detected!("sse3")),
            (F::SSSE3, is_x86_feature_detected!("ssse3")),
            (F::SSE4_1, is_x86_feature_detected!("sse4.1")),
            (F::SSE4_2, is_x86_feature_detected!("sse4.2")),
            (F::AES, is_x86_feature_detected!("aes")),
            (F::PCLMULQDQ, is_x86_feature_detected!("pclmulqdq")),
            (F::SHA, is_x86_feature_detected!("sha")),
            (F::F16C, is_x86_feature_detected!("f16c")),
            (F::FMA, is_x86_feature_detected!("fma")),
            (F::AVX, is_x86_feature_detected!("avx")),
            (F::AVX2, is_x86_feature_detected!("avx2")),
            (F::VAES, is_x86_feature_detected!("vaes")),
            (F::VPCLMULQDQ, is_x86_feature_detected!("vpclmulqdq")),
            (F::GFNI, is_x86_feature_detected!("gfni")),
            (F::BMI1, is_x86_feature_detected!("bmi1")),
            (F::BMI2, is_x86_feature_detected!("bmi2")),
            (F::ADX, is_x86_feature_detected!("adx")),
            (F::POPCNT, is_x86_feature_detected!("popcnt")),
            (F::LZCNT, is_x86_feature_detected!("lzcnt")),
            (F::MOVBE, is_x86_feature_detected!("movbe")),
        ];
        let features =
            list.iter().filter(|(_, present)| *present).map(|(f, _)| 1 << *f as u32).sum();
        Self { features }
    }

    /// True if `feature` can be executed.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.features & (1 << feature as u32) != 0
    }

    /// This host without `feature`, as a test or a reduced CPU model wants it.
    #[must_use]
    pub fn without(self, feature: Feature) -> Self {
        Self { features: self.features & !(1 << feature as u32) }
    }
}
