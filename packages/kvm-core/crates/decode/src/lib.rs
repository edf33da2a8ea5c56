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

/// Why there is no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
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

/// Decodes the instruction at the start of `bytes`, see [`Reader`].
///
/// # Errors
/// See [`Failure`].
pub fn decode(bits: u32, bytes: &[u8], ip: u64, dialect: Dialect) -> Result<Instruction, Failure> {
    Reader::new(bits, bytes, dialect).at(0, ip).copied()
}

/// Decodes one instruction after the other.
#[allow(missing_debug_implementations)]
pub struct Reader<'a> {
    decoder: Decoder<'a>,
    instruction: Instruction,
    bits: u32,
    bytes: &'a [u8],
    dialect: Dialect,
}

impl<'a> Reader<'a> {
    /// For code in `bytes`. `bits` is the default operand size of the code segment: 16, 32 or 64. The
    /// vendors differ in what an operand-size prefix means for 64-bit near branches. Far branches through
    /// a 64-bit offset (REX.W) exist for both: AMD's processors do not have them, but the virtual ones of
    /// KVM and QEMU do.
    #[must_use]
    pub fn new(bits: u32, bytes: &'a [u8], dialect: Dialect) -> Self {
        let decoder = Decoder::new(bits, bytes, options(dialect));
        Self { decoder, instruction: Instruction::default(), bits, bytes, dialect }
    }

    /// The instruction at an index of the bytes. `ip` is the value that RIP-relative operands and branch
    /// targets are relative to.
    ///
    /// # Errors
    /// See [`Failure`].
    ///
    /// # Panics
    /// If the index is beyond the end of the bytes.
    #[inline]
    pub fn at(&mut self, index: usize, ip: u64) -> Result<&Instruction, Failure> {
        if self.decoder.position() != index {
            self.decoder.set_position(index).expect("inside");
        }
        self.decoder.set_ip(ip);
        self.decoder.decode_out(&mut self.instruction);
        if self.dialect == Dialect::Amd
            && matches!(self.instruction.code(), Code::Jmp_m1632 | Code::Call_m1632)
        {
            // With REX.W the other vendor's decoder sees the wide form, without it the same one.
            self.instruction = decode(self.bits, &self.bytes[index..], ip, Dialect::Intel)?;
            return Ok(&self.instruction);
        }
        if self.instruction.is_invalid() {
            return Err(self.failure(index));
        }
        Ok(&self.instruction)
    }

    fn failure(&self, index: usize) -> Failure {
        let length = self.decoder.position() - index;
        match self.decoder.last_error() {
            DecoderError::NoMoreBytes if length < MAX_INSTRUCTION_BYTES => Failure::Incomplete,
            // With all bytes that an instruction may have, the decoder does not say that it wants more.
            _ if length == MAX_INSTRUCTION_BYTES && !self.is_whole(index) => Failure::TooLong,
            _ => Failure::Invalid,
        }
    }

    /// True if the bytes are all of an instruction that is merely illegal, as one with LOCK.
    fn is_whole(&self, index: usize) -> bool {
        let window = &self.bytes[index..][..MAX_INSTRUCTION_BYTES];
        let options = options(self.dialect) | DecoderOptions::NO_INVALID_CHECK;
        !Decoder::new(self.bits, window, options).decode().is_invalid()
    }
}

fn options(dialect: Dialect) -> u32 {
    match dialect {
        Dialect::Amd => DecoderOptions::AMD,
        Dialect::Intel => DecoderOptions::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd(bits: u32, bytes: &[u8]) -> Result<Instruction, Failure> {
        decode(bits, bytes, 0, Dialect::Amd)
    }

    #[test]
    fn vendors_differ_in_branches() {
        // 66 E8: a near call with an operand-size prefix in 64-bit code.
        let bytes = [0x66, 0xe8, 1, 0, 0, 0];
        let len = |dialect| match decode(64, &bytes, 0, dialect) {
            Ok(i) => i.len(),
            _ => 0,
        };
        assert_eq!((len(Dialect::Amd), len(Dialect::Intel)), (4, 6));
        // FF /5 and /3: far branches through an offset of 32 bits, with REX.W of 64.
        for (bytes, size) in
            [(&[0x48, 0xff, 0x2e][..], 10), (&[0x48, 0xff, 0x1e], 10), (&[0xff, 0x2e], 6)]
        {
            for dialect in [Dialect::Amd, Dialect::Intel] {
                let Ok(i) = decode(64, bytes, 0, dialect) else { panic!("{bytes:x?}") };
                assert_eq!(i.memory_size().size(), size);
            }
        }
    }

    #[test]
    fn tells_short_input_from_bad_input() {
        assert!(matches!(amd(64, &[0x48, 0x8b]), Err(Failure::Incomplete)));
        assert!(matches!(amd(64, &[0x0f, 0xff, 0xc0]), Ok(_) | Err(Failure::Invalid)));
        assert!(matches!(amd(64, &[0x06, 0]), Err(Failure::Invalid)));
        assert!(matches!(amd(64, &[0x66; 14]), Err(Failure::Incomplete)));
        assert!(matches!(amd(64, &[0x66; 15]), Err(Failure::TooLong)));
        assert!(matches!(amd(64, &[0x66; 20]), Err(Failure::TooLong)));
        let mut longest = [0x66; 20];
        longest[14] = 0x90;
        assert!(amd(64, &longest).is_ok());
        longest[0] = 0x06;
        assert!(matches!(amd(64, &longest), Err(Failure::Invalid)));
        // LOCK IMUL of exactly 15 bytes is illegal, not too long; one more prefix makes it so.
        let locked = [0xf0, 0x64, 0x67, 0x4e, 0x69, 0x3c, 0x6d, 1, 0, 0, 0, 0x8b, 0xff, 0xff, 0xff];
        assert!(matches!(amd(64, &locked), Err(Failure::Invalid)));
        let longer: Vec<u8> = [0x65].into_iter().chain(locked).collect();
        assert!(matches!(amd(64, &longer), Err(Failure::TooLong)));
        let Ok(i) = amd(64, &[0x90, 0xcc]) else { panic!("nop") };
        assert_eq!(i.len(), 1);
    }
}
