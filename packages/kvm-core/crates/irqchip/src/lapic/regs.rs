//! The register file of a local APIC: names, offsets and what reading and writing does
//! (Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller").

use kvm_abi::Clock;

use super::LapicFeatures;
use super::timer::Timer;
use crate::deliver::Message;
use crate::vectors::Vectors;
use crate::wake::Wake;

/// `IA32_APIC_BASE`: this is the boot processor.
pub const APIC_BASE_BSP: u64 = 1 << 8;
/// `IA32_APIC_BASE`: x2APIC mode.
pub const APIC_BASE_X2APIC: u64 = 1 << 10;
/// `IA32_APIC_BASE`: the APIC is on.
pub const APIC_BASE_ENABLE: u64 = 1 << 11;
/// The page where every local APIC appears after reset.
pub const APIC_BASE_DEFAULT: u64 = 0xfee0_0000;

pub(super) const ID: u32 = 0x20;
pub(super) const VERSION: u32 = 0x30;
pub(super) const TPR: u32 = 0x80;
pub(super) const APR: u32 = 0x90;
pub(super) const PPR: u32 = 0xa0;
pub(super) const EOI: u32 = 0xb0;
pub(super) const RRD: u32 = 0xc0;
pub(super) const LDR: u32 = 0xd0;
pub(super) const DFR: u32 = 0xe0;
pub(super) const SVR: u32 = 0xf0;
pub(super) const ISR: u32 = 0x100;
pub(super) const TMR: u32 = 0x180;
pub(super) const IRR: u32 = 0x200;
pub(super) const ESR: u32 = 0x280;
pub(super) const ICR: u32 = 0x300;
pub(super) const ICR2: u32 = 0x310;
pub(super) const LVT: u32 = 0x320;
pub(super) const TMICT: u32 = 0x380;
pub(super) const TMCCT: u32 = 0x390;
pub(super) const TDCR: u32 = 0x3e0;
pub(super) const SELF_IPI: u32 = 0x3f0;

/// Version 0x14 with six local vectors, no EOI-broadcast suppression: what KVM reports.
pub(super) const VERSION_VALUE: u32 = 0x0005_0014;
const SVR_ENABLE: u32 = 1 << 8;
pub(super) const LVT_MASKED: u32 = 1 << 16;
const LVT_MODE: u32 = 0x700;
const LVT_LEVEL: u32 = 1 << 15;
/// Writable bits of each local vector: vector and mask; the mode; polarity and trigger of pins.
pub(super) const LVT_WRITABLE: [u32; LVTS] = [0x100ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff];
const ICR_BUSY: u64 = 1 << 12;
/// Bits 31:20, 17:16 and 13 of the x2APIC's ICR.
const X2APIC_ICR_RESERVED: u64 = 0xfff3_2000;
/// Error status: an illegal vector was to be sent.
pub(super) const ERROR_SEND_VECTOR: u8 = 1 << 5;
/// Error status: an illegal vector was received.
pub(super) const ERROR_RECEIVE_VECTOR: u8 = 1 << 6;
/// Error status: a register was accessed that does not exist.
pub(super) const ERROR_REGISTER: u8 = 1 << 7;

/// The entries of the local vector table, in register order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalVector {
    /// The timer.
    Timer = 0,
    /// The thermal sensor.
    Thermal = 1,
    /// Performance counter overflow; delivery masks the entry.
    PerformanceCounter = 2,
    /// The LINT0 pin, where a PC wires the PIC.
    Lint0 = 3,
    /// The LINT1 pin, where a PC wires NMI.
    Lint1 = 4,
    /// Internal errors.
    Error = 5,
}

pub(super) const LVTS: usize = 6;

/// Why a register access failed: in x2APIC mode each is #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reject {
    NoRegister,
    ReadOnly,
    Reserved,
}

/// What a register write means for the outside. Done by the caller, without the APIC's lock.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// End of interrupt: the vector, and whether it was level-triggered.
    pub eoi: Option<(u8, bool)>,
    pub ipi: Option<Message>,
    pub event: Option<Wake>,
}

/// The state of one local APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Regs {
    /// The x2APIC ID, which never changes.
    pub vcpu: u32,
    pub features: LapicFeatures,
    pub base: u64,
    /// The xAPIC ID, which the guest may change.
    pub id: u8,
    pub tpr: u8,
    pub ldr: u32,
    pub dfr: u32,
    pub svr: u32,
    pub esr: u8,
    /// Errors since the last write of ESR, which is what shows them.
    pub esr_pending: u8,
    pub icr: u64,
    pub lvt: [u32; LVTS],
    pub isr: Vectors,
    pub tmr: Vectors,
    pub irr: Vectors,
    pub timer: Timer,
}

