//! FXSAVE, FXRSTOR and the XSAVE family.

use kvm_cpu::{Access, Trap, Vector, control, reg};

use crate::linear::Via;
use crate::op::{Done, Op};
use crate::thunk::{AreaMode, FXSAVE_BYTES, VectorState, XSAVE_BYTES, XsaveForm};
use crate::vcpu::Vcpu;
use crate::width::W32;

#[allow(clippy::cast_possible_truncation)]
const AX: u8 = reg::RAX as u8;
#[allow(clippy::cast_possible_truncation)]
const DX: u8 = reg::RDX as u8;
const CR0_EM_TS: u64 = 4 | 8;
const CR0_TS: u64 = 8;
/// Where the header of an XSAVE area lies, and its end.
const HEADER: usize = 512;
const HEADER_END: usize = 576;
/// XCOMP_BV: the area is in compacted format.
const COMPACTED: u64 = 1 << 63;
const CR4_OSXSAVE: u64 = 1 << 18;

/// `op.imm`: 1 with REX.W.
fn mode(v: &Vcpu, op: &Op) -> AreaMode {
    AreaMode { long: v.cpu.mode == kvm_cpu::Mode::Long64, wide: op.imm & 1 != 0 }
}

impl Vcpu {
    /// PKRU was loaded: what it allowed before counts no more.
    pub(crate) fn follow_pkru(&mut self) {
        if self.cpu.pkru != self.vectors.pkru {
            self.cpu.pkru = self.vectors.pkru;
            kvm_cpu::Exec::flush(self, kvm_cpu::Flush::All);
        }
    }

    /// The linear address of an area, aligned as the instruction demands.
    fn area(&mut self, op: &Op, bytes: usize, align: u64, write: bool) -> Result<u64, Trap> {
        self.part_of_area(op, 0, bytes, align, write)
    }

    /// The same of an area whose first `skip` bytes are not accessed.
    fn part_of_area(
        &mut self,
        op: &Op,
        skip: usize,
        bytes: usize,
        align: u64,
        write: bool,
    ) -> Result<u64, Trap> {
        let linear = self.linear(op, bytes as u64, write)?;
        if linear & (align - 1) != 0 {
            return Err(self.cpu.gp(0));
        }
        let access = if write { Access::Write } else { Access::Read };
        let start = linear.wrapping_add(skip as u64);
        self.probe(start, (bytes - skip) as u64, access, Via::Segment(op.seg))?;
        Ok(linear)
    }

    fn write_run(&mut self, linear: u64, data: &[u8], segment: u8) -> Done {
        let mut at = linear;
        for chunk in data.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            #[allow(clippy::cast_possible_truncation)]
            let len = chunk.len() as u8;
            self.write_slow(at, len, Via::Segment(segment), u64::from_le_bytes(word))?;
            at = at.wrapping_add(u64::from(len));
        }
        Ok(())
    }

    fn read_run(&mut self, linear: u64, out: &mut [u8], segment: u8) -> Done {
        let mut at = linear;
        for chunk in out.chunks_mut(8) {
            #[allow(clippy::cast_possible_truncation)]
            let len = chunk.len() as u8;
            let word = self.read_slow(at, len, Via::Segment(segment))?;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
            at = at.wrapping_add(u64::from(len));
        }
        Ok(())
    }

    fn check_xsave(&mut self) -> Done {
        if self.cpu.cr4 & CR4_OSXSAVE == 0 {
            return Err(self.undefined());
        }
        if self.cpu.cr0 & CR0_TS != 0 {
            return Err(self.cpu.raise(Vector::Nm, 0));
        }
        Ok(())
    }

    /// The components that EDX:EAX and XCR0 select.
    fn requested(&self) -> u64 {
        let mask = (self.cpu.regs[reg::RDX] << 32) | (self.cpu.regs[reg::RAX] & 0xffff_ffff);
        mask & self.cpu.xcr0
    }
}

/// Bytes before the header that are not accessed: all, if no component is asked for that has a part
/// there. In the compacted format MXCSR belongs to SSE alone.
fn skipped(rfbm: u64, compacted: bool) -> usize {
    const X87_SSE: u64 = 3;
    let there = if compacted { rfbm & X87_SSE } else { rfbm };
    if there == 0 { HEADER } else { 0 }
}

pub(crate) fn fxsave(v: &mut Vcpu, op: &Op) -> Done {
    if v.cpu.cr0 & CR0_EM_TS != 0 {
        return Err(v.cpu.raise(Vector::Nm, 0));
    }
    let linear = v.area(op, FXSAVE_BYTES, 16, true)?;
    let mode = mode(v, op);
    let (image, written) = v.vectors.fxsave(mode);
    v.write_run(linear, &image[..written], op.seg)
}

