//! Reads, writes and flushes of files through io_uring(7): many requests, one system call.
//!
//! [`Ring`] hides what a caller would have to do for each request otherwise: the rest of one that was done in part,
//! more parts than the kernel takes, more requests than the ring has room for. It knows nothing of JavaScript.

mod refusal;
mod request;
mod ring;

pub use refusal::refusal;
pub use request::Operation;
pub use ring::{Completion, Ring};
