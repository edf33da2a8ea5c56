//! VMs and vCPUs above an engine: threads, exits and who answers them, ioeventfd and irqfd.
//!
//! A [`Vcpu`] enters the guest on the caller's thread ([`Vcpu::run_sync`]) or on its own
//! ([`Vcpu::start`]). Accesses that nobody in this process handles leave the guest and are
//! described in the `kvm_run` page. A thread then posts them to a [`Host`], the control page of
//! the isolate that has the devices, and sleeps until the answer is in the page.
//!
//! Everything here is free of JavaScript: whoever needs to be told passes a function.
#![deny(missing_docs)]

mod bus;
mod chip;
mod clock;
mod core;
mod engine;
mod events;
mod fpu;
mod host;
mod hosts;
mod ioevent;
mod irqfd;
mod kick;
mod page;
mod phase;
mod routes;
mod sampler;
mod spin;
mod sync_run;
mod sys;
mod thread;
mod timer;
mod timer_fd;
mod vcpu;
mod vm;

pub use chip::Chip;
pub use clock::HostClock;
pub use core::INTERNAL_ERROR_PANIC;
pub use engine::Engine;
pub use fpu::{FPU_BYTES, fpu_from_xsave, fpu_into_xsave};
pub use host::{Host, IsolateId};
pub use hosts::MAX_HOSTS;
pub use ioevent::IoEvent;
pub use irqfd::{IrqFd, Resampled};
pub use kvm_abi::clock::{CLOCK_HOST_TSC, CLOCK_REALTIME, CLOCK_TSC_STABLE, ClockData};
pub use kvm_engine_soft::SoftOptions;
pub use page::SharedPage;
pub use phase::Phase;
pub use routes::{LATCH_BYTES, Route, RouteKind, Space};
pub use sys::EventFd;
pub use thread::{Done, ThreadOptions};
pub use vcpu::{Vcpu, VcpuStats};
pub use vm::{CLOSE_LIMIT, Vm};