pub(crate) fn fxrstor(v: &mut Vcpu, op: &Op) -> Done {
    if v.cpu.cr0 & CR0_EM_TS != 0 {
        return Err(v.cpu.raise(Vector::Nm, 0));
    }
    let linear = v.area(op, FXSAVE_BYTES, 16, false)?;
    let mut image = [0u8; FXSAVE_BYTES];
    v.read_run(linear, &mut image, op.seg)?;
    let mode = mode(v, op);
    v.vectors.fxrstor(&image, mode).map_err(|_| v.cpu.gp(0))
}

fn save(v: &mut Vcpu, op: &Op, form: XsaveForm) -> Done {
    v.check_xsave()?;
    let rfbm = v.requested();
    let layout = (form == XsaveForm::Compacted).then_some(rfbm);
    let bytes = VectorState::xsave_bytes(rfbm, layout);
    let skip = skipped(rfbm, form == XsaveForm::Compacted);
    let linear = v.part_of_area(op, skip, bytes, 64, true)?;
    let old = match form {
        XsaveForm::Compacted => 0,
        _ => v.read_slow(linear.wrapping_add(512), 8, Via::Segment(op.seg))?,
    };
    let mode = mode(v, op);
    let mut runs: Vec<(usize, Vec<u8>)> = Vec::with_capacity(4);
    let collected: Result<(), std::convert::Infallible> =
        v.vectors.xsave(form, rfbm, mode, old, |at, bytes| {
            runs.push((at, bytes.to_vec()));
            Ok(())
        });
    let Ok(()) = collected;
    for (at, bytes) in runs {
        v.write_run(linear.wrapping_add(at as u64), &bytes, op.seg)?;
    }
    Ok(())
}

pub(crate) fn xsave(v: &mut Vcpu, op: &Op) -> Done {
    save(v, op, XsaveForm::Standard)
}

pub(crate) fn xsaveopt(v: &mut Vcpu, op: &Op) -> Done {
    save(v, op, XsaveForm::Optimized)
}

pub(crate) fn xsavec(v: &mut Vcpu, op: &Op) -> Done {
    save(v, op, XsaveForm::Compacted)
}

pub(crate) fn xrstor(v: &mut Vcpu, op: &Op) -> Done {
    v.check_xsave()?;
    let rfbm = v.requested();
    let mut area = [0u8; XSAVE_BYTES];
    let mut skip = skipped(rfbm, true);
    let linear = v.part_of_area(op, skip, HEADER_END, 64, false)?;
    v.read_run(linear.wrapping_add(skip as u64), &mut area[skip..HEADER_END], op.seg)?;
    // XCOMP_BV tells the format.
    let compacted = v.cpu.caps.xgetbv1 && area[HEADER + 15] & 0x80 != 0;
    if skip != 0 && skipped(rfbm, compacted) == 0 {
        skip = 0;
        v.part_of_area(op, skip, HEADER_END, 64, false)?;
        v.read_run(linear, &mut area[..HEADER], op.seg)?;
    }
    // Components in their initial state are not read: the area may end before them.
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| area[at + i]));
    let (in_use, xcomp) = (word(HEADER), word(HEADER + 8));
    let compaction = v.cpu.caps.xgetbv1;
    let layout = (compaction && xcomp & COMPACTED != 0).then_some(xcomp);
    let end = VectorState::xsave_bytes(rfbm & in_use, layout);
    v.part_of_area(op, skip, end, 64, false)?;
    let rest = linear.wrapping_add(HEADER_END as u64);
    v.read_run(rest, &mut area[HEADER_END..end], op.seg)?;
    let (mode, xcr0) = (mode(v, op), v.cpu.xcr0);
    v.vectors.xrstor(&area[..end], rfbm, xcr0, mode, compaction).map_err(|_| v.cpu.gp(0))?;
    v.follow_pkru();
    Ok(())
}

pub(crate) fn rdpkru(v: &mut Vcpu, _op: &Op) -> Done {
    control::check_pkru(v)?;
    v.set::<W32>(AX, u64::from(v.vectors.pkru));
    v.set::<W32>(DX, 0);
    Ok(())
}

pub(crate) fn wrpkru(v: &mut Vcpu, _op: &Op) -> Done {
    control::check_pkru(v)?;
    if v.cpu.regs[reg::RDX] & 0xffff_ffff != 0 {
        return Err(v.cpu.gp(0));
    }
    #[allow(clippy::cast_possible_truncation)]
    let value = v.cpu.regs[reg::RAX] as u32;
    v.vectors.pkru = value;
    v.follow_pkru();
    Ok(())
}
