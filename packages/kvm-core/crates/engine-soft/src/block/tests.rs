//! The cache of decoded blocks.

use super::*;
use crate::cold;

const CODE: Code = Code { entry: 0x100, linked: 0x101, forward: 0x102 };

fn block(gpa: u64, bytes: u16, second_page: Option<u64>) -> BlockBox {
    BlockBox::new(&[], Vec::new(), bytes, gpa, second_page)
}

#[test]
fn a_store_into_code_withdraws_it_and_one_beside_does_not() {
    let mut c = BlockCache::default();
    let at = c.insert(key(0x1000, 64), block(0x1000, 10, None));
    c.bring_near(key(0x1000, 64), at);
    c.enter(0x9000, 5, CODE, 0x1000);
    assert_eq!((c.near(key(0x1000, 64)), c.entries.find(0x9000, 5)), (Some(at), Some(CODE)));
    assert!(!c.invalidate(0x1800, 8));
    assert!(c.find(key(0x1000, 64)).is_some());
    assert!(c.invalidate(0x1008, 1));
    assert!(c.find(key(0x1000, 64)).is_none() && c.near(key(0x1000, 64)).is_none());
    assert_eq!(c.invalidated, 1);
}

#[test]
fn only_what_a_store_changes_goes_unless_it_is_translated() {
    let mut c = BlockCache::default();
    for (gpa, bytes) in [(0x1000, 10), (0x100a, 10), (0x1014, 1)] {
        c.insert(key(gpa, 16), block(gpa, bytes, None));
    }
    c.insert(key(0x1fff, 16), block(0x1fff, 3, Some(0x2000)));
    let found =
        |c: &BlockCache| [0x1000, 0x100a, 0x1014, 0x1fff].map(|gpa| c.find(key(gpa, 16)).is_some());
    assert!(!c.invalidate(0x100b, 4));
    assert_eq!(found(&c), [true, false, true, true]);
    assert!(!c.invalidate(0x1008, 6));
    assert_eq!(found(&c), [false, false, true, true]);
    // Of the other page it is all there is.
    assert!(c.invalidate(0x2001, 1));
    assert_eq!(found(&c), [false, false, true, false]);
    c.insert(key(0x1000, 16), block(0x1000, 10, None));
    c.set_translated(key(0x1000, 16), 1);
    assert!(c.invalidate(0x1003, 1));
    assert_eq!(found(&c), [false; 4]);
    assert_eq!((c.len(), c.invalidated), (0, 5));
}

fn run(block: *const Block) {
    // SAFETY: in the cache.
    assert!(!unsafe { (*block).heats_to(200) });
}

#[test]
fn what_ran_again_outlives_what_ran_once() {
    let mut c = BlockCache::default();
    let again = c.insert(key(0x1000, 64), block(0x1000, 10, None));
    c.bring_near(key(0x1000, 64), again);
    let once = c.insert(key(0x2000, 64), block(0x2000, 10, None));
    c.bring_near(key(0x2000, 64), once);
    run(once);
    for round in 0..10u64 {
        run(again);
        run(again);
        for n in 0..cold::LEAST as u64 {
            let at = 0x10_0000 + (round * cold::LEAST as u64 + n) * 64;
            c.make_room();
            c.insert(key(at, 64), block(at, 10, None));
            assert!(c.len() <= cold::LEAST);
        }
    }
    assert!(c.find(key(0x1000, 64)).is_some());
    assert!(c.find(key(0x2000, 64)).is_none() && c.near(key(0x2000, 64)).is_none());
    assert!(c.released.contains(&0x2000) && !c.released.contains(&0x1000));
    // It does not stay for ever.
    for n in 0..3 * cold::LEAST as u64 {
        c.make_room();
        let at = 0x100_0000 + n * 64;
        c.insert(key(at, 64), block(at, 10, None));
    }
    assert!(c.find(key(0x1000, 64)).is_none() && c.near(key(0x1000, 64)).is_none());
}

#[test]
fn there_is_more_room_for_what_comes_back() {
    let mut c = BlockCache::default();
    // More than there is room for, again and again.
    for _ in 0..20 {
        for n in 0..cold::LEAST as u64 + 500 {
            let at = 0x10_0000 + n * 64;
            if c.find(key(at, 64)).is_none() {
                c.make_room();
                c.insert(key(at, 64), block(at, 10, None));
            }
        }
    }
    assert_eq!(c.len(), cold::LEAST + 500);
    c.clear();
    assert_eq!(c.cold.room(), cold::LEAST);
}

