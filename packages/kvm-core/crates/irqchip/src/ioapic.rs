//! The IOAPIC: 24 pins, version 0x11, an index and a data window (82093AA data sheet).

use kvm_abi::{KvmError, Reader, Writer};

use crate::deliver::Message;

/// Guest-physical address of the IOAPIC.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;

/// Pins of the IOAPIC.
pub(crate) const IOAPIC_PINS: usize = 24;
/// Bytes of the MMIO window that are decoded.
pub(crate) const IOAPIC_BYTES: u64 = 0x100;

const VERSION: u32 = 0x11;
const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const DELIVERY_STATUS: u64 = 1 << 12;
/// Destination, mask, trigger, polarity, destination mode, delivery mode and vector; remote IRR
/// and delivery status are read-only, the rest is reserved.
const WRITABLE: u64 = 0xff00_0000_0001_afff;
/// After so many EOIs with the line still high the next delivery waits, so that a guest with a
/// broken driver gets some instructions in between. KVM's number.
const STORM: u16 = 10_000;
/// How long it waits then.
const STORM_PAUSE_NS: u64 = 10_000_000;
/// Marks a saved state that has our own fields after KVM's.
const EXTRA_VALID: u32 = 1;

/// The state of the IOAPIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ioapic {
    select: u32,
    id: u32,
    /// Lines that are high. An edge that finds its pin masked is lost, as on hardware.
    irr: u32,
    table: [u64; IOAPIC_PINS],
    /// For each pin, which sources hold it high.
    sources: [u64; IOAPIC_PINS],
    /// EOIs in a row that found the line still high.
    storm: [u16; IOAPIC_PINS],
    /// When what a storm delayed is to be sent.
    late_ns: Option<u64>,
}

/// What servicing a pin asks of the caller, who knows the local APICs.
pub(crate) type Sender<'a> = &'a mut dyn FnMut(&Message) -> u32;

/// What a register write means for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IoapicEvents {
    /// This pin was unmasked.
    pub unmasked: Option<u8>,
    /// This unmasked, level-triggered pin has a request that is to be looked at again.
    pub recheck: Option<u8>,
}

impl Ioapic {
    pub fn new() -> Self {
        Self {
            select: 0,
            id: 0,
            irr: 0,
            table: [MASKED; IOAPIC_PINS],
            sources: [0; IOAPIC_PINS],
            storm: [0; IOAPIC_PINS],
            late_ns: None,
        }
    }

    /// Drives `pin` for one source. `None` while it is masked or waits for an EOI, `Some(0)` if
    /// the request coalesced with an earlier one, else how many local APICs took it.
    pub fn set_line(&mut self, pin: u8, source: u32, level: bool, send: Sender<'_>) -> Option<u32> {
        let index = usize::from(pin);
        let entry = self.table.get(index).copied()?;
        let held = &mut self.sources[index];
        let source = 1u64.checked_shl(source).unwrap_or(0);
        *held = if level { *held | source } else { *held & !source };
        let bit = 1 << pin;
        if *held == 0 {
            self.irr &= !bit;
            return Some(1);
        }
        let was_high = self.irr & bit != 0;
        self.irr |= bit;
        if entry & LEVEL == 0 && was_high {
            return Some(0);
        }
        self.service(pin, send)
    }

    /// Sends the request of `pin` if its entry lets it.
    pub fn service(&mut self, pin: u8, send: Sender<'_>) -> Option<u32> {
        let entry = self.table.get_mut(usize::from(pin))?;
        let level = *entry & LEVEL != 0;
        if *entry & MASKED != 0 || (level && *entry & REMOTE_IRR != 0) {
            return None;
        }
        let accepted = send(&Message::from_redirection(*entry));
        if level && accepted != 0 {
            *entry |= REMOTE_IRR;
        }
        Some(accepted)
    }

    /// Services `pin` if it is level-triggered and its line is still high.
    pub fn recheck(&mut self, pin: u8, send: Sender<'_>) {
        let level = self.table.get(usize::from(pin)).is_some_and(|entry| entry & LEVEL != 0);
        if level && self.irr & (1 << pin) != 0 {
            self.service(pin, send);
        }
    }

    /// The pins whose entries carry `vector`.
    pub fn pins_of(&self, vector: u8) -> impl Iterator<Item = u8> + use<> {
        let table = self.table;
        (0u8..).zip(table).filter(move |(_, entry)| *entry as u8 == vector).map(|(pin, _)| pin)
    }

    /// The vectors of all entries: an EOI of any other vector is none of this chip's business.
    pub fn vectors(&self) -> impl Iterator<Item = u8> {
        self.table.iter().filter(|entry| **entry & MASKED == 0).map(|entry| *entry as u8)
    }

    /// EOI of a level-triggered interrupt for `pin`: it is sent again if the line is still high.
    pub fn end_of_interrupt(&mut self, pin: u8, now: &dyn Fn() -> u64, send: Sender<'_>) {
        let index = usize::from(pin);
        let Some(entry) = self.table.get_mut(index).filter(|entry| **entry & LEVEL != 0) else {
            return;
        };
        *entry &= !REMOTE_IRR;
        if *entry & MASKED != 0 || self.irr & (1 << pin) == 0 {
            self.storm[index] = 0;
            return;
        }
        self.storm[index] += 1;
        if self.storm[index] < STORM {
            self.service(pin, send);
            return;
        }
        self.storm[index] = 0;
        self.late_ns.get_or_insert_with(|| now().saturating_add(STORM_PAUSE_NS));
    }

