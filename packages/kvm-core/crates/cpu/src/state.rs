//! The registers of one vCPU.

use std::sync::Arc;

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::regs::{GuestDebug, MpState};
use kvm_irqchip::Lapic;

use crate::caps::Caps;
use crate::flags::{self, LazyFlags};
use crate::{Fault, Mode, Trap, Vector};

/// Indices into [`Cpu::regs`].
#[allow(missing_docs)]
pub mod reg {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R11: usize = 11;
    /// Always zero: stands for "no base" and "no index".
    pub const ZERO: usize = 16;
    /// The instruction pointer.
    pub const RIP: usize = 17;
    /// Length of the array: a power of two, so that a masked index needs no bounds check.
    pub const COUNT: usize = 32;
}

/// Indices into [`Cpu::segs`], in the order of the instruction encoding.
#[allow(missing_docs)]
pub mod seg {
    pub const ES: usize = 0;
    pub const CS: usize = 1;
    pub const SS: usize = 2;
    pub const DS: usize = 3;
    pub const FS: usize = 4;
    pub const GS: usize = 5;
    pub const LDTR: usize = 6;
    pub const TR: usize = 7;
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seg {
    /// Linear base.
    pub base: u64,
    /// Last valid offset (granularity applied); for expand-down data the last invalid one.
    pub limit: u32,
    /// Selector.
    pub selector: u16,
    /// Access byte of the descriptor: P, DPL, S, type.
    pub access: u8,
    /// High nibble of the descriptor as bits 0 to 3: AVL, L, D/B, G.
    pub flags: u8,
    /// Holds no usable descriptor: any access faults outside 64-bit mode.
    pub unusable: bool,
}

impl Seg {
    /// Descriptor privilege level.
    #[must_use]
    pub fn dpl(&self) -> u8 {
        (self.access >> 5) & 3
    }
    /// The D/B bit.
    #[must_use]
    pub fn big(&self) -> bool {
        self.flags & 4 != 0
    }
    /// The L bit.
    #[must_use]
    pub fn long(&self) -> bool {
        self.flags & 2 != 0
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableReg {
    /// Linear base.
    pub base: u64,
    /// Last valid offset.
    pub limit: u16,
}

/// Model-specific registers that are plain storage with checks at write.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    pub pkrs: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub misc_enable: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fixed: [u64; 11],
    pub mtrr_var: [u64; 16],
    pub spec_ctrl: u64,
    pub smbase: u32,
    pub mcg_status: u64,
    pub mcg_ctl: u64,
    /// CTL, STATUS, ADDR and MISC of each machine-check bank.
    pub mc_banks: [u64; crate::msr::MC_BANKS * 4],
    /// AMD hardware configuration (MSR C001_0015).
    pub hwcr: u64,
    /// AMD decode configuration (MSR C001_1029).
    pub de_cfg: u64,
    pub tsc_adjust: u64,
    /// `MSR_KVM_WALL_CLOCK_NEW`.
    pub kvm_wall_clock: u64,
    /// `MSR_KVM_SYSTEM_TIME_NEW`.
    pub kvm_system_time: u64,
    pub kvm_steal_time: u64,
    pub kvm_pv_eoi: u64,
    pub kvm_poll_control: u64,
    pub kvm_async_pf: u64,
}

impl Default for Msrs {
    fn default() -> Self {
        Self {
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            tsc_aux: 0,
            pkrs: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            pat: 0,
            misc_enable: 0,
            mtrr_def_type: 0,
            mtrr_fixed: [0; 11],
            mtrr_var: [0; 16],
            spec_ctrl: 0,
            smbase: 0,
            mcg_status: 0,
            mcg_ctl: 0,
            mc_banks: [0; crate::msr::MC_BANKS * 4],
            hwcr: 0,
            de_cfg: 0,
            tsc_adjust: 0,
            kvm_wall_clock: 0,
            kvm_system_time: 0,
            kvm_steal_time: 0,
            kvm_pv_eoi: 0,
            kvm_poll_control: 0,
            kvm_async_pf: 0,
        }
    }
}

/// Events on their way into the guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    /// An exception that was being delivered when the vCPU stopped (state restored from outside).
    pub injected: Option<Fault>,
    /// An external or software interrupt being delivered: vector, and whether it is soft.
    pub interrupt: Option<(u8, bool)>,
    /// Delivery of maskable interrupts is held for one instruction after STI.
    pub sti_shadow: bool,
    /// Interrupts and debug traps are held for one instruction after a load of SS.
    pub mov_ss_shadow: bool,
    /// NMIs that wait: one while they are blocked, two (the next one and one behind it) if not.
    pub nmi_pending: u8,
    /// NMIs are blocked until IRET.
    pub nmi_masked: bool,
    /// An SMI waits.
    pub smi_pending: bool,
    /// In system management mode.
    pub smm: bool,
    /// NMIs were blocked when it was entered.
    pub smm_inside_nmi: bool,
    /// An INIT came in system management mode, and waits for its end.
    pub init_latched: bool,
    /// Vector of the SIPI to start at.
    pub sipi_vector: u8,
    /// An NMI was being delivered when the vCPU stopped.
    pub nmi_injected: bool,
    /// A triple fault is due.
    pub triple_fault: bool,
    /// A single-step or data-breakpoint trap (DR6 bits) due after this instruction.
    pub debug_trap: u64,
}

impl Events {
    /// `count` NMIs arrive. Those that find no place are lost, as on hardware.
    pub fn add_nmis(&mut self, count: u8) {
        let places = if self.nmi_masked || self.nmi_injected { 1 } else { 2 };
        self.nmi_pending = self.nmi_pending.saturating_add(count).min(places);
    }
}

/// How the vCPU reaches its local APIC.
pub type ApicBinding = Option<Arc<Lapic>>;

/// Everything architectural about one vCPU but vector and x87 registers, which the engine keeps
/// in the form its host instructions want.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct Cpu {
    /// General registers, then [`reg::ZERO`] and [`reg::RIP`].
    pub regs: [u64; reg::COUNT],
    /// CF, PF, AF, ZF, SF, OF.
    pub arith: LazyFlags,
    /// All other bits of RFLAGS (never the arithmetic ones); bit 1 is not stored.
    pub rflags: u64,
    /// Segment registers, see [`seg`].
    pub segs: [Seg; 8],
    /// Present privilege level.
    pub cpl: u8,
    /// Derived from CR0.PE, RFLAGS.VM, EFER.LMA and CS; see [`Cpu::update_mode`].
    pub mode: Mode,
    /// GDTR.
    pub gdtr: TableReg,
    /// IDTR.
    pub idtr: TableReg,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3 without the no-flush bit.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// TPR for CR8 where there is no local APIC.
    pub cr8: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// IA32_XSS.
    pub xss: u64,
    /// Rights of protection keys on user pages: a copy of what the XSAVE state has.
    pub pkru: u32,
    /// DR0 to DR3, two unused, DR6, DR7.
    pub dr: [u64; 8],
    /// Page-directory-pointer-table entries loaded by MOV CR3 in PAE mode.
    pub pdptrs: [u64; 4],
    /// False after state was set from outside: the next walk loads `pdptrs` from memory.
    pub pdptrs_valid: bool,
    /// Other model-specific registers.
    pub msrs: Msrs,
    /// IA32_APIC_BASE where there is no local APIC.
    pub apic_base: u64,
    /// The local APIC.
    pub lapic: ApicBinding,
    /// vCPU number: initial APIC id.
    pub id: u32,
    /// Pending events.
    pub events: Events,
    /// Runnable, halted, waiting.
    pub mp_state: MpState,
    /// CPUID leaves as set.
    pub cpuid: Vec<CpuidEntry>,
    /// Derived from `cpuid` when it is set: what the guest may use.
    pub caps: Caps,
    /// Derived from `cpuid` when it is set: physical address bits.
    pub phys_bits: u8,
    /// Details of the last [`Trap::Fault`].
    pub fault: Fault,
    /// TSC frequency in kHz.
    pub tsc_khz: u32,
    /// Guest TSC at clock 0; guest TSC = clock_ns * tsc_khz / 10^6 + this.
    pub tsc_offset: i64,
    /// Debugger's wishes.
    pub guest_debug: GuestDebug,
}

