//! System instructions: their operands and results here, their behaviour in the `cpu` crate.

use std::sync::atomic::{Ordering, fence};

use kvm_cpu::exception::{self, Event};
use kvm_cpu::pvclock::{self, Hypercall};
use kvm_cpu::segment::{self, Query};
use kvm_cpu::system::{self, Table};
use kvm_cpu::{Exec, Trap, Vector, control, far, flags, msr, reg, ret, seg, smm, syscall};

use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::{W16, W32, W64, Width};

/// DR6: the trap is a single step.
pub(crate) const DR6_BS: u64 = 1 << 14;

/// The interrupt command register as an MSR (SDM volume 3, table 13-6).
const X2APIC_ICR: u32 = 0x830;

const AX: u8 = reg::RAX as u8;
const CX: u8 = reg::RCX as u8;
const DX: u8 = reg::RDX as u8;

impl Vcpu {
    /// RIP was set to a target, and modes may have changed: makes the run loop's addition of the length
    /// yield it.
    fn settle(&mut self, op: &Op) {
        self.settle_level(op);
        self.attention = true;
    }

    /// The same after a change of the privilege level, which `follow_privilege` looked at.
    fn settle_level(&mut self, op: &Op) {
        self.cpu.regs[reg::RIP] = self.cpu.regs[reg::RIP].wrapping_sub(u64::from(op.len));
    }

    /// The 16-bit operand: in memory where `MEM`, else register `op.src`.
    fn word_operand<const MEM: bool>(&mut self, op: &Op) -> Result<u16, Trap> {
        let value = if MEM {
            let linear = self.linear(op, 2, false)?;
            self.read::<W16>(linear, op.seg)?
        } else {
            self.get::<W16>(op.src)
        };
        #[allow(clippy::cast_possible_truncation)]
        Ok(value as u16)
    }
}

pub(crate) fn mov_from_cr(v: &mut Vcpu, op: &Op) -> Done {
    let value = control::read_cr(v, op.src)?;
    v.set::<W64>(op.dst, value);
    Ok(())
}

/// `op.imm`: the mask of the operand size.
pub(crate) fn mov_to_cr(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<W64>(op.src) & op.imm;
    serialize();
    control::write_cr(v, op.dst, value)?;
    v.follow_pcid();
    v.attention = true;
    Ok(())
}

pub(crate) fn mov_from_dr(v: &mut Vcpu, op: &Op) -> Done {
    let value = system::read_dr(v, op.src)?;
    v.set::<W64>(op.dst, value);
    Ok(())
}

pub(crate) fn mov_to_dr(v: &mut Vcpu, op: &Op) -> Done {
    let value = v.get::<W64>(op.src) & op.imm;
    system::write_dr(v, op.dst, value)?;
    v.refresh_context();
    Ok(())
}

/// MOV to a segment register.
pub(crate) fn mov_to_segment<const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let selector = v.word_operand::<MEM>(op)?;
    segment::load_segment(v, usize::from(op.dst), selector)?;
    if usize::from(op.dst) == seg::SS {
        v.cpu.events.mov_ss_shadow = true;
        v.attention = true;
    }
    Ok(())
}

pub(crate) fn mov_from_segment<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = u64::from(v.cpu.segs[usize::from(op.src) & 7].selector);
    v.set::<W>(op.dst, value);
    Ok(())
}

pub(crate) fn store_segment(v: &mut Vcpu, op: &Op) -> Done {
    let value = u64::from(v.cpu.segs[usize::from(op.src) & 7].selector);
    let linear = v.linear(op, 2, true)?;
    v.write::<W16>(linear, op.seg, value)
}

/// LDS, LES, LFS, LGS, LSS: `op.src` is the segment register, `W` the offset's width.
pub(crate) fn load_far_pointer<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let bytes = u64::from(W::BYTES);
    let linear = v.linear(op, bytes + 2, false)?;
    let offset = v.read::<W>(linear, op.seg)?;
    let selector = v.read::<W16>(v.further(linear, bytes), op.seg)?;
    #[allow(clippy::cast_possible_truncation)]
    segment::load_segment(v, usize::from(op.src), selector as u16)?;
    v.set::<W>(op.dst, offset);
    if usize::from(op.src) == seg::SS {
        v.cpu.events.mov_ss_shadow = true;
        v.attention = true;
    }
    Ok(())
}

