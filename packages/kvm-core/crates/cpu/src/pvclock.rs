//! The paravirtual clock and hypercalls of KVM (`linux/kvm_para.h`, `pvclock-abi.h`).

use crate::{Exec, Mode, reg};

/// `KVM_FEATURE_*` bits of leaf 0x40000001 EAX that this crate implements.
pub mod feature {
    /// The clock with MSRs 0x11 and 0x12.
    pub const CLOCKSOURCE: u32 = 1 << 0;
    /// Port accesses need no delay.
    pub const NOP_IO_DELAY: u32 = 1 << 1;
    /// The clock with MSRs 0x4b564d00 and 0x4b564d01.
    pub const CLOCKSOURCE2: u32 = 1 << 3;
    /// `KVM_HC_KICK_CPU`.
    pub const PV_UNHALT: u32 = 1 << 7;
    /// `KVM_HC_SEND_IPI`.
    pub const PV_SEND_IPI: u32 = 1 << 11;
    /// MSR 0x4b564d05 tells whether the host should poll before it lets a halted vCPU sleep.
    pub const POLL_CONTROL: u32 = 1 << 12;
    /// `KVM_HC_SCHED_YIELD`.
    pub const PV_SCHED_YIELD: u32 = 1 << 13;
    /// `PVCLOCK_TSC_STABLE_BIT` is trustworthy.
    pub const CLOCKSOURCE_STABLE: u32 = 1 << 24;
    /// All of them.
    pub const ALL: u32 = CLOCKSOURCE
        | NOP_IO_DELAY
        | CLOCKSOURCE2
        | PV_UNHALT
        | PV_SEND_IPI
        | POLL_CONTROL
        | PV_SCHED_YIELD
        | CLOCKSOURCE_STABLE;
}

/// `PVCLOCK_TSC_STABLE_BIT`.
const TSC_STABLE: u64 = 1;

/// How a guest turns TSC ticks into nanoseconds: `((ticks << shift) * mul) >> 32`, where a
/// negative shift goes right.
#[must_use]
pub fn tsc_scale(tsc_khz: u32) -> (u32, i8) {
    let mut hz = u64::from(tsc_khz.max(1)) * 1000;
    let mut shift = 0i8;
    // Bring the frequency into (1 GHz, 2 GHz], so that the multiplier has 32 significant bits.
    while hz > 2_000_000_000 {
        hz >>= 1;
        shift -= 1;
    }
    while hz <= 1_000_000_000 {
        hz <<= 1;
        shift += 1;
    }
    let mul = (1_000_000_000u64 << 32) / hz;
    (u32::try_from(mul).unwrap_or(u32::MAX), shift)
}

/// Writes the vCPU's time page anew, if the guest has one: when it is enabled, and after the TSC
/// or the clock was set from outside. A page outside RAM stays unwritten.
pub fn refresh<E: Exec + ?Sized>(e: &mut E) {
    let cpu = e.cpu();
    let msr = cpu.msrs.kvm_system_time;
    let stable = cpu.caps.kvm_features & feature::CLOCKSOURCE_STABLE != 0;
    let (mul, shift) = tsc_scale(cpu.tsc_khz);
    let gpa = msr & !1;
    if msr & 1 == 0 || gpa >> cpu.phys_bits != 0 {
        return;
    }
    // TSC and clock belong to one moment: half-way between the two reads of the TSC.
    let before = e.tsc();
    let now = e.clock_ns();
    let after = e.tsc();
    let tsc = before.wrapping_add(after.wrapping_sub(before) / 2);
    // An odd version tells a reader that the page is being written.
    let version = (e.read_physical(gpa, 4).unwrap_or(0) as u32 | 1).wrapping_add(2);
    let flags = if stable { TSC_STABLE } else { 0 };
    let packed = u64::from(mul) | u64::from(shift.cast_unsigned()) << 32 | flags << 40;
    let at = |offset: u64| gpa.wrapping_add(offset);
    let _outside_ram = e.write_physical(gpa, 4, u64::from(version))
        && e.write_physical(at(8), 8, tsc)
        && e.write_physical(at(16), 8, now)
        && e.write_physical(at(24), 8, packed)
        && e.write_physical(gpa, 4, u64::from(version.wrapping_add(1)));
}

