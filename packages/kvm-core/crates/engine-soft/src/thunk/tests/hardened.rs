//! Hosts with less: no right to make memory executable, no AVX.

use iced_x86::{Decoder, DecoderOptions};

use super::super::*;
use super::native::Native;

fn decode(bytes: &[u8]) -> iced_x86::Instruction {
    Decoder::new(64, bytes, DecoderOptions::NONE).decode()
}

/// addps xmm1, xmm2; vaddps ymm1, ymm1, ymm2; fsqrt; paddb mm0, mm1; andn rax, rcx, rdx.
const SAMPLES: [&[u8]; 5] = [
    &[0x0f, 0x58, 0xca],
    &[0xc5, 0xf4, 0x58, 0xca],
    &[0xd9, 0xfa],
    &[0x0f, 0xfc, 0xc1],
    &[0xc4, 0xe2, 0xf0, 0xf2, 0xc2],
];

#[test]
fn thunks_work_where_executable_mappings_are_denied() {
    const PR_SET_MDWE: libc::c_int = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    let host = HostCpu::detect();
    let ops: Vec<_> = SAMPLES.iter().filter_map(|bytes| prepare(&decode(bytes), &host)).collect();
    // SAFETY: the child only calls prctl, mmap, thunks and _exit, none of which allocates.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            let denied = libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0;
            let page = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            // Kernels before 6.3 cannot deny it; the thunks do not ask either way.
            if denied && page != libc::MAP_FAILED {
                libc::_exit(1);
            }
        }
        let mut state = VectorState::default();
        let mut scratch = Scratch::default();
        let mut gpr = [5; 32];
        for op in &ops {
            let mut io = Operands {
                mem: &mut scratch,
                gpr: &mut gpr,
                flags: 0,
                x87: X87Pointers::default(),
                real_format: false,
                store: true,
            };
            if execute(op, &mut state, &mut io).is_err() {
                // SAFETY: ends the child.
                unsafe { libc::_exit(2) };
            }
        }
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for our child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "the child died: {status:x}");
    assert_eq!(libc::WEXITSTATUS(status), 0);
}

#[test]
fn what_the_host_lacks_is_not_prepared() {
    let host = HostCpu::detect().without(Feature::AVX).without(Feature::BMI1);
    let prepared: Vec<_> =
        SAMPLES.iter().map(|bytes| prepare(&decode(bytes), &host).is_some()).collect();
    assert_eq!(prepared, [true, false, true, true, false]);
    // nop, mov eax, ecx: not ours.
    assert!(prepare(&decode(&[0x90]), &host).is_none());
    assert!(prepare(&decode(&[0x89, 0xc8]), &host).is_none());
}

#[test]
fn the_hosts_own_state_survives() {
    let (mut cw, mut mxcsr) = (0u16, 0u32);
    let mut read = || {
        // SAFETY: both only store.
        unsafe {
            std::arch::asm!("fnstcw [{}]", "stmxcsr [{}]", in(reg) &raw mut cw, in(reg) &raw mut mxcsr);
        }
        (cw, mxcsr & 0xffc0)
    };
    let before = read();
    for bytes in SAMPLES {
        let mut state = VectorState::default();
        assert!(state.set_mxcsr(0xff80));
        state.fninit();
        let (result, _) = super::differential::emulate(bytes, &Native::default(), &mut state);
        assert_eq!(result, Ok(()));
    }
    assert_eq!(read(), before);
}
