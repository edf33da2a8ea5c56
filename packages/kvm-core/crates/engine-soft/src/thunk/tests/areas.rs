//! FXSAVE and XSAVE areas against the host's own instructions.

use std::arch::naked_asm;

use super::super::xsave::*;
use super::super::{VectorState, X87Pointers};
use super::random::Random;

const LONG: AreaMode = AreaMode { long: true, wide: true };

#[repr(C, align(64))]
#[derive(Clone)]
struct Area([u8; 1024]);

/// A stub that restores `rfbm` from one area and saves `rfbm` to another.
macro_rules! restore_and_save {
    ($name:ident, $restore:literal, $save:literal) => {
        /// # Safety
        /// The areas are aligned to 64 bytes and valid; the host has the instructions.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name(from: *const Area, to: *mut Area, rfbm: u64) {
            naked_asm!(
                "sub rsp, 8",
                "stmxcsr [rsp]",
                "mov eax, edx",
                "xor edx, edx",
                $restore,
                $save,
                "fninit",
                "vzeroupper",
                "ldmxcsr [rsp]",
                "add rsp, 8",
                "ret",
            )
        }
    };
}

restore_and_save!(host_fxsave64, "fxrstor64 [rdi]", "fxsave64 [rsi]");
restore_and_save!(host_fxsave, "fxrstor [rdi]", "fxsave [rsi]");
restore_and_save!(host_xsave, "xrstor64 [rdi]", "xsave64 [rsi]");
restore_and_save!(host_xsaveopt, "xrstor64 [rdi]", "xsaveopt64 [rsi]");
restore_and_save!(host_xsavec, "xrstor64 [rdi]", "xsavec64 [rsi]");

/// Random contents that no component has initially; `bv` in the header.
fn random_area(random: &mut Random, bv: u64, xcomp: u64) -> Area {
    let mut area = Area([0; 1024]);
    for chunk in area.0[..416].chunks_exact_mut(8) {
        chunk.copy_from_slice(&(random.next() | 1).to_le_bytes());
    }
    for chunk in area.0[576..832].chunks_exact_mut(8) {
        chunk.copy_from_slice(&(random.next() | 1).to_le_bytes());
    }
    area.0[..2].copy_from_slice(&0x27fu16.to_le_bytes());
    // Exception flags, all masked, and no summary.
    area.0[2] &= 0x7f;
    area.0[3] &= 0x7f;
    area.0[7] &= 7;
    area.0[24..28].copy_from_slice(&(0x1f80 | (random.next() as u32 & 0xe07f)).to_le_bytes());
    area.0[512..520].copy_from_slice(&bv.to_le_bytes());
    area.0[520..528].copy_from_slice(&xcomp.to_le_bytes());
    area
}

fn random_state(random: &mut Random) -> VectorState {
    let mut state = VectorState::default();
    let area = random_area(random, 7, 0);
    state.load_xsave(&area.0).expect("a valid area");
    state
}

/// Bytes in which processors differ: the pads of FTW and of each ST register, and the pointers, which
/// AMD's save only with a pending exception.
fn normalize(area: &mut Area) {
    area.0[5..24].fill(0);
    for i in 0..8 {
        area.0[32 + 16 * i + 10..32 + 16 * i + 16].fill(0);
    }
}

#[test]
fn fxsave_has_the_hosts_format() {
    let mut random = Random(77);
    for wide in [true, false] {
        for _ in 0..50 {
            let from = random_area(&mut random, 0, 0);
            let mut native = Area([0xa5; 1024]);
            let mut ours = native.clone();
            let run = if wide { host_fxsave64 } else { host_fxsave };
            // SAFETY: the areas are valid.
            unsafe { run(&raw const from, &raw mut native, 0) };
            let mode = AreaMode { long: true, wide };
            let mut state = random_state(&mut random);
            let image: [u8; 512] = from.0[..512].try_into().expect("512 bytes");
            state.fxrstor(&image, mode).expect("a valid image");
            let (image, len) = state.fxsave(mode);
            ours.0[..len].copy_from_slice(&image[..len]);
            // MXCSR_MASK has host features beyond those of the guest.
            ours.0[28..32].copy_from_slice(&native.0[28..32]);
            normalize(&mut native);
            normalize(&mut ours);
            assert_eq!(ours.0[..], native.0[..]);
        }
    }
}

