//! A small reproducible generator: every case has its own seed, so that one case can be run again.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True `n` times of `of`.
    pub fn chance(&mut self, n: u64, of: u64) -> bool {
        self.below(of) < n
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A register value: the edges of the widths, small numbers, random bits.
    pub fn value(&mut self) -> u64 {
        match self.below(10) {
            0 => self.pick(&[0, 1, 2, u64::MAX, u64::MAX - 1]),
            1 => {
                let bits = self.pick(&[8u32, 16, 32, 64]);
                let edge = 1u64 << (bits - 1);
                self.pick(&[edge, edge - 1, edge + 1, edge.wrapping_mul(2).wrapping_sub(1)])
            }
            2 => self.below(64),
            3 => self.below(256).wrapping_sub(128),
            4 => 1 << self.below(64),
            5 => self.next() & 0xffff_ffff,
            6 => (self.next() as u32).cast_signed() as i64 as u64,
            _ => self.next(),
        }
    }
}

/// The seed of case `n` of something named by `key`.
pub fn case_seed(global: u64, key: u64, n: u64) -> u64 {
    let mut r = Rng::new(global ^ key.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let a = r.next();
    Rng::new(a ^ n.wrapping_mul(0xa076_1d64_78bd_642f)).next()
}
