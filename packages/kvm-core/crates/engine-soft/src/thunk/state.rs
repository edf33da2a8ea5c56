//! Vector, x87 and MMX registers of a vCPU.

use std::fmt;

/// MXCSR after reset.
pub const MXCSR_RESET: u32 = 0x1f80;
/// Bits that MXCSR has: exception flags, DAZ, exception masks, rounding control, FTZ.
pub const MXCSR_MASK: u32 = 0xffff;
/// The six exception flags.
pub(super) const MXCSR_FLAGS: u32 = 0x3f;
/// The six exception masks.
pub(super) const MXCSR_MASKS: u32 = 0x1f80;

/// FSW: exception summary.
pub(super) const FSW_ES: u16 = 1 << 7;
/// FSW: busy, a copy of ES.
pub(super) const FSW_B: u16 = 1 << 15;

/// One YMM register; the low half is XMM.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vector(pub [u64; 4]);

impl Vector {
    /// The bytes, lowest first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From bytes, lowest first.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        }
        Self(words)
    }
}

/// The x87 part of an FXSAVE image; the rest is room that FXSAVE needs and nobody reads.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct X87Image {
    pub fcw: u16,
    pub fsw: u16,
    /// One bit per physical register: 1 if in use.
    pub ftw: u8,
    reserved: u8,
    host_pointers: [u16; 9],
    mxcsr: u32,
    mxcsr_mask: u32,
    /// ST(0) to ST(7), 10 bytes each.
    pub st: [[u8; 16]; 8],
    room: [u8; 352],
}

const _: () = assert!(size_of::<X87Image>() == 512 && std::mem::offset_of!(X87Image, st) == 32);

impl X87Image {
    pub fn reset() -> Self {
        Self {
            fcw: 0x40,
            fsw: 0,
            ftw: 0xff,
            reserved: 0,
            host_pointers: [0; 9],
            mxcsr: MXCSR_RESET,
            mxcsr_mask: 0,
            st: [[0; 16]; 8],
            room: [0; 352],
        }
    }

    /// Number of the register that ST(0) is.
    pub fn top(&self) -> usize {
        usize::from(self.fsw >> 11) & 7
    }

    /// Where physical register `index` is in `st`.
    pub fn place(&self, index: usize) -> usize {
        index.wrapping_sub(self.top()) & 7
    }
}

/// Where the last x87 instruction and its operand were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct X87Pointers {
    /// Low 11 bits of the opcode.
    pub fop: u16,
    /// Code segment selector.
    pub fcs: u16,
    /// Data segment selector.
    pub fds: u16,
    /// Instruction offset.
    pub fip: u64,
    /// Operand offset.
    pub fdp: u64,
}

/// Vector, x87 and MMX state. `Default` is the state after RESET.
#[repr(C)]
#[derive(Clone)]
pub struct VectorState {
    /// YMM0 to YMM15.
    pub vec: [Vector; 16],
    pub(super) x87: X87Image,
    /// x87 instruction and operand pointers.
    pub pointers: X87Pointers,
    /// MXCSR.
    pub(super) mxcsr: u32,
    /// PKRU.
    pub pkru: u32,
}

impl fmt::Debug for VectorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VectorState")
            .field("vec", &self.vec)
            .field("fcw", &self.x87.fcw)
            .field("fsw", &self.x87.fsw)
            .field("ftw", &self.x87.ftw)
            .field("st", &self.x87.st)
            .field("mxcsr", &self.mxcsr)
            .field("pkru", &self.pkru)
            .finish_non_exhaustive()
    }
}

impl Default for VectorState {
    fn default() -> Self {
        Self {
            vec: [Vector::default(); 16],
            x87: X87Image::reset(),
            pointers: X87Pointers::default(),
            mxcsr: MXCSR_RESET,
            pkru: 0,
        }
    }
}

impl VectorState {
    /// Where MXCSR is, for translated code.
    pub const MXCSR_OFFSET: usize = std::mem::offset_of!(Self, mxcsr);

    /// True if no SIMD exception can be raised.
    #[must_use]
    pub fn simd_masked(&self) -> bool {
        self.mxcsr & MXCSR_MASKS == MXCSR_MASKS
    }

    /// MXCSR.
    #[must_use]
    pub fn mxcsr(&self) -> u32 {
        self.mxcsr
    }

    /// Loads MXCSR; false (#GP) and no change if a reserved bit is set.
    #[must_use]
    pub fn set_mxcsr(&mut self, value: u32) -> bool {
        let valid = value & !MXCSR_MASK == 0;
        if valid {
            self.mxcsr = value;
        }
        valid
    }

    /// True if an unmasked x87 exception waits to be delivered (FSW.ES).
    #[must_use]
    pub fn x87_pending(&self) -> bool {
        self.x87.fsw & FSW_ES != 0
    }

    /// True if no x87 exception can become pending.
    #[must_use]
    pub fn x87_masked(&self) -> bool {
        self.x87.fcw & 0x3f == 0x3f
    }

    /// The x87 registers after `FNINIT`, which leaves the data registers alone.
    pub fn fninit(&mut self) {
        self.x87.fcw = 0x37f;
        // ST(i) are stored relative to TOP.
        let top = self.x87.top();
        self.x87.st.rotate_right(top);
        self.x87.fsw = 0;
        self.x87.ftw = 0;
        self.pointers = X87Pointers::default();
    }

    /// Derives ES and B from the exception flags and masks, after FCW or FSW was loaded.
    pub(super) fn update_summary(&mut self) {
        let unmasked = self.x87.fsw & !self.x87.fcw & 0x3f != 0;
        let summary = FSW_ES | FSW_B;
        self.x87.fsw = (self.x87.fsw & !summary) | if unmasked { summary } else { 0 };
    }
}
