//! Queues of a driver in a vector, which does what it likes.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use vring::{Backend, Card, CardConfig, Chain, Layout, Memory, Positions, Queue, Strange, Which};

const SIZE: u16 = 8;
const BYTES: usize = 0x4000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

struct Ram(RefCell<Vec<u8>>);

impl Ram {
    fn new() -> Self {
        Self(RefCell::new(vec![0; BYTES]))
    }

    fn set(&self, gpa: u64, bytes: &[u8]) {
        assert!(self.write(gpa, bytes));
    }

    fn word(&self, gpa: u64) -> u16 {
        let mut bytes = [0; 2];
        assert!(self.read(gpa, &mut bytes));
        u16::from_le_bytes(bytes)
    }

    fn descriptor(&self, queue: Layout, index: u16, gpa: u64, length: u32, flags: u16, next: u16) {
        let at = queue.desc + 16 * u64::from(index);
        self.set(at, &gpa.to_le_bytes());
        self.set(at + 8, &length.to_le_bytes());
        self.set(at + 12, &flags.to_le_bytes());
        self.set(at + 14, &next.to_le_bytes());
    }

    fn offer(&self, queue: Layout, head: u16) {
        let idx = self.word(queue.avail + 2);
        self.set(queue.avail + 4 + 2 * u64::from(idx % SIZE), &head.to_le_bytes());
        self.set(queue.avail + 2, &idx.wrapping_add(1).to_le_bytes());
    }
}

impl Memory for &Ram {
    fn read(&self, gpa: u64, to: &mut [u8]) -> bool {
        (**self).read(gpa, to)
    }

    fn write(&self, gpa: u64, from: &[u8]) -> bool {
        (**self).write(gpa, from)
    }
}

impl Memory for Ram {
    fn read(&self, gpa: u64, to: &mut [u8]) -> bool {
        let ram = self.0.borrow();
        let from = usize::try_from(gpa).ok().and_then(|at| ram.get(at..at.checked_add(to.len())?));
        from.map(|from| to.copy_from_slice(from)).is_some()
    }

    fn write(&self, gpa: u64, from: &[u8]) -> bool {
        let mut ram = self.0.borrow_mut();
        let at = usize::try_from(gpa).unwrap_or(usize::MAX);
        let to = at.checked_add(from.len()).and_then(|end| ram.get_mut(at..end));
        to.map(|to| to.copy_from_slice(from)).is_some()
    }
}

fn layout(at: u64, event_idx: bool) -> Layout {
    Layout { size: SIZE, desc: at, avail: at + 0x100, used: at + 0x200, event_idx, indirect: true }
}

fn start() -> Positions {
    Positions { last_avail: 0, used_idx: 0, signalled: 0 }
}

fn config() -> CardConfig {
    CardConfig {
        mergeable: true,
        checksums: true,
        offloads: 7,
        mac: MAC,
        unicast: true,
        broadcast: true,
    }
}

/// Sends every frame back to the card.
#[derive(Default)]
struct Mirror {
    frames: usize,
}

impl Backend for Mirror {
    fn input(&mut self, frames: &[u8], out: &mut [u8], used: usize) -> vring::Result<usize> {
        let mut at = 0;
        let mut end = used;
        while at < frames.len() {
            let length = u32::from_le_bytes(frames[at..at + 4].try_into().unwrap()) as usize;
            let record = (4 + length).next_multiple_of(4);
            if end + record <= out.len() {
                out[end..end + record].copy_from_slice(&frames[at..at + record]);
                out[end + 16..end + 22].copy_from_slice(&MAC);
                end += record;
            }
            at += record;
            self.frames += 1;
        }
        Ok(end)
    }

    fn poll(&mut self, _out: &mut [u8], used: usize) -> vring::Result<(usize, bool)> {
        Ok((used, false))
    }
}

#[test]
fn a_frame_goes_out_and_its_answer_into_two_buffers() {
    let ram = Ram::new();
    let (rx, tx) = (layout(0, false), layout(0x400, false));
    ram.set(0x1000, &[0; 12]);
    ram.set(0x100c, &[7; 40]);
    ram.descriptor(tx, 0, 0x1000, 20, 1, 3);
    ram.descriptor(tx, 3, 0x1014, 32, 0, 0);
    ram.offer(tx, 0);
    for head in [5, 6] {
        ram.descriptor(rx, head, 0x2000 + 0x100 * u64::from(head), 30, 2, 0);
        ram.offer(rx, head);
    }
    let mut card = Card::new(&ram, config(), (rx, start()), (tx, start()));
    let mut raised = Vec::new();
    let mut mirror = Mirror::default();
    assert_eq!(card.run(&mut mirror, &mut |which| raised.push(which)), Ok(false));
    assert_eq!(mirror.frames, 1);
    assert_eq!(raised, [Which::Receive, Which::Transmit]);
    assert_eq!((ram.word(rx.used + 2), ram.word(tx.used + 2)), (2, 1));
    // 52 bytes in buffers of 30, and how many those are.
    assert_eq!((ram.word(rx.used + 4), ram.word(rx.used + 8)), (5, 30));
    assert_eq!((ram.word(rx.used + 12), ram.word(rx.used + 16)), (6, 22));
    assert_eq!(ram.word(0x2500 + 10), 2);
    let mut answer = [0; 18];
    assert!(ram.read(0x250c, &mut answer));
    assert_eq!((&answer[..6], &answer[6..]), (&MAC[..], &[7; 12][..]));
    assert_eq!(card.counts().received, (1, 40));
}

