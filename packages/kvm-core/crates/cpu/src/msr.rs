//! Model-specific registers: RDMSR, WRMSR and their host-side counterparts.
//!
//! A register that the guest's CPUID does not promise is #GP for the guest. The host side reads
//! and writes everything that [`msr_index_list`] names, so that state can be saved and restored.

use kvm_abi::KvmError;

use crate::bits::{canonical, cr4, efer};
use crate::pvclock::{self, feature};
use crate::{Cpu, Exec, Flush, Trap, control, mtrr, seg};

/// Machine-check banks.
pub const MC_BANKS: usize = 10;

/// Register numbers.
#[allow(missing_docs)]
pub mod index {
    pub const TSC: u32 = 0x10;
    pub const KVM_WALL_CLOCK_OLD: u32 = 0x11;
    pub const KVM_SYSTEM_TIME_OLD: u32 = 0x12;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    pub const EBC_FREQUENCY_ID: u32 = 0x2c;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const UCODE_WRITE: u32 = 0x79;
    pub const UCODE_REV: u32 = 0x8b;
    pub const FSB_FREQ: u32 = 0xcd;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const SMBASE: u32 = 0x9e;
    pub const MTRR_CAP: u32 = 0xfe;
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    pub const MISC_FEATURES_ENABLES: u32 = 0x140;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MCG_CTL: u32 = 0x17b;
    pub const PERF_STATUS: u32 = 0x198;
    pub const PERF_CTL: u32 = 0x199;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const MC0_CTL: u32 = 0x400;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const PKRS: u32 = 0x6e1;
    pub const XSS: u32 = 0xda0;
    pub const KVM_WALL_CLOCK: u32 = 0x4b56_4d00;
    pub const KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;
    pub const KVM_POLL_CONTROL: u32 = 0x4b56_4d05;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const SYSCFG: u32 = 0xc001_0010;
    pub const HWCR: u32 = 0xc001_0015;
    pub const DE_CFG: u32 = 0xc001_1029;
}
use index as ix;

/// MCG_CAP: ten banks and MCG_CTL.
const MCG_CAP_VALUE: u64 = MC_BANKS as u64 | 1 << 8;
/// MTRR_CAP: eight variable ranges, fixed ranges, write-combining.
const MTRR_CAP_VALUE: u64 = mtrr::VARIABLE as u64 | 1 << 8 | 1 << 10;
/// IA32_ARCH_CAPABILITIES: RDCL_NO, as nothing is read speculatively across privileges.
const ARCH_CAPABILITIES_VALUE: u64 = 1;
/// Bits of IA32_MISC_ENABLE that a guest may change: fast strings, thermal control, branch trace
/// and sampling unavailable, SpeedStep, MONITOR, CPUID limit, xTPR and XD disable. They are kept as
/// written: as on KVM, CPUID alone decides what the guest has.
const MISC_ENABLE_WRITABLE: u64 =
    1 | 1 << 3 | 1 << 11 | 1 << 12 | 1 << 16 | 1 << 18 | 1 << 22 | 1 << 23 | 1 << 34;

/// Everything that a save has to contain, in an order in which it can be restored.
const LIST: &[u32] = &[
    ix::EFER,
    ix::STAR,
    ix::LSTAR,
    ix::CSTAR,
    ix::SFMASK,
    ix::KERNEL_GS_BASE,
    ix::FS_BASE,
    ix::GS_BASE,
    ix::SYSENTER_CS,
    ix::SYSENTER_ESP,
    ix::SYSENTER_EIP,
    ix::TSC_AUX,
    ix::PAT,
    ix::MISC_ENABLE,
    ix::MTRR_CAP,
    ix::MTRR_DEF_TYPE,
    ix::MCG_CAP,
    ix::MCG_STATUS,
    ix::MCG_CTL,
    ix::HWCR,
    ix::SYSCFG,
    ix::DE_CFG,
    ix::SMBASE,
    ix::XSS,
    ix::PKRS,
    ix::UCODE_REV,
    ix::TSC,
    ix::TSC_ADJUST,
    ix::APIC_BASE,
    ix::TSC_DEADLINE,
    ix::KVM_WALL_CLOCK,
    ix::KVM_SYSTEM_TIME,
    ix::KVM_POLL_CONTROL,
];

