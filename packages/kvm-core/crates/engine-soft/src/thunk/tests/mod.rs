//! Tests against the host CPU.

mod differential;
mod legacy;
mod native;
mod random;
