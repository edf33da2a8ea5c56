//! What translated code shares with the rest of the engine, and where it finds it.

use std::mem::offset_of;

use kvm_cpu::{Cpu, reg, seg};

use super::asm::{Assembler, Host, host};
use super::group::GROUPS;
use crate::thunk::{Vector, VectorState};
use crate::tlb::{CLASSES, Entry};
use crate::vcpu::Vcpu;

/// Registers that guest registers live in while translated code runs: each in the host register of
/// the same name, but for RSP, which is the host's, and R9 to R11, of which two are scratch.
pub const fn pinned(register: u8) -> Option<Host> {
    match register {
        4 => Some(host::R9),
        9..=11 => None,
        other => Some(other),
    }
}

/// Guest registers with a host register, other than RAX, which serves the flags.
pub const PINNED: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15];

/// Registers that 32-bit code has.
pub const GENERAL_32: usize = 8;

/// The fields that translated code reads and writes beside the registers.
#[derive(Debug)]
#[repr(C)]
pub struct Hot {
    /// Instructions left until the vCPU must look around.
    pub budget: i64,
    /// Linear address of the page that the code belongs to.
    pub page: u64,
    /// What an entry of the table of entry points must match besides the address.
    pub context: u64,
    /// The table of entry points.
    pub entries: u64,
    /// The vCPU itself.
    pub vcpu: u64,
    /// Arithmetic flags as LAHF and SETO leave them in AX.
    pub flags: u64,
    /// End of the jump that left the code and could be linked, or 0.
    pub link: u64,
    /// It goes forward in its page.
    pub link_forward: u64,
    /// Linear address to which it would have gone.
    pub target: u64,
    /// The instruction that a stub works for.
    pub site: u64,
    /// Address of the word in which others leave requests.
    pub requests: u64,
    /// Addresses of the TLB entries of each class.
    pub tables: [u64; CLASSES],
    /// Addresses of the small tables of entry points.
    pub near: [u64; CLASSES],
    /// Scratch of the stubs.
    pub scratch: u64,
    /// The stack of the engine, to which whatever leaves the code returns.
    pub host_rsp: u64,
    /// Addends of the groups of the block.
    pub groups: [u64; GROUPS],
    /// Which vector registers the host has of the guest, see `vector_state`.
    pub vectors: u32,
    /// Bits of the levels that may be loaded.
    pub vectors_allowed: u32,
    /// The MXCSR of everything but translated code.
    pub host_mxcsr: u32,
    /// Not 0 where flat code can use FS and GS with any offset.
    pub open: [u32; 2],
    /// What a jump that knows its target compares, see [`Stamps`](super::stamps::Stamps).
    pub stamp: u32,
    /// Jumps through the small table until one of them is to know its target.
    pub sample: i32,
    /// Something happens as soon as interrupts are enabled.
    pub waiting: bool,
}

