//! Behaviour of the system operations against a machine with plain RAM.

mod events;
mod paging;
mod random;
mod registers;
mod segments;
mod smm;
mod state;
mod tasks;
mod transfers;
