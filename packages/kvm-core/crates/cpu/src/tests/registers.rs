//! Control, debug and model-specific registers, I/O permission, the paravirtual clock.

use kvm_abi::regs::guestdbg;

use crate::bits::{cr0, cr4, dr, efer};
use crate::control::{lmsw, read_cr, smsw, write_cr, xgetbv, xsetbv};
use crate::msr::{get_msr, index, msr_index_list, read_msr, set_msr, write_msr};
use crate::pvclock::{Hypercall, hypercall, tsc_scale};
use crate::system::{Table, check_io, invlpg, invpcid, load_table, read_dr, store_table, write_dr};
use crate::testing::Machine;
use crate::{Exec, Flush, Mode, Seg, flags, reg, seg};

#[test]
fn cr0_combinations() {
    let cases: &[(u64, bool)] = &[
        (cr0::PG, false),
        (cr0::NW | cr0::PE, false),
        (cr0::PE | 1 << 32, false),
        (cr0::PE | cr0::CD | cr0::NW, true),
        (cr0::PE | cr0::PG, true),
        (cr0::PE | 1 << 20, true),
    ];
    for &(value, ok) in cases {
        let mut m = Machine::protected(0);
        let result = write_cr(&mut m, 0, value);
        if ok {
            assert!(result.is_ok(), "{value:#x}");
            assert_eq!(m.cpu.cr0, value & cr0::ALL | cr0::ET);
        } else {
            assert_eq!(m.fault(result), (13, 0), "{value:#x}");
        }
    }
}

#[test]
fn long_mode_activation() {
    let mut m = Machine::protected(0);
    write_msr(&mut m, index::EFER, efer::LME).unwrap();
    // PAE is missing.
    let result = write_cr(&mut m, 0, cr0::PE | cr0::PG);
    assert_eq!(m.fault(result), (13, 0));
    write_cr(&mut m, 4, cr4::PAE).unwrap();
    write_cr(&mut m, 0, cr0::PE | cr0::PG).unwrap();
    assert_eq!(m.cpu.efer, efer::LME | efer::LMA);
    assert!(m.flushes.contains(&Flush::All));
    assert_eq!(m.cpu.mode, Mode::Protected32);
    // LME cannot change while paging is on, PAE cannot go, LMA cannot be written.
    let result = write_msr(&mut m, index::EFER, 0);
    assert_eq!(m.fault(result), (13, 0));
    let result = write_cr(&mut m, 4, 0);
    assert_eq!(m.fault(result), (13, 0));
    write_msr(&mut m, index::EFER, efer::LME | efer::NXE).unwrap();
    assert_eq!(m.cpu.efer, efer::LME | efer::LMA | efer::NXE);
    let result = write_msr(&mut m, index::EFER, efer::LME | 1 << 12);
    assert_eq!(m.fault(result), (13, 0));
    // From compatibility mode paging can be switched off again, from 64-bit mode it cannot.
    m.cpu.segs[seg::CS].flags |= 2;
    m.cpu.segs[seg::CS].flags &= !4;
    m.cpu.update_mode();
    let result = write_cr(&mut m, 0, cr0::PE);
    assert_eq!(m.fault(result), (13, 0));
    m.cpu.segs[seg::CS].flags = 12;
    m.cpu.update_mode();
    write_cr(&mut m, 0, cr0::PE).unwrap();
    assert_eq!(m.cpu.efer & efer::LMA, 0);
}

