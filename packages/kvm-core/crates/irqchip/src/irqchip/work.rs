//! What happens under the lock of PIC, IOAPIC and PIT, and what is left to do after it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::{IRQ_SOURCE_PIT, Irqchip, NEVER, Wake, Wakes};
use crate::deliver::deliver;
use crate::ioapic::{IOAPIC_PINS, Ioapic, Sender};
use crate::lapic::{Lapic, LocalVector};
use crate::pic::Pic;
use crate::pit::Pit;
use crate::routing::Routing;
use crate::sync::{lock, snapshot};
use crate::vectors::Vectors;

const IOAPIC: usize = 2;
/// The line that the PIT drives.
const PIT_GSI: u32 = 0;

/// The chips that share a lock, because lines reach all of them.
#[derive(Debug)]
pub(super) struct Chips {
    pub pic: Pic,
    pub ioapic: Ioapic,
    pub pit: Option<Pit>,
}

impl Chips {
    pub fn new() -> Self {
        Self { pic: Pic::new(), ioapic: Ioapic::new(), pit: None }
    }

    fn deadline(&self) -> u64 {
        let pit = self.pit.as_ref().and_then(|pit| pit.ticks.deadline());
        pit.into_iter().chain(self.ioapic.deadline()).min().unwrap_or(NEVER)
    }
}

/// A stretch of work with the chips locked. Calls to others are gathered here.
pub(super) struct Work<'a> {
    pub chips: MutexGuard<'a, Chips>,
    pub now: &'a dyn Fn() -> u64,
    lapics: Arc<[Arc<Lapic>]>,
    routing: Arc<Routing>,
    wakes: Wakes,
    /// Acknowledged pins: PIC lines in bits 0 to 15, IOAPIC pins from bit 16 on.
    acked: u64,
}

impl Irqchip {
    /// Runs `f` with the chips locked; afterwards publishes their state, wakes vCPUs and calls
    /// notifiers.
    pub(super) fn work<R>(&self, f: impl FnOnce(&mut Work<'_>) -> R) -> R {
        let now = || self.clock.now_ns();
        let mut work = Work {
            lapics: snapshot(&self.lapics),
            routing: snapshot(&self.routing),
            chips: lock(&self.chips),
            now: &now,
            wakes: Wakes::default(),
            acked: 0,
        };
        let result = f(&mut work);
        work.collect_pic_events();
        self.publish(&mut work);
        let Work { chips, routing, wakes, acked, .. } = work;
        drop(chips);
        wakes.fire();
        if acked != 0 {
            self.notify(acked, &routing);
        }
        result
    }

    fn publish(&self, work: &mut Work<'_>) {
        let output = work.chips.pic.output();
        if output != self.pic_output.load(Ordering::Relaxed) {
            self.pic_output.store(output, Ordering::SeqCst);
            if output {
                for lapic in work.lapics.iter().filter(|lapic| lapic.accepts_pic()) {
                    work.wakes.push(lapic, Wake::Interrupt);
                }
            }
        }
        let deadline = work.chips.deadline();
        let before = self.deadline.load(Ordering::Relaxed);
        if deadline != before {
            self.deadline.store(deadline, Ordering::SeqCst);
            if let (true, Some(first)) = (deadline < before, work.lapics.first()) {
                work.wakes.push(first, Wake::Interrupt);
            }
        }
    }

    /// Tells which vectors the IOAPIC may send, after its entries changed.
    pub(super) fn publish_vectors(&self, ioapic: &Ioapic) {
        let mut vectors = Vectors::default();
        ioapic.vectors().for_each(|vector| vectors.set(vector));
        for (word, new) in self.ioapic_vectors.iter().zip(vectors.0) {
            word.store(new, Ordering::SeqCst);
        }
    }

    fn notify(&self, acked: u64, routing: &Routing) {
        let notifiers = snapshot(&self.notifiers);
        if notifiers.is_empty() {
            return;
        }
        // A GSI that reaches PIC and IOAPIC was acknowledged at one of them; twice does no harm.
        for bit in (0..16 + IOAPIC_PINS as u8).filter(|bit| acked & (1 << bit) != 0) {
            let (chip, pin) = if bit < 16 { pic_pin(bit) } else { (IOAPIC, bit - 16) };
            if let Some(gsi) = routing.gsi_of(chip, pin) {
                notifiers.call(gsi);
            }
        }
    }
}

fn pic_pin(line: u8) -> (usize, u8) {
    (usize::from(line >> 3), line & 7)
}

impl Work<'_> {
    /// Drives `gsi`; the result is as `KVM_IRQ_LINE_STATUS` has it.
    pub fn set_gsi(&mut self, gsi: u32, source: u32, level: bool) -> i32 {
        let pins = self.routing.targets(gsi).pins;
        let mut status = -1;
        for (chip, pin) in pins.into_iter().enumerate() {
            let Some(pin) = pin else { continue };
            let result = if chip == IOAPIC {
                self.with_ioapic(|ioapic, send| ioapic.set_line(pin, source, level, send))
            } else {
                self.chips.pic.set_line(pin + 8 * chip as u8, source, level).map(u32::from)
            };
            if let Some(n) = result.and_then(|n| i32::try_from(n).ok()) {
                status = status.max(0) + n;
            }
        }
        status
    }

