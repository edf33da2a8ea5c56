//! Arithmetic flags, kept as the last result and its carries and only worked out when read.
//!
//! `res` is the result, sign-extended to 64 bits. `aux` holds what the result cannot tell:
//! bit 63 the carry out of the top bit (CF), bit 62 the carry into it, so that OF is their
//! difference, bit 3 the carry out of bit 3 (AF). Bits 8 to 15 flip the byte that PF is computed
//! from and bit 0 flips SF: they are zero after arithmetic and let any combination of flags,
//! also the impossible ones that POPF can load, be represented.

/// Carry.
pub const CF: u64 = 1 << 0;
/// Parity of the low byte of the result.
pub const PF: u64 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u64 = 1 << 4;
/// Zero.
pub const ZF: u64 = 1 << 6;
/// Sign.
pub const SF: u64 = 1 << 7;
/// Trap after each instruction.
pub const TF: u64 = 1 << 8;
/// Maskable interrupts are enabled.
pub const IF: u64 = 1 << 9;
/// String operations go down.
pub const DF: u64 = 1 << 10;
/// Signed overflow.
pub const OF: u64 = 1 << 11;
/// I/O privilege level, two bits.
pub const IOPL: u64 = 3 << 12;
/// Nested task.
pub const NT: u64 = 1 << 14;
/// Resume: instruction breakpoints are off for one instruction.
pub const RF: u64 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u64 = 1 << 17;
/// Alignment check, or access control with SMAP.
pub const AC: u64 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u64 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u64 = 1 << 20;
/// Bits that RFLAGS has.
pub const ALL: u64 = 0x3f_7fd7;
/// CPUID is available.
pub const ID: u64 = 1 << 21;
/// The six arithmetic flags.
pub const ARITH: u64 = CF | PF | AF | ZF | SF | OF;
/// Bit 1, which always reads as one.
pub const FIXED: u64 = 2;

/// The six arithmetic flags in lazy form.
#[derive(Clone, Copy, Debug, Default)]
pub struct LazyFlags {
    /// Result of the last flag-setting operation, sign-extended.
    pub res: u64,
    /// Carries and corrections, see the module's text.
    pub aux: u64,
}

impl LazyFlags {
    /// CF as 0 or 1.
    #[inline(always)]
    #[must_use]
    pub fn cf(self) -> u64 {
        self.aux >> 63
    }
    /// ZF.
    #[inline(always)]
    #[must_use]
    pub fn zf(self) -> bool {
        self.res == 0
    }
    /// SF.
    #[inline(always)]
    #[must_use]
    pub fn sf(self) -> bool {
        ((self.res >> 63) ^ self.aux) & 1 != 0
    }
    /// OF.
    #[inline(always)]
    #[must_use]
    pub fn of(self) -> bool {
        ((self.aux >> 63) ^ (self.aux >> 62)) & 1 != 0
    }
    /// PF.
    #[inline(always)]
    #[must_use]
    pub fn pf(self) -> bool {
        #[allow(clippy::cast_possible_truncation)]
        let byte = (self.res ^ (self.aux >> 8)) as u8;
        byte.count_ones() & 1 == 0
    }
    /// AF.
    #[inline(always)]
    #[must_use]
    pub fn af(self) -> bool {
        self.aux & 8 != 0
    }

    /// All six in their EFLAGS positions.
    #[inline]
    #[must_use]
    pub fn get(self) -> u64 {
        self.cf()
            | (u64::from(self.pf()) << 2)
            | (u64::from(self.af()) << 4)
            | (u64::from(self.zf()) << 6)
            | (u64::from(self.sf()) << 7)
            | (u64::from(self.of()) << 11)
    }

    /// Loads any combination from EFLAGS positions.
    #[inline]
    pub fn set(&mut self, flags: u64) {
        let cf = flags & 1;
        let pf = (flags >> 2) & 1;
        let af = (flags >> 4) & 1;
        let zf = (flags >> 6) & 1;
        let sf = (flags >> 7) & 1;
        let of = (flags >> 11) & 1;
        self.res = zf ^ 1;
        // The parity of res is even exactly when ZF is set.
        let flip_parity = zf ^ pf;
        self.aux = (cf << 63) | ((cf ^ of) << 62) | (af << 3) | (flip_parity << 8) | sf;
    }

    /// Replaces some flags (`mask` in EFLAGS positions) and keeps the others.
    #[inline]
    pub fn update(&mut self, mask: u64, value: u64) {
        let now = self.get();
        self.set((now & !mask) | (value & mask));
    }

    /// Sets CF alone.
    #[inline(always)]
    pub fn set_cf(&mut self, cf: bool) {
        let of = ((self.aux >> 63) ^ (self.aux >> 62)) & 1;
        let cf = u64::from(cf);
        self.aux = (self.aux & !(3 << 62)) | (cf << 63) | ((cf ^ of) << 62);
    }

    /// After a logical operation: CF, OF and AF are zero.
    #[inline(always)]
    pub fn logic(&mut self, res_sext: u64) {
        self.res = res_sext;
        self.aux = 0;
    }

    /// After an addition or subtraction of `bits` width: `carries` has in each bit the carry (or
    /// borrow) out of that bit.
    #[inline(always)]
    pub fn arith(&mut self, res_sext: u64, carries: u64, bits: u32) {
        self.res = res_sext;
        self.aux = ((carries << (64 - bits)) & (3 << 62)) | (carries & 8);
    }

    /// Like [`arith`](Self::arith), but CF keeps its value (INC and DEC).
    #[inline(always)]
    pub fn arith_keep_cf(&mut self, res_sext: u64, carries: u64, bits: u32) {
        let cf = self.cf() != 0;
        self.arith(res_sext, carries, bits);
        self.set_cf(cf);
    }
}

/// The carry out of each bit of `a + b (+ carry) = r`.
#[inline(always)]
#[must_use]
pub fn add_carries(a: u64, b: u64, r: u64) -> u64 {
    (a & b) | ((a | b) & !r)
}

/// The borrow out of each bit of `a - b (- borrow) = r`.
#[inline(always)]
#[must_use]
pub fn sub_borrows(a: u64, b: u64, r: u64) -> u64 {
    (!a & b) | ((!a | b) & r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_round_trips() {
        for bits in 0..64u64 {
            let want = (bits & 1)
                | ((bits >> 1) & 1) << 2
                | ((bits >> 2) & 1) << 4
                | ((bits >> 3) & 1) << 6
                | ((bits >> 4) & 1) << 7
                | ((bits >> 5) & 1) << 11;
            let mut f = LazyFlags::default();
            f.set(want);
            assert_eq!(f.get(), want);
            f.set_cf(true);
            assert_eq!(f.get(), want | CF);
        }
    }

    #[test]
    fn additions_set_the_flags_of_the_manual() {
        let cases: [(u8, u8, u64); 5] = [
            (0x7f, 1, SF | OF | AF),
            (0xff, 1, CF | ZF | PF | AF),
            (0x80, 0x80, CF | OF | ZF | PF),
            (1, 2, PF),
            (0, 0, ZF | PF),
        ];
        for (a, b, want) in cases {
            let r = a.wrapping_add(b);
            let mut f = LazyFlags::default();
            f.arith(
                i64::from(r.cast_signed()).cast_unsigned(),
                add_carries(u64::from(a), u64::from(b), u64::from(r)),
                8,
            );
            assert_eq!(f.get(), want, "{a:#x} + {b:#x}");
        }
    }
}
