//! Page walks: permissions, error codes, formats, accessed and dirty bits.

use crate::bits::{cr0, cr4, efer};
use crate::paging::{load_pdptrs, translate_debug, walk};
use crate::testing::Machine;
use crate::{Access, Exec, Trap, flags};

const NX: u64 = 1 << 63;

/// Leaf bits, CR4, WP, AC, access, user, expected error code.
type Case = (u64, u64, bool, bool, Access, bool, Result<(), u32>);

/// Four levels with one page at linear 0x5000; the leaf at 0x13028 has `leaf`.
fn four_level(leaf: u64) -> Machine {
    let mut m = Machine::long(0);
    m.put64(0x11000, 0x12007);
    m.put64(0x12000, 0x13007);
    m.put64(0x13028, leaf);
    m.cpu.cr0 |= cr0::WP;
    m
}

fn try_walk(m: &mut Machine, access: Access, user: bool) -> Result<(), u32> {
    match walk(m, 0x5123, access, user, false) {
        Ok(t) => {
            assert_eq!(t.gpa, 0x7123);
            Ok(())
        }
        Err(_) => {
            assert_eq!(m.cpu.fault.address, 0x5123);
            Err(m.cpu.fault.error)
        }
    }
}

#[test]
fn permissions_give_exact_error_codes() {
    use Access::{Fetch, Read, Write};
    let (p, w, u) = (1u64, 2u64, 4u64);
    let smep = cr4::SMEP;
    let smap = cr4::SMAP;
    let cases: &[Case] = &[
        (p | w | u, 0, true, false, Read, true, Ok(())),
        (p | w | u, 0, true, false, Write, true, Ok(())),
        (p | u, 0, true, false, Write, true, Err(7)),
        (p | u, 0, true, false, Write, false, Err(3)),
        (p | u, 0, false, false, Write, false, Ok(())),
        (p | u, 0, false, false, Write, true, Err(7)),
        (p | w, 0, true, false, Read, true, Err(5)),
        (p | w, 0, true, false, Write, true, Err(7)),
        (p | w, 0, true, false, Read, false, Ok(())),
        (p, 0, true, false, Write, false, Err(3)),
        (0, 0, true, false, Read, false, Err(0)),
        (0, 0, true, false, Write, true, Err(6)),
        (0, 0, true, false, Fetch, true, Err(0x14)),
        (p | u | NX, 0, true, false, Fetch, true, Err(0x15)),
        (p | NX, 0, true, false, Fetch, false, Err(0x11)),
        (p | u | NX, 0, true, false, Read, true, Ok(())),
        (p | u, smep, true, false, Fetch, false, Err(0x11)),
        (p | u, smep, true, false, Fetch, true, Ok(())),
        (p | u, 0, true, false, Fetch, false, Ok(())),
        (p | u, smap, true, false, Read, false, Err(1)),
        (p | u, smap, true, true, Read, false, Ok(())),
        (p | u | w, smap, true, false, Write, false, Err(3)),
        (p | u | w, smap, true, true, Write, false, Ok(())),
        (p | u, smap, true, false, Read, true, Ok(())),
        (p | u, smap, true, false, Fetch, false, Ok(())),
        (p | u | 1 << 45, 0, true, false, Read, true, Err(0xd)),
        (p | 1 << 45, 0, true, false, Write, false, Err(0xb)),
    ];
    for (i, &(leaf, cr4, wp, ac, access, user, want)) in cases.iter().enumerate() {
        let mut m = four_level(0x7000 | leaf);
        m.cpu.cr4 |= cr4;
        if !wp {
            m.cpu.cr0 &= !cr0::WP;
        }
        if ac {
            m.cpu.rflags |= flags::AC;
        }
        assert_eq!(try_walk(&mut m, access, user), want, "case {i}: {leaf:#x} {access:?}");
    }
}

#[test]
fn implicit_accesses_ignore_ac_and_cpl() {
    let mut m = four_level(0x7007);
    m.cpu.cr4 |= cr4::SMAP;
    m.cpu.rflags |= flags::AC;
    assert!(walk(&mut m, 0x5000, Access::Read, false, true).is_err());
    assert_eq!(m.cpu.fault.error, 1);
    let mut m = four_level(0x7003);
    assert!(walk(&mut m, 0x5000, Access::Read, true, true).is_ok());
}

#[test]
fn upper_levels_limit_lower_ones() {
    let mut m = four_level(0x7007);
    m.put64(0x12000, 0x13005);
    assert_eq!(try_walk(&mut m, Access::Write, true), Err(7));
    m.put64(0x12000, 0x13003);
    assert_eq!(try_walk(&mut m, Access::Read, true), Err(5));
    m.put64(0x12000, 0x13007 | NX);
    assert_eq!(try_walk(&mut m, Access::Fetch, false), Err(0x11));
    m.cpu.efer &= !efer::NXE;
    // Without NXE bit 63 is reserved, and fetches are not told apart.
    assert_eq!(try_walk(&mut m, Access::Fetch, false), Err(9));
    m.put64(0x10000, 0x11087);
    assert_eq!(try_walk(&mut m, Access::Read, false), Err(9));
}

