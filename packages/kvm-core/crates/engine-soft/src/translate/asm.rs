//! A small encoder of host instructions: the forms that translated code is made of.
//!
//! Most of them are guest instructions with other operands, so that the encoder does not know
//! mnemonics: it takes an opcode and puts prefixes, ModRM, SIB and displacement around it.

use crate::tlb::CLASSES;

/// A host register by its number.
pub type Host = u8;

#[allow(missing_docs)]
pub mod host {
    pub const RAX: u8 = 0;
    pub const RCX: u8 = 1;
    pub const RDX: u8 = 2;
    pub const RSP: u8 = 4;
    pub const RDI: u8 = 7;
    pub const RSI: u8 = 6;
    pub const R9: u8 = 9;
    pub const R10: u8 = 10;
    pub const R11: u8 = 11;
}

/// An opcode with the prefixes that belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opcode {
    /// 66, F2 or F3 before the instruction, each where it is set.
    pub operand_size: bool,
    /// F2 or F3, or 0.
    pub rep: u8,
    /// F0.
    pub lock: bool,
    /// REX.W.
    pub wide: bool,
    /// 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A.
    pub map: u8,
    /// The last byte.
    pub byte: u8,
    /// The ModRM.reg operand is a byte register: 4 to 7 need REX.
    pub byte_reg: bool,
    /// The ModRM.rm operand is a byte register or byte in memory.
    pub byte_rm: bool,
}

impl Opcode {
    /// A 64-bit instruction of the one-byte map.
    pub const fn wide(byte: u8) -> Self {
        Self { wide: true, ..Self::narrow(byte) }
    }
    /// A 32-bit instruction of the one-byte map.
    pub const fn narrow(byte: u8) -> Self {
        Self {
            operand_size: false,
            rep: 0,
            lock: false,
            wide: false,
            map: 0,
            byte,
            byte_reg: false,
            byte_rm: false,
        }
    }
    /// A 32-bit instruction of the 0F map.
    pub const fn two(byte: u8) -> Self {
        Self { map: 1, ..Self::narrow(byte) }
    }
}

/// An operand in the place of ModRM.rm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rm {
    /// A register. AH to BH are 4 to 7 with no REX, which the caller must know to be possible.
    Reg(Host),
    /// Host memory.
    Mem { base: Host, index: Option<(Host, u8)>, disp: i32 },
    /// The vCPU's own state: GS points at it.
    State { index: Option<Host>, disp: i32 },
}

/// What a VEX prefix says beside the registers, and the opcode behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vex {
    /// The `mmmmm` field: 1 is 0F, 2 is 0F 38, 3 is 0F 3A.
    pub map: u8,
    /// The `pp` field: the 66, F3 or F2 that is implied.
    pub pp: u8,
    pub wide: bool,
    /// VEX.L: 32-byte vectors.
    pub long: bool,
    pub byte: u8,
}

/// Addresses of tables that fit a displacement, for each class: of the TLB's entries, and the small
/// ones of entry points.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tables {
    pub tlb: [Option<i32>; CLASSES],
    pub near: [Option<i32>; CLASSES],
}

/// Emits instructions that will lie at `origin`.
#[derive(Debug)]
pub struct Assembler {
    code: Vec<u8>,
    origin: u64,
    pub tables: Tables,
}

impl Assembler {
    /// Starts at a host address. The code is put into `code`, whose contents go.
    pub fn new(mut code: Vec<u8>, origin: u64, tables: Tables) -> Self {
        code.clear();
        Self { code, origin, tables }
    }

    /// The code.
    pub fn into_code(self) -> Vec<u8> {
        self.code
    }

