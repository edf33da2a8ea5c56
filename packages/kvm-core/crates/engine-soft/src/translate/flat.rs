//! Which code is translated: 64-bit code, and 32-bit code where segments are no more than names.
//!
//! In *flat* code an offset in CS, SS, DS or ES is the linear address, so that nothing of a segment
//! needs to be looked at. Whether it is so is part of every key by which code is found. FS and GS
//! may have a base; whether they can be used with any offset is looked at by each access.

use kvm_cpu::{Mode, Seg, seg};

use super::state::GENERAL_32;
use crate::vcpu::Vcpu;

/// What translated code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64-bit code.
    Long,
    /// 32-bit code in flat segments, of protected or compatibility mode.
    Flat,
}

impl Kind {
    /// Bits of the default address size.
    pub fn bits(self) -> u32 {
        match self {
            Self::Long => 64,
            Self::Flat => 32,
        }
    }

    /// Bytes of a stack slot.
    pub fn slot(self) -> i32 {
        match self {
            Self::Long => 8,
            Self::Flat => 4,
        }
    }
}

/// The bit of a fetch context that says that the code is flat.
pub const FLAT_CONTEXT: u64 = 4;

/// From here on no flat code is translated: it would run into the limit of its segment.
const LAST_PAGE: u64 = 0xffff_f000;

/// True for a present data segment that can be read and written at every offset. It grows up.
fn open(s: &Seg) -> bool {
    !s.unusable && s.access & 0x9e == 0x92 && s.limit == u32::MAX
}

impl Vcpu {
    /// What the present code is translated as, if at all.
    fn kind_now(&self) -> Option<Kind> {
        let segs = &self.cpu.segs;
        let flat = |index: usize| segs[index].base == 0 && open(&segs[index]);
        match self.cpu.mode {
            Mode::Long64 => Some(Kind::Long),
            Mode::Protected32 => {
                let code = &segs[seg::CS];
                let flat = code.base == 0
                    && code.limit == u32::MAX
                    && segs[seg::SS].big()
                    && [seg::SS, seg::DS, seg::ES].into_iter().all(flat);
                flat.then_some(Kind::Flat)
            }
            _ => None,
        }
    }

    /// Follows the segment registers and the mode. The caller brings the fetch context up to date.
    pub(crate) fn update_kind(&mut self) {
        self.kind = self.kind_now();
        if self.kind == Some(Kind::Long) {
            return;
        }
        let segs = &self.cpu.segs;
        self.hot.open = [seg::FS, seg::GS].map(|index| u32::from(open(&segs[index])));
    }

    /// Follows a load of a data segment register. Code that relied on what it was is left.
    pub(crate) fn follow_segment(&mut self) {
        if self.cpu.mode != Mode::Protected32 {
            return;
        }
        let before = self.kind;
        self.update_kind();
        if self.kind != before {
            self.update_fetch_context();
            self.block_end = 0;
        }
    }

    /// True if code at a linear address may be translated.
    pub(super) fn has_room_for_code(&self, linear: u64) -> bool {
        self.kind != Some(Kind::Flat) || linear < LAST_PAGE
    }

    /// True if registers are as translated code wants them: flat code adds to 32-bit registers as if
    /// they had 64 bits, and checks what comes out.
    pub(super) fn registers_fit(&self) -> bool {
        let all = || self.cpu.regs[..GENERAL_32].iter().fold(0, |all, r| all | r);
        self.kind == Some(Kind::Long) || all() >> 32 == 0
    }
}
