//! Tests against the host CPU.

mod areas;
mod coverage;
mod differential;
mod elements;
mod fuzz;
mod hardened;
mod legacy;
mod native;
mod random;
mod simd_exceptions;
