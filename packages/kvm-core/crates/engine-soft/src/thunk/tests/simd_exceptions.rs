//! Unmasked SIMD exceptions: what the host delivers as SIGFPE is what we report.

use std::cell::Cell;
use std::ptr;

use super::super::kinds::bit;
use super::super::table::{FORMS, Form};
use super::super::*;
use super::differential::{assert_same, emulate, random_state};
use super::native::{Native, Page, encode};
use super::random::{Random, instruction};

thread_local! {
    static RAISED: Cell<bool> = const { Cell::new(false) };
}

/// True if this thread met SIGFPE, which only instructions run directly may raise.
pub fn raised() -> bool {
    RAISED.get()
}

/// Skips the instruction, which is followed by a `ret`: returns to the caller of the page.
extern "C" fn on_sigfpe(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    RAISED.set(true);
    // SAFETY: the kernel gives a valid context; RSP points to the page's return address.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let rsp = registers[libc::REG_RSP as usize];
        registers[libc::REG_RIP as usize] = *(rsp as *const i64);
        registers[libc::REG_RSP as usize] = rsp + 8;
    }
}

pub fn catch_sigfpe() {
    // SAFETY: a handler with the right signature; only this test raises SIGFPE.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigfpe as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGFPE, &raw const action, ptr::null_mut()), 0);
    }
}

fn check(form: &Form, random: &mut Random, page: &Page) -> bool {
    let instr = instruction(form, random);
    let bytes = encode(&instr);
    let mut native = Native::default();
    let mut state = VectorState::default();
    random_state(random, &mut native, &mut state);
    // Any masks, DAZ, FTZ and rounding, and sometimes flags that are already set.
    native.mxcsr = random.next() as u32 & 0xffc0;
    if random.below(4) == 0 {
        native.mxcsr |= random.next() as u32 & 0x3f & (native.mxcsr >> 7);
    }
    assert!(state.set_mxcsr(native.mxcsr));
    let text = format!(
        "{:?} {} MXCSR {:x} {:x?}",
        form.code,
        instr.op1_register() as u32,
        native.mxcsr,
        native.vec
    );
    let before = state.clone();
    let (result, mut ours) = emulate(&bytes, &native, &mut state);
    RAISED.set(false);
    page.run(&bytes, &mut native);
    let expected = if RAISED.get() { Err(VecFault::Simd) } else { Ok(()) };
    assert_eq!(result, expected, "{text} {bytes:02x?} {:x}", native.mxcsr_out);
    // A dot product is several operations, the flags of the ones before the exception stay.
    if result.is_err() && form.code.op_code().instruction_string().contains("DPP") {
        ours.mxcsr_out = native.mxcsr_out;
    }
    // With an overflow or underflow that is delivered, the host sets the precision flag as if the
    // exponent had no bounds; ours may be set without need.
    let delivered = native.mxcsr_out & !(native.mxcsr >> 7) & 0x18;
    if delivered != 0 && native.mxcsr_out & 0x20 == 0 {
        ours.mxcsr_out &= !0x20;
    }
    assert_same(&bytes, &text, &ours, &native);
    if result.is_err() {
        assert_eq!(state.vec, before.vec);
    }
    result.is_err()
}

#[test]
fn unmasked_exceptions_are_the_hosts() {
    catch_sigfpe();
    let host = HostCpu::detect();
    let page = Page::new();
    let mut random = Random(4242);
    let mut raised = 0;
    let forms = FORMS
        .iter()
        .filter(|form| form.bits & (bit::MXCSR | bit::MMX_STATE) == bit::MXCSR)
        .filter(|form| host.has(form.feature));
    for form in forms {
        for _ in 0..100 {
            raised += u32::from(check(form, &mut random, &page));
        }
    }
    assert!(raised > 500, "only {raised} exceptions");
}

#[test]
fn an_exact_tiny_half_raises_unmasked_underflow() {
    // vcvtps2ph xmm0, xmm1, 0: flushing to zero, which tells of tiny results, has no effect on it.
    const BYTES: [u8; 6] = [0xc4, 0xe3, 0x79, 0x1d, 0xc8, 0];
    if !HostCpu::detect().has(super::super::host::Feature::F16C) {
        return;
    }
    catch_sigfpe();
    let page = Page::new();
    // -2^-24, the smallest there is; 2^-14, the smallest that is not tiny; masked underflow.
    for (number, mxcsr, fault) in
        [(0xb380_0000, 0x1780, true), (0x3880_0000, 0x1780, false), (0xb380_0000, 0x1f80, false)]
    {
        let mut native = Native::default();
        native.mxcsr = mxcsr;
        native.vec[1][0] = number;
        let mut state = VectorState::default();
        for (ours, theirs) in state.vec.iter_mut().zip(&native.vec) {
            ours.0 = *theirs;
        }
        assert!(state.set_mxcsr(mxcsr));
        let (result, ours) = emulate(&BYTES, &native, &mut state);
        RAISED.set(false);
        page.run(&BYTES, &mut native);
        assert_eq!((result.is_err(), RAISED.get()), (fault, fault), "{number:#x} {mxcsr:#x}");
        assert_same(&BYTES, "vcvtps2ph", &ours, &native);
    }
}
