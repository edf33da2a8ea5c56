use super::channel::{ns_of, ticks_in};
use super::*;

/// Time after exactly `ticks`.
fn at(ticks: u64) -> u64 {
    ns_of(ticks)
}

/// A PIT whose counter 2 runs in `mode` from `count`, loaded at time 0 with its gate high.
fn counter2(mode: u8, count: u16, bcd: bool) -> Pit {
    let mut pit = Pit::new(true);
    pit.write(0x61, 1, 0);
    pit.write(0x43, 0xb0 | mode << 1 | u8::from(bcd), 0);
    let [low, high] = count.to_le_bytes();
    pit.write(0x42, low, 0);
    pit.write(0x42, high, 0);
    if matches!(mode, 1 | 5) {
        pit.write(0x61, 0, 0);
        pit.write(0x61, 1, 0);
    }
    pit
}

fn count(pit: &mut Pit, now: u64) -> u16 {
    pit.write(0x43, 0x80, now);
    u16::from_le_bytes([pit.read(0x42, now), pit.read(0x42, now)])
}

fn out(pit: &mut Pit, now: u64) -> bool {
    pit.read(0x61, now) & 0x20 != 0
}

#[test]
fn ticks_and_nanoseconds_agree() {
    for ticks in [0, 1, 2, 1193, 65_536, 1_193_182, 1 << 50] {
        assert_eq!(ticks_in(ns_of(ticks)), ticks);
    }
    assert_eq!(ns_of(1_193_182), 1_000_000_000);
}

