//! The sixteen conditions of Jcc, SETcc and CMOVcc.

use kvm_cpu::flags::LazyFlags;

/// True if condition `C` (the low nibble of the opcode) holds.
#[inline(always)]
pub(crate) fn holds<const C: u8>(f: &LazyFlags) -> bool {
    let base = match C >> 1 {
        0 => f.of(),
        1 => f.cf() != 0,
        2 => f.zf(),
        3 => f.cf() != 0 || f.zf(),
        4 => f.sf(),
        5 => f.pf(),
        6 => f.sf() != f.of(),
        _ => f.zf() || f.sf() != f.of(),
    };
    base != (C & 1 != 0)
}

/// Picks the instance of a generic handler for a condition.
macro_rules! by_condition {
    ($c:expr, $f:ident $(, $w:ty)*) => {
        match $c & 15 {
            0 => $f::<$($w,)* 0> as $crate::op::Handler,
            1 => $f::<$($w,)* 1>,
            2 => $f::<$($w,)* 2>,
            3 => $f::<$($w,)* 3>,
            4 => $f::<$($w,)* 4>,
            5 => $f::<$($w,)* 5>,
            6 => $f::<$($w,)* 6>,
            7 => $f::<$($w,)* 7>,
            8 => $f::<$($w,)* 8>,
            9 => $f::<$($w,)* 9>,
            10 => $f::<$($w,)* 10>,
            11 => $f::<$($w,)* 11>,
            12 => $f::<$($w,)* 12>,
            13 => $f::<$($w,)* 13>,
            14 => $f::<$($w,)* 14>,
            _ => $f::<$($w,)* 15>,
        }
    };
}
pub(crate) use by_condition;
