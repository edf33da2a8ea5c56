//! Segments of 32-bit code: flat, or with a base, a limit near the operand, or read-only.

use kvm_abi::regs::Segment;

use super::rng::Rng;

pub const FOUR_GIB: u64 = 1 << 32;

/// What an address is relative to.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub base: u32,
    pub limit: u32,
    pub writable: bool,
    /// Valid are the offsets above the limit.
    pub down: bool,
}

pub const FLAT: Shape = Shape { base: 0, limit: u32::MAX, writable: true, down: false };

impl Shape {
    /// One in which the operand is near the limit, or may not be written, or has a base.
    pub fn around(rng: &mut Rng, target: u32, size: u32, stack: bool) -> Self {
        let small = rng.below(0x4000) as u32;
        let base = target.wrapping_sub(small);
        let less = rng.below(4) as u32;
        let near = |size: u32| (small + size).saturating_sub(less);
        match rng.below(6) {
            0 => Self { base, ..FLAT },
            1 => Self { base: rng.next() as u32, ..FLAT },
            2 | 3 => Self { base, limit: near(size + 1), ..FLAT },
            4 => Self { base, limit: near(3), down: true, ..FLAT },
            _ if stack => FLAT,
            _ => Self { writable: false, ..FLAT },
        }
    }

    pub fn segment(self, selector: u16) -> Segment {
        let type_ = 1 | u8::from(self.writable) << 1 | u8::from(self.down) << 2;
        let g = u8::from(self.limit > 0xf_ffff);
        Segment {
            base: u64::from(self.base),
            limit: self.limit,
            selector,
            type_,
            present: 1,
            dpl: 3,
            db: 1,
            s: 1,
            g,
            ..Segment::default()
        }
    }

    pub fn descriptor(self) -> u64 {
        let s = self.segment(0);
        let (base, limit) = (u64::from(self.base), u64::from(self.limit));
        let limit = if s.g == 1 { limit >> 12 } else { limit };
        limit & 0xffff
            | (base & 0xff_ffff) << 16
            | (0xf0 | u64::from(s.type_)) << 40
            | (limit >> 16) << 48
            | (4 | u64::from(s.g) << 3) << 52
            | base >> 24 << 56
    }

    /// Whether an access may be made, as far as the segment is concerned.
    pub fn allows(self, offset: u32, size: u64, write: bool) -> bool {
        let (first, last, limit) =
            (u64::from(offset), u64::from(offset) + size - 1, u64::from(self.limit));
        let inside = if self.down {
            first > limit && last < FOUR_GIB
        } else {
            // What nothing limits goes around.
            last <= limit || self.limit == u32::MAX
        };
        inside && (self.writable || !write)
    }
}
