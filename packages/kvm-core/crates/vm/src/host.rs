//! A device host: the control page through which vCPUs and one isolate talk, and its doorbell.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kvm_abi::control::{self, slot, state};
use kvm_abi::{Errno, KvmError};

use crate::page::SharedPage;
use crate::spin::SpinWindow;
use crate::sync_run::SyncRunners;
use crate::sys::{EventFd, futex_wake, usable_cpus};

/// Identifies an isolate; never 0.
pub type IsolateId = u64;

/// A write that a posted route leaves for the isolate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PostedWrite {
    pub mmio: bool,
    pub addr: u64,
    pub size: u32,
    pub value: u64,
}

/// One device host of a VM. It exists from the first route that names it; an isolate binds itself
/// to it, and when that isolate dies another can take its place.
#[derive(Debug)]
pub struct Host {
    id: u32,
    page: Arc<SharedPage>,
    doorbell: EventFd,
    owner: AtomicU64,
    posting: Mutex<()>,
    window: Mutex<SpinWindow>,
    runners: Arc<SyncRunners>,
}

impl Host {
    pub(crate) fn new(id: u32, runners: Arc<SyncRunners>) -> Result<Arc<Self>, KvmError> {
        let page = SharedPage::new(control::BYTES)?;
        for vcpu in 0..control::MAX_VCPUS {
            let at = control::SLOTS + vcpu * control::SLOT_BYTES;
            page.u32(at + slot::HOST_ID).store(id, Ordering::Relaxed);
        }
        Ok(Arc::new(Self {
            id,
            page,
            doorbell: EventFd::new()?,
            owner: AtomicU64::new(0),
            posting: Mutex::default(),
            window: Mutex::new(SpinWindow::new(0, 0)),
            runners,
        }))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The control page.
    #[must_use]
    pub fn page(&self) -> &Arc<SharedPage> {
        &self.page
    }

    /// The eventfd that is signalled while the isolate sleeps.
    #[must_use]
    pub fn doorbell(&self) -> &EventFd {
        &self.doorbell
    }

    /// Makes `isolate` the one that answers. Exits that wait, also those that a dead predecessor
    /// had taken, are pending again.
    ///
    /// # Errors
    /// `EBUSY` while another isolate is bound.
    pub fn bind(&self, isolate: IsolateId, max_poll: Duration) -> Result<(), KvmError> {
        if self.owner.compare_exchange(0, isolate, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(KvmError::new(
                Errno::EBUSY,
                format!("device host {} is bound to an isolate already", self.id),
            ));
        }
        let max_ns = u32::try_from(max_poll.as_nanos()).unwrap_or(u32::MAX);
        *self.window.lock().unwrap_or_else(PoisonError::into_inner) =
            SpinWindow::new(max_ns, max_ns);
        for vcpu in 0..control::MAX_VCPUS {
            let state = self.slot(vcpu as u32, slot::STATE).load(Ordering::SeqCst);
            if state == state::POSTED || state == state::SLEEPING {
                self.set_pending(vcpu as u32);
            }
        }
        self.page.u32(control::ARMED).store(1, Ordering::SeqCst);
        if self.has_work() {
            self.ring();
        }
        Ok(())
    }

    /// Ends the binding of `isolate`; vCPUs that wait go on waiting for the next.
    pub fn unbind(&self, isolate: IsolateId) {
        let gone = self.owner.compare_exchange(isolate, 0, Ordering::SeqCst, Ordering::SeqCst);
        if gone.is_ok() {
            self.page.u32(control::ARMED).store(0, Ordering::SeqCst);
            self.doorbell.take();
        }
    }

    /// The bound isolate, or 0.
    #[must_use]
    pub fn owner(&self) -> IsolateId {
        self.owner.load(Ordering::SeqCst)
    }

    /// A word of a vCPU's slot.
    pub(crate) fn slot(&self, vcpu: u32, offset: usize) -> &std::sync::atomic::AtomicU32 {
        self.page.u32(control::SLOTS + vcpu as usize * control::SLOT_BYTES + offset)
    }

    /// Announces that the slot of `vcpu` holds an exit.
    pub(crate) fn announce(&self, vcpu: u32) {
        self.set_pending(vcpu);
        self.ring();
    }

    fn set_pending(&self, vcpu: u32) {
        let word = control::PENDING + (vcpu as usize / 32) * 4;
        self.page.u32(word).fetch_or(1 << (vcpu % 32), Ordering::SeqCst);
    }

    /// Notes that ioeventfd `id` was signalled.
    pub(crate) fn signal_ioevent(&self, id: u32) {
        let word = control::IOEVENT_BITMAP + (id as usize / 32) * 4;
        let bit = 1 << (id % 32);
        // A bit that is still set belongs to a doorbell that has not been answered yet.
        if self.page.u32(word).fetch_or(bit, Ordering::SeqCst) & bit == 0 {
            self.notify(control::EV_IOEVENT);
        }
    }

    /// Sets event bits and rings.
    pub(crate) fn notify(&self, events: u32) {
        self.page.u32(control::PENDING_EV).fetch_or(events, Ordering::SeqCst);
        self.ring();
    }

    /// Puts a write into the ring; false if the ring is full, and then the write must exit.
    pub(crate) fn post_write(&self, write: &PostedWrite) -> bool {
        let _one_producer = self.posting.lock().unwrap_or_else(PoisonError::into_inner);
        let tail_word = self.page.u32(control::POSTED + control::POSTED_TAIL);
        let tail = tail_word.load(Ordering::Relaxed);
        let head = self.page.u32(control::POSTED).load(Ordering::Acquire);
        if tail.wrapping_sub(head) >= control::POSTED_MAX as u32 {
            return false;
        }
        let index = tail as usize % control::POSTED_MAX;
        let at = control::POSTED + control::POSTED_ENTRIES + index * control::POSTED_BYTES;
        self.page.u64(at).store(write.addr, Ordering::Relaxed);
        self.page.u64(at + 8).store(write.value, Ordering::Relaxed);
        self.page.u32(at + 16).store(write.size, Ordering::Relaxed);
        self.page.u32(at + 20).store(u32::from(write.mmio), Ordering::Relaxed);
        tail_word.store(tail.wrapping_add(1), Ordering::SeqCst);
        self.notify(control::EV_POSTED);
        true
    }

    /// Wakes the isolate if it sleeps, or its `run_sync` if it is in the guest itself.
    pub(crate) fn ring(&self) {
        let armed = self.page.u32(control::ARMED);
        if armed.load(Ordering::SeqCst) != 0 && armed.swap(0, Ordering::SeqCst) != 0 {
            self.doorbell.signal();
        }
        self.runners.leave_guest(self.owner());
    }

    /// True from a ring of the doorbell until the isolate that answers goes to sleep.
    pub(crate) fn is_awake(&self) -> bool {
        self.page.u32(control::ARMED).load(Ordering::Relaxed) == 0 && self.owner() != 0
    }

    /// Tells everyone who looks at the page that the VM is closing.
    pub(crate) fn close(&self) {
        self.page.u32(control::CLOSED).store(1, Ordering::SeqCst);
        self.doorbell.signal();
    }

    /// Answers the exit of `vcpu`. False if it was given up, or none waits.
    pub fn complete(&self, vcpu: u32) -> bool {
        if vcpu as usize >= control::MAX_VCPUS {
            return false;
        }
        let word = self.slot(vcpu, slot::STATE);
        let (seq, relaxed) = (Ordering::SeqCst, Ordering::Relaxed);
        loop {
            match word.load(Ordering::SeqCst) {
                old @ (state::POSTED | state::SLEEPING) => {
                    if word.compare_exchange(old, state::IDLE, seq, relaxed).is_ok() {
                        if old == state::SLEEPING {
                            futex_wake(word);
                        }
                        return true;
                    }
                }
                _ => return false,
            }
        }
    }

    /// True if anything waits for the isolate.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let closed = self.page.u32(control::CLOSED).load(Ordering::Relaxed);
        let pending = (0..control::MAX_VCPUS / 32).fold(closed, |all, word| {
            all | self.page.u32(control::PENDING + word * 4).load(Ordering::Relaxed)
        });
        pending | self.page.u32(control::PENDING_EV).load(Ordering::Relaxed) != 0
    }

