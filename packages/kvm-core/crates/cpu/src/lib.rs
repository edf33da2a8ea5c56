//! Architectural state and system behaviour of an x86-64 CPU.
//!
//! This crate knows what the manuals say: registers and modes, arithmetic flags, paging,
//! segmentation, exceptions, control and model-specific registers, CPUID. It does not know how an
//! engine stores guest memory or dispatches instructions: system operations are functions over
//! [`Exec`], which an engine implements. Sources: Intel SDM and AMD APM, named where it matters.
#![forbid(unsafe_code)]

mod apic;
pub mod bits;
mod caps;
pub mod code_counters;
pub mod control;
pub mod cpuid;
mod debug;
pub mod engine;
pub mod exception;
mod exec;
pub mod far;
pub mod flags;
pub mod kernel;
mod mode;
pub mod msr;
mod mtrr;
pub mod paging;
pub mod pvclock;
pub mod refusals;
mod reset;
pub mod ret;
pub mod segment;
pub mod smm;
mod stack;
mod state;
mod state_io;
pub mod syscall;
pub mod system;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trap;

pub use caps::Caps;
pub use exec::{Access, Exec, Flush};
pub use mode::Mode;
pub use state::{ApicBinding, Cpu, Events, Msrs, Seg, TableReg, reg, seg};
pub use trap::{Fault, Trap, Vector};