/// Writes the wall clock at guest time zero to the structure at `gpa`.
pub(crate) fn write_wall_clock<E: Exec + ?Sized>(e: &mut E, gpa: u64) {
    if gpa >> e.cpu().phys_bits != 0 {
        return;
    }
    let boot = e.wall_ns().saturating_sub(e.clock_ns());
    let version = (e.read_physical(gpa, 4).unwrap_or(0) as u32 | 1).wrapping_add(2);
    let at = |offset: u64| gpa.wrapping_add(offset);
    let _outside_ram = e.write_physical(gpa, 4, u64::from(version))
        && e.write_physical(at(4), 4, boot / 1_000_000_000)
        && e.write_physical(at(8), 4, boot % 1_000_000_000)
        && e.write_physical(gpa, 4, u64::from(version.wrapping_add(1)));
}

/// What the engine has to do for a hypercall; the result is in RAX already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypercall {
    /// Nothing.
    Done,
    /// End the HLT, present or next, of the vCPU with this APIC id.
    Kick(u32),
    /// Let the vCPU with this APIC id run if it waits for a host CPU.
    Yield(u32),
    /// Send an IPI to the APIC ids `first + i` for each bit `i` of the bitmap; RAX becomes how
    /// many took it.
    SendIpi {
        /// Whom to.
        bitmap: u128,
        /// The id of bit 0.
        first: u32,
        /// Vector and delivery mode as in the interrupt command register.
        icr: u32,
    },
}

const HC_VAPIC_POLL_IRQ: u64 = 1;
const HC_KICK_CPU: u64 = 5;
const HC_SEND_IPI: u64 = 10;
const HC_SCHED_YIELD: u64 = 11;
const EPERM: i64 = 1;
const EINVAL: i64 = 22;
/// Bits of an interrupt command that `HC_SEND_IPI` refuses: logical destinations and shorthands.
const ICR_DESTINATION: u64 = 0xc_0800;
const ENOSYS: i64 = 1000;

/// VMCALL and VMMCALL: number in RAX, arguments in RBX, RCX, RDX, RSI; the result goes to RAX.
/// As on KVM they are there whatever CPUID says, which only tells a guest whether to use them.
pub fn hypercall<E: Exec + ?Sized>(e: &mut E) -> Hypercall {
    let cpu = e.cpu();
    let long = cpu.mode == Mode::Long64;
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    let number = cpu.regs[reg::RAX] & mask;
    let argument = |register: usize| cpu.regs[register] & mask;
    let (result, effect) = match number {
        _ if cpu.cpl != 0 => (-EPERM, Hypercall::Done),
        HC_VAPIC_POLL_IRQ => (0, Hypercall::Done),
        HC_KICK_CPU => (0, Hypercall::Kick(argument(reg::RCX) as u32)),
        HC_SCHED_YIELD => (0, Hypercall::Yield(argument(reg::RBX) as u32)),
        HC_SEND_IPI => {
            let icr = argument(reg::RSI);
            if icr & ICR_DESTINATION == 0 {
                let (low, high) = (argument(reg::RBX), argument(reg::RCX));
                let bits = if long { 64 } else { 32 };
                let bitmap = u128::from(low) | u128::from(high) << bits;
                let (first, icr) = (argument(reg::RDX) as u32, icr as u32);
                (0, Hypercall::SendIpi { bitmap, first, icr })
            } else {
                (-EINVAL, Hypercall::Done)
            }
        }
        _ => (-ENOSYS, Hypercall::Done),
    };
    cpu.regs[reg::RAX] = result.cast_unsigned() & mask;
    effect
}