/// The far pointer in memory: offset of width `W`, then the selector.
fn far_pointer<W: Width>(v: &mut Vcpu, op: &Op) -> Result<(u16, u64), Trap> {
    let bytes = u64::from(W::BYTES);
    let linear = v.linear(op, bytes + 2, false)?;
    let offset = v.read::<W>(linear, op.seg)?;
    let selector = v.read::<W16>(v.further(linear, bytes), op.seg)?;
    #[allow(clippy::cast_possible_truncation)]
    Ok((selector as u16, offset))
}

/// `op.imm`: offset in the low, selector in the upper half.
fn direct_pointer(op: &Op) -> (u16, u64) {
    ((op.imm >> 32) as u16, op.imm & 0xffff_ffff)
}

pub(crate) fn far_jump<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let (selector, offset) = if MEM { far_pointer::<W>(v, op)? } else { direct_pointer(op) };
    let next = v.next_ip(op);
    far::far_jump(v, selector, offset, W::BYTES, next)?;
    v.settle(op);
    Ok(())
}

pub(crate) fn far_call<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let (selector, offset) = if MEM { far_pointer::<W>(v, op)? } else { direct_pointer(op) };
    let next = v.next_ip(op);
    far::far_call(v, selector, offset, W::BYTES, next)?;
    v.settle(op);
    Ok(())
}

pub(crate) fn far_ret<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    #[allow(clippy::cast_possible_truncation)]
    ret::far_ret(v, W::BYTES, op.imm as u16)?;
    v.settle(op);
    Ok(())
}

/// Serialising instructions let no store wait behind them.
fn serialize() {
    fence(Ordering::SeqCst);
}

pub(crate) fn iret<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let next = v.next_ip(op);
    ret::iret(v, W::BYTES, next)?;
    serialize();
    v.settle_level(op);
    Ok(())
}

pub(crate) fn rsm(v: &mut Vcpu, op: &Op) -> Done {
    smm::resume(v)?;
    if std::mem::take(&mut v.cpu.events.init_latched) {
        v.take_init();
    }
    serialize();
    v.settle(op);
    Ok(())
}

fn deliver(v: &mut Vcpu, op: &Op, event: Event) -> Done {
    // An instruction that enters a handler leaves its own single step behind: with TF set, no #DB
    // follows INT n. A data breakpoint that a load of SS put off comes at the handler's start.
    v.cpu.events.debug_trap &= !DR6_BS;
    // RF ends with this instruction: the flags pushed do not have it.
    v.cpu.rflags &= !flags::RF;
    exception::deliver(v, event)?;
    v.settle_level(op);
    Ok(())
}

/// INT n: `op.imm` is the vector.
pub(crate) fn int_n(v: &mut Vcpu, op: &Op) -> Done {
    let next = v.next_ip(op);
    #[allow(clippy::cast_possible_truncation)]
    deliver(v, op, Event::IntN { vector: op.imm as u8, next })
}

pub(crate) fn int3(v: &mut Vcpu, op: &Op) -> Done {
    use kvm_abi::regs::guestdbg;
    let wanted = guestdbg::ENABLE | guestdbg::USE_SW_BP;
    if v.cpu.guest_debug.control & wanted == wanted {
        // The debugger's: it goes out with RIP at the instruction.
        return Err(v.cpu.raise(Vector::Bp, 0));
    }
    let next = v.next_ip(op);
    deliver(v, op, Event::Trap { vector: 3, next })
}

pub(crate) fn into(v: &mut Vcpu, op: &Op) -> Done {
    if !v.cpu.arith.of() {
        return Ok(());
    }
    let next = v.next_ip(op);
    deliver(v, op, Event::Trap { vector: 4, next })
}