    /// Looks for work for an adaptive time, at most `limit`; true if there is some. `vcpus` is how
    /// many threads compete for the CPUs.
    pub fn poll(&self, vcpus: usize, limit: Duration) -> bool {
        if self.has_work() {
            return true;
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.mostly_misses() && vcpus + 1 > usable_cpus() {
            return false;
        }
        let wanted = Duration::from_nanos(u64::from(window.next())).min(limit);
        if wanted.is_zero() {
            return false;
        }
        if spin_until(wanted, || self.has_work()) {
            window.hit();
            return true;
        }
        window.miss();
        false
    }

    /// Present width of the polling window in nanoseconds.
    #[must_use]
    pub fn poll_ns(&self) -> u32 {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).width_ns()
    }

    /// Arms the doorbell. False, and disarmed, if something waits already.
    pub fn rearm(&self) -> bool {
        self.page.u32(control::ARMED).store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.has_work() {
            self.page.u32(control::ARMED).store(0, Ordering::SeqCst);
            return false;
        }
        true
    }
}

/// Looks at `done` for `time`; true as soon as it is.
pub(crate) fn spin_until(time: Duration, done: impl Fn() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..32 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        // The answer mostly comes before a look at the clock has paid.
        if start.get_or_insert_with(Instant::now).elapsed() >= time {
            return done();
        }
    }
}
