//! A hostile guest: random accesses everywhere, and what must hold after each.

use super::{Machine, Xorshift};
use crate::Wake;
use crate::vectors::Vectors;

const PORTS: [u16; 11] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61];

/// One random step; what it observed.
pub(super) fn step(m: &Machine, rng: &mut Xorshift) -> u64 {
    let r = rng.next();
    let value = (rng.next() >> (r >> 58)) as u32;
    let vcpu = (r >> 8) as usize % m.lapics.len();
    let lapic = &m.lapics[vcpu];
    // Mostly registers that exist, sometimes anything.
    let reg = ((r >> 16) as u32) & if r >> 40 & 7 == 0 { 0xfff } else { 0x3f0 };
    match r % 16 {
        0 => m.clock.advance(u64::from(value & 0xf_ffff)),
        1 => m.chip.poll_timers(vcpu as u32),
        2 | 3 => return m.chip.ack_interrupt(vcpu as u32).map_or(256, u64::from),
        4 => m.eoi(vcpu),
        5 => return m.read(vcpu, reg).into(),
        6 => m.write(vcpu, reg, value),
        7 if r >> 44 & 15 == 0 => {
            // Any base, so that all modes occur; more often one that is on.
            let _ = lapic.set_base_by_host(0xfee0_0000 | u64::from(value & 0xd00));
        }
        7 => m.write(vcpu, 0xf0, 0x1ff),
        8 => return lapic.x2apic_read(0x800 + (reg >> 4)).unwrap_or(1 << 63),
        9 => return lapic.x2apic_write(0x800 + (reg >> 4), value.into()).is_ok().into(),
        10 => {
            let port = PORTS[(r >> 16) as usize % PORTS.len()];
            let size = 1 << (r >> 24 & 1);
            return m.chip.pio_write(port, size, value).into();
        }
        11 => {
            let port = PORTS[(r >> 16) as usize % PORTS.len()];
            return m.chip.pio_read(port, 1).map_or(256, u64::from);
        }
        12 => m.ioapic((r >> 16) as u8 & 0x3f, value),
        13 => return m.ioapic_read((r >> 16) as u8 & 0x3f).into(),
        14 => {
            let (gsi, source) = ((r >> 16) as u32 % 26, (r >> 24) as u32 % 3);
            return m.chip.irq_line_status(source, gsi, value & 1 != 0).unwrap() as u64;
        }
        _ => match r >> 16 & 3 {
            0 => {
                let addr = 0xfee0_0000 | u64::from(value & 0xf_f00c);
                return m.chip.signal_msi(addr, (r >> 24) as u32 & 0xffff).unwrap().into();
            }
            1 => lapic.set_tsc_deadline(u64::from(value)),
            2 => lapic.set_cr8((value & 3) as u8),
            _ => return lapic.tsc_deadline(),
        },
    }
    0
}

fn vectors(page: &[u8], at: usize) -> Vectors {
    let word = |i: usize| {
        let bytes = &page[at + 16 * i..at + 16 * i + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    Vectors(std::array::from_fn(word))
}

/// What holds for every local APIC at any time.
fn check(m: &Machine) {
    for (vcpu, lapic) in m.lapics.iter().enumerate() {
        let page = lapic.state();
        let (isr, irr) = (vectors(&page, 0x100), vectors(&page, 0x200));
        assert_eq!(isr.0[0] & 0xffff, 0);
        assert_eq!(irr.0[0] & 0xffff, 0);
        let (tpr, ppr) = (page[0x80], page[0xa0]);
        let in_service = isr.highest().unwrap_or(0) & 0xf0;
        assert_eq!(ppr, if tpr & 0xf0 >= in_service { tpr } else { in_service });
        let on = lapic.base() & 0x800 != 0;
        if !on {
            continue;
        }
        let local = irr.highest().filter(|v| v & 0xf0 > ppr & 0xf0);
        let lint0 = u32::from_le_bytes([page[0x350], page[0x351], page[0x352], 0]);
        if lint0 & 0x1_0700 != 0x700 {
            assert_eq!(lapic.has_interrupt(), local.is_some());
        }
        if local.is_some() {
            assert!(m.chip.has_interrupt(vcpu as u32));
        }
    }
}

#[test]
fn random_accesses_keep_the_invariants() {
    for seed in 0..40 {
        let m = Machine::new(2);
        let mut rng = Xorshift::new(seed);
        for i in 0..5_000 {
            step(&m, &mut rng);
            if i % 16 == 0 {
                check(&m);
            }
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    for seed in 100..140 {
        let m = Machine::new(2);
        let mut rng = Xorshift::new(seed);
        let look = |vcpu: u32| {
            let deadline = m.chip.next_deadline_ns(vcpu).unwrap_or(u64::MAX);
            (m.chip.has_interrupt(vcpu), deadline)
        };
        let mut before = [look(0), look(1)];
        for i in 0..5_000 {
            m.wakers.iter().for_each(|waker| drop(waker.take()));
            step(&m, &mut rng);
            for (vcpu, (had, deadline)) in (0u32..).zip(&mut before) {
                let (has, next) = look(vcpu);
                if (has && !*had) || next < *deadline {
                    let wakes = m.wakers[vcpu as usize].take();
                    assert!(wakes.contains(&Wake::Interrupt), "seed {seed} step {i} vCPU {vcpu}");
                }
                (*had, *deadline) = (has, next);
            }
        }
    }
}

#[test]
fn what_is_acknowledged_is_the_highest_request() {
    let m = Machine::new(1);
    m.write(0, 0x350, 0x10000);
    let mut rng = Xorshift::new(9);
    for _ in 0..20_000 {
        let r = rng.next();
        match r % 3 {
            0 => drop(m.chip.signal_msi(0xfee0_0000, (r >> 8) as u32 & 0xff)),
            1 => m.eoi(0),
            _ => {
                let page = m.lapics[0].state();
                let best = vectors(&page, 0x200).highest().filter(|v| v & 0xf0 > page[0xa0] & 0xf0);
                assert_eq!(m.chip.ack_interrupt(0), best);
            }
        }
    }
}

#[test]
fn threads_in_parallel_do_not_deadlock() {
    let m = Machine::new(4);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let m = &m;
            scope.spawn(move || {
                let mut rng = Xorshift::new(seed);
                for _ in 0..5_000 {
                    step_shared(m, &mut rng);
                }
            });
        }
    });
    check(&m);
}

/// Without the helper accesses that need two steps and would interleave.
fn step_shared(m: &Machine, rng: &mut Xorshift) {
    step(m, rng);
    m.chip.next_deadline_ns(0);
}
