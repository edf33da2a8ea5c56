//! The guests of `escape`, with every block translated.

#[path = "escape/main.rs"]
mod escape;
