//! Vector, x87, MMX and bit-manipulation instructions, executed by the same instruction of the host.
//!
//! Every instruction form has a thunk: the instruction with fixed registers and a `ret`, assembled
//! into this program's text by the build script, one per value of an immediate. [`prepare`] finds it
//! once per decoded instruction; [`execute`] loads the fixed registers from the guest's, calls it and
//! stores the results. No executable memory is created at run time. Memory operands are copied by the
//! caller to and from a [`Scratch`], so that no thunk ever sees a guest address; forms that touch
//! memory by element (masked moves, gathers) go through [`ElementMemory`].
//!
//! Instructions run with the guest's MXCSR, or x87 control word, but can never raise an exception in
//! the host: SIMD exceptions are masked and worked out from the flags, and x87 exceptions are left
//! pending in the saved state.

mod elements;
mod exec;
mod host;
#[allow(dead_code)]
mod kinds;
mod mmx;
mod op;
mod state;
mod stubs;
mod table;
mod x87;
mod x87_env;
mod xsave;

pub use elements::{ElementMemory, execute_elements};
pub use exec::{Operands, Scratch, VecFault, execute};
pub use host::{Feature, HostCpu};
pub use op::{Class, MemOperand, VecOp, prepare};
pub use state::{MXCSR_MASK, MXCSR_RESET, Vector, VectorState, X87Pointers};
pub use xsave::{AreaMode, BadArea, FXSAVE_BYTES, XSAVE_BYTES, XSAVE_COMPONENTS, XsaveForm};

#[cfg(test)]
mod tests;
