//! Operand widths as types, so that one generic handler serves 8, 16, 32 and 64 bits.

/// An operand width.
pub trait Width: Copy + 'static {
    /// Bits.
    const BITS: u32;
    /// Bytes.
    const BYTES: u8;
    /// Truncates and zero-extends.
    fn zx(v: u64) -> u64;
    /// Truncates and sign-extends.
    fn sx(v: u64) -> u64;
}

macro_rules! width {
    ($name:ident, $unsigned:ty, $signed:ty) => {
        /// Marker of this width.
        #[derive(Clone, Copy, Debug)]
        pub struct $name;
        impl Width for $name {
            const BITS: u32 = <$unsigned>::BITS;
            const BYTES: u8 = (<$unsigned>::BITS / 8) as u8;
            #[inline(always)]
            fn zx(v: u64) -> u64 {
                u64::from(v as $unsigned)
            }
            #[inline(always)]
            fn sx(v: u64) -> u64 {
                i64::from(v as $unsigned as $signed) as u64
            }
        }
    };
}

width!(W8, u8, i8);
width!(W16, u16, i16);
width!(W32, u32, i32);
width!(W64, u64, i64);

/// Picks the instance of a generic handler for a width in bytes.
macro_rules! by_width {
    ($bytes:expr, $f:ident $(, $k:expr)*) => {
        match $bytes {
            1 => $f::<$crate::width::W8 $(, $k)*> as $crate::op::Handler,
            2 => $f::<$crate::width::W16 $(, $k)*>,
            4 => $f::<$crate::width::W32 $(, $k)*>,
            _ => $f::<$crate::width::W64 $(, $k)*>,
        }
    };
}
pub(crate) use by_width;
