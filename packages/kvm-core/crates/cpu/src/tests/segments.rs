//! Descriptor loads, limit checks, LAR and its kin.

use crate::segment::{Query, check_segment, lldt, load_segment, ltr, query};
use crate::testing::{Machine, code32, code64, data32, system};
use crate::{Mode, Seg, seg};

const PRESENT: u64 = 1 << 47;

#[test]
fn data_segment_loads_check_type_privilege_and_presence() {
    // Descriptor, selector's RPL, CPL, expected fault.
    let conforming = code32(0) | 4 << 40;
    let execute_only = code32(3) & !(2 << 40);
    let cases: &[(u64, u16, u8, Option<u8>)] = &[
        (data32(3), 3, 3, None),
        (data32(0), 0, 0, None),
        (data32(3), 3, 0, None),
        (data32(0), 0, 3, Some(13)),
        (data32(0), 3, 0, Some(13)),
        (code32(3), 3, 3, None),
        (conforming, 3, 3, None),
        (execute_only, 3, 3, Some(13)),
        (data32(3) & !PRESENT, 3, 3, Some(11)),
        (system(2, 3, 0, 0xffff), 3, 3, Some(13)),
    ];
    for (i, &(raw, rpl, cpl, want)) in cases.iter().enumerate() {
        let mut m = Machine::protected(cpl);
        m.gdt(8, raw);
        let selector = 0x40 | rpl;
        let result = load_segment(&mut m, seg::DS, selector);
        match want {
            Some(vector) => assert_eq!(m.fault(result), (vector, 0x40), "case {i}"),
            None => {
                assert!(result.is_ok(), "case {i}");
                assert_eq!(m.cpu.segs[seg::DS].selector, selector);
                // The accessed bit is set in the register and in the table.
                assert_eq!(m.cpu.segs[seg::DS].access & 1, 1);
                assert_eq!(m.get64(0x1040), raw | 1 << 40);
            }
        }
    }
}

#[test]
fn stack_segment_loads_are_stricter() {
    let cases: &[(u64, u16, u8, Option<u8>)] = &[
        (data32(0), 0, 0, None),
        (data32(3), 3, 3, None),
        (data32(3), 3, 0, Some(13)),
        (data32(0), 3, 0, Some(13)),
        (data32(0) & !(2 << 40), 0, 0, Some(13)),
        (code32(0), 0, 0, Some(13)),
        (data32(0) & !PRESENT, 0, 0, Some(12)),
    ];
    for (i, &(raw, rpl, cpl, want)) in cases.iter().enumerate() {
        let mut m = Machine::protected(cpl);
        m.gdt(8, raw);
        let result = load_segment(&mut m, seg::SS, 0x40 | rpl);
        match want {
            Some(vector) => assert_eq!(m.fault(result), (vector, 0x40), "case {i}"),
            None => assert!(result.is_ok(), "case {i}"),
        }
    }
}

