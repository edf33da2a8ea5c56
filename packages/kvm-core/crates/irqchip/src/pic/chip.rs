//! One 8259A. Register names are the data sheet's: IRR, ISR, IMR, ICW1..4, OCW1..3.

/// What software writes next to the data port.
const READY: u8 = 0;
const WANT_ICW2: u8 = 1;
const WANT_ICW3: u8 = 2;
const WANT_ICW4: u8 = 3;
/// ICW2 of a chip that ICW1 declared single, which has no ICW3.
const WANT_ICW2_SINGLE: u8 = 4;

/// One controller. Bytes, not booleans, where `kvm_pic_state` has bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chip {
    /// Levels as last seen, for edge detection.
    pub last_irr: u8,
    pub irr: u8,
    pub imr: u8,
    pub isr: u8,
    /// The input of highest priority.
    pub priority_add: u8,
    /// Vector of input 0 (ICW2).
    pub irq_base: u8,
    pub read_isr: bool,
    pub poll: bool,
    pub special_mask: bool,
    pub init_state: u8,
    pub auto_eoi: bool,
    pub rotate_on_auto_eoi: bool,
    pub special_fully_nested: bool,
    pub init4: bool,
    /// Inputs that are level-triggered.
    pub elcr: u8,
    /// Inputs that may be: 0 to 2 of the first chip and 0 and 5 of the second are always edges.
    pub elcr_mask: u8,
    /// Is the second chip's INT wired to input 2?
    pub primary: bool,
    /// Inputs whose service ended, for the caller to collect.
    pub acked: u8,
    /// Inputs that were just unmasked, for the caller to collect.
    pub unmasked: u8,
}

impl Chip {
    pub fn new(primary: bool) -> Self {
        let elcr_mask = if primary { 0xf8 } else { 0xde };
        Self { primary, elcr_mask, ..Self::default() }
    }

    /// Drives input `irq`. `None` while it is masked, else whether this made a new request.
    pub fn set_line(&mut self, irq: u8, level: bool) -> Option<bool> {
        let bit = 1 << (irq & 7);
        let mut fresh = true;
        if !level {
            self.last_irr &= !bit;
            if self.elcr & bit != 0 {
                self.irr &= !bit;
            }
        } else {
            if self.elcr & bit != 0 || self.last_irr & bit == 0 {
                fresh = self.irr & bit == 0;
                self.irr |= bit;
            }
            self.last_irr |= bit;
        }
        (self.imr & bit == 0).then_some(fresh)
    }

    /// Distance of the first set input from the one of highest priority; 8 if there is none.
    fn priority(&self, inputs: u8) -> u8 {
        // Bit n of the rotated word is the input of priority n; zero has eight trailing zeros.
        inputs.rotate_right(u32::from(self.priority_add & 7)).trailing_zeros() as u8
    }

    fn input_of(&self, priority: u8) -> u8 {
        priority.wrapping_add(self.priority_add) & 7
    }

    /// The input that INT is asserted for: requested, not masked, above all that is in service.
    pub fn pending(&self) -> Option<u8> {
        let requested = self.priority(self.irr & !self.imr);
        if requested == 8 {
            return None;
        }
        let mut in_service = self.isr;
        if self.special_mask {
            in_service &= !self.imr;
        }
        if self.special_fully_nested && self.primary {
            // The second chip may interrupt its own handler with something of higher priority.
            in_service &= !(1 << 2);
        }
        (requested < self.priority(in_service)).then(|| self.input_of(requested))
    }

