//! Large tables of plain values.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the lowest 2 GiB end.
const LOW_END: usize = 1 << 31;

/// A value for which all zeroes is a value.
///
/// # Safety
/// So it must be, and nothing happens when one is dropped.
pub unsafe trait Plain: Copy {}

// SAFETY: a number.
unsafe impl Plain for u32 {}

/// A table that is zero at first and takes memory only where it is used. The host gets it back as
/// soon as it is dropped.
#[derive(Debug)]
pub struct Table<T: Plain, const N: usize>(NonNull<[T; N]>);

// SAFETY: it is a box.
unsafe impl<T: Plain + Send, const N: usize> Send for Table<T, N> {}

impl<T: Plain, const N: usize> Default for Table<T, N> {
    fn default() -> Self {
        Self::map(0, 0).unwrap_or_else(|| handle_alloc_error(Layout::new::<[T; N]>()))
    }
}

impl<T: Plain, const N: usize> Table<T, N> {
    /// A table in the lowest 2 GiB if there is room: instructions can have its address then.
    pub fn low() -> Self {
        // From the top down: at the bottom others look for such addresses.
        static NEXT: AtomicUsize = AtomicUsize::new(LOW_END);
        let size = size_of::<[T; N]>();
        let wanted = NEXT.fetch_sub(size, Ordering::Relaxed).saturating_sub(size);
        let fits = |table: &Self| table.0.as_ptr() as usize + size <= LOW_END;
        Self::map(wanted, 0)
            .filter(fits)
            .or_else(|| Self::map(0, libc::MAP_32BIT))
            .unwrap_or_default()
    }

    fn map(wanted: usize, flags: libc::c_int) -> Option<Self> {
        // SAFETY: new anonymous memory.
        let at = unsafe {
            libc::mmap(
                ptr::without_provenance_mut(wanted),
                size_of::<[T; N]>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        NonNull::new(at.cast::<[T; N]>()).filter(|_| at != libc::MAP_FAILED).map(Self)
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
