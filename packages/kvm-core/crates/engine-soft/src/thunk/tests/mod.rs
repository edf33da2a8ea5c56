//! Tests against the host CPU.

mod areas;
mod differential;
mod legacy;
mod native;
mod random;
