//! The native thread of a vCPU: enter, post the exit, wait for the answer, enter again.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_abi::control::{slot, state};
use kvm_abi::exit::reason;
use kvm_abi::{Errno, KvmError};
use kvm_cpu::engine::request;

use crate::host::{Host, spin_until};
use crate::phase::{Phase, PhaseCell};
use crate::spin::SpinWindow;
use crate::sys::{futex_wait, futex_wake, pin_to, usable_cpus};
use crate::vcpu::{Vcpu, bump};

/// Length of a trial spin: some round trips to an isolate that is awake.
const PROBE_NS: u32 = 5_000;

/// How the thread is to be run.
#[derive(Clone, Debug)]
pub struct ThreadOptions {
    /// Host CPUs it may use; empty for all.
    pub affinity: Vec<u32>,
    /// Limit of the spin window.
    pub spin_max: Duration,
}

impl Default for ThreadOptions {
    fn default() -> Self {
        Self { affinity: Vec::new(), spin_max: Duration::from_micros(20) }
    }
}

/// Called once, by the vCPU's thread or by the caller, when what was asked for is so.
pub type Done = Box<dyn FnOnce() + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Run,
    Pause,
    Stop,
}

/// The part of a vCPU that belongs to its thread's comings and goings.
pub(crate) struct ThreadState {
    phase: Arc<PhaseCell>,
    control: Mutex<Control>,
    changed: Condvar,
    /// The thread is to park or to end: a look at `control` is due.
    ordered: AtomicBool,
    /// The thread is to end: an exit that is posted is given up.
    stopping: AtomicBool,
    /// Where the vCPU posted its last exit, so that it can be given up there.
    mailbox: Mutex<Option<Arc<Host>>>,
}

struct Control {
    want: Want,
    thread: Option<JoinHandle<()>>,
    alive: bool,
    /// To be called when the thread is parked or has ended.
    on_pause: Vec<Done>,
    on_end: Vec<Done>,
}

impl ThreadState {
    pub fn new(phase: Arc<PhaseCell>) -> Self {
        Self {
            phase,
            control: Mutex::new(Control {
                want: Want::Run,
                thread: None,
                alive: false,
                on_pause: Vec::new(),
                on_end: Vec::new(),
            }),
            changed: Condvar::new(),
            ordered: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            mailbox: Mutex::new(None),
        }
    }
}

impl fmt::Debug for ThreadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadState").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl ThreadState {
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Claims an idle vCPU for an entry on the calling thread.
    pub fn enter_sync(&self) -> Result<SyncPhase<'_>, Phase> {
        if self.phase.claim() { Ok(SyncPhase(self)) } else { Err(self.phase()) }
    }

    /// Gives an order. Nobody else has `control` locked.
    fn order(&self, control: &mut Control, want: Want) {
        control.want = want;
        self.stopping.store(want == Want::Stop, Ordering::SeqCst);
        self.ordered.store(want != Want::Run, Ordering::SeqCst);
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(&self) -> MutexGuard<'_, Option<Arc<Host>>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry on the calling thread.
pub(crate) struct SyncPhase<'a>(&'a ThreadState);

impl Drop for SyncPhase<'_> {
    fn drop(&mut self) {
        self.0.set_phase(Phase::Idle);
    }
}

