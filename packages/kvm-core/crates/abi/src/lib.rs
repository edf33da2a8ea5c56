//! Constants and layouts of the KVM interface, as `linux/kvm.h` gives them.
//!
//! Everything that crosses a boundary (engine to VM, Rust to TypeScript, saved state to a later
//! run) is spelled here once. The crate holds data only: no system call, no state, no policy.
#![forbid(unsafe_code)]

mod bytes;
pub mod cap;
pub mod clock;
pub mod control;
pub mod cpuid;
mod entropy;
mod error;
pub mod exit;
pub mod regs;

pub use bytes::{Reader, Writer};
pub use clock::Clock;
pub use entropy::Entropy;
pub use error::{Errno, KvmError};
