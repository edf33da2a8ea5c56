//! Scenarios that involve several chips, and what all unit tests share.

mod delivery;
mod lines;
mod linux;
mod random;
mod save_load;
mod support;

pub(crate) use support::{Machine, Xorshift};
