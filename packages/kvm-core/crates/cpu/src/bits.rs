//! Bit positions of control registers, error codes and descriptors.

/// CR0 (SDM volume 3, 2.5).
#[allow(missing_docs)]
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
    /// All bits that exist; others read as zero.
    pub const ALL: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// CR4 (SDM volume 3, 2.5).
#[allow(missing_docs)]
pub mod cr4 {
    pub const VME: u64 = 1 << 0;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
    pub const PKS: u64 = 1 << 24;
}

/// IA32_EFER.
#[allow(missing_docs)]
pub mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
    pub const FFXSR: u64 = 1 << 14;
    pub const AUTOIBRS: u64 = 1 << 21;
}

/// Page-fault error code (SDM volume 3, 4.7).
#[allow(missing_docs)]
pub mod pf {
    pub const PRESENT: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const USER: u32 = 4;
    pub const RESERVED: u32 = 8;
    pub const FETCH: u32 = 16;
    pub const KEY: u32 = 32;
}

/// DR6 and DR7 (SDM volume 3, 17.2).
#[allow(missing_docs)]
pub mod dr {
    pub const DR6_FIXED: u64 = 0xffff_0ff0;
    pub const DR6_BD: u64 = 1 << 13;
    pub const DR6_BS: u64 = 1 << 14;
    pub const DR6_BT: u64 = 1 << 15;
    /// The bits of DR6 that a debug exception can set.
    pub const DR6_TRAPS: u64 = 0xe00f;
    pub const DR7_FIXED: u64 = 0x400;
    pub const DR7_GD: u64 = 1 << 13;
    /// L0 to G3.
    pub const DR7_ENABLES: u64 = 0xff;
}

/// Access byte of a descriptor.
#[allow(missing_docs)]
pub mod acc {
    pub const PRESENT: u8 = 0x80;
    /// Code or data, not a system descriptor.
    pub const S: u8 = 0x10;
    /// Code, not data (with S).
    pub const CODE: u8 = 0x08;
    /// Conforming code or expand-down data.
    pub const CONFORMING: u8 = 0x04;
    /// Readable code or writable data.
    pub const RW: u8 = 0x02;
    pub const ACCESSED: u8 = 0x01;
}

/// True if bits 63 to 47 of a 48-bit linear address are equal.
#[inline(always)]
#[must_use]
pub fn canonical(addr: u64) -> bool {
    (addr.cast_signed() << 16 >> 16).cast_unsigned() == addr
}