impl Vcpu {
    /// What the vCPU is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// `EBUSY` if there is one or `run_sync` is under way, `EINVAL` for CPUs that do not exist,
    /// `EBADF` after the VM was closed, `EAGAIN` when the process has no thread left.
    pub fn start(self: &Arc<Self>, options: ThreadOptions) -> Result<(), KvmError> {
        let mut control = self.state.control();
        let claimed = self.state.enter_sync();
        match claimed {
            // The thread takes the claim over.
            Ok(claim) => std::mem::forget(claim),
            Err(Phase::Closed) => {
                return Err(KvmError::new(Errno::EBADF, "the VM was closed"));
            }
            Err(_) => {
                return Err(KvmError::new(
                    Errno::EBUSY,
                    format!("vCPU {} is running already", self.id),
                ));
            }
        }
        if let Some(ended) = control.thread.take() {
            let _ = ended.join();
        }
        self.state.order(&mut control, Want::Run);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let vcpu = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name(format!("kvm-vcpu-{}", self.id))
            .stack_size(1 << 20)
            .spawn(move || {
                let pinned =
                    if options.affinity.is_empty() { Ok(()) } else { pin_to(&options.affinity) };
                let go = pinned.is_ok();
                let _ = ready.send(pinned);
                if go {
                    vcpu.thread_main(&options);
                }
            });
        let outcome = match spawned {
            Err(e) => Err(KvmError::new(Errno::EAGAIN, format!("cannot start a thread: {e}"))),
            Ok(thread) => match started.recv() {
                Ok(Ok(())) => {
                    control.thread = Some(thread);
                    control.alive = true;
                    return Ok(());
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(KvmError::new(Errno::EAGAIN, "the thread ended at once")),
            },
        };
        self.state.set_phase(Phase::Idle);
        outcome
    }

    /// Completes pending I/O and parks the thread; then calls `done`. Without a thread it is
    /// called at once.
    pub fn pause(&self, done: Done) {
        let mut control = self.state.control();
        if !control.alive || self.state.phase() == Phase::Paused && control.want == Want::Pause {
            drop(control);
            done();
            return;
        }
        control.on_pause.push(done);
        if control.want == Want::Run {
            self.state.order(&mut control, Want::Pause);
            self.kicker.raise(request::EXIT);
        }
    }

    /// Lets a paused thread go on.
    ///
    /// # Errors
    /// `EINVAL` without a thread.
    pub fn resume(&self) -> Result<(), KvmError> {
        let mut control = self.state.control();
        if !control.alive || control.want == Want::Stop {
            return Err(KvmError::invalid(format!("vCPU {} was not started", self.id)));
        }
        self.state.order(&mut control, Want::Run);
        if self.state.phase() == Phase::Paused {
            self.state.set_phase(Phase::Running);
        }
        // Whoever waits for a pause that does not come any more is not left waiting.
        let waiting = std::mem::take(&mut control.on_pause);
        drop(control);
        self.state.changed.notify_all();
        waiting.into_iter().for_each(|done| done());
        Ok(())
    }

    /// Ends the thread, then calls `done`. An exit that waits for its answer is given up, and
    /// shown again by the next run.
    pub fn stop(&self, done: Done) {
        let mut control = self.state.control();
        if !control.alive {
            drop(control);
            done();
            return;
        }
        control.on_end.push(done);
        self.state.order(&mut control, Want::Stop);
        drop(control);
        self.state.changed.notify_all();
        self.kicker.raise(request::EXIT);
        if let Some(host) = &*self.state.mailbox() {
            give_up(host.slot(self.id, slot::STATE));
        }
    }

    /// True while the thread has not ended.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.state.control().alive
    }

    /// Waits for a thread that has ended, or is about to. Not for the thread itself.
    pub(crate) fn join(&self) {
        let thread = self.state.control().thread.take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }

    /// Makes every later call fail.
    pub(crate) fn mark_closed(&self) {
        self.state.set_phase(Phase::Closed);
    }

    fn thread_main(&self, options: &ThreadOptions) {
        let alone = usable_cpus() < 2;
        let max =
            if alone { Duration::ZERO } else { options.spin_max.min(Duration::from_millis(1)) };
        let max_ns = u32::try_from(max.as_nanos()).unwrap_or(u32::MAX);
        let mut window = SpinWindow::new(max_ns, PROBE_NS);
        let mut last: Option<Arc<Host>> = None;
        while self.next_order() {
            let Some(mut core) = self.lock_core() else { break };
            let why = self.enter(&mut core);
            if why == reason::INTR {
                continue;
            }
            bump(&self.counters.exits);
            // The registers can be used from here to the answer.
            drop(core);
            let answered = self.host_of(why, &mut last).is_ok_and(|moved| {
                last.as_ref().is_some_and(|host| {
                    if moved {
                        *self.state.mailbox() = Some(host.clone());
                    }
                    self.post(host, &mut window)
                })
            });
            if !answered && let Some(mut core) = self.lock_core() {
                core.unanswered = Some(why);
            }
        }
        *self.state.mailbox() = None;
        let mut control = self.state.control();
        control.alive = false;
        self.state.set_phase(Phase::Idle);
        let mut waiting = std::mem::take(&mut control.on_pause);
        waiting.append(&mut control.on_end);
        drop(control);
        waiting.into_iter().for_each(|done| done());
    }

