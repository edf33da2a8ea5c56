//! Files and block devices: locks, allocation and geometry.
//!
//! A file descriptor is a number that JavaScript gives. A wrong one is an `EBADF` of the kernel.

mod allocation;
mod geometry;
mod lock;
mod memory;
mod read;
mod zeros;
