//! What the vCPUs of a VM must know about one page of RAM together.

use std::sync::atomic::{AtomicU32, Ordering};

/// Who may store to a page without telling anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// No vCPU.
    Nobody,
    /// This vCPU at most.
    One(u32),
    /// Any vCPU.
    Many,
}

/// Code held in a page, and permission to store to it, as one word: a vCPU that decodes a page and
/// one that wants to write it must not miss each other.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct PageFlags(AtomicU32);

/// How many times the page is held as code.
const HOLDS: u32 = 0x000f_ffff;
const WRITER_SHIFT: u32 = 20;
/// The writer field of several vCPUs, or of one whose number does not fit.
const MANY: u32 = 0xfff;

fn writers(word: u32) -> Writers {
    match word >> WRITER_SHIFT {
        0 => Writers::Nobody,
        MANY => Writers::Many,
        n => Writers::One(n - 1),
    }
}

impl PageFlags {
    /// True if an engine holds something derived from the page's bytes as code, so that every
    /// write must be announced.
    #[inline]
    #[must_use]
    pub fn has_code(&self) -> bool {
        self.0.load(Ordering::SeqCst) & HOLDS != 0
    }

    /// Holds the page as code once more. Nobody gets permission to store from now on; those that
    /// have it must give it back before the bytes are read, see [`revoked`](Self::revoked).
    #[must_use]
    pub fn hold_code(&self) -> Writers {
        writers(self.0.fetch_add(1, Ordering::SeqCst))
    }

    /// Ends one hold.
    pub fn release_code(&self) {
        let before = self.0.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before & HOLDS != 0, "a page is released more often than held");
    }

    /// Says that no vCPU has permission to store any more. The caller holds the page.
    pub fn revoked(&self) {
        self.0.fetch_and(HOLDS, Ordering::SeqCst);
    }

    /// Gives `vcpu` permission to store without telling anybody, unless the page holds code.
    pub fn grant_write(&self, vcpu: u32) -> bool {
        let granted = |word: u32| {
            if word & HOLDS != 0 {
                return None;
            }
            let writer = match writers(word) {
                Writers::Nobody if vcpu + 1 < MANY => vcpu + 1,
                Writers::One(same) if same == vcpu => vcpu + 1,
                _ => MANY,
            };
            Some(writer << WRITER_SHIFT)
        };
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, granted).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_silent_stores_exclude_each_other() {
        let page = PageFlags::default();
        assert!(page.grant_write(3));
        assert_eq!(page.hold_code(), Writers::One(3));
        assert!(page.has_code() && !page.grant_write(3));
        // Who comes before the permission was taken back has to wait for it too.
        assert_eq!(page.hold_code(), Writers::One(3));
        page.revoked();
        assert_eq!(page.hold_code(), Writers::Nobody);
        for _ in 0..3 {
            assert!(!page.grant_write(0));
            page.release_code();
        }
        assert!(!page.has_code() && page.grant_write(0) && page.grant_write(0));
        assert!(page.grant_write(1));
        assert_eq!(page.hold_code(), Writers::Many);
    }

    #[test]
    fn a_large_number_counts_as_many() {
        let page = PageFlags::default();
        assert!(page.grant_write(5000));
        assert_eq!(page.hold_code(), Writers::Many);
    }
}
