//! What an engine is to the VM layer: one trait for a VM, one for a vCPU.
//!
//! Both engines implement them, so that everything above (threads, exits, the TypeScript API)
//! is written once.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::exit::Exit;
use kvm_abi::regs::{DebugRegs, GuestDebug, MpState, Regs, Sregs, VcpuEvents};
use kvm_abi::{Clock, Errno, KvmError};
use kvm_irqchip::Irqchip;
use kvm_memory::GuestMemory;

use crate::code_counters::CodeCounters;
use crate::kernel::KernelVm;

/// Bits of [`VcpuRequests`]: what a running vCPU is asked to do at its next boundary.
pub mod request {
    /// Leave the guest with `Exit::Intr`.
    pub const EXIT: u32 = 1;
    /// Look for interrupts and timers again.
    pub const INTERRUPT: u32 = 2;
    /// A non-maskable interrupt is pending.
    pub const NMI: u32 = 4;
    /// A system management interrupt is pending.
    pub const SMI: u32 = 8;
    /// INIT arrived.
    pub const INIT: u32 = 16;
    /// SIPI arrived; the vector is in `sipi_vector`.
    pub const SIPI: u32 = 32;
    /// Memslots, dirty log or code changed: drop what was derived from them.
    pub const MEMORY: u32 = 64;
    /// Another vCPU ends the HLT that this one is in or will be in (`KVM_HC_KICK_CPU`).
    pub const UNHALT: u32 = 128;
    /// A second non-maskable interrupt, raised while `NMI` was set.
    pub const NMI_AGAIN: u32 = 256;
}

/// The mailbox through which other threads reach a vCPU.
/// On cache lines of its own, because the vCPU looks at it before every block.
///
/// The word is also the futex on which the VM layer lets a halted vCPU sleep: it sleeps only
/// while the word is zero, so that a request can never be lost between the look and the sleep.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct VcpuRequests {
    word: AtomicU32,
    /// The vector of the last SIPI.
    pub sipi_vector: AtomicU32,
    /// A SIPI arrived, and the vCPU has neither ignored it nor executed an instruction since.
    pub starting: AtomicBool,
    /// Memory epoch that the vCPU has seen, see `request::MEMORY`; odd while it is in the guest.
    pub memory_epoch: AtomicU64,
    kick: OnceLock<Arc<dyn Kick>>,
}

/// Makes a vCPU look at its requests that does not poll them: one that runs in the kernel.
pub trait Kick: Send + Sync + fmt::Debug {
    /// Called after a request was raised, from any thread.
    fn kick(&self);
}

/// Wakes a vCPU at a time.
pub trait Alarm: Send + Sync + fmt::Debug {
    /// Raises `request::INTERRUPT` after so many nanoseconds, or soon after. A call takes the place
    /// of the one before.
    fn arm(&self, after_ns: u64);
    /// True until it goes off. The VM's clock may be set meanwhile, so that it goes off early.
    fn pending(&self) -> bool;
}

impl VcpuRequests {
    /// Sets `bits`; the vCPU sees them at its next block boundary at the latest.
    pub fn raise(&self, bits: u32) {
        let before = self.word.fetch_or(bits, Ordering::SeqCst);
        if bits & before & request::NMI != 0 {
            self.word.fetch_or(request::NMI_AGAIN, Ordering::SeqCst);
        }
        if let Some(kick) = self.kick.get() {
            kick.kick();
        }
    }
    /// Has `kick` called after each `raise`. The first call counts.
    pub fn on_raise(&self, kick: Arc<dyn Kick>) {
        let _ = self.kick.set(kick);
    }
    /// Takes all bits.
    pub fn take(&self) -> u32 {
        self.word.swap(0, Ordering::SeqCst)
    }
    /// Takes those of `bits` that are set and leaves the others.
    pub fn take_some(&self, bits: u32) -> u32 {
        self.word.fetch_and(!bits, Ordering::SeqCst) & bits
    }
    /// Sets `bits` in place of those in `instead`.
    pub fn replace(&self, instead: u32, bits: u32) {
        let change = |word: u32| Some(word & !instead | bits);
        let _ = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
    }
    /// True if any bit is set. Cheap: one relaxed load.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.word.load(Ordering::Relaxed) != 0
    }
    /// The word itself, to sleep on.
    pub fn futex_word(&self) -> &AtomicU32 {
        &self.word
    }
}

