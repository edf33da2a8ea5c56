//! The cases of `differential`, with whatever runs a third time translated: programs become regions.

#[path = "differential/main.rs"]
mod differential;
