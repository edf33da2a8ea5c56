//! Repeated INS and OUTS: what goes through one exit, and what must not.

use kvm_abi::exit::Exit;
use kvm_abi::regs::{GuestDebug, guestdbg};
use kvm_cpu::engine::request;

use super::machine::{ALL_MODES, DATA, DEVICE, Machine, Mode, PAGE_TABLES, mmio};
use super::rng::Rng;

const PORT: u16 = 0x1f0;
const REP_INSW_HLT: [u8; 4] = [0x66, 0xf3, 0x6d, 0xf4];
const REP_OUTSW_HLT: [u8; 4] = [0x66, 0xf3, 0x6f, 0xf4];
const REP_INSB_HLT: [u8; 3] = [0xf3, 0x6c, 0xf4];

fn machine(code: &[u8], rsi: u64, rdi: u64, rcx: u64) -> Machine {
    let mut m = Machine::new(Mode::Long, code);
    m.set(|r| (r.rsi, r.rdi, r.rcx, r.rdx) = (rsi, rdi, rcx, u64::from(PORT)));
    m
}

fn string(write: bool, size: u8, count: u16) -> Exit {
    Exit::IoString { write, port: PORT, size, count }
}

fn one(write: bool, size: u8, value: u32) -> Exit {
    Exit::Io { write, port: PORT, size, value }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 5 + n / 251) as u8).collect()
}

#[test]
fn a_sector_comes_in_one_exit() {
    let mut m = machine(&REP_INSW_HLT, 0, DATA, 256);
    assert_eq!(m.vcpu.run(), string(false, 2, 256));
    // Nothing has happened as far as the guest can see.
    assert!(m.vcpu.io_pending());
    let r = m.regs();
    assert_eq!((r.rdi, r.rcx), (DATA, 256));
    m.vcpu.complete_read(&pattern(512));
    let r = m.run_to_halt();
    assert_eq!((r.rdi, r.rcx), (DATA + 512, 0));
    assert!(m.read(DATA, 512) == pattern(512));
}

#[test]
fn a_sector_goes_in_one_exit() {
    let mut m = machine(&REP_OUTSW_HLT, DATA + 6, 0, 256);
    m.write(DATA + 6, &pattern(512));
    assert_eq!(m.vcpu.run(), string(true, 2, 256));
    assert!(m.vcpu.string_data() == pattern(512));
    let r = m.run_to_halt();
    assert_eq!((r.rsi, r.rcx), (DATA + 518, 0));
    assert!(m.vcpu.string_data().is_empty());
}

#[test]
fn an_exit_ends_with_the_page() {
    // Ten words, of which the fourth lies in two pages.
    let mut m = machine(&REP_OUTSW_HLT, DATA + 0x1000 - 7, 0, 10);
    m.write(DATA + 0x1000 - 7, &pattern(20));
    let mut sent = Vec::new();
    for exit in [string(true, 2, 3), one(true, 2, 0), string(true, 2, 6)] {
        match (m.vcpu.run(), exit) {
            (Exit::Io { size: 2, value, .. }, Exit::Io { .. }) => {
                sent.extend_from_slice(&value.to_le_bytes()[..2]);
            }
            (got, exit) => {
                assert_eq!(got, exit);
                sent.extend_from_slice(m.vcpu.string_data());
            }
        }
    }
    m.run_to_halt();
    assert_eq!(sent, pattern(20));

    let mut m = machine(&REP_INSB_HLT, 0, DATA, 10_000);
    for count in [4096, 4096, 1808] {
        assert_eq!(m.vcpu.run(), string(false, 1, count));
    }
    m.run_to_halt();
}

#[test]
fn downwards_the_order_is_that_of_the_instruction() {
    for (code, write) in [([0xfd, 0xf3, 0x6f, 0xf4], true), ([0xfd, 0xf3, 0x6d, 0xf4], false)] {
        let mut m = machine(&code, DATA + 8, DATA + 8, 3);
        m.write(DATA, &pattern(12));
        assert_eq!(m.vcpu.run(), string(write, 4, 3));
        let upside_down: Vec<u8> = pattern(12).rchunks(4).flatten().copied().collect();
        if write {
            assert_eq!(m.vcpu.string_data(), upside_down);
        } else {
            m.write(DATA, &[0; 12]);
            m.vcpu.complete_read(&upside_down);
        }
        let r = m.run_to_halt();
        assert_eq!(r.rcx, 0);
        assert_eq!(if write { r.rsi } else { r.rdi }, DATA - 4);
        assert_eq!(m.read(DATA, 12), pattern(12));
    }
}

#[test]
fn the_port_is_not_read_for_memory_that_faults() {
    // The first large page ends there, and the second is not mapped.
    let end = 0x20_0000;
    let mut m = machine(&REP_INSB_HLT, 0, end - 2, 5);
    m.words(PAGE_TABLES + 0x2008, &[0]);
    assert_eq!(m.vcpu.run(), string(false, 1, 2));
    m.vcpu.complete_read(&[1, 2]);
    assert_eq!(m.run_to_fault(), 14);
    let (r, s) = (m.regs(), m.vcpu.sregs());
    assert_eq!((r.rdi, r.rcx, s.cr2), (end, 3, end));
    assert_eq!(m.read(end - 2, 2), [1, 2]);
}

#[test]
fn between_a_port_and_a_device_it_goes_one_by_one() {
    let mut m = machine(&REP_INSB_HLT, 0, DEVICE, 2);
    for n in 0..2u8 {
        assert_eq!(m.vcpu.run(), one(false, 1, 0));
        m.vcpu.complete_read(&[n]);
        assert_eq!(m.vcpu.run(), mmio(true, DEVICE + u64::from(n), &[n]));
    }
    m.run_to_halt();
}

