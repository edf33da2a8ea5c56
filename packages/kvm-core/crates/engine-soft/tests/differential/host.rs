//! Which processor the tests run on: vendors agree on nearly everything, but not on all.

use std::sync::LazyLock;

use iced_x86::DecoderOptions;

/// True where the host's CPUID names Intel.
pub fn is_intel() -> bool {
    static INTEL: LazyLock<bool> = LazyLock::new(|| {
        let leaf = std::arch::x86_64::__cpuid(0);
        [leaf.ebx, leaf.edx, leaf.ecx] == [*b"Genu", *b"ineI", *b"ntel"].map(u32::from_le_bytes)
    });
    *INTEL
}

/// How this processor reads what the vendors encode differently.
pub fn decoder_options() -> u32 {
    if is_intel() { DecoderOptions::NONE } else { DecoderOptions::AMD }
}