    /// Runs `f` with the IOAPIC and the way to the local APICs.
    pub fn with_ioapic<R>(&mut self, f: impl FnOnce(&mut Ioapic, Sender<'_>) -> R) -> R {
        let Self { chips, lapics, wakes, .. } = self;
        f(&mut chips.ioapic, &mut |message| deliver(lapics, message, None, wakes))
    }

    /// The guest finished with the interrupts of `vector` at the IOAPIC.
    pub fn ioapic_acked(&mut self, vector: u8) {
        for pin in self.chips.ioapic.pins_of(vector) {
            self.acked |= 1 << (16 + pin);
            if self.routing.gsi_of(IOAPIC, pin) == Some(PIT_GSI) {
                self.pit_acked();
            }
        }
    }

    /// Notes `pin` as acknowledged without an EOI, so that its notifiers run.
    pub fn mark_acked(&mut self, pin: u8) {
        self.acked |= 1 << (16 + pin);
    }

    /// EOI of a level-triggered `vector`: pins whose lines are still high send again.
    pub fn ioapic_eoi(&mut self, vector: u8) {
        for pin in self.chips.ioapic.pins_of(vector) {
            let now = self.now;
            self.with_ioapic(|ioapic, send| ioapic.end_of_interrupt(pin, now, send));
        }
    }

    /// A pin of the IOAPIC was unmasked.
    pub fn ioapic_unmasked(&mut self, pin: u8) {
        if self.routing.gsi_of(IOAPIC, pin) == Some(PIT_GSI) {
            self.forget_ticks();
        }
    }

    /// EOIs and mask changes of the PIC. Handling one may end the service of another (automatic
    /// EOI), never without bound: each round needs a tick that waited.
    fn collect_pic_events(&mut self) {
        let events = self.chips.pic.take_events();
        self.acked |= u64::from(events.acked);
        for line in 0..16u8 {
            let (chip, pin) = pic_pin(line);
            if self.routing.gsi_of(chip, pin) != Some(PIT_GSI) {
                continue;
            }
            if events.unmasked & (1 << line) != 0 {
                self.forget_ticks();
            }
            if events.acked & (1 << line) != 0 {
                self.pit_acked();
            }
        }
    }

    fn forget_ticks(&mut self) {
        if let Some(pit) = &mut self.chips.pit {
            pit.ticks.forget();
        }
    }

    fn pit_acked(&mut self) {
        if self.chips.pit.as_mut().is_some_and(|pit| pit.ticks.acknowledge()) {
            self.tick();
        }
    }

    /// One timer interrupt, and NMIs where LINT0 is set up as a watchdog input.
    fn tick(&mut self) {
        self.set_gsi(PIT_GSI, IRQ_SOURCE_PIT, true);
        self.set_gsi(PIT_GSI, IRQ_SOURCE_PIT, false);
        for lapic in self.lapics.iter().filter(|lapic| lapic.destination().lint0_is_nmi) {
            if let Some(wake) = lapic.raise_local_deferred(LocalVector::Lint0) {
                self.wakes.push(lapic, wake);
            }
        }
    }

    /// Fires what is due.
    pub fn poll(&mut self, now: u64) {
        if self.chips.pit.as_mut().is_some_and(|pit| pit.ticks.poll(now)) {
            self.tick();
        }
        self.with_ioapic(|ioapic, send| ioapic.poll(now, send));
    }
}
