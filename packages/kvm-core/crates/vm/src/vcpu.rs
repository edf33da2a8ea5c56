//! A vCPU: its page, its state while parked, and entries on the calling thread.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use kvm_abi::exit::{Exit, RUN_BYTES, reason, run};
use kvm_abi::{Clock, Errno, KvmError};
use kvm_cpu::code_counters::CodeCounters;
use kvm_cpu::engine::{Alarm, VcpuEngine, VcpuRequests, request};
use kvm_irqchip::Irqchip;

use crate::bus::Bus;
use crate::chip::Chip;
use crate::clock::HostClock;
use crate::core::{Core, INTERNAL_ERROR_PANIC, access_of};
use crate::events::EventLoop;
use crate::host::{Host, IsolateId, spin_until};
use crate::hosts::Hosts;
use crate::kick::Kicker;
use crate::page::SharedPage;
use crate::phase::Phase;
use crate::sampler::Sampler;
use crate::spin::SpinWindow;
use crate::thread::ThreadState;
use crate::timer::Timer;

/// Counters of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuStats {
    /// Entries into the guest.
    pub entries: u64,
    /// Exits handed out.
    pub exits: u64,
    /// Accesses handled without an exit.
    pub kernel_exits: u64,
    /// Times that the guest halted.
    pub halts: u64,
    /// Answers that came while the thread was spinning.
    pub spin_hits: u64,
    /// Answers for which the thread slept.
    pub spin_misses: u64,
}

/// Counters as the vCPU's own thread keeps them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub entries: AtomicU64,
    pub exits: AtomicU64,
    pub halts: AtomicU64,
    pub spin_hits: AtomicU64,
    pub spin_misses: AtomicU64,
}

/// Adds one to a counter that only one thread writes.
pub(crate) fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// One vCPU.
pub struct Vcpu {
    pub(crate) id: u32,
    pub(crate) page: Arc<SharedPage>,
    pub(crate) kicker: Arc<Kicker>,
    /// None after the VM was closed: the engine holds memory, which does not wait for handles.
    core: Mutex<Option<Core>>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) state: ThreadState,
    pub(crate) counters: Counters,
    code: Option<Arc<CodeCounters>>,
    takes_smis: bool,
    chip: Option<Chip>,
    bus: Arc<Bus>,
    clock: Arc<HostClock>,
    timer: Timer,
}

impl fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpu").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a vCPU needs of its VM.
pub(crate) struct VcpuParts {
    pub bus: Arc<Bus>,
    pub clock: Arc<HostClock>,
    pub hosts: Arc<Hosts>,
    pub events: Arc<EventLoop>,
    pub chip: Option<Chip>,
}

impl Vcpu {
    pub(crate) fn new(
        id: u32,
        mut engine: Box<dyn VcpuEngine>,
        kicker: Arc<Kicker>,
        parts: VcpuParts,
    ) -> Result<Arc<Self>, KvmError> {
        engine.offer_alarm(&|| {
            let alarm: Arc<dyn Alarm> = Timer::alarm(parts.events.clone(), &kicker)?;
            Ok(alarm)
        })?;
        let page = match engine.run_mapping() {
            Some((fd, len)) => SharedPage::of_descriptor(fd, len)?,
            None => SharedPage::new(RUN_BYTES)?,
        };
        let code = engine.code_counters();
        let sampled =
            |counters: &Arc<CodeCounters>| Sampler::new(parts.events.clone(), counters.clone());
        let sampler = code.as_ref().map(sampled).transpose()?;
        Ok(Arc::new(Self {
            id,
            page,
            code,
            takes_smis: engine.takes_smis(),
            timer: Timer::new(parts.events, &kicker, request::EXIT),
            state: ThreadState::new(kicker.phase().clone()),
            kicker,
            core: Mutex::new(Some(Core::new(engine, sampler))),
            hosts: parts.hosts,
            counters: Counters::default(),
            chip: parts.chip,
            bus: parts.bus,
            clock: parts.clock,
        }))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The `kvm_run` page.
    #[must_use]
    pub fn page(&self) -> &Arc<SharedPage> {
        &self.page
    }

    /// The request word.
    #[must_use]
    pub fn requests(&self) -> &Arc<VcpuRequests> {
        self.kicker.requests()
    }

    /// How often whoever sent this vCPU a SIPI gave up to wait for it to begin.
    #[must_use]
    pub fn late_starts(&self) -> u32 {
        self.kicker.late_starts()
    }

    /// Counters since creation.
    #[must_use]
    pub fn stats(&self) -> VcpuStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VcpuStats {
            entries: get(&self.counters.entries),
            exits: get(&self.counters.exits),
            kernel_exits: self.bus.handled(self.id),
            halts: get(&self.counters.halts),
            spin_hits: get(&self.counters.spin_hits),
            spin_misses: get(&self.counters.spin_misses),
        }
    }