/// Devices that KVM has in the kernel: ioeventfds, PIC, PIT, IOAPIC. The engine asks here before
/// it exits. Local APICs are not on this bus, every vCPU has its own.
pub trait KernelBus: Send + Sync {
    /// A port read; `None` if nobody claims it.
    fn pio_read(&self, vcpu: u32, port: u16, size: u8) -> Option<u32>;
    /// A port write; false if nobody claims it.
    fn pio_write(&self, vcpu: u32, port: u16, size: u8, value: u32) -> bool;
    /// True if some access to `port` may be claimed, so that none may be put together with others
    /// into one exit.
    fn pio_claims(&self, _port: u16) -> bool {
        true
    }
    /// A memory-mapped read of `data.len()` bytes (1 to 8); false if nobody claims it.
    fn mmio_read(&self, vcpu: u32, gpa: u64, data: &mut [u8]) -> bool;
    /// A memory-mapped write; false if nobody claims it.
    fn mmio_write(&self, vcpu: u32, gpa: u64, data: &[u8]) -> bool;
}

/// What a VM gives to its engine.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct VmContext {
    /// Guest physical memory.
    pub memory: Arc<GuestMemory>,
    /// The in-kernel device bus.
    pub bus: Arc<dyn KernelBus>,
    /// The in-kernel irqchip, where the VM has one.
    pub irqchip: Option<Arc<Irqchip>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// One vCPU of an engine. Only the thread that owns it calls it.
pub trait VcpuEngine: Send {
    /// Enters the guest until something needs the caller.
    ///
    /// On `Exit::Hlt` with an irqchip the caller sleeps until the request word is nonzero or the
    /// irqchip's next deadline, and enters again. After a read from a device the caller answers
    /// with [`complete_read`](Self::complete_read) first. An entry with `request::EXIT` pending
    /// finishes the interrupted instruction and returns `Exit::Intr` at its end.
    fn run(&mut self) -> Exit;
    /// The answer to the last `Io`, `IoString` or `Mmio` read, little-endian.
    fn complete_read(&mut self, data: &[u8]);
    /// The items that the last `IoString` exit writes, one after the other.
    fn string_data(&self) -> &[u8] {
        &[]
    }
    /// True while an instruction waits for the answer to, or the re-entry after, an exit.
    fn io_pending(&self) -> bool;

    /// `KVM_GET_REGS`.
    fn regs(&mut self) -> Regs;
    /// `KVM_SET_REGS`.
    fn set_regs(&mut self, regs: &Regs) -> Result<(), KvmError>;
    /// `KVM_GET_SREGS`.
    fn sregs(&mut self) -> Sregs;
    /// `KVM_SET_SREGS`; `EINVAL` for an impossible combination.
    fn set_sregs(&mut self, sregs: &Sregs) -> Result<(), KvmError>;
    /// `KVM_GET_XSAVE2`: an XSAVE area in standard format.
    fn xsave(&mut self) -> Vec<u8>;
    /// `KVM_SET_XSAVE`.
    fn set_xsave(&mut self, area: &[u8]) -> Result<(), KvmError>;
    /// `KVM_GET_XCRS`, XCR0 only.
    fn xcr0(&mut self) -> u64;
    /// `KVM_SET_XCRS`.
    fn set_xcr0(&mut self, value: u64) -> Result<(), KvmError>;
    /// `KVM_GET_VCPU_EVENTS`.
    fn vcpu_events(&mut self) -> VcpuEvents;
    /// `KVM_SET_VCPU_EVENTS`.
    fn set_vcpu_events(&mut self, events: &VcpuEvents) -> Result<(), KvmError>;
    /// `KVM_GET_DEBUGREGS`.
    fn debugregs(&mut self) -> DebugRegs;
    /// `KVM_SET_DEBUGREGS`.
    fn set_debugregs(&mut self, regs: &DebugRegs) -> Result<(), KvmError>;
    /// `KVM_SET_GUEST_DEBUG`.
    fn set_guest_debug(&mut self, debug: &GuestDebug) -> Result<(), KvmError>;
    /// `KVM_GET_MSRS` for one register; `EINVAL` if it does not exist.
    fn msr(&mut self, index: u32) -> Result<u64, KvmError>;
    /// `KVM_SET_MSRS` for one register.
    fn set_msr(&mut self, index: u32, value: u64) -> Result<(), KvmError>;
    /// `KVM_SET_CPUID2`.
    fn set_cpuid(&mut self, entries: &[CpuidEntry]) -> Result<(), KvmError>;
    /// `KVM_GET_CPUID2`.
    fn cpuid(&mut self) -> Vec<CpuidEntry>;
    /// `KVM_GET_MP_STATE`.
    fn mp_state(&mut self) -> MpState;
    /// `KVM_SET_MP_STATE`.
    fn set_mp_state(&mut self, state: MpState) -> Result<(), KvmError>;
    /// `KVM_INTERRUPT`: only without an in-kernel irqchip.
    fn interrupt(&mut self, vector: u8) -> Result<(), KvmError>;
    /// `KVM_NMI`.
    fn nmi(&mut self);
    /// `KVM_GET_TSC_KHZ`.
    fn tsc_khz(&mut self) -> u32;
    /// `KVM_SET_TSC_KHZ`.
    fn set_tsc_khz(&mut self, khz: u32) -> Result<(), KvmError>;
    /// `KVM_TRANSLATE`: guest virtual to guest physical with the present paging, no side effects.
    fn translate(&mut self, gva: u64) -> Option<u64>;
    /// True if maskable interrupts can be taken now (`ready_for_interrupt_injection`, `if_flag`).
    fn interrupt_window(&self) -> (bool, bool);
    /// `request_interrupt_window` of the next entry.
    fn request_interrupt_window(&mut self, on: bool);
    /// Retired instructions since creation; 0 where the engine cannot count. Exact only in what follows
    /// the first `stop_at_instruction` with a number.
    fn instructions(&self) -> u64;
    /// Exit with `Exit::CountReached` exactly before instruction number `count` (soft engine).
    fn stop_at_instruction(&mut self, count: Option<u64>) -> Result<(), KvmError>;

