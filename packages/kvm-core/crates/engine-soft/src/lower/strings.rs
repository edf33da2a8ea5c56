//! String instructions and port accesses.

use iced_x86::{Mnemonic as M, OpKind, Register};

use super::Context;
use crate::op::{ADDR16, ADDR32, FLAT, Handler};
use crate::ops::io::{input, output};
use crate::ops::string::{self, string};
use crate::width::by_width;

pub(super) fn lower(x: &mut Context<'_>) -> Option<Handler> {
    let m = x.i.mnemonic();
    let (kind, width) = match m {
        M::Movsb => (string::MOVS, 1),
        M::Movsw => (string::MOVS, 2),
        M::Movsd if x.i.op_count() == 2 && is_string(x) => (string::MOVS, 4),
        M::Movsq => (string::MOVS, 8),
        M::Stosb => (string::STOS, 1),
        M::Stosw => (string::STOS, 2),
        M::Stosd => (string::STOS, 4),
        M::Stosq => (string::STOS, 8),
        M::Lodsb => (string::LODS, 1),
        M::Lodsw => (string::LODS, 2),
        M::Lodsd => (string::LODS, 4),
        M::Lodsq => (string::LODS, 8),
        M::Scasb => (string::SCAS, 1),
        M::Scasw => (string::SCAS, 2),
        M::Scasd => (string::SCAS, 4),
        M::Scasq => (string::SCAS, 8),
        M::Cmpsb => (string::CMPS, 1),
        M::Cmpsw => (string::CMPS, 2),
        M::Cmpsd if is_string(x) => (string::CMPS, 4),
        M::Cmpsq => (string::CMPS, 8),
        M::Insb => (string::INS, 1),
        M::Insw => (string::INS, 2),
        M::Insd => (string::INS, 4),
        M::Outsb => (string::OUTS, 1),
        M::Outsw => (string::OUTS, 2),
        M::Outsd => (string::OUTS, 4),
        M::In => return Some(port(x, 1, 0)),
        M::Out => return Some(port(x, 0, 1)),
        _ => return None,
    };
    x.op.imm = if x.i.has_repne_prefix() {
        string::REPNE
    } else if x.i.has_rep_prefix() {
        string::REP
    } else {
        string::ONCE
    };
    x.op.seg = x.memory_segment();
    x.op.addressing = address_size(x);
    Some(match kind {
        string::MOVS => by_width!(width, string, { string::MOVS }),
        string::STOS => by_width!(width, string, { string::STOS }),
        string::LODS => by_width!(width, string, { string::LODS }),
        string::SCAS => by_width!(width, string, { string::SCAS }),
        string::CMPS => by_width!(width, string, { string::CMPS }),
        string::INS => by_width!(width, string, { string::INS }),
        _ => by_width!(width, string, { string::OUTS }),
    })
}

/// MOVSD and CMPSD name an SSE instruction too.
fn is_string(x: &Context<'_>) -> bool {
    x.i.op1_register() == Register::None && !x.is_mem(0) && !x.is_mem(1)
}

fn address_size(x: &Context<'_>) -> u8 {
    let kinds = [x.i.op0_kind(), x.i.op1_kind()];
    let any = |set: &[OpKind]| kinds.iter().any(|k| set.contains(k));
    if any(&[OpKind::MemoryESDI, OpKind::MemorySegSI, OpKind::MemorySegDI]) {
        ADDR16
    } else if any(&[OpKind::MemoryESEDI, OpKind::MemorySegESI, OpKind::MemorySegEDI]) {
        ADDR32
    } else {
        FLAT
    }
}

/// IN and OUT: the accumulator is operand `data`, the port operand `port`.
fn port(x: &mut Context<'_>, port: u32, data: u32) -> Handler {
    // A port number beyond a byte means DX.
    x.op.imm = if x.is_imm(port) { x.imm(port) & 0xff } else { 0x100 };
    let width = x.width(data);
    if data == 0 { by_width!(width, input) } else { by_width!(width, output) }
}
