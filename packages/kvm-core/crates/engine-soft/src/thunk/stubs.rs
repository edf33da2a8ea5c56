//! The assembler around the one-instruction thunks.
//!
//! A thunk is one instruction with fixed registers and a `ret`, 16 bytes at
//! `kvm_thunk_bodies + 16 * slot`, assembled by the build script. A stub loads the fixed registers,
//! calls the thunk and stores them again. Operand `i` is `xmm(1+i)`, `r(8+i)` or `mm(1+i)`, memory is
//! `[rsi]`, RDI is never touched by a thunk.
//!
//! Nothing here is written at run time, and all addresses are relative to RIP.

use std::arch::{global_asm, naked_asm};

use super::state::{Vector, X87Image};

global_asm!(
    ".pushsection .text.kvm_thunk_bodies,\"ax\",@progbits",
    ".balign 64",
    ".globl kvm_thunk_bodies",
    ".hidden kvm_thunk_bodies",
    ".type kvm_thunk_bodies,@function",
    "kvm_thunk_bodies:",
    concat!(".incbin \"", env!("KVM_THUNKS"), "\""),
    ".size kvm_thunk_bodies, . - kvm_thunk_bodies",
    ".popsection",
);

unsafe extern "C" {
    fn kvm_thunk_bodies();
}

/// MXCSR to run with, and what it was after the instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MxcsrPair {
    pub run: u32,
    pub out: u32,
}

/// Registers for the frame stubs. The offsets are written in the assembler below.
#[repr(C, align(32))]
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    /// R8 to R11.
    pub gpr: [u64; 4],
    /// AH and AL as `lahf; seto al` leaves them, see [`pack_flags`].
    pub flags: u64,
    pub mxcsr: MxcsrPair,
    /// MM1 to MM3.
    pub mm: [u64; 3],
    pub pad: [u64; 4],
    /// XMM0 to XMM3.
    pub vec: [Vector; 4],
}

const _: () = assert!(std::mem::offset_of!(Frame, vec) == 128);

/// EFLAGS in the form that `add al, 127; sahf` loads.
pub(super) fn pack_flags(eflags: u64) -> u64 {
    ((eflags & 0xd5) << 8) | ((eflags >> 11) & 1)
}

/// EFLAGS from what `lahf; seto al` stored.
pub(super) fn unpack_flags(word: u64) -> u64 {
    ((word >> 8) & 0xd5) | ((word & 1) << 11)
}

/// Legacy SSE form: 16 bytes of operand 0, 1 and 2 are loaded, of operand 0 stored.
///
/// # Safety
/// All pointers are readable for 16 bytes, `op0` writable, `mem` is valid for what thunk `body` does
/// with it, and the host has the instruction.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn vector_sse(
    op0: *mut Vector,
    mem: *mut u8,
    op1: *const Vector,
    op2: *const Vector,
    unused: *const Vector,
    body: usize,
) {
    naked_asm!(
        "movups xmm1, [rdi]",
        "movups xmm2, [rdx]",
        "movups xmm3, [rcx]",
        "lea rax, [rip + {bodies}]",
        "add rax, r9",
        "call rax",
        "movups [rdi], xmm1",
        "ret",
        bodies = sym kvm_thunk_bodies,
    )
}

/// VEX form: 32 bytes of each operand are loaded, of operand 0 stored.
///
/// # Safety
/// As for [`vector_sse`] with 32 bytes; the host has AVX.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn vector_avx(
    op0: *mut Vector,
    mem: *mut u8,
    op1: *const Vector,
    op2: *const Vector,
    op3: *const Vector,
    body: usize,
) {
    naked_asm!(
        "vmovups ymm1, [rdi]",
        "vmovups ymm2, [rdx]",
        "vmovups ymm3, [rcx]",
        "vmovups ymm4, [r8]",
        "lea rax, [rip + {bodies}]",
        "add rax, r9",
        "call rax",
        "vmovups [rdi], ymm1",
        "vzeroupper",
        "ret",
        bodies = sym kvm_thunk_bodies,
    )
}

