//! irqfds: interrupts that anyone can raise without an exit.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kvm_abi::{Errno, KvmError};
use kvm_cpu::kernel::KernelVm;
use kvm_irqchip::{IRQ_SOURCE_RESAMPLE, Irqchip, NotifierId};

use crate::chip::Chip;
use crate::events::EventLoop;
use crate::sys::EventFd;

/// Called after an acknowledgement.
pub type Resampled = Arc<dyn Fn() + Send + Sync>;

/// One irqfd. With the irqchip of this project `trigger` raises the interrupt directly, and the
/// eventfd is for others; with the kernel's both are a write to the eventfd.
pub struct IrqFd {
    gsi: u32,
    events: Arc<EventLoop>,
    resample: Option<Arc<EventFd>>,
    source: Source,
}

enum Source {
    Own {
        irqchip: Arc<Irqchip>,
        fd: OnceLock<(Arc<EventFd>, u64)>,
        notifier: Mutex<Option<NotifierId>>,
    },
    Kernel {
        vm: Arc<dyn KernelVm>,
        fd: EventFd,
        /// Taken when it ends.
        open: Mutex<bool>,
        /// Key of the resample eventfd in the event loop, where somebody is to be told.
        told: Option<u64>,
    },
}

impl fmt::Debug for IrqFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqFd").field("gsi", &self.gsi).finish_non_exhaustive()
    }
}

impl IrqFd {
    /// An irqfd for `gsi`. With `resample` the interrupt is a level that is held until the guest
    /// acknowledges it; then the resample eventfd is signalled and `notify` is called, from the
    /// thread that saw the acknowledgement. Where the kernel sees it, that is the event thread,
    /// which takes the count of the resample eventfd if there is a `notify`.
    pub(crate) fn new(
        gsi: u32,
        chip: &Chip,
        events: Arc<EventLoop>,
        resample: bool,
        notify: Option<Resampled>,
    ) -> Result<Arc<Self>, KvmError> {
        if !resample && notify.is_some() {
            return Err(KvmError::invalid("only a resampling irqfd is told about it"));
        }
        let resample = if resample { Some(Arc::new(EventFd::new()?)) } else { None };
        let source = match chip {
            Chip::Own(irqchip) => own(gsi, irqchip, resample.as_ref(), notify)?,
            Chip::Kernel(vm) => in_kernel(gsi, vm, &events, resample.as_ref(), notify)?,
        };
        Ok(Arc::new(Self { gsi, events, resample, source }))
    }

    /// The line.
    #[must_use]
    pub fn gsi(&self) -> u32 {
        self.gsi
    }

    /// Raises the interrupt.
    pub fn trigger(&self) {
        match &self.source {
            Source::Own { irqchip, .. } => raise(irqchip, self.gsi, self.resample.is_some()),
            Source::Kernel { fd, .. } => fd.signal(),
        }
    }

    /// The eventfd; a write to it raises the interrupt. Opened at the first call at the latest.
    ///
    /// # Errors
    /// `ENOMEM` when the process has no descriptor left, `EAGAIN` when it has no thread left.
    pub fn fd(&self) -> Result<RawFd, KvmError> {
        let (irqchip, slot) = match &self.source {
            Source::Own { irqchip, fd, .. } => (irqchip, fd),
            Source::Kernel { fd, .. } => return Ok(fd.raw()),
        };
        if let Some((fd, _)) = slot.get() {
            return Ok(fd.raw());
        }
        let fd = Arc::new(EventFd::new()?);
        let raw = fd.raw();
        let (source, chip) = (fd.clone(), Arc::downgrade(irqchip));
        let (gsi, level) = (self.gsi, self.resample.is_some());
        let key = self.events.add(
            raw,
            Arc::new(move || {
                if source.take() != 0
                    && let Some(chip) = chip.upgrade()
                {
                    raise(&chip, gsi, level);
                }
            }),
        )?;
        match slot.set((fd, key)) {
            Ok(()) => Ok(raw),
            Err((lost, key)) => {
                self.events.remove(lost.raw(), key);
                let won = slot.get().map(|(fd, _)| fd.raw());
                won.ok_or_else(|| KvmError::new(Errno::EAGAIN, "the eventfd is not open yet"))
            }
        }
    }

