//! Interrupts, NMIs, INIT and SIPI, halting and waking, the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvm_abi::regs::MpState;
use kvm_cpu::exception::{self, Event};
use kvm_cpu::{Trap, flags, smm};

use crate::vcpu::Vcpu;
use crate::watch::Inside;

impl Vcpu {
    /// Announces that the vCPU uses its memory tables, after it took notice of all changes.
    pub(crate) fn member_enter(&mut self) -> Inside {
        let inside = Arc::clone(&self.member).leave_at_end();
        loop {
            let change = self.watch.changes();
            self.member.enter(change);
            // A change that came before `enter` is seen here, a later one waits for us.
            if self.watch.changes() == change {
                if self.noticed != change || self.table_stale() {
                    self.noticed = change;
                    self.refresh_memory();
                }
                self.answer_others();
                self.stand_still_if_asked();
                self.notice_written();
                return inside;
            }
        }
    }

    pub(crate) fn table_stale(&self) -> bool {
        self.table.generation() != self.context.memory.generation()
    }

    /// Takes notice of changed slots, harvested dirty logs and code that others wrote.
    pub(crate) fn notice_memory(&mut self) {
        let change = self.watch.changes();
        if change != self.noticed {
            self.noticed = change;
            self.refresh_memory();
            self.member.saw(change);
        }
        self.answer_others();
        self.stand_still_if_asked();
        self.notice_written();
    }

    fn notice_written(&mut self) {
        for (gpa, len) in self.member.take_written() {
            if len == u64::MAX {
                self.drop_all_code();
            } else {
                self.code_written_range(gpa, len);
            }
        }
    }

    /// Leaves the halted state if an event allows it.
    pub(crate) fn wake_up(&mut self) -> bool {
        match self.cpu.mp_state {
            MpState::Halted => {}
            MpState::SipiReceived => {
                let vector = self.cpu.events.sipi_vector;
                let started = self.cpu.start_sipi(vector);
                self.refresh_context();
                return started;
            }
            _ => return false,
        }
        self.poll_clock();
        let e = &self.cpu.events;
        let smi = e.smi_pending && !e.smm;
        let wake = (e.nmi_pending > 0 && !e.nmi_masked)
            || e.injected.is_some()
            || e.interrupt.is_some()
            || self.unhalted
            || (self.cpu.rflags & flags::IF != 0 && self.interrupt_waits());
        if wake {
            self.cpu.mp_state = MpState::Runnable;
            self.unhalted = false;
        }
        // An SMI alone is taken out of the halt, to which RSM goes back.
        wake || smi
    }

    fn interrupt_waits(&self) -> bool {
        self.queued_interrupt.is_some()
            || self.cpu.lapic.as_ref().is_some_and(|l| l.has_interrupt())
    }

    /// True if enabling interrupts would be more than to set the flag.
    pub(crate) fn waits_for_interrupts(&self) -> bool {
        self.interrupt_window || self.interrupt_waits()
    }

    /// True if something is to be done before the next instruction, or with it: an event that can be
    /// delivered, or a reason to execute instructions one by one.
    pub(crate) fn has_business(&self) -> bool {
        let e = &self.cpu.events;
        let interrupt =
            self.cpu.rflags & flags::IF != 0 && (self.interrupt_window || self.interrupt_waits());
        interrupt
            || self.must_step()
            || e.injected.is_some()
            || e.interrupt.is_some()
            || e.nmi_pending > 0
            || e.smi_pending
            || e.nmi_injected
            || e.triple_fault
            || self.exit.is_some()
    }

    /// Fires the timers of this vCPU that are due. Yields when to look again.
    pub(crate) fn poll_clock(&mut self) -> u64 {
        let now = self.context.clock.now_ns();
        if now >= self.armed {
            self.armed = u64::MAX;
        }
        if let (Some(irqchip), Some(lapic)) = (&self.context.irqchip, &self.cpu.lapic)
            && let Some(deadline) = irqchip.next_deadline_of(lapic)
            && deadline <= now
        {
            irqchip.poll_timers(self.cpu.id);
        }
        self.slice.begin(self.retired, now)
    }

    /// Has somebody watch the clock for the next timer, since translated code does not.
    pub(crate) fn set_alarm(&mut self) {
        if let (Some(alarm), Some(irqchip)) = (&self.alarm, &self.context.irqchip)
            && let Some(lapic) = &self.cpu.lapic
            && let Some(deadline) = irqchip.next_deadline_of(lapic)
            && (deadline < self.armed || !alarm.pending())
        {
            alarm.arm(deadline.saturating_sub(self.context.clock.now_ns()));
            self.armed = deadline;
        }
    }

    /// True if a maskable interrupt could be taken before the next instruction.
    pub(crate) fn ready_for_interrupt(&self) -> bool {
        let e = &self.cpu.events;
        self.cpu.rflags & flags::IF != 0 && !e.sti_shadow && !e.mov_ss_shadow
    }

    /// Delivers what waits: restored events first, then NMI, then a maskable interrupt.
    pub(crate) fn deliver_events(&mut self) -> Result<(), Trap> {
        if let Some(fault) = self.cpu.events.injected.take() {
            exception::deliver(self, Event::Fault(fault))?;
        }
        if let Some((vector, soft)) = self.cpu.events.interrupt.take() {
            let next = self.cpu.rip();
            let event = if soft { Event::IntN { vector, next } } else { Event::External(vector) };
            exception::deliver(self, event)?;
        }
        if std::mem::take(&mut self.cpu.events.triple_fault) {
            return Err(Trap::Shutdown);
        }
        if std::mem::take(&mut self.cpu.events.nmi_injected) {
            exception::deliver(self, Event::Nmi)?;
        }
        let e = &mut self.cpu.events;
        if e.smi_pending && !e.smm && !e.mov_ss_shadow && !e.sti_shadow {
            smm::enter(self);
        }
        let e = &mut self.cpu.events;
        if e.nmi_pending > 0 && !e.nmi_masked && !e.mov_ss_shadow && !e.sti_shadow {
            e.nmi_pending -= 1;
            exception::deliver(self, Event::Nmi)?;
        }
        if !self.ready_for_interrupt() {
            return Ok(());
        }
        if let Some(vector) = self.queued_interrupt.take() {
            return exception::deliver(self, Event::External(vector));
        }
        if let Some(lapic) = &self.cpu.lapic
            && lapic.has_interrupt()
            && let Some(vector) = lapic.ack_interrupt()
        {
            return exception::deliver(self, Event::External(vector));
        }
        Ok(())
    }

    /// INIT: back to the reset state, waiting for SIPI unless this is the boot processor.
    pub(crate) fn take_init(&mut self) {
        if self.cpu.events.smm {
            self.cpu.events.init_latched = true;
            return;
        }
        self.cpu.init();
        self.io.commit();
        self.tlb.flush_all();
        self.refresh_context();
    }

    /// SIPI: starts at the page that its vector names.
    pub(crate) fn take_sipi(&mut self) {
        let vector = self.requests.sipi_vector.load(Ordering::SeqCst);
        #[allow(clippy::cast_possible_truncation)]
        if self.cpu.start_sipi(vector as u8) {
            self.refresh_context();
            self.starting = true;
        } else {
            self.requests.starting.store(false, Ordering::SeqCst);
        }
    }
}
