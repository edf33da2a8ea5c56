//! The dirty bitmap of one memslot.

use std::sync::atomic::{AtomicU64, Ordering};

use kvm_abi::KvmError;

/// One bit per 4 KiB page, rounded up to 64 pages as in `KVM_GET_DIRTY_LOG`.
#[derive(Debug)]
pub(crate) struct DirtyBitmap {
    words: Box<[AtomicU64]>,
    pages: u64,
}

impl DirtyBitmap {
    /// A clean bitmap for `pages` pages.
    pub fn new(pages: u64) -> Self {
        let words = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, pages }
    }

    /// Sets the bits of pages `first..=last`; bits outside the slot are ignored.
    pub fn mark(&self, first: u64, last: u64) {
        let last = last.min(self.pages.saturating_sub(1));
        for page in first..=last {
            let Some(word) = self.words.get((page / 64) as usize) else { return };
            let bit = 1 << (page % 64);
            // The vCPUs mark the same hot pages again and again: a look is cheaper than an OR.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::AcqRel);
            }
        }
    }

    /// Adds the bits of another bitmap of the same pages; what it lacks at the end is clean.
    pub fn merge(&self, words: &[u64]) {
        for (word, bits) in self.words.iter().zip(words) {
            if *bits != 0 {
                word.fetch_or(*bits, Ordering::AcqRel);
            }
        }
    }

    /// Copies the bitmap; with `take` also clears what it copied.
    pub fn collect(&self, take: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.words.len() * 8);
        for word in &self.words {
            let bits = match take {
                true if word.load(Ordering::Relaxed) == 0 => 0,
                true => word.swap(0, Ordering::AcqRel),
                false => word.load(Ordering::Acquire),
            };
            out.extend_from_slice(&bits.to_le_bytes());
        }
        out
    }

    /// `KVM_CLEAR_DIRTY_LOG`: clears the pages whose bits are set in `bitmap`.
    pub fn clear(&self, first: u64, pages: u64, bitmap: &[u8]) -> Result<(), KvmError> {
        if !first.is_multiple_of(64) {
            return Err(KvmError::invalid(format!("first page {first} is not a multiple of 64")));
        }
        let rest =
            self.pages.checked_sub(first).filter(|rest| pages <= *rest).ok_or_else(|| {
                KvmError::invalid(format!(
                    "pages {first} to {} are not inside the slot's {}",
                    first.saturating_add(pages),
                    self.pages
                ))
            })?;
        if pages < rest && !pages.is_multiple_of(64) {
            return Err(KvmError::invalid(format!(
                "{pages} pages are neither a multiple of 64 nor the rest of the slot"
            )));
        }
        let need = pages.div_ceil(8);
        if (bitmap.len() as u64) < need {
            return Err(KvmError::invalid(format!(
                "a bitmap of {} bytes is too short for {pages} pages",
                bitmap.len()
            )));
        }
        let words = self.words.iter().skip((first / 64) as usize);
        for (word, bytes) in words.zip(bitmap[..need as usize].chunks(8)) {
            let mut le = [0; 8];
            le[..bytes.len()].copy_from_slice(bytes);
            word.fetch_and(!u64::from_le_bytes(le), Ordering::AcqRel);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_marked_collected_and_cleared() {
        let map = DirtyBitmap::new(70);
        map.mark(3, 3);
        map.mark(63, 64);
        map.mark(69, 200);
        let seen = map.collect(false);
        assert_eq!(seen.len(), 16);
        assert_eq!((seen[0], seen[7], seen[8]), (8, 0x80, 0b10_0001));
        assert_eq!(map.collect(true), seen);
        assert_eq!(map.collect(true), vec![0; 16]);
        map.mark(1, 1);
        map.merge(&[1]);
        map.merge(&[0x100, 2, u64::MAX]);
        let merged = map.collect(true);
        assert_eq!((merged[0], merged[1], merged[8]), (3, 1, 2));
        map.mark(0, 69);
        map.clear(64, 6, &[0b10]).unwrap();
        assert_eq!(map.collect(false)[8], 0b11_1101);
    }

    #[test]
    fn clear_refuses_what_kvm_refuses() {
        let map = DirtyBitmap::new(200);
        assert!(map.clear(1, 64, &[0; 8]).is_err());
        assert!(map.clear(0, 63, &[0; 8]).is_err());
        assert!(map.clear(192, 9, &[0; 8]).is_err());
        assert!(map.clear(256, 0, &[]).is_err());
        assert!(map.clear(0, 64, &[0; 7]).is_err());
        assert!(map.clear(192, 8, &[1]).is_ok());
        assert!(map.clear(u64::MAX - 63, u64::MAX, &[1]).is_err());
    }
}
