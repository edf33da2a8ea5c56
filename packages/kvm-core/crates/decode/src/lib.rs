//! Finds instruction boundaries and what each instruction does to control flow.
//!
//! Decoding proper is `iced-x86`'s; this crate adds what an engine must know besides: where a
//! block of straight-line code has to end, and the failures that a CPU reports while decoding.
#![forbid(unsafe_code)]

mod boundary;

pub use boundary::ends_block;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};

/// The longest legal instruction (SDM volume 2, 2.3.11).
pub const MAX_INSTRUCTION_BYTES: usize = 15;

/// The result of decoding one instruction.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Decoded {
    /// A legal encoding.
    Instruction(Instruction),
    /// #UD.
    Invalid,
    /// #GP(0): longer than 15 bytes.
    TooLong,
    /// The bytes given end inside the instruction.
    Incomplete,
}

/// Decodes the instruction at the start of `bytes`.
///
/// `bits` is the default operand size of the code segment (16, 32 or 64), `ip` the value that
/// RIP-relative operands and branch targets are relative to.
#[must_use]
pub fn decode(bits: u32, bytes: &[u8], ip: u64) -> Decoded {
    let window = &bytes[..bytes.len().min(MAX_INSTRUCTION_BYTES)];
    let mut decoder = Decoder::with_ip(bits, window, ip, DecoderOptions::AMD);
    let instruction = decoder.decode();
    if !instruction.is_invalid() {
        return Decoded::Instruction(instruction);
    }
    match decoder.last_error() {
        DecoderError::NoMoreBytes => Decoded::Incomplete,
        // With all bytes that an instruction may have, the decoder does not say that it wants more.
        _ if decoder.position() == MAX_INSTRUCTION_BYTES => Decoded::TooLong,
        _ => Decoded::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_short_input_from_bad_input() {
        assert!(matches!(decode(64, &[0x48, 0x8b], 0), Decoded::Incomplete));
        assert!(matches!(
            decode(64, &[0x0f, 0xff, 0xc0], 0),
            Decoded::Instruction(_) | Decoded::Invalid
        ));
        assert!(matches!(decode(64, &[0x06, 0], 0), Decoded::Invalid));
        assert!(matches!(decode(64, &[0x66; 14], 0), Decoded::Incomplete));
        assert!(matches!(decode(64, &[0x66; 15], 0), Decoded::TooLong));
        assert!(matches!(decode(64, &[0x66; 20], 0), Decoded::TooLong));
        let mut longest = [0x66; 20];
        longest[14] = 0x90;
        assert!(matches!(decode(64, &longest, 0), Decoded::Instruction(_)));
        longest[0] = 0x06;
        assert!(matches!(decode(64, &longest, 0), Decoded::Invalid));
        let Decoded::Instruction(i) = decode(64, &[0x90, 0xcc], 0) else { panic!("nop") };
        assert_eq!(i.len(), 1);
    }
}