type HostSave = unsafe extern "sysv64" fn(*const Area, *mut Area, u64);

fn check_xsave(form: XsaveForm, run: HostSave, compacted: bool) {
    let mut random = Random(78);
    for round in 0..256u64 {
        // Restoring a component that is not in XSTATE_BV makes it initial.
        let (rfbm, bv) = (round & 7, (round >> 3) & 7);
        let xcomp = if compacted { 1 << 63 | 7 } else { 0 };
        let from = random_area(&mut random, bv, xcomp);
        let mut native = Area([0xa5; 1024]);
        native.0[512..576].fill(0);
        let mut ours = native.clone();
        // SAFETY: the areas are valid and the caller knows that the host has the instructions.
        unsafe { run(&raw const from, &raw mut native, rfbm) };
        let mut state = random_state(&mut random);
        state.xrstor(&from.0, rfbm, 7, LONG, true).expect("a valid area");
        state
            .xsave::<()>(form, rfbm, LONG, 0, |at, bytes| {
                ours.0[at..at + bytes.len()].copy_from_slice(bytes);
                Ok(())
            })
            .expect("nothing fails");
        if ours.0[28..32] != [0xa5; 4] {
            ours.0[28..32].copy_from_slice(&native.0[28..32]);
        }
        normalize(&mut native);
        normalize(&mut ours);
        assert_eq!(ours.0[512..528], native.0[512..528], "header: {form:?} {rfbm:x} {bv:x}");
        if form != XsaveForm::Standard || bv & rfbm == rfbm {
            assert_eq!(ours.0[..], native.0[..], "{form:?} rfbm {rfbm:x} bv {bv:x}");
        }
    }
}

#[test]
fn xsave_has_the_hosts_format() {
    if is_x86_feature_detected!("xsave") && is_x86_feature_detected!("avx") {
        check_xsave(XsaveForm::Standard, host_xsave, false);
    }
    if is_x86_feature_detected!("xsaveopt") && is_x86_feature_detected!("avx") {
        check_xsave(XsaveForm::Optimized, host_xsaveopt, false);
    }
    if is_x86_feature_detected!("xsavec") && is_x86_feature_detected!("avx") {
        check_xsave(XsaveForm::Compacted, host_xsavec, false);
        check_xsave(XsaveForm::Compacted, host_xsavec, true);
    }
}

#[test]
fn x87_pointers_have_64_or_32_bits_and_selectors() {
    let pointers = X87Pointers {
        fop: 0x712,
        fcs: 0x33,
        fds: 0x2b,
        fip: 0x1122_3344_5566_7788,
        fdp: 0x99aa_bbcc_ddee_ff00,
    };
    let state = VectorState { pointers, ..VectorState::default() };
    for wide in [true, false] {
        let mode = AreaMode { long: true, wide };
        let (image, _) = state.fxsave(mode);
        let mut copy = VectorState::default();
        copy.fxrstor(&image, mode).expect("a valid image");
        let expected = if wide {
            X87Pointers { fcs: 0, fds: 0, ..pointers }
        } else {
            X87Pointers { fip: 0x5566_7788, fdp: 0xddee_ff00, ..pointers }
        };
        assert_eq!(copy.pointers, expected);
    }
}

#[test]
fn all_state_survives_get_and_set() {
    let mut random = Random(79);
    for _ in 0..20 {
        let state = random_state(&mut random);
        let mut copy = random_state(&mut random);
        copy.load_xsave(&state.to_xsave()).expect("a valid area");
        assert_eq!(copy.to_xsave(), state.to_xsave());
        assert_eq!(format!("{copy:?}"), format!("{state:?}"));
    }
    let reset = VectorState::default();
    let mut copy = random_state(&mut random);
    copy.load_xsave(&reset.to_xsave()).expect("a valid area");
    assert_eq!(format!("{copy:?}"), format!("{reset:?}"));
    assert_eq!(copy.pointers, X87Pointers::default());
}

