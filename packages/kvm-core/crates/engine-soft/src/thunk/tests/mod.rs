//! Tests against the host CPU.

mod differential;
mod native;
mod random;
