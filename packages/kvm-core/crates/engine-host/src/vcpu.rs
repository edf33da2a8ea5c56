//! One vCPU of the kernel.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::exit::{Exit, run};
use kvm_abi::regs::{DebugRegs, GuestDebug, MpState, Regs, Sregs, VcpuEvents};
use kvm_abi::{Errno, KvmError};
use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, kvm_debugregs, kvm_guest_debug, kvm_guest_debug_arch, kvm_mp_state,
    kvm_regs, kvm_xcr, kvm_xcrs,
};
use kvm_cpu::engine::{VcpuEngine, VcpuRequests, VmContext};
use kvm_ioctls::VcpuFd;

use crate::cpuid;
use crate::engine::Host;
use crate::error::{failed, refused};
use crate::kick::Kicker;
use crate::msr;
use crate::page::RunPage;
use crate::plain::{bytes_of, from_bytes};
use crate::sys::{KVM_GET_XSAVE, KVM_INTERRUPT, KVM_SET_XSAVE, ioctl_with};
use crate::vm::HostVm;

/// Size of `struct kvm_xsave`. Models with more state than that (AMX) are not offered.
const XSAVE_BYTES: usize = 4096;
/// Legacy region and header.
const XSAVE_MIN_BYTES: usize = 576;

#[repr(C, align(64))]
struct Xsave([u8; XSAVE_BYTES]);

/// A vCPU. Whoever holds it is the one that enters.
pub(crate) struct HostVcpu {
    pub id: u32,
    pub fd: VcpuFd,
    pub page: Arc<RunPage>,
    pub kick: Arc<Kicker>,
    pub context: VmContext,
    pub requests: Arc<VcpuRequests>,
    /// The last exit is completed by the next entry.
    pub pending: bool,
    pub notes: Vec<String>,
    host: Arc<Host>,
    run_bytes: usize,
    has_irqchip: bool,
}

impl HostVcpu {
    /// `KVM_CREATE_VCPU`, with everything in CPUID that the kernel supports.
    pub fn new(
        id: u32,
        vm: &HostVm,
        host: Arc<Host>,
        context: VmContext,
        requests: Arc<VcpuRequests>,
    ) -> Result<Self, KvmError> {
        use kvm_cpu::kernel::KernelVm;
        let vm_fd = vm.fd()?;
        let fd = vm_fd.create_vcpu(u64::from(id)).map_err(|e| failed("KVM_CREATE_VCPU", &e))?;
        let run_bytes = vm_fd.run_size();
        let page = RunPage::map(fd.as_raw_fd(), run_bytes)?;
        let kick = Kicker::new(page.clone())?;
        requests.on_raise(kick.clone());
        let mut vcpu = Self {
            id,
            fd,
            page,
            kick,
            context,
            requests,
            pending: false,
            notes: Vec::new(),
            host,
            run_bytes,
            has_irqchip: vm.has_irqchip(),
        };
        let supported = vcpu.host.supported.clone();
        vcpu.set_cpuid(&supported)?;
        if vcpu.has_irqchip {
            // The kernel finds the destination of a message in a map that a new APIC enters only
            // when it is written to: without this an INIT for it would be lost.
            let state = vcpu.kernel_lapic()?;
            vcpu.set_kernel_lapic(&state)?;
        }
        Ok(vcpu)
    }

    /// `KVM_NMI` between two entries.
    pub(crate) fn inject_nmi(&mut self) {
        if let Err(error) = self.fd.nmi() {
            self.notes.push(failed("KVM_NMI", &error).reason);
        }
    }
}

/// The state of a vCPU that the kernel made can always be read: only a kernel that has declared
/// the VM broken answers otherwise, and then there is no true value to go on with.
fn read<T>(what: &str, value: Result<T, kvm_ioctls::Error>) -> T {
    value.unwrap_or_else(|error| panic!("{}", failed(what, &error).reason))
}

impl VcpuEngine for HostVcpu {
    fn run(&mut self) -> Exit {
        self.enter()
    }

    fn complete_read(&mut self, _data: &[u8]) {
        // The kernel reads the answer from the page.
    }

    fn io_pending(&self) -> bool {
        self.pending
    }