    /// The code so far.
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.code.len()
    }

    /// Where the next instruction will lie.
    pub fn here(&self) -> u64 {
        self.origin + self.code.len() as u64
    }

    pub fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    pub fn bytes(&mut self, b: &[u8]) {
        self.code.extend_from_slice(b);
    }

    fn dword(&mut self, v: i32) {
        self.bytes(&v.to_le_bytes());
    }

    /// One instruction with a ModRM byte; an immediate follows by [`bytes`](Self::bytes).
    pub fn modrm(&mut self, op: Opcode, reg: u8, rm: Rm) {
        if op.operand_size {
            self.byte(0x66);
        }
        if op.rep != 0 {
            self.byte(op.rep);
        }
        if op.lock {
            self.byte(0xf0);
        }
        if matches!(rm, Rm::State { .. }) {
            self.byte(0x65);
        }
        let (x, b) = match rm {
            Rm::Reg(r) => (0, r >> 3),
            Rm::Mem { base, index, .. } => (index.map_or(0, |(i, _)| i >> 3), base >> 3),
            // Without an index the register field of a SIB byte is unused.
            Rm::State { index, .. } => (0, index.map_or(0, |i| i >> 3)),
        };
        let uniform = op.byte_reg && (4..8).contains(&reg)
            || op.byte_rm && matches!(rm, Rm::Reg(r) if (4..8).contains(&r));
        let rex = u8::from(op.wide) << 3 | (reg >> 3) << 2 | x << 1 | b;
        if rex != 0 || uniform {
            self.byte(0x40 | rex);
        }
        self.opcode(op);
        self.operands(reg, rm);
    }

    /// One VEX-encoded instruction. `vvvv` is 0 where there is no such operand.
    pub fn vex(&mut self, op: Vex, reg: u8, vvvv: u8, rm: Rm) {
        let (x, b) = match rm {
            Rm::Reg(r) => (0, r >> 3),
            Rm::Mem { base, index, .. } => (index.map_or(0, |(i, _)| i >> 3), base >> 3),
            Rm::State { .. } => (0, 0),
        };
        if matches!(rm, Rm::State { .. }) {
            self.byte(0x65);
        }
        // The register extensions and vvvv are stored inverted.
        let extensions = (reg >> 3) << 7 | x << 6 | b << 5;
        self.bytes(&[
            0xc4,
            extensions ^ 0xe0 | op.map,
            u8::from(op.wide) << 7 | (vvvv ^ 15) << 3 | u8::from(op.long) << 2 | op.pp,
            op.byte,
        ]);
        self.operands(reg, rm);
    }

    /// ModRM, SIB and displacement.
    fn operands(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Reg(r) => self.byte(0xc0 | reg | r & 7),
            Rm::Mem { base, index, disp } => self.memory(reg, base, index, disp),
            Rm::State { index: Some(base), disp } => {
                // Always with 32 bits of displacement: offsets in the vCPU are large.
                self.byte(0x80 | reg | base & 7);
                if base & 7 == 4 {
                    self.byte(0x24);
                }
                self.dword(disp);
            }
            Rm::State { index: None, disp } => {
                self.byte(reg | 4);
                self.byte(0x25);
                self.dword(disp);
            }
        }
    }

    /// As [`modrm`](Self::modrm) with AH, CH, DH or BH among the operands, which excludes REX.
    pub fn high_byte(&mut self, op: Opcode, reg: u8, rm: Rm) {
        let plain = Opcode { byte_reg: false, byte_rm: false, ..op };
        self.modrm(plain, reg, rm);
    }

    fn opcode(&mut self, op: Opcode) {
        match op.map {
            0 => {}
            1 => self.byte(0x0f),
            2 => self.bytes(&[0x0f, 0x38]),
            _ => self.bytes(&[0x0f, 0x3a]),
        }
        self.byte(op.byte);
    }

    fn memory(&mut self, reg: u8, base: Host, index: Option<(Host, u8)>, disp: i32) {
        // RBP and R13 as a base always have a displacement.
        let short = i8::try_from(disp);
        let mode = match short {
            Ok(0) if base & 7 != 5 => 0,
            Ok(_) => 0x40,
            Err(_) => 0x80,
        };
        match index {
            Some((index, scale)) => {
                self.byte(mode | reg | 4);
                self.byte(scale << 6 | (index & 7) << 3 | base & 7);
            }
            None if base & 7 == 4 => {
                self.byte(mode | reg | 4);
                self.byte(0x24);
            }
            None => self.byte(mode | reg | base & 7),
        }
        match (mode, short) {
            (0x40, Ok(short)) => self.byte(short.to_le_bytes()[0]),
            (0x80, _) => self.dword(disp),
            _ => {}
        }
    }

    /// An instruction whose register is part of the opcode byte.
    pub fn in_opcode(&mut self, op: Opcode, reg: Host) {
        if op.operand_size {
            self.byte(0x66);
        }
        let rex = u8::from(op.wide) << 3 | reg >> 3;
        if rex != 0 || op.byte_reg && (4..8).contains(&reg) {
            self.byte(0x40 | rex);
        }
        self.opcode(Opcode { byte: op.byte | reg & 7, ..op });
    }

    /// `mov to, from`, 64 bits.
    pub fn mov(&mut self, to: Host, from: Host) {
        self.modrm(Opcode::wide(0x8b), to, Rm::Reg(from));
    }

    /// `mov to, from`, 32 bits, and zero above them.
    pub fn mov_short(&mut self, to: Host, from: Host) {
        self.modrm(Opcode::narrow(0x8b), to, Rm::Reg(from));
    }

    /// `mov to, [state]`, 64 bits.
    pub fn load(&mut self, to: Host, disp: i32) {
        self.modrm(Opcode::wide(0x8b), to, Rm::State { index: None, disp });
    }

    /// `mov [state], from`, 64 bits.
    pub fn store(&mut self, disp: i32, from: Host) {
        self.modrm(Opcode::wide(0x89), from, Rm::State { index: None, disp });
    }

    /// `lea to, [base + index + disp]`.
    pub fn lea(&mut self, to: Host, base: Host, index: Option<(Host, u8)>, disp: i32) {
        self.modrm(Opcode::wide(0x8d), to, Rm::Mem { base, index, disp });
    }

    /// The low 32 bits of the same sum, and zero above them.
    pub fn lea_short(&mut self, to: Host, base: Host, index: Option<(Host, u8)>, disp: i32) {
        self.modrm(Opcode::narrow(0x8d), to, Rm::Mem { base, index, disp });
    }

    /// `lea to, [index * 2^scale + disp]`.
    pub fn lea_scaled(&mut self, to: Host, index: Host, scale: u8, disp: i32) {
        self.scaled(0x48, to, index, scale, disp);
    }

    /// The low 32 bits of the same sum, and zero above them.
    pub fn lea_scaled_short(&mut self, to: Host, index: Host, scale: u8, disp: i32) {
        self.scaled(0x40, to, index, scale, disp);
    }

    fn scaled(&mut self, rex: u8, to: Host, index: Host, scale: u8, disp: i32) {
        self.byte(rex | (to >> 3) << 2 | (index >> 3) << 1);
        self.bytes(&[0x8d, (to & 7) << 3 | 4, scale << 6 | (index & 7) << 3 | 5]);
        self.dword(disp);
    }

    /// `mov to, imm32`, sign-extended.
    pub fn mov_signed(&mut self, to: Host, imm: i32) {
        self.modrm(Opcode::wide(0xc7), 0, Rm::Reg(to));
        self.dword(imm);
    }

    /// `lea rsp, [rsp + disp]`, which leaves the flags alone.
    pub fn lea_rsp(&mut self, disp: i32) {
        self.lea(host::RSP, host::RSP, None, disp);
    }

    /// `mov to, imm32`, zero-extended.
    pub fn mov_imm32(&mut self, to: Host, imm: u32) {
        self.in_opcode(Opcode::narrow(0xb8), to);
        self.bytes(&imm.to_le_bytes());
    }

    /// `jmp target`.
    pub fn jump(&mut self, target: u64) {
        self.byte(0xe9);
        self.relative(target);
    }

    /// `call target`.
    pub fn call(&mut self, target: u64) {
        self.byte(0xe8);
        self.relative(target);
    }

    fn relative(&mut self, target: u64) {
        let next = self.here() + 4;
        #[allow(clippy::cast_possible_truncation)]
        self.dword(target.wrapping_sub(next).cast_signed() as i32);
    }

    /// `jmp` to a place that is not known yet: yields what [`land`](Self::land) wants.
    pub fn jump_later(&mut self) -> usize {
        self.byte(0xe9);
        self.dword(0);
        self.len()
    }

    /// `jcc`, likewise.
    pub fn jcc_later(&mut self, condition: u8) -> usize {
        self.bytes(&[0x0f, 0x80 | condition]);
        self.dword(0);
        self.len()
    }

    /// Lets a jump of [`jump_later`](Self::jump_later) arrive here.
    pub fn land(&mut self, after: usize) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
        let distance = (self.len() - after) as i32;
        self.code[after - 4..after].copy_from_slice(&distance.to_le_bytes());
    }

    /// Lets it arrive at an address.
    pub fn aim(&mut self, after: usize, target: u64) {
        let next = self.origin + after as u64;
        #[allow(clippy::cast_possible_truncation)]
        let distance = target.wrapping_sub(next).cast_signed() as i32;
        self.code[after - 4..after].copy_from_slice(&distance.to_le_bytes());
    }

    /// The arithmetic flags into AX, as [`restore_flags`](Self::restore_flags) wants them.
    pub fn save_flags(&mut self) {
        // lahf; seto al
        self.bytes(&[0x9f, 0x0f, 0x90, 0xc0]);
    }

    /// The flags from AX, which this destroys.
    pub fn restore_flags(&mut self) {
        // add al, 127 overflows for 1 and not for 0; sahf sets the other five.
        self.bytes(&[0x04, 0x7f, 0x9e]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    fn text(emit: impl FnOnce(&mut Assembler)) -> String {
        let mut asm = Assembler::new(Vec::new(), 0x1000, Tables::default());
        emit(&mut asm);
        let mut decoder = Decoder::with_ip(64, asm.code(), 0x1000, DecoderOptions::NONE);
        let mut out = String::new();
        while decoder.can_decode() {
            let i = decoder.decode();
            assert!(!i.is_invalid(), "{:02x?}", asm.code());
            if !out.is_empty() {
                out.push_str("; ");
            }
            IntelFormatter::new().format(&i, &mut out);
        }
        out
    }

    #[test]
    fn every_base_index_and_displacement_is_what_it_says() {
        for base in (0..16u8).filter(|&b| b != host::RSP) {
            for index in (0..16u8).filter(|&i| i != host::RSP) {
                let mut asm = Assembler::new(Vec::new(), 0, Tables::default());
                asm.lea_scaled(base, index, 3, -5);
                let i = Decoder::new(64, asm.code(), 0).decode();
                assert_eq!(i.len(), asm.len());
                assert_eq!(i.op0_register().number(), usize::from(base));
                assert_eq!(i.memory_index().number(), usize::from(index));
                assert_eq!(i.memory_base(), iced_x86::Register::None);
                let mut asm = Assembler::new(Vec::new(), 0, Tables::default());
                asm.lea_scaled_short(base, index, 1, 7);
                let i = Decoder::new(64, asm.code(), 0).decode();
                assert_eq!(i.len(), asm.len());
                assert_eq!((i.op0_register().size(), i.memory_index_scale()), (4, 2));
                assert_eq!(i.op0_register().number(), usize::from(base));
                assert_eq!(i.memory_index().size(), 8);
                for disp in [0, 1, -128, 127, 128, -129, i32::MAX, i32::MIN] {
                    let mut asm = Assembler::new(Vec::new(), 0, Tables::default());
                    asm.lea(3, base, Some((index, 2)), disp);
                    let i = Decoder::new(64, asm.code(), 0).decode();
                    assert_eq!(i.len(), asm.len());
                    assert_eq!(i.memory_base().number(), usize::from(base));
                    assert_eq!(i.memory_index().number(), usize::from(index));
                    assert_eq!(i.memory_index_scale(), 4);
                    assert_eq!(i.memory_displacement64(), i64::from(disp) as u64);
                    let mut asm = Assembler::new(Vec::new(), 0, Tables::default());
                    asm.lea(12, base, None, disp);
                    let i = Decoder::new(64, asm.code(), 0).decode();
                    assert_eq!(i.len(), asm.len());
                    assert_eq!(i.memory_base().number(), usize::from(base));
                    assert_eq!(i.memory_displacement64(), i64::from(disp) as u64);
                }
            }
        }
    }

    #[test]
    fn byte_registers_are_the_uniform_ones() {
        let op = Opcode { byte_reg: true, byte_rm: true, ..Opcode::narrow(0x88) };
        assert_eq!(text(|a| a.modrm(op, 6, Rm::Reg(0))), "mov al,sil");
        assert_eq!(text(|a| a.high_byte(op, 6, Rm::Reg(0))), "mov al,dh");
        assert_eq!(text(|a| a.modrm(op, 0, Rm::Reg(5))), "mov bpl,al");
    }

    #[test]
    fn state_is_behind_gs() {
        assert_eq!(text(|a| a.load(11, 0x1234)), "mov r11,gs:[1234h]");
        let rm = Rm::State { index: Some(host::R11), disp: 0x40 };
        assert_eq!(text(|a| a.modrm(Opcode::wide(0x3b), 10, rm)), "cmp r10,gs:[r11+40h]");
    }

    #[test]
    fn vex_operands_are_where_they_belong() {
        let add = Vex { map: 1, pp: 1, wide: false, long: true, byte: 0xfe };
        assert_eq!(text(|a| a.vex(add, 9, 14, Rm::Reg(3))), "vpaddd ymm9,ymm14,ymm3");
        let rm = Rm::Mem { base: 10, index: Some((11, 0)), disp: -4 };
        assert_eq!(text(|a| a.vex(add, 1, 2, rm)), "vpaddd ymm1,ymm2,[r10+r11-4]");
        let load = Vex { map: 1, pp: 0, wide: false, long: true, byte: 0x28 };
        let state = Rm::State { index: None, disp: 0x40 };
        assert_eq!(text(|a| a.vex(load, 15, 0, state)), "vmovaps ymm15,gs:[40h]");
    }

    #[test]
    fn jumps_arrive() {
        assert_eq!(text(|a| a.jump(0x2000)), "jmp 0000000000002000h");
        assert_eq!(
            text(|a| {
                let there = a.jcc_later(4);
                a.mov(1, 2);
                a.land(there);
                a.mov_imm32(9, 5);
            }),
            "je 0000000000001009h; mov rcx,rdx; mov r9d,5"
        );
    }
}
