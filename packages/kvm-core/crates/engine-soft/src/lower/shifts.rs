//! Shifts and rotates.

use iced_x86::{Mnemonic as M, OpKind};

use super::Context;
use crate::op::Handler;
use crate::ops::shift::{self, double_mem, double_reg, mem_cl, mem_imm, reg_cl, reg_imm};
use crate::width::{W16, W32, W64, by_width};

pub(super) fn lower(x: &mut Context<'_>) -> Option<Handler> {
    Some(match x.i.mnemonic() {
        M::Rol => single::<{ shift::ROL }>(x),
        M::Ror => single::<{ shift::ROR }>(x),
        M::Rcl => single::<{ shift::RCL }>(x),
        M::Rcr => single::<{ shift::RCR }>(x),
        M::Shl | M::Sal => single::<{ shift::SHL }>(x),
        M::Shr => single::<{ shift::SHR }>(x),
        M::Sar => single::<{ shift::SAR }>(x),
        M::Shld => double::<true>(x),
        M::Shrd => double::<false>(x),
        _ => return None,
    })
}

fn single<const K: u8>(x: &mut Context<'_>) -> Handler {
    let width = x.width(0);
    let by_cl = x.i.op_kind(1) == OpKind::Register;
    if !by_cl {
        x.op.imm = x.imm(1);
    }
    match (x.is_mem(0), by_cl) {
        (true, true) => by_width!(width, mem_cl, K),
        (true, false) => by_width!(width, mem_imm, K),
        (false, by_cl) => {
            x.op.dst = x.reg(0);
            if by_cl { by_width!(width, reg_cl, K) } else { by_width!(width, reg_imm, K) }
        }
    }
}

fn double<const LEFT: bool>(x: &mut Context<'_>) -> Handler {
    x.op.src = x.reg(1);
    x.op.imm = if x.is_imm(2) { x.imm(2) & 0xff } else { 256 };
    let width = x.width(0);
    if x.is_mem(0) {
        return match width {
            2 => double_mem::<W16, LEFT>,
            4 => double_mem::<W32, LEFT>,
            _ => double_mem::<W64, LEFT>,
        };
    }
    x.op.dst = x.reg(0);
    match width {
        2 => double_reg::<W16, LEFT>,
        4 => double_reg::<W32, LEFT>,
        _ => double_reg::<W64, LEFT>,
    }
}