impl Cpu {
    /// Records an exception and yields the trap to return.
    #[cold]
    #[inline(never)]
    pub fn raise(&mut self, vector: Vector, error: u32) -> Trap {
        self.fault = Fault { vector, error, address: 0 };
        Trap::Fault
    }
    /// #GP(error).
    #[cold]
    pub fn gp(&mut self, error: u32) -> Trap {
        self.raise(Vector::Gp, error)
    }
    /// #UD.
    #[cold]
    pub fn ud(&mut self) -> Trap {
        self.raise(Vector::Ud, 0)
    }
    /// #PF with its address (goes to CR2 at delivery).
    #[cold]
    #[inline(never)]
    pub fn page_fault(&mut self, address: u64, error: u32) -> Trap {
        self.fault = Fault { vector: Vector::Pf, error, address };
        Trap::Fault
    }

    /// RFLAGS with the arithmetic flags worked out.
    #[must_use]
    pub fn get_rflags(&self) -> u64 {
        self.rflags | self.arith.get() | flags::FIXED
    }
    /// Loads all of RFLAGS. The caller calls `Exec::context_changed` if VM or AC may change, and
    /// [`update_mode`](Self::update_mode) if VM may.
    pub fn set_rflags(&mut self, value: u64) {
        self.arith.set(value);
        self.rflags = value & !(flags::ARITH | flags::FIXED) & 0x3f_7fd5;
    }
    /// The instruction pointer.
    #[inline(always)]
    #[must_use]
    pub fn rip(&self) -> u64 {
        self.regs[reg::RIP]
    }
    /// True in real or virtual-8086 mode.
    #[must_use]
    pub fn real_or_v86(&self) -> bool {
        self.cr0 & 1 == 0 || self.rflags & flags::VM != 0
    }
    /// EFER.LMA.
    #[must_use]
    pub fn long_active(&self) -> bool {
        self.efer & (1 << 10) != 0
    }
    /// Works out [`mode`](Self::mode) from CR0.PE, RFLAGS.VM, EFER.LMA, CS.L and CS.D.
    pub fn update_mode(&mut self) {
        let cs = &self.segs[seg::CS];
        self.mode = if self.cr0 & 1 == 0 {
            // Big real mode: a 32-bit code segment kept from protected mode still decodes as 32-bit.
            if cs.big() { Mode::Protected32 } else { Mode::Real }
        } else if self.rflags & flags::VM != 0 {
            Mode::V86
        } else if self.long_active() && cs.long() {
            Mode::Long64
        } else if cs.big() {
            Mode::Protected32
        } else {
            Mode::Protected16
        };
    }
}
