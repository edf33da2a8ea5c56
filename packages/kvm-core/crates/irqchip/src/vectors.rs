//! A set of the 256 interrupt vectors, as IRR, ISR and TMR are laid out: eight 32-bit words.

/// One bit per vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vectors(pub [u32; 8]);

impl Vectors {
    pub fn set(&mut self, vector: u8) {
        self.0[usize::from(vector >> 5)] |= 1 << (vector & 31);
    }

    pub fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector >> 5)] &= !(1 << (vector & 31));
    }

    pub fn assign(&mut self, vector: u8, on: bool) {
        if on { self.set(vector) } else { self.clear(vector) }
    }

    pub fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] & (1 << (vector & 31)) != 0
    }

    /// The highest vector of the set: priority among vectors is their number.
    pub fn highest(&self) -> Option<u8> {
        for (i, word) in (0u8..8).zip(self.0).rev() {
            if word != 0 {
                return Some((i << 5) | (31 - word.leading_zeros()) as u8);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highest_is_the_largest_member() {
        let mut v = Vectors::default();
        assert_eq!(v.highest(), None);
        for n in [0u8, 31, 32, 77, 255] {
            v.set(n);
            assert_eq!(v.highest(), Some(n));
            assert!(v.contains(n));
        }
        v.clear(255);
        v.assign(77, false);
        assert_eq!(v.highest(), Some(32));
    }
}