/// [`vector_sse`] with the guest's MXCSR.
///
/// # Safety
/// As for [`vector_sse`]; `mxcsr.run` masks all exceptions and has no reserved bit.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn vector_sse_mx(
    op0: *mut Vector,
    mem: *mut u8,
    op1: *const Vector,
    op2: *const Vector,
    mxcsr: *mut MxcsrPair,
    body: usize,
) {
    naked_asm!(
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "ldmxcsr [r8]",
        "movups xmm1, [rdi]",
        "movups xmm2, [rdx]",
        "movups xmm3, [rcx]",
        "lea rax, [rip + {bodies}]",
        "add rax, r9",
        "call rax",
        "movups [rdi], xmm1",
        "stmxcsr [r8 + 4]",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "ret",
        bodies = sym kvm_thunk_bodies,
    )
}

/// [`vector_avx`] with the guest's MXCSR and three operands.
///
/// # Safety
/// As for [`vector_avx`] and [`vector_sse_mx`].
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn vector_avx_mx(
    op0: *mut Vector,
    mem: *mut u8,
    op1: *const Vector,
    op2: *const Vector,
    mxcsr: *mut MxcsrPair,
    body: usize,
) {
    naked_asm!(
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "ldmxcsr [r8]",
        "vmovups ymm1, [rdi]",
        "vmovups ymm2, [rdx]",
        "vmovups ymm3, [rcx]",
        "lea rax, [rip + {bodies}]",
        "add rax, r9",
        "call rax",
        "vmovups [rdi], ymm1",
        "vzeroupper",
        "stmxcsr [r8 + 4]",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "ret",
        bodies = sym kvm_thunk_bodies,
    )
}

/// A stub that loads and stores a [`Frame`], with additional instructions before the thunk and
/// after it. The latter come after the flags were stored.
macro_rules! frame_stub {
    ($(#[$doc:meta])* $name:ident, [$($before:literal),*], [$($after:literal),*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `frame` is valid, `mem` is valid for what thunk `body` does with it, and the host has the
        /// instruction and the registers that the stub saves.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(frame: *mut Frame, mem: *mut u8, body: usize) {
            naked_asm!(
                "sub rsp, 24",
                "lea rax, [rip + {bodies}]",
                "add rax, rdx",
                "mov [rsp + 8], rax",
                $($before,)*
                "mov rcx, [rdi + 8]",
                "mov rdx, [rdi + 16]",
                "mov r8, [rdi + 24]",
                "mov r9, [rdi + 32]",
                "mov r10, [rdi + 40]",
                "mov r11, [rdi + 48]",
                "mov rax, [rdi + 56]",
                "add al, 127",
                "sahf",
                "mov rax, [rdi]",
                "call [rsp + 8]",
                "mov [rdi], rax",
                "lahf",
                "seto al",
                "mov [rdi + 56], rax",
                "mov [rdi + 8], rcx",
                "mov [rdi + 16], rdx",
                "mov [rdi + 24], r8",
                "mov [rdi + 32], r9",
                "mov [rdi + 40], r10",
                "mov [rdi + 48], r11",
                $($after,)*
                "add rsp, 24",
                "ret",
                bodies = sym kvm_thunk_bodies,
            )
        }
    };
}

