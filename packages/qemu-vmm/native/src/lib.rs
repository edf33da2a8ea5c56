//! The native addon of qemu-vmm: what the host offers and Node.js does not.
//!
//! Each module is loaded by one TypeScript file. Nothing here has a state of its own but the objects
//! that it makes, so the addon can be loaded by any number of workers.
#![deny(missing_docs)]
// The macros register nothing in a test build, which exists for clippy only.
#![cfg_attr(test, allow(dead_code))]

pub mod codec;
mod errno;
pub mod hostio;
pub mod ring;
pub mod tap;
pub mod usernet;
mod uv;
mod watch;