#[test]
fn accessed_and_dirty_bits_follow_the_access() {
    let mut m = four_level(0x7007);
    let t = walk(&mut m, 0x5000, Access::Read, false, false).unwrap();
    assert!(t.read && !t.write && t.exec && t.user_page && !t.global);
    assert_eq!((m.get64(0x13028), m.get64(0x10000)), (0x7027, 0x11027));
    let t = walk(&mut m, 0x5000, Access::Write, false, false).unwrap();
    assert!(t.write);
    assert_eq!(m.get64(0x13028), 0x7067);
    assert_eq!(m.get64(0x12000), 0x13027);
    // A read of a dirty page may be cached as writable.
    assert!(walk(&mut m, 0x5000, Access::Read, false, false).unwrap().write);
    // A fault sets nothing.
    let mut m = four_level(0x7001);
    assert!(walk(&mut m, 0x5000, Access::Read, true, false).is_err());
    assert_eq!(m.get64(0x13028), 0x7001);
}

#[test]
fn contention_restarts_and_ends() {
    let mut m = four_level(0x7007);
    m.contended = 3;
    assert!(walk(&mut m, 0x5000, Access::Write, false, false).is_ok());
    m = four_level(0x7007);
    m.contended = u32::MAX;
    assert_eq!(try_walk(&mut m, Access::Write, false), Err(2));
}

#[test]
fn large_pages_and_global_bits() {
    let mut m = Machine::long(0);
    m.cpu.cr4 |= cr4::PGE;
    m.put64(0x11000 + 8, 0x4000_0187);
    let t = walk(&mut m, 0x4012_3456, Access::Read, false, false).unwrap();
    assert_eq!((t.gpa, t.page_shift, t.global), (0x4012_3456, 30, true));
    m.put64(0x11000 + 8, 0x4000_2187);
    assert!(walk(&mut m, 0x4012_3456, Access::Read, false, false).is_err());
    assert_eq!(m.cpu.fault.error, 9);
    m.cpu.caps.gbpages = false;
    m.put64(0x11000 + 8, 0x4000_0187);
    assert!(walk(&mut m, 0x4012_3456, Access::Read, false, false).is_err());
    m.put64(0x11000 + 16, 0x12003);
    m.put64(0x12008, 0x8020_0083);
    let t = walk(&mut m, 0x8020_0123, Access::Write, false, false).unwrap();
    assert_eq!((t.gpa, t.page_shift, t.user_page, t.write), (0x8020_0123, 21, false, true));
    m.put64(0x12008, 0x8020_2083);
    assert!(walk(&mut m, 0x8020_0123, Access::Read, false, false).is_err());
}

#[test]
fn tables_outside_ram_are_reserved_bits() {
    let mut m = Machine::long(0);
    m.cpu.cr3 = 0x8000_0000;
    assert!(walk(&mut m, 0x5000, Access::Read, false, false).is_err());
    assert_eq!(m.cpu.fault.error, 9);
}

#[test]
fn thirty_two_bit_paging_with_pse36() {
    let mut m = Machine::protected(0);
    m.cpu.cr0 |= cr0::PG;
    m.cpu.cr3 = 0x10000;
    m.put32(0x10000, 0x11007);
    m.put32(0x11014, 0x7005);
    let t = walk(&mut m, 0x5678, Access::Read, true, false).unwrap();
    assert_eq!((t.gpa, t.page_shift), (0x7678, 12));
    assert!(walk(&mut m, 0x5678, Access::Write, true, false).is_err());
    assert_eq!(m.cpu.fault.error, 7);
    // Fetches are told apart only with SMEP or NX.
    assert!(walk(&mut m, 0x6000, Access::Fetch, true, false).is_err());
    assert_eq!(m.cpu.fault.error, 4);
    m.cpu.cr4 |= cr4::SMEP;
    assert!(walk(&mut m, 0x6000, Access::Fetch, true, false).is_err());
    assert_eq!(m.cpu.fault.error, 0x14);
    // 4 MiB at physical 0x12_0040_0000.
    m.cpu.cr4 |= cr4::PSE;
    m.put32(0x10004, 0x0040_0083 | 0x12 << 13);
    let t = walk(&mut m, 0x0041_2345, Access::Write, false, false).unwrap();
    assert_eq!((t.gpa, t.page_shift), (0x12_0041_2345, 22));
    m.put32(0x10004, 0x0040_0083 | 1 << 21);
    assert!(walk(&mut m, 0x0041_2345, Access::Write, false, false).is_err());
    assert_eq!(m.cpu.fault.error, 0xb);
    // Linear addresses wrap at 4 GiB.
    assert_eq!(walk(&mut m, 0x1_0000_5000, Access::Read, false, false).unwrap().gpa, 0x7000);
}

