//! The memory formats of FXSAVE and XSAVE (SDM volume 1, 10.5 and chapter 13), for the instructions
//! and for `KVM_GET_XSAVE`.
//!
//! Components are x87 (0), SSE (1), AVX (2) and the rights of protection keys (9). The last x87 instruction and operand pointers are
//! always saved and restored, also without a pending exception, as Intel processors do and as AMD's
//! announce it with CPUID 8000_0008h EBX bit 2.

use std::fmt;

use kvm_abi::KvmError;
use kvm_cpu::cpuid::{AVX_OFFSET, PKRU_OFFSET, component};

use super::state::{MXCSR_MASK, MXCSR_RESET, VectorState, X87Image, X87Pointers};

/// The components that exist here, in XCR0 positions.
pub const XSAVE_COMPONENTS: u64 = 0x207;
/// Bytes of an area with all components in standard format, the larger one.
pub const XSAVE_BYTES: usize = PKRU_AT + PKRU_BYTES;
/// Bytes of a legacy region.
pub const FXSAVE_BYTES: usize = 512;
/// Bytes that `KVM_GET_XSAVE` returns.
const KVM_BYTES: usize = 4096;

const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = component::AVX;
const PKRU: u64 = component::PKRU;
/// XCOMP_BV: the area is in compacted format.
const COMPACTED: u64 = 1 << 63;
/// Offset of the XSAVE header.
const HEADER: usize = 512;
/// Offset of the upper halves of YMM registers, in both formats.
const YMM_HIGH: usize = AVX_OFFSET as usize;
/// End of the upper halves.
const YMM_END: usize = YMM_HIGH + 256;
/// Offset of PKRU in the standard format.
const PKRU_AT: usize = PKRU_OFFSET as usize;
const PKRU_BYTES: usize = 8;

/// Which instruction saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XsaveForm {
    /// `XSAVE`: all requested components in standard format.
    Standard,
    /// `XSAVEOPT`: those not in their initial state, in standard format.
    Optimized,
    /// `XSAVEC`: those not in their initial state, in compacted format.
    Compacted,
}

/// How the processor mode shapes an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaMode {
    /// 64-bit mode: 16 registers, else the first 8 are saved and restored.
    pub long: bool,
    /// REX.W: x87 pointers have 64 bits and no selectors.
    pub wide: bool,
}

impl AreaMode {
    fn registers(self) -> usize {
        if self.long { 16 } else { 8 }
    }
}

/// Why an area is refused: #GP(0), or `EINVAL` from `KVM_SET_XSAVE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadArea {
    /// Shorter than its header says.
    Short,
    /// A reserved bit of MXCSR is set.
    Mxcsr,
    /// XSTATE_BV or XCOMP_BV names a component that is not enabled, or reserved bytes are not zero.
    Header,
}

