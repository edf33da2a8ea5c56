//! Near branches.

use iced_x86::{Mnemonic as M, OpKind, Register};
use kvm_cpu::reg;

use super::Context;
use crate::condition::by_condition;
use crate::op::{ADDR16, ADDR32, FLAT, Handler};
use crate::ops::branch::{
    self, call_indirect, call_rel, counted, jcc, jump_indirect, jump_rel, ret, salc,
};
use crate::width::{W16, W32, W64};

pub(super) fn lower(x: &mut Context<'_>) -> Option<Handler> {
    let near = matches!(
        x.i.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    );
    if near {
        x.op.imm = x.i.near_branch_target().wrapping_sub(x.ip);
    }
    Some(match x.i.mnemonic() {
        M::Jmp if near => by_target(x, jump_rel::<W16>, jump_rel::<W32>, jump_rel::<W64>),
        M::Call if near => by_target(x, call_rel::<W16>, call_rel::<W32>, call_rel::<W64>),
        M::Jmp => return indirect(x, false),
        M::Call => return indirect(x, true),
        M::Ret => {
            x.op.imm = if x.i.op_count() == 1 { u64::from(x.i.immediate16()) } else { 0 };
            let moved = u64::from(x.i.stack_pointer_increment().unsigned_abs()) - x.op.imm;
            match moved {
                2 => ret::<W16>,
                4 => ret::<W32>,
                _ => ret::<W64>,
            }
        }
        M::Loop => counter::<{ branch::LOOP }>(x),
        M::Loope => counter::<{ branch::LOOPE }>(x),
        M::Loopne => counter::<{ branch::LOOPNE }>(x),
        M::Jcxz | M::Jecxz | M::Jrcxz => counter::<{ branch::JCXZ }>(x),
        M::Salc => salc,
        _ if x.i.is_jcc_short_or_near() => {
            let c = x.i.condition_code() as u8 - 1;
            by_target(
                x,
                by_condition!(c, jcc, W16),
                by_condition!(c, jcc, W32),
                by_condition!(c, jcc, W64),
            )
        }
        _ => return None,
    })
}

/// The instance for the width that the target is truncated to.
fn by_target(x: &Context<'_>, short: Handler, long: Handler, quad: Handler) -> Handler {
    match x.i.op0_kind() {
        OpKind::NearBranch16 => short,
        OpKind::NearBranch32 => long,
        _ => quad,
    }
}

fn indirect(x: &mut Context<'_>, call: bool) -> Option<Handler> {
    let memory = x.is_mem(0);
    if !memory && !x.is_gpr(0) {
        return None;
    }
    let width = x.width(0);
    if memory {
        // A far pointer in memory is not a near branch.
        if x.i.is_jmp_far_indirect() || x.i.is_call_far_indirect() {
            return None;
        }
    } else {
        x.op.src = x.reg(0);
    }
    Some(match (call, memory, width) {
        (false, false, 2) => jump_indirect::<W16, false>,
        (false, false, 4) => jump_indirect::<W32, false>,
        (false, false, _) => jump_indirect::<W64, false>,
        (false, true, 2) => jump_indirect::<W16, true>,
        (false, true, 4) => jump_indirect::<W32, true>,
        (false, true, _) => jump_indirect::<W64, true>,
        (true, false, 2) => call_indirect::<W16, false>,
        (true, false, 4) => call_indirect::<W32, false>,
        (true, false, _) => call_indirect::<W64, false>,
        (true, true, 2) => call_indirect::<W16, true>,
        (true, true, 4) => call_indirect::<W32, true>,
        (true, true, _) => call_indirect::<W64, true>,
    })
}

/// LOOPcc and JrCXZ: which counter they use is part of the opcode.
fn counter<const K: u8>(x: &mut Context<'_>) -> Handler {
    let counter = x.i.op_code().address_size();
    x.op.addressing = match counter {
        16 => ADDR16,
        32 => ADDR32,
        64 => FLAT,
        _ => match x.i.mnemonic() {
            M::Jcxz => ADDR16,
            M::Jecxz => ADDR32,
            _ => FLAT,
        },
    };
    x.op.base = reg::ZERO as u8;
    debug_assert!(x.i.memory_base() == Register::None);
    by_target(x, counted::<W16, K>, counted::<W32, K>, counted::<W64, K>)
}
