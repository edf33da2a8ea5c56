//! System instructions.

use iced_x86::{Mnemonic as M, OpKind, Register};

use super::{Context, either, segment};
use crate::op::Handler;
use crate::ops::system::{
    self, far_call, far_jump, far_ret, iret, lar, lldt, lmsw, load_far_pointer, load_table, lsl,
    ltr, mov_from_segment, mov_to_segment, random, read_base, smsw_reg, store_selector_reg,
    store_table, verify, write_base,
};
use crate::ops::xstate;
use crate::width::{W16, W32, W64, Width as _};

/// Index of LDTR in the segment registers.
const LDTR: u8 = kvm_cpu::seg::LDTR as u8;
/// Index of TR in the segment registers.
const TR: u8 = kvm_cpu::seg::TR as u8;

macro_rules! sized {
    ($bytes:expr, $f:ident $(, $k:expr)*) => {
        match $bytes {
            2 => $f::<W16 $(, $k)*> as Handler,
            4 => $f::<W32 $(, $k)*>,
            _ => $f::<W64 $(, $k)*>,
        }
    };
}

pub(super) fn lower(x: &mut Context<'_>) -> Option<Handler> {
    if x.locked() {
        // MOV CR8 through LOCK is an AMD speciality that no guest of ours is told of.
        return None;
    }
    Some(match x.i.mnemonic() {
        M::Mov => return mov(x),
        M::Lds => far_load(x, 3),
        M::Les => far_load(x, 0),
        M::Lss => far_load(x, 2),
        M::Lfs => far_load(x, 4),
        M::Lgs => far_load(x, 5),
        M::Jmp => return far_branch(x, false),
        M::Call => return far_branch(x, true),
        M::Retf => {
            x.op.imm = if x.i.op_count() == 1 { u64::from(x.i.immediate16()) } else { 0 };
            sized!(operand_bytes(x), far_ret)
        }
        M::Iret => iret::<W16>,
        M::Iretd => iret::<W32>,
        M::Iretq => iret::<W64>,
        M::Rsm => system::rsm,
        M::Int => {
            x.op.imm = u64::from(x.i.immediate8());
            system::int_n
        }
        M::Int3 => system::int3,
        M::Into => system::into,
        M::Int1 => system::int1,
        M::Syscall => system::syscall_op,
        M::Sysret | M::Sysretq => {
            x.op.imm = u64::from(x.i.mnemonic() == M::Sysretq);
            system::sysret
        }
        M::Sysenter => system::sysenter,
        M::Sysexit | M::Sysexitq => {
            x.op.imm = u64::from(x.i.mnemonic() == M::Sysexitq);
            system::sysexit
        }
        M::Swapgs => system::swapgs,
        M::Rdmsr => system::rdmsr,
        M::Wrmsr => system::wrmsr,
        M::Rdtsc => system::rdtsc,
        M::Rdtscp if !x.features.rdtscp => return None,
        M::Rdtscp => system::rdtscp,
        M::Rdpmc => system::rdpmc,
        M::Rdpid if !x.features.rdpid => return None,
        M::Rdpid => {
            x.op.dst = x.reg(0);
            system::rdpid
        }
        M::Rdrand if !x.features.rdrand => return None,
        M::Rdseed if !x.features.rdseed => return None,
        M::Rdrand | M::Rdseed => {
            x.op.dst = x.reg(0);
            sized!(x.width(0), random)
        }
        M::Cpuid => system::cpuid,
        M::Hlt => system::hlt,
        M::Clts => system::clts,
        M::Wbinvd | M::Invd | M::Wbnoinvd => system::cache_control,
        M::Clflush | M::Clflushopt | M::Clwb => system::clflush,
        M::Lgdt | M::Lidt => {
            x.op.imm = operand_bytes(x) as u64;
            if x.i.mnemonic() == M::Lidt { load_table::<true> } else { load_table::<false> }
        }
        M::Sgdt => store_table::<false>,
        M::Sidt => store_table::<true>,
        M::Sldt | M::Str => {
            x.op.src = if x.i.mnemonic() == M::Str { TR } else { LDTR };
            if x.is_mem(0) {
                system::store_selector_mem
            } else {
                x.op.dst = x.reg(0);
                sized!(x.width(0), store_selector_reg)
            }
        }
        M::Lldt => word(x, lldt::<true>, lldt::<false>),
        M::Ltr => word(x, ltr::<true>, ltr::<false>),
        M::Verr => word(x, verify::<false, true>, verify::<false, false>),
        M::Verw => word(x, verify::<true, true>, verify::<true, false>),
        M::Lar | M::Lsl => return Some(query(x)),
        M::Smsw => {
            if x.is_mem(0) {
                system::smsw_mem
            } else {
                x.op.dst = x.reg(0);
                sized!(x.width(0), smsw_reg)
            }
        }
        M::Lmsw => word(x, lmsw::<true>, lmsw::<false>),
        M::Invlpg => system::invlpg,
        M::Invpcid => {
            x.op.dst = x.reg(0);
            system::invpcid
        }
        M::Rdfsbase | M::Rdgsbase => base(x, true),
        M::Wrfsbase | M::Wrgsbase => base(x, false),
        M::Xgetbv => system::xgetbv,
        M::Xsetbv => system::xsetbv,
        M::Rdpkru => xstate::rdpkru,
        M::Wrpkru => xstate::wrpkru,
        M::Vmcall | M::Vmmcall => system::hypercall,
        M::Fxsave | M::Fxsave64 => area(x, xstate::fxsave, M::Fxsave64),
        M::Fxrstor | M::Fxrstor64 => area(x, xstate::fxrstor, M::Fxrstor64),
        M::Xsave | M::Xsave64 => area(x, xstate::xsave, M::Xsave64),
        M::Xsaveopt | M::Xsaveopt64 if !x.features.xsaveopt => return None,
        M::Xsavec | M::Xsavec64 if !x.features.xsavec => return None,
        M::Xsaveopt | M::Xsaveopt64 => area(x, xstate::xsaveopt, M::Xsaveopt64),
        M::Xsavec | M::Xsavec64 => area(x, xstate::xsavec, M::Xsavec64),
        M::Xrstor | M::Xrstor64 => area(x, xstate::xrstor, M::Xrstor64),
        _ => return None,
    })
}