    /// What the engine did to execute the guest's code; `None` where the processor does that. At any
    /// time.
    #[must_use]
    pub fn code_counters(&self) -> Option<&CodeCounters> {
        self.code.as_deref()
    }

    /// Calls `f` with the engine, which is outside the guest.
    ///
    /// # Errors
    /// `EBUSY` while the vCPU runs, `EBADF` after the VM was closed, and what `f` returns.
    pub fn with_engine<R>(
        &self,
        f: impl FnOnce(&mut dyn VcpuEngine) -> Result<R, KvmError>,
    ) -> Result<R, KvmError> {
        match self.state.phase() {
            Phase::Running => return Err(self.busy()),
            Phase::Closed => return Err(self.closed()),
            Phase::Idle | Phase::Exit | Phase::Paused => {}
        }
        let mut core = self.try_core()?;
        f(&mut *core.engine)
    }

    /// The message of a panic inside the engine.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.try_core().ok()?.failure.clone()
    }

    /// Makes the vCPU leave the guest once.
    pub fn kick(&self) {
        self.kicker.raise(request::EXIT);
    }

    /// `KVM_NMI`.
    pub fn nmi(&self) {
        match self.try_core() {
            Ok(mut core) => core.engine.nmi(),
            Err(_) => self.kicker.raise(request::NMI),
        }
    }

    /// `KVM_SMI`.
    ///
    /// # Errors
    /// `ENOTTY` where the engine has no system management mode.
    pub fn smi(&self) -> Result<(), KvmError> {
        if !self.takes_smis {
            return Err(KvmError::new(
                Errno::ENOTTY,
                "this engine has no system management mode (KVM_CAP_X86_SMM): use the soft engine",
            ));
        }
        self.kicker.raise(request::SMI);
        Ok(())
    }

    /// `KVM_GET_LAPIC`.
    ///
    /// # Errors
    /// `ENXIO` without an irqchip, `EBUSY` while the vCPU runs.
    pub fn lapic_state(&self) -> Result<Vec<u8>, KvmError> {
        self.with_engine(|engine| match self.chip()? {
            Chip::Own(chip) => Ok(self.lapic(chip)?.state().to_vec()),
            Chip::Kernel(_) => Ok(engine.kernel_lapic()?.to_vec()),
        })
    }

    /// `KVM_SET_LAPIC`.
    ///
    /// # Errors
    /// As `lapic_state`, and `EINVAL` for a state that cannot be.
    pub fn set_lapic_state(&self, state: &[u8]) -> Result<(), KvmError> {
        let page = state.try_into().map_err(|_| {
            KvmError::invalid(format!("kvm_lapic_state is 1024 bytes, not {}", state.len()))
        })?;
        self.with_engine(|engine| match self.chip()? {
            Chip::Own(chip) => self.lapic(chip)?.set_state(page),
            Chip::Kernel(_) => engine.set_kernel_lapic(page),
        })?;
        self.kicker.raise(request::INTERRUPT);
        Ok(())
    }

    fn chip(&self) -> Result<&Chip, KvmError> {
        self.chip.as_ref().ok_or_else(|| KvmError::new(Errno::ENXIO, "the VM has no irqchip"))
    }

    fn lapic(&self, chip: &Irqchip) -> Result<Arc<kvm_irqchip::Lapic>, KvmError> {
        let none = || KvmError::new(Errno::ENXIO, format!("vCPU {} has no local APIC", self.id));
        chip.lapic(self.id).ok_or_else(none)
    }

    /// `KVM_RUN` on the calling thread, which belongs to `isolate`. Returns the exit reason.
    ///
    /// With an irqchip HLT sleeps here. `INTR` is returned for a kick, when work waits for a
    /// device host of `isolate`, and after `timeout`.
    ///
    /// # Errors
    /// `EBUSY` while the vCPU has a thread or runs elsewhere, `EBADF` after the VM was closed.
    pub fn run_sync(&self, isolate: IsolateId, timeout: Option<Duration>) -> Result<u32, KvmError> {
        let _phase = self.state.enter_sync().map_err(|phase| match phase {
            Phase::Closed => self.closed(),
            _ => self.busy(),
        })?;
        let mut core = self.try_core()?;
        let _runner = self.hosts.runners.enter(isolate, self.kicker.clone());
        if self.hosts.work_for(isolate) {
            self.kicker.raise(request::EXIT);
        }
        let _deadline = match timeout {
            Some(time) if time.is_zero() => {
                self.kicker.raise(request::EXIT);
                None
            }
            Some(time) => Some(self.timer.arm(time)?),
            None => None,
        };
        let why = self.enter(&mut core);
        if why != reason::INTR {
            bump(&self.counters.exits);
        }
        Ok(why)
    }

    /// Enters the guest until an exit. The page describes it.
    pub(crate) fn enter(&self, core: &mut Core) -> u32 {
        if let Some(why) = core.unanswered.take() {
            return why;
        }
        let has_irqchip = self.chip.is_some();
        if core.failure.is_none() {
            let entered = catch_unwind(AssertUnwindSafe(|| {
                let exit = self.enter_engine(core);
                core.after_exit(&self.page, &exit, has_irqchip)
            }));
            match entered {
                Ok(why) => return why,
                Err(panic) => core.failure = Some(message_of(&*panic)),
            }
        }
        core.after_exit(&self.page, &panic_exit(), has_irqchip)
    }

    fn enter_engine(&self, core: &mut Core) -> Exit {
        core.before_entry(&self.page, self.chip.is_some());
        // A kernel looks at it by itself.
        if !core.page_is_kernels && self.page.get::<1>(run::IMMEDIATE_EXIT) != [0] {
            self.kicker.raise(request::EXIT);
        }
        loop {
            bump(&self.counters.entries);
            let exit = Self::enter_guest(core);
            let (Exit::Hlt, Some(Chip::Own(chip))) = (&exit, &self.chip) else { return exit };
            bump(&self.counters.halts);
            self.sleep(chip, &mut core.halting, &mut core.served);
        }
    }

    /// Enters the guest, watched where its code is executed in software.
    fn enter_guest(core: &mut Core) -> Exit {
        let Some(sampler) = &core.sampler else { return core.engine.run() };
        let mut inside = sampler.enter();
        let exit = core.engine.run();
        inside.waits = matches!(exit, Exit::Io { .. } | Exit::Mmio { .. } | Exit::Hypercall { .. });
        exit
    }

    /// Sleeps until a request is there or a timer is due. As on KVM it looks for the request first where
    /// that paid of late: a disk may answer sooner than a thread wakes up. While devices are at work, as
    /// after a kick of a queue, it looks as long as they are.
    fn sleep(&self, chip: &Irqchip, halting: &mut SpinWindow, served: &mut SpinWindow) {
        let host = self.hosts.awake();
        let looks = if host.is_some() { served } else { halting };
        let in_vain = || host.as_ref().is_some_and(|host| !host.is_awake());
        let mut look = Duration::from_nanos(u64::from(looks.next()));
        while !self.kicker.requests().any() {
            let timeout = match chip.next_deadline_ns(self.id) {
                None => None,
                Some(deadline) => match deadline.checked_sub(self.clock.now_ns()) {
                    None | Some(0) => return,
                    Some(ns) => Some(Duration::from_nanos(ns)),
                },
            };
            if look.is_zero() {
                self.kicker.sleep(timeout);
                continue;
            }
            look = look.min(timeout.unwrap_or(look));
            spin_until(look, || self.kicker.requests().any() || in_vain());
            if self.kicker.requests().any() {
                return looks.hit();
            }
            // Who stops in time has lost nothing.
            if !in_vain() {
                looks.miss();
            }
            look = Duration::ZERO;
        }
    }

    /// Makes `last` the device host that answers the exit in the page. True if it was another.
    pub(crate) fn host_of(&self, why: u32, last: &mut Option<Arc<Host>>) -> Result<bool, KvmError> {
        let at = access_of(&self.page, why);
        let id = at.and_then(|(space, addr)| self.bus.routes.host(space, addr)).unwrap_or(0);
        if last.as_ref().is_some_and(|host| host.id() == id) {
            return Ok(false);
        }
        *last = Some(self.hosts.get(id)?);
        Ok(true)
    }

    /// Becomes the vCPU, waiting for whoever looks at its state. None after the VM was closed.
    pub(crate) fn lock_core(&self) -> Option<CoreGuard<'_>> {
        CoreGuard::new(self.core.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn try_core(&self) -> Result<CoreGuard<'_>, KvmError> {
        let core = match self.core.try_lock() {
            Ok(core) => core,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(self.busy()),
        };
        CoreGuard::new(core).ok_or_else(|| self.closed())
    }

    /// Frees the engine. The thread has ended.
    pub(crate) fn drop_engine(&self) {
        drop(self.core.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn busy(&self) -> KvmError {
        KvmError::new(Errno::EBUSY, format!("vCPU {} is running: pause or stop it first", self.id))
    }

    fn closed(&self) -> KvmError {
        KvmError::new(Errno::EBADF, format!("vCPU {} was closed with its VM", self.id))
    }
}

/// The locked core of a vCPU that still has one.
pub(crate) struct CoreGuard<'a>(MutexGuard<'a, Option<Core>>);

impl<'a> CoreGuard<'a> {
    fn new(guard: MutexGuard<'a, Option<Core>>) -> Option<Self> {
        guard.is_some().then_some(Self(guard))
    }
}

impl Deref for CoreGuard<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        self.0.as_ref().expect("a guard is only made of a core")
    }
}

impl DerefMut for CoreGuard<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        self.0.as_mut().expect("a guard is only made of a core")
    }
}

fn panic_exit() -> Exit {
    Exit::InternalError { suberror: INTERNAL_ERROR_PANIC, data: Vec::new() }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the engine panicked".to_owned())
}
