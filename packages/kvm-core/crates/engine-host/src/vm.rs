//! The kernel's side of a VM: memslots, interrupt controllers, timer and clock.

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use ::kvm_irqchip::{IRQCHIP_STATE_BYTES, KVM_MAX_IRQ_ROUTES, PitState, Route, RouteTarget};
use kvm_abi::clock::ClockData;
use kvm_abi::{Errno, KvmError};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQFD_FLAG_DEASSIGN, KVM_IRQFD_FLAG_RESAMPLE,
    KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting, kvm_clock_data, kvm_ioeventfd, kvm_irq_routing_entry,
    kvm_irqchip as ChipState, kvm_irqfd, kvm_msi, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_cpu::kernel::{KernelIoEvent, KernelVm};
use kvm_ioctls::{Kvm, VmFd};
use kvm_memory::{ADDRESS_SPACE_SHIFT, Memslot, SlotKeeper};

use crate::error::{failed, refused};
use crate::plain::{bytes_of, from_bytes};
use crate::sys::{KVM_IOEVENTFD, KVM_IRQFD, KVM_REINJECT_CONTROL, ioctl_with};

/// Three pages that Intel CPUs without unrestricted guest mode need for real mode, and one for the
/// identity map: below the flash of a PC, where no machine has RAM.
const TSS_ADDRESS: usize = 0xfeff_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfeff_c000;
const CHIPS: u32 = 3;
const IOEVENTFD_DATAMATCH: u32 = 1;
const IOEVENTFD_PIO: u32 = 2;
const IOEVENTFD_DEASSIGN: u32 = 4;

/// State after creation, which a reset goes back to.
#[derive(Default)]
struct Initial {
    chips: Vec<[u8; IRQCHIP_STATE_BYTES]>,
    pit: Option<PitState>,
}

/// One VM of the kernel.
pub struct HostVm {
    this: Weak<Self>,
    /// None once it was closed: a descriptor does not wait for the last holder of this value.
    fd: RwLock<Option<Arc<VmFd>>>,
    irqchip: AtomicBool,
    initial: Mutex<Initial>,
}

impl fmt::Debug for HostVm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostVm").field("irqchip", &self.irqchip).finish_non_exhaustive()
    }
}

impl HostVm {
    /// `KVM_CREATE_VM`.
    pub(crate) fn create(kvm: &Kvm) -> Result<Arc<Self>, KvmError> {
        let fd = kvm.create_vm().map_err(|e| failed("KVM_CREATE_VM", &e))?;
        fd.set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .map_err(|e| failed("KVM_SET_IDENTITY_MAP_ADDR", &e))?;
        fd.set_tss_address(TSS_ADDRESS).map_err(|e| failed("KVM_SET_TSS_ADDR", &e))?;
        Ok(Arc::new_cyclic(|this| Self {
            this: this.clone(),
            fd: RwLock::new(Some(Arc::new(fd))),
            irqchip: AtomicBool::new(false),
            initial: Mutex::default(),
        }))
    }

    /// The open VM.
    pub(crate) fn fd(&self) -> Result<Arc<VmFd>, KvmError> {
        let fd = self.fd.read().unwrap_or_else(PoisonError::into_inner).clone();
        fd.ok_or_else(|| KvmError::new(Errno::EBADF, "the VM was closed"))
    }

    fn initial(&self) -> std::sync::MutexGuard<'_, Initial> {
        self.initial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn irqfd(&self, mut irqfd: kvm_irqfd) -> Result<(), KvmError> {
        // SAFETY: the request is made for this structure.
        unsafe { ioctl_with(self.fd()?.as_raw_fd(), KVM_IRQFD, &mut irqfd) }
            .map(drop)
            .map_err(|e| refused("KVM_IRQFD", e))
    }

    fn ioeventfd(&self, fd: RawFd, event: &KernelIoEvent, flags: u32) -> Result<(), KvmError> {
        let mut argument = kvm_ioeventfd {
            datamatch: event.datamatch.unwrap_or(0),
            addr: event.addr,
            len: u32::from(event.len),
            fd,
            flags: flags
                | if event.pio { IOEVENTFD_PIO } else { 0 }
                | if event.datamatch.is_some() { IOEVENTFD_DATAMATCH } else { 0 },
            ..kvm_ioeventfd::default()
        };
        // SAFETY: the request is made for this structure.
        unsafe { ioctl_with(self.fd()?.as_raw_fd(), KVM_IOEVENTFD, &mut argument) }
            .map(drop)
            .map_err(|e| refused("KVM_IOEVENTFD", e))
    }
}

fn check_gsi(gsi: u32) -> Result<(), KvmError> {
    if gsi < KVM_MAX_IRQ_ROUTES {
        return Ok(());
    }
    Err(KvmError::invalid(format!("GSI {gsi} is not below {KVM_MAX_IRQ_ROUTES}")))
}

