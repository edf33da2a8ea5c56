//! Reaching a vCPU from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kvm_cpu::engine::{VcpuRequests, request};
use kvm_irqchip::{VcpuWaker, Wake};

use crate::phase::PhaseCell;
use crate::sys::{futex_wait, futex_wake};

/// How long whoever sends a SIPI waits at most, should the host be as busy as that.
const START_LIMIT: Duration = Duration::from_secs(2);
const START_LOOK: Duration = Duration::from_micros(20);

/// The request word of a vCPU, with the knowledge whether it sleeps on it.
#[derive(Debug, Default)]
pub(crate) struct Kicker {
    requests: Arc<VcpuRequests>,
    asleep: AtomicBool,
    phase: Arc<PhaseCell>,
    late: AtomicU32,
}

impl Kicker {
    pub fn requests(&self) -> &Arc<VcpuRequests> {
        &self.requests
    }

    /// Who has the vCPU.
    pub fn phase(&self) -> &Arc<PhaseCell> {
        &self.phase
    }

    /// How often whoever sent a SIPI did not see the vCPU begin.
    pub fn late_starts(&self) -> u32 {
        self.late.load(Ordering::Relaxed)
    }

    /// Sets request bits and wakes the vCPU if it is halted. A vCPU in the guest polls the word.
    pub fn raise(&self, bits: u32) {
        self.requests.raise(bits);
        if self.asleep.load(Ordering::SeqCst) {
            futex_wake(self.requests.futex_word());
        }
    }

    /// Sleeps until a request is there or the time is over; may return early.
    pub fn sleep(&self, timeout: Option<Duration>) {
        // The raiser sets the word and then looks at the flag, this side the other way round:
        // one of the two sees the other.
        self.asleep.store(true, Ordering::SeqCst);
        futex_wait(self.requests.futex_word(), 0, timeout);
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Waits until the vCPU has begun where its SIPI told it to.
    ///
    /// A processor starts at once, and firmware counts on it: SeaBIOS takes the code at the vector
    /// away again some microseconds after it sent the SIPI when it resumes a guest, because it cannot
    /// write the counter it would wait for. The thread of a vCPU may need longer to wake up.
    fn await_start(&self) {
        let end = Instant::now() + START_LIMIT;
        while self.requests.starting.load(Ordering::SeqCst) && self.phase.goes_on() {
            if Instant::now() >= end {
                self.late.fetch_add(1, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(START_LOOK);
        }
    }
}

impl VcpuWaker for Kicker {
    fn wake(&self, why: Wake) {
        let bits = match why {
            Wake::Interrupt => request::INTERRUPT,
            Wake::Nmi => request::NMI,
            Wake::Smi => request::SMI,
            Wake::Unhalt => request::UNHALT,
            Wake::Init => {
                // INIT takes back a SIPI that came before it.
                self.requests.replace(request::SIPI, request::INIT);
                self.requests.starting.store(false, Ordering::SeqCst);
                request::INIT
            }
            Wake::Sipi(vector) => {
                self.requests.sipi_vector.store(u32::from(vector), Ordering::SeqCst);
                self.requests.starting.store(true, Ordering::SeqCst);
                request::SIPI
            }
        };
        self.raise(bits);
        if matches!(why, Wake::Sipi(_)) {
            self.await_start();
        }
    }
}
