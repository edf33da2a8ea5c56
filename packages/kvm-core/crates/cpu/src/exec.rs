//! What system operations need from the engine that executes them.

use crate::{Cpu, Trap};

/// What a memory access is for, which decides the permission check and the page-fault error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write, or the read of a read-modify-write.
    Write,
    /// Instruction fetch.
    Fetch,
}

/// Which cached translations to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Everything, global pages too.
    All,
    /// Everything but global pages, of the present PCID.
    NonGlobal,
    /// The mapping of one linear address, global or not.
    Page(u64),
    /// One PCID, non-global (INVPCID type 1).
    Pcid(u16),
    /// One address in one PCID, non-global (INVPCID type 0).
    PcidPage(u16, u64),
    /// All PCIDs, non-global (INVPCID type 3).
    AllNonGlobal,
}

/// The executing vCPU as system operations see it.
///
/// Addresses are linear. `supervisor` marks an implicit supervisor access (descriptor tables, TSS,
/// stack of a more privileged level), which page permissions treat as CPL 0 whatever CPL is.
/// Reads and writes may cross a page; they either happen completely or not at all.
pub trait Exec {
    /// The registers.
    fn cpu(&mut self) -> &mut Cpu;
    /// Reads `size` (1, 2, 4 or 8) bytes, zero-extended.
    fn read_linear(&mut self, addr: u64, size: u8, supervisor: bool) -> Result<u64, Trap>;
    /// Writes the low `size` bytes of `value`.
    fn write_linear(
        &mut self,
        addr: u64,
        size: u8,
        value: u64,
        supervisor: bool,
    ) -> Result<(), Trap>;
    /// Clears and sets bits of one byte as a locked instruction does, with supervisor privilege.
    fn update_byte(&mut self, addr: u64, clear: u8, set: u8) -> Result<(), Trap>;
    /// Checks that a later write of `len` bytes will not fault, without writing.
    fn probe_write(&mut self, addr: u64, len: u64, supervisor: bool) -> Result<(), Trap>;
    /// Reads guest physical memory of RAM slots; `None` outside RAM.
    fn read_physical(&mut self, gpa: u64, size: u8) -> Option<u64>;
    /// Writes guest physical RAM; false outside.
    fn write_physical(&mut self, gpa: u64, size: u8, value: u64) -> bool;
    /// Atomic compare and exchange of 4 or 8 bytes of guest physical RAM. `None` outside RAM or in
    /// a read-only slot, else whether the exchange happened.
    fn cmpxchg_physical(&mut self, gpa: u64, size: u8, old: u64, new: u64) -> Option<bool>;
    /// Drops cached translations.
    fn flush(&mut self, what: Flush);
    /// The decode mode, paging or permission context changed (CR0, CR4, EFER, CS, CPL, AC): the
    /// engine re-derives what it caches. Called after `Cpu` was updated.
    fn context_changed(&mut self);
    /// Only CPL, RFLAGS and the code and stack segments changed, between levels of the same kind: what
    /// system calls and their returns do all the time.
    fn privilege_changed(&mut self) {
        self.context_changed();
    }
    /// The processor has entered or left system management mode: it sees other memory.
    fn smm_changed(&mut self) {}
    /// A data segment register was loaded by an instruction that loads nothing else.
    fn segment_loaded(&mut self) {}
    /// Guest TSC now (offset and scaling applied).
    fn tsc(&mut self) -> u64;
    /// Nanoseconds of the VM's clock.
    fn clock_ns(&mut self) -> u64;
    /// Nanoseconds of UTC since 1970.
    fn wall_ns(&mut self) -> u64;
    /// Random bits for RDRAND and RDSEED; `None` if no entropy is available now.
    fn random(&mut self) -> Option<u64>;
}
