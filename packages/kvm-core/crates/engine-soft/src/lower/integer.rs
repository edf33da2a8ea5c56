//! Moves, arithmetic, logic, bit operations, the stack.

use iced_x86::Mnemonic as M;
use kvm_cpu::reg;

use super::{Context, either};
use crate::condition::by_condition;
use crate::fetch::undefined;
use crate::op::Handler;
use crate::ops::{alu, bcd, bits, exchange, flag, mov, muldiv, stack};
use crate::thunk::Feature;
use crate::width::{W8, W16, W32, W64, by_width};

pub(super) fn lower(x: &mut Context<'_>) -> Option<Handler> {
    let m = x.i.mnemonic();
    Some(match m {
        M::Mov if x.is_gpr(0) || x.is_mem(0) => return mov(x),
        M::Add => return binary(x, alu::ADD),
        M::Or => return binary(x, alu::OR),
        M::Adc => return binary(x, alu::ADC),
        M::Sbb => return binary(x, alu::SBB),
        M::And => return binary(x, alu::AND),
        M::Sub => return binary(x, alu::SUB),
        M::Xor => return binary(x, alu::XOR),
        M::Cmp => return binary(x, alu::CMP),
        M::Test => return binary(x, alu::TEST),
        M::Inc => unary::<{ alu::INC }>(x),
        M::Dec => unary::<{ alu::DEC }>(x),
        M::Neg => unary::<{ alu::NEG }>(x),
        M::Not => unary::<{ alu::NOT }>(x),
        M::Lea => {
            let f = mov::lea::<W64>;
            x.op.dst = x.reg(0);
            match x.width(0) {
                2 => mov::lea::<W16>,
                4 => mov::lea::<W32>,
                _ => f,
            }
        }
        M::Movzx => extend(x, false),
        M::Movsx | M::Movsxd => extend(x, true),
        M::Xchg => exchange_op(x),
        M::Xadd => {
            x.op.src = x.reg(1);
            x.op.imm = u64::from(x.locked());
            if x.is_mem(0) {
                use exchange::xadd_mem;
                by_width!(x.width(0), xadd_mem)
            } else {
                use exchange::xadd_reg;
                x.op.dst = x.reg(0);
                by_width!(x.width(0), xadd_reg)
            }
        }
        M::Cmpxchg => {
            x.op.src = x.reg(1);
            x.op.imm = u64::from(x.locked());
            if x.is_mem(0) {
                use exchange::cmpxchg_mem;
                by_width!(x.width(0), cmpxchg_mem)
            } else {
                use exchange::cmpxchg_reg;
                x.op.dst = x.reg(0);
                by_width!(x.width(0), cmpxchg_reg)
            }
        }
        M::Cmpxchg8b => exchange::cmpxchg_double::<W32>,
        M::Cmpxchg16b if !x.features.cx16 => return None,
        M::Cmpxchg16b => exchange::cmpxchg_double::<W64>,
        M::Mul => one_operand(x, by_width_md(x, MulDiv::Mul)),
        M::Imul => return imul(x),
        M::Div => one_operand(x, by_width_md(x, MulDiv::Div)),
        M::Idiv => one_operand(x, by_width_md(x, MulDiv::Idiv)),
        M::Cbw => mov::widen_accumulator::<W16, W8>,
        M::Cwde => mov::widen_accumulator::<W32, W16>,
        M::Cdqe => mov::widen_accumulator::<W64, W32>,
        M::Cwd => mov::sign_into_dx::<W16>,
        M::Cdq => mov::sign_into_dx::<W32>,
        M::Cqo => mov::sign_into_dx::<W64>,
        M::Bt => bit_op::<{ bits::BT }>(x),
        M::Bts => bit_op::<{ bits::BTS }>(x),
        M::Btr => bit_op::<{ bits::BTR }>(x),
        M::Btc => bit_op::<{ bits::BTC }>(x),
        M::Bsf => scan::<false>(x),
        M::Bsr => scan::<true>(x),
        // Without the feature the prefix means nothing.
        M::Tzcnt if !x.features.thunks.has(Feature::BMI1) => scan::<false>(x),
        M::Lzcnt if !x.features.thunks.has(Feature::LZCNT) => scan::<true>(x),
        M::Tzcnt => count::<false>(x),
        M::Lzcnt => count::<true>(x),
        M::Popcnt if !x.features.thunks.has(Feature::POPCNT) => return None,
        M::Popcnt => {
            two_operand(x);
            if x.is_mem(1) {
                match x.width(0) {
                    2 => bits::popcnt::<W16, true>,
                    4 => bits::popcnt::<W32, true>,
                    _ => bits::popcnt::<W64, true>,
                }
            } else {
                match x.width(0) {
                    2 => bits::popcnt::<W16, false>,
                    4 => bits::popcnt::<W32, false>,
                    _ => bits::popcnt::<W64, false>,
                }
            }
        }
        M::Bswap => {
            use mov::bswap;
            x.op.dst = x.reg(0);
            by_width!(x.width(0), bswap)
        }
        M::Movbe if !x.features.thunks.has(Feature::MOVBE) => return None,
        M::Movbe => {
            use mov::{movbe_load, movbe_store};
            if x.is_mem(0) {
                x.op.src = x.reg(1);
                by_width!(x.width(1), movbe_store)
            } else {
                x.op.dst = x.reg(0);
                by_width!(x.width(0), movbe_load)
            }
        }
        M::Xlatb => {
            // The index is added by the handler; the base is rBX in the address size.
            x.op.base = reg::RBX as u8;
            x.op.index = reg::ZERO as u8;
            x.op.seg = x.memory_segment();
            x.op.addressing = x.addressing(x.i.memory_base().size(), x.op.seg);
            mov::xlat
        }
        M::Push => return push(x),
        M::Pop => return pop(x),
        M::Pusha => flag::pusha::<flag::Short>,
        M::Pushad => flag::pusha::<flag::Long>,
        M::Popa => flag::popa::<flag::Short>,
        M::Popad => flag::popa::<flag::Long>,
        M::Pushf => flag::pushf::<W16>,
        M::Pushfd => flag::pushf::<W32>,
        M::Pushfq => flag::pushf::<W64>,
        M::Popf => flag::popf::<W16>,
        M::Popfd => flag::popf::<W32>,
        M::Popfq => flag::popf::<W64>,
        M::Enter => {
            x.op.imm = u64::from(x.i.immediate16());
            x.op.disp = i64::from(x.i.immediate8_2nd());
            sized(x, stack::enter::<W16>, stack::enter::<W32>, stack::enter::<W64>)
        }
        M::Leave => sized(x, stack::leave::<W16>, stack::leave::<W32>, stack::leave::<W64>),
        M::Clc => flag::clc,
        M::Stc => flag::stc,
        M::Cmc => flag::cmc,
        M::Cld => flag::cld,
        M::Std => flag::std,
        M::Lahf => flag::lahf,
        M::Sahf => flag::sahf,
        M::Cli => flag::interrupt_flag::<false>,
        M::Sti => flag::interrupt_flag::<true>,
        M::Clac | M::Stac if !x.features.smap => return None,
        M::Clac => flag::access_flag::<false>,
        M::Stac => flag::access_flag::<true>,
        M::Daa => bcd::decimal::<false>,
        M::Das => bcd::decimal::<true>,
        M::Aaa => bcd::ascii::<false>,
        M::Aas => bcd::ascii::<true>,
        M::Aam => {
            x.op.imm = x.imm(0);
            bcd::aam
        }
        M::Aad => {
            x.op.imm = x.imm(0);
            bcd::aad
        }
        M::Bound => {
            x.op.dst = x.reg(0);
            if x.width(0) == 2 { bcd::bound::<W16> } else { bcd::bound::<W32> }
        }
        M::Arpl => {
            x.op.src = x.reg(1);
            if x.is_mem(0) {
                bcd::arpl_mem
            } else {
                x.op.dst = x.reg(0);
                bcd::arpl_reg
            }
        }
        M::Nop | M::Fnop if m == M::Nop => mov::nop,
        M::Mfence => mov::mfence,
        M::Pause => mov::pause,
        M::Endbr32
        | M::Endbr64
        | M::Lfence
        | M::Sfence
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetch
        | M::Prefetchw
        | M::Prefetchwt1
        | M::Prefetchit0
        | M::Prefetchit1
        | M::Reservednop
        // No operation where there is no shadow stack; compilers have unwinders read its pointer unasked.
        | M::Rdsspd
        | M::Rdsspq
        | M::Cldemote => mov::nop,
        M::Ud0 | M::Ud1 | M::Ud2 => undefined,
        _ => return conditional(x),
    })
}

