//! `kvm_fpu`, the view of x87 and SSE state from before XSAVE.

use kvm_abi::{KvmError, Reader, Writer};

/// `sizeof(struct kvm_fpu)`.
pub const FPU_BYTES: usize = 416;
/// Where the XSAVE header begins, whose first word says which components are not initial.
const XSTATE_BV: usize = 512;
const X87: u64 = 1;
const SSE: u64 = 2;
const INITIAL_FCW: u16 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;

/// The `kvm_fpu` that is in an XSAVE area.
///
/// # Errors
/// `EINVAL` for an area without a header.
pub fn fpu_from_xsave(area: &[u8]) -> Result<Vec<u8>, KvmError> {
    let present = header(area)?;
    let mut r = Reader::new(area);
    let (mut fcw, mut fsw, mut ftw) = (r.u16(), r.u16(), r.u8());
    r.skip(1);
    let (mut fop, mut fip, mut fdp) = (r.u16(), r.u64(), r.u64());
    let mut mxcsr = r.u32();
    r.skip(4);
    let (mut st, mut xmm): ([u8; 128], [u8; 256]) = (r.array(), r.array());
    if present & X87 == 0 {
        (fcw, fsw, ftw, fop, fip, fdp, st) = (INITIAL_FCW, 0, 0, 0, 0, 0, [0; 128]);
    }
    if present & SSE == 0 {
        xmm = [0; 256];
    }
    if mxcsr == 0 && present & SSE == 0 {
        mxcsr = INITIAL_MXCSR;
    }
    let mut w = Writer::new();
    w.bytes(&st).u16(fcw).u16(fsw).u8(ftw).pad(1).u16(fop).u64(fip).u64(fdp);
    w.bytes(&xmm).u32(mxcsr).pad(4);
    Ok(w.0)
}

/// Puts a `kvm_fpu` into an XSAVE area; other components stay as they are.
///
/// # Errors
/// `EINVAL` when either is too short.
pub fn fpu_into_xsave(fpu: &[u8], area: &mut [u8]) -> Result<(), KvmError> {
    if fpu.len() != FPU_BYTES {
        return Err(KvmError::invalid(format!("kvm_fpu is {FPU_BYTES} bytes, not {}", fpu.len())));
    }
    let present = header(area)? | X87 | SSE;
    let mut r = Reader::new(fpu);
    let st: [u8; 128] = r.array();
    let (fcw, fsw, ftw) = (r.u16(), r.u16(), r.u8());
    r.skip(1);
    let (fop, fip, fdp) = (r.u16(), r.u64(), r.u64());
    let xmm: [u8; 256] = r.array();
    let mxcsr = r.u32();
    let mut w = Writer::new();
    w.u16(fcw).u16(fsw).u8(ftw).pad(1).u16(fop).u64(fip).u64(fdp).u32(mxcsr);
    area[..w.0.len()].copy_from_slice(&w.0);
    area[32..160].copy_from_slice(&st);
    area[160..416].copy_from_slice(&xmm);
    area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&present.to_le_bytes());
    Ok(())
}

fn header(area: &[u8]) -> Result<u64, KvmError> {
    let word = area.get(XSTATE_BV..XSTATE_BV + 64).and_then(|h| h.get(..8)?.try_into().ok());
    word.map(u64::from_le_bytes).ok_or_else(|| {
        KvmError::invalid(format!("an XSAVE area has at least 576 bytes, not {}", area.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_fpu_goes_in_and_comes_out() {
        let fpu: Vec<u8> = (0..FPU_BYTES)
            .map(|i| if i == 133 || i >= 412 { 0 } else { (i * 7 % 251) as u8 })
            .collect();
        let mut area = vec![0; 832];
        area[700] = 9;
        fpu_into_xsave(&fpu, &mut area).unwrap();
        assert_eq!(fpu_from_xsave(&area).unwrap(), fpu);
        assert_eq!((area[512], area[700]), (3, 9));
    }

    #[test]
    fn components_that_are_absent_are_initial() {
        let mut area = vec![0xff; 576];
        area[512..520].fill(0);
        area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        let fpu = fpu_from_xsave(&area).unwrap();
        assert_eq!(fpu[128..130], INITIAL_FCW.to_le_bytes());
        assert!(fpu[..128].iter().chain(&fpu[152..408]).all(|b| *b == 0));
        assert!(fpu_from_xsave(&area[..575]).is_err());
        assert!(fpu_into_xsave(&fpu[1..], &mut area).is_err());
    }
}
