//! irqfds: interrupts that anyone can raise without an exit.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kvm_abi::{Errno, KvmError};
use kvm_irqchip::{IRQ_SOURCE_RESAMPLE, Irqchip, NotifierId};

use crate::events::EventLoop;
use crate::sys::EventFd;

/// Called after an acknowledgement.
pub type Resampled = Arc<dyn Fn() + Send + Sync>;

/// One irqfd. In this process `trigger` raises the interrupt directly; the eventfd is for others.
pub struct IrqFd {
    gsi: u32,
    irqchip: Arc<Irqchip>,
    events: Arc<EventLoop>,
    fd: OnceLock<(Arc<EventFd>, u64)>,
    resample: Option<Resample>,
    notifier: Mutex<Option<NotifierId>>,
}

struct Resample {
    fd: Arc<EventFd>,
}

impl fmt::Debug for IrqFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqFd").field("gsi", &self.gsi).finish_non_exhaustive()
    }
}

impl IrqFd {
    /// An irqfd for `gsi`. With `resample` the interrupt is a level that is held until the guest
    /// acknowledges it; then the resample eventfd is signalled and `notify` is called, from the
    /// thread that saw the acknowledgement.
    pub(crate) fn new(
        gsi: u32,
        irqchip: Arc<Irqchip>,
        events: Arc<EventLoop>,
        resample: bool,
        notify: Option<Resampled>,
    ) -> Result<Arc<Self>, KvmError> {
        let resample = match resample {
            true => Some(Resample { fd: Arc::new(EventFd::new()?) }),
            false if notify.is_some() => {
                return Err(KvmError::invalid("only a resampling irqfd is told about it"));
            }
            false => None,
        };
        let notifier = match &resample {
            None => {
                // The call checks the number: an edge on a line that stays low has no effect.
                irqchip.irq_line_from(IRQ_SOURCE_RESAMPLE, gsi, false)?;
                None
            }
            Some(resample) => {
                let (chip, fd) = (Arc::downgrade(&irqchip), resample.fd.clone());
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
        Ok(Arc::new(Self {
            gsi,
            irqchip,
            events,
            fd: OnceLock::new(),
            resample,
            notifier: Mutex::new(notifier),
        }))
    }

    /// The line.
    #[must_use]
    pub fn gsi(&self) -> u32 {
        self.gsi
    }

    /// Raises the interrupt.
    pub fn trigger(&self) {
        raise(&self.irqchip, self.gsi, self.resample.is_some());
    }

    /// The eventfd; a write to it raises the interrupt. Opened at the first call.
    ///
    /// # Errors
    /// `ENOMEM` when the process has no descriptor left, `EAGAIN` when it has no thread left.
    pub fn fd(&self) -> Result<RawFd, KvmError> {
        if let Some((fd, _)) = self.fd.get() {
            return Ok(fd.raw());
        }
        let fd = Arc::new(EventFd::new()?);
        let raw = fd.raw();
        let (source, chip) = (fd.clone(), Arc::downgrade(&self.irqchip));
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
        match self.fd.set((fd, key)) {
            Ok(()) => Ok(raw),
            Err((lost, key)) => {
                self.events.remove(lost.raw(), key);
                let won = self.fd.get().map(|(fd, _)| fd.raw());
                won.ok_or_else(|| KvmError::new(Errno::EAGAIN, "the eventfd is not open yet"))
            }
        }
    }

    /// The eventfd that is signalled at each acknowledgement.
    #[must_use]
    pub fn resample_fd(&self) -> Option<RawFd> {
        self.resample.as_ref().map(|r| r.fd.raw())
    }

    /// Ends it: the line is lowered and nobody is told any more.
    pub fn close(&self) {
        if let Some((fd, key)) = self.fd.get() {
            self.events.remove(fd.raw(), *key);
        }
        let notifier = self.notifier.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(id) = notifier {
            // ENOENT only means that the irqchip was faster.
            let _ = self.irqchip.remove_ack_notifier(id);
            let _ = self.irqchip.irq_line_from(IRQ_SOURCE_RESAMPLE, self.gsi, false);
        }
    }
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