/// `KVM_GET_MSR_INDEX_LIST`.
#[must_use]
pub fn msr_index_list() -> Vec<u32> {
    let banks = (0..MC_BANKS as u32 * 4).map(|n| ix::MC0_CTL + n);
    LIST.iter().copied().chain(mtrr::indices()).chain(banks).collect()
}

/// Registers that read as zero and whose writes do nothing: model-specific controls of real AMD
/// and Intel parts that systems touch because of family and model, not because of CPUID.
fn is_inert(index: u32) -> bool {
    matches!(
        index,
        ix::PLATFORM_ID
            | 0x2a // EBL_CR_POWERON
            | ix::UCODE_WRITE
            | 0x1db..=0x1de // last branch and exception records
            | ix::PERF_CTL
            | ix::SYSCFG
            | 0xc001_0000..=0xc001_0007 // K7 performance counters
            | 0xc001_001a
            | 0xc001_001d // TOP_MEM, TOP_MEM2
            | 0xc001_001f // NB_CFG
            | 0xc001_0020 // PATCH_LOADER
            | 0xc001_0055 // INT_PENDING: no C1E
            | 0xc001_0058 // MMIO_CONF_BASE
            | 0xc001_0061..=0xc001_0063 // P-state limit, control and status
            | 0xc001_0112
            | 0xc001_0113 // SMM segment
            | 0xc001_0117 // VM_HSAVE_PA
            | 0xc001_1020..=0xc001_1023 // LS, IC, DC and BU configuration
            | 0xc001_102a // BU_CFG2
            | 0xc001_102c // EX_CFG
    )
}

/// RDMSR.
///
/// # Errors
/// #GP(0) above CPL 0 and for a register that the guest does not have.
pub fn read_msr<E: Exec + ?Sized>(e: &mut E, index: u32) -> Result<u64, Trap> {
    e.cpu().require_cpl0()?;
    if !available(e.cpu(), index) {
        return Err(e.cpu().gp(0));
    }
    match read(e, index) {
        Some(value) => Ok(value),
        None => Err(e.cpu().gp(0)),
    }
}

/// True unless CPUID denies the register to the guest.
fn available(cpu: &Cpu, index: u32) -> bool {
    let c = &cpu.caps;
    match index {
        // Only the host: the guest has it in the state that an SMI saves.
        ix::SMBASE => false,
        ix::EFER => c.efer != 0,
        ix::STAR..=ix::SFMASK => c.efer & efer::SCE != 0,
        ix::FS_BASE..=ix::KERNEL_GS_BASE => c.efer & efer::LME != 0,
        ix::TSC_AUX => c.tsc_aux,
        ix::TSC_ADJUST => c.tsc_adjust,
        ix::TSC_DEADLINE => c.tsc_deadline && cpu.lapic.is_some(),
        ix::ARCH_CAPABILITIES => c.arch_capabilities,
        ix::XSS => c.xsaves,
        ix::PKRS => c.cr4 & cr4::PKS != 0,
        ix::MTRR_CAP | ix::MTRR_DEF_TYPE => c.mtrr,
        _ if mtrr::slot(index).is_some() => c.mtrr,
        ix::MCG_CAP..=ix::MCG_CTL => c.mca,
        _ if bank(index).is_some() => c.mca,
        ix::KVM_WALL_CLOCK_OLD | ix::KVM_SYSTEM_TIME_OLD => {
            c.kvm_features & feature::CLOCKSOURCE != 0
        }
        ix::KVM_WALL_CLOCK | ix::KVM_SYSTEM_TIME => c.kvm_features & feature::CLOCKSOURCE2 != 0,
        ix::KVM_POLL_CONTROL => c.kvm_features & feature::POLL_CONTROL != 0,
        _ => true,
    }
}