pub(crate) fn int1(v: &mut Vcpu, op: &Op) -> Done {
    let next = v.next_ip(op);
    deliver(v, op, Event::Icebp { next })?;
    // What was put off is reported with this #DB, not by another.
    v.cpu.dr[6] |= std::mem::take(&mut v.cpu.events.debug_trap);
    Ok(())
}

pub(crate) fn syscall_op(v: &mut Vcpu, op: &Op) -> Done {
    let next = v.next_ip(op);
    syscall::syscall(v, next)?;
    if v.cpu.rflags & flags::TF == 0 {
        // Masked by SFMASK: the handler's first instruction is not preceded by a #DB.
        v.cpu.events.debug_trap &= !DR6_BS;
    }
    v.settle_level(op);
    Ok(())
}

/// `op.imm`: 1 for the 64-bit operand size.
pub(crate) fn sysret(v: &mut Vcpu, op: &Op) -> Done {
    syscall::sysret(v, op.imm != 0)?;
    if v.cpu.rflags & flags::TF != 0 {
        // Unlike POPF and IRET, it traps itself with the flag that it loads (AMD APM volume 3).
        v.cpu.events.debug_trap |= DR6_BS;
    }
    v.settle_level(op);
    Ok(())
}

pub(crate) fn sysenter(v: &mut Vcpu, op: &Op) -> Done {
    syscall::sysenter(v)?;
    v.settle(op);
    Ok(())
}

pub(crate) fn sysexit(v: &mut Vcpu, op: &Op) -> Done {
    syscall::sysexit(v, op.imm != 0)?;
    v.settle(op);
    Ok(())
}

pub(crate) fn swapgs(v: &mut Vcpu, _op: &Op) -> Done {
    syscall::swapgs(v)
}

pub(crate) fn rdmsr(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.require_cpl0()?;
    #[allow(clippy::cast_possible_truncation)]
    let index = v.get::<W32>(CX) as u32;
    let value = match msr::read_msr(v, index) {
        Ok(value) => value,
        Err(trap) => {
            v.counters.refusals.note(|| format!("the read of MSR {index:#x}"));
            return Err(trap);
        }
    };
    v.set::<W32>(AX, value);
    v.set::<W32>(DX, value >> 32);
    Ok(())
}

pub(crate) fn wrmsr(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.require_cpl0()?;
    #[allow(clippy::cast_possible_truncation)]
    let index = v.get::<W32>(CX) as u32;
    let value = v.get::<W32>(DX) << 32 | v.get::<W32>(AX);
    serialize();
    let write = |v: &mut Vcpu| msr::write_msr(v, index, value);
    // Who sends a SIPI waits until the other one has begun.
    let written = if index == X2APIC_ICR { v.aside(write) } else { write(v) };
    if let Err(trap) = written {
        // Others are there and cannot hold the value.
        if msr::read_msr(v, index).is_err() {
            v.counters.refusals.note(|| format!("the write of MSR {index:#x}"));
        }
        return Err(trap);
    }
    v.attention = true;
    Ok(())
}

pub(crate) fn rdtsc(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.check_tsd()?;
    let value = v.tsc();
    v.set::<W32>(AX, value);
    v.set::<W32>(DX, value >> 32);
    Ok(())
}

pub(crate) fn rdtscp(v: &mut Vcpu, op: &Op) -> Done {
    rdtsc(v, op)?;
    let aux = v.cpu.msrs.tsc_aux;
    v.set::<W32>(CX, aux);
    Ok(())
}

pub(crate) fn rdpid(v: &mut Vcpu, op: &Op) -> Done {
    let aux = v.cpu.msrs.tsc_aux & 0xffff_ffff;
    v.set::<W64>(op.dst, aux);
    Ok(())
}

/// RDRAND and RDSEED.
pub(crate) fn random<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let bits = v.random();
    v.set::<W>(op.dst, bits.unwrap_or(0));
    v.cpu.arith.set(if bits.is_some() { flags::CF } else { 0 });
    Ok(())
}