    /// When `poll` has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.late_ns
    }

    /// Services what a storm delayed, once its time has come.
    pub fn poll(&mut self, now: u64, send: Sender<'_>) {
        if self.late_ns.is_none_or(|at| at > now) {
            return;
        }
        self.late_ns = None;
        for pin in 0..IOAPIC_PINS as u8 {
            self.recheck(pin, send);
        }
    }

    /// Reads the window at `offset`: the index at 0, the indexed register at 0x10.
    pub fn read(&self, offset: u64) -> u32 {
        match offset & 0xf0 {
            0x00 => self.select,
            0x10 => self.read_selected(),
            _ => 0,
        }
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            0 | 2 => self.id << 24,
            1 => (IOAPIC_PINS as u32 - 1) << 16 | VERSION,
            _ => match self.selected_pin() {
                Some(pin) => (self.table[pin] >> (32 * (self.select & 1))) as u32,
                None => u32::MAX,
            },
        }
    }

    fn selected_pin(&self) -> Option<usize> {
        let pin = (self.select.checked_sub(0x10)? >> 1) as usize;
        (pin < IOAPIC_PINS).then_some(pin)
    }

    /// Writes the window at `offset`.
    pub fn write(&mut self, offset: u64, value: u32) -> IoapicEvents {
        match offset & 0xf0 {
            0x00 => self.select = value & 0xff,
            0x10 if self.select == 0 => self.id = value >> 24 & 0xf,
            0x10 => {
                if let Some(pin) = self.selected_pin() {
                    return self.write_entry(pin, value);
                }
            }
            _ => {}
        }
        IoapicEvents::default()
    }

    fn write_entry(&mut self, pin: usize, value: u32) -> IoapicEvents {
        let old = self.table[pin];
        let written = if self.select & 1 != 0 {
            (old & 0xffff_ffff) | u64::from(value) << 32
        } else {
            (old & !0xffff_ffff) | u64::from(value)
        };
        let mut new = (written & WRITABLE) | (old & (REMOTE_IRR | DELIVERY_STATUS));
        if new & LEVEL == 0 {
            // Guests switch an entry to edge and back to simulate the EOI that this version of
            // the chip has no register for.
            new &= !REMOTE_IRR;
        }
        self.table[pin] = new;
        let open = new & MASKED == 0;
        let waits = new & LEVEL != 0 && new & REMOTE_IRR == 0 && self.irr & (1 << pin) != 0;
        IoapicEvents {
            unmasked: (open && old & MASKED != 0).then_some(pin as u8),
            recheck: (open && waits).then_some(pin as u8),
        }
    }

    /// `struct kvm_ioapic_state`, 216 bytes, and after it what KVM does not save: the sources of
    /// each pin, a marker, storm counters and the rest of a storm's pause.
    pub fn save(&self, now: u64) -> Writer {
        let mut w = Writer::new();
        w.u64(IOAPIC_BASE).u32(self.select).u32(self.id);
        // Requests that a load is to send: an edge is not one any more.
        let levels = (0..).zip(self.table).filter(|(_, entry)| entry & LEVEL != 0);
        let levels = levels.fold(0, |bits, (pin, _)| bits | 1 << pin);
        w.u32(self.irr & levels).u32(0);
        self.table.iter().chain(&self.sources).for_each(|v| {
            w.u64(*v);
        });
        w.u32(EXTRA_VALID);
        self.storm.iter().for_each(|n| {
            w.u16(*n);
        });
        w.u64(self.late_ns.map_or(0, |at| at.saturating_sub(now).saturating_add(1)));
        w
    }

    /// Takes over a saved state. As in KVM, requests of an IRR that KVM saved are sent again.
    pub fn load(&mut self, bytes: &[u8], now: u64, send: Sender<'_>) -> Result<(), KvmError> {
        let mut r = Reader::new(bytes);
        let base = r.u64();
        if base != IOAPIC_BASE {
            let reason = format!("the IOAPIC is at {IOAPIC_BASE:#x} and cannot move to {base:#x}");
            return Err(KvmError::invalid(reason));
        }
        *self = Self::new();
        self.select = r.u32() & 0xff;
        self.id = r.u32() & 0xf;
        let irr = r.u32() & ((1 << IOAPIC_PINS) - 1);
        r.u32();
        for entry in &mut self.table {
            *entry = r.u64() & (WRITABLE | REMOTE_IRR | DELIVERY_STATUS);
        }
        for held in &mut self.sources {
            *held = r.u64();
        }
        if r.u32() == EXTRA_VALID {
            self.storm = std::array::from_fn(|_| r.u16().min(STORM - 1));
            self.late_ns = r.u64().checked_sub(1).map(|left| now.saturating_add(left));
            let high = (0..).zip(self.sources).filter(|(_, held)| *held != 0);
            self.irr = high.fold(irr, |bits, (pin, _)| bits | 1 << pin);
            return Ok(());
        }
        self.irr = irr;
        for pin in (0..IOAPIC_PINS as u8).filter(|pin| irr & (1 << pin) != 0) {
            self.service(pin, send);
        }
        Ok(())
    }
}