    /// The eventfd that is signalled at each acknowledgement.
    #[must_use]
    pub fn resample_fd(&self) -> Option<RawFd> {
        self.resample.as_ref().map(|fd| fd.raw())
    }

    /// Ends it: the line is lowered and nobody is told any more.
    pub fn close(&self) {
        match &self.source {
            Source::Own { irqchip, fd, notifier } => {
                if let Some((fd, key)) = fd.get() {
                    self.events.remove(fd.raw(), *key);
                }
                let notifier = notifier.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(id) = notifier {
                    // ENOENT only means that the irqchip was faster.
                    let _ = irqchip.remove_ack_notifier(id);
                    let _ = irqchip.irq_line_from(IRQ_SOURCE_RESAMPLE, self.gsi, false);
                }
            }
            Source::Kernel { vm, fd, open, told } => {
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                if std::mem::replace(&mut *open, false) {
                    // The kernel lowers the line with the last irqfd of it.
                    let _ = vm.remove_irqfd(fd.raw(), self.gsi);
                    if let (Some(resample), Some(key)) = (&self.resample, told) {
                        self.events.remove(resample.raw(), *key);
                    }
                }
            }
        }
    }
}

fn own(
    gsi: u32,
    irqchip: &Arc<Irqchip>,
    resample: Option<&Arc<EventFd>>,
    notify: Option<Resampled>,
) -> Result<Source, KvmError> {
    let notifier = match resample {
        None => {
            // The call checks the number: an edge on a line that stays low has no effect.
            irqchip.irq_line_from(IRQ_SOURCE_RESAMPLE, gsi, false)?;
            None
        }
        Some(resample) => {
            let (chip, fd) = (Arc::downgrade(irqchip), resample.clone());
            Some(irqchip.add_ack_notifier(
                gsi,
                Arc::new(move || {
                    if let Some(chip) = chip.upgrade() {
                        let _ = chip.irq_line_from(IRQ_SOURCE_RESAMPLE, gsi, false);
                    }
                    fd.signal();
                    if let Some(notify) = &notify {
                        notify();
                    }
                }),
            )?)
        }
    };
    Ok(Source::Own {
        irqchip: irqchip.clone(),
        fd: OnceLock::new(),
        notifier: Mutex::new(notifier),
    })
}

fn in_kernel(
    gsi: u32,
    vm: &Arc<dyn KernelVm>,
    events: &EventLoop,
    resample: Option<&Arc<EventFd>>,
    notify: Option<Resampled>,
) -> Result<Source, KvmError> {
    let fd = EventFd::new()?;
    let told = match (resample, notify) {
        (Some(resample), Some(notify)) => {
            let source = resample.clone();
            let handler = move || {
                if source.take() != 0 {
                    notify();
                }
            };
            Some(events.add(resample.raw(), Arc::new(handler))?)
        }
        _ => None,
    };
    if let Err(error) = vm.add_irqfd(fd.raw(), gsi, resample.map(|fd| fd.raw())) {
        if let (Some(resample), Some(key)) = (resample, told) {
            events.remove(resample.raw(), key);
        }
        return Err(error);
    }
    Ok(Source::Kernel { vm: vm.clone(), fd, open: Mutex::new(true), told })
}

impl Drop for IrqFd {
    fn drop(&mut self) {
        self.close();
    }
}

fn raise(chip: &Irqchip, gsi: u32, level: bool) {
    // The GSI was checked when the irqfd was made.
    let _ =
        if level { chip.irq_line_from(IRQ_SOURCE_RESAMPLE, gsi, true) } else { chip.pulse(gsi) };
}
