//! Accepting interrupts, and which of them the CPU may see (SDM, "Handling Interrupts").

use super::regs::{ERROR_RECEIVE_VECTOR, Regs};
use crate::deliver::mode;
use crate::wake::Wake;

impl Regs {
    /// The processor priority: the higher of the task's and of what is in service.
    pub fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= in_service { self.tpr } else { in_service }
    }

    /// The arbitration priority: as the processor's, with what is requested counted too.
    pub fn apr(&self) -> u8 {
        let task = self.tpr & 0xf0;
        let in_service = self.isr.highest().unwrap_or(0) & 0xf0;
        let requested = self.irr.highest().unwrap_or(0) & 0xf0;
        if task >= requested && task > in_service {
            self.tpr
        } else {
            task.max(in_service).max(requested)
        }
    }

    /// The vector that the CPU would take now, were its IF set.
    pub fn deliverable(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (self.hw_enabled() && vector & 0xf0 > self.ppr() & 0xf0).then_some(vector)
    }

    /// The CPU takes the vector: it moves from IRR to ISR.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.deliverable()?;
        self.irr.clear(vector);
        self.isr.set(vector);
        Some(vector)
    }

    /// Ends the service of the highest vector: it, and whether it was level-triggered. An EOI
    /// with nothing in service means nothing; Linux sends one while it probes the timer.
    pub fn end_of_interrupt(&mut self) -> Option<(u8, bool)> {
        let vector = self.isr.highest()?;
        self.isr.clear(vector);
        Some((vector, self.tmr.contains(vector)))
    }

    /// Takes in an interrupt message. Returns whether it was accepted, and what the CPU itself
    /// must be told. Fixed interrupts only land in IRR.
    pub fn accept(
        &mut self,
        delivery: u8,
        vector: u8,
        level: bool,
        level_triggered: bool,
    ) -> (bool, Option<Wake>) {
        if level_triggered && !level {
            // A de-assert, as in the INIT level de-assert that old MP start-up code sends.
            return (false, None);
        }
        let wake = match delivery {
            mode::FIXED | mode::LOWEST => {
                if !self.hw_enabled() || !self.sw_enabled() {
                    return (false, None);
                }
                if vector < 16 {
                    self.error(ERROR_RECEIVE_VECTOR);
                    return (false, None);
                }
                self.tmr.assign(vector, level_triggered);
                self.irr.set(vector);
                return (true, None);
            }
            mode::SMI => Wake::Smi,
            mode::NMI => Wake::Nmi,
            mode::INIT => Wake::Init,
            mode::STARTUP => Wake::Sipi(vector),
            // ExtINT arrives as the PIC's output; remote read is long gone from hardware.
            _ => return (false, None),
        };
        (true, Some(wake))
    }
}
