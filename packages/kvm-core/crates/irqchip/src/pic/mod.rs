//! The pair of 8259As of a PC: the second one's INT is input 2 of the first.

mod chip;
#[cfg(test)]
mod tests;

use chip::Chip;

/// Both controllers, their port decoding and the levels of the sixteen lines.
#[derive(Clone, Debug)]
pub(crate) struct Pic {
    chips: [Chip; 2],
    /// For each line, which sources hold it high.
    sources: [u64; 16],
}

/// What an access meant for others: bit n stands for line n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PicEvents {
    /// Service of these lines ended.
    pub acked: u16,
    /// These lines were unmasked.
    pub unmasked: u16,
}

impl Pic {
    pub fn new() -> Self {
        Self { chips: [Chip::new(true), Chip::new(false)], sources: [0; 16] }
    }

    /// INT of the first chip.
    pub fn output(&self) -> bool {
        self.chips[0].pending().is_some()
    }

    /// Drives line `irq` (0 to 15) for one source. `None` while masked, else whether this made a
    /// new request.
    pub fn set_line(&mut self, irq: u8, source: u32, level: bool) -> Option<bool> {
        let irq = irq & 15;
        let held = &mut self.sources[usize::from(irq)];
        let bit = 1u64.checked_shl(source).unwrap_or(0);
        *held = if level { *held | bit } else { *held & !bit };
        let level = *held != 0;
        let result = self.chips[usize::from(irq >> 3)].set_line(irq & 7, level);
        self.cascade();
        result
    }

    /// Passes the second chip's request on. A pulse: input 2 is an edge input.
    fn cascade(&mut self) {
        if self.chips[1].pending().is_some() {
            self.chips[0].set_line(2, true);
            self.chips[0].set_line(2, false);
        }
    }

    /// The INTA cycle: the vector, or the spurious one of a request that went away.
    pub fn acknowledge(&mut self) -> u8 {
        let [first, second] = &mut self.chips;
        let vector = match first.pending() {
            Some(2) => {
                first.acknowledge(2);
                let irq = second.pending();
                if let Some(irq) = irq {
                    second.acknowledge(irq);
                }
                second.irq_base | irq.unwrap_or(7)
            }
            Some(irq) => {
                first.acknowledge(irq);
                first.irq_base | irq
            }
            None => first.irq_base | 7,
        };
        self.cascade();
        vector
    }

    /// Reads one byte; `None` if the port is not the PIC's.
    pub fn read(&mut self, port: u16) -> Option<u8> {
        let value = match port {
            0x20 | 0x21 => self.chips[0].read(port & 1 != 0),
            0xa0 | 0xa1 => self.chips[1].read(port & 1 != 0),
            0x4d0 => self.chips[0].elcr,
            0x4d1 => self.chips[1].elcr,
            _ => return None,
        };
        self.cascade();
        Some(value)
    }

    /// Writes one byte; false if the port is not the PIC's.
    pub fn write(&mut self, port: u16, value: u8) -> bool {
        match port {
            0x20 => self.chips[0].write_command(value),
            0x21 => self.chips[0].write_data(value),
            0xa0 => self.chips[1].write_command(value),
            0xa1 => self.chips[1].write_data(value),
            0x4d0 => self.chips[0].write_elcr(value),
            0x4d1 => self.chips[1].write_elcr(value),
            _ => return false,
        }
        self.cascade();
        true
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> PicEvents {
        let mut both = |f: fn(&mut Chip) -> &mut u8| {
            let [low, high] = &mut self.chips;
            u16::from_le_bytes([std::mem::take(f(low)), std::mem::take(f(high))])
        };
        PicEvents { acked: both(|c| &mut c.acked), unmasked: both(|c| &mut c.unmasked) }
    }

    /// The state of one chip (0 or 1) in KVM's layout, and which sources hold its lines.
    pub fn save(&self, chip: usize) -> ([u8; 16], [u64; 8]) {
        let mut sources = [0; 8];
        sources.copy_from_slice(&self.sources[chip * 8..chip * 8 + 8]);
        (self.chips[chip].save(), sources)
    }

    /// Takes over the state of one chip (0 or 1).
    pub fn load(&mut self, chip: usize, state: &[u8; 16], sources: &[u64; 8]) {
        self.chips[chip].load(state);
        self.sources[chip * 8..chip * 8 + 8].copy_from_slice(sources);
    }
}
