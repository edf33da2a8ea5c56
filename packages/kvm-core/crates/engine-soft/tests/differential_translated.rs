//! Translated code against the host CPU: the cases of `differential`, with every block translated.

#[path = "differential/main.rs"]
mod differential;