impl fmt::Display for BadArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "shorter than its header says",
            Self::Mxcsr => "a reserved bit of MXCSR is set",
            Self::Header => "unknown components or reserved bytes in the header",
        })
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where PKRU lies, in the layout that [`VectorState::xsave_bytes`] is told.
fn pkru_at(compacted: Option<u64>) -> usize {
    match compacted {
        Some(present) if present & AVX != 0 => YMM_END,
        Some(_) => YMM_HIGH,
        None => PKRU_AT,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | (u32::from(u16_at(bytes, at + 2)) << 16)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

impl VectorState {
    /// Components that are not in their initial state (XINUSE, what `XGETBV` with ECX = 1 reads).
    /// MXCSR does not count.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        let any = |half: usize| self.vec.iter().any(|v| v.0[half] != 0 || v.0[half + 1] != 0);
        let x87 = &self.x87;
        let initial = x87.fcw == 0x37f
            && x87.fsw == 0
            && x87.ftw == 0
            && self.pointers == X87Pointers::default()
            && x87.st.iter().all(|st| st[..10] == [0; 10]);
        let keys = if self.pkru == 0 { 0 } else { PKRU };
        u64::from(!initial) | (u64::from(any(0)) << 1) | (u64::from(any(2)) << 2) | keys
    }

    /// The bytes of the legacy region; only those of the components asked for are to be written.
    #[allow(clippy::cast_possible_truncation)]
    fn legacy_region(&self, mode: AreaMode) -> [u8; FXSAVE_BYTES] {
        let mut out = [0; FXSAVE_BYTES];
        put(&mut out, 0, &self.x87.fcw.to_le_bytes());
        put(&mut out, 2, &self.x87.fsw.to_le_bytes());
        out[4] = self.x87.ftw;
        let p = &self.pointers;
        put(&mut out, 6, &p.fop.to_le_bytes());
        if mode.wide {
            put(&mut out, 8, &p.fip.to_le_bytes());
            put(&mut out, 16, &p.fdp.to_le_bytes());
        } else {
            put(&mut out, 8, &(p.fip as u32).to_le_bytes());
            put(&mut out, 12, &p.fcs.to_le_bytes());
            put(&mut out, 16, &(p.fdp as u32).to_le_bytes());
            put(&mut out, 20, &p.fds.to_le_bytes());
        }
        put(&mut out, 24, &self.mxcsr.to_le_bytes());
        put(&mut out, 28, &MXCSR_MASK.to_le_bytes());
        for (i, st) in self.x87.st.iter().enumerate() {
            put(&mut out, 32 + 16 * i, &st[..10]);
        }
        for (i, vector) in self.vec.iter().enumerate() {
            put(&mut out, 160 + 16 * i, &vector.to_bytes()[..16]);
        }
        out
    }

    fn load_x87(&mut self, area: &[u8], mode: AreaMode) {
        self.x87.fcw = (u16_at(area, 0) & 0x1f3f) | 0x40;
        self.x87.fsw = u16_at(area, 2);
        self.x87.ftw = area[4];
        self.pointers = X87Pointers {
            fop: u16_at(area, 6) & 0x7ff,
            fcs: if mode.wide { 0 } else { u16_at(area, 12) },
            fds: if mode.wide { 0 } else { u16_at(area, 20) },
            fip: if mode.wide { u64_at(area, 8) } else { u64::from(u32_at(area, 8)) },
            fdp: if mode.wide { u64_at(area, 16) } else { u64::from(u32_at(area, 16)) },
        };
        for (i, st) in self.x87.st.iter_mut().enumerate() {
            st[..10].copy_from_slice(&area[32 + 16 * i..][..10]);
        }
        self.update_summary();
    }

    fn init_x87(&mut self) {
        self.x87 = X87Image::reset();
        (self.x87.fcw, self.x87.ftw) = (0x37f, 0);
        self.pointers = X87Pointers::default();
    }

    /// Loads one 128-bit half (0 or 1) of the registers from 16-byte entries.
    fn load_halves(&mut self, half: usize, entries: &[u8], mode: AreaMode) {
        for (vector, bytes) in
            self.vec.iter_mut().zip(entries.chunks_exact(16)).take(mode.registers())
        {
            vector.0[2 * half] = u64_at(bytes, 0);
            vector.0[2 * half + 1] = u64_at(bytes, 8);
        }
    }

    fn init_halves(&mut self, half: usize, mode: AreaMode) {
        for vector in self.vec.iter_mut().take(mode.registers()) {
            vector.0[2 * half..2 * half + 2].fill(0);
        }
    }

    /// `FXSAVE`: the image, and how many of its bytes are written (the rest of the 512 stay).
    #[must_use]
    pub fn fxsave(&self, mode: AreaMode) -> ([u8; FXSAVE_BYTES], usize) {
        (self.legacy_region(mode), 160 + 16 * mode.registers())
    }

    /// `FXRSTOR`.
    pub fn fxrstor(&mut self, area: &[u8; FXSAVE_BYTES], mode: AreaMode) -> Result<(), BadArea> {
        if !self.set_mxcsr(u32_at(area, 24)) {
            return Err(BadArea::Mxcsr);
        }
        self.load_x87(area, mode);
        self.load_halves(0, &area[160..416], mode);
        Ok(())
    }

    /// Bytes that `XSAVE` and its relatives may write for `rfbm`, and `XRSTOR` reads: the layout is
    /// compacted for the components in `compacted`, or standard.
    #[must_use]
    pub fn xsave_bytes(rfbm: u64, compacted: Option<u64>) -> usize {
        match rfbm {
            _ if rfbm & PKRU != 0 => pkru_at(compacted) + PKRU_BYTES,
            _ if rfbm & AVX != 0 => YMM_END,
            _ => YMM_HIGH,
        }
    }

    /// `XSAVE`, `XSAVEOPT` or `XSAVEC` of the components `rfbm` (EDX:EAX and XCR0). `old_bv` is the
    /// XSTATE_BV in memory, which the standard formats keep for other components. `write` gets each
    /// run of bytes with its offset; the bytes between are not to be touched.
    pub fn xsave<E>(
        &self,
        form: XsaveForm,
        rfbm: u64,
        mode: AreaMode,
        old_bv: u64,
        mut write: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rfbm = rfbm & XSAVE_COMPONENTS;
        let mut used = self.in_use() & rfbm;
        let compacted = form == XsaveForm::Compacted;
        if compacted && self.mxcsr != MXCSR_RESET {
            // The compacted format treats MXCSR as part of the SSE component.
            used |= rfbm & SSE;
        }
        let saved = if form == XsaveForm::Standard { rfbm } else { used };
        let legacy = self.legacy_region(mode);
        if saved & X87 != 0 {
            write(0, &legacy[..24])?;
        }
        let mxcsr = if compacted { saved & SSE } else { rfbm & (SSE | AVX) };
        if mxcsr != 0 {
            write(24, &legacy[24..32])?;
        }
        if saved & X87 != 0 {
            write(32, &legacy[32..160])?;
        }
        if saved & SSE != 0 {
            write(160, &legacy[160..160 + 16 * mode.registers()])?;
        }
        if saved & AVX != 0 {
            let mut high = [0; 256];
            for (entry, vector) in high.chunks_exact_mut(16).zip(&self.vec) {
                entry.copy_from_slice(&vector.to_bytes()[16..]);
            }
            write(YMM_HIGH, &high[..16 * mode.registers()])?;
        }
        if saved & PKRU != 0 {
            let at = pkru_at(compacted.then_some(rfbm));
            write(at, &u64::from(self.pkru).to_le_bytes())?;
        }
        if compacted {
            write(HEADER, &used.to_le_bytes())?;
            write(HEADER + 8, &(rfbm | COMPACTED).to_le_bytes())
        } else {
            write(HEADER, &((old_bv & !rfbm) | used).to_le_bytes())
        }
    }

    /// `XRSTOR` of the components `rfbm` (EDX:EAX and XCR0) from `area`, of which
    /// [`xsave_bytes`](Self::xsave_bytes) are needed. `compaction` tells whether the CPU model has the
    /// compacted format. On an error nothing has changed.
    pub fn xrstor(
        &mut self,
        area: &[u8],
        rfbm: u64,
        xcr0: u64,
        mode: AreaMode,
        compaction: bool,
    ) -> Result<(), BadArea> {
        let rfbm = rfbm & XSAVE_COMPONENTS;
        if area.len() < YMM_HIGH {
            return Err(BadArea::Short);
        }
        let bv = u64_at(area, HEADER);
        let xcomp = u64_at(area, HEADER + 8);
        let compacted = compaction && xcomp & COMPACTED != 0;
        let zero =
            |from: usize, to: usize| area[HEADER + from..HEADER + to].iter().all(|&b| b == 0);
        let valid = if compacted {
            let present = xcomp & !COMPACTED;
            present & !xcr0 == 0 && bv & !present == 0 && zero(16, 64)
        } else {
            bv & !xcr0 == 0 && zero(8, 24)
        };
        if !valid {
            return Err(BadArea::Header);
        }
        let layout = compacted.then_some(xcomp);
        if area.len() < Self::xsave_bytes(rfbm & bv, layout) {
            return Err(BadArea::Short);
        }
        let mxcsr = match (compacted, rfbm & SSE != 0, bv & SSE != 0) {
            (true, true, false) => Some(MXCSR_RESET),
            (true, false, _) => None,
            (false, false, _) if rfbm & AVX == 0 => None,
            _ => Some(u32_at(area, 24)),
        };
        if let Some(mxcsr) = mxcsr
            && !self.set_mxcsr(mxcsr)
        {
            return Err(BadArea::Mxcsr);
        }
        match (rfbm & X87 != 0, bv & X87 != 0) {
            (true, true) => self.load_x87(area, mode),
            (true, false) => self.init_x87(),
            _ => {}
        }
        for (half, component, at) in [(0, SSE, 160), (1, AVX, YMM_HIGH)] {
            match (rfbm & component != 0, bv & component != 0) {
                (true, true) => self.load_halves(half, &area[at..at + 256], mode),
                (true, false) => self.init_halves(half, mode),
                _ => {}
            }
        }
        match (rfbm & PKRU != 0, bv & PKRU != 0) {
            (true, true) => self.pkru = u32_at(area, pkru_at(layout)),
            (true, false) => self.pkru = 0,
            _ => {}
        }
        Ok(())
    }

    /// All components in standard format with 64-bit pointers, 4096 bytes: `KVM_GET_XSAVE`. Whether
    /// the guest has enabled a component in XCR0 does not matter.
    #[must_use]
    pub fn to_xsave(&self) -> Vec<u8> {
        let mut area = vec![0; KVM_BYTES];
        let mode = AreaMode { long: true, wide: true };
        let saved: Result<(), std::convert::Infallible> =
            self.xsave(XsaveForm::Standard, XSAVE_COMPONENTS, mode, 0, |at, bytes| {
                put(&mut area, at, bytes);
                Ok(())
            });
        let Ok(()) = saved;
        // The selectors have no place in the 64-bit format.
        area
    }

    /// Loads what [`to_xsave`](Self::to_xsave) gave: `KVM_SET_XSAVE`. Components that XSTATE_BV does
    /// not name become initial; MXCSR is always loaded. `EINVAL` for an area that is too short, names
    /// other components or sets a reserved bit.
    pub fn load_xsave(&mut self, area: &[u8]) -> Result<(), KvmError> {
        let mode = AreaMode { long: true, wide: true };
        self.xrstor(area, XSAVE_COMPONENTS, XSAVE_COMPONENTS, mode, false)
            .map_err(|bad| KvmError::invalid(format!("XSAVE area of {} bytes: {bad}", area.len())))
    }
}
