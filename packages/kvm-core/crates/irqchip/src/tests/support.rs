//! A clock that tests turn, a waker that remembers, and random numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kvm_abi::Clock;

use crate::irqchip::{IOAPIC_BASE, Irqchip};
use crate::lapic::Lapic;
use crate::pit::KVM_PIT_SPEAKER_DUMMY;
use crate::sync::lock;
use crate::wake::{VcpuWaker, Wake};

/// Time moves only when a test says so.
#[derive(Debug, Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn advance(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::SeqCst);
    }

    pub fn set(&self, ns: u64) {
        self.0.store(ns, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn wall_ns(&self) -> u64 {
        self.now_ns()
    }
}

/// Remembers why it was woken.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Wake>>);

impl Recorder {
    /// What came since the last call.
    pub fn take(&self) -> Vec<Wake> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl VcpuWaker for Recorder {
    fn wake(&self, why: Wake) {
        lock(&self.0).push(why);
    }
}

/// A small, seeded generator (Marsaglia's xorshift64).
pub(crate) struct Xorshift(u64);

impl Xorshift {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// An irqchip with a PIT and some vCPUs whose local APICs are on.
pub(crate) struct Machine {
    pub clock: Arc<ManualClock>,
    pub chip: Arc<Irqchip>,
    pub lapics: Vec<Arc<Lapic>>,
    pub wakers: Vec<Arc<Recorder>>,
}

impl Machine {
    pub fn new(vcpus: u32) -> Self {
        let clock = Arc::new(ManualClock::default());
        let chip = Irqchip::new(Arc::clone(&clock) as Arc<dyn Clock>);
        chip.create_pit(KVM_PIT_SPEAKER_DUMMY).unwrap();
        let wakers: Vec<_> = (0..vcpus).map(|_| Arc::new(Recorder::default())).collect();
        let add = |(id, waker): (u32, &Arc<Recorder>)| {
            chip.add_vcpu(id, Arc::clone(waker) as Arc<dyn VcpuWaker>).unwrap()
        };
        let lapics: Vec<_> = (0..).zip(&wakers).map(add).collect();
        let machine = Self { clock, chip, lapics, wakers };
        for id in 0..vcpus as usize {
            machine.write(id, 0xf0, 0x1ff);
        }
        machine
    }

    /// Writes a register of a local APIC through its window.
    pub fn write(&self, vcpu: usize, reg: u32, value: u32) {
        self.lapics[vcpu].mmio_write(reg, &value.to_le_bytes());
    }

    /// Reads a register of a local APIC through its window.
    pub fn read(&self, vcpu: usize, reg: u32) -> u32 {
        let mut data = [0; 4];
        self.lapics[vcpu].mmio_read(reg, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn eoi(&self, vcpu: usize) {
        self.write(vcpu, 0xb0, 0);
    }

    /// Writes an IOAPIC register through index and window.
    pub fn ioapic(&self, register: u8, value: u32) {
        assert!(self.chip.mmio_write(IOAPIC_BASE, &u32::from(register).to_le_bytes()));
        assert!(self.chip.mmio_write(IOAPIC_BASE + 0x10, &value.to_le_bytes()));
    }

    pub fn ioapic_read(&self, register: u8) -> u32 {
        let mut data = [0; 4];
        assert!(self.chip.mmio_write(IOAPIC_BASE, &u32::from(register).to_le_bytes()));
        assert!(self.chip.mmio_read(IOAPIC_BASE + 0x10, &mut data));
        u32::from_le_bytes(data)
    }

    /// Writes a redirection entry, high half first.
    pub fn redirect(&self, pin: u8, entry: u64) {
        self.ioapic(0x11 + 2 * pin, (entry >> 32) as u32);
        self.ioapic(0x10 + 2 * pin, entry as u32);
    }

    pub fn outb(&self, port: u16, value: u8) {
        assert!(self.chip.pio_write(port, 1, value.into()));
    }

    pub fn inb(&self, port: u16) -> u8 {
        self.chip.pio_read(port, 1).unwrap() as u8
    }

    /// Lets time pass as a sleeping vCPU 0 sees it: every deadline is polled when it comes.
    pub fn sleep(&self, ns: u64) {
        let end = self.clock.now_ns() + ns;
        while let Some(at) = self.chip.next_deadline_ns(0).filter(|at| *at <= end) {
            self.clock.set(at.max(self.clock.now_ns()));
            self.chip.poll_timers(0);
        }
        self.clock.set(end);
    }
}

impl Machine {
    pub fn clock_ns(&self) -> u64 {
        self.clock.now_ns()
    }
}
