//! The guests of `hostile`, with every block translated.

#[path = "hostile.rs"]
mod hostile;
