//! Descriptor-table registers, TLB instructions, debug-register moves and I/O permission.

use crate::bits::{canonical, cr0, cr4, dr};
use crate::segment::check_segment;
use crate::{Cpu, Exec, Fault, Flush, Mode, TableReg, Trap, Vector, flags, seg};

/// Which descriptor-table register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// GDTR.
    Gdt,
    /// IDTR.
    Idt,
}

/// LGDT and LIDT from memory at `segment:offset`; `size` is the operand size in bytes (in 64-bit
/// mode it does not matter).
///
/// # Errors
/// #GP(0) above CPL 0 or for a base that is not canonical, and the faults of the read.
pub fn load_table<E: Exec + ?Sized>(
    e: &mut E,
    which: Table,
    segment: usize,
    offset: u64,
    size: u8,
) -> Result<(), Trap> {
    let cpu = e.cpu();
    cpu.require_cpl0()?;
    let long = cpu.mode == Mode::Long64;
    let base_size = if long { 8u8 } else { 4 };
    let linear = check_segment(cpu, segment, offset, u64::from(base_size) + 2, false)?;
    let limit = e.read_linear(linear, 2, false)? as u16;
    let at = e.cpu().wrap_linear(linear.wrapping_add(2));
    let mut base = e.read_linear(at, base_size, false)?;
    if size == 2 && !long {
        base &= 0xff_ffff;
    }
    let cpu = e.cpu();
    if !canonical(base) {
        return Err(cpu.gp(0));
    }
    let value = TableReg { base, limit };
    match which {
        Table::Gdt => cpu.gdtr = value,
        Table::Idt => cpu.idtr = value,
    }
    Ok(())
}

/// SGDT and SIDT to memory at `segment:offset`.
///
/// # Errors
/// #GP(0) by UMIP, and the faults of the write.
pub fn store_table<E: Exec + ?Sized>(
    e: &mut E,
    which: Table,
    segment: usize,
    offset: u64,
) -> Result<(), Trap> {
    let cpu = e.cpu();
    cpu.check_umip()?;
    let base_size = if cpu.mode == Mode::Long64 { 8u8 } else { 4 };
    let len = u64::from(base_size) + 2;
    let linear = check_segment(cpu, segment, offset, len, true)?;
    let value = match which {
        Table::Gdt => cpu.gdtr,
        Table::Idt => cpu.idtr,
    };
    e.probe_write(linear, len, false)?;
    e.write_linear(linear, 2, u64::from(value.limit), false)?;
    let at = e.cpu().wrap_linear(linear.wrapping_add(2));
    e.write_linear(at, base_size, value.base, false)
}

/// SLDT and STR: the selector.
///
/// # Errors
/// #UD in real and virtual-8086 mode, #GP(0) by UMIP.
pub fn store_selector<E: Exec + ?Sized>(e: &mut E, index: usize) -> Result<u16, Trap> {
    let cpu = e.cpu();
    cpu.require_protected()?;
    cpu.check_umip()?;
    Ok(cpu.segs[index & 7].selector)
}

/// INVLPG of a linear address.
///
/// # Errors
/// #GP(0) above CPL 0.
pub fn invlpg<E: Exec + ?Sized>(e: &mut E, linear: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    cpu.require_cpl0()?;
    let linear = cpu.wrap_linear(linear);
    // For an address that is not canonical it does nothing.
    if canonical(linear) {
        e.flush(Flush::Page(linear));
    }
    Ok(())
}