impl Regs {
    pub fn new(vcpu: u32) -> Self {
        let mut regs = Self {
            vcpu,
            features: LapicFeatures::default(),
            base: 0,
            id: 0,
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            esr: 0,
            esr_pending: 0,
            icr: 0,
            lvt: [0; LVTS],
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            timer: Timer::default(),
        };
        regs.power_up();
        regs
    }

    /// The state after RESET.
    pub fn power_up(&mut self) {
        let bsp = if self.vcpu == 0 { APIC_BASE_BSP } else { 0 };
        self.base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | bsp;
        self.id = self.vcpu as u8;
        self.init();
    }

    /// The state after INIT: everything but the mode and the IDs.
    pub fn init(&mut self) {
        self.tpr = 0;
        self.ldr = 0;
        self.dfr = u32::MAX;
        self.svr = 0xff;
        self.esr = 0;
        self.esr_pending = 0;
        self.icr = 0;
        self.lvt = [LVT_MASKED; LVTS];
        if self.vcpu == 0 {
            // Firmware leaves the boot processor in virtual wire mode: the PIC through LINT0.
            self.lvt[LocalVector::Lint0 as usize] = 0x700;
        }
        self.isr = Vectors::default();
        self.tmr = Vectors::default();
        self.irr = Vectors::default();
        self.timer.stop();
    }

    pub fn hw_enabled(&self) -> bool {
        self.base & APIC_BASE_ENABLE != 0
    }

    pub fn x2apic(&self) -> bool {
        self.base & APIC_BASE_X2APIC != 0
    }

    pub fn sw_enabled(&self) -> bool {
        self.svr & SVR_ENABLE != 0
    }

    /// In x2APIC mode the logical ID follows from the ID: cluster in the high half, one bit below.
    pub fn logical_id(&self) -> u32 {
        if self.x2apic() { x2apic_logical_id(self.vcpu) } else { self.ldr }
    }

    /// Does an asserted PIC output reach this CPU? Through LINT0, or past an APIC that is off.
    pub fn accepts_pic(&self) -> bool {
        let lint0 = self.lvt[LocalVector::Lint0 as usize];
        !self.hw_enabled() || lint0 & (LVT_MASKED | LVT_MODE) == 0x700
    }

    /// Is LINT0 set up as an NMI watchdog input?
    pub fn lint0_is_nmi(&self) -> bool {
        let lint0 = self.lvt[LocalVector::Lint0 as usize];
        self.hw_enabled() && lint0 & (LVT_MASKED | LVT_MODE) == 0x400
    }

    /// Raises a local interrupt. Returns whether it was accepted and an event for the CPU.
    pub fn local(&mut self, which: LocalVector) -> (bool, Option<Wake>) {
        let entry = self.lvt[which as usize];
        if !self.hw_enabled() || entry & LVT_MASKED != 0 {
            return (false, None);
        }
        let accepted =
            self.accept(((entry & LVT_MODE) >> 8) as u8, entry as u8, true, entry & LVT_LEVEL != 0);
        if accepted.0 && which == LocalVector::PerformanceCounter {
            self.lvt[which as usize] |= LVT_MASKED;
        }
        accepted
    }

    /// Notes an error and raises the error interrupt when it is a new one.
    pub fn error(&mut self, bit: u8) {
        if self.esr_pending & bit == 0 {
            self.esr_pending |= bit;
            self.local(LocalVector::Error);
        }
    }

    /// Reads the 32-bit register at `reg` (aligned to 16).
    pub fn read(&mut self, reg: u32, clock: &dyn Clock) -> Result<u32, Reject> {
        let word = ((reg >> 4) & 7) as usize;
        Ok(match reg {
            ID if self.x2apic() => self.vcpu,
            ID => u32::from(self.id) << 24,
            VERSION => VERSION_VALUE,
            TPR => self.tpr.into(),
            PPR => self.ppr().into(),
            LDR => self.logical_id(),
            SVR => self.svr,
            ISR..=0x170 => self.isr.0[word],
            TMR..=0x1f0 => self.tmr.0[word],
            IRR..=0x270 => self.irr.0[word],
            ESR => self.esr.into(),
            ICR => self.icr as u32,
            LVT..=0x370 => self.lvt[((reg - LVT) >> 4) as usize],
            TMICT => self.timer.initial_count,
            TMCCT => {
                let now = clock.now_ns();
                self.fire_due(now);
                self.timer.current_count(now)
            }
            TDCR => self.timer.divide_config,
            _ if self.x2apic() => return Err(Reject::NoRegister),
            APR => self.apr().into(),
            DFR => self.dfr,
            ICR2 => (self.icr >> 32) as u32,
            EOI | RRD => 0,
            _ => return Err(Reject::NoRegister),
        })
    }

