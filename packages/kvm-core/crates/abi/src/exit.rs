//! Exit reasons and the layout of the `kvm_run` page.

/// `KVM_EXIT_*` values that the engines produce.
pub mod reason {
    /// Not a real exit: the page was never written.
    pub const UNKNOWN: u32 = 0;
    /// `KVM_EXIT_IO`.
    pub const IO: u32 = 2;
    /// `KVM_EXIT_HYPERCALL`.
    pub const HYPERCALL: u32 = 3;
    /// `KVM_EXIT_DEBUG`.
    pub const DEBUG: u32 = 4;
    /// `KVM_EXIT_HLT`, only without an in-kernel irqchip.
    pub const HLT: u32 = 5;
    /// `KVM_EXIT_MMIO`.
    pub const MMIO: u32 = 6;
    /// `KVM_EXIT_IRQ_WINDOW_OPEN`.
    pub const IRQ_WINDOW_OPEN: u32 = 7;
    /// `KVM_EXIT_SHUTDOWN`: a triple fault.
    pub const SHUTDOWN: u32 = 8;
    /// `KVM_EXIT_FAIL_ENTRY`.
    pub const FAIL_ENTRY: u32 = 9;
    /// `KVM_EXIT_INTR`.
    pub const INTR: u32 = 10;
    /// `KVM_EXIT_INTERNAL_ERROR`.
    pub const INTERNAL_ERROR: u32 = 17;
    /// `KVM_EXIT_SYSTEM_EVENT`.
    pub const SYSTEM_EVENT: u32 = 24;
    /// Not one of KVM's: the instruction count asked for was reached.
    pub const COUNT_REACHED: u32 = 256;
}

/// `KVM_INTERNAL_ERROR_EMULATION`: the instruction cannot be executed by this engine.
pub const INTERNAL_ERROR_EMULATION: u32 = 1;

/// Size of the `kvm_run` mapping: one page of fields and one of port data.
pub const RUN_BYTES: usize = 8192;
/// Where the port data of an `IO` exit lies in the mapping.
pub const RUN_PIO_DATA_OFFSET: usize = 4096;

/// Size of the port data of an `IO` exit.
pub const PIO_DATA_BYTES: usize = RUN_BYTES - RUN_PIO_DATA_OFFSET;

/// Byte offsets of the `kvm_run` fields.
pub mod run {
    /// `request_interrupt_window`, u8.
    pub const REQUEST_INTERRUPT_WINDOW: usize = 0;
    /// `immediate_exit`, u8.
    pub const IMMEDIATE_EXIT: usize = 1;
    /// `exit_reason`, u32.
    pub const EXIT_REASON: usize = 8;
    /// `ready_for_interrupt_injection`, u8.
    pub const READY_FOR_INTERRUPT_INJECTION: usize = 12;
    /// `if_flag`, u8.
    pub const IF_FLAG: usize = 13;
    /// `flags`, u16.
    pub const FLAGS: usize = 14;
    /// `cr8`, u64.
    pub const CR8: usize = 16;
    /// `apic_base`, u64.
    pub const APIC_BASE: usize = 24;
    /// `io.direction`, u8: 0 in, 1 out.
    pub const IO_DIRECTION: usize = 32;
    /// `io.size`, u8: 1, 2 or 4.
    pub const IO_SIZE: usize = 33;
    /// `io.port`, u16.
    pub const IO_PORT: usize = 34;
    /// `io.count`, u32.
    pub const IO_COUNT: usize = 36;
    /// `io.data_offset`, u64, from the start of the page.
    pub const IO_DATA_OFFSET: usize = 40;
    /// `mmio.phys_addr`, u64.
    pub const MMIO_PHYS_ADDR: usize = 32;
    /// `mmio.data`, 8 bytes.
    pub const MMIO_DATA: usize = 40;
    /// `mmio.len`, u32.
    pub const MMIO_LEN: usize = 48;
    /// `mmio.is_write`, u8.
    pub const MMIO_IS_WRITE: usize = 52;
    /// `hypercall.nr`, u64.
    pub const HYPERCALL_NR: usize = 32;
    /// `hypercall.args`, 6 x u64.
    pub const HYPERCALL_ARGS: usize = 40;
    /// `hypercall.ret`, u64.
    pub const HYPERCALL_RET: usize = 88;
    /// `debug.arch.exception`, u32.
    pub const DEBUG_EXCEPTION: usize = 32;
    /// `debug.arch.pc`, u64.
    pub const DEBUG_PC: usize = 40;
    /// `debug.arch.dr6`, u64.
    pub const DEBUG_DR6: usize = 48;
    /// `debug.arch.dr7`, u64.
    pub const DEBUG_DR7: usize = 56;
    /// `system_event.type`, u32.
    pub const SYSTEM_EVENT_TYPE: usize = 32;
    /// `system_event.ndata`, u32.
    pub const SYSTEM_EVENT_NDATA: usize = 36;
    /// `system_event.data`, 16 x u64.
    pub const SYSTEM_EVENT_DATA: usize = 40;
    /// `fail_entry.hardware_entry_failure_reason`, u64.
    pub const FAIL_ENTRY_REASON: usize = 32;
    /// `internal.suberror`, u32.
    pub const INTERNAL_SUBERROR: usize = 32;
    /// `internal.ndata`, u32.
    pub const INTERNAL_NDATA: usize = 36;
    /// `internal.data`, 16 x u64.
    pub const INTERNAL_DATA: usize = 40;
    /// `kvm_valid_regs`, u64.
    pub const KVM_VALID_REGS: usize = 288;
    /// `kvm_dirty_regs`, u64.
    pub const KVM_DIRTY_REGS: usize = 296;
    /// Start of the synchronised register block.
    pub const SYNC_REGS: usize = 304;
    /// `sizeof(struct kvm_run)`.
    pub const SIZEOF: usize = 2352;
}