/// The instance for the operand size of an instruction without an explicit operand.
fn sized(x: &Context<'_>, short: Handler, long: Handler, quad: Handler) -> Handler {
    match x.i.op_code().operand_size() {
        16 => short,
        32 => long,
        64 => quad,
        _ => match x.i.stack_pointer_increment().unsigned_abs() % 8 {
            2 => short,
            4 => long,
            _ => quad,
        },
    }
}

fn mov(x: &mut Context<'_>) -> Option<Handler> {
    use mov::{mem_imm, mem_reg, reg_imm, reg_mem, reg_reg};
    if x.is_mem(0) {
        let width = x.width(0);
        if x.is_imm(1) {
            x.op.imm = x.imm(1);
            return Some(by_width!(width, mem_imm));
        }
        if !x.is_gpr(1) {
            return None;
        }
        x.op.src = x.reg(1);
        return Some(by_width!(width, mem_reg));
    }
    x.op.dst = x.reg(0);
    let width = x.width(0);
    Some(if x.is_imm(1) {
        x.op.imm = x.imm(1);
        by_width!(width, reg_imm)
    } else if x.is_mem(1) {
        by_width!(width, reg_mem)
    } else if x.is_gpr(1) {
        x.op.src = x.reg(1);
        by_width!(width, reg_reg)
    } else {
        return None;
    })
}

