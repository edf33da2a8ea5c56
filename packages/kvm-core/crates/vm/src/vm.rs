//! A VM: what its vCPUs share, and the order in which it comes and goes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use kvm_abi::clock::ClockData;
use kvm_abi::control::MAX_VCPUS;
use kvm_abi::{Errno, KvmError};
use kvm_cpu::engine::{VmContext, VmEngine, request};
use kvm_cpu::kernel::KernelVm;
use kvm_irqchip::{Irqchip, Route as IrqRoute};
use kvm_memory::{GuestMemory, MemoryListener};

use crate::bus::Bus;
use crate::chip::Chip;
use crate::clock::HostClock;
use crate::events::EventLoop;
use crate::host::Host;
use crate::hosts::Hosts;
use crate::ioevent::IoEvent;
use crate::irqfd::{IrqFd, Resampled};
use crate::kick::Kicker;
use crate::page::SharedPage;
use crate::routes::{Route, RouteKind, Space};
use crate::thread::Done;
use crate::vcpu::{Vcpu, VcpuParts};

/// VMs of this process by number, for isolates that attach to one.
static REGISTRY: Mutex<BTreeMap<u32, Weak<Vm>>> = Mutex::new(BTreeMap::new());
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// How long a synchronous close waits for the vCPU threads.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// One VM. Shared by threads and isolates.
pub struct Vm {
    id: u32,
    engine: Arc<dyn VmEngine>,
    /// What of the VM is in the kernel, for an engine that runs there.
    kernel: Option<Arc<dyn KernelVm>>,
    chip: OnceLock<Chip>,
    memory: Arc<GuestMemory>,
    clock: Arc<HostClock>,
    bus: Arc<Bus>,
    hosts: Arc<Hosts>,
    events: Arc<EventLoop>,
    vcpus: RwLock<BTreeMap<u32, Arc<Vcpu>>>,
    closed: AtomicBool,
    on_close: Mutex<Vec<Done>>,
    words: Arc<Words>,
}

/// Words that isolates look at instead of calling.
#[derive(Debug)]
struct Words {
    page: Arc<SharedPage>,
    memory: Weak<GuestMemory>,
}

impl MemoryListener for Words {
    fn slots_changed(&self) {
        if let Some(memory) = self.memory.upgrade() {
            // Isolates compare for equality only, so the low half is enough.
            self.page.u32(0).store(memory.generation() as u32, Ordering::SeqCst);
        }
    }

    fn code_written(&self, _gpa: u64, _len: u64) {}

