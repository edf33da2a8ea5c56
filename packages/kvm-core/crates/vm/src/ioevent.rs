//! ioeventfds: guest writes that signal and do not exit.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use kvm_abi::control::IOEVENT_MAX;
use kvm_abi::{Errno, KvmError};
use kvm_cpu::kernel::{KernelIoEvent, KernelVm};

use crate::events::EventLoop;
use crate::host::Host;
use crate::routes::Space;
use crate::sys::EventFd;

/// One ioeventfd.
#[derive(Debug)]
pub struct IoEvent {
    space: Space,
    addr: u64,
    len: u8,
    datamatch: Option<u64>,
    id: u32,
    host: Arc<Host>,
    fd: OnceLock<EventFd>,
    /// Who watches the eventfd does what there is to do: the host is not told.
    apart: AtomicBool,
    /// Where the kernel matches the writes.
    kernel: Mutex<Option<InKernel>>,
}

/// An ioeventfd of the kernel, and who waits for it here.
struct InKernel {
    vm: Arc<dyn KernelVm>,
    events: Arc<EventLoop>,
    fd: Arc<EventFd>,
    key: u64,
}

impl fmt::Debug for InKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InKernel").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl IoEvent {
    /// Checks what `KVM_IOEVENTFD` checks.
    pub(crate) fn new(
        space: Space,
        addr: u64,
        len: u8,
        datamatch: Option<u64>,
        id: u32,
        host: Arc<Host>,
    ) -> Result<Self, KvmError> {
        if !matches!(len, 0 | 1 | 2 | 4 | 8) {
            return Err(KvmError::invalid(format!("length {len} is not 0, 1, 2, 4 or 8")));
        }
        if len == 0 && datamatch.is_some() {
            return Err(KvmError::invalid("a datamatch needs a length that is not 0"));
        }
        if addr.checked_add(u64::from(len)).is_none() {
            return Err(KvmError::invalid(format!("address {addr:#x} + {len} overflows")));
        }
        if id as usize >= IOEVENT_MAX {
            return Err(KvmError::new(
                Errno::ENOSPC,
                format!("ioeventfd {id} is not below {IOEVENT_MAX}"),
            ));
        }
        if let Some(value) = datamatch
            && len < 8
            && value >> (u32::from(len) * 8) != 0
        {
            return Err(KvmError::invalid(format!(
                "datamatch {value:#x} has more than {len} bytes"
            )));
        }
        Ok(Self {
            space,
            addr,
            len,
            datamatch,
            id,
            host,
            fd: OnceLock::new(),
            apart: AtomicBool::new(false),
            kernel: Mutex::default(),
        })
    }

    /// Its number in the bitmap of the host.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// An eventfd that is signalled besides the host's bitmap; opened at the first call.
    ///
    /// # Errors
    /// `ENOMEM` when the process has no descriptor left.
    pub fn fd(&self) -> Result<&EventFd, KvmError> {
        if self.fd.get().is_none() {
            let _ = self.fd.set(EventFd::new()?);
        }
        self.fd.get().ok_or_else(|| KvmError::new(Errno::EAGAIN, "the eventfd is not open yet"))
    }

    /// Signals the eventfd alone from now on, or, with `false`, the host as well.
    ///
    /// # Errors
    /// As [`fd`](Self::fd).
    pub fn set_apart(&self, apart: bool) -> Result<(), KvmError> {
        self.fd()?;
        self.apart.store(apart, Ordering::SeqCst);
        Ok(())
    }

    /// Has the kernel match the writes; the VM's event thread then signals. A wake-up of that
    /// thread is the price of a guest that does not exit.
    pub(crate) fn move_to_kernel(
        self: &Arc<Self>,
        vm: &Arc<dyn KernelVm>,
        events: &Arc<EventLoop>,
    ) -> Result<(), KvmError> {
        let fd = Arc::new(EventFd::new()?);
        let (source, this) = (fd.clone(), Arc::downgrade(self));
        let key = events.add(
            fd.raw(),
            Arc::new(move || {
                if source.take() != 0
                    && let Some(event) = this.upgrade()
                {
                    event.signal();
                }
            }),
        )?;
        if let Err(error) = vm.add_ioeventfd(fd.raw(), &self.for_kernel()) {
            events.remove(fd.raw(), key);
            return Err(error);
        }
        let kernel = InKernel { vm: vm.clone(), events: events.clone(), fd, key };
        *self.kernel.lock().unwrap_or_else(PoisonError::into_inner) = Some(kernel);
        Ok(())
    }

    /// Ends what `move_to_kernel` began; nothing if it did not, or again. Writes that the kernel
    /// has taken already are signalled.
    pub(crate) fn leave_kernel(&self) {
        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(InKernel { vm, events, fd, key }) = kernel {
            // ENOENT only means that the VM is gone.
            let _ = vm.remove_ioeventfd(fd.raw(), &self.for_kernel());
            events.remove(fd.raw(), key);
            if fd.take() != 0 {
                self.signal();
            }
        }
    }

    fn for_kernel(&self) -> KernelIoEvent {
        KernelIoEvent {
            pio: self.space == Space::Pio,
            addr: self.addr,
            len: self.len,
            datamatch: self.datamatch,
        }
    }

    fn matches(&self, data: &[u8]) -> bool {
        if self.len != 0 && usize::from(self.len) != data.len() {
            return false;
        }
        self.datamatch.is_none_or(|wanted| {
            wanted == data.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        })
    }

    /// As KVM has it: two on one address collide if a write could match both.
    fn collides(&self, other: &Self) -> bool {
        self.space == other.space
            && self.addr == other.addr
            && (self.len == 0
                || other.len == 0
                || self.len == other.len
                    && (self.datamatch.is_none()
                        || other.datamatch.is_none()
                        || self.datamatch == other.datamatch))
    }

    fn signal(&self) {
        if let Some(fd) = self.fd.get() {
            fd.signal();
        }
        if !self.apart.load(Ordering::SeqCst) {
            self.host.signal_ioevent(self.id);
        }
    }
}