/// The machine-check register behind an MSR number.
fn bank(index: u32) -> Option<usize> {
    let n = index.checked_sub(ix::MC0_CTL)? as usize;
    (n < MC_BANKS * 4).then_some(n)
}

fn read<E: Exec + ?Sized>(e: &mut E, index: u32) -> Option<u64> {
    if index == ix::TSC {
        return Some(e.tsc());
    }
    let cpu = e.cpu();
    let m = &cpu.msrs;
    Some(match index {
        ix::EFER => cpu.efer,
        ix::STAR => m.star,
        ix::LSTAR => m.lstar,
        ix::CSTAR => m.cstar,
        ix::SFMASK => m.sfmask,
        ix::FS_BASE => cpu.segs[seg::FS].base,
        ix::GS_BASE => cpu.segs[seg::GS].base,
        ix::KERNEL_GS_BASE => m.kernel_gs_base,
        ix::SYSENTER_CS => m.sysenter_cs,
        ix::SYSENTER_ESP => m.sysenter_esp,
        ix::SYSENTER_EIP => m.sysenter_eip,
        ix::TSC_AUX => m.tsc_aux,
        ix::TSC_ADJUST => m.tsc_adjust,
        ix::TSC_DEADLINE => cpu.lapic.as_ref().map_or(0, |apic| apic.tsc_deadline()),
        ix::APIC_BASE => cpu.apic_base_value(),
        0x800..=0x8ff => cpu.lapic.as_ref()?.x2apic_read(index).ok()?,
        ix::PAT => m.pat,
        ix::MISC_ENABLE => m.misc_enable,
        ix::MTRR_CAP => MTRR_CAP_VALUE,
        ix::MTRR_DEF_TYPE => m.mtrr_def_type,
        ix::MCG_CAP => MCG_CAP_VALUE,
        ix::MCG_STATUS => m.mcg_status,
        ix::MCG_CTL => m.mcg_ctl,
        ix::XSS => cpu.xss,
        ix::PKRS => m.pkrs,
        ix::HWCR => m.hwcr,
        ix::DE_CFG => m.de_cfg,
        ix::SMBASE => u64::from(m.smbase),
        ix::ARCH_CAPABILITIES => ARCH_CAPABILITIES_VALUE,
        ix::UCODE_REV => {
            if cpu.caps.intel {
                1 << 32
            } else {
                0x0100_0065
            }
        }
        // What a part without power management reports; Linux computes frequencies from these.
        ix::EBC_FREQUENCY_ID => 1 << 24,
        ix::FSB_FREQ => 3,
        ix::PERF_STATUS => 1000 | 4 << 40,
        ix::FEATURE_CONTROL => 1,
        ix::PLATFORM_INFO | ix::MISC_FEATURES_ENABLES | ix::DEBUGCTL => 0,
        ix::KVM_WALL_CLOCK_OLD | ix::KVM_WALL_CLOCK => m.kvm_wall_clock,
        ix::KVM_SYSTEM_TIME_OLD | ix::KVM_SYSTEM_TIME => m.kvm_system_time,
        ix::KVM_POLL_CONTROL => m.kvm_poll_control,
        _ => {
            if let Some(n) = bank(index) {
                m.mc_banks[n]
            } else if let Some(value) = mtrr::read(m, index) {
                value
            } else if is_inert(index) {
                0
            } else {
                return None;
            }
        }
    })
}

