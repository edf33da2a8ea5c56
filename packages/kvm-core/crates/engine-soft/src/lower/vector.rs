//! Instructions for the host CPU.

use iced_x86::OpKind;

use super::Context;
use crate::op::Handler;
use crate::ops::vector::vector;
use crate::thunk::{HostCpu, VecOp, prepare};

#[allow(clippy::vec_box)]
pub(super) fn lower(
    x: &mut Context<'_>,
    host: &HostCpu,
    vectors: &mut Vec<Box<VecOp>>,
) -> Option<Handler> {
    if x.locked() {
        return None;
    }
    let prepared = Box::new(prepare(x.i, host)?.with_bytes(x.bytes));
    // MASKMOVQ and MASKMOVDQU address DS:rDI implicitly.
    for n in 0..x.i.op_count() {
        let size = match x.i.op_kind(n) {
            OpKind::MemorySegDI => 2,
            OpKind::MemorySegEDI => 4,
            OpKind::MemorySegRDI => 8,
            _ => continue,
        };
        x.op.seg = x.memory_segment();
        x.op.addressing = x.addressing(size, x.op.seg);
    }
    if prepared.is_gather() {
        // The index is a vector register; the handler adds it per element.
        x.op.index = kvm_cpu::reg::ZERO as u8;
    }
    x.op.imm = std::ptr::from_ref::<VecOp>(&prepared) as u64;
    vectors.push(prepared);
    Some(vector)
}
