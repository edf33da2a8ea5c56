//! Reads that two threads share: what the page cache holds is copied in half the time, where a processor has nothing to do.
//!
//! [`PairReader::read`] cuts a request in pieces. The calling thread takes one after the other, and so does a helper as soon as
//! it runs: where all processors are busy it takes none, and nothing was lost but its wake-up.

mod pieces;
mod reader;

pub use reader::PairReader;