#[test]
fn pae_uses_the_loaded_pointers() {
    let mut m = Machine::protected(0);
    m.cpu.cr0 |= cr0::PG;
    m.cpu.cr4 |= cr4::PAE;
    m.put64(0x10000, 0x11001);
    m.put64(0x11008, 0x20_0083);
    load_pdptrs(&mut m, 0x10000).unwrap();
    m.cpu.cr3 = 0x10000;
    assert_eq!(walk(&mut m, 0x20_1234, Access::Read, false, false).unwrap().gpa, 0x20_1234);
    // Memory changed, the registers did not.
    m.put64(0x10000, 0);
    assert!(walk(&mut m, 0x20_1234, Access::Read, false, false).is_ok());
    // State set from outside: the pointers come from memory.
    m.cpu.pdptrs_valid = false;
    assert!(walk(&mut m, 0x20_1234, Access::Read, false, false).is_err());
    assert_eq!(m.cpu.fault.error, 0);
    m.put64(0x10008, 0x1e7);
    let bad = load_pdptrs(&mut m, 0x10000);
    assert_eq!(m.fault(bad), (13, 0));
}

#[test]
fn debug_translation_has_no_side_effects() {
    let mut m = four_level(0x7001);
    assert_eq!(translate_debug(&mut m, 0x5004), Some(0x7004));
    assert_eq!(translate_debug(&mut m, 0x6000), None);
    assert_eq!(translate_debug(&mut m, 1 << 50), None);
    assert_eq!((m.get64(0x13028), m.get64(0x10000)), (0x7001, 0x11007));
}

#[test]
fn random_tables_never_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut m = Machine::long(0);
    for _ in 0..2000 {
        for at in (0x10000..0x14000).step_by(512) {
            let value = next() & 0x3f_ffff | next() & 0x7f;
            m.put64(at, value | if next() & 7 == 0 { next() } else { 0 });
        }
        m.cpu.cr4 = next() & m.cpu.caps.cr4 | if next() & 1 == 0 { cr4::PAE } else { 0 };
        m.cpu.efer = if next() & 1 == 0 { 0xd00 } else { 0x800 };
        m.cpu.cr3 = next() & 0x3fff | 0x10000;
        m.cpu.pdptrs_valid = false;
        let access = [Access::Read, Access::Write, Access::Fetch][(next() % 3) as usize];
        let result = walk(&mut m, next(), access, next() & 1 == 0, next() & 1 == 0);
        assert!(matches!(result, Ok(_) | Err(Trap::Fault)));
        let _ = m.cpu();
    }
}

/// Leaf, PKRU, PKRS, WP, access, user, expected error code.
type KeyCase = (u64, u32, u64, bool, Access, bool, Result<(), u32>);

#[test]
fn protection_keys_take_data_accesses_away() {
    use Access::{Fetch, Read, Write};
    let key = |n: u64| n << 59;
    let (user_page, kernel_page) = (0x7067 | key(3), 0x7063 | key(3));
    let (no_access, no_write) = (1u32 << 6, 2u32 << 6);
    let cases: &[KeyCase] = &[
        (user_page, no_access, 0, true, Read, true, Err(0x25)),
        (user_page, no_access, 0, true, Read, false, Err(0x21)),
        (user_page, no_access, 0, true, Write, true, Err(0x27)),
        (user_page, no_access, 0, true, Fetch, true, Ok(())),
        (user_page, no_write, 0, true, Read, true, Ok(())),
        (user_page, no_write, 0, false, Write, true, Err(0x27)),
        (user_page, no_write, 0, true, Write, false, Err(0x23)),
        (user_page, no_write, 0, false, Write, false, Ok(())),
        (user_page, !no_access, 0, true, Read, true, Ok(())),
        (user_page, 0, 0xffff_ffff, true, Write, true, Ok(())),
        (kernel_page, 0xffff_ffff, 0, true, Write, false, Ok(())),
        (kernel_page, 0, no_access.into(), true, Read, false, Err(0x21)),
        (kernel_page, 0, no_write.into(), true, Write, false, Err(0x23)),
        (kernel_page, 0, no_write.into(), false, Write, false, Ok(())),
        // Both the page and its key deny it.
        (0x7065 | key(3), no_write, 0, true, Write, true, Err(0x27)),
        (kernel_page, 0, 0, true, Read, true, Err(5)),
    ];
    for (i, &(leaf, pkru, pkrs, wp, access, user, want)) in cases.iter().enumerate() {
        let mut m = four_level(leaf);
        m.cpu.cr4 |= cr4::PKE | cr4::PKS;
        if !wp {
            m.cpu.cr0 &= !cr0::WP;
        }
        (m.cpu.pkru, m.cpu.msrs.pkrs) = (pkru, pkrs);
        assert_eq!(try_walk(&mut m, access, user), want, "case {i}");
        m.cpu.cr4 &= !(cr4::PKE | cr4::PKS);
        let plain =
            want.err().is_some_and(|code| leaf & 4 == 0 && user || code == 0x27 && leaf & 2 == 0);
        assert_eq!(try_walk(&mut m, access, user).is_err(), plain, "case {i} without keys");
    }
}
