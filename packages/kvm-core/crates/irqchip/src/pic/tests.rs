use super::*;
use crate::tests::Xorshift;

/// Initialised as every PC does: vectors 0x30 and 0x38, cascade on 2.
fn pc() -> Pic {
    let mut pic = Pic::new();
    for (port, icw) in [(0x20, [0x30, 0x04]), (0xa0, [0x38, 0x02])] {
        pic.write(port, 0x11);
        pic.write(port + 1, icw[0]);
        pic.write(port + 1, icw[1]);
        pic.write(port + 1, 0x01);
    }
    pic.take_events();
    pic
}

fn pulse(pic: &mut Pic, irq: u8) {
    pic.set_line(irq, 0, true);
    pic.set_line(irq, 0, false);
}

#[test]
fn an_edge_is_delivered_once_and_blocks_lower_ones_until_eoi() {
    let mut pic = pc();
    pulse(&mut pic, 4);
    pulse(&mut pic, 5);
    assert!(pic.output());
    assert_eq!(pic.acknowledge(), 0x34);
    assert!(!pic.output());
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    pic.write(0x20, 0x20);
    assert!(!pic.output(), "4 is still in service");
    pic.write(0x20, 0x20);
    assert_eq!(pic.acknowledge(), 0x35);
    assert_eq!(pic.take_events().acked, 0b1_0010);
}

#[test]
fn the_second_chip_comes_through_input_2() {
    let mut pic = pc();
    pulse(&mut pic, 12);
    assert_eq!(pic.acknowledge(), 0x3c);
    pic.write(0x20, 0x0b);
    pic.write(0xa0, 0x0b);
    assert_eq!((pic.read(0x20), pic.read(0xa0)), (Some(4), Some(0x10)));
    pic.write(0xa0, 0x20);
    pic.write(0x20, 0x62);
    assert_eq!((pic.read(0x20), pic.read(0xa0)), (Some(0), Some(0)));
}

#[test]
fn a_level_line_requests_again_until_it_falls() {
    let mut pic = pc();
    pic.write(0x4d1, 0xff);
    assert_eq!(pic.read(0x4d1), Some(0xde));
    pic.set_line(11, 0, true);
    pic.set_line(11, 3, true);
    pic.set_line(11, 0, false);
    assert_eq!(pic.acknowledge(), 0x3b);
    pic.write(0xa0, 0x20);
    pic.write(0x20, 0x20);
    assert_eq!(pic.acknowledge(), 0x3b, "source 3 still holds the line");
    pic.set_line(11, 3, false);
    pic.write(0xa0, 0x20);
    pic.write(0x20, 0x20);
    assert!(!pic.output());
}

#[test]
fn a_request_that_went_away_is_spurious() {
    let mut pic = pc();
    pic.write(0x4d0, 0x20);
    pic.set_line(5, 0, true);
    pic.set_line(5, 0, false);
    assert_eq!(pic.acknowledge(), 0x37);
    pic.write(0x20, 0x0b);
    assert_eq!(pic.read(0x20), Some(0));
}

#[test]
fn masks_polls_and_rotation() {
    let mut pic = pc();
    pic.write(0x21, 0xff);
    assert_eq!(pic.set_line(3, 0, true), None);
    assert!(!pic.output());
    pic.write(0x21, 0x00);
    assert_eq!(pic.take_events().unmasked, 0xff);
    pic.write(0x20, 0x0c);
    assert_eq!(pic.read(0x20), Some(0x83));
    assert_eq!(pic.read(0x20), Some(0), "polled once only; this is IRR");
    pic.write(0x20, 0xa0);
    pulse(&mut pic, 3);
    pulse(&mut pic, 5);
    assert_eq!(pic.acknowledge(), 0x35, "after rotation 4 is highest and 3 lowest");
    pic.write(0x20, 0x0c);
    assert_eq!(pic.read(0x20), Some(0));
}

#[test]
fn special_mask_mode_lets_others_in() {
    let mut pic = pc();
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    pulse(&mut pic, 6);
    assert!(!pic.output());
    pic.write(0x21, 0x02);
    pic.write(0x20, 0x68);
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn auto_eoi_leaves_nothing_in_service() {
    let mut pic = pc();
    pic.write(0x20, 0x11);
    pic.write(0x21, 0x30);
    pic.write(0x21, 0x04);
    pic.write(0x21, 0x03);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x30);
    assert_eq!(pic.take_events().acked & 1, 1);
    pulse(&mut pic, 7);
    assert_eq!(pic.acknowledge(), 0x37);
}

#[test]
fn single_mode_skips_icw3() {
    let mut pic = Pic::new();
    pic.write(0x20, 0x13);
    pic.write(0x21, 0x40);
    pic.write(0x21, 0x03);
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x41);
}

/// The priority rule said another way: walk the inputs from the highest priority on; the first
/// that is in service (and not excepted) blocks, the first that is requested wins.
fn model_pending(c: &[u8; 16], primary: bool) -> Option<u8> {
    let (irr, imr, isr, add) = (c[1], c[2], c[3], c[4]);
    for step in 0..8 {
        let bit = 1u8 << ((add + step) & 7);
        let excepted = (c[8] != 0 && imr & bit != 0) || (c[12] != 0 && primary && bit == 4);
        if isr & bit != 0 && !excepted {
            return None;
        }
        if irr & !imr & bit != 0 {
            return Some(bit.trailing_zeros() as u8);
        }
    }
    None
}

#[test]
fn priorities_agree_with_the_model_under_random_use() {
    let mut rng = Xorshift::new(1);
    let ports = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
    let mut pic = pc();
    for _ in 0..200_000 {
        let r = rng.next();
        match r % 5 {
            0 => {
                pic.set_line((r >> 8) as u8 & 15, (r >> 16) as u32 & 3, r >> 20 & 1 != 0);
            }
            1 => {
                pic.write(ports[(r >> 8) as usize % 6], (r >> 16) as u8);
            }
            2 => {
                pic.read(ports[(r >> 8) as usize % 6]);
            }
            3 => {
                pic.acknowledge();
            }
            _ => {
                // Non-specific EOI on both, so that the run does not choke on what is in service.
                pic.write(0xa0, 0x20);
                pic.write(0x20, 0x20);
            }
        }
        for (i, chip) in pic.chips.iter().enumerate() {
            assert_eq!(chip.pending(), model_pending(&chip.save(), i == 0));
        }
        assert_eq!(pic.output(), model_pending(&pic.chips[0].save(), true).is_some());
        if r.is_multiple_of(97) {
            let mut copy = Pic::new();
            for i in 0..2 {
                let (state, sources) = pic.save(i);
                copy.load(i, &state, &sources);
            }
            pic.take_events();
            assert_eq!((&copy.chips, copy.sources), (&pic.chips, pic.sources));
        }
    }
}
