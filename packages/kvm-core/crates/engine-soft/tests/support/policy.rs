//! What the tests of a crate translate: its name says it.

use kvm_engine_soft::TranslationPolicy;

/// Translates everything at once in a crate whose name ends in `translated`, what runs again in one that
/// ends in `regions`, else nothing.
pub fn policy() -> TranslationPolicy {
    let name = env!("CARGO_CRATE_NAME");
    // Where programs run on the host, too, the tables must not be where they could reach them.
    let immediate_tables = name.ends_with("regions") && !name.starts_with("differential");
    let after = |threshold| TranslationPolicy {
        threshold,
        learn_after: 0,
        cache_bytes: 1 << 20,
        immediate_tables,
        perf_map: false,
    };
    match () {
        () if name.ends_with("translated") => after(1),
        () if name.ends_with("regions") => after(3),
        () => TranslationPolicy::OFF,
    }
}
