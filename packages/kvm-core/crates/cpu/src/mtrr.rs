//! Memory-type range registers and the page-attribute table. Memory types have no effect in a
//! software engine; what can be written, and reads back, is as on hardware (SDM volume 3, 11.11).

use crate::Msrs;

/// Variable ranges.
pub const VARIABLE: usize = 8;

const VARIABLE_BASE: u32 = 0x200;

/// The fixed-range registers in the order of [`Msrs::mtrr_fixed`].
const FIXED: [u32; 11] =
    [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

/// A register of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// One of the fixed ranges.
    Fixed(usize),
    /// Base (even) or mask (odd) of a variable range.
    Variable(usize),
}

/// The register behind an MSR number.
#[must_use]
pub fn slot(index: u32) -> Option<Slot> {
    if let Some(n) = FIXED.iter().position(|f| *f == index) {
        return Some(Slot::Fixed(n));
    }
    let n = index.checked_sub(VARIABLE_BASE)? as usize;
    (n < VARIABLE * 2).then_some(Slot::Variable(n))
}

/// All MSR numbers of the file.
pub fn indices() -> impl Iterator<Item = u32> {
    FIXED.into_iter().chain((0..VARIABLE as u32 * 2).map(|n| VARIABLE_BASE + n))
}

fn type_valid(memory_type: u64) -> bool {
    matches!(memory_type, 0 | 1 | 4 | 5 | 6)
}

/// IA32_MTRR_DEF_TYPE: a type and two enables.
#[must_use]
pub fn def_type_valid(value: u64) -> bool {
    value & !0xcff == 0 && type_valid(value & 0xff)
}

/// IA32_PAT: eight types, UC- (7) among them.
#[must_use]
pub fn pat_valid(value: u64) -> bool {
    value.to_le_bytes().iter().all(|t| type_valid(u64::from(*t)) || *t == 7)
}

/// The value of a register of the file.
#[must_use]
pub fn read(m: &Msrs, index: u32) -> Option<u64> {
    match slot(index)? {
        Slot::Fixed(n) => m.mtrr_fixed.get(n),
        Slot::Variable(n) => m.mtrr_var.get(n),
    }
    .copied()
}

/// Writes a register of the file: `None` if `index` is not one, else whether the value is allowed.
pub fn write(m: &mut Msrs, index: u32, value: u64, phys_bits: u8) -> Option<bool> {
    let beyond = value >> phys_bits.min(63) != 0;
    let (ok, target) = match slot(index)? {
        Slot::Fixed(n) => {
            let ok = value.to_le_bytes().iter().all(|t| type_valid(u64::from(*t)));
            (ok, m.mtrr_fixed.get_mut(n)?)
        }
        Slot::Variable(n) if n % 2 == 0 => {
            let ok = !beyond && value & 0xf00 == 0 && type_valid(value & 0xff);
            (ok, m.mtrr_var.get_mut(n)?)
        }
        Slot::Variable(n) => (!beyond && value & 0x7ff == 0, m.mtrr_var.get_mut(n)?),
    };
    if ok {
        *target = value;
    }
    Some(ok)
}
