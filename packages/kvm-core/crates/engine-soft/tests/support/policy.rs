//! What the tests of a crate translate: its name says it.

use kvm_engine_soft::TranslationPolicy;

/// Translates everything at once in a crate whose name ends in `translated`, what runs again in one that
/// ends in `regions`, else nothing.
pub fn policy() -> TranslationPolicy {
    let name = env!("CARGO_CRATE_NAME");
    let forced = |threshold| TranslationPolicy { threshold, forced: true, cache_bytes: 1 << 20 };
    match () {
        () if name.ends_with("translated") => forced(1),
        () if name.ends_with("regions") => forced(3),
        () => TranslationPolicy::OFF,
    }
}