#[test]
fn bad_areas_are_refused_and_change_nothing() {
    let mut random = Random(80);
    let good = random_area(&mut random, 7, 0);
    let state = random_state(&mut random);
    let refuse = |edit: &dyn Fn(&mut Area), xcr0: u64, expected: BadArea| {
        let mut area = good.clone();
        edit(&mut area);
        let mut copy = state.clone();
        assert_eq!(copy.xrstor(&area.0, 7, xcr0, LONG, true), Err(expected));
        assert_eq!(copy.to_xsave(), state.to_xsave());
    };
    refuse(&|a| a.0[26] = 1, 7, BadArea::Mxcsr);
    refuse(&|_| {}, 3, BadArea::Header);
    refuse(&|a| a.0[513] = 1, 7, BadArea::Header);
    refuse(&|a| a.0[520] = 1, 7, BadArea::Header);
    refuse(&|a| a.0[530] = 1, 7, BadArea::Header);
    // Compacted: component 2 is in use but not present, or reserved bytes are set.
    refuse(&|a| (a.0[520], a.0[527]) = (3, 0x80), 7, BadArea::Header);
    refuse(&|a| (a.0[520], a.0[527], a.0[560]) = (7, 0x80, 1), 7, BadArea::Header);
    let mut copy = state.clone();
    assert_eq!(copy.xrstor(&good.0[..600], 7, 7, LONG, true), Err(BadArea::Short));
    assert_eq!(copy.xrstor(&good.0[..100], 7, 7, LONG, true), Err(BadArea::Short));
    let error = copy.load_xsave(&[]).expect_err("no area");
    assert_eq!(error.errno, kvm_abi::Errno::EINVAL);
}

#[test]
fn outside_64_bit_mode_only_eight_registers_move() {
    let mut random = Random(81);
    let mode = AreaMode { long: false, wide: false };
    let from = random_area(&mut random, 7, 0);
    let before = random_state(&mut random);
    let mut state = before.clone();
    state.xrstor(&from.0, 7, 7, mode, true).expect("a valid area");
    assert_eq!(state.vec[8..], before.vec[8..]);
    assert_ne!(state.vec[7], before.vec[7]);
    let mut end = 0;
    let legacy_end = 160 + 8 * 16;
    state
        .xsave::<()>(XsaveForm::Standard, 7, mode, 0, |at, bytes| {
            assert!(at >= 512 || at + bytes.len() <= legacy_end);
            end = end.max(at + bytes.len());
            Ok(())
        })
        .expect("nothing fails");
    assert_eq!(end, 576 + 8 * 16);
}

#[test]
fn key_rights_lie_where_cpuid_says() {
    let mut state = VectorState { pkru: 0x5555_5554, ..VectorState::default() };
    let area = state.to_xsave();
    assert_eq!(area[2688..2696], [0x54, 0x55, 0x55, 0x55, 0, 0, 0, 0]);
    assert_eq!(area[513], 2);
    let mut copy = VectorState::default();
    copy.load_xsave(&area).expect("a valid area");
    assert_eq!(copy.pkru, 0x5555_5554);
    // Compacted they follow what is there, and are initial where XSTATE_BV does not name them.
    for (rfbm, at) in [(0x200, 576), (0x204, 832)] {
        let mut area = [0; 1024];
        state
            .xsave::<()>(XsaveForm::Compacted, rfbm, LONG, 0, |at, bytes| {
                area[at..at + bytes.len()].copy_from_slice(bytes);
                Ok(())
            })
            .expect("nothing fails");
        assert_eq!(area[at..at + 4], 0x5555_5554u32.to_le_bytes());
        copy.pkru = 1;
        copy.xrstor(&area, rfbm, 0x207, LONG, true).expect("a valid area");
        assert_eq!(copy.pkru, 0x5555_5554);
        let short = &area[..at + 4];
        assert_eq!(copy.xrstor(short, rfbm, 0x207, LONG, true), Err(BadArea::Short));
    }
    state.pkru = 0;
    copy.load_xsave(&state.to_xsave()).expect("a valid area");
    assert_eq!(copy.pkru, 0);
}