/// Save areas: whether the form is the one with REX.W.
fn area(x: &mut Context<'_>, handler: Handler, wide: M) -> Handler {
    x.op.imm = u64::from(x.i.mnemonic() == wide);
    handler
}

/// Operand size in bytes of an instruction that does not show it in an operand.
fn operand_bytes(x: &Context<'_>) -> usize {
    match x.i.op_code().operand_size() {
        16 => 2,
        32 => 4,
        64 => 8,
        _ => (x.bits / 8) as usize,
    }
}

fn mov(x: &mut Context<'_>) -> Option<Handler> {
    let (dst, src) = (x.i.op0_register(), x.i.op1_register());
    let size_mask = if x.bits == 64 { u64::MAX } else { W32::zx(u64::MAX) };
    if dst.is_cr() || dst.is_dr() {
        x.op.dst = number(dst);
        x.op.src = x.reg(1);
        x.op.imm = size_mask;
        return Some(if dst.is_cr() { system::mov_to_cr } else { system::mov_to_dr });
    }
    if src.is_cr() || src.is_dr() {
        x.op.dst = x.reg(0);
        x.op.src = number(src);
        return Some(if src.is_cr() { system::mov_from_cr } else { system::mov_from_dr });
    }
    if dst.is_segment_register() {
        if dst == Register::CS {
            return None;
        }
        x.op.dst = segment(dst);
        return Some(word(x, mov_to_segment::<true>, mov_to_segment::<false>));
    }
    if src.is_segment_register() {
        x.op.src = segment(src);
        if x.is_mem(0) {
            return Some(system::store_segment);
        }
        x.op.dst = x.reg(0);
        return Some(sized!(x.width(0), mov_from_segment));
    }
    None
}

#[allow(clippy::cast_possible_truncation)]
fn number(r: Register) -> u8 {
    r.number() as u8
}

/// An instruction whose last operand is 16 bits in a register or in memory.
fn word(x: &mut Context<'_>, in_memory: Handler, in_register: Handler) -> Handler {
    let last = x.i.op_count() - 1;
    let memory = x.is_mem(last);
    if !memory {
        x.op.src = x.reg(last);
    }
    either(memory, in_memory, in_register)
}

fn query(x: &mut Context<'_>) -> Handler {
    let width = x.width(0);
    x.op.dst = x.reg(0);
    let memory = x.is_mem(1);
    if !memory {
        x.op.src = x.reg(1);
    }
    match (x.i.mnemonic() == M::Lar, memory) {
        (true, true) => sized!(width, lar, true),
        (true, false) => sized!(width, lar, false),
        (false, true) => sized!(width, lsl, true),
        (false, false) => sized!(width, lsl, false),
    }
}

fn far_load(x: &mut Context<'_>, seg: u8) -> Handler {
    x.op.dst = x.reg(0);
    x.op.src = seg;
    sized!(x.width(0), load_far_pointer)
}

fn far_branch(x: &mut Context<'_>, call: bool) -> Option<Handler> {
    match x.i.op0_kind() {
        OpKind::FarBranch16 => {
            let pointer = u64::from(x.i.far_branch16());
            x.op.imm = u64::from(x.i.far_branch_selector()) << 32 | pointer;
            Some(if call { far_call::<W16, false> } else { far_jump::<W16, false> })
        }
        OpKind::FarBranch32 => {
            let pointer = u64::from(x.i.far_branch32());
            x.op.imm = u64::from(x.i.far_branch_selector()) << 32 | pointer;
            Some(if call { far_call::<W32, false> } else { far_jump::<W32, false> })
        }
        OpKind::Memory => {
            let offset_bytes = x.i.memory_size().size() - 2;
            Some(if call {
                sized!(offset_bytes, far_call, true)
            } else {
                sized!(offset_bytes, far_jump, true)
            })
        }
        _ => None,
    }
}

fn base(x: &mut Context<'_>, read: bool) -> Handler {
    let fs = matches!(x.i.mnemonic(), M::Rdfsbase | M::Wrfsbase);
    x.op.imm = if fs { kvm_cpu::seg::FS } else { kvm_cpu::seg::GS } as u64;
    x.op.dst = x.reg(0);
    match (read, x.width(0)) {
        (true, 4) => read_base::<W32>,
        (true, _) => read_base::<W64>,
        (false, 4) => write_base::<W32>,
        (false, _) => write_base::<W64>,
    }
}