macro_rules! by_kind {
    ($k:expr, $width:expr, $f:ident) => {
        match $k {
            0 => by_width!($width, $f, 0),
            1 => by_width!($width, $f, 1),
            2 => by_width!($width, $f, 2),
            3 => by_width!($width, $f, 3),
            4 => by_width!($width, $f, 4),
            5 => by_width!($width, $f, 5),
            6 => by_width!($width, $f, 6),
            7 => by_width!($width, $f, 7),
            _ => by_width!($width, $f, 8),
        }
    };
}

fn binary(x: &mut Context<'_>, kind: u8) -> Option<Handler> {
    use alu::{lock_mem_imm, lock_mem_reg, mem_imm, mem_reg, reg_imm, reg_mem, reg_reg};
    let width = x.width(0);
    if x.is_mem(0) {
        if x.is_imm(1) {
            x.op.imm = x.imm(1);
            return Some(if x.locked() {
                by_kind!(kind, width, lock_mem_imm)
            } else {
                by_kind!(kind, width, mem_imm)
            });
        }
        x.op.src = x.reg(1);
        return Some(if x.locked() {
            by_kind!(kind, width, lock_mem_reg)
        } else {
            by_kind!(kind, width, mem_reg)
        });
    }
    x.op.dst = x.reg(0);
    Some(if x.is_imm(1) {
        x.op.imm = x.imm(1);
        by_kind!(kind, width, reg_imm)
    } else if x.is_mem(1) {
        by_kind!(kind, width, reg_mem)
    } else {
        x.op.src = x.reg(1);
        by_kind!(kind, width, reg_reg)
    })
}

fn unary<const K: u8>(x: &mut Context<'_>) -> Handler {
    use alu::{unary_mem, unary_reg};
    let width = x.width(0);
    if x.is_mem(0) {
        x.op.imm = u64::from(x.locked());
        by_width!(width, unary_mem, K)
    } else {
        x.op.dst = x.reg(0);
        by_width!(width, unary_reg, K)
    }
}

