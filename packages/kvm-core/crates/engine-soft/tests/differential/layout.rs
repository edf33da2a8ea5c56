//! The memory that test code sees, the same on the host CPU and in the guest.
//!
//! One arena of pages lies at two addresses: a low one that 32-bit addresses reach, and a high one.

/// Bytes of a page.
pub const PAGE: u64 = 0x1000;
/// Pages of the arena, mapped or not.
pub const PAGES: usize = 16;
/// The arena below 4 GiB.
pub const LOW: u64 = 0x2a5a_0000;
/// The arena above 4 GiB, at an address whose bits all matter.
pub const HIGH: u64 = 0x2345_6789_0000;
/// First page of code; two lie side by side.
pub const CODE: usize = 1;

/// What a page allows user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing is mapped.
    None,
    /// Code: may be read, written and executed.
    Code,
    /// Data.
    ReadWrite,
    /// Data that cannot be written.
    ReadOnly,
}

use Permission::{Code, None, ReadOnly, ReadWrite};

/// The arena, page by page.
pub const MAP: [Permission; PAGES] = [
    None, Code, Code, None, ReadWrite, ReadWrite, ReadWrite, None, ReadWrite, ReadOnly, ReadWrite,
    None, ReadWrite, ReadWrite, None, None,
];

/// Pages that hold data, in order.
pub fn data_pages() -> impl Iterator<Item = usize> {
    (0..PAGES).filter(|&p| matches!(MAP[p], ReadWrite | ReadOnly))
}

/// The data page and the offset in it of an arena address.
pub fn locate(addr: u64) -> Option<(usize, usize)> {
    for base in [LOW, HIGH] {
        let page = (addr.wrapping_sub(base) / PAGE) as usize;
        if page < PAGES && matches!(MAP[page], ReadWrite | ReadOnly) {
            return Some((page, (addr & (PAGE - 1)) as usize));
        }
    }
    Option::None
}
