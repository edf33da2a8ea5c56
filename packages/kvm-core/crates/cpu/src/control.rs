//! Control registers, XCR0 and EFER: which changes are allowed and what they flush
//! (SDM volume 3, 2.5, 4.10.4 and 9.8.5).

use crate::bits::{cr0, cr4, efer};
use crate::paging::load_pdptrs;
use crate::{Cpu, Exec, Flush, Mode, Trap, reg, seg};

/// CR3 bit 63: the load keeps cached translations of its PCID.
const NO_FLUSH: u64 = 1 << 63;

/// MOV from CR0, CR2, CR3, CR4 or CR8.
///
/// # Errors
/// #UD for other numbers, #GP(0) above CPL 0.
pub fn read_cr<E: Exec + ?Sized>(e: &mut E, number: u8) -> Result<u64, Trap> {
    let cpu = e.cpu();
    check_number(cpu, number)?;
    cpu.require_cpl0()?;
    Ok(match number {
        0 => cpu.cr0,
        2 => cpu.cr2,
        3 => cpu.cr3,
        4 => cpu.cr4,
        _ => cpu.cr8_value(),
    })
}

/// MOV to CR0, CR2, CR3, CR4 or CR8. Outside 64-bit mode `value` has 32 bits.
///
/// # Errors
/// #UD for other numbers, #GP(0) above CPL 0 and for every combination that the SDM forbids.
pub fn write_cr<E: Exec + ?Sized>(e: &mut E, number: u8, value: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    check_number(cpu, number)?;
    cpu.require_cpl0()?;
    match number {
        0 => write_cr0(e, value),
        2 => {
            cpu.cr2 = value;
            Ok(())
        }
        3 => write_cr3(e, value),
        4 => write_cr4(e, value),
        _ if value > 15 => Err(cpu.gp(0)),
        _ => {
            cpu.set_cr8_value(value);
            Ok(())
        }
    }
}

fn check_number(cpu: &mut Cpu, number: u8) -> Result<(), Trap> {
    if matches!(number, 0 | 2 | 3 | 4 | 8) { Ok(()) } else { Err(cpu.ud()) }
}

/// CR0 with all checks but privilege.
fn write_cr0<E: Exec + ?Sized>(e: &mut E, value: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    let old = cpu.cr0;
    let on = |bit: u64| value & bit != 0;
    let bad = value >> 32 != 0
        || on(cr0::PG) && !on(cr0::PE)
        || on(cr0::NW) && !on(cr0::CD)
        || !on(cr0::PG) && (cpu.mode == Mode::Long64 || cpu.cr4 & cr4::PCIDE != 0);
    if bad {
        return Err(cpu.gp(0));
    }
    let value = value & cr0::ALL | cr0::ET;
    let starts_paging = value & !old & cr0::PG != 0;
    let mut new_efer = cpu.efer & !efer::LMA;
    if on(cr0::PG) && cpu.efer & efer::LME != 0 {
        new_efer |= efer::LMA;
        if starts_paging && (cpu.cr4 & cr4::PAE == 0 || cpu.segs[seg::CS].long()) {
            return Err(cpu.gp(0));
        }
    }
    let legacy_pae = on(cr0::PG) && new_efer & efer::LMA == 0 && cpu.cr4 & cr4::PAE != 0;
    // With PAE, changes of these bits load the page-directory pointers again (SDM 4.4.1).
    if legacy_pae && (old ^ value) & (cr0::PG | cr0::CD | cr0::NW) != 0 {
        let cr3 = e.cpu().cr3;
        load_pdptrs(e, cr3)?;
    }
    let cpu = e.cpu();
    cpu.cr0 = value;
    cpu.efer = new_efer;
    cpu.update_mode();
    // PE alone only changes while paging is off, when there is but one translation of an address. What
    // calls the firmware in real mode does so all the time.
    if (old ^ value) & (cr0::PG | cr0::WP) != 0 {
        e.flush(Flush::All);
    }
    e.context_changed();
    Ok(())
}

fn write_cr3<E: Exec + ?Sized>(e: &mut E, value: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    let pcide = cpu.cr4 & cr4::PCIDE != 0;
    let mut value = value;
    let keep = pcide && value & NO_FLUSH != 0;
    if keep {
        value &= !NO_FLUSH;
    }
    let long = cpu.long_active();
    if long && value >> cpu.phys_bits != 0 {
        return Err(cpu.gp(0));
    }
    if !long {
        value &= 0xffff_ffff;
        if cpu.cr0 & cr0::PG != 0 && cpu.cr4 & cr4::PAE != 0 {
            load_pdptrs(e, value)?;
        }
    }
    e.cpu().cr3 = value;
    if !keep {
        e.flush(Flush::NonGlobal);
    }
    e.context_changed();
    Ok(())
}

/// CR3 from the TSS of a new task.
pub(crate) fn load_cr3_for_task<E: Exec + ?Sized>(
    e: &mut E,
    value: u64,
    pae: bool,
) -> Result<(), Trap> {
    if pae {
        load_pdptrs(e, value)?;
    }
    e.cpu().cr3 = value;
    e.flush(Flush::NonGlobal);
    e.context_changed();
    Ok(())
}

