//! Large tables of plain values.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// A value for which all zeroes is a value.
///
/// # Safety
/// So it must be, and nothing happens when one is dropped.
pub unsafe trait Plain: Copy {}

/// A table that is zero at first and takes memory only where it is used. The host gets it back as
/// soon as it is dropped.
#[derive(Debug)]
pub struct Table<T: Plain, const N: usize>(NonNull<[T; N]>);

// SAFETY: it is a box.
unsafe impl<T: Plain + Send, const N: usize> Send for Table<T, N> {}

impl<T: Plain, const N: usize> Default for Table<T, N> {
    fn default() -> Self {
        let layout = Layout::new::<[T; N]>();
        // SAFETY: new anonymous memory.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                layout.size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(at.cast::<[T; N]>()) {
            Some(table) if at != libc::MAP_FAILED => Self(table),
            _ => handle_alloc_error(layout),
        }
    }
}

impl<T: Plain, const N: usize> Drop for Table<T, N> {
    fn drop(&mut self) {
        // SAFETY: mapped by `default` with this size.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<[T; N]>()) };
    }
}

impl<T: Plain, const N: usize> Deref for Table<T, N> {
    type Target = [T; N];
    #[inline(always)]
    fn deref(&self) -> &[T; N] {
        // SAFETY: ours, and zeroes are values.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Plain, const N: usize> DerefMut for Table<T, N> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T; N] {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }
}
