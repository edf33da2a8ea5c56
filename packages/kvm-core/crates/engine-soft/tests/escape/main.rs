//! Guests that try to reach memory that is not theirs: every kind of access at every boundary, through
//! every addressing form. Each gets exactly its exception, and nothing else changes.
//!
//! `SEED=x` starts from another seed, `LONG=1` tries a hundred times as much, `CASE=x` runs one case,
//! as a failure prints it.

mod aim;
mod fence;
mod fetch;
mod layout;
mod machine;
mod matrix;
#[path = "../support/number.rs"]
mod number;
mod ops;
mod patterns;
#[path = "../support/policy.rs"]
mod policy;
#[path = "../differential/rng.rs"]
mod rng;
mod shape;
mod short;

use number::number;

/// False for an instruction that this host cannot run for its guests.
fn on_host(code: iced_x86::Code) -> bool {
    use iced_x86::CpuidFeature as F;
    code.cpuid_features().iter().all(|f| match f {
        F::AVX => std::arch::is_x86_feature_detected!("avx"),
        F::AVX2 => std::arch::is_x86_feature_detected!("avx2"),
        F::BMI1 => std::arch::is_x86_feature_detected!("bmi1"),
        F::BMI2 => std::arch::is_x86_feature_detected!("bmi2"),
        F::SSE4_1 => std::arch::is_x86_feature_detected!("sse4.1"),
        F::SSE3 => std::arch::is_x86_feature_detected!("sse3"),
        F::MOVBE => std::arch::is_x86_feature_detected!("movbe"),
        _ => true,
    })
}
