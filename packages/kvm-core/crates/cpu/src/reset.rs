//! Power-on, INIT and SIPI states (SDM volume 3, 9.1).

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::regs::{GuestDebug, MpState};

use crate::bits::{cr0, dr};
use crate::caps::{Caps, phys_bits};
use crate::flags::LazyFlags;
use crate::{Cpu, Events, Fault, Mode, Msrs, Seg, TableReg, Vector, reg, seg};

/// IA32_PAT after reset.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// IA32_APIC_BASE after reset, without the BSP bit.
pub const APIC_BASE_RESET: u64 = 0xfee0_0800;

impl Cpu {
    /// A vCPU in its power-on state: number 0 runs, the others wait for INIT.
    #[must_use]
    pub fn new(id: u32) -> Self {
        let mut cpu = Self {
            regs: [0; reg::COUNT],
            arith: LazyFlags::default(),
            rflags: 0,
            segs: [Seg::default(); 8],
            cpl: 0,
            mode: Mode::Real,
            gdtr: TableReg::default(),
            idtr: TableReg::default(),
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            efer: 0,
            xcr0: 1,
            xss: 0,
            pkru: 0,
            dr: [0; 8],
            pdptrs: [0; 4],
            pdptrs_valid: true,
            msrs: Msrs::default(),
            apic_base: 0,
            lapic: None,
            id,
            events: Events::default(),
            mp_state: MpState::Runnable,
            cpuid: Vec::new(),
            caps: Caps::everything(),
            phys_bits: phys_bits(&[]),
            fault: Fault { vector: Vector::Ud, error: 0, address: 0 },
            tsc_khz: 1_000_000,
            tsc_offset: 0,
            guest_debug: GuestDebug::default(),
        };
        cpu.reset();
        cpu
    }

    /// Power-on reset. CPUID, the clock, the local APIC's binding and the debugger stay.
    pub fn reset(&mut self) {
        self.init_registers();
        self.cr0 = cr0::ET | cr0::NW | cr0::CD;
        self.xcr0 = 1;
        self.xss = 0;
        self.cr8 = 0;
        self.msrs = Msrs {
            pat: PAT_RESET,
            misc_enable: 1,
            mcg_ctl: u64::MAX,
            mc_banks: std::array::from_fn(|i| if i % 4 == 0 { u64::MAX } else { 0 }),
            smbase: 0x3_0000,
            kvm_poll_control: 1,
            // TscFreqSel: the TSC counts at the P0 frequency. Linux looks at it on family 17h up.
            hwcr: 1 << 24,
            ..Msrs::default()
        };
        self.apic_base = APIC_BASE_RESET | if self.id == 0 { 1 << 8 } else { 0 };
        if let Some(apic) = &self.lapic {
            apic.reset();
        }
        self.mp_state = if self.id == 0 { MpState::Runnable } else { MpState::Uninitialized };
        self.update_mode();
    }

    /// INIT: like reset, but MSRs, XCR0, the cache bits of CR0 and the FPU keep their values.
    /// The boot processor runs on at the reset vector, the others wait for SIPI.
    pub fn init(&mut self) {
        let cache = self.cr0 & (cr0::CD | cr0::NW);
        self.init_registers();
        self.cr0 = cr0::ET | cache;
        if let Some(apic) = &self.lapic {
            apic.init();
        }
        let bsp = self.apic_base_value() & (1 << 8) != 0;
        self.mp_state = if bsp { MpState::Runnable } else { MpState::InitReceived };
        self.update_mode();
    }

    /// SIPI: a vCPU that waits for it starts at `vector << 12` in real mode; others ignore it.
    /// Returns whether it started.
    pub fn start_sipi(&mut self, vector: u8) -> bool {
        if !matches!(self.mp_state, MpState::InitReceived | MpState::SipiReceived) {
            return false;
        }
        self.events.sipi_vector = vector;
        let cs = &mut self.segs[seg::CS];
        cs.selector = u16::from(vector) << 8;
        cs.base = u64::from(vector) << 12;
        self.regs[reg::RIP] = 0;
        self.mp_state = MpState::Runnable;
        self.update_mode();
        true
    }

    /// Replaces CPUID and what is derived from it.
    pub fn set_cpuid(&mut self, entries: &[CpuidEntry]) {
        self.cpuid = entries.to_vec();
        self.caps = Caps::from_cpuid(entries);
        self.phys_bits = phys_bits(entries);
        self.update_apic();
    }

    fn init_registers(&mut self) {
        self.regs = [0; reg::COUNT];
        self.regs[reg::RIP] = 0xfff0;
        // DX holds the processor signature.
        let signature = self.cpuid.iter().find(|e| e.function == 1).map_or(0x600, |e| e.eax);
        self.regs[reg::RDX] = u64::from(signature);
        self.set_rflags(0);
        let data = Seg { limit: 0xffff, access: 0x93, ..Seg::default() };
        self.segs = [data; 8];
        self.segs[seg::CS] =
            Seg { base: 0xffff_0000, limit: 0xffff, selector: 0xf000, access: 0x9b, ..data };
        self.segs[seg::LDTR] = Seg { access: 0x82, ..data };
        self.segs[seg::TR] = Seg { access: 0x8b, ..data };
        self.gdtr = TableReg { base: 0, limit: 0xffff };
        self.idtr = self.gdtr;
        self.cpl = 0;
        self.cr2 = 0;
        self.cr3 = 0;
        self.cr4 = 0;
        self.efer = 0;
        self.dr = [0, 0, 0, 0, 0, 0, dr::DR6_FIXED, dr::DR7_FIXED];
        self.pdptrs = [0; 4];
        self.pdptrs_valid = true;
        self.events = Events::default();
    }
}
