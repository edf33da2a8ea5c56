//! A state saved at any point and loaded into a fresh machine behaves the same from there on.

use kvm_abi::Clock;

use super::random::step;
use super::{Machine, Xorshift};

/// Copies everything in the order that a VMM uses: APIC base, local APICs, deadline, chips, PIT.
fn copy(from: &Machine, vcpus: u32) -> Machine {
    let to = Machine::new(vcpus);
    to.clock.set(from.clock.now_ns());
    // Timers that are due are fired by the saving itself, which may reach the other chips.
    let pit = from.chip.pit_state().unwrap();
    let pages: Vec<_> = from.lapics.iter().map(|lapic| lapic.state()).collect();
    for ((old, new), page) in from.lapics.iter().zip(&to.lapics).zip(&pages) {
        new.set_base_by_host(old.base()).unwrap();
        new.set_state(page).unwrap();
        new.set_tsc_deadline(old.tsc_deadline());
    }
    for chip in 0..3 {
        let state = from.chip.irqchip_state(chip).unwrap();
        to.chip.set_irqchip_state(chip, &state).unwrap();
    }
    to.chip.set_pit_state(&pit).unwrap();
    to
}

/// Compares all that a guest can see without changing it.
fn assert_same(new: &Machine, old: &Machine, context: &str) {
    let at = |a: &[u8], b: &[u8]| a.iter().zip(b).position(|(a, b)| a != b);
    for (i, (a, b)) in new.lapics.iter().zip(&old.lapics).enumerate() {
        assert_eq!(at(&a.state(), &b.state()), None, "{context}: local APIC {i} differs");
    }
    for chip in 0..3 {
        let [a, b] = [new, old].map(|m| m.chip.irqchip_state(chip).unwrap());
        assert_eq!(at(&a, &b), None, "{context}: chip {chip} differs");
    }
    assert_eq!(new.chip.pit_state(), old.chip.pit_state(), "{context}");
    for vcpu in 0..old.lapics.len() as u32 {
        let [a, b] = [new, old].map(|m| m.chip.has_interrupt(vcpu));
        assert_eq!(a, b, "{context}: pending on {vcpu}");
        let [a, b] = [new, old].map(|m| m.chip.next_deadline_ns(vcpu));
        assert_eq!(a, b, "{context}: deadline of {vcpu}");
    }
}

#[test]
fn random_states_continue_the_same() {
    for seed in 0..300 {
        let mut rng = Xorshift::new(seed);
        let old = Machine::new(2);
        for _ in 0..300 {
            step(&old, &mut rng);
        }
        let new = copy(&old, 2);
        assert_same(&new, &old, &format!("seed {seed} loaded"));
        let mut again = Xorshift::new(seed + 1_000_000);
        let mut same = Xorshift::new(seed + 1_000_000);
        for i in 0..300 {
            assert_eq!(step(&old, &mut again), step(&new, &mut same), "seed {seed} step {i}");
        }
        assert_same(&new, &old, &format!("seed {seed} continued"));
    }
}

#[test]
fn a_state_of_kvm_has_zeros_where_ours_has_more() {
    let m = Machine::new(1);
    m.write(0, 0x3e0, 0xb);
    m.write(0, 0x320, 0x2_0040);
    m.write(0, 0x380, 1_000_000);
    m.clock.advance(300_000);
    let mut page = m.lapics[0].state();
    page[0x394..0x39c].fill(0);
    m.lapics[0].set_state(&page).unwrap();
    assert_eq!(m.lapics[0].next_deadline_ns(), Some(1_000_000));
    let mut ioapic = m.chip.irqchip_state(2).unwrap();
    ioapic[216..].fill(0);
    m.chip.set_irqchip_state(2, &ioapic).unwrap();
    ioapic[0] = 1;
    assert!(m.chip.set_irqchip_state(2, &ioapic).is_err());
    assert!(m.chip.irqchip_state(3).is_err());
    m.chip.reset();
    assert_eq!(m.ioapic_read(0x10), 0x10000);
}

#[test]
fn a_page_of_another_apic_is_refused_with_wide_ids() {
    let m = Machine::new(2);
    m.chip.set_wide_ids(true);
    for lapic in &m.lapics {
        lapic.set_base(lapic.base() | 0x400).unwrap();
    }
    assert!(m.lapics[0].set_state(&m.lapics[1].state()).is_err());
    assert!(m.lapics[1].set_state(&m.lapics[1].state()).is_ok());
}
