//! How an instruction fails to complete.

/// Exception vectors (SDM volume 3, 6.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Vector {
    De = 0,
    Db = 1,
    Nmi = 2,
    Bp = 3,
    Of = 4,
    Br = 5,
    Ud = 6,
    Nm = 7,
    Df = 8,
    Ts = 10,
    Np = 11,
    Ss = 12,
    Gp = 13,
    Pf = 14,
    Mf = 16,
    Ac = 17,
    Mc = 18,
    Xm = 19,
}

/// An exception to deliver. For `Pf` the address goes to CR2 at delivery, for `Db` the bits of
/// `dr6` are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Vector number.
    pub vector: Vector,
    /// Error code, for the vectors that have one.
    pub error: u32,
    /// Faulting linear address (`Pf`) or DR6 bits (`Db`).
    pub address: u64,
}

/// Why an instruction stopped before its end. As wide as a register, so that `Result<u64, Trap>` is
/// returned in two of them; the details are in [`crate::Cpu::fault`] or with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Trap {
    /// An exception: see `Cpu::fault`. RIP still names the instruction.
    Fault = 1,
    /// The engine must leave the guest (a port or memory access, a hypercall); the instruction
    /// runs again after the answer.
    Exit = 2,
    /// A triple fault.
    Shutdown = 3,
}