fn extend(x: &mut Context<'_>, signed: bool) -> Handler {
    let memory = x.is_mem(1);
    let (to, from) = (x.width(0), x.width(1));
    x.op.dst = x.reg(0);
    if !memory {
        x.op.src = x.reg(1);
    }
    macro_rules! pick {
        ($d:ty, $s:ty) => {
            match (signed, memory) {
                (false, false) => mov::zero_extend_reg::<$d, $s> as Handler,
                (false, true) => mov::zero_extend_mem::<$d, $s>,
                (true, false) => mov::sign_extend_reg::<$d, $s>,
                (true, true) => mov::sign_extend_mem::<$d, $s>,
            }
        };
    }
    match (to, from) {
        (2, 1) => pick!(W16, W8),
        (4, 1) => pick!(W32, W8),
        (8, 1) => pick!(W64, W8),
        (2, _) => pick!(W16, W16),
        (4, 2) => pick!(W32, W16),
        (8, 2) => pick!(W64, W16),
        (4, _) => pick!(W32, W32),
        _ => pick!(W64, W32),
    }
}

fn exchange_op(x: &mut Context<'_>) -> Handler {
    use exchange::{xchg_mem, xchg_reg};
    if x.is_mem(0) || x.is_mem(1) {
        let register = u32::from(x.is_mem(0));
        x.op.src = x.reg(register);
        by_width!(x.width(register), xchg_mem)
    } else {
        x.op.dst = x.reg(0);
        x.op.src = x.reg(1);
        by_width!(x.width(0), xchg_reg)
    }
}

enum MulDiv {
    Mul,
    Imul,
    Div,
    Idiv,
}

fn by_width_md(x: &Context<'_>, what: MulDiv) -> Handler {
    use muldiv::{div, idiv, imul, mul};
    let (w, mem) = (x.width(0), x.is_mem(0));
    match (what, mem) {
        (MulDiv::Mul, false) => by_width!(w, mul, false),
        (MulDiv::Mul, true) => by_width!(w, mul, true),
        (MulDiv::Imul, false) => by_width!(w, imul, false),
        (MulDiv::Imul, true) => by_width!(w, imul, true),
        (MulDiv::Div, false) => by_width!(w, div, false),
        (MulDiv::Div, true) => by_width!(w, div, true),
        (MulDiv::Idiv, false) => by_width!(w, idiv, false),
        (MulDiv::Idiv, true) => by_width!(w, idiv, true),
    }
}

fn one_operand(x: &mut Context<'_>, handler: Handler) -> Handler {
    if !x.is_mem(0) {
        x.op.src = x.reg(0);
    }
    handler
}

/// Destination register and a register-or-memory source.
fn two_operand(x: &mut Context<'_>) {
    x.op.dst = x.reg(0);
    if !x.is_mem(1) {
        x.op.src = x.reg(1);
    }
}

fn imul(x: &mut Context<'_>) -> Option<Handler> {
    use muldiv::{imul2, imul3};
    if x.i.op_count() == 1 {
        let handler = by_width_md(x, MulDiv::Imul);
        return Some(one_operand(x, handler));
    }
    two_operand(x);
    let (width, mem) = (x.width(0), x.is_mem(1));
    if x.i.op_count() == 3 {
        x.op.imm = x.imm(2);
        return Some(if mem {
            by_width!(width, imul3, true)
        } else {
            by_width!(width, imul3, false)
        });
    }
    Some(if mem { by_width!(width, imul2, true) } else { by_width!(width, imul2, false) })
}