    fn dirty_log_harvested(&self) {}
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Vm {
    /// `KVM_CREATE_VM`.
    ///
    /// # Errors
    /// `ENOMEM`, and what the kernel says for an engine that runs there.
    pub fn new(engine: Arc<dyn VmEngine>) -> Result<Arc<Self>, KvmError> {
        let memory = GuestMemory::new();
        let kernel = engine.create_kernel_vm()?;
        if let Some(kernel) = &kernel {
            memory.set_keeper(Some(kernel.slots()));
        }
        let words =
            Arc::new(Words { page: SharedPage::new(4096)?, memory: Arc::downgrade(&memory) });
        let listener: Weak<dyn MemoryListener> = Arc::downgrade(&words) as _;
        memory.add_listener(listener);
        let vm = Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            engine,
            kernel,
            chip: OnceLock::new(),
            memory,
            clock: Arc::default(),
            bus: Arc::default(),
            hosts: Arc::default(),
            events: Arc::default(),
            vcpus: RwLock::default(),
            closed: AtomicBool::new(false),
            on_close: Mutex::default(),
            words,
        });
        let mut all = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(vm.id, Arc::downgrade(&vm));
        drop(all);
        Ok(vm)
    }

    /// The VM with number `id`.
    ///
    /// # Errors
    /// `ENOENT` if there is none, or not any more.
    pub fn by_id(id: u32) -> Result<Arc<Self>, KvmError> {
        let all = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        let vm = all.get(&id).and_then(Weak::upgrade).filter(|vm| !vm.is_closed());
        vm.ok_or_else(|| KvmError::new(Errno::ENOENT, format!("there is no VM {id}")))
    }

    /// Its number in this process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Guest physical memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// A page whose first word changes with every memslot table.
    #[must_use]
    pub fn words(&self) -> &Arc<SharedPage> {
        &self.words.page
    }

    /// Calls `f` when the VM begins to close, from the thread that closes it; at once if it has.
    pub fn on_close(&self, f: Done) {
        let mut all = self.on_close.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            drop(all);
            f();
        } else {
            all.push(f);
        }
    }

    /// The VM's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<HostClock> {
        &self.clock
    }

    /// `KVM_GET_CLOCK`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clock_data(&self) -> Result<ClockData, KvmError> {
        self.kernel.as_ref().map_or_else(|| Ok(self.clock.get()), |kernel| kernel.clock())
    }

    /// `KVM_SET_CLOCK`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_clock_data(&self, data: &ClockData) -> Result<(), KvmError> {
        match &self.kernel {
            Some(kernel) => kernel.set_clock(data)?,
            None => {
                self.clock.set(data);
                // Whoever runs has its alarm by the old time.
                let vcpus = self.vcpus.read().unwrap_or_else(PoisonError::into_inner);
                vcpus.values().for_each(|vcpu| vcpu.kicker.raise(request::INTERRUPT));
            }
        }
        Ok(())
    }

    /// True once `begin_close` was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Refuses what a closed VM cannot do.
    ///
    /// # Errors
    /// `EBADF` after `begin_close`.
    pub fn check_open(&self) -> Result<(), KvmError> {
        if self.is_closed() {
            return Err(KvmError::new(Errno::EBADF, format!("VM {} was closed", self.id)));
        }
        Ok(())
    }

    /// `KVM_CREATE_IRQCHIP`.
    ///
    /// # Errors
    /// `EEXIST` if there is one, `EINVAL` after the first vCPU.
    pub fn create_irqchip(&self) -> Result<(), KvmError> {
        self.check_open()?;
        let vcpus = self.vcpus.write().unwrap_or_else(PoisonError::into_inner);
        if !vcpus.is_empty() {
            return Err(KvmError::invalid("the irqchip must exist before the first vCPU"));
        }
        if self.chip.get().is_some() {
            return Err(KvmError::new(Errno::EEXIST, "the VM has an irqchip already"));
        }
        let chip = match &self.kernel {
            Some(kernel) => {
                kernel.create_irqchip()?;
                Chip::Kernel(kernel.clone())
            }
            None => {
                let chip = Irqchip::new(self.clock.clone());
                // Both are set under the lock of the vCPUs, so neither can be there already.
                let _ = self.bus.irqchip.set(chip.clone());
                Chip::Own(chip)
            }
        };
        let _ = self.chip.set(chip);
        Ok(())
    }

    /// The irqchip.
    ///
    /// # Errors
    /// `ENXIO` if there is none.
    pub fn irqchip(&self) -> Result<&Chip, KvmError> {
        self.check_open()?;
        let chip = self.chip.get();
        chip.ok_or_else(|| KvmError::new(Errno::ENXIO, "the VM has no irqchip"))
    }

    /// `KVM_SET_GSI_ROUTING`.
    ///
    /// # Errors
    /// `ENXIO` without an irqchip, else as the irqchip says.
    pub fn set_gsi_routing(&self, routes: &[IrqRoute]) -> Result<(), KvmError> {
        self.irqchip()?.set_gsi_routing(routes)
    }

    /// `KVM_CREATE_VCPU`.
    ///
    /// # Errors
    /// `EEXIST` for a number in use, `EINVAL` for one that is not below 256.
    pub fn create_vcpu(&self, id: u32) -> Result<Arc<Vcpu>, KvmError> {
        self.check_open()?;
        if id as usize >= MAX_VCPUS {
            return Err(KvmError::invalid(format!("vCPU {id} is not below {MAX_VCPUS}")));
        }
        let mut vcpus = self.vcpus.write().unwrap_or_else(PoisonError::into_inner);
        if vcpus.contains_key(&id) {
            return Err(KvmError::new(Errno::EEXIST, format!("vCPU {id} exists already")));
        }
        let kicker = Arc::new(Kicker::default());
        let chip = self.chip.get().cloned();
        let irqchip = chip.as_ref().and_then(Chip::own).cloned();
        if let Some(chip) = &irqchip {
            chip.add_vcpu(id, kicker.clone())?;
        }
        let context = VmContext {
            memory: self.memory.clone(),
            bus: self.bus.clone(),
            irqchip: irqchip.clone(),
            clock: self.clock.clone(),
        };
        let engine = self.engine.create_vcpu(id, context, kicker.requests().clone())?;
        let parts = VcpuParts {
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            hosts: self.hosts.clone(),
            events: self.events.clone(),
            chip,
        };
        let vcpu = Vcpu::new(id, engine, kicker, parts)?;
        vcpus.insert(id, vcpu.clone());
        Ok(vcpu)
    }

    /// The vCPU with number `id`.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn vcpu(&self, id: u32) -> Result<Arc<Vcpu>, KvmError> {
        self.check_open()?;
        let vcpus = self.vcpus.read().unwrap_or_else(PoisonError::into_inner);
        vcpus
            .get(&id)
            .cloned()
            .ok_or_else(|| KvmError::new(Errno::ENOENT, format!("there is no vCPU {id}")))
    }

    /// All vCPUs by number.
    #[must_use]
    pub fn vcpus(&self) -> Vec<Arc<Vcpu>> {
        self.vcpus.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many vCPUs there are.
    #[must_use]
    pub fn vcpu_count(&self) -> usize {
        self.vcpus.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The device host with number `id`.
    ///
    /// # Errors
    /// `EINVAL` for a number that is not below 64, `ENOMEM`.
    pub fn host(&self, id: u32) -> Result<Arc<Host>, KvmError> {
        self.check_open()?;
        self.hosts.get(id)
    }

    /// Says who handles a range.
    ///
    /// # Errors
    /// `EEXIST` if another route has a part of it, `EINVAL` for a bad range or `size`: that of the only
    /// writes that are posted.
    pub fn route(
        &self,
        space: Space,
        base: u64,
        len: u64,
        kind: RouteKind,
        size: Option<u64>,
        host: u32,
    ) -> Result<Arc<Route>, KvmError> {
        let host = self.host(host)?;
        self.bus.routes.add(Route::new(space, base, len, kind, size, host)?)
    }

    /// Ends a route.
    pub fn remove_route(&self, route: &Arc<Route>) {
        self.bus.routes.remove(route);
    }

    /// `KVM_IOEVENTFD`: `id` is the bit in the bitmap of device host `host`.
    ///
    /// # Errors
    /// `EEXIST` if a write could match another one, `EINVAL` and `ENOSPC` for bad values.
    pub fn ioeventfd(
        &self,
        space: Space,
        addr: u64,
        len: u8,
        datamatch: Option<u64>,
        id: u32,
        host: u32,
    ) -> Result<Arc<IoEvent>, KvmError> {
        let host = self.host(host)?;
        let event = self.bus.ioevents.add(IoEvent::new(space, addr, len, datamatch, id, host)?)?;
        if let Some(kernel) = &self.kernel
            && let Err(error) = event.move_to_kernel(kernel, &self.events)
        {
            self.bus.ioevents.remove(&event);
            return Err(error);
        }
        Ok(event)
    }

    /// Ends an ioeventfd.
    pub fn remove_ioeventfd(&self, event: &Arc<IoEvent>) {
        event.leave_kernel();
        self.bus.ioevents.remove(event);
    }

    /// `KVM_IRQFD`; with `resample` also `KVM_IRQFD_FLAG_RESAMPLE`.
    ///
    /// # Errors
    /// `ENXIO` without an irqchip, `EINVAL` for a GSI that does not exist.
    pub fn irqfd(
        &self,
        gsi: u32,
        resample: bool,
        notify: Option<Resampled>,
    ) -> Result<Arc<IrqFd>, KvmError> {
        IrqFd::new(gsi, self.irqchip()?, self.events.clone(), resample, notify)
    }

    /// Tells vCPUs, isolates and later callers that the VM is going. Returns at once; `done` is
    /// called when no thread runs any more, and then `finish_close` does not wait.
    pub fn begin_close(&self, done: Done) {
        let first = !self.closed.swap(true, Ordering::SeqCst);
        let vcpus = self.vcpus();
        if first {
            for host in self.hosts.all() {
                host.close();
            }
            let told =
                std::mem::take(&mut *self.on_close.lock().unwrap_or_else(PoisonError::into_inner));
            told.into_iter().for_each(|f| f());
        }
        let last = Arc::new(Last(Mutex::new(Some(done))));
        for vcpu in &vcpus {
            vcpu.kick();
            let last = last.clone();
            vcpu.stop(Box::new(move || drop(last)));
        }
    }

    /// Frees what the VM holds. Threads must have ended, see `begin_close`.
    pub fn finish_close(&self) {
        let vcpus =
            std::mem::take(&mut *self.vcpus.write().unwrap_or_else(PoisonError::into_inner));
        for vcpu in vcpus.values() {
            vcpu.join();
            vcpu.mark_closed();
            vcpu.drop_engine();
        }
        for event in self.bus.ioevents.all() {
            event.leave_kernel();
        }
        self.events.stop();
        self.bus.ioevents.clear();
        self.bus.routes.clear();
        self.hosts.clear();
        for slot in self.memory.table().all() {
            // Deleting a slot that is in the table cannot fail.
            let _ = self.memory.set_user_memory_region(slot.slot, 0, 0, 0, None, 0);
        }
        self.memory.set_keeper(None);
        if let Some(kernel) = &self.kernel {
            kernel.close();
        }
        REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }

    /// Closes and waits, at most `limit`. False if a vCPU did not leave the guest in time: its
    /// memory must then not be unmapped.
    pub fn close_blocking(&self, limit: Duration) -> bool {
        self.begin_close(Box::new(|| ()));
        let start = Instant::now();
        while self.vcpus().iter().any(|vcpu| vcpu.alive()) {
            if start.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
            for vcpu in self.vcpus() {
                vcpu.kick();
            }
        }
        self.finish_close();
        true
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // vCPU threads hold no reference to the VM: they are told to end, and keep what they use.
        self.begin_close(Box::new(|| ()));
        self.finish_close();
    }
}

/// Calls its function when the last clone is dropped.
struct Last(Mutex<Option<Done>>);

impl Drop for Last {
    fn drop(&mut self) {
        let done = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            done();
        }
    }
}