    /// Interrupt acknowledge for `irq`: it moves from IRR to ISR.
    pub fn acknowledge(&mut self, irq: u8) {
        let bit = 1 << (irq & 7);
        self.isr |= bit;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.priority_add = (irq + 1) & 7;
            }
            self.end_of_interrupt(irq);
        }
    }

    fn end_of_interrupt(&mut self, irq: u8) {
        let bit = 1 << (irq & 7);
        self.isr &= !bit;
        self.acked |= bit;
    }

    /// Writes A0 = 0: ICW1, OCW2 or OCW3, told apart by bits 4 and 3.
    pub fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.write_icw1(value);
        } else if value & 0x08 != 0 {
            if value & 0x04 != 0 {
                self.poll = true;
            }
            if value & 0x02 != 0 {
                self.read_isr = value & 1 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_icw1(&mut self, value: u8) {
        let edges = self.irr & !self.elcr;
        self.init4 = value & 1 != 0;
        self.last_irr = 0;
        self.irr &= self.elcr;
        self.imr = 0;
        // ISR is kept on purpose: an EOI of what was in service must still be reported.
        self.priority_add = 0;
        self.special_mask = false;
        self.read_isr = false;
        if !self.init4 {
            self.special_fully_nested = false;
            self.auto_eoi = false;
        }
        // LTIM (bit 3) has no effect in a PC: the ELCR decides per input.
        self.init_state = if value & 2 != 0 { WANT_ICW2_SINGLE } else { WANT_ICW2 };
        // Requests that the reset dropped count as handled, or who waits for that waits forever.
        self.isr &= !edges;
        self.acked |= edges;
    }

    fn write_ocw2(&mut self, value: u8) {
        let irq = value & 7;
        let command = value >> 5;
        match command {
            0 | 4 => self.rotate_on_auto_eoi = command == 4,
            1 | 5 => {
                let priority = self.priority(self.isr);
                if priority < 8 {
                    let irq = self.input_of(priority);
                    if command == 5 {
                        self.priority_add = (irq + 1) & 7;
                    }
                    self.end_of_interrupt(irq);
                }
            }
            3 => self.end_of_interrupt(irq),
            6 => self.priority_add = (irq + 1) & 7,
            7 => {
                self.priority_add = (irq + 1) & 7;
                self.end_of_interrupt(irq);
            }
            _ => {}
        }
    }

    /// Writes A0 = 1: OCW1 (the mask), or the ICWs after ICW1.
    pub fn write_data(&mut self, value: u8) {
        let icw4_or_ready = if self.init4 { WANT_ICW4 } else { READY };
        match self.init_state {
            WANT_ICW2 | WANT_ICW2_SINGLE => {
                self.irq_base = value & 0xf8;
                let single = self.init_state == WANT_ICW2_SINGLE;
                self.init_state = if single { icw4_or_ready } else { WANT_ICW3 };
            }
            // The wiring of a PC is fixed, whatever ICW3 says.
            WANT_ICW3 => self.init_state = icw4_or_ready,
            WANT_ICW4 => {
                self.special_fully_nested = value & 0x10 != 0;
                self.auto_eoi = value & 0x02 != 0;
                self.init_state = READY;
            }
            _ => {
                self.unmasked |= self.imr & !value;
                self.imr = value;
            }
        }
    }

    /// Reads A0 = 0 (IRR or ISR) or A0 = 1 (IMR); after OCW3's P bit either acknowledges.
    pub fn read(&mut self, data: bool) -> u8 {
        if self.poll {
            self.poll = false;
            return match self.pending() {
                Some(irq) => {
                    self.acknowledge(irq);
                    0x80 | irq
                }
                None => 0,
            };
        }
        match (data, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr,
        }
    }

    /// Writes the edge/level control register.
    pub fn write_elcr(&mut self, value: u8) {
        self.elcr = value & self.elcr_mask;
    }

    /// `struct kvm_pic_state`: sixteen bytes.
    pub fn save(&self) -> [u8; 16] {
        [
            self.last_irr,
            self.irr,
            self.imr,
            self.isr,
            self.priority_add,
            self.irq_base,
            self.read_isr.into(),
            self.poll.into(),
            self.special_mask.into(),
            self.init_state,
            self.auto_eoi.into(),
            self.rotate_on_auto_eoi.into(),
            self.special_fully_nested.into(),
            self.init4.into(),
            self.elcr,
            self.elcr_mask,
        ]
    }

    /// Takes over a saved state; what hardware cannot hold is cut off.
    pub fn load(&mut self, s: &[u8; 16]) {
        *self = Self {
            last_irr: s[0],
            irr: s[1],
            imr: s[2],
            isr: s[3],
            priority_add: s[4] & 7,
            irq_base: s[5] & 0xf8,
            read_isr: s[6] != 0,
            poll: s[7] != 0,
            special_mask: s[8] != 0,
            init_state: if s[9] <= WANT_ICW2_SINGLE { s[9] } else { READY },
            auto_eoi: s[10] != 0,
            rotate_on_auto_eoi: s[11] != 0,
            special_fully_nested: s[12] != 0,
            init4: s[13] != 0,
            elcr: s[14] & self.elcr_mask,
            ..Self::new(self.primary)
        };
    }
}
