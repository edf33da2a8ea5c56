//! The guests of `guests`, with every block translated.

#[path = "guests/main.rs"]
mod guests;