    fn regs(&mut self) -> Regs {
        let r = read("KVM_GET_REGS", self.fd.get_regs());
        let mut words = [0; 18];
        for (word, bytes) in words.iter_mut().zip(bytes_of(&r).as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Regs::from_array(&words)
    }

    fn set_regs(&mut self, regs: &Regs) -> Result<(), KvmError> {
        let mut bytes = [0; size_of::<kvm_regs>()];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(regs.to_array()) {
            *to = word.to_le_bytes();
        }
        let regs = from_bytes(&bytes).expect("the length is that of kvm_regs");
        self.fd.set_regs(&regs).map_err(|e| failed("KVM_SET_REGS", &e))
    }

    fn sregs(&mut self) -> Sregs {
        let sregs = read("KVM_GET_SREGS", self.fd.get_sregs());
        Sregs::from_bytes(bytes_of(&sregs)).expect("the length is that of kvm_sregs")
    }

    fn set_sregs(&mut self, sregs: &Sregs) -> Result<(), KvmError> {
        let sregs = from_bytes(&sregs.to_bytes()).expect("the length is that of kvm_sregs");
        self.fd.set_sregs(&sregs).map_err(|e| failed("KVM_SET_SREGS", &e))
    }

    fn xsave(&mut self) -> Vec<u8> {
        let mut area = Xsave([0; XSAVE_BYTES]);
        // SAFETY: the request fills 4096 bytes.
        let done = unsafe { ioctl_with(self.fd.as_raw_fd(), KVM_GET_XSAVE, &mut area) };
        read("KVM_GET_XSAVE", done.map_err(kvm_ioctls::Error::new));
        area.0.to_vec()
    }

    fn set_xsave(&mut self, bytes: &[u8]) -> Result<(), KvmError> {
        if !(XSAVE_MIN_BYTES..=XSAVE_BYTES).contains(&bytes.len()) {
            return Err(KvmError::invalid(format!(
                "an XSAVE area has {XSAVE_MIN_BYTES} to {XSAVE_BYTES} bytes, not {}",
                bytes.len()
            )));
        }
        let mut area = Xsave([0; XSAVE_BYTES]);
        area.0[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: the request reads 4096 bytes.
        unsafe { ioctl_with(self.fd.as_raw_fd(), KVM_SET_XSAVE, &mut area) }
            .map(drop)
            .map_err(|e| refused("KVM_SET_XSAVE", e))
    }

    fn xcr0(&mut self) -> u64 {
        // A CPU without XSAVE has no XCR0, and its x87 state is always on.
        let xcrs = self.fd.get_xcrs().unwrap_or_default();
        let count = xcrs.nr_xcrs as usize;
        xcrs.xcrs.iter().take(count).find(|x| x.xcr == 0).map_or(1, |x| x.value)
    }

    fn set_xcr0(&mut self, value: u64) -> Result<(), KvmError> {
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
        xcrs.xcrs[0] = kvm_xcr { xcr: 0, reserved: 0, value };
        self.fd.set_xcrs(&xcrs).map_err(|e| failed("KVM_SET_XCRS", &e))
    }

    fn vcpu_events(&mut self) -> VcpuEvents {
        let events = read("KVM_GET_VCPU_EVENTS", self.fd.get_vcpu_events());
        VcpuEvents::from_bytes(bytes_of(&events)).expect("the length is that of the structure")
    }

    fn set_vcpu_events(&mut self, events: &VcpuEvents) -> Result<(), KvmError> {
        let events = from_bytes(&events.to_bytes()).expect("the length is that of the structure");
        self.fd.set_vcpu_events(&events).map_err(|e| failed("KVM_SET_VCPU_EVENTS", &e))
    }

    fn debugregs(&mut self) -> DebugRegs {
        let regs = read("KVM_GET_DEBUGREGS", self.fd.get_debug_regs());
        DebugRegs { db: regs.db, dr6: regs.dr6, dr7: regs.dr7 }
    }

    fn set_debugregs(&mut self, regs: &DebugRegs) -> Result<(), KvmError> {
        let regs =
            kvm_debugregs { db: regs.db, dr6: regs.dr6, dr7: regs.dr7, ..Default::default() };
        self.fd.set_debug_regs(&regs).map_err(|e| failed("KVM_SET_DEBUGREGS", &e))
    }

    fn set_guest_debug(&mut self, debug: &GuestDebug) -> Result<(), KvmError> {
        let arch = kvm_guest_debug_arch { debugreg: debug.debugreg };
        let debug = kvm_guest_debug { control: debug.control, pad: 0, arch };
        self.fd.set_guest_debug(&debug).map_err(|e| failed("KVM_SET_GUEST_DEBUG", &e))
    }

    fn msr(&mut self, index: u32) -> Result<u64, KvmError> {
        if let Some(value) = msr::read(&self.fd, index) {
            return Ok(value);
        }
        let lists = self.host.msrs();
        if lists.describes(index) || lists.listed.contains(&index) {
            self.notes.push(format!("the kernel does not read MSR {index:#x}: it counts as 0"));
            return Ok(0);
        }
        Err(KvmError::invalid(format!("MSR {index:#x} does not exist")))
    }

    fn set_msr(&mut self, index: u32, value: u64) -> Result<(), KvmError> {
        if msr::write(&self.fd, index, value) {
            return Ok(());
        }
        let lists = self.host.msrs();
        if lists.describes(index) || value == 0 && lists.listed.contains(&index) {
            self.notes.push(format!(
                "the kernel refuses {value:#x} for MSR {index:#x}: it stays as it is"
            ));
            return Ok(());
        }
        Err(KvmError::invalid(format!("MSR {index:#x} does not take {value:#x}")))
    }

    fn set_cpuid(&mut self, entries: &[CpuidEntry]) -> Result<(), KvmError> {
        let list = cpuid::for_vcpu(entries, self.id)?;
        self.fd.set_cpuid2(&list).map_err(|e| failed("KVM_SET_CPUID2", &e))
    }

    fn cpuid(&mut self) -> Vec<CpuidEntry> {
        let list = read("KVM_GET_CPUID2", self.fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES));
        list.as_slice().iter().map(cpuid::from_kernel).collect()
    }

    fn mp_state(&mut self) -> MpState {
        let state = self.fd.get_mp_state().map(|s| s.mp_state).unwrap_or_default();
        MpState::from_u32(state).unwrap_or_default()
    }

    fn set_mp_state(&mut self, state: MpState) -> Result<(), KvmError> {
        let state = kvm_mp_state { mp_state: state as u32 };
        self.fd.set_mp_state(state).map_err(|e| failed("KVM_SET_MP_STATE", &e))
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), KvmError> {
        if self.has_irqchip {
            return Err(KvmError::new(
                Errno::ENXIO,
                "interrupts come from the irqchip that the VM has",
            ));
        }
        let mut irq = u32::from(vector);
        // SAFETY: struct kvm_interrupt is one u32.
        unsafe { ioctl_with(self.fd.as_raw_fd(), KVM_INTERRUPT, &mut irq) }
            .map(drop)
            .map_err(|e| refused("KVM_INTERRUPT", e))
    }

    fn nmi(&mut self) {
        self.inject_nmi();
    }

    fn tsc_khz(&mut self) -> u32 {
        self.fd.get_tsc_khz().unwrap_or(0)
    }

    fn set_tsc_khz(&mut self, khz: u32) -> Result<(), KvmError> {
        // Where the CPU cannot scale, its own frequency is still one that can be set.
        if self.tsc_khz() == khz {
            return Ok(());
        }
        self.fd.set_tsc_khz(khz).map_err(|e| failed("KVM_SET_TSC_KHZ", &e))
    }

    fn translate(&mut self, gva: u64) -> Option<u64> {
        let found = self.fd.translate_gva(gva).ok()?;
        (found.valid != 0).then_some(found.physical_address)
    }

    fn interrupt_window(&self) -> (bool, bool) {
        let [ready, if_flag] = self.page.get::<2>(run::READY_FOR_INTERRUPT_INJECTION);
        (ready != 0, if_flag != 0)
    }

    fn request_interrupt_window(&mut self, on: bool) {
        self.page.set(run::REQUEST_INTERRUPT_WINDOW, &[u8::from(on)]);
    }

    fn instructions(&self) -> u64 {
        0
    }

    fn stop_at_instruction(&mut self, count: Option<u64>) -> Result<(), KvmError> {
        if count.is_none() {
            return Ok(());
        }
        Err(KvmError::new(
            Errno::EOPNOTSUPP,
            "the host CPU does not count the guest's instructions: engine 'soft' does",
        ))
    }

    fn run_mapping(&self) -> Option<(RawFd, usize)> {
        Some((self.fd.as_raw_fd(), self.run_bytes))
    }

    fn kernel_lapic(&mut self) -> Result<[u8; 1024], KvmError> {
        let state = self.fd.get_lapic().map_err(|e| failed("KVM_GET_LAPIC", &e))?;
        let mut page = [0; 1024];
        page.copy_from_slice(bytes_of(&state));
        Ok(page)
    }

    fn set_kernel_lapic(&mut self, page: &[u8; 1024]) -> Result<(), KvmError> {
        let state = from_bytes(page).expect("the length is that of kvm_lapic_state");
        self.fd.set_lapic(&state).map_err(|e| failed("KVM_SET_LAPIC", &e))
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}
