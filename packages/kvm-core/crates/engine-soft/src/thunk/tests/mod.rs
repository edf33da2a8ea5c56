//! Tests against the host CPU.

mod areas;
mod differential;
mod elements;
mod legacy;
mod native;
mod random;
mod simd_exceptions;
