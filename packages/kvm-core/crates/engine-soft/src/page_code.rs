//! Which bytes of a page code was made of: a store elsewhere in the page changes none.

const PAGE: usize = 4096;

/// A set of bytes of a page.
#[derive(Clone, Debug)]
pub struct Bytes(Box<[u64; PAGE / 64]>);

impl Default for Bytes {
    fn default() -> Self {
        Self(Box::new([0; PAGE / 64]))
    }
}

/// The bits of word `n` that stand for bytes from `first` to `last`.
fn bits(n: usize, first: usize, last: usize) -> u64 {
    let low = first.max(n * 64) - n * 64;
    let high = last.min(n * 64 + 63) - n * 64;
    (u64::MAX >> (63 - (high - low))) << low
}

impl Bytes {
    fn words(first: u64, last: u64) -> impl Iterator<Item = (usize, u64)> {
        let (first, last) = (first as usize, (last as usize).min(PAGE - 1));
        (first / 64..=last / 64).map(move |n| (n, bits(n, first, last)))
    }

    /// Adds those at offsets `first` to `last`.
    pub fn add(&mut self, first: u64, last: u64) {
        for (n, bits) in Self::words(first, last) {
            self.0[n] |= bits;
        }
    }

    /// True if any of them is in the set.
    pub fn any(&self, first: u64, last: u64) -> bool {
        Self::words(first, last).any(|(n, bits)| self.0[n] & bits != 0)
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// The decoded code of one page.
#[derive(Debug, Default)]
pub struct PageCode {
    /// Keys of the blocks with bytes in this page.
    pub blocks: Vec<u64>,
    /// What was decoded since the page had no code.
    pub decoded: Bytes,
    /// What translated code was made of, which goes all at once.
    pub translated: Bytes,
    /// Writes that hit the page but no code since the last decoding.
    pub near_misses: u32,
    /// Linear pages with entry points of code that is here.
    pub linear: Vec<u64>,
}

/// Linear addresses of a page that are remembered one by one: more have all forgotten.
pub const MAX_LINEAR: usize = 32;

impl PageCode {
    /// Notes that a linear address leads here.
    pub fn reached_from(&mut self, linear: u64) {
        let page = linear & !0xfff;
        if self.linear.len() <= MAX_LINEAR && !self.linear.contains(&page) {
            self.linear.push(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_added_and_no_more() {
        for (first, last) in
            [(0, 0), (63, 64), (5, 200), (0xfc0, 0xfff), (0, 0xfff), (0xffe, 0x1005)]
        {
            let mut set = Bytes::default();
            set.add(first, last);
            for at in 0..PAGE as u64 {
                assert_eq!(set.any(at, at), (first..=last).contains(&at), "{first} {last} {at}");
            }
            assert_eq!(set.any(0, 4), first <= 4);
            set.clear();
            assert!(!set.any(0, 0xfff));
        }
    }
}