fn entry_of(route: &Route) -> Result<kvm_irq_routing_entry, KvmError> {
    check_gsi(route.gsi)?;
    let mut entry = kvm_irq_routing_entry { gsi: route.gsi, ..kvm_irq_routing_entry::default() };
    match route.target {
        RouteTarget::Irqchip { chip, pin } => {
            entry.type_ = KVM_IRQ_ROUTING_IRQCHIP;
            entry.u.irqchip.irqchip = chip;
            entry.u.irqchip.pin = pin;
        }
        RouteTarget::Msi { addr, data } => {
            entry.type_ = KVM_IRQ_ROUTING_MSI;
            entry.u.msi.address_lo = addr as u32;
            entry.u.msi.address_hi = (addr >> 32) as u32;
            entry.u.msi.data = data;
        }
    }
    Ok(entry)
}

impl SlotKeeper for HostVm {
    fn set_slot(&self, number: u32, slot: Option<&Memslot>) -> Result<(), KvmError> {
        // Memory of the kernel's second address space does not lie over that of the first.
        if number >> ADDRESS_SPACE_SHIFT != 0 {
            return Err(KvmError::invalid(format!(
                "slot {number:#x} is for system management mode, which this engine does not have: \
                 use the soft engine"
            )));
        }
        let region = slot.map_or_else(
            || kvm_userspace_memory_region { slot: number, ..Default::default() },
            |slot| kvm_userspace_memory_region {
                slot: number,
                flags: slot.flags,
                guest_phys_addr: slot.gpa,
                memory_size: slot.size,
                userspace_addr: slot.host_ptr(slot.gpa) as u64,
            },
        );
        // SAFETY: the keeper's contract keeps the memory of a slot mapped until the slot has gone
        // from the kernel, and `Memslot` lies inside its RAM.
        unsafe { self.fd()?.set_user_memory_region(region) }
            .map_err(|e| failed(&format!("memory slot {number}"), &e))
    }

    fn take_dirty(&self, slot: &Memslot) -> Result<Vec<u64>, KvmError> {
        let bytes = usize::try_from(slot.size).unwrap_or(usize::MAX);
        self.fd()?.get_dirty_log(slot.slot, bytes).map_err(|e| failed("KVM_GET_DIRTY_LOG", &e))
    }
}

impl KernelVm for HostVm {
    fn slots(&self) -> Arc<dyn SlotKeeper> {
        self.this.upgrade().expect("the caller holds it")
    }

    fn create_irqchip(&self) -> Result<(), KvmError> {
        self.fd()?.create_irq_chip().map_err(|e| failed("KVM_CREATE_IRQCHIP", &e))?;
        self.irqchip.store(true, Ordering::SeqCst);
        let chips = (0..CHIPS).map(|chip| self.irqchip_state(chip)).collect::<Result<_, _>>()?;
        self.initial().chips = chips;
        Ok(())
    }

    fn has_irqchip(&self) -> bool {
        self.irqchip.load(Ordering::SeqCst)
    }

    fn create_pit2(&self, flags: u32) -> Result<(), KvmError> {
        if flags & !KVM_PIT_SPEAKER_DUMMY != 0 {
            return Err(KvmError::invalid(format!("unknown PIT flags {flags:#x}")));
        }
        let config = kvm_pit_config { flags, ..kvm_pit_config::default() };
        self.fd()?.create_pit2(config).map_err(|e| failed("KVM_CREATE_PIT2", &e))?;
        let state = self.pit_state()?;
        self.initial().pit = Some(state);
        Ok(())
    }

    fn set_pit_reinject(&self, on: bool) -> Result<(), KvmError> {
        let mut control = [0u8; 32];
        control[0] = on.into();
        // SAFETY: the request reads 32 bytes.
        unsafe { ioctl_with(self.fd()?.as_raw_fd(), KVM_REINJECT_CONTROL, &mut control) }
            .map(drop)
            .map_err(|e| refused("KVM_REINJECT_CONTROL", e))
    }

    fn set_gsi_routing(&self, routes: &[Route]) -> Result<(), KvmError> {
        let entries = routes.iter().map(entry_of).collect::<Result<Vec<_>, _>>()?;
        let table = KvmIrqRouting::from_entries(&entries).map_err(|_| {
            KvmError::new(
                Errno::E2BIG,
                format!("{} routes are more than {KVM_MAX_IRQ_ROUTES}", entries.len()),
            )
        })?;
        self.fd()?.set_gsi_routing(&table).map_err(|e| failed("KVM_SET_GSI_ROUTING", &e))
    }