/// INVPCID with its 16-byte descriptor at `segment:offset`.
///
/// # Errors
/// #UD where CPUID does not have it, #GP(0) above CPL 0 (or in virtual-8086 mode) and for a type
/// or descriptor that is not allowed, and the faults of the read.
pub fn invpcid<E: Exec + ?Sized>(
    e: &mut E,
    kind: u64,
    segment: usize,
    offset: u64,
) -> Result<(), Trap> {
    let cpu = e.cpu();
    if !cpu.caps.invpcid {
        return Err(cpu.ud());
    }
    cpu.require_cpl0()?;
    let linear = check_segment(cpu, segment, offset, 16, false)?;
    let low = e.read_linear(linear, 8, false)?;
    let at = e.cpu().wrap_linear(linear.wrapping_add(8));
    let address = e.read_linear(at, 8, false)?;
    let cpu = e.cpu();
    let pcid = (low & 0xfff) as u16;
    let without_pcids = cpu.cr4 & cr4::PCIDE == 0 && pcid != 0;
    let bad =
        kind > 3 || low >> 12 != 0 || kind < 2 && without_pcids || kind == 0 && !canonical(address);
    if bad {
        return Err(cpu.gp(0));
    }
    e.flush(match kind {
        0 => Flush::PcidPage(pcid, address),
        1 => Flush::Pcid(pcid),
        2 => Flush::All,
        _ => Flush::AllNonGlobal,
    });
    Ok(())
}

/// DR4 and DR5 are DR6 and DR7, unless CR4.DE makes them #UD; DR7.GD makes every access #DB.
fn debug_register(cpu: &mut Cpu, number: u8) -> Result<usize, Trap> {
    cpu.require_cpl0()?;
    if number > 7 || matches!(number, 4 | 5) && cpu.cr4 & cr4::DE != 0 {
        return Err(cpu.ud());
    }
    if cpu.dr[7] & dr::DR7_GD != 0 {
        cpu.fault = Fault { vector: Vector::Db, error: 0, address: dr::DR6_BD };
        return Err(Trap::Fault);
    }
    Ok(usize::from(if matches!(number, 4 | 5) { number + 2 } else { number }))
}

/// MOV from a debug register.
///
/// # Errors
/// #GP(0) above CPL 0, #UD or #DB as above.
pub fn read_dr<E: Exec + ?Sized>(e: &mut E, number: u8) -> Result<u64, Trap> {
    let cpu = e.cpu();
    let index = debug_register(cpu, number)?;
    Ok(cpu.dr[index])
}

/// MOV to a debug register.
///
/// # Errors
/// As for [`read_dr`], and #GP(0) for DR6 or DR7 beyond 32 bits.
pub fn write_dr<E: Exec + ?Sized>(e: &mut E, number: u8, value: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    let index = debug_register(cpu, number)?;
    if index >= 6 && value >> 32 != 0 {
        return Err(cpu.gp(0));
    }
    cpu.dr[index] = match index {
        6 => value & dr::DR6_TRAPS | dr::DR6_FIXED,
        7 => value & !0xd800 | dr::DR7_FIXED,
        _ => value,
    };
    e.context_changed();
    Ok(())
}

/// May this instruction access `size` bytes of ports at `port`? By IOPL, else by the bitmap of a
/// 32- or 64-bit TSS (SDM volume 1, 19.5.2).
///
/// # Errors
/// #GP(0), or the page fault of reading the bitmap.
pub fn check_io<E: Exec + ?Sized>(e: &mut E, port: u16, size: u8) -> Result<(), Trap> {
    let cpu = e.cpu();
    let iopl = (cpu.rflags >> 12 & 3) as u8;
    let v86 = cpu.rflags & flags::VM != 0;
    if cpu.cr0 & cr0::PE == 0 || !v86 && cpu.cpl <= iopl {
        return Ok(());
    }
    let tr = cpu.segs[seg::TR];
    if tr.unusable || tr.access & 0x1d != 9 || tr.limit < 0x67 {
        return Err(cpu.gp(0));
    }
    let at = cpu.wrap_linear(tr.base.wrapping_add(0x66));
    let map = e.read_linear(at, 2, true)?;
    let byte = map + u64::from(port >> 3);
    // Always two bytes, so that ports on both sides of a byte boundary are covered.
    if byte + 1 > u64::from(tr.limit) {
        return Err(e.cpu().gp(0));
    }
    let at = e.cpu().wrap_linear(tr.base.wrapping_add(byte));
    let bits = e.read_linear(at, 2, true)? >> (port & 7);
    let mask = (1u64 << size.min(4)) - 1;
    if bits & mask != 0 { Err(e.cpu().gp(0)) } else { Ok(()) }
}
