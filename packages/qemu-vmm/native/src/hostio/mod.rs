//! Files, block devices and terminals: locks, allocation, geometry, pseudo-terminals.
//!
//! A file descriptor is a number that JavaScript gives. A wrong one is an `EBADF` of the kernel.

mod allocation;
mod copy;
mod geometry;
mod lock;
mod memory;
mod now;
mod pty;
mod zeros;