impl Default for Hot {
    fn default() -> Self {
        Self {
            budget: 0,
            page: 0,
            context: u64::MAX,
            entries: 0,
            vcpu: 0,
            flags: 0,
            link: 0,
            link_forward: 0,
            target: 0,
            site: 0,
            requests: 0,
            tables: [0; CLASSES],
            near: [0; CLASSES],
            scratch: 0,
            host_rsp: 0,
            groups: [0; GROUPS],
            vectors: 0,
            vectors_allowed: 0,
            host_mxcsr: crate::thunk::MXCSR_RESET,
            open: [0; 2],
            stamp: 0,
            sample: 0,
            waiting: true,
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
const fn at(offset: usize) -> i32 {
    offset as i32
}

const HOT: usize = offset_of!(Vcpu, hot);
pub const BUDGET: i32 = at(HOT + offset_of!(Hot, budget));
pub const PAGE_BASE: i32 = at(HOT + offset_of!(Hot, page));
pub const CONTEXT: i32 = at(HOT + offset_of!(Hot, context));
pub const ENTRIES: i32 = at(HOT + offset_of!(Hot, entries));
pub const VCPU: i32 = at(HOT + offset_of!(Hot, vcpu));
pub const FLAGS: i32 = at(HOT + offset_of!(Hot, flags));
pub const LINK: i32 = at(HOT + offset_of!(Hot, link));
pub const LINK_FORWARD: i32 = at(HOT + offset_of!(Hot, link_forward));
pub const REQUESTS: i32 = at(HOT + offset_of!(Hot, requests));
pub const SITE: i32 = at(HOT + offset_of!(Hot, site));
pub const SCRATCH: i32 = at(HOT + offset_of!(Hot, scratch));
pub const HOST_RSP: i32 = at(HOT + offset_of!(Hot, host_rsp));
pub const VECTORS: i32 = at(HOT + offset_of!(Hot, vectors));
pub const VECTORS_ALLOWED: i32 = at(HOT + offset_of!(Hot, vectors_allowed));
pub const HOST_MXCSR: i32 = at(HOT + offset_of!(Hot, host_mxcsr));
pub const STAMP: i32 = at(HOT + offset_of!(Hot, stamp));
pub const SAMPLE: i32 = at(HOT + offset_of!(Hot, sample));
pub const WAITING: i32 = at(HOT + offset_of!(Hot, waiting));
pub const MXCSR: i32 = at(offset_of!(Vcpu, vectors) + VectorState::MXCSR_OFFSET);
pub const RIP: i32 = register(reg::RIP as u8);
pub const RAX: i32 = register(0);

const CPU: usize = offset_of!(Vcpu, cpu);
pub const RFLAGS: i32 = at(CPU + offset_of!(Cpu, rflags));
pub const CPL: i32 = at(CPU + offset_of!(Cpu, cpl));
pub const CR4: i32 = control(4);
pub const STI_SHADOW: i32 = at(CPU + offset_of!(Cpu, events.sti_shadow));
pub const KERNEL_GS_BASE: i32 = at(CPU + offset_of!(Cpu, msrs.kernel_gs_base));
pub const PKRU: i32 = at(offset_of!(Vcpu, vectors) + offset_of!(VectorState, pkru));

/// Where CR0, CR2, CR3 or CR4 is.
pub const fn control(number: u8) -> i32 {
    at(CPU
        + match number {
            0 => offset_of!(Cpu, cr0),
            2 => offset_of!(Cpu, cr2),
            3 => offset_of!(Cpu, cr3),
            _ => offset_of!(Cpu, cr4),
        })
}

/// Where the selector of a segment register is.
pub const fn selector(segment: u8) -> i32 {
    let size = size_of::<kvm_cpu::Seg>();
    let segments = CPU + offset_of!(Cpu, segs);
    at(segments + segment as usize * size + offset_of!(kvm_cpu::Seg, selector))
}

/// Where a guest register is kept outside translated code.
pub const fn register(number: u8) -> i32 {
    at(offset_of!(Vcpu, cpu) + offset_of!(Cpu, regs) + 8 * number as usize)
}

/// Where the base of FS or GS is.
pub const fn segment_base(segment: u8) -> i32 {
    let index = if segment as usize == seg::GS { seg::GS } else { seg::FS };
    let size = size_of::<kvm_cpu::Seg>();
    at(offset_of!(Vcpu, cpu)
        + offset_of!(Cpu, segs)
        + index * size
        + offset_of!(kvm_cpu::Seg, base))
}

/// Where it says that FS or GS can be used with any offset.
pub const fn open(segment: u8) -> i32 {
    let index = if segment as usize == seg::GS { 1 } else { 0 };
    at(HOT + offset_of!(Hot, open) + 4 * index)
}

/// Where a vector register is kept outside translated code.
pub const fn vector_register(number: u8) -> i32 {
    let registers = offset_of!(Vcpu, vectors) + offset_of!(VectorState, vec);
    at(registers + size_of::<Vector>() * number as usize)
}

/// Where the address of the TLB entries of a class is.
pub const fn table(class: usize) -> i32 {
    at(HOT + offset_of!(Hot, tables) + 8 * class)
}

/// Where the address of the small table of entry points of a class is.
pub const fn near(class: usize) -> i32 {
    at(HOT + offset_of!(Hot, near) + 8 * class)
}

/// Where the addend of a group is.
pub const fn group(number: usize) -> i32 {
    at(HOT + offset_of!(Hot, groups) + 8 * number)
}

/// Fields of a TLB entry.
pub mod field {
    use super::{Entry, at, offset_of};

    pub const READ: i32 = at(offset_of!(Entry, read));
    pub const WRITE: i32 = at(offset_of!(Entry, write));
    pub const ADDEND: i32 = at(offset_of!(Entry, addend));
}

/// Stores all pinned registers but RAX.
pub fn spill(asm: &mut Assembler) {
    for r in PINNED {
        if let Some(host) = pinned(r) {
            asm.store(register(r), host);
        }
    }
}

/// Loads all pinned registers but RAX.
pub fn reload(asm: &mut Assembler) {
    for r in PINNED {
        if let Some(host) = pinned(r) {
            asm.load(host, register(r));
        }
    }
}