#[test]
fn null_selectors() {
    let mut m = Machine::protected(0);
    load_segment(&mut m, seg::DS, 3).unwrap();
    assert!(m.cpu.segs[seg::DS].unusable);
    let result = check_segment(&mut m.cpu, seg::DS, 0, 1, false);
    assert_eq!(m.fault(result), (13, 0));
    let result = load_segment(&mut m, seg::SS, 0);
    assert_eq!(m.fault(result), (13, 0));
    // In 64-bit mode below CPL 3 a null SS with RPL = CPL is allowed.
    let mut m = Machine::long(0);
    load_segment(&mut m, seg::SS, 0).unwrap();
    let result = load_segment(&mut m, seg::SS, 3);
    assert_eq!(m.fault(result), (13, 0));
    let mut m = Machine::long(3);
    let result = load_segment(&mut m, seg::SS, 3);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn selectors_beyond_the_table_fault() {
    let mut m = Machine::protected(0);
    m.cpu.gdtr.limit = 0x46;
    m.gdt(8, data32(0));
    let result = load_segment(&mut m, seg::DS, 0x40);
    assert_eq!(m.fault(result), (13, 0x40));
    m.cpu.gdtr.limit = 0x47;
    assert!(load_segment(&mut m, seg::DS, 0x40).is_ok());
    // No LDT is loaded.
    m.cpu.segs[seg::LDTR].unusable = true;
    let result = load_segment(&mut m, seg::DS, 0x44);
    assert_eq!(m.fault(result), (13, 0x44));
}

#[test]
fn limits_expand_both_ways() {
    let mut m = Machine::protected(0);
    let s = |access: u8, limit: u32, flags: u8| Seg {
        limit,
        access,
        flags,
        base: 0x1000,
        ..Seg::default()
    };
    // Segment, offset, length, write, allowed.
    let cases: &[(Seg, u64, u64, bool, bool)] = &[
        (s(0x93, 0xfff, 4), 0xffc, 4, true, true),
        (s(0x93, 0xfff, 4), 0xffd, 4, true, false),
        (s(0x91, 0xfff, 4), 0, 4, true, false),
        (s(0x91, 0xfff, 4), 0, 4, false, true),
        (s(0x9b, 0xfff, 4), 0, 4, false, true),
        (s(0x9b, 0xfff, 4), 0, 4, true, false),
        (s(0x99, 0xfff, 4), 0, 4, false, false),
        (s(0x97, 0xfff, 4), 0xfff, 1, true, false),
        (s(0x97, 0xfff, 4), 0x1000, 4, true, true),
        (s(0x97, 0xfff, 4), 0xffff_fffc, 4, true, true),
        (s(0x97, 0xfff, 4), 0xffff_fffd, 4, true, false),
        (s(0x97, 0xfff, 0), 0xfffc, 4, true, true),
        (s(0x97, 0xfff, 0), 0xfffe, 4, true, false),
    ];
    for (i, &(ds, offset, len, write, ok)) in cases.iter().enumerate() {
        m.cpu.segs[seg::DS] = ds;
        let result = check_segment(&mut m.cpu, seg::DS, offset, len, write);
        if ok {
            assert_eq!(result, Ok(0x1000u64.wrapping_add(offset) & 0xffff_ffff), "case {i}");
        } else {
            assert_eq!(m.fault(result), (13, 0), "case {i}");
        }
    }
    m.cpu.segs[seg::SS].limit = 0;
    let result = check_segment(&mut m.cpu, seg::SS, 1, 1, false);
    assert_eq!(m.fault(result), (12, 0));
}

#[test]
fn sixty_four_bit_mode_checks_canonical_addresses_only() {
    let mut m = Machine::long(0);
    m.cpu.segs[seg::DS].base = 0x5000;
    m.cpu.segs[seg::FS].base = 0x5000;
    assert_eq!(check_segment(&mut m.cpu, seg::DS, 8, 8, true), Ok(8));
    assert_eq!(check_segment(&mut m.cpu, seg::FS, 8, 8, true), Ok(0x5008));
    let edge = 0x7fff_ffff_fff8;
    assert_eq!(check_segment(&mut m.cpu, seg::CS, edge, 8, true), Ok(edge));
    let result = check_segment(&mut m.cpu, seg::DS, edge + 1, 8, false);
    assert_eq!(m.fault(result), (13, 0));
    let result = check_segment(&mut m.cpu, seg::SS, 1 << 47, 1, false);
    assert_eq!(m.fault(result), (12, 0));
}

#[test]
fn real_mode_keeps_limits() {
    let mut m = Machine::new();
    m.cpu.segs[seg::DS].limit = 0xffff_ffff;
    load_segment(&mut m, seg::DS, 0x1234).unwrap();
    assert_eq!((m.cpu.segs[seg::DS].base, m.cpu.segs[seg::DS].limit), (0x12340, 0xffff_ffff));
    let result = check_segment(&mut m.cpu, seg::ES, 0xffff, 2, false);
    assert_eq!(m.fault(result), (13, 0));
    assert_eq!(check_segment(&mut m.cpu, seg::CS, 0, 2, true), Ok(0xffff_0000));
}

#[test]
fn system_segments() {
    let mut m = Machine::protected(0);
    m.gdt(8, system(2, 0, 0x12_3456, 0x7f));
    m.gdt(9, system(9, 0, 0x3000, 0x67));
    lldt(&mut m, 0x40).unwrap();
    assert_eq!((m.cpu.segs[seg::LDTR].base, m.cpu.segs[seg::LDTR].limit), (0x12_3456, 0x7f));
    let result = lldt(&mut m, 0x48);
    assert_eq!(m.fault(result), (13, 0x48));
    ltr(&mut m, 0x48).unwrap();
    assert_eq!(m.cpu.segs[seg::TR].access, 0x8b);
    assert_eq!(m.get64(0x1048) >> 40 & 0xff, 0x8b);
    // A busy TSS cannot be loaded again.
    let result = ltr(&mut m, 0x48);
    assert_eq!(m.fault(result), (13, 0x48));
    let result = ltr(&mut m, 0);
    assert_eq!(m.fault(result), (13, 0));
    m.set_level(3);
    let result = lldt(&mut m, 0x40);
    assert_eq!(m.fault(result), (13, 0));

    let mut m = Machine::long(0);
    m.gdt(8, system(9, 0, 0x8000_3000, 0x67));
    m.gdt(9, 0xffff_8000);
    ltr(&mut m, 0x40).unwrap();
    assert_eq!(m.cpu.segs[seg::TR].base, 0xffff_8000_8000_3000);
    // Neither a base that is not canonical nor a type in the upper half will do.
    for upper in [0x8000, 1 << 40] {
        m.gdt(8, system(9, 0, 0x8000_3000, 0x67));
        m.gdt(9, upper);
        let result = ltr(&mut m, 0x40);
        assert_eq!(m.fault(result), (13, 0x40));
    }
    // Real mode has no such instructions.
    let mut m = Machine::new();
    let result = lldt(&mut m, 0x40);
    assert_eq!(m.fault(result), (6, 0));
}

#[test]
fn queries() {
    let mut m = Machine::protected(3);
    m.gdt(8, data32(0));
    m.gdt(9, system(9, 3, 0x3000, 0x67));
    m.gdt(10, system(4, 3, 0, 0));
    let mut ask = |what, selector| query(&mut m, what, selector).unwrap();
    // With bits 19 to 16 of the limit, as AMD documents it.
    assert_eq!(ask(Query::AccessRights, 0x1b), Some(0x00cf_fa00));
    assert_eq!(ask(Query::Limit, 0x23), Some(0xffff_ffff));
    assert_eq!(ask(Query::Limit, 0x4b), Some(0x67));
    assert_eq!(ask(Query::Limit, 0x53), None);
    assert_eq!(ask(Query::AccessRights, 0x53), Some(0xe400));
    assert_eq!(ask(Query::AccessRights, 0x43), None);
    assert_eq!(ask(Query::AccessRights, 0), None);
    assert_eq!(ask(Query::AccessRights, 0xfff8), None);
    assert_eq!(ask(Query::Readable, 0x1b), Some(0));
    assert_eq!(ask(Query::Writable, 0x1b), None);
    assert_eq!(ask(Query::Writable, 0x23), Some(0));
    assert_eq!(ask(Query::Readable, 0x4b), None);
    // Neither call gates of 16 bits nor their kin exist in long mode.
    let mut m = Machine::long(3);
    m.gdt(10, system(4, 3, 0, 0));
    m.gdt(11, code64(3));
    assert_eq!(query(&mut m, Query::AccessRights, 0x53).unwrap(), None);
    assert_eq!(query(&mut m, Query::AccessRights, 0x5b).unwrap(), Some(0x00af_fa00));
    assert_eq!(m.cpu.mode, Mode::Long64);
}
