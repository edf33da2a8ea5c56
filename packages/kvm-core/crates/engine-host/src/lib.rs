//! The engine on the host's KVM: guest code runs on the host CPU, and the kernel has the interrupt
//! controllers, the timers and the memslots.
//!
//! [`HostEngine`] opens the device and answers questions that need no VM. [`HostVm`] is the
//! kernel's side of one VM. A vCPU's `kvm_run` page is the kernel's own, mapped by whoever asks:
//! exits and answers pass through it without a copy.
#![deny(missing_docs)]

mod cpuid;
mod device;
mod engine;
mod error;
mod kick;
mod msr;
mod page;
mod plain;
mod run;
mod sys;
mod vcpu;
mod vm;

pub use device::{DEVICE, REQUIRED};
pub use engine::HostEngine;
pub use vm::HostVm;
