//! Every form, with random operands, by its thunk and directly.

use iced_x86::{Decoder, DecoderOptions};

use super::super::kinds::kind;
use super::super::table::{FORMS, Form};
use super::super::*;
use super::native::{Native, Page, encode};
use super::random::{Random, instruction};

/// A state in both forms.
pub fn random_state(random: &mut Random, native: &mut Native, state: &mut VectorState) {
    for (native, ours) in native.vec.iter_mut().zip(&mut state.vec) {
        *native = std::array::from_fn(|_| random.word());
        ours.0 = *native;
    }
    for gpr in &mut native.gpr {
        *gpr = random.word();
    }
    (native.gpr[4], native.gpr[7]) = (0, 0);
    native.flags = 2 | (random.next() & 0x8d5);
    for chunk in native.mem.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.word().to_le_bytes());
    }
}

/// Executes with the thunk what `native` describes.
pub fn emulate(
    bytes: &[u8],
    native: &Native,
    state: &mut VectorState,
) -> (Result<(), VecFault>, Native) {
    let instr = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    let op = prepare(&instr, &HostCpu::detect()).expect("the host has it").with_bytes(bytes);
    let mut out = native.clone();
    let mut gpr = [0; 32];
    gpr[..16].copy_from_slice(&native.gpr);
    let mut scratch = Scratch::default();
    let mem = op.mem();
    if let Some(mem) = mem
        && mem.read
    {
        let len = usize::from(mem.bytes);
        scratch.0[..len].copy_from_slice(&native.mem[..len]);
    }
    let mut io = Operands {
        mem: &mut scratch,
        gpr: &mut gpr,
        flags: native.flags,
        x87: X87Pointers::default(),
        real_format: false,
        store: true,
    };
    let result = execute(&op, state, &mut io);
    let (flags, store) = (io.flags, io.store);
    assert_eq!((flags ^ native.flags) & !op.flags_written(), 0, "{op:?}");
    out.flags = flags;
    out.gpr.copy_from_slice(&gpr[..16]);
    if let Some(mem) = mem
        && mem.write
        && store
        && result.is_ok()
    {
        let len = usize::from(mem.bytes);
        out.mem[..len].copy_from_slice(&scratch.0[..len]);
    }
    for (native, ours) in out.vec.iter_mut().zip(&state.vec) {
        *native = ours.0;
    }
    out.mxcsr_out = state.mxcsr();
    (result, out)
}

pub fn assert_same(bytes: &[u8], text: &str, ours: &Native, native: &Native) {
    assert_eq!(ours.vec, native.vec, "vectors: {text} {bytes:02x?}");
    assert_eq!(ours.gpr, native.gpr, "registers: {text} {bytes:02x?}");
    assert_eq!(ours.flags & 0x8d5, native.flags & 0x8d5, "flags: {text} {bytes:02x?}");
    assert_eq!(ours.mxcsr_out, native.mxcsr_out, "mxcsr: {text} {bytes:02x?}");
    assert_eq!(ours.mem, native.mem, "memory: {text} {bytes:02x?}");
}

fn check(form: &Form, random: &mut Random, page: &Page) {
    let instr = instruction(form, random);
    let bytes = encode(&instr);
    let mut native = Native::default();
    let mut state = VectorState::default();
    random_state(random, &mut native, &mut state);
    native.mxcsr = 0x1f80 | (random.next() as u32 & 0xe07f);
    assert!(state.set_mxcsr(native.mxcsr));
    let (result, ours) = emulate(&bytes, &native, &mut state);
    assert_eq!(result, Ok(()), "{instr:?}");
    page.run(&bytes, &mut native);
    assert_same(&bytes, &format!("{:?}", form.code), &ours, &native);
}

#[test]
fn every_form_gives_what_the_host_gives() {
    let host = HostCpu::detect();
    let page = Page::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut tested = 0;
    for form in FORMS.iter().filter(|form| host.has(form.feature)) {
        let here = matches!(
            form.kind,
            kind::VEC
                | kind::MIXED
                | kind::MOVE
                | kind::LOAD_LOW
                | kind::STORE_LOW
                | kind::STORE_GPR
                | kind::BYTE_MASK
                | kind::ZERO_ALL
                | kind::ZERO_UPPER
                | kind::FENCE
                | kind::STMXCSR
        );
        if here {
            let rounds = if form.bits & super::super::kinds::bit::BY_IMM != 0 { 400 } else { 100 };
            for _ in 0..rounds {
                check(form, &mut random, &page);
            }
            tested += 1;
        }
    }
    assert!(tested > 700, "only {tested} forms");
}