    /// Offers an alarm for the timers of the local APIC. An engine that takes it need not look at
    /// the clock by itself while the guest runs.
    ///
    /// # Errors
    /// Those of `make`, which makes one.
    fn offer_alarm(
        &mut self,
        _make: &dyn Fn() -> Result<Arc<dyn Alarm>, KvmError>,
    ) -> Result<(), KvmError> {
        Ok(())
    }

    /// The descriptor and length whose mapping is the `kvm_run` page, where the kernel fills it.
    /// Its exits are [`Exit::Described`], and answers are read from the page.
    fn run_mapping(&self) -> Option<(RawFd, usize)> {
        None
    }
    /// `KVM_GET_LAPIC`, where the kernel has the local APIC.
    fn kernel_lapic(&mut self) -> Result<[u8; 1024], KvmError> {
        Err(KvmError::new(Errno::ENXIO, "the kernel has no local APIC of this vCPU"))
    }
    /// `KVM_SET_LAPIC`, where the kernel has the local APIC.
    fn set_kernel_lapic(&mut self, _state: &[u8; 1024]) -> Result<(), KvmError> {
        Err(KvmError::new(Errno::ENXIO, "the kernel has no local APIC of this vCPU"))
    }
    /// It has system management mode: `KVM_CAP_X86_SMM`.
    fn takes_smis(&self) -> bool {
        false
    }
    /// In system management mode.
    fn in_smm(&self) -> bool {
        false
    }
    /// What the engine did to execute the guest's code, where it is software.
    fn code_counters(&self) -> Option<Arc<CodeCounters>> {
        None
    }
    /// What the engine left out though it was asked for, since the last call: one sentence each.
    fn take_notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The VM side of an engine.
pub trait VmEngine: Send + Sync {
    /// A new vCPU in its reset state (vCPU 0 runnable, others wait for INIT).
    fn create_vcpu(
        &self,
        id: u32,
        context: VmContext,
        requests: Arc<VcpuRequests>,
    ) -> Result<Box<dyn VcpuEngine>, KvmError>;
    /// `KVM_GET_SUPPORTED_CPUID`.
    fn supported_cpuid(&self) -> Vec<CpuidEntry>;
    /// CPUID of a model (`qemu64`, `max`, `host`) with features switched on or off by name.
    fn cpuid_for_model(
        &self,
        model: &str,
        features: &[(String, bool)],
    ) -> Result<Vec<CpuidEntry>, KvmError>;
    /// Model names.
    fn cpu_models(&self) -> Vec<&'static str>;
    /// Feature names that `cpuid_for_model` knows.
    fn cpu_features(&self) -> Vec<&'static str>;
    /// `KVM_GET_MSR_INDEX_LIST`.
    fn msr_index_list(&self) -> Vec<u32>;

    /// Makes the kernel's side of the VM; `None` for an engine without one.
    fn create_kernel_vm(&self) -> Result<Option<Arc<dyn KernelVm>>, KvmError> {
        Ok(None)
    }
    /// `KVM_CHECK_EXTENSION` of the kernel; `None` for an engine without one.
    fn check_extension(&self, _number: u32) -> Option<u32> {
        None
    }
}
