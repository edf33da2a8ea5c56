//! IPIs, MSIs and who gets them.

use super::Machine;
use crate::Wake;

fn takes(m: &Machine, vcpu: usize) -> Option<u8> {
    m.chip.ack_interrupt(vcpu as u32)
}

#[test]
fn ipis_reach_whom_they_name() {
    let m = Machine::new(3);
    m.write(0, 0x310, 2 << 24);
    m.write(0, 0x300, 0x41);
    assert_eq!([takes(&m, 0), takes(&m, 1), takes(&m, 2)], [None, None, Some(0x41)]);
    m.write(1, 0x300, 0x4_0042);
    assert_eq!([takes(&m, 0), takes(&m, 1), takes(&m, 2)], [None, Some(0x42), None]);
    m.eoi(1);
    m.eoi(2);
    m.write(1, 0x300, 0xc_0043);
    assert_eq!([takes(&m, 0), takes(&m, 1), takes(&m, 2)], [Some(0x43), None, Some(0x43)]);
    m.eoi(0);
    m.eoi(2);
    m.write(1, 0x300, 0x8_0044);
    assert_eq!([takes(&m, 0), takes(&m, 1), takes(&m, 2)], [Some(0x44); 3]);
    m.write(0, 0x300, 0xc_0400);
    m.wakers.iter().zip([false, true, true]).for_each(|(waker, gets)| {
        assert_eq!(waker.take().contains(&Wake::Nmi), gets);
    });
    m.write(0, 0x310, 1 << 24);
    m.write(0, 0x300, 0x200);
    assert_eq!(m.wakers[1].take(), [Wake::Smi]);
}

#[test]
fn a_waker_is_called_once_until_the_interrupt_is_taken() {
    let m = Machine::new(1);
    m.wakers[0].take();
    m.chip.signal_msi(0xfee0_0000, 0x41).unwrap();
    m.chip.signal_msi(0xfee0_0000, 0x51).unwrap();
    assert_eq!(m.wakers[0].take(), [Wake::Interrupt]);
    assert_eq!(takes(&m, 0), Some(0x51));
    m.eoi(0);
    assert_eq!(m.wakers[0].take(), [Wake::Interrupt], "0x41 became deliverable");
    assert_eq!(takes(&m, 0), Some(0x41));
}

#[test]
fn msis_by_logical_id_and_lowest_priority() {
    let m = Machine::new(4);
    for vcpu in 0..4 {
        m.write(vcpu, 0xd0, 1 << (24 + vcpu));
    }
    assert_eq!(m.chip.signal_msi(0xfee0_6004, 0x50), Ok(2));
    assert_eq!([takes(&m, 0), takes(&m, 1), takes(&m, 2)], [None, Some(0x50), Some(0x50)]);
    // One of CPUs 1 to 3, chosen by the vector.
    let mut hits = [0; 4];
    for vector in 0x60..0x6c {
        assert_eq!(m.chip.signal_msi(0xfee0_e00c, 0x100 | vector), Ok(1));
    }
    for (vcpu, n) in hits.iter_mut().enumerate() {
        while takes(&m, vcpu).is_some() {
            m.eoi(vcpu);
            *n += 1;
        }
    }
    assert_eq!(hits, [0, 4, 4, 4]);
    // A software-disabled APIC is no candidate.
    m.write(1, 0xf0, 0xff);
    m.write(2, 0xf0, 0xff);
    for vector in 0x60..0x63 {
        m.chip.signal_msi(0xfee0_e00c, 0x100 | vector).unwrap();
        assert_eq!(takes(&m, 3), Some(vector as u8));
        m.eoi(3);
    }
    assert_eq!(m.chip.signal_msi(0xfee0_1000, 0x50), Ok(0));
    assert_eq!(m.chip.signal_msi(0xfee0_9000, 0x50), Ok(0));
    assert_eq!(m.chip.signal_msi(0x1234, 0x50), Ok(0));
}

#[test]
fn vectors_below_16_are_errors() {
    let m = Machine::new(2);
    m.write(0, 0x370, 0xfe);
    m.write(1, 0x370, 0xfe);
    m.write(0, 0x300, 0x4_0005);
    assert_eq!(takes(&m, 0), Some(0xfe));
    m.write(0, 0x280, 0);
    assert_eq!(m.read(0, 0x280), 0x20);
    assert_eq!(m.chip.signal_msi(0xfee0_1000, 0x0f), Ok(0));
    assert_eq!(takes(&m, 1), Some(0xfe));
    assert_eq!(m.read(1, 0x280), 0, "shown only after a write");
    m.write(1, 0x280, 0);
    assert_eq!(m.read(1, 0x280), 0x40);
    m.write(1, 0x280, 0);
    assert_eq!(m.read(1, 0x280), 0);
}

#[test]
fn three_hundred_cpus_in_x2apic_mode() {
    let m = Machine::new(300);
    m.chip.set_wide_ids(true);
    for lapic in &m.lapics {
        lapic.set_base(lapic.base() | 0x400).unwrap();
    }
    m.lapics[0].x2apic_write(0x830, 299 << 32 | 0x55).unwrap();
    assert_eq!(takes(&m, 299), Some(0x55));
    m.lapics[299].x2apic_write(0x80b, 0).unwrap();
    // Cluster 0x12, members 0 and 3.
    m.lapics[7].x2apic_write(0x830, 0x0012_0009 << 32 | 0x856).unwrap();
    assert_eq!((takes(&m, 0x120), takes(&m, 0x123)), (Some(0x56), Some(0x56)));
    assert_eq!(takes(&m, 0x121), None);
    assert_eq!(m.chip.signal_msi(0x0000_0100_fee2_b000, 0x57), Ok(1));
    assert_eq!(takes(&m, 299), Some(0x57));
    for vcpu in [0x120, 0x123, 299] {
        m.lapics[vcpu].x2apic_write(0x80b, 0).unwrap();
    }
    m.lapics[3].x2apic_write(0x830, 0xffff_ffff << 32 | 0x58).unwrap();
    assert!(m.lapics.iter().all(|lapic| lapic.has_interrupt()));
    m.lapics[5].x2apic_write(0x83f, 0x99).unwrap();
    assert_eq!(takes(&m, 5), Some(0x99));
    assert_eq!(m.chip.signal_msi(0xfeef_f000, 0x77), Ok(300), "0xff is everybody to an MSI");
}