/// Why an engine left the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// One port access. For a read the answer is given to the engine before it is entered again.
    Io {
        /// True for OUT.
        write: bool,
        /// The port.
        port: u16,
        /// Bytes per item: 1, 2 or 4.
        size: u8,
        /// The value written; 0 for a read.
        value: u32,
    },
    /// Accesses to one port by a repeated INS or OUTS, in order. What OUTS writes is the engine's
    /// `string_data`; the answers to INS are given together before it is entered again.
    IoString {
        /// True for OUTS.
        write: bool,
        /// The port.
        port: u16,
        /// Bytes per item: 1, 2 or 4.
        size: u8,
        /// Items; with `size` at most [`PIO_DATA_BYTES`].
        count: u16,
    },
    /// An access to a guest physical address that no memslot and no in-kernel device claims.
    Mmio {
        /// True for a write.
        write: bool,
        /// Guest physical address.
        gpa: u64,
        /// Bytes: 1 to 8.
        len: u8,
        /// The bytes written, little-endian; 0 for a read.
        data: [u8; 8],
    },
    /// The vCPU executed HLT (or waits for INIT or SIPI). With an in-kernel irqchip the caller
    /// sleeps and enters again; without one it is `KVM_EXIT_HLT`.
    Hlt,
    /// A triple fault.
    Shutdown,
    /// A kick or `immediate_exit`.
    Intr,
    /// A guest debug event.
    Debug {
        /// Vector: 1 or 3.
        exception: u32,
        /// Linear address of the instruction.
        pc: u64,
        /// DR6 as it would be.
        dr6: u64,
        /// DR7.
        dr7: u64,
    },
    /// A hypercall that the VMM handles: `KVM_HC_MAP_GPA_RANGE` or one it registered for.
    Hypercall {
        /// Number, from RAX.
        nr: u64,
        /// RBX, RCX, RDX, RSI, 0, 0.
        args: [u64; 6],
    },
    /// An interrupt window opened, as `request_interrupt_window` asked.
    IrqWindowOpen,
    /// The instruction count asked for was reached (soft engine).
    CountReached,
    /// The kernel has described the exit in the `kvm_run` page; this is its reason.
    Described(u32),
    /// The engine cannot go on: `data` starts with RIP, then the instruction bytes.
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// Details.
        data: Vec<u64>,
    },
}
