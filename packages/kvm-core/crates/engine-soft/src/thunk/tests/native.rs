//! Runs one instruction directly on the host CPU, with any registers, from a page that is made
//! executable for the test.

use std::arch::naked_asm;
use std::ptr;

use iced_x86::{Encoder, Instruction};

/// All registers. The offsets are written in the assembler below.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Native {
    pub vec: [[u64; 4]; 16],
    pub gpr: [u64; 16],
    pub flags: u64,
    pub mxcsr: u32,
    pub mxcsr_out: u32,
    host_mxcsr: u64,
    pad: [u64; 5],
    pub fx: [u8; 512],
    pub mem: [u8; 128],
}

const _: () = assert!(std::mem::offset_of!(Native, fx) == 704);

impl Default for Native {
    fn default() -> Self {
        let mut fx = [0; 512];
        fx[..2].copy_from_slice(&0x37fu16.to_le_bytes());
        fx[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        Self {
            vec: [[0; 4]; 16],
            gpr: [0; 16],
            flags: 2,
            mxcsr: 0x1f80,
            mxcsr_out: 0,
            host_mxcsr: 0,
            pad: [0; 5],
            fx,
            mem: [0; 128],
        }
    }
}

/// # Safety
/// `code` is one instruction and a `ret`; RDI and RSP stay as they are.
#[unsafe(naked)]
unsafe extern "sysv64" fn run(state: *mut Native, code: *const u8) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 24",
        "mov [rsp], rdi",
        "mov [rsp + 8], rsi",
        "stmxcsr [rdi + 656]",
        "fxrstor64 [rdi + 704]",
        "ldmxcsr [rdi + 648]",
        "vmovups ymm0, [rdi]",
        "vmovups ymm1, [rdi + 32]",
        "vmovups ymm2, [rdi + 64]",
        "vmovups ymm3, [rdi + 96]",
        "vmovups ymm4, [rdi + 128]",
        "vmovups ymm5, [rdi + 160]",
        "vmovups ymm6, [rdi + 192]",
        "vmovups ymm7, [rdi + 224]",
        "vmovups ymm8, [rdi + 256]",
        "vmovups ymm9, [rdi + 288]",
        "vmovups ymm10, [rdi + 320]",
        "vmovups ymm11, [rdi + 352]",
        "vmovups ymm12, [rdi + 384]",
        "vmovups ymm13, [rdi + 416]",
        "vmovups ymm14, [rdi + 448]",
        "vmovups ymm15, [rdi + 480]",
        "push [rdi + 640]",
        "popfq",
        "mov rax, [rdi + 512]",
        "mov rcx, [rdi + 520]",
        "mov rdx, [rdi + 528]",
        "mov rbx, [rdi + 536]",
        "mov rbp, [rdi + 552]",
        "mov rsi, [rdi + 560]",
        "mov r8, [rdi + 576]",
        "mov r9, [rdi + 584]",
        "mov r10, [rdi + 592]",
        "mov r11, [rdi + 600]",
        "mov r12, [rdi + 608]",
        "mov r13, [rdi + 616]",
        "mov r14, [rdi + 624]",
        "mov r15, [rdi + 632]",
        "mov rdi, [rdi + 568]",
        "call [rsp + 8]",
        "mov rdi, [rsp]",
        "mov [rdi + 512], rax",
        "mov [rdi + 520], rcx",
        "mov [rdi + 528], rdx",
        "mov [rdi + 536], rbx",
        "mov [rdi + 552], rbp",
        "mov [rdi + 560], rsi",
        "mov [rdi + 576], r8",
        "mov [rdi + 584], r9",
        "mov [rdi + 592], r10",
        "mov [rdi + 600], r11",
        "mov [rdi + 608], r12",
        "mov [rdi + 616], r13",
        "mov [rdi + 624], r14",
        "mov [rdi + 632], r15",
        "pushfq",
        "pop [rdi + 640]",
        "vmovups [rdi], ymm0",
        "vmovups [rdi + 32], ymm1",
        "vmovups [rdi + 64], ymm2",
        "vmovups [rdi + 96], ymm3",
        "vmovups [rdi + 128], ymm4",
        "vmovups [rdi + 160], ymm5",
        "vmovups [rdi + 192], ymm6",
        "vmovups [rdi + 224], ymm7",
        "vmovups [rdi + 256], ymm8",
        "vmovups [rdi + 288], ymm9",
        "vmovups [rdi + 320], ymm10",
        "vmovups [rdi + 352], ymm11",
        "vmovups [rdi + 384], ymm12",
        "vmovups [rdi + 416], ymm13",
        "vmovups [rdi + 448], ymm14",
        "vmovups [rdi + 480], ymm15",
        "stmxcsr [rdi + 652]",
        "fxsave64 [rdi + 704]",
        "fninit",
        "ldmxcsr [rdi + 656]",
        "vzeroupper",
        "cld",
        "add rsp, 24",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// A page for one instruction at a time.
pub struct Page(*mut u8);

impl Page {
    pub fn new() -> Self {
        // SAFETY: a new private mapping.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED, "the differential tests need an executable page");
        Self(page.cast())
    }

    /// Encodes `instr`, runs it and gives its bytes. A memory operand must be `[rdi]`.
    pub fn run(&self, bytes: &[u8], state: &mut Native) {
        // SAFETY: the page has room for one instruction; it is ours alone.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.0, bytes.len());
            self.0.add(bytes.len()).write(0xc3);
        }
        state.gpr[7] = (&raw const state.mem) as u64;
        state.gpr[4] = 0;
        // SAFETY: callers encode single data instructions.
        unsafe { run(state, self.0) };
        state.gpr[7] = 0;
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.0.cast(), 4096) };
    }
}

pub fn encode(instr: &Instruction) -> Vec<u8> {
    let mut encoder = Encoder::new(64);
    encoder.encode(instr, 0).unwrap_or_else(|error| panic!("{:?}: {error}", instr.code()));
    encoder.take_buffer()
}
