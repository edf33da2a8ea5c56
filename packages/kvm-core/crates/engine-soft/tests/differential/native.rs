//! The host CPU as the reference: runs code in this process from a given user state.
//!
//! The state is loaded with XRSTOR, segment bases and a final IRETQ, which also switches to the
//! compatibility mode where the code is 32-bit. Whatever ends the code (the INT3 that fills the code
//! pages, or a fault) arrives as a signal on an alternate stack; its frame is the state afterwards.
//! The handler never returns to the code: it continues where the state was loaded.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layout::{CODE, HIGH, LOW, MAP, PAGE, PAGES, Permission};
use super::state::{AREA, Area, Event, Outcome, State};

#[repr(C)]
struct Transfer {
    gpr: [u64; 16],
    /// RIP, CS, RFLAGS, RSP, SS: what IRETQ pops.
    frame: [u64; 5],
    fs_base: u64,
    gs_base: u64,
    area: *const Area,
    /// DS, ES, FS, GS.
    segments: [u16; 4],
    host_rsp: u64,
    host_fs_base: u64,
    host_gs_base: u64,
    host_segments: [u16; 4],
    seen_fs_base: u64,
    seen_gs_base: u64,
    seen_segments: [u16; 4],
}

unsafe extern "C" {
    static mut difftest_transfer: Transfer;
    fn difftest_enter();
    fn difftest_signal();
}

std::arch::global_asm!(
    ".bss",
    ".balign 64",
    ".globl difftest_transfer",
    ".hidden difftest_transfer",
    "difftest_transfer: .skip 512",
    ".text",
    ".set T, difftest_transfer",
    ".globl difftest_enter",
    ".hidden difftest_enter",
    "difftest_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + T + {host_rsp}], rsp",
    "rdfsbase rax",
    "mov [rip + T + {host_fs_base}], rax",
    "rdgsbase rax",
    "mov [rip + T + {host_gs_base}], rax",
    "mov [rip + T + {host_segments}], ds",
    "mov [rip + T + {host_segments} + 2], es",
    "mov [rip + T + {host_segments} + 4], fs",
    "mov [rip + T + {host_segments} + 6], gs",
    // AVX-512 and newer components are put into their initial state.
    "mov eax, 0xe7",
    "xor edx, edx",
    "mov rbx, [rip + T + {area}]",
    "xrstor64 [rbx]",
    "movzx eax, word ptr [rip + T + {segments}]",
    "mov ds, eax",
    "movzx eax, word ptr [rip + T + {segments} + 2]",
    "mov es, eax",
    "movzx eax, word ptr [rip + T + {segments} + 4]",
    "mov fs, eax",
    "movzx eax, word ptr [rip + T + {segments} + 6]",
    "mov gs, eax",
    "mov rax, [rip + T + {fs_base}]",
    "wrfsbase rax",
    "mov rax, [rip + T + {gs_base}]",
    "wrgsbase rax",
    "mov rax, [rip + T + {gpr}]",
    "mov rcx, [rip + T + {gpr} + 8]",
    "mov rdx, [rip + T + {gpr} + 16]",
    "mov rbx, [rip + T + {gpr} + 24]",
    "mov rbp, [rip + T + {gpr} + 40]",
    "mov rsi, [rip + T + {gpr} + 48]",
    "mov rdi, [rip + T + {gpr} + 56]",
    "mov r8, [rip + T + {gpr} + 64]",
    "mov r9, [rip + T + {gpr} + 72]",
    "mov r10, [rip + T + {gpr} + 80]",
    "mov r11, [rip + T + {gpr} + 88]",
    "mov r12, [rip + T + {gpr} + 96]",
    "mov r13, [rip + T + {gpr} + 104]",
    "mov r14, [rip + T + {gpr} + 112]",
    "mov r15, [rip + T + {gpr} + 120]",
    "lea rsp, [rip + T + {frame}]",
    "iretq",
    ".globl difftest_signal",
    ".hidden difftest_signal",
    // Flags, segments and bases are still those of the code under test.
    "difftest_signal:",
    "pushfq",
    "and qword ptr [rsp], ~0x44400",
    "popfq",
    "rdfsbase rax",
    "mov [rip + T + {seen_fs_base}], rax",
    "rdgsbase rax",
    "mov [rip + T + {seen_gs_base}], rax",
    "mov [rip + T + {seen_segments}], ds",
    "mov [rip + T + {seen_segments} + 2], es",
    "mov [rip + T + {seen_segments} + 4], fs",
    "mov [rip + T + {seen_segments} + 6], gs",
    "movzx eax, word ptr [rip + T + {host_segments}]",
    "mov ds, eax",
    "movzx eax, word ptr [rip + T + {host_segments} + 2]",
    "mov es, eax",
    "movzx eax, word ptr [rip + T + {host_segments} + 4]",
    "mov fs, eax",
    "movzx eax, word ptr [rip + T + {host_segments} + 6]",
    "mov gs, eax",
    "mov rax, [rip + T + {host_fs_base}]",
    "wrfsbase rax",
    "mov rax, [rip + T + {host_gs_base}]",
    "wrgsbase rax",
    "call {caught}",
    "mov rsp, [rip + T + {host_rsp}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    gpr = const std::mem::offset_of!(Transfer, gpr),
    frame = const std::mem::offset_of!(Transfer, frame),
    fs_base = const std::mem::offset_of!(Transfer, fs_base),
    gs_base = const std::mem::offset_of!(Transfer, gs_base),
    area = const std::mem::offset_of!(Transfer, area),
    segments = const std::mem::offset_of!(Transfer, segments),
    host_rsp = const std::mem::offset_of!(Transfer, host_rsp),
    host_fs_base = const std::mem::offset_of!(Transfer, host_fs_base),
    host_gs_base = const std::mem::offset_of!(Transfer, host_gs_base),
    host_segments = const std::mem::offset_of!(Transfer, host_segments),
    seen_fs_base = const std::mem::offset_of!(Transfer, seen_fs_base),
    seen_gs_base = const std::mem::offset_of!(Transfer, seen_gs_base),
    seen_segments = const std::mem::offset_of!(Transfer, seen_segments),
    caught = sym caught,
);

