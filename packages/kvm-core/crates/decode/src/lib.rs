//! Finds instruction boundaries and what each instruction does to control flow.
//!
//! Decoding proper is `iced-x86`'s; this crate adds what an engine must know besides: where a
//! block of straight-line code has to end, and the failures that a CPU reports while decoding.
#![forbid(unsafe_code)]

mod boundary;

pub use boundary::ends_block;

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction};

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

/// Whose manual decides where the vendors differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// AMD and Hygon.
    Amd,
    /// Intel.
    Intel,
}

/// Decodes the instruction at the start of `bytes`.
///
/// `bits` is the default operand size of the code segment (16, 32 or 64), `ip` the value that
/// RIP-relative operands and branch targets are relative to. The vendors differ in what an
/// operand-size prefix means for 64-bit near branches. Far branches through a 64-bit offset (REX.W)
/// exist for both: AMD's processors do not have them, but the virtual ones of KVM and QEMU do.
#[must_use]
pub fn decode(bits: u32, bytes: &[u8], ip: u64, dialect: Dialect) -> Decoded {
    let window = &bytes[..bytes.len().min(MAX_INSTRUCTION_BYTES)];
    let options = match dialect {
        Dialect::Amd => DecoderOptions::AMD,
        Dialect::Intel => DecoderOptions::NONE,
    };
    let mut decoder = Decoder::with_ip(bits, window, ip, options);
    let instruction = decoder.decode();
    if dialect == Dialect::Amd && matches!(instruction.code(), Code::Jmp_m1632 | Code::Call_m1632) {
        // With REX.W the other vendor's decoder sees the wide form, without it the same one.
        return decode(bits, bytes, ip, Dialect::Intel);
    }
    if !instruction.is_invalid() {
        return Decoded::Instruction(instruction);
    }
    match decoder.last_error() {
        DecoderError::NoMoreBytes => Decoded::Incomplete,
        // With all bytes that an instruction may have, the decoder does not say that it wants more.
        _ if decoder.position() == MAX_INSTRUCTION_BYTES && !is_whole(bits, window, options) => {
            Decoded::TooLong
        }
        _ => Decoded::Invalid,
    }
}

/// True if `window` has all bytes of an instruction that is merely illegal, as one with LOCK.
fn is_whole(bits: u32, window: &[u8], options: u32) -> bool {
    !Decoder::with_ip(bits, window, 0, options | DecoderOptions::NO_INVALID_CHECK)
        .decode()
        .is_invalid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd(bits: u32, bytes: &[u8]) -> Decoded {
        decode(bits, bytes, 0, Dialect::Amd)
    }

    #[test]
    fn vendors_differ_in_branches() {
        // 66 E8: a near call with an operand-size prefix in 64-bit code.
        let bytes = [0x66, 0xe8, 1, 0, 0, 0];
        let len = |dialect| match decode(64, &bytes, 0, dialect) {
            Decoded::Instruction(i) => i.len(),
            _ => 0,
        };
        assert_eq!((len(Dialect::Amd), len(Dialect::Intel)), (4, 6));
        // FF /5 and /3: far branches through an offset of 32 bits, with REX.W of 64.
        for (bytes, size) in
            [(&[0x48, 0xff, 0x2e][..], 10), (&[0x48, 0xff, 0x1e], 10), (&[0xff, 0x2e], 6)]
        {
            for dialect in [Dialect::Amd, Dialect::Intel] {
                let Decoded::Instruction(i) = decode(64, bytes, 0, dialect) else {
                    panic!("{bytes:x?}")
                };
                assert_eq!(i.memory_size().size(), size);
            }
        }
    }

    #[test]
    fn tells_short_input_from_bad_input() {
        assert!(matches!(amd(64, &[0x48, 0x8b]), Decoded::Incomplete));
        assert!(matches!(amd(64, &[0x0f, 0xff, 0xc0]), Decoded::Instruction(_) | Decoded::Invalid));
        assert!(matches!(amd(64, &[0x06, 0]), Decoded::Invalid));
        assert!(matches!(amd(64, &[0x66; 14]), Decoded::Incomplete));
        assert!(matches!(amd(64, &[0x66; 15]), Decoded::TooLong));
        assert!(matches!(amd(64, &[0x66; 20]), Decoded::TooLong));
        let mut longest = [0x66; 20];
        longest[14] = 0x90;
        assert!(matches!(amd(64, &longest), Decoded::Instruction(_)));
        longest[0] = 0x06;
        assert!(matches!(amd(64, &longest), Decoded::Invalid));
        // LOCK IMUL of exactly 15 bytes is illegal, not too long; one more prefix makes it so.
        let locked = [0xf0, 0x64, 0x67, 0x4e, 0x69, 0x3c, 0x6d, 1, 0, 0, 0, 0x8b, 0xff, 0xff, 0xff];
        assert!(matches!(amd(64, &locked), Decoded::Invalid));
        let longer: Vec<u8> = [0x65].into_iter().chain(locked).collect();
        assert!(matches!(amd(64, &longer), Decoded::TooLong));
        let Decoded::Instruction(i) = amd(64, &[0x90, 0xcc]) else { panic!("nop") };
        assert_eq!(i.len(), 1);
    }
}