#[test]
fn cr3_and_pcid() {
    let mut m = Machine::long(0);
    let result = write_cr(&mut m, 3, 1 << 63 | 0x10000);
    assert_eq!(m.fault(result), (13, 0));
    let result = write_cr(&mut m, 3, 1 << 40);
    assert_eq!(m.fault(result), (13, 0));
    m.cpu.cr3 = 0x10001;
    let pcide = m.cpu.cr4 | cr4::PCIDE;
    let result = write_cr(&mut m, 4, pcide);
    assert_eq!(m.fault(result), (13, 0));
    m.cpu.cr3 = 0x10000;
    write_cr(&mut m, 4, pcide).unwrap();
    m.flushes.clear();
    write_cr(&mut m, 3, 0x10005).unwrap();
    assert_eq!(m.flushes, [Flush::NonGlobal]);
    write_cr(&mut m, 3, 1 << 63 | 0x10006).unwrap();
    assert_eq!((m.cpu.cr3, m.flushes.len()), (0x10006, 1));
    write_cr(&mut m, 4, pcide & !cr4::PCIDE).unwrap();
    assert_eq!(m.flushes.last(), Some(&Flush::All));
    let result = write_cr(&mut m, 4, 1 << 22);
    assert_eq!(m.fault(result), (13, 0));
    let result = write_cr(&mut m, 8, 16);
    assert_eq!(m.fault(result), (13, 0));
    write_cr(&mut m, 8, 9).unwrap();
    assert_eq!(read_cr(&mut m, 8), Ok(9));
    let result = read_cr(&mut m, 5);
    assert_eq!(m.fault(result), (6, 0));
    m.set_level(3);
    let result = read_cr(&mut m, 0);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn machine_status_word() {
    let mut m = Machine::protected(0);
    lmsw(&mut m, 0xfff2).unwrap();
    assert_eq!(m.cpu.cr0 & 0xf, 3);
    m.set_level(3);
    assert_eq!(smsw(&mut m).map(|v| v & 1), Ok(1));
    m.cpu.cr4 |= cr4::UMIP;
    let result = smsw(&mut m);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn extended_control_register() {
    let mut m = Machine::long(0);
    let set = |m: &mut Machine, index: u64, value: u64| {
        m.cpu.regs[reg::RCX] = index;
        m.cpu.regs[reg::RAX] = value & 0xffff_ffff;
        m.cpu.regs[reg::RDX] = value >> 32;
        xsetbv(m)
    };
    let result = set(&mut m, 0, 7);
    assert_eq!(m.fault(result), (6, 0));
    m.cpu.cr4 |= cr4::OSXSAVE;
    for (index, value, ok) in [
        (0, 7, true),
        (0, 3, true),
        (0, 1, true),
        (0, 5, false),
        (0, 6, false),
        (0, 15, false),
        (0, 1 << 63 | 1, false),
        (1, 7, false),
    ] {
        let result = set(&mut m, index, value);
        assert_eq!(result.is_ok(), ok, "{index} {value:#x}");
    }
    m.cpu.regs[reg::RCX] = 0;
    assert_eq!(xgetbv(&mut m, 1), Ok(1));
    m.cpu.xcr0 = 7;
    m.cpu.regs[reg::RCX] = 1;
    assert_eq!(xgetbv(&mut m, 3), Ok(3));
    m.cpu.regs[reg::RCX] = 2;
    let result = xgetbv(&mut m, 3);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn descriptor_table_registers() {
    let mut m = Machine::protected(0);
    m.put16(0x500, 0x1234);
    m.put32(0x502, 0xaabb_ccdd);
    load_table(&mut m, Table::Idt, seg::DS, 0x500, 4).unwrap();
    assert_eq!((m.cpu.idtr.limit, m.cpu.idtr.base), (0x1234, 0xaabb_ccdd));
    load_table(&mut m, Table::Idt, seg::DS, 0x500, 2).unwrap();
    assert_eq!(m.cpu.idtr.base, 0xbb_ccdd);
    store_table(&mut m, Table::Idt, seg::DS, 0x600).unwrap();
    assert_eq!((m.get16(0x600), m.get32(0x602)), (0x1234, 0xbb_ccdd));
    let mut m = Machine::long(0);
    m.put16(0x500, 0x1234);
    m.put64(0x502, 1 << 47);
    let result = load_table(&mut m, Table::Gdt, seg::DS, 0x500, 8);
    assert_eq!(m.fault(result), (13, 0));
    m.put64(0x502, 0xffff_8000_0000_1000);
    load_table(&mut m, Table::Gdt, seg::DS, 0x500, 8).unwrap();
    assert_eq!(m.cpu.gdtr.base, 0xffff_8000_0000_1000);
    m.cpu.cpl = 3;
    m.cpu.cr4 |= cr4::UMIP;
    let result = store_table(&mut m, Table::Gdt, seg::DS, 0x600);
    assert_eq!(m.fault(result), (13, 0));
    let result = load_table(&mut m, Table::Gdt, seg::DS, 0x500, 8);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn invalidations() {
    let mut m = Machine::long(0);
    invlpg(&mut m, 0x5000).unwrap();
    invlpg(&mut m, 1 << 50).unwrap();
    assert_eq!(m.flushes, [Flush::Page(0x5000)]);
    let mut legacy = Machine::protected(0);
    // Base plus offset go around at 32 bits.
    invlpg(&mut legacy, 0x1_0000_5000).unwrap();
    assert_eq!(legacy.flushes, [Flush::Page(0x5000)]);
    m.cpu.cr4 |= cr4::PCIDE;
    // Kind, first and second half of the descriptor, what is flushed.
    let cases: &[(u64, u64, u64, Option<Flush>)] = &[
        (0, 5, 0x7000, Some(Flush::PcidPage(5, 0x7000))),
        (1, 5, 0x7000, Some(Flush::Pcid(5))),
        (2, 5, 0x7000, Some(Flush::All)),
        (3, 5, 0x7000, Some(Flush::AllNonGlobal)),
        (4, 5, 0x7000, None),
        (1 << 32, 5, 0x7000, None),
        (1, 0x1005, 0, None),
        (0, 5, 1 << 47, None),
        (1, 5, 1 << 47, Some(Flush::Pcid(5))),
    ];
    for &(kind, low, high, want) in cases {
        m.put64(0x500, low);
        m.put64(0x508, high);
        m.flushes.clear();
        let result = invpcid(&mut m, kind, seg::DS, 0x500);
        match want {
            Some(flush) => assert_eq!(m.flushes, [flush]),
            None => assert_eq!(m.fault(result), (13, 0)),
        }
    }
    m.cpu.cr4 &= !cr4::PCIDE;
    m.put64(0x500, 5);
    let result = invpcid(&mut m, 1, seg::DS, 0x500);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn debug_registers() {
    let mut m = Machine::long(0);
    write_dr(&mut m, 0, u64::MAX).unwrap();
    write_dr(&mut m, 7, 0xffff_ffff & !dr::DR7_GD).unwrap();
    assert_eq!(read_dr(&mut m, 5), Ok(0xffff_07ff));
    write_dr(&mut m, 4, 0).unwrap();
    assert_eq!(read_dr(&mut m, 6), Ok(dr::DR6_FIXED));
    let result = write_dr(&mut m, 7, 1 << 32);
    assert_eq!(m.fault(result), (13, 0));
    m.cpu.cr4 |= cr4::DE;
    let result = read_dr(&mut m, 4);
    assert_eq!(m.fault(result), (6, 0));
    write_dr(&mut m, 7, dr::DR7_GD).unwrap();
    let result = read_dr(&mut m, 0);
    assert_eq!(m.fault(result), (1, 0));
    assert_eq!(m.cpu.fault.address, dr::DR6_BD);
}

#[test]
fn breakpoints_match_by_length_and_kind() {
    let mut m = Machine::long(0);
    assert!(!m.cpu.any_breakpoint());
    // DR0 executes at 0x1000; DR1 writes, 4 bytes at 0x2000; DR2 accesses, 8 at 0x3000; DR3 ports.
    m.cpu.dr[..4].copy_from_slice(&[0x1000, 0x2002, 0x3000, 0x60]);
    m.cpu.dr[7] |= 0b0101_0101 | 0xd << 20 | 0xb << 24 | 0x2 << 28;
    assert!(m.cpu.any_breakpoint());
    assert_eq!(m.cpu.instruction_hits(0x1000), 1);
    assert_eq!(m.cpu.instruction_hits(0x1001), 0);
    m.cpu.rflags |= flags::RF;
    assert_eq!(m.cpu.instruction_hits(0x1000), 0);
    assert_eq!(m.cpu.data_hits(0x1fff, 1, true), 0);
    assert_eq!(m.cpu.data_hits(0x1fff, 2, true), 2);
    assert_eq!(m.cpu.data_hits(0x2003, 8, true), 2);
    assert_eq!(m.cpu.data_hits(0x2004, 8, true), 0);
    assert_eq!(m.cpu.data_hits(0x2000, 4, false), 0);
    assert_eq!(m.cpu.data_hits(0x3007, 1, false), 4);
    assert_eq!(m.cpu.port_hits(0x60, 1), 0);
    m.cpu.cr4 |= cr4::DE;
    assert_eq!(m.cpu.port_hits(0x5f, 2), 8);
    m.cpu.guest_debug.control = guestdbg::ENABLE | guestdbg::USE_HW_BP;
    assert!(!m.cpu.any_breakpoint());
}

#[test]
fn port_permission() {
    let mut m = Machine::protected(3);
    m.cpu.segs[seg::TR] =
        Seg { base: 0x3000, limit: 0x75, selector: 0x60, access: 0x8b, ..Seg::default() };
    m.put16(0x3066, 0x68);
    m.put32(0x3068, 0xffff_ff0f);
    for (port, size, ok) in
        [(4, 4, true), (3, 1, false), (7, 2, false), (8, 1, false), (0x70, 1, false)]
    {
        let result = check_io(&mut m, port, size);
        assert_eq!(result.is_ok(), ok, "{port:#x}");
    }
    // The second byte of the look must lie inside the limit.
    m.put32(0x3074, 0);
    assert!(check_io(&mut m, 0x60, 1).is_ok());
    assert!(check_io(&mut m, 0x68, 1).is_err());
    m.cpu.rflags |= flags::IOPL;
    assert!(check_io(&mut m, 0x3f8, 1).is_ok());
    m.cpu.rflags |= flags::VM;
    assert!(check_io(&mut m, 0x3f8, 1).is_err());
    m.cpu.rflags = 0;
    m.cpu.segs[seg::TR].access = 0x83;
    assert!(check_io(&mut m, 4, 1).is_err());
    assert!(check_io(&mut Machine::new(), 4, 1).is_ok());
}

#[test]
fn msr_values_are_checked() {
    let bad: &[(u32, u64)] = &[
        (index::LSTAR, 1 << 47),
        (index::FS_BASE, 1 << 63),
        (index::SFMASK, 1 << 32),
        (index::PAT, 2),
        (index::MTRR_DEF_TYPE, 3),
        (index::MTRR_DEF_TYPE, 1 << 12),
        (0x200, 1 << 41),
        (0x201, 0x100),
        (0x250, 2),
        (index::MTRR_CAP, 0),
        (index::MCG_CTL, 5),
        (index::MC0_CTL, 0xaaaa_aaaa_aaaa_aaaa),
        (0x401, 1),
        (index::TSC_AUX, 1 << 32),
        (index::DEBUGCTL, 1),
        (index::XSS, 1),
        (0x48, 0),
        (0x49, 1),
        (0x4b56_4d02, 1),
        (0xc000_0104, 0),
        (0xdead_beef, 0),
        (0x830, 0),
        (index::TSC_DEADLINE, 1),
    ];
    let mut m = Machine::long(0);
    for &(number, value) in bad {
        let result = write_msr(&mut m, number, value);
        assert_eq!(m.fault(result), (13, 0), "{number:#x}");
    }
    let good: &[(u32, u64)] = &[
        (index::STAR, u64::MAX),
        (index::KERNEL_GS_BASE, 0xffff_8000_0000_0000),
        (index::PAT, 0x0007_0106_0007_0106),
        (index::MTRR_DEF_TYPE, 0xc06),
        (0x200, 0xff_c000_0006),
        (0x201, 0xff_c000_0800),
        (0x26f, 0x0606_0606_0505_0404),
        (index::MCG_CTL, 0),
        (index::MC0_CTL, !1),
        (index::MISC_ENABLE, 0x4_00c5_0809),
        (index::HWCR, 1 << 24 | 1 << 6),
        (index::DE_CFG, 2),
    ];
    for &(number, value) in good {
        write_msr(&mut m, number, value).unwrap();
        assert_eq!(read_msr(&mut m, number), Ok(value), "{number:#x}");
    }
    // Registers of AMD parts that Linux touches without asking CPUID.
    for number in [0x8b, 0x2a, index::SYSCFG, 0xc001_0055, 0xc001_001f, 0xc001_1022] {
        assert!(read_msr(&mut m, number).is_ok(), "{number:#x}");
    }
    m.set_level(3);
    let result = read_msr(&mut m, index::EFER);
    assert_eq!(m.fault(result), (13, 0));
}

#[test]
fn the_time_stamp_counter_moves_with_its_adjustment() {
    let mut m = Machine::long(0);
    write_msr(&mut m, index::TSC, 5000).unwrap();
    assert_eq!(read_msr(&mut m, index::TSC), Ok(5000));
    assert_eq!(read_msr(&mut m, index::TSC_ADJUST), Ok(4000));
    write_msr(&mut m, index::TSC_ADJUST, 0).unwrap();
    assert_eq!(read_msr(&mut m, index::TSC), Ok(1000));
    // The host moves the counter and nothing else.
    set_msr(&mut m, index::TSC, 7000).unwrap();
    assert_eq!((m.tsc(), m.cpu.msrs.tsc_adjust), (7000, 0));
}

#[test]
fn every_listed_msr_can_be_saved_and_restored() {
    let mut m = Machine::long(0);
    write_msr(&mut m, index::STAR, 0x1234).unwrap();
    let list = msr_index_list();
    let values: Vec<u64> = list.iter().map(|i| get_msr(&mut m, *i).unwrap()).collect();
    let mut copy = Machine::long(0);
    for (number, value) in list.iter().zip(&values) {
        set_msr(&mut copy, *number, *value).unwrap();
    }
    let again: Vec<u64> = list.iter().map(|i| get_msr(&mut copy, *i).unwrap()).collect();
    assert_eq!(values, again);
    assert!(get_msr(&mut m, 0xdead_beef).is_err());
    assert!(set_msr(&mut m, index::EFER, efer::LMA).is_err());
    assert!(set_msr(&mut m, index::MCG_CAP, 0).is_err());
}

#[test]
fn tsc_scales_are_exact_to_a_billionth() {
    for khz in [1, 1000, 999_999, 1_000_000, 2_000_000, 2_596_156, 4_000_000_000u32] {
        let (mul, shift) = tsc_scale(khz);
        let ticks = u128::from(khz) * 1000;
        let shifted = if shift < 0 { ticks >> -shift } else { ticks << shift };
        let ns = (shifted * u128::from(mul)) >> 32;
        assert!(ns.abs_diff(1_000_000_000) <= 2 + 2_000_000_000 / ticks.max(1), "{khz}: {ns}");
    }
}

#[test]
fn clock_pages() {
    let mut m = Machine::long(0);
    m.cpu.tsc_khz = 2_000_000;
    write_msr(&mut m, index::KVM_SYSTEM_TIME, 0x4001).unwrap();
    assert_eq!(m.get32(0x4000) & 1, 0);
    assert_ne!(m.get32(0x4000), 0);
    assert_eq!((m.get64(0x4008), m.get64(0x4010)), (1000, 500));
    let (mul, shift) = tsc_scale(2_000_000);
    assert_eq!((m.get32(0x4018), m.get16(0x401c)), (mul, u16::from(shift.cast_unsigned()) | 0x100));
    let version = m.get32(0x4000);
    crate::pvclock::refresh(&mut m);
    assert!(m.get32(0x4000) > version && m.get32(0x4000) & 1 == 0);
    m.ns = 250_000_000;
    write_msr(&mut m, index::KVM_WALL_CLOCK, 0x4100).unwrap();
    assert_eq!((m.get32(0x4104), m.get32(0x4108)), (1_700_000_000, 0));
    // A page outside RAM harms nobody.
    write_msr(&mut m, index::KVM_SYSTEM_TIME, u64::MAX).unwrap();
    write_msr(&mut m, index::KVM_WALL_CLOCK, u64::MAX).unwrap();
}

#[test]
fn hypercalls() {
    let mut m = Machine::long(0);
    let call = |m: &mut Machine, number: u64| {
        m.cpu.regs[reg::RAX] = number;
        m.cpu.regs[reg::RCX] = 3;
        let effect = hypercall(m);
        (m.cpu.regs[reg::RAX].cast_signed(), effect)
    };
    assert_eq!(call(&mut m, 1), (0, Hypercall::Done));
    assert_eq!(call(&mut m, 5), (0, Hypercall::Kick(3)));
    assert_eq!(call(&mut m, 99), (-1000, Hypercall::Done));
    // They do not depend on the bits of CPUID that tell of them.
    m.cpu.caps.kvm_features = 0;
    assert_eq!(call(&mut m, 5), (0, Hypercall::Kick(3)));
    m.set_level(3);
    assert_eq!(call(&mut m, 1), (-1, Hypercall::Done));
    let mut m = Machine::protected(0);
    assert_eq!(call(&mut m, 99), (0xffff_fc18, Hypercall::Done));
}