/// WRMSR.
///
/// # Errors
/// #GP(0) above CPL 0, for a register that the guest does not have, a read-only one, and a value
/// that it cannot hold.
pub fn write_msr<E: Exec + ?Sized>(e: &mut E, index: u32, value: u64) -> Result<(), Trap> {
    e.cpu().require_cpl0()?;
    if !available(e.cpu(), index) {
        return Err(e.cpu().gp(0));
    }
    match index {
        ix::EFER => return control::write_efer(e, value),
        ix::APIC_BASE => {
            e.cpu().write_apic_base(value)?;
            // The register window may have moved.
            e.context_changed();
            return Ok(());
        }
        ix::TSC => {
            let delta = value.wrapping_sub(e.tsc());
            let cpu = e.cpu();
            cpu.msrs.tsc_adjust = cpu.msrs.tsc_adjust.wrapping_add(delta);
            cpu.shift_tsc(delta.cast_signed());
            pvclock::refresh(e);
            return Ok(());
        }
        ix::TSC_ADJUST => {
            let cpu = e.cpu();
            let delta = value.wrapping_sub(cpu.msrs.tsc_adjust);
            cpu.msrs.tsc_adjust = value;
            cpu.shift_tsc(delta.cast_signed());
            pvclock::refresh(e);
            return Ok(());
        }
        ix::KVM_WALL_CLOCK_OLD | ix::KVM_WALL_CLOCK => {
            e.cpu().msrs.kvm_wall_clock = value;
            pvclock::write_wall_clock(e, value);
            return Ok(());
        }
        ix::KVM_SYSTEM_TIME_OLD | ix::KVM_SYSTEM_TIME => {
            e.cpu().msrs.kvm_system_time = value;
            pvclock::refresh(e);
            return Ok(());
        }
        _ => {}
    }
    let cpu = e.cpu();
    let read_only = matches!(
        index,
        ix::MTRR_CAP
            | ix::MCG_CAP
            | ix::ARCH_CAPABILITIES
            | ix::FEATURE_CONTROL
            | ix::EBC_FREQUENCY_ID
            | ix::FSB_FREQ
            | ix::PERF_STATUS
            | ix::PLATFORM_INFO
    );
    // A guest can only clear a machine-check status, unless AMD's HWCR.McStatusWrEn is set.
    let status_locked = !cpu.caps.amd || cpu.msrs.hwcr & (1 << 18) == 0;
    let sets_status = bank(index).is_some_and(|n| n % 4 == 1) && value != 0 && status_locked;
    // A bank's control is all or nothing; systems leave out bits 0 and 10, which KVM tolerates.
    let partial_control =
        bank(index).is_some_and(|n| n % 4 == 0) && value != 0 && value | 1 | 1 << 10 != u64::MAX;
    if read_only || sets_status || partial_control || !store(cpu, index, value) {
        return Err(cpu.gp(0));
    }
    match index {
        ix::FS_BASE | ix::GS_BASE => e.context_changed(),
        ix::PKRS => e.flush(Flush::All),
        _ => {}
    }
    Ok(())
}

/// Stores a value that passes the register's own check. False if it does not, or if there is no
/// such register.
fn store(cpu: &mut Cpu, index: u32, value: u64) -> bool {
    let m = &mut cpu.msrs;
    let narrow = value >> 32 == 0;
    let (ok, slot) = match index {
        ix::STAR => (true, &mut m.star),
        ix::LSTAR => (canonical(value), &mut m.lstar),
        ix::CSTAR => (canonical(value), &mut m.cstar),
        ix::SFMASK => (narrow, &mut m.sfmask),
        ix::FS_BASE => (canonical(value), &mut cpu.segs[seg::FS].base),
        ix::GS_BASE => (canonical(value), &mut cpu.segs[seg::GS].base),
        ix::KERNEL_GS_BASE => (canonical(value), &mut m.kernel_gs_base),
        ix::SYSENTER_CS => (narrow, &mut m.sysenter_cs),
        ix::SYSENTER_ESP => (canonical(value), &mut m.sysenter_esp),
        ix::SYSENTER_EIP => (canonical(value), &mut m.sysenter_eip),
        ix::TSC_AUX => (narrow, &mut m.tsc_aux),
        ix::PAT => (mtrr::pat_valid(value), &mut m.pat),
        ix::MISC_ENABLE => (value & !MISC_ENABLE_WRITABLE == 0, &mut m.misc_enable),
        ix::MTRR_DEF_TYPE => (mtrr::def_type_valid(value), &mut m.mtrr_def_type),
        ix::MCG_STATUS => (value & !7 == 0, &mut m.mcg_status),
        ix::MCG_CTL => (value == 0 || value == u64::MAX, &mut m.mcg_ctl),
        ix::XSS => (value == 0, &mut cpu.xss),
        ix::PKRS => (narrow, &mut m.pkrs),
        // Smm lock and the like do nothing here; FFDIS, McStatusWrEn and TscFreqSel are kept.
        ix::HWCR => (narrow, &mut m.hwcr),
        // Bit 1 makes LFENCE serialising, which it is anyway.
        ix::DE_CFG => (true, &mut m.de_cfg),
        ix::KVM_POLL_CONTROL => (value & !1 == 0, &mut m.kvm_poll_control),
        ix::TSC_DEADLINE => {
            if let Some(apic) = &cpu.lapic {
                apic.set_tsc_deadline(value);
            }
            return true;
        }
        0x800..=0x8ff => {
            return cpu.lapic.as_ref().is_some_and(|apic| apic.x2apic_write(index, value).is_ok());
        }
        // No branch tracing, no ring-3 CPUID faulting.
        ix::DEBUGCTL | ix::MISC_FEATURES_ENABLES => return value == 0,
        // The update signature is cleared before it is read.
        ix::UCODE_REV => return value == 0,
        _ => {
            if let Some(n) = bank(index) {
                m.mc_banks[n] = value;
                return true;
            }
            return mtrr::write(m, index, value, cpu.phys_bits).unwrap_or_else(|| is_inert(index));
        }
    };
    if ok {
        *slot = value;
    }
    ok
}