    /// Parks while a pause is wanted. False when the thread is to end.
    fn next_order(&self) -> bool {
        // Who orders something raises a request after it, so an order is not overlooked for long.
        if !self.state.ordered.load(Ordering::SeqCst) {
            self.state.set_phase(Phase::Running);
            return true;
        }
        let mut control = self.state.control();
        loop {
            match control.want {
                Want::Stop => return false,
                Want::Run => {
                    self.state.set_phase(Phase::Running);
                    return true;
                }
                Want::Pause => {
                    drop(control);
                    if self.lock_core().is_some_and(|core| core.half_done()) {
                        // One more entry, which leaves at the end of the instruction.
                        self.state.set_phase(Phase::Running);
                        self.kicker.raise(request::EXIT);
                        return true;
                    }
                    control = self.state.control();
                    if control.want != Want::Pause {
                        continue;
                    }
                    self.state.set_phase(Phase::Paused);
                    let waiting = std::mem::take(&mut control.on_pause);
                    drop(control);
                    waiting.into_iter().for_each(|done| done());
                    control = self.state.control();
                    while control.want == Want::Pause && control.on_pause.is_empty() {
                        control = self
                            .state
                            .changed
                            .wait(control)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        }
    }

    /// Posts the exit in the page to `host` and waits for the answer. False if it was given up.
    fn post(&self, host: &Arc<Host>, window: &mut SpinWindow) -> bool {
        let word = host.slot(self.id, slot::STATE);
        let count = |offset| {
            let counter = host.slot(self.id, offset);
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        };
        count(slot::EXIT_SEQ);
        self.state.set_phase(Phase::Exit);
        word.store(state::POSTED, Ordering::SeqCst);
        // Whoever stops the thread says so first and then looks at the slot: one of the two sees
        // the other.
        if self.state.stopping.load(Ordering::SeqCst) {
            give_up(word);
        } else {
            host.announce(self.id);
        }
        let spin = Duration::from_nanos(u64::from(window.next()));
        if !spin.is_zero() && spin_until(spin, || word.load(Ordering::Acquire) != state::POSTED) {
            window.hit();
            count(slot::SPIN_HITS);
            bump(&self.counters.spin_hits);
        } else {
            if !spin.is_zero() {
                window.miss();
            }
            count(slot::SPIN_MISSES);
            bump(&self.counters.spin_misses);
            let (posted, asleep) = (state::POSTED, state::SLEEPING);
            let (seq, acquire) = (Ordering::SeqCst, Ordering::Acquire);
            if word.compare_exchange(posted, asleep, seq, acquire).is_ok() {
                while word.load(acquire) == asleep {
                    futex_wait(word, asleep, None);
                }
            }
        }
        host.slot(self.id, slot::SPIN_WINDOW).store(window.width_ns(), Ordering::Relaxed);
        // Only the vCPU itself frees a slot whose exit was given up.
        let answered = word.load(Ordering::SeqCst) == state::IDLE;
        if !answered {
            word.store(state::IDLE, Ordering::SeqCst);
        }
        self.state.set_phase(Phase::Running);
        answered
    }
}

/// Turns an exit that waits into one that nobody answers. One that was answered this moment stays
/// answered.
fn give_up(word: &AtomicU32) {
    let waits = |now| matches!(now, state::POSTED | state::SLEEPING).then_some(state::ABORTED);
    if word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, waits).is_ok() {
        futex_wake(word);
    }
}