pub(crate) fn cpuid(v: &mut Vcpu, _op: &Op) -> Done {
    #[allow(clippy::cast_possible_truncation)]
    let (leaf, subleaf) = (v.get::<W32>(AX) as u32, v.get::<W32>(CX) as u32);
    serialize();
    let r: [u32; 4] = kvm_cpu::cpuid::cpuid(v, leaf, subleaf).into();
    for (register, value) in
        [(reg::RAX, r[0]), (reg::RBX, r[1]), (reg::RCX, r[2]), (reg::RDX, r[3])]
    {
        v.cpu.regs[register] = u64::from(value);
    }
    Ok(())
}

pub(crate) fn hlt(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.require_cpl0()?;
    // What an STI before it held off ends the halt.
    v.cpu.events.sti_shadow = false;
    if v.context.irqchip.is_some() {
        v.cpu.mp_state = kvm_abi::regs::MpState::Halted;
    } else {
        v.exit = Some(kvm_abi::exit::Exit::Hlt);
    }
    v.attention = true;
    Ok(())
}

pub(crate) fn clts(v: &mut Vcpu, _op: &Op) -> Done {
    control::clts(v)
}

pub(crate) fn lmsw<const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    v.cpu.require_cpl0()?;
    let value = v.word_operand::<MEM>(op)?;
    control::lmsw(v, value)?;
    v.attention = true;
    Ok(())
}

pub(crate) fn smsw_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = control::smsw(v)?;
    v.set::<W>(op.dst, value);
    Ok(())
}

pub(crate) fn smsw_mem(v: &mut Vcpu, op: &Op) -> Done {
    let value = control::smsw(v)?;
    let linear = v.linear(op, 2, true)?;
    v.write::<W16>(linear, op.seg, value)
}

/// Privileged, and without effect here: caches are always coherent.
pub(crate) fn cache_control(v: &mut Vcpu, _op: &Op) -> Done {
    v.cpu.require_cpl0()
}

/// CLFLUSH, CLFLUSHOPT, CLWB: fault as a load of the line does.
pub(crate) fn clflush(v: &mut Vcpu, op: &Op) -> Done {
    let linear = v.linear(op, 1, false)?;
    v.probe(linear, 1, kvm_cpu::Access::Read, crate::linear::Via::Segment(op.seg))
}

/// `op.imm`: the operand size in bytes.
pub(crate) fn load_table<const IDT: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let (which, offset) = (table::<IDT>(), v.offset(op));
    #[allow(clippy::cast_possible_truncation)]
    system::load_table(v, which, usize::from(op.seg), offset, op.imm as u8)
}

pub(crate) fn store_table<const IDT: bool>(v: &mut Vcpu, op: &Op) -> Done {
    let (which, offset) = (table::<IDT>(), v.offset(op));
    system::store_table(v, which, usize::from(op.seg), offset)
}

fn table<const IDT: bool>() -> Table {
    if IDT { Table::Idt } else { Table::Gdt }
}

/// SLDT and STR: `op.src` is the segment register.
pub(crate) fn store_selector_reg<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let value = system::store_selector(v, usize::from(op.src))?;
    v.set::<W>(op.dst, u64::from(value));
    Ok(())
}

pub(crate) fn store_selector_mem(v: &mut Vcpu, op: &Op) -> Done {
    let value = system::store_selector(v, usize::from(op.src))?;
    let linear = v.linear(op, 2, true)?;
    v.write::<W16>(linear, op.seg, u64::from(value))
}

pub(crate) fn lldt<const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    v.cpu.require_protected()?;
    v.cpu.require_cpl0()?;
    let selector = v.word_operand::<MEM>(op)?;
    segment::lldt(v, selector)
}

pub(crate) fn ltr<const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    v.cpu.require_protected()?;
    v.cpu.require_cpl0()?;
    let selector = v.word_operand::<MEM>(op)?;
    segment::ltr(v, selector)
}

fn query(v: &mut Vcpu, what: Query, selector: u16) -> Result<Option<u64>, Trap> {
    let answer = segment::query(v, what, selector)?;
    let zf = if answer.is_some() { flags::ZF } else { 0 };
    v.cpu.arith.update(flags::ZF, zf);
    Ok(answer)
}

