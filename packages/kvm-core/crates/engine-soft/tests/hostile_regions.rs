//! The guests of `hostile`, with whatever runs a third time translated.

#[path = "hostile.rs"]
mod hostile;