#[test]
fn memory_that_turns_into_a_device_meanwhile_gets_every_item_once() {
    let mut m = machine(&REP_INSB_HLT, 0, DATA, 3);
    assert_eq!(m.vcpu.run(), string(false, 1, 3));
    m.vcpu.complete_read(&[7, 8, 9]);
    // The answers are for whatever is at RDI now.
    m.set(|r| r.rdi = DEVICE);
    for n in 0..3u8 {
        assert_eq!(m.vcpu.run(), mmio(true, DEVICE + u64::from(n), &[7 + n]));
    }
    let r = m.run_to_halt();
    assert_eq!((r.rdi, r.rcx), (DEVICE + 3, 0));
}

#[test]
fn a_kick_leaves_between_two_exits() {
    let mut m = machine(&REP_INSB_HLT, 0, DATA, 5000);
    assert_eq!(m.vcpu.run(), string(false, 1, 4096));
    m.vcpu.complete_read(&[1; 4096]);
    m.requests.raise(request::EXIT);
    assert_eq!(m.vcpu.run(), Exit::Intr);
    assert!(!m.vcpu.io_pending(), "the state can be saved");
    let r = m.regs();
    assert_eq!((r.rdi, r.rcx), (DATA + 4096, 904));
    assert_eq!(m.vcpu.run(), string(false, 1, 904));
    m.run_to_halt();
}

#[test]
fn an_interrupt_comes_between_two_exits() {
    let mut m = machine(&REP_INSB_HLT, 0, DATA, 5000);
    m.set(|r| r.rflags |= 0x200);
    assert_eq!(m.vcpu.run(), string(false, 1, 4096));
    m.vcpu.complete_read(&[1; 4096]);
    m.vcpu.interrupt(0x40).unwrap();
    assert_eq!(m.run_to_fault(), 0x40);
    assert_eq!(m.regs().rcx, 904);
}

#[test]
fn single_steps_see_every_element() {
    let mut m = machine(&REP_INSB_HLT, 0, DATA, 3);
    let control = guestdbg::ENABLE | guestdbg::SINGLESTEP;
    m.vcpu.set_guest_debug(&GuestDebug { control, ..GuestDebug::default() }).unwrap();
    for left in (0..3u64).rev() {
        assert_eq!(m.vcpu.run(), one(false, 1, 0));
        m.vcpu.complete_read(&[5]);
        assert!(matches!(m.vcpu.run(), Exit::Debug { .. }));
        assert_eq!(m.regs().rcx, left);
    }
}

#[test]
fn another_instruction_pointer_drops_the_answers() {
    let mut m = machine(&REP_INSB_HLT, 0, DATA, 9);
    assert_eq!(m.vcpu.run(), string(false, 1, 9));
    m.vcpu.complete_read(&[1; 9]);
    m.set(|r| r.rip += 2);
    assert!(!m.vcpu.io_pending());
    assert_eq!(m.run_to_halt().rcx, 9);
    assert_eq!(m.read(DATA, 9), [0; 9]);
}

#[test]
fn however_it_is_cut_the_same_bytes_arrive() {
    let mut rng = Rng::new(11);
    for mode in ALL_MODES {
        for _ in 0..30 {
            let (offset, count) = (0x100 + rng.next() % 0x1800, 1 + rng.next() % 0x900);
            let size = [1u8, 2, 4][(rng.next() % 3) as usize];
            let down = rng.next().is_multiple_of(3);
            let wide = matches!(mode, Mode::Real | Mode::Protected16) == (size == 4);
            let prefix = (size != 1 && wide).then_some(0x66);
            let write = rng.next().is_multiple_of(2);
            let opcode = if write { 0x6e } else { 0x6c } | u8::from(size != 1);
            let mut code = vec![if down { 0xfd } else { 0xfc }];
            code.extend(prefix);
            // The data is out of reach of 16-bit pointers.
            code.extend((mode == Mode::Protected16).then_some(0x67));
            code.extend([0xf3, opcode, 0xf4]);
            let mut m = Machine::new(mode, &code);
            let base = if mode == Mode::Real { 0 } else { DATA };
            let bytes = count * u64::from(size);
            let start = if down { offset + bytes - u64::from(size) } else { offset };
            m.set(|r| {
                (r.rsi, r.rdi, r.rcx, r.rdx) = (base + start, base + start, count, PORT.into());
            });
            let all = pattern(bytes as usize);
            m.write(DATA + offset, if write { &all } else { &[] });
            let (mut moved, mut exits) = (0, 0);
            let item = |n: usize| {
                let n = if down { count as usize - 1 - n } else { n };
                &all[n * usize::from(size)..][..usize::from(size)]
            };
            loop {
                let exit = m.vcpu.run();
                let items = match exit {
                    Exit::Io { .. } => 1,
                    Exit::IoString { count, .. } => usize::from(count),
                    Exit::Hlt => break,
                    other => panic!("{mode:?}: {other:?}"),
                };
                let there: Vec<u8> = (moved..moved + items).flat_map(item).copied().collect();
                match exit {
                    _ if !write => m.vcpu.complete_read(&there),
                    Exit::Io { value, .. } => assert_eq!(value.to_le_bytes()[..there.len()], there),
                    _ => assert!(m.vcpu.string_data() == there),
                }
                moved += items;
                exits += 1;
            }
            assert_eq!(moved as u64, count);
            assert!(exits <= 2 * (bytes / 4096 + 2), "{exits} exits for {bytes} bytes");
            assert!(m.read(DATA + offset, bytes as usize) == all);
        }
    }
}
