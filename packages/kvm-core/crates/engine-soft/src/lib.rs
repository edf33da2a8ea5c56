//! The software x86-64 engine: runs guests on any machine, with no help from its hypervisor.
//!
//! Tier 0, an interpreter of decoded blocks, executes every mode and every instruction; tier 1,
//! the translator ([`translate`]), turns blocks that run often into host code. Guest
//! memory is reached through a software TLB ([`tlb`]); device accesses make the instruction restart
//! ([`io`]); vector and x87 data operations run on the host CPU ([`thunk`]).

mod block;
mod cold;
mod condition;
mod engine;
mod entropy;
mod events;
mod exec;
mod features;
mod fetch;
mod io;
mod linear;
mod lower;
mod op;
mod ops;
mod page_code;
mod physical;
mod rest;
mod run;
mod serve;
mod slice;
mod state;
mod table;
pub mod thunk;
mod tlb;
mod translate;
mod vcpu;
mod watch;
mod width;

pub use engine::{SoftEngine, SoftOptions};
pub use entropy::{HostEntropy, SeededEntropy};
pub use translate::{CODE_BYTES, Policy as TranslationPolicy, perf_map};