#[test]
fn the_modes_count_and_drive_out() {
    // mode, then (ticks, count, OUT) for an initial count of 10.
    type Steps<'a> = &'a [(u64, u16, bool)];
    let table: [(u8, Steps<'_>); 6] = [
        (0, &[(0, 10, false), (9, 1, false), (10, 0, true), (11, 0xffff, true)]),
        (1, &[(0, 10, false), (9, 1, false), (10, 0, true), (11, 0xffff, true)]),
        (2, &[(0, 10, true), (8, 2, true), (9, 1, false), (10, 10, true), (19, 1, false)]),
        (3, &[(0, 10, true), (4, 2, true), (5, 10, false), (9, 2, false), (10, 10, true)]),
        (4, &[(0, 10, true), (10, 0, false), (11, 0xffff, true)]),
        (5, &[(0, 10, true), (10, 0, false), (11, 0xffff, true)]),
    ];
    for (mode, steps) in table {
        let mut pit = counter2(mode, 10, false);
        for &(ticks, value, level) in steps {
            assert_eq!(count(&mut pit, at(ticks)), value, "mode {mode} at {ticks}");
            assert_eq!(out(&mut pit, at(ticks)), level, "OUT of mode {mode} at {ticks}");
        }
    }
}

#[test]
fn the_gate_stops_or_restarts() {
    let mut pit = counter2(0, 1000, false);
    pit.write(0x61, 0, at(100));
    assert_eq!(count(&mut pit, at(500)), 900);
    pit.write(0x61, 1, at(500));
    assert_eq!(count(&mut pit, at(600)), 800);
    let mut pit = counter2(2, 1000, false);
    pit.write(0x61, 0, at(999));
    assert!(out(&mut pit, at(999)), "OUT goes high with the gate low");
    pit.write(0x61, 1, at(5000));
    assert_eq!(count(&mut pit, at(5100)), 900);
    let mut pit = counter2(1, 1000, false);
    pit.write(0x61, 0, at(500));
    assert_eq!(count(&mut pit, at(600)), 400, "a one-shot does not mind");
    pit.write(0x61, 1, at(700));
    assert_eq!(count(&mut pit, at(800)), 900, "but can be retriggered");
}

#[test]
fn bcd_counts_in_decimal() {
    let mut pit = counter2(2, 0x1000, true);
    assert_eq!(count(&mut pit, at(1)), 0x0999);
    let mut pit = counter2(0, 0, true);
    assert_eq!(count(&mut pit, at(1)), 0x9999);
    assert_eq!(count(&mut pit, at(10_000)), 0);
    assert!(out(&mut pit, at(10_000)));
}

#[test]
fn latches_and_read_back() {
    let mut pit = counter2(2, 0x1234, false);
    pit.write(0x43, 0x80, at(4));
    pit.write(0x43, 0x80, at(0x100));
    assert_eq!([pit.read(0x42, at(0x200)), pit.read(0x42, at(0x200))], [0x30, 0x12]);
    // Read-back of status and count of counter 2: the status comes first.
    pit.write(0x43, 0xc8, at(5));
    let bytes = [0; 3].map(|_: u8| pit.read(0x42, at(9)));
    assert_eq!(bytes, [0xb4, 0x2f, 0x12]);
    // After a control word the count is null until one is written.
    pit.write(0x43, 0xb0, at(10));
    pit.write(0x43, 0xe8, at(10));
    assert_eq!(pit.read(0x42, at(10)), 0x70);
    assert!(!out(&mut pit, at(10)));
    pit.write(0x42, 5, at(10));
    assert!(!out(&mut pit, at(100)), "half a count does not run");
    pit.write(0x42, 0, at(100));
    assert!(out(&mut pit, at(106)));
}

#[test]
fn single_byte_access() {
    let mut pit = Pit::new(true);
    pit.write(0x61, 1, 0);
    pit.write(0x43, 0xa4, 0);
    pit.write(0x42, 0x12, 0);
    assert_eq!(pit.read(0x42, 0), 0x12);
    pit.write(0x43, 0x94, 0);
    pit.write(0x42, 0x12, 0);
    assert_eq!(pit.read(0x42, at(2)), 0x10);
}

#[test]
fn port_61_shows_what_it_should() {
    let mut pit = Pit::new(true);
    pit.write(0x61, 0xff, 0);
    assert_eq!(pit.read(0x61, 0) & 0xcf, 3);
    let toggles = (0..100).filter(|i| pit.read(0x61, i * 16_384) & 0x10 != 0).count();
    assert_eq!(toggles, 50);
    assert!(!Pit::new(false).owns(0x61));
}

fn counter0(mode: u8, count: u16) -> Pit {
    let mut pit = Pit::new(true);
    pit.write(0x43, 0x30 | mode << 1, 0);
    let [low, high] = count.to_le_bytes();
    pit.write(0x40, low, 0);
    pit.write(0x40, high, 0);
    pit
}

#[test]
fn counter_0_ticks_without_drift() {
    let mut pit = counter0(2, 1193);
    let mut now = 0;
    for n in 1..=10_000u64 {
        now = pit.ticks.deadline().unwrap();
        assert_eq!(now, at(1193 * n));
        assert!(pit.ticks.poll(now));
        assert!(!pit.ticks.poll(now));
        assert!(!pit.ticks.acknowledge());
    }
    assert_eq!(now, 9_998_474_667, "a thousandth of a second is 1193.182 ticks");
    pit.write(0x43, 0x34, now);
    assert_eq!(pit.ticks.deadline(), None, "a control word stops it");
}

#[test]
fn one_shots_fire_once_and_fast_periods_are_limited() {
    for mode in [0, 4] {
        let mut pit = counter0(mode, 100);
        assert!(!pit.ticks.poll(at(100) - 1));
        assert!(pit.ticks.poll(at(100)));
        assert_eq!(pit.ticks.deadline(), None);
    }
    let pit = counter0(2, 2);
    assert!(pit.ticks.deadline().unwrap() >= 200_000);
}

#[test]
fn missed_ticks_are_counted_in_one_step() {
    let mut pit = counter0(3, 1193);
    assert!(pit.ticks.poll(at(1193 * 5000)));
    assert_eq!(pit.ticks.pending, 5000);
    assert!(!pit.ticks.poll(at(1193 * 5001)));
    assert_eq!(pit.ticks.pending, 5001);
    let reinjected = (0..).take_while(|_| pit.ticks.acknowledge()).count();
    assert_eq!(reinjected, 5000);
    assert!(pit.ticks.poll(at(1193 * 5002)));
}

#[test]
fn states_round_trip_under_another_clock() {
    for mode in 0..6 {
        let mut pit = counter0(mode, 5000);
        pit.write(0x43, 0xb0 | mode << 1, 0);
        pit.write(0x42, 0x10, 0);
        pit.write(0x42, 0x20, 0);
        pit.write(0x61, 3, at(10));
        let now = at(2000);
        pit.ticks.poll(now);
        let bytes = pit.save(now).to_bytes();
        assert_eq!(bytes.len(), PIT_STATE_BYTES);
        let mut copy = Pit::new(true);
        // A clock that has only just started.
        copy.load(&PitState::from_bytes(&bytes).unwrap(), 7);
        assert_eq!(copy.ticks.pending, pit.ticks.pending);
        let deadline = |p: &Pit, origin: u64| p.ticks.deadline().map(|ns| ns - origin);
        assert_eq!(deadline(&copy, 7), deadline(&pit, now));
        for later in [0, 1_000_000, 12_345_678] {
            for (a, b) in [(0x40, 0x40), (0x42, 0x42), (0x61, 0x61)] {
                let mask = if a == 0x61 { 0x2f } else { 0xff };
                let old = pit.read(a, now + later) & mask;
                assert_eq!(copy.read(b, 7 + later) & mask, old, "mode {mode} port {a:#x}");
            }
        }
    }
    assert!(PitState::from_bytes(&[0; 111]).is_err());
}