/// All ioeventfds of a VM, sorted by address.
#[derive(Debug, Default)]
pub(crate) struct IoEvents {
    list: RwLock<Vec<Arc<IoEvent>>>,
}

impl IoEvents {
    /// Adds one.
    pub fn add(&self, event: IoEvent) -> Result<Arc<IoEvent>, KvmError> {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = list.iter().find(|other| event.collides(other)) {
            return Err(KvmError::new(
                Errno::EEXIST,
                format!("ioeventfd {} matches the same writes at {:#x}", other.id, other.addr),
            ));
        }
        let event = Arc::new(event);
        let at = list.partition_point(|other| other.addr <= event.addr);
        list.insert(at, event.clone());
        Ok(event)
    }

    /// Removes one; nothing if it is gone already.
    pub fn remove(&self, event: &Arc<IoEvent>) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.retain(|other| !Arc::ptr_eq(other, event));
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<IoEvent>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Removes all.
    pub fn clear(&self) {
        self.list.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// True if some write to `addr` would match.
    pub fn watches(&self, space: Space, addr: u64) -> bool {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let first = list.partition_point(|event| event.addr < addr);
        list[first..]
            .iter()
            .take_while(|event| event.addr == addr)
            .any(|event| event.space == space)
    }

    /// Signals what matches a write; false if nothing does.
    pub fn write(&self, space: Space, addr: u64, data: &[u8]) -> bool {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let first = list.partition_point(|event| event.addr < addr);
        let hit = list[first..]
            .iter()
            .take_while(|event| event.addr == addr)
            .find(|event| event.space == space && event.matches(data))
            .cloned();
        drop(list);
        hit.is_some_and(|event| {
            event.signal();
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use kvm_abi::control;

    use super::*;

    fn event(addr: u64, len: u8, datamatch: Option<u64>, id: u32) -> Result<IoEvent, KvmError> {
        let host = Host::new(0, Arc::default())?;
        IoEvent::new(Space::Mmio, addr, len, datamatch, id, host)
    }

    #[test]
    fn writes_match_by_length_and_data() {
        let events = IoEvents::default();
        let one = events.add(event(0x1000, 2, Some(1), 7).unwrap()).unwrap();
        events.add(event(0x1000, 2, Some(2), 40).unwrap()).unwrap();
        events.add(event(0x1004, 0, None, 9).unwrap()).unwrap();
        let write = |addr, data: &[u8]| events.write(Space::Mmio, addr, data);
        assert!(write(0x1000, &[1, 0]));
        assert!(write(0x1000, &[2, 0]));
        assert!(!write(0x1000, &[3, 0]));
        assert!(!write(0x1000, &[1, 0, 0, 0]));
        assert!(!events.write(Space::Pio, 0x1000, &[1, 0]));
        assert!(events.watches(Space::Mmio, 0x1000) && !events.watches(Space::Pio, 0x1000));
        assert!(!events.watches(Space::Mmio, 0x1002));
        assert!(write(0x1004, &[0; 8]) && write(0x1004, &[5]));
        assert!(!write(0x1005, &[5]));
        let bits = one.host.page().u32(control::IOEVENT_BITMAP).load(Ordering::Relaxed);
        assert_eq!(bits, 1 << 7);
        one.fd().unwrap();
        assert!(write(0x1000, &[1, 0]) && write(0x1000, &[1, 0]));
        assert_eq!(one.fd().unwrap().take(), 2);
        let bitmap = one.host.page().u32(control::IOEVENT_BITMAP);
        bitmap.store(0, Ordering::Relaxed);
        one.set_apart(true).unwrap();
        assert!(write(0x1000, &[1, 0]));
        assert_eq!((one.fd().unwrap().take(), bitmap.load(Ordering::Relaxed)), (1, 0));
        one.set_apart(false).unwrap();
        assert!(write(0x1000, &[1, 0]));
        assert_eq!(bitmap.load(Ordering::Relaxed), 1 << 7);
        events.remove(&one);
        assert!(!write(0x1000, &[1, 0]));
    }

    #[test]
    fn what_kvm_refuses_is_refused() {
        let events = IoEvents::default();
        events.add(event(0x1000, 4, Some(1), 0).unwrap()).unwrap();
        for (len, datamatch) in [(4, Some(1)), (4, None), (0, None)] {
            let error = events.add(event(0x1000, len, datamatch, 1).unwrap()).unwrap_err();
            assert_eq!(error.errno, Errno::EEXIST);
        }
        events.add(event(0x1000, 4, Some(2), 1).unwrap()).unwrap();
        events.add(event(0x1000, 2, None, 2).unwrap()).unwrap();
        assert!(event(0, 3, None, 0).is_err());
        assert!(event(0, 0, Some(1), 0).is_err());
        assert!(event(0, 1, Some(256), 0).is_err());
        assert!(event(u64::MAX, 8, None, 0).is_err());
        assert_eq!(event(0, 1, None, 4096).unwrap_err().errno, Errno::ENOSPC);
    }
}
