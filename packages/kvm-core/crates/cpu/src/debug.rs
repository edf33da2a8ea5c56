//! Debug registers: which breakpoints an access hits (SDM volume 3, 17.2).
//!
//! Matches are DR6 bits 0 to 3. Instruction breakpoints are faults before the instruction, data
//! and I/O breakpoints traps after it. While a debugger uses the hardware breakpoints
//! (`KVM_GUESTDBG_USE_HW_BP`) its registers stand in for the guest's.

use kvm_abi::regs::guestdbg;

use crate::bits::{cr4, dr};
use crate::{Cpu, flags};

/// What a breakpoint waits for: the R/W field of DR7.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Execute,
    Write,
    Port,
    ReadWrite,
}

struct Breakpoint {
    bit: u64,
    kind: Kind,
    address: u64,
    len: u64,
}

impl Cpu {
    /// True if the debugger's breakpoints are in force: hits go to it, not to the guest.
    #[must_use]
    pub fn debugger_breakpoints(&self) -> bool {
        let both = guestdbg::ENABLE | guestdbg::USE_HW_BP;
        self.guest_debug.control & both == both
    }

    /// DR0 to DR7 in force.
    fn debug_registers(&self) -> &[u64; 8] {
        if self.debugger_breakpoints() { &self.guest_debug.debugreg } else { &self.dr }
    }

    /// True if any breakpoint is enabled. Cheap: the only test on the fast path.
    #[inline]
    #[must_use]
    pub fn any_breakpoint(&self) -> bool {
        self.debug_registers()[7] & dr::DR7_ENABLES != 0
    }

    fn breakpoints(&self) -> impl Iterator<Item = Breakpoint> {
        let registers = *self.debug_registers();
        let dr7 = registers[7];
        registers.into_iter().take(4).zip(0u32..).filter_map(move |(address, n)| {
            if dr7 >> (n * 2) & 3 == 0 {
                return None;
            }
            let control = dr7 >> (16 + n * 4);
            let kind = match control & 3 {
                0 => Kind::Execute,
                1 => Kind::Write,
                2 => Kind::Port,
                _ => Kind::ReadWrite,
            };
            let len = match control >> 2 & 3 {
                0 => 1,
                1 => 2,
                2 => 8,
                _ => 4,
            };
            // The processor ignores the low bits of an address that is not aligned to its length.
            Some(Breakpoint { bit: 1 << n, kind, address: address & !(len - 1), len })
        })
    }

    fn hits(&self, at: u64, len: u64, wanted: impl Fn(Kind) -> bool) -> u64 {
        let last = at.wrapping_add(len.saturating_sub(1));
        self.breakpoints()
            .filter(|b| wanted(b.kind))
            .filter(|b| at <= b.address.wrapping_add(b.len - 1) && b.address <= last)
            .fold(0, |bits, b| bits | b.bit)
    }

    /// Instruction breakpoints on the instruction at `linear`; RF switches them off.
    #[must_use]
    pub fn instruction_hits(&self, linear: u64) -> u64 {
        if self.rflags & flags::RF != 0 && !self.debugger_breakpoints() {
            return 0;
        }
        self.breakpoints()
            .filter(|b| b.kind == Kind::Execute && b.address == linear)
            .fold(0, |bits, b| bits | b.bit)
    }

    /// Data breakpoints on an access of `len` bytes at `linear`.
    #[must_use]
    pub fn data_hits(&self, linear: u64, len: u64, write: bool) -> u64 {
        self.hits(linear, len, |kind| kind == Kind::ReadWrite || write && kind == Kind::Write)
    }

    /// I/O breakpoints, which exist with CR4.DE.
    #[must_use]
    pub fn port_hits(&self, port: u16, size: u8) -> u64 {
        if self.cr4 & cr4::DE == 0 {
            return 0;
        }
        self.hits(u64::from(port), u64::from(size), |kind| kind == Kind::Port)
    }

    /// DR6 bits of a single-step trap, if RFLAGS.TF (as it was before the instruction) asks for one.
    #[must_use]
    pub fn single_step_bits(rflags_before: u64) -> u64 {
        if rflags_before & flags::TF != 0 { dr::DR6_BS } else { 0 }
    }
}
