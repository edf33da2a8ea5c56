//! Where everything is: guest physical memory in three pieces, and pages of it at addresses whose
//! neighbours are something else.

/// Bytes of a page.
pub const PAGE: u64 = 0x1000;

/// A piece of guest RAM.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub gpa: u64,
    pub bytes: u64,
    pub readonly: bool,
}

/// The pieces; between them is nothing.
pub const PIECES: [Piece; 3] = [
    Piece { gpa: 0, bytes: 0x10_0000, readonly: false },
    Piece { gpa: 0x4000_0000, bytes: 0x4000, readonly: false },
    Piece { gpa: 0x5000_0000, bytes: 0x2000, readonly: true },
];

/// Last page of the first piece.
const LAST: u64 = 0xf_f000;
/// The first page that is not RAM.
const DEVICE: u64 = 0x10_0000;
const SECOND: u64 = PIECES[1].gpa;
const THIRD: u64 = PIECES[2].gpa;
/// Two pages of code, and one for what is not under test.
pub const CODE: u64 = 0x3_0000;
const SPARE: u64 = 0x4_0000;

/// A page of the address space under test.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    pub linear: u64,
    pub gpa: u64,
    pub writable: bool,
}

const fn page(linear: u64, gpa: u64) -> Mapped {
    Mapped { linear, gpa, writable: true }
}

const fn read_only(linear: u64, gpa: u64) -> Mapped {
    Mapped { linear, gpa, writable: false }
}

const LOW: u64 = 0x4000_0000;
/// The last page of the lower and the first of the upper half.
const LOWER: u64 = 0x7fff_ffff_f000;
const UPPER: u64 = 0xffff_8000_0000_0000;
/// The last page of all.
const TOP: u64 = 0xffff_ffff_ffff_f000;
/// The last page that 32 bits reach.
const TOP_32: u64 = 0xffff_f000;
/// A large page, of which the first half is RAM.
pub const LARGE: u64 = 0x8000_0000;

/// All pages but the large one.
pub const MAP: [Mapped; 20] = [
    // RAM that ends, and nothing around it.
    page(LOW + 0x1000, LAST),
    // Pages that are not side by side, and a device behind them.
    page(LOW + 0x1_1000, SECOND),
    page(LOW + 0x1_2000, LAST),
    page(LOW + 0x1_3000, DEVICE),
    // Pages that must not be written.
    read_only(LOW + 0x2_1000, SECOND + 0x1000),
    page(LOW + 0x2_2000, SECOND + 0x2000),
    read_only(LOW + 0x2_3000, SECOND + 0x3000),
    // Memory that cannot be written.
    page(LOW + 0x3_1000, THIRD),
    page(LOW + 0x3_2000, THIRD + 0x1000),
    // The edges of what is canonical.
    page(LOWER - 0x1000, SECOND),
    page(LOWER, SECOND + 0x3000),
    page(UPPER, SECOND),
    page(UPPER + 0x1000, SECOND + 0x1000),
    // The end of the address space.
    page(TOP, LAST),
    // The end of 32-bit addresses.
    page(TOP_32, SECOND + 0x2000),
    page(TOP_32 + 0x1000, LAST),
    // From one piece into another.
    read_only(LOW + 0x4_1000, THIRD + 0x1000),
    page(LOW + 0x4_2000, SECOND),
    page(LOW + 0x5_1000, SECOND + 0x3000),
    page(SPARE_AT, SPARE),
];

/// Where the code is: near everything that it addresses.
pub const CODE_AT: [u64; 5] =
    [LOW - 0x8000, LOWER - 0x10_0000, UPPER + 0x10_0000, TOP - 0x10_0000, LARGE - 0x10_0000];
/// What instructions use that is not under test.
pub const SPARE_AT: u64 = LOW - 0x2_0000;

/// The page at a linear address.
pub fn find(linear: u64) -> Option<Mapped> {
    let at = linear & !(PAGE - 1);
    if at & !0x1f_ffff == LARGE {
        return Some(page(at, at - LARGE));
    }
    MAP.iter().find(|m| m.linear == at).copied()
}

/// The piece of RAM at a guest physical address, and the offset in it.
pub fn piece(gpa: u64) -> Option<(usize, usize)> {
    let n = PIECES.iter().position(|p| gpa >= p.gpa && gpa - p.gpa < p.bytes)?;
    Some((n, (gpa - PIECES[n].gpa) as usize))
}

/// Guest physical pages that the code under test may change.
pub fn data_pages() -> Vec<u64> {
    let pieces = PIECES[1..].iter().flat_map(|p| (0..p.bytes / PAGE).map(|n| p.gpa + n * PAGE));
    std::iter::once(LAST).chain(pieces).collect()
}

/// Linear addresses where something else begins.
pub fn edges() -> Vec<u64> {
    let mut all: Vec<u64> = MAP
        .iter()
        .filter(|m| m.linear != SPARE_AT)
        .flat_map(|m| [m.linear, m.linear.wrapping_add(PAGE)])
        .chain([LARGE + DEVICE])
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// 48-bit canonical form.
pub fn canonical(linear: u64) -> bool {
    (linear.cast_signed() << 16 >> 16).cast_unsigned() == linear
}