const _: () = assert!(size_of::<Transfer>() <= 512);

/// What the handler found.
struct Caught {
    gregs: [i64; 23],
    area: Area,
}

static mut CAUGHT: Caught = Caught { gregs: [0; 23], area: Area([0; 4096]) };
/// True while code under test runs: any other fault is this program's own.
static RUNNING: AtomicBool = AtomicBool::new(false);
/// The seed of the present case, for the message of last resort.
pub static CASE: AtomicU64 = AtomicU64::new(0);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn transfer_block() -> *mut Transfer {
    &raw mut difftest_transfer
}

fn caught_block() -> *mut Caught {
    &raw mut CAUGHT
}

/// Copies the signal frame. Called by the assembly stub on the alternate stack.
extern "C" fn caught(signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    if !RUNNING.swap(false, Ordering::Relaxed) || signal == libc::SIGALRM {
        give_up(signal);
    }
    // SAFETY: the kernel passes a valid context; the stub runs on one thread at a time.
    unsafe {
        let machine = &(*context).uc_mcontext;
        let to = caught_block();
        (*to).gregs = machine.gregs;
        let from = machine.fpregs.cast::<u8>();
        std::ptr::copy_nonoverlapping(from, (*to).area.0.as_mut_ptr(), AREA);
    }
}

/// A fault of the test program itself, or code that does not end.
fn give_up(signal: i32) -> ! {
    let mut text = *b"signal 00 outside the code under test, case seed 0x0000000000000000\n";
    text[7] = b'0' + (signal / 10) as u8;
    text[8] = b'0' + (signal % 10) as u8;
    let seed = CASE.load(Ordering::Relaxed);
    for i in 0..16 {
        text[text.len() - 2 - i] = b"0123456789abcdef"[(seed >> (4 * i)) as usize & 15];
    }
    // SAFETY: plain system calls.
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(134)
    }
}

/// The host CPU, with the arena mapped. Only one exists at a time.
pub struct Native {
    /// Writable view of the arena.
    view: *mut u8,
    stack: Vec<u8>,
    area: Box<Area>,
    _alone: MutexGuard<'static, ()>,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Native")
    }
}

const ARENA_BYTES: usize = PAGES * PAGE as usize;