frame_stub!(
    /// General registers and flags.
    frame_gpr, [], []
);
frame_stub!(
    /// General registers, flags and XMM0 to XMM3.
    frame_sse,
    [
        "movups xmm0, [rdi + 128]",
        "movups xmm1, [rdi + 160]",
        "movups xmm2, [rdi + 192]",
        "movups xmm3, [rdi + 224]"
    ],
    [
        "movups [rdi + 128], xmm0",
        "movups [rdi + 160], xmm1",
        "movups [rdi + 192], xmm2"
    ]
);
frame_stub!(
    /// General registers, flags and YMM0 to YMM3.
    frame_avx,
    [
        "vmovups ymm0, [rdi + 128]",
        "vmovups ymm1, [rdi + 160]",
        "vmovups ymm2, [rdi + 192]",
        "vmovups ymm3, [rdi + 224]"
    ],
    [
        "vmovups [rdi + 128], ymm0",
        "vmovups [rdi + 160], ymm1",
        "vmovups [rdi + 192], ymm2",
        "vzeroupper"
    ]
);
frame_stub!(
    /// `frame_sse` with the guest's MXCSR.
    frame_sse_mx,
    [
        "stmxcsr [rsp]",
        "ldmxcsr [rdi + 64]",
        "movups xmm0, [rdi + 128]",
        "movups xmm1, [rdi + 160]",
        "movups xmm2, [rdi + 192]",
        "movups xmm3, [rdi + 224]"
    ],
    [
        "movups [rdi + 128], xmm0",
        "movups [rdi + 160], xmm1",
        "movups [rdi + 192], xmm2",
        "stmxcsr [rdi + 68]",
        "ldmxcsr [rsp]"
    ]
);
frame_stub!(
    /// `frame_avx` with the guest's MXCSR.
    frame_avx_mx,
    [
        "stmxcsr [rsp]",
        "ldmxcsr [rdi + 64]",
        "vmovups ymm0, [rdi + 128]",
        "vmovups ymm1, [rdi + 160]",
        "vmovups ymm2, [rdi + 192]",
        "vmovups ymm3, [rdi + 224]"
    ],
    [
        "vmovups [rdi + 128], ymm0",
        "vmovups [rdi + 160], ymm1",
        "vmovups [rdi + 192], ymm2",
        "vzeroupper",
        "stmxcsr [rdi + 68]",
        "ldmxcsr [rsp]"
    ]
);
frame_stub!(
    /// MM1 to MM3, XMM1 to XMM2, general registers and MXCSR. Leaves the x87 stack empty, as the
    /// calling convention wants it.
    frame_mmx,
    [
        "stmxcsr [rsp]",
        "ldmxcsr [rdi + 64]",
        "movq mm1, [rdi + 72]",
        "movq mm2, [rdi + 80]",
        "movq mm3, [rdi + 88]",
        "movups xmm1, [rdi + 160]",
        "movups xmm2, [rdi + 192]"
    ],
    [
        "movq [rdi + 72], mm1",
        "movq [rdi + 80], mm2",
        "movups [rdi + 160], xmm1",
        "movups [rdi + 192], xmm2",
        "emms",
        "stmxcsr [rdi + 68]",
        "ldmxcsr [rsp]"
    ]
);

/// Loads the x87 state, runs one x87 instruction, saves the state and leaves the host's x87 unit
/// initialised with its own control word. FXSAVE and FNINIT do not wait, so that an exception that
/// the instruction left pending is never raised in the host.
///
/// # Safety
/// `image` is a valid FXSAVE image without a pending exception and with the reset MXCSR; `mem` is
/// valid for what thunk `body` does with it; `flags` points to packed flags.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn x87(
    image: *mut X87Image,
    mem: *mut u8,
    body: usize,
    flags: *mut u64,
) {
    naked_asm!(
        "sub rsp, 24",
        "fnstcw [rsp]",
        "stmxcsr [rsp + 4]",
        "lea r8, [rip + {bodies}]",
        "add r8, rdx",
        "fxrstor64 [rdi]",
        "mov rax, [rcx]",
        "add al, 127",
        "sahf",
        "call r8",
        "lahf",
        "seto al",
        "mov [rcx], rax",
        "fxsave64 [rdi]",
        "fninit",
        "fldcw [rsp]",
        "ldmxcsr [rsp + 4]",
        "add rsp, 24",
        "ret",
        bodies = sym kvm_thunk_bodies,
    )
}
