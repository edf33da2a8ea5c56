//! The Node-API face of the VM layer: the only crate that knows JavaScript.
//!
//! It is small and dumb on purpose: objects that hold an `Arc`, numbers checked on the way in,
//! memory shown as external ArrayBuffers, and one doorbell handle per device host. The package's
//! TypeScript makes the API of it.
//!
//! Nothing here is global: what an isolate has is kept per environment ([`isolate`]) and ends
//! with it, so the addon can be loaded by any number of workers.
#![deny(missing_docs)]
#![allow(missing_debug_implementations, reason = "classes of JavaScript, nobody prints them here")]
// The macros register nothing in a test build, which exists for clippy only.
#![cfg_attr(test, allow(dead_code))]

mod buffers;
mod calls;
mod error;
mod host;
mod interrupts;
mod isolate;
mod kvm;
mod memory;
mod numbers;
mod tasks;
mod uv;
mod vcpu;
mod vcpu_state;
mod vm;