fn bit_op<const K: u8>(x: &mut Context<'_>) -> Handler {
    use bits::{mem_imm, mem_reg, reg_imm, reg_reg};
    let width = x.width(0);
    match (x.is_mem(0), x.is_imm(1)) {
        (true, true) => {
            x.op.imm = x.imm(1) & 0xff | u64::from(x.locked()) << 8;
            by_width!(width, mem_imm, K)
        }
        (true, false) => {
            x.op.src = x.reg(1);
            x.op.imm = u64::from(x.locked());
            by_width!(width, mem_reg, K)
        }
        (false, true) => {
            x.op.dst = x.reg(0);
            x.op.imm = x.imm(1);
            by_width!(width, reg_imm, K)
        }
        (false, false) => {
            x.op.dst = x.reg(0);
            x.op.src = x.reg(1);
            by_width!(width, reg_reg, K)
        }
    }
}

fn scan<const REVERSE: bool>(x: &mut Context<'_>) -> Handler {
    use bits::scan;
    two_operand(x);
    if x.is_mem(1) {
        by_width!(x.width(0), scan, REVERSE, true)
    } else {
        by_width!(x.width(0), scan, REVERSE, false)
    }
}

fn count<const LEADING: bool>(x: &mut Context<'_>) -> Handler {
    use bits::count_zeros;
    two_operand(x);
    if x.is_mem(1) {
        by_width!(x.width(0), count_zeros, LEADING, true)
    } else {
        by_width!(x.width(0), count_zeros, LEADING, false)
    }
}

/// Operand size of PUSH and POP: from how far the stack pointer moves.
fn stack_width(x: &Context<'_>) -> i32 {
    x.i.stack_pointer_increment().abs()
}

fn push(x: &mut Context<'_>) -> Option<Handler> {
    let width = stack_width(x);
    macro_rules! pick {
        ($f:path) => {{
            use $f as f;
            match width {
                2 => f::<W16> as Handler,
                4 => f::<W32>,
                _ => f::<W64>,
            }
        }};
    }
    if x.is_imm(0) {
        x.op.imm = x.imm(0);
        return Some(pick!(stack::push_imm));
    }
    if x.is_mem(0) {
        return Some(pick!(stack::push_mem));
    }
    if x.i.op_register(0).is_segment_register() {
        x.op.src = super::segment(x.i.op_register(0));
        return Some(pick!(stack::push_segment));
    }
    x.op.src = x.reg(0);
    Some(pick!(stack::push_reg))
}

fn pop(x: &mut Context<'_>) -> Option<Handler> {
    let width = stack_width(x);
    macro_rules! pick {
        ($f:path) => {{
            use $f as f;
            match width {
                2 => f::<W16> as Handler,
                4 => f::<W32>,
                _ => f::<W64>,
            }
        }};
    }
    if x.is_mem(0) {
        return Some(pick!(stack::pop_mem));
    }
    if x.i.op_register(0).is_segment_register() {
        x.op.dst = super::segment(x.i.op_register(0));
        return Some(pick!(stack::pop_segment));
    }
    x.op.dst = x.reg(0);
    Some(pick!(stack::pop_reg))
}

/// CMOVcc and SETcc.
fn conditional(x: &mut Context<'_>) -> Option<Handler> {
    use mov::{cmov_mem, cmov_reg, setcc_mem, setcc_reg};
    let code = x.i.condition_code() as u8;
    if code == 0 || x.i.is_jcc_short_or_near() {
        return None;
    }
    let c = code - 1;
    if x.i.op_count() == 1 && (x.is_gpr(0) || x.is_mem(0)) {
        if !x.is_mem(0) {
            x.op.dst = x.reg(0);
        }
        return Some(either(x.is_mem(0), by_condition!(c, setcc_mem), by_condition!(c, setcc_reg)));
    }
    if x.i.op_count() != 2 || !x.is_gpr(0) {
        return None;
    }
    two_operand(x);
    let memory = x.is_mem(1);
    Some(match x.width(0) {
        2 => either(memory, by_condition!(c, cmov_mem, W16), by_condition!(c, cmov_reg, W16)),
        4 => either(memory, by_condition!(c, cmov_mem, W32), by_condition!(c, cmov_reg, W32)),
        _ => either(memory, by_condition!(c, cmov_mem, W64), by_condition!(c, cmov_reg, W64)),
    })
}