/// `KVM_GET_MSRS` for one register.
///
/// # Errors
/// `EINVAL` if there is no such register.
pub fn get_msr<E: Exec + ?Sized>(e: &mut E, index: u32) -> Result<u64, KvmError> {
    read(e, index).ok_or_else(|| KvmError::invalid(format!("msr {index:#x} does not exist")))
}

/// `KVM_SET_MSRS` for one register: what KVM lets the host set, the guest may not always.
///
/// # Errors
/// `EINVAL` if there is no such register or it cannot hold the value.
pub fn set_msr<E: Exec + ?Sized>(e: &mut E, index: u32, value: u64) -> Result<(), KvmError> {
    let refuse = || KvmError::invalid(format!("msr {index:#x} cannot be set to {value:#x}"));
    match index {
        ix::TSC => {
            let delta = value.wrapping_sub(e.tsc());
            e.cpu().shift_tsc(delta.cast_signed());
            pvclock::refresh(e);
        }
        ix::TSC_ADJUST => e.cpu().msrs.tsc_adjust = value,
        ix::SMBASE => e.cpu().msrs.smbase = u32::try_from(value).map_err(|_| refuse())?,
        ix::EFER => {
            let cpu = e.cpu();
            let all = crate::Caps::everything().efer;
            let lma = value & efer::LMA != 0;
            let active = value & efer::LME != 0 && cpu.cr0 & crate::bits::cr0::PG != 0;
            if value & !all != 0 || lma != active {
                return Err(refuse());
            }
            cpu.efer = value;
            cpu.update_mode();
            e.flush(Flush::All);
            e.context_changed();
        }
        ix::APIC_BASE => e.cpu().set_apic_base_value(value)?,
        // Time does not pass between save and restore of the wall clock: only the address counts.
        ix::KVM_WALL_CLOCK_OLD | ix::KVM_WALL_CLOCK => e.cpu().msrs.kvm_wall_clock = value,
        ix::KVM_SYSTEM_TIME_OLD | ix::KVM_SYSTEM_TIME => {
            e.cpu().msrs.kvm_system_time = value;
            pvclock::refresh(e);
        }
        ix::MTRR_CAP | ix::MCG_CAP | ix::ARCH_CAPABILITIES | ix::UCODE_REV => {
            if read(e, index) != Some(value) {
                return Err(refuse());
            }
        }
        _ => {
            if !store(e.cpu(), index, value) {
                return Err(refuse());
            }
            if index == ix::PKRS {
                e.flush(Flush::All);
            }
            e.context_changed();
        }
    }
    Ok(())
}