    fn irq_line(&self, gsi: u32, level: bool) -> Result<(), KvmError> {
        check_gsi(gsi)?;
        self.fd()?.set_irq_line(gsi, level).map_err(|e| failed("KVM_IRQ_LINE", &e))
    }

    fn signal_msi(&self, addr: u64, data: u32) -> Result<u32, KvmError> {
        let msi = kvm_msi {
            address_lo: addr as u32,
            address_hi: (addr >> 32) as u32,
            data,
            ..kvm_msi::default()
        };
        let taken = self.fd()?.signal_msi(msi).map_err(|e| failed("KVM_SIGNAL_MSI", &e))?;
        Ok(u32::try_from(taken).unwrap_or(0))
    }

    fn irqchip_state(&self, chip: u32) -> Result<[u8; IRQCHIP_STATE_BYTES], KvmError> {
        let mut state = ChipState { chip_id: chip, ..ChipState::default() };
        self.fd()?.get_irqchip(&mut state).map_err(|e| failed("KVM_GET_IRQCHIP", &e))?;
        // SAFETY: all members of the union are integers, and `dummy` covers all of it.
        let bytes = unsafe { state.chip.dummy };
        Ok(bytes.map(i8::cast_unsigned))
    }

    fn set_irqchip_state(
        &self,
        chip: u32,
        state: &[u8; IRQCHIP_STATE_BYTES],
    ) -> Result<(), KvmError> {
        let mut argument = ChipState { chip_id: chip, ..ChipState::default() };
        argument.chip.dummy = state.map(u8::cast_signed);
        self.fd()?.set_irqchip(&argument).map_err(|e| failed("KVM_SET_IRQCHIP", &e))
    }

    fn pit_state(&self) -> Result<PitState, KvmError> {
        let state = self.fd()?.get_pit2().map_err(|e| failed("KVM_GET_PIT2", &e))?;
        PitState::from_bytes(bytes_of(&state))
    }

    fn set_pit_state(&self, state: &PitState) -> Result<(), KvmError> {
        let bytes = state.to_bytes();
        let state = from_bytes(&bytes)
            .ok_or_else(|| KvmError::invalid(format!("{} bytes of PIT state", bytes.len())))?;
        self.fd()?.set_pit2(&state).map_err(|e| failed("KVM_SET_PIT2", &e))
    }

    fn reset_irqchip(&self) -> Result<(), KvmError> {
        let initial = self.initial();
        for (chip, state) in (0..).zip(&initial.chips) {
            self.set_irqchip_state(chip, state)?;
        }
        initial.pit.as_ref().map_or(Ok(()), |pit| self.set_pit_state(pit))
    }

    fn clock(&self) -> Result<ClockData, KvmError> {
        let data = self.fd()?.get_clock().map_err(|e| failed("KVM_GET_CLOCK", &e))?;
        Ok(ClockData {
            clock: data.clock,
            flags: data.flags,
            realtime: data.realtime,
            host_tsc: data.host_tsc,
        })
    }

    fn set_clock(&self, data: &ClockData) -> Result<(), KvmError> {
        let argument = kvm_clock_data {
            clock: data.clock,
            // Of the flags only this one means something to the kernel here.
            flags: data.flags & kvm_abi::clock::CLOCK_REALTIME,
            realtime: data.realtime,
            host_tsc: data.host_tsc,
            ..kvm_clock_data::default()
        };
        self.fd()?.set_clock(&argument).map_err(|e| failed("KVM_SET_CLOCK", &e))
    }

    fn close(&self) {
        *self.fd.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn add_irqfd(&self, fd: RawFd, gsi: u32, resample: Option<RawFd>) -> Result<(), KvmError> {
        check_gsi(gsi)?;
        self.irqfd(kvm_irqfd {
            fd: fd.cast_unsigned(),
            gsi,
            flags: if resample.is_some() { KVM_IRQFD_FLAG_RESAMPLE } else { 0 },
            resamplefd: resample.unwrap_or(0).cast_unsigned(),
            ..kvm_irqfd::default()
        })
    }

    fn remove_irqfd(&self, fd: RawFd, gsi: u32) -> Result<(), KvmError> {
        self.irqfd(kvm_irqfd {
            fd: fd.cast_unsigned(),
            gsi,
            flags: KVM_IRQFD_FLAG_DEASSIGN,
            ..kvm_irqfd::default()
        })
    }

    fn add_ioeventfd(&self, fd: RawFd, event: &KernelIoEvent) -> Result<(), KvmError> {
        self.ioeventfd(fd, event, 0)
    }

    fn remove_ioeventfd(&self, fd: RawFd, event: &KernelIoEvent) -> Result<(), KvmError> {
        self.ioeventfd(fd, event, IOEVENTFD_DEASSIGN)
    }
}