fn write_cr4<E: Exec + ?Sized>(e: &mut E, value: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    let old = cpu.cr4;
    let sets = |bit: u64| value & !old & bit != 0;
    let long = cpu.long_active();
    let bad = value & !cpu.caps.cr4 != 0
        || long && value & cr4::PAE == 0
        || sets(cr4::PCIDE) && (!long || cpu.cr3 & 0xfff != 0);
    if bad {
        return Err(cpu.gp(0));
    }
    let changed = old ^ value;
    let keys = cr4::PKE | cr4::PKS;
    let paging = cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP | cr4::SMAP | keys;
    if cpu.cr0 & cr0::PG != 0
        && !long
        && value & cr4::PAE != 0
        && changed & (cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP) != 0
    {
        let cr3 = cpu.cr3;
        load_pdptrs(e, cr3)?;
    }
    e.cpu().cr4 = value;
    if changed & paging != 0 || old & !value & cr4::PCIDE != 0 {
        e.flush(Flush::All);
    }
    e.context_changed();
    Ok(())
}

/// LMSW: PE, MP, EM and TS; PE can only be set.
///
/// # Errors
/// #GP(0) above CPL 0.
pub fn lmsw<E: Exec + ?Sized>(e: &mut E, value: u16) -> Result<(), Trap> {
    let cpu = e.cpu();
    cpu.require_cpl0()?;
    let keep_pe = cpu.cr0 & cr0::PE;
    let new = cpu.cr0 & !0xf | u64::from(value) & 0xf | keep_pe;
    write_cr0(e, new)
}

/// SMSW: all of CR0; the operand size cuts it.
///
/// # Errors
/// #GP(0) at CPL 3 with CR4.UMIP.
pub fn smsw<E: Exec + ?Sized>(e: &mut E) -> Result<u64, Trap> {
    let cpu = e.cpu();
    cpu.check_umip()?;
    Ok(cpu.cr0)
}

/// CLTS.
///
/// # Errors
/// #GP(0) above CPL 0.
pub fn clts<E: Exec + ?Sized>(e: &mut E) -> Result<(), Trap> {
    let cpu = e.cpu();
    cpu.require_cpl0()?;
    cpu.cr0 &= !cr0::TS;
    e.context_changed();
    Ok(())
}

/// A guest's WRMSR of EFER.
pub(crate) fn write_efer<E: Exec + ?Sized>(e: &mut E, value: u64) -> Result<(), Trap> {
    let cpu = e.cpu();
    let old = cpu.efer;
    // LMA is read-only: what is written to it does not count.
    let value = value & !efer::LMA | old & efer::LMA;
    let switches = (old ^ value) & efer::LME != 0 && cpu.cr0 & cr0::PG != 0;
    if value & !cpu.caps.efer & !efer::LMA != 0 || switches {
        return Err(cpu.gp(0));
    }
    cpu.efer = value;
    if (old ^ value) & efer::NXE != 0 {
        e.flush(Flush::All);
    }
    e.context_changed();
    Ok(())
}

/// XSETBV.
///
/// # Errors
/// #UD without CR4.OSXSAVE; #GP(0) above CPL 0, for another register than XCR0 and for a value
/// with unknown components, without x87, or with AVX but not SSE.
pub fn xsetbv<E: Exec + ?Sized>(e: &mut E) -> Result<(), Trap> {
    let cpu = e.cpu();
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(cpu.ud());
    }
    cpu.require_cpl0()?;
    let index = cpu.regs[reg::RCX] & 0xffff_ffff;
    let value = cpu.regs[reg::RDX] << 32 | cpu.regs[reg::RAX] & 0xffff_ffff;
    if index != 0 || !xcr0_valid(value, cpu.caps.xcr0) {
        return Err(cpu.gp(0));
    }
    cpu.xcr0 = value;
    e.context_changed();
    Ok(())
}

/// True if XCR0 can hold `value` on a CPU that has the components `available`.
#[must_use]
pub fn xcr0_valid(value: u64, available: u64) -> bool {
    value & 1 != 0 && value & !available == 0 && (value & 4 == 0 || value & 2 != 0)
}

/// XGETBV: the value for EDX:EAX. `in_use` are the components that are not in their initial state.
///
/// # Errors
/// #UD without CR4.OSXSAVE, #GP(0) for another register than 0 and, with XGETBV1, 1.
pub fn xgetbv<E: Exec + ?Sized>(e: &mut E, in_use: u64) -> Result<u64, Trap> {
    let cpu = e.cpu();
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(cpu.ud());
    }
    match cpu.regs[reg::RCX] & 0xffff_ffff {
        0 => Ok(cpu.xcr0),
        1 if cpu.caps.xgetbv1 => Ok(cpu.xcr0 & in_use),
        _ => Err(cpu.gp(0)),
    }
}

/// RDPKRU and WRPKRU: whether they may run, which is for every privilege level.
///
/// # Errors
/// #UD without CR4.PKE, #GP(0) with a value in ECX, which is to be 0.
pub fn check_pkru<E: Exec + ?Sized>(e: &mut E) -> Result<(), Trap> {
    let cpu = e.cpu();
    if cpu.cr4 & cr4::PKE == 0 {
        return Err(cpu.ud());
    }
    if cpu.regs[reg::RCX] & 0xffff_ffff != 0 {
        return Err(cpu.gp(0));
    }
    Ok(())
}

impl Cpu {
    /// User-mode instruction prevention: SGDT, SIDT, SLDT, STR and SMSW.
    ///
    /// # Errors
    /// #GP(0) above CPL 0 with CR4.UMIP.
    pub fn check_umip(&mut self) -> Result<(), Trap> {
        if self.cpl != 0 && self.cr4 & cr4::UMIP != 0 { Err(self.gp(0)) } else { Ok(()) }
    }

    /// RDTSC and RDTSCP.
    ///
    /// # Errors
    /// #GP(0) above CPL 0 with CR4.TSD.
    pub fn check_tsd(&mut self) -> Result<(), Trap> {
        if self.cpl != 0 && self.cr4 & cr4::TSD != 0 { Err(self.gp(0)) } else { Ok(()) }
    }
}
