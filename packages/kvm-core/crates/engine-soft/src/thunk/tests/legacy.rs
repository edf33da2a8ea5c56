//! x87 and MMX forms by their thunks and directly.

use iced_x86::{Code, OpKind};

use super::super::kinds::kind;
use super::super::state::{FSW_ES, VectorState};
use super::super::table::{FORMS, Form};
use super::super::*;
use super::differential::{assert_same, emulate, random_state};
use super::native::{Native, Page, encode};
use super::random::{Random, instruction};

/// An extended-precision number that is often special.
fn extended(random: &mut Random) -> [u8; 16] {
    let (exponent, mantissa) = match random.below(8) {
        0 => (0, 0),
        1 => (0x3fff, 1 << 63),
        2 => (0x7fff, 1 << 63),
        3 => (0x7fff, random.next()),
        4 => (0, random.next()),
        5 => (0x3fff + (random.next() & 63) - 20, random.next() | 1 << 63),
        6 => (0x3fff + (random.next() & 0xfff) - 0x800, random.next() | 1 << 63),
        _ => (random.next() & 0x7fff, random.next()),
    };
    let sign = random.next() & 0x8000;
    let mut st = [0; 16];
    st[..8].copy_from_slice(&u64::to_le_bytes(mantissa));
    st[8..10].copy_from_slice(&u16::to_le_bytes((exponent | sign) as u16));
    st
}

/// Random x87 registers without a pending exception.
fn random_x87(random: &mut Random, native: &mut Native, state: &mut VectorState, unmask: bool) {
    let image = &mut state.x87;
    image.fcw = 0x37f & !(random.next() as u16 & 0x300) | (random.next() as u16 & 0xc00);
    if unmask {
        image.fcw &= !(random.next() as u16 & 0x3f);
    }
    image.fsw = random.next() as u16 & 0x7f7f & !(0x3f & !image.fcw);
    image.ftw = random.next() as u8 | random.next() as u8;
    for st in &mut image.st {
        *st = extended(random);
    }
    native.fx[..2].copy_from_slice(&image.fcw.to_le_bytes());
    native.fx[2..4].copy_from_slice(&image.fsw.to_le_bytes());
    native.fx[4] = image.ftw;
    for (st, out) in image.st.iter().zip(native.fx[32..160].chunks_exact_mut(16)) {
        out.copy_from_slice(st);
    }
    // Doubles and BCD in memory come from random_state; put an extended number in there sometimes.
    if random.next() & 1 << 50 != 0 {
        native.mem[..16].copy_from_slice(&extended(random));
    }
}

fn assert_same_x87(text: &str, state: &VectorState, native: &Native) {
    let image = &state.x87;
    assert_eq!(image.fcw.to_le_bytes(), native.fx[..2], "FCW: {text}");
    assert_eq!(image.fsw.to_le_bytes(), native.fx[2..4], "FSW: {text}");
    assert_eq!(image.ftw, native.fx[4], "FTW: {text}");
    for (i, (st, out)) in image.st.iter().zip(native.fx[32..160].chunks_exact(16)).enumerate() {
        assert_eq!(st[..10], out[..10], "ST({i}): {text}");
    }
}

fn check(form: &Form, random: &mut Random, page: &Page, unmask: bool) {
    let instr = instruction(form, random);
    let bytes = encode(&instr);
    let mut native = Native::default();
    let mut state = VectorState::default();
    random_state(random, &mut native, &mut state);
    random_x87(random, &mut native, &mut state, unmask);
    let before = format!(
        "{:?} {bytes:02x?} FCW {:x} FSW {:x} FTW {:x} ST {:02x?} memory {:02x?}",
        form.code,
        state.x87.fcw,
        state.x87.fsw,
        state.x87.ftw,
        state.x87.st,
        &native.mem[..16]
    );
    native.mxcsr = 0x1f80 | (random.next() as u32 & 0xe07f);
    assert!(state.set_mxcsr(native.mxcsr));
    let (result, ours) = emulate(&bytes, &native, &mut state);
    assert_eq!(result, Ok(()), "{instr:?}");
    page.run(&bytes, &mut native);
    // Processors differ in whether CVTPI2PS from memory changes to the MMX state.
    if form.code != Code::Cvtpi2ps_xmm_mmm64 || instr.op1_kind() == OpKind::Register {
        assert_same_x87(&before, &state, &native);
    }
    assert_same(&bytes, &before, &ours, &native);
}

fn check_all(kinds: &[u8], rounds: usize, unmask: bool) -> usize {
    let host = HostCpu::detect();
    let page = Page::new();
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut tested = 0;
    let forms = FORMS.iter().filter(|form| host.has(form.feature));
    for form in forms.filter(|form| kinds.contains(&form.kind)) {
        for _ in 0..rounds {
            check(form, &mut random, &page, unmask);
        }
        tested += 1;
    }
    tested
}

#[test]
fn mmx_forms_give_what_the_host_gives() {
    assert!(check_all(&[kind::MMX, kind::EMMS], 200, false) > 90);
}

#[test]
fn x87_forms_give_what_the_host_gives() {
    assert!(check_all(&[kind::X87], 400, false) > 100);
}

#[test]
fn x87_forms_with_unmasked_exceptions_give_what_the_host_gives() {
    assert!(check_all(&[kind::X87], 400, true) > 100);
}

#[test]
fn x87_control_forms_give_what_the_host_gives() {
    let kinds = [
        kind::FNINIT,
        kind::FNCLEX,
        kind::FNSTCW,
        kind::FLDCW,
        kind::FNSTSW,
        kind::FNSTENV,
        kind::FLDENV,
        kind::FNSAVE,
        kind::FRSTOR,
        kind::FNOP_OLD,
        kind::FWAIT,
    ];
    assert!(check_all(&kinds, 400, true) >= 16);
}

#[test]
fn a_pending_exception_comes_before_a_waiting_instruction() {
    let mut state = VectorState::default();
    state.x87.fcw = 0x340;
    state.set_fsw(1);
    assert!(state.x87_pending());
    assert_ne!(state.x87.fsw & FSW_ES, 0);
    // fwait; fld1; emms; paddb mm0, mm1; fnstsw ax; fnclex
    for (bytes, waits) in [
        (&[0x9b][..], true),
        (&[0xd9, 0xe8], true),
        (&[0x0f, 0x77], true),
        (&[0x0f, 0xfc, 0xc1], true),
        (&[0xdf, 0xe0], false),
        (&[0xdb, 0xe2], false),
    ] {
        let (result, _) = emulate(bytes, &Native::default(), &mut state.clone());
        let expected = if waits { Err(VecFault::X87) } else { Ok(()) };
        assert_eq!(result, expected, "{bytes:02x?}");
    }
}