    /// Writes the 32-bit register at `reg` (aligned to 16).
    pub fn write(&mut self, reg: u32, value: u32, clock: &dyn Clock) -> Result<Effects, Reject> {
        let x2apic = self.x2apic();
        let mut effects = Effects::default();
        match reg {
            TPR if x2apic && value > 0xff => return Err(Reject::Reserved),
            TPR => self.tpr = value as u8,
            EOI if x2apic && value != 0 => return Err(Reject::Reserved),
            EOI => effects.eoi = self.end_of_interrupt(),
            SVR => self.write_svr(value),
            ESR if x2apic && value != 0 => return Err(Reject::Reserved),
            ESR => self.esr = std::mem::take(&mut self.esr_pending),
            ICR => return self.write_icr((self.icr & !0xffff_ffff) | u64::from(value)),
            LVT => self.write_timer_lvt(value, clock),
            0x330..=0x370 => self.write_lvt(((reg - LVT) >> 4) as usize, value),
            TMICT => self.write_initial_count(value, clock),
            TDCR => self.write_divide_config(value, clock),
            SELF_IPI if x2apic => {
                if value > 0xff {
                    return Err(Reject::Reserved);
                }
                // As an ICR write with the "self" shorthand, but the ICR keeps its value.
                effects.ipi = self.ipi(0x4_0000 | u64::from(value));
            }
            VERSION | PPR | ISR..=0x270 | TMCCT => return Err(Reject::ReadOnly),
            ID | LDR if x2apic => return Err(Reject::ReadOnly),
            _ if x2apic => return Err(Reject::NoRegister),
            ID => self.id = (value >> 24) as u8,
            LDR => self.ldr = value & 0xff00_0000,
            DFR => self.dfr = value | 0x0fff_ffff,
            ICR2 => {
                let high = u64::from(value & 0xff00_0000) << 32;
                self.icr = high | (self.icr & 0xffff_ffff);
            }
            APR | RRD => return Err(Reject::ReadOnly),
            _ => return Err(Reject::NoRegister),
        }
        Ok(effects)
    }

    /// Writes the interrupt command register, 64 bits wide: sends an interrupt.
    pub fn write_icr(&mut self, value: u64) -> Result<Effects, Reject> {
        if self.x2apic() && value & X2APIC_ICR_RESERVED != 0 {
            return Err(Reject::Reserved);
        }
        // Delivery is instant: the busy bit never shows.
        self.icr = value & !ICR_BUSY;
        Ok(Effects { ipi: self.ipi(self.icr), ..Effects::default() })
    }

    /// The message that an ICR value stands for; none if its vector is illegal.
    fn ipi(&mut self, icr: u64) -> Option<Message> {
        let message = Message::from_icr(icr, self.x2apic());
        if message.needs_vector() && message.vector < 16 {
            self.error(ERROR_SEND_VECTOR);
            return None;
        }
        Some(message)
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & 0x3ff;
        if !self.sw_enabled() {
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
    }

    fn write_lvt(&mut self, index: usize, value: u32) {
        let forced = if self.sw_enabled() { 0 } else { LVT_MASKED };
        self.lvt[index] = (value & LVT_WRITABLE[index]) | forced;
    }

    fn write_timer_lvt(&mut self, value: u32, clock: &dyn Clock) {
        self.fire_due(clock.now_ns());
        self.write_lvt(0, value);
        self.lvt[0] |= value & self.timer_mode_bits();
        self.timer.set_mode(self.lvt[0] >> 17 & 3);
    }

    /// The bits of the timer's local vector that select its mode.
    pub fn timer_mode_bits(&self) -> u32 {
        if self.features.tsc_deadline { 3 << 17 } else { 1 << 17 }
    }

    fn write_initial_count(&mut self, value: u32, clock: &dyn Clock) {
        let now = clock.now_ns();
        // What was due before this write happened before this write.
        self.fire_due(now);
        self.timer.start(value, now);
    }

    fn write_divide_config(&mut self, value: u32, clock: &dyn Clock) {
        let now = clock.now_ns();
        self.fire_due(now);
        self.timer.set_divide_config(value & 0xb, now);
    }

    /// Delivers the timer interrupt if it is due.
    pub fn fire_due(&mut self, now: u64) {
        if self.timer.expire(now) {
            self.local(LocalVector::Timer);
        }
    }
}

/// The logical ID that x2APIC mode derives from an ID.
pub(crate) fn x2apic_logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}