#[test]
fn a_block_that_goes_is_near_no_more() {
    let mut c = BlockCache::default();
    let k = key(0x1230, 64);
    let near = |c: &mut BlockCache| {
        let at = c.insert(k, block(0x1230, 10, None));
        c.bring_near(k, at);
        assert_eq!(c.near(k), Some(at));
    };
    near(&mut c);
    c.withdraw(k);
    assert!(c.near(k).is_none());
    near(&mut c);
    c.drop_page(0x1000);
    assert!(c.near(k).is_none());
    near(&mut c);
    c.clear();
    assert!(c.near(k).is_none());
    near(&mut c);
    // Another takes its place, and is not near yet.
    c.insert(k, block(0x1230, 5, None));
    assert!(c.near(k).is_none());
}

#[test]
fn entry_points_of_other_pages_survive() {
    let mut c = BlockCache::default();
    let found = |c: &BlockCache, rip| c.entries.find(rip, 5 | c.epoch()).is_some();
    let enter = |c: &mut BlockCache, rip, gpa| c.enter(rip, 5 | c.epoch(), CODE, gpa);
    for round in 0..3 {
        c.insert(key(0x1000, 64), block(0x1000, 10, None));
        c.insert(key(0x2000, 64), block(0x2000, 10, None));
        enter(&mut c, 0x9000, 0x1000);
        enter(&mut c, 0xa000, 0x2000);
        c.drop_page(0x1000);
        // The page that comes back is told again of addresses that were noted.
        assert!(!found(&c, 0x9000) && found(&c, 0xa000), "{round}");
        // A page that is mapped in very many places takes everything with it.
        for n in 0..100 {
            enter(&mut c, 0x1_0000 + (n << 12), 0x2000);
        }
        c.drop_page(0x2000);
        assert!((0..100).all(|n| !found(&c, 0x1_0000 + (n << 12))), "{round}");
    }
}

#[test]
fn many_stores_beside_code_withdraw_it_too() {
    let mut c = BlockCache::default();
    c.insert(key(0x1000, 64), block(0x1000, 10, None));
    assert!((0..300).any(|_| c.invalidate(0x1800, 8)));
}

#[test]
fn code_that_comes_back_bears_more_stores_beside_it() {
    let mut c = BlockCache::default();
    let mut stores = Vec::new();
    for _ in 0..4 {
        c.insert(key(0x1000, 64), block(0x1000, 10, None));
        stores.push((1..).find(|_| c.invalidate(0x1800, 8)).unwrap());
    }
    assert_eq!(stores, [256, 1024, 4096, 16384]);
    // Of another page nothing is known.
    c.insert(key(0x2000, 64), block(0x2000, 10, None));
    assert_eq!((1..).find(|_| c.invalidate(0x2800, 8)), Some(256));
}

#[test]
fn an_instruction_across_pages_goes_with_either() {
    for page in [0x1fff, 0x5000] {
        let mut c = BlockCache::default();
        c.insert(key(0x1ffe, 32), block(0x1ffe, 5, Some(0x5000)));
        assert!(c.invalidate(page, 1));
        assert!(c.find(key(0x1ffe, 32)).is_none());
    }
}

#[test]
fn an_instruction_decoded_again_and_again_takes_no_more_room() {
    let mut c = BlockCache::default();
    for _ in 0..1000 {
        c.insert(key(0x1ffe, 32), block(0x1ffe, 5, Some(0x5000)));
        c.invalidate(0x5000, 1);
        c.bury();
    }
    assert!(c.pages.values().all(|page| page.blocks.len() <= 1));
    assert!(c.pages.len() <= 1);
}

#[test]
fn no_entry_point_survives_a_whole_round_of_epochs() {
    let mut c = BlockCache::default();
    c.insert(key(0x1000, 64), block(0x1000, 10, None));
    c.enter(0x9000, 5, CODE, 0x1000);
    c.epoch = 0xffff_ffff << 32;
    c.forget_addresses();
    assert!(c.entries.find(0x9000, 5 | c.epoch()).is_none());
}

#[test]
fn the_same_bytes_decode_apart_in_each_mode() {
    let keys = [key(0x1000, 16), key(0x1000, 32), key(0x1000, 64)];
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

/// What is found at the first look is what is there, whatever came and went before.
#[test]
fn the_first_look_never_finds_what_went() {
    let mut c = BlockCache::default();
    let mut random = 1u64;
    for _ in 0..20_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // More blocks than a line has room for, in the same 64 bytes and in others.
        let gpa = 0x1000 + (random >> 8) % 12 * 7;
        let key = key(gpa, [16, 32, 64][(random >> 20) as usize % 3]);
        match random % 8 {
            0 => c.withdraw(key),
            1 if random >> 32 & 7 == 0 => c.drop_page(0x1000),
            _ => {
                let at = c.find(key).unwrap_or_else(|| c.insert(key, block(gpa, 3, None)));
                c.bring_near(key, at);
                assert_eq!(c.near(key), Some(at));
            }
        }
        let keys = (0x1000..0x1060u64).flat_map(|gpa| [16, 32, 64].map(|b| super::key(gpa, b)));
        for key in keys {
            assert!(c.near(key).is_none() || c.near(key) == c.find(key));
        }
    }
}
