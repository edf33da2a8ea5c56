//! The data queues of a virtio network card (VirtIO 1.2, sections 2.7 and 5.1.6), served for as long as everything is usual.
//!
//! Whatever is not, a [`Strange`] chain or frame, is left where it was: the device model, which has lent its queues, takes them
//! back, finds the same, and is the only judge of it. So nothing here has to know how a device fails.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod card;
mod queue;

pub use card::{Backend, Card, CardConfig, Counts, Which};
pub use queue::{Chain, Layout, Positions, Queue};

/// Guest memory. Any of it may change at any time.
pub trait Memory {
    /// Copies from the guest; false when not all of it is RAM. Aligned 2, 4 and 8 bytes are read at once.
    fn read(&self, gpa: u64, to: &mut [u8]) -> bool;
    /// Copies to the guest; false, with nothing written, when a device may not write all of it.
    fn write(&self, gpa: u64, from: &[u8]) -> bool;
}

impl<M: Memory + ?Sized> Memory for std::rc::Rc<M> {
    fn read(&self, gpa: u64, to: &mut [u8]) -> bool {
        (**self).read(gpa, to)
    }

    fn write(&self, gpa: u64, from: &[u8]) -> bool {
        (**self).write(gpa, from)
    }
}

/// Something for the device model to judge. The queue is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strange;

/// What works as long as nothing is strange.
pub type Result<T> = std::result::Result<T, Strange>;
