//! Code that runs over a boundary, and instructions of every length that lie across one.

use kvm_abi::exit::Exit;

use super::fence::Neighbour;
use super::layout::{PAGE, PIECES, SPARE_AT, canonical, edges, find, piece};
use super::machine::{End, Machine, State, Who};

/// The longest legal instruction.
const LONGEST: u64 = 15;
const INT3: u8 = 0xcc;
const USER: u64 = 4;

/// Where execution ends that comes to `at`, in an instruction that begins at `rip`. `None` where it
/// goes on.
fn fetch(at: u64, rip: u64) -> Option<End> {
    let end = |vector, error, cr2| Some(End { vector, error, cr2, rip });
    if !canonical(at) {
        return end(13, 0, 0);
    }
    match find(at) {
        None => end(14, USER, at),
        // A user program that executes a device.
        Some(page) if piece(page.gpa).is_none() => end(6, 0, 0),
        Some(_) => None,
    }
}

/// What must happen to an instruction of `length` bytes that begins `before` the edge, with NOPs
/// behind it up to the edge and INT3 from there on.
fn expected(edge: u64, before: u64, length: u64) -> End {
    let rip = edge.wrapping_sub(before);
    let breakpoint = |at: u64| End { vector: 3, error: 0, cr2: 0, rip: at.wrapping_add(1) };
    let too_long = End { vector: 13, error: 0, cr2: 0, rip };
    if length > LONGEST && before >= LONGEST {
        return too_long;
    }
    if length <= before {
        return fetch(edge, edge).unwrap_or(breakpoint(edge));
    }
    fetch(edge, rip).unwrap_or(if length > LONGEST {
        too_long
    } else {
        breakpoint(rip.wrapping_add(length))
    })
}

/// Writes bytes at a linear address, as far as RAM is there.
fn put(m: &Machine, linear: u64, bytes: &[u8]) {
    for (n, &byte) in (0..).zip(bytes) {
        let at = linear.wrapping_add(n);
        if let Some(page) = find(at)
            && piece(page.gpa).is_some()
        {
            m.write(page.gpa + (at & (PAGE - 1)), &[byte]);
        }
    }
}

/// True if the page can be written from outside.
fn is_ram(linear: u64) -> bool {
    find(linear).and_then(|page| piece(page.gpa)).is_some_and(|(n, _)| !PIECES[n].readonly)
}

#[test]
fn instructions_of_every_length_end_at_a_boundary() {
    let mut m = Machine::new(Neighbour::Canary);
    let mut ran = 0;
    for edge in edges() {
        // Memory that cannot be written holds no code of this test.
        let behind = find(edge).is_some_and(|page| piece(page.gpa).is_some());
        if !is_ram(edge.wrapping_sub(1)) || behind && !is_ram(edge) {
            continue;
        }
        for before in 1..=LONGEST + 1 {
            for length in 1..=LONGEST + 2 {
                let start = edge.wrapping_sub(before);
                let mut code = vec![0x2e; length as usize - 1];
                code.push(0x90);
                code.resize(code.len().max(before as usize), 0x90);
                code.extend_from_slice(&[INT3; 2]);
                put(&m, start, &code);
                let mut gpr = [0x55; 16];
                gpr[4] = SPARE_AT + PAGE / 2;
                // Twice: a second time where all of it is decoded.
                for _ in 0..2 {
                    m.load(&State { gpr, rip: start, fs: 0, gs: 0 }, Who::User);
                    assert_eq!(m.run(), Exit::Hlt, "{length} bytes, {before} before {edge:#x}");
                    let (now, end) = m.end();
                    let wanted = expected(edge, before, length);
                    assert_eq!(end, wanted, "{length} bytes, {before} before {edge:#x}");
                    assert_eq!(now, gpr);
                    ran += 1;
                }
            }
        }
    }
    println!("{ran} runs");
    assert!(ran > 4000);
    m.fence.take().unwrap().finish();
}
