//! Any bytes, in any mode, with state that persists from one instruction to the next.

use iced_x86::{Decoder, DecoderOptions};

use super::super::*;
use super::random::Random;
use super::simd_exceptions::{catch_sigfpe, raised};

struct Anything<'a>(&'a mut Random);

impl ElementMemory for Anything<'_> {
    type Error = ();
    fn read(&mut self, _: i64, bytes: u8) -> Result<u64, ()> {
        assert!((1..=8).contains(&bytes));
        if self.0.below(8) == 0 { Err(()) } else { Ok(self.0.next() >> (64 - 8 * bytes)) }
    }
    fn write(&mut self, _: i64, bytes: u8, _: u64) -> Result<(), ()> {
        assert!((1..=8).contains(&bytes));
        if self.0.below(8) == 0 { Err(()) } else { Ok(()) }
    }
}

fn bytes(random: &mut Random) -> [u8; 15] {
    let mut bytes: [u8; 15] = std::array::from_fn(|_| (random.next() >> 40) as u8);
    let starts: [&[u8]; 12] = [
        &[0x0f],
        &[0x66, 0x0f],
        &[0xf2, 0x0f],
        &[0xf3, 0x0f],
        &[0x66, 0x0f, 0x38],
        &[0x66, 0x0f, 0x3a],
        &[0xc5],
        &[0xc4, 0xe1],
        &[0xc4, 0xe2],
        &[0xc4, 0xe3],
        &[0x48, 0x0f],
        &[0x66, 0x48, 0x0f],
    ];
    if random.below(3) == 0 {
        bytes[0] = 0xd8 + random.below(8) as u8;
    } else {
        let start = starts[random.below(starts.len())];
        bytes[..start.len()].copy_from_slice(start);
    }
    bytes
}

#[test]
fn no_instruction_disturbs_the_host() {
    catch_sigfpe();
    let host = HostCpu::detect();
    let mut random = Random(31337);
    let mut state = VectorState::default();
    let mut gpr: [u64; 32] = std::array::from_fn(|_| random.next());
    let mut scratch = Scratch::default();
    let (mut executed, mut refused) = (0, 0);
    for round in 0..400_000u32 {
        let bytes = bytes(&mut random);
        let bitness = [16, 32, 64][random.below(3)];
        let instr = Decoder::new(bitness, &bytes, DecoderOptions::NONE).decode();
        let Some(op) = prepare(&instr, &host) else { continue };
        let op = op.with_bytes(&bytes[..instr.len()]);
        executed += 1;
        if op.by_element() {
            let _ = execute_elements(&op, &mut state, &mut Anything(&mut random));
            continue;
        }
        if op.mem().is_some_and(|mem| mem.read) {
            for chunk in scratch.0.chunks_exact_mut(8) {
                chunk.copy_from_slice(&random.word().to_le_bytes());
            }
        }
        let mut io = Operands {
            mem: &mut scratch,
            gpr: &mut gpr,
            flags: random.next() & 0x8d5,
            x87: X87Pointers::default(),
            real_format: random.next() & 1 << 60 != 0,
            store: true,
        };
        if execute(&op, &mut state, &mut io).is_err() {
            refused += 1;
            state.fninit();
        }
        if round % 64 == 0 {
            let area = state.to_xsave();
            state.load_xsave(&area).expect("what was saved loads");
        }
    }
    assert!(!raised());
    assert!(executed > 50_000 && refused > 100, "{executed} executed, {refused} refused");
}