impl Native {
    /// Maps the arena and takes over the signals.
    pub fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the mappings go where nothing is (MAP_FIXED_NOREPLACE); everything is checked.
        unsafe {
            let file = libc::memfd_create(c"arena".as_ptr(), libc::MFD_CLOEXEC);
            assert!(file >= 0 && libc::ftruncate(file, ARENA_BYTES as i64) == 0);
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            let anywhere = std::ptr::null_mut();
            let view = libc::mmap(anywhere, ARENA_BYTES, rw, libc::MAP_SHARED, file, 0);
            assert_ne!(view, libc::MAP_FAILED);
            for base in [LOW, HIGH] {
                for (page, permission) in MAP.iter().enumerate() {
                    let protection = match permission {
                        Permission::None => libc::PROT_NONE,
                        Permission::Code => rw | libc::PROT_EXEC,
                        Permission::ReadWrite => rw,
                        Permission::ReadOnly => libc::PROT_READ,
                    };
                    let at = base + page as u64 * PAGE;
                    let got = libc::mmap(
                        at as *mut libc::c_void,
                        PAGE as usize,
                        protection,
                        libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE,
                        file,
                        (page as u64 * PAGE) as i64,
                    );
                    assert_eq!(got as u64, at, "the arena's place is taken");
                }
            }
            libc::close(file);
            let mut native = Self {
                view: view.cast(),
                stack: vec![0; 256 * 1024],
                area: Box::new(Area([0; 4096])),
                _alone: alone,
            };
            std::ptr::write_bytes(native.page(CODE), 0xcc, 2 * PAGE as usize);
            native.take_signals();
            native
        }
    }

    fn take_signals(&mut self) {
        let stack = libc::stack_t {
            ss_sp: self.stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: self.stack.len(),
        };
        // SAFETY: the stack lives as long as `self`, the handler is the stub above.
        unsafe {
            assert_eq!(libc::sigaltstack(&stack, std::ptr::null_mut()), 0);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = difftest_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            for signal in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGTRAP,
                libc::SIGALRM,
            ] {
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
        }
    }

    /// A page of the arena, writable.
    pub fn page(&mut self, page: usize) -> *mut u8 {
        assert!(page < PAGES);
        // SAFETY: inside the mapping.
        unsafe { self.view.add(page * PAGE as usize) }
    }

    /// The bytes of a page.
    pub fn bytes(&mut self, page: usize) -> &mut [u8] {
        // SAFETY: mapped, and nothing else writes while the reference lives.
        unsafe { std::slice::from_raw_parts_mut(self.page(page), PAGE as usize) }
    }

    /// Puts code at an offset into the code pages.
    pub fn set_code(&mut self, offset: usize, code: &[u8]) {
        assert!(offset + code.len() <= 2 * PAGE as usize);
        // SAFETY: inside the two code pages.
        unsafe {
            let at = self.page(CODE).add(offset);
            std::ptr::copy_nonoverlapping(code.as_ptr(), at, code.len());
        }
    }

    /// Runs from `state` until an event.
    pub fn run(&mut self, state: &State) -> Outcome {
        self.area.0[..AREA].copy_from_slice(&state.area.0[..AREA]);
        // SAFETY: only this thread uses the transfer block: `ONE_AT_A_TIME`.
        let transfer = unsafe { &mut *transfer_block() };
        transfer.gpr = state.gpr;
        transfer.frame = [
            state.rip,
            u64::from(state.cs),
            state.rflags,
            state.gpr[super::state::RSP],
            u64::from(state.ss),
        ];
        transfer.segments = state.data_segments;
        transfer.fs_base = state.fs_base;
        transfer.gs_base = state.gs_base;
        transfer.area = &raw const *self.area;
        RUNNING.store(true, Ordering::Relaxed);
        // SAFETY: the stub restores every callee-saved register and the host's segments; the code
        // under test can only write where its random addresses happen to point.
        unsafe { difftest_enter() };
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        // SAFETY: written by the handler that just ran, on this thread.
        let (caught, transfer) = unsafe { (&*caught_block(), &*transfer_block()) };
        let g = |r: i32| caught.gregs[r as usize].cast_unsigned();
        let gpr = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ]
        .map(g);
        let selectors = g(libc::REG_CSGSFS);
        let vector = g(libc::REG_TRAPNO) as u8;
        let has_error = matches!(vector, 8 | 10..=14 | 17);
        Outcome {
            state: State {
                gpr,
                rip: g(libc::REG_RIP),
                rflags: g(libc::REG_EFL),
                cs: selectors as u16,
                ss: (selectors >> 48) as u16,
                data_segments: transfer.seen_segments,
                fs_base: transfer.seen_fs_base,
                gs_base: transfer.seen_gs_base,
                area: caught.area.clone(),
            },
            event: Event {
                vector,
                error: if has_error { g(libc::REG_ERR) } else { 0 },
                address: if vector == 14 { g(libc::REG_CR2) } else { 0 },
            },
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: gives back what `new` took; nothing refers to it any more.
        unsafe {
            for signal in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGTRAP,
                libc::SIGALRM,
            ] {
                libc::signal(signal, libc::SIG_DFL);
            }
            let off = libc::stack_t {
                ss_sp: std::ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            libc::sigaltstack(&off, std::ptr::null_mut());
            for base in [self.view as u64, LOW, HIGH] {
                libc::munmap(base as *mut libc::c_void, ARENA_BYTES);
            }
        }
    }
}