/// There are no performance counters: every number is out of range, for CPL 0 too.
pub(crate) fn rdpmc(v: &mut Vcpu, _op: &Op) -> Done {
    Err(v.cpu.gp(0))
}

pub(crate) fn lar<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    v.cpu.require_protected()?;
    let selector = v.word_operand::<MEM>(op)?;
    if let Some(value) = query(v, Query::AccessRights, selector)? {
        v.set::<W>(op.dst, value);
    }
    Ok(())
}

pub(crate) fn lsl<W: Width, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    v.cpu.require_protected()?;
    let selector = v.word_operand::<MEM>(op)?;
    if let Some(value) = query(v, Query::Limit, selector)? {
        v.set::<W>(op.dst, value);
    }
    Ok(())
}

pub(crate) fn verify<const WRITE: bool, const MEM: bool>(v: &mut Vcpu, op: &Op) -> Done {
    v.cpu.require_protected()?;
    let selector = v.word_operand::<MEM>(op)?;
    query(v, if WRITE { Query::Writable } else { Query::Readable }, selector)?;
    Ok(())
}

pub(crate) fn invlpg(v: &mut Vcpu, op: &Op) -> Done {
    v.cpu.require_cpl0()?;
    // No access is made: no segment check either.
    let mut linear = v.offset(op);
    let s = usize::from(op.seg) & 7;
    if v.cpu.mode != kvm_cpu::Mode::Long64 || s == seg::FS || s == seg::GS {
        linear = v.further(linear, v.cpu.segs[s].base);
    }
    serialize();
    system::invlpg(v, linear)
}

pub(crate) fn invpcid(v: &mut Vcpu, op: &Op) -> Done {
    let (kind, offset) = (v.get::<W64>(op.dst), v.offset(op));
    system::invpcid(v, kind, usize::from(op.seg), offset)
}

/// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: `op.imm` is the segment register.
fn check_fsgsbase(v: &mut Vcpu) -> Done {
    if v.cpu.cr4 & (1 << 16) == 0 || v.cpu.mode != kvm_cpu::Mode::Long64 {
        return Err(v.undefined());
    }
    Ok(())
}

pub(crate) fn read_base<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    check_fsgsbase(v)?;
    let base = v.cpu.segs[op.imm as usize & 7].base;
    v.set::<W>(op.dst, base);
    Ok(())
}

pub(crate) fn write_base<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    check_fsgsbase(v)?;
    let base = v.get::<W>(op.dst);
    if !crate::linear::canonical(base) {
        return Err(v.cpu.gp(0));
    }
    v.cpu.segs[op.imm as usize & 7].base = base;
    Ok(())
}

pub(crate) fn xgetbv(v: &mut Vcpu, _op: &Op) -> Done {
    let in_use = v.vectors.in_use();
    let value = control::xgetbv(v, in_use)?;
    v.set::<W32>(AX, value);
    v.set::<W32>(DX, value >> 32);
    Ok(())
}

pub(crate) fn xsetbv(v: &mut Vcpu, _op: &Op) -> Done {
    control::xsetbv(v)?;
    v.refresh_context();
    Ok(())
}

/// VMCALL and VMMCALL.
pub(crate) fn hypercall(v: &mut Vcpu, _op: &Op) -> Done {
    match pvclock::hypercall(v) {
        Hypercall::Done => {}
        Hypercall::Kick(apic_id) => {
            if let Some(irqchip) = &v.context.irqchip {
                irqchip.unhalt(apic_id);
            }
        }
        // Which host CPU a thread gets is the host's affair: giving up the own one is what helps.
        Hypercall::Yield(_) => std::thread::yield_now(),
        Hypercall::SendIpi { bitmap, first, icr } => {
            let irqchip = v.context.irqchip.as_ref();
            let taken = irqchip.map_or(0, |chip| chip.send_ipis(bitmap, first, icr));
            v.cpu.regs[reg::RAX] = u64::from(taken);
            v.attention = true;
        }
    }
    Ok(())
}