#[test]
fn a_frame_waits_for_buffers_and_asks_for_a_kick() {
    let ram = Ram::new();
    let (rx, tx) = (layout(0, true), layout(0x400, true));
    ram.descriptor(tx, 0, 0x1000, 60, 0, 0);
    ram.offer(tx, 0);
    ram.descriptor(rx, 0, 0x2000, 30, 2, 0);
    ram.offer(rx, 0);
    let mut card = Card::new(&ram, config(), (rx, start()), (tx, start()));
    let mut mirror = Mirror::default();
    assert_eq!(card.run(&mut mirror, &mut |_| ()), Ok(false));
    assert_eq!(card.undelivered().len(), 64);
    // Half of the room is there, and was left in the ring.
    assert_eq!((ram.word(rx.used + 2), card.positions().0.last_avail), (0, 0));
    // The kick that is asked for is that of the next.
    assert_eq!(ram.word(rx.used + 4 + 8 * u64::from(SIZE)), 1);
    ram.descriptor(rx, 1, 0x2100, 30, 2, 0);
    ram.offer(rx, 1);
    assert_eq!(card.run(&mut mirror, &mut |_| ()), Ok(false));
    assert_eq!((ram.word(rx.used + 2), card.undelivered().len()), (2, 0));
}

#[test]
fn a_driver_whose_ring_was_full_is_asked_for_kicks() {
    for event_idx in [true, false] {
        let ram = Ram::new();
        let tx = layout(0x400, event_idx);
        for head in 0..SIZE {
            ram.descriptor(tx, head, 0x1000, 60, 0, 0);
            ram.offer(tx, head);
        }
        let mut card = Card::new(&ram, config(), (layout(0, event_idx), start()), (tx, start()));
        let mut mirror = Mirror::default();
        assert_eq!(card.run(&mut mirror, &mut |_| ()), Ok(false));
        assert_eq!(mirror.frames, usize::from(SIZE));
        let event = ram.word(tx.used + 4 + 8 * u64::from(SIZE));
        assert_eq!((event, ram.word(tx.used)), (if event_idx { SIZE } else { 0 }, 0));
    }
}

#[test]
fn what_is_strange_stays_in_the_ring() {
    let ram = Ram::new();
    let tx = layout(0x400, false);
    for (gpa, length, flags, next) in [
        (0x1000, 60, 1, SIZE),
        (0x1000, 60, 1, 0),
        (0x1000, 0, 0, 0),
        (0x1000, u32::MAX, 0, 0),
        (0x1000, 8, 4, 0),
        (0x1000, 32, 5, 0),
        (u64::MAX, 60, 0, 0),
        (BYTES as u64 - 8, 60, 0, 0),
        (0x1000, 11, 0, 0),
    ] {
        ram.set(tx.avail, &[0; 32]);
        ram.descriptor(tx, 0, gpa, length, flags, next);
        ram.offer(tx, 0);
        let mut card = Card::new(&ram, config(), (layout(0, false), start()), (tx, start()));
        let mut mirror = Mirror::default();
        assert_eq!(card.run(&mut mirror, &mut |_| ()), Err(Strange), "{gpa:#x} {length} {flags}");
        assert_eq!((card.positions().1, mirror.frames), (start(), 0));
    }
    ram.set(tx.avail + 2, &(SIZE + 1).to_le_bytes());
    assert_eq!(Queue::new(tx, start()).has_chains(&ram), Err(Strange));
}

#[test]
fn an_interrupt_is_as_the_driver_wants_it() {
    let ram = Ram::new();
    for (event_idx, event, wanted) in
        [(true, 0, true), (true, 1, false), (false, 0, true), (false, 1, false)]
    {
        let tx = layout(0x400, event_idx);
        ram.set(tx.avail, &[0; 32]);
        ram.descriptor(tx, 0, 0x1000, 60, 0, 0);
        ram.offer(tx, 0);
        let at = if event_idx { tx.avail + 4 + 2 * u64::from(SIZE) } else { tx.avail };
        ram.set(at, &[event, 0]);
        let mut queue = Queue::new(tx, start());
        let mut chain = Chain::default();
        assert_eq!(queue.pop(&ram, &mut chain), Ok(true));
        queue.push(&ram, chain.head, 0).unwrap();
        assert_eq!(queue.publish(&ram), Ok(wanted));
        assert_eq!(queue.publish(&ram), Ok(false));
    }
}

proptest! {
    /// Whatever is in memory: it ends, and nothing of it is taken for what it is not.
    #[test]
    fn any_memory_is_survived(
        words in vec((0..0x800u64, any::<u16>()), 0..300),
        heads in vec((0..2usize, 0..SIZE + 2), 0..20),
        event_idx: bool,
    ) {
        let ram = Ram::new();
        let queues = [layout(0, event_idx), layout(0x400, event_idx)];
        for queue in queues {
            for index in 0..SIZE {
                let writable = if queue.desc == 0 { 2 } else { 0 };
                ram.descriptor(queue, index, 0x1000 + 0x100 * u64::from(index), 200, writable, 0);
            }
        }
        let mut card = Card::new(&ram, config(), (queues[0], start()), (queues[1], start()));
        let mut mirror = Mirror::default();
        for (which, head) in heads {
            ram.offer(queues[which], head);
            let _ = card.run(&mut mirror, &mut |_| ());
        }
        for (at, value) in words {
            ram.set(at, &value.to_le_bytes());
            let _ = card.run(&mut mirror, &mut |_| ());
        }
    }
}
