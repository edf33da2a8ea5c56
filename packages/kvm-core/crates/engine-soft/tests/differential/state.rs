//! User-visible processor state.

use super::rng::Rng;

/// Number of RSP in `State::gpr`.
pub const RSP: usize = 4;
/// Selectors as Linux has them.
pub const USER_CS: u16 = 0x33;
pub const USER_CS32: u16 = 0x23;
pub const USER_DS: u16 = 0x2b;

/// Bytes of the standard-format XSAVE area with x87, SSE and AVX.
pub const AREA: usize = 832;

/// An XSAVE area, with room for what the host CPU may add.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Area(pub [u8; 4096]);

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Area")
    }
}

impl Area {
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
    /// The 32 bytes of a YMM register.
    pub fn ymm(&self, n: usize) -> [u8; 32] {
        let mut out = [0; 32];
        out[..16].copy_from_slice(&self.0[160 + 16 * n..][..16]);
        out[16..].copy_from_slice(&self.0[576 + 16 * n..][..16]);
        out
    }
    pub fn set_ymm(&mut self, n: usize, bytes: &[u8; 32]) {
        self.set(160 + 16 * n, &bytes[..16]);
        self.set(576 + 16 * n, &bytes[16..]);
    }
    /// The ten bytes of ST(n).
    pub fn st(&self, n: usize) -> [u8; 10] {
        self.0[32 + 16 * n..][..10].try_into().unwrap()
    }
}

/// Registers before or after the code under test.
#[derive(Clone, Debug)]
pub struct State {
    /// In encoding order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub cs: u16,
    pub ss: u16,
    /// DS, ES, FS, GS.
    pub data_segments: [u16; 4],
    pub fs_base: u64,
    pub gs_base: u64,
    pub area: Area,
}

/// What ended the code under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub vector: u8,
    /// Zero for vectors without one.
    pub error: u64,
    /// CR2 of a page fault, else zero.
    pub address: u64,
}

/// State, event and memory at the end.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub state: State,
    pub event: Event,
}

impl State {
    /// A random state; `cs` decides the mode. Addresses are not meaningful yet.
    pub fn random(rng: &mut Rng, cs: u16) -> Self {
        let mut gpr = [0; 16];
        for r in &mut gpr {
            *r = rng.value();
        }
        // CF, PF, AF, ZF, SF, DF, OF; IF is always set for user code.
        let mut rflags = 0x202 | (rng.next() & 0x8d5);
        if rng.chance(1, 4) {
            rflags |= 0x400;
        }
        if rng.chance(1, 24) {
            rflags |= 1 << 18;
        }
        if rng.chance(1, 24) {
            rflags |= 1 << 21;
        }
        let mut state = Self {
            gpr,
            rip: 0,
            rflags,
            cs,
            ss: USER_DS,
            data_segments: [0; 4],
            fs_base: 0,
            gs_base: 0,
            area: random_area(rng),
        };
        if cs == USER_CS32 {
            for r in &mut state.gpr {
                *r &= 0xffff_ffff;
            }
            state.gpr[8..].fill(0);
            state.data_segments = [USER_DS; 4];
            if rng.chance(1, 24) {
                state.data_segments[rng.below(4) as usize] = 0;
            }
        }
        state
    }
}

pub fn random_area(rng: &mut Rng) -> Area {
    let mut area = Area([0; 4096]);
    random_x87(rng, &mut area);
    area.set(24, &random_mxcsr(rng).to_le_bytes());
    for n in 0..16 {
        let v = vector(rng);
        area.set_ymm(n, &v);
    }
    // XSTATE_BV: all three components are in use.
    area.set(512, &7u64.to_le_bytes());
    area
}

fn random_mxcsr(rng: &mut Rng) -> u32 {
    let mut mxcsr = 0x1f80 | (rng.next() as u32 & 0x3f);
    if rng.chance(1, 3) {
        mxcsr |= rng.next() as u32 & 0xe040;
    }
    if rng.chance(1, 4) {
        mxcsr &= !(rng.next() as u32 & 0x1f80);
    }
    mxcsr
}

fn random_x87(rng: &mut Rng, area: &mut Area) {
    let mut control = 0x37f;
    if rng.chance(1, 2) {
        control = 0x7f | (rng.next() as u16 & 0x0f00);
    }
    if rng.chance(1, 6) {
        control &= !(rng.next() as u16 & 0x3f);
    }
    let mut status = rng.next() as u16 & 0x7f00;
    if rng.chance(1, 6) {
        status |= rng.next() as u16 & 0x7f;
    }
    // The summary bits are a function of the others on every processor since the 387.
    if status & !control & 0x3f != 0 {
        status |= 0x8080;
    }
    let tags = match rng.below(3) {
        0 => 0,
        1 => 0xff,
        _ => rng.next() as u8,
    };
    area.set(0, &control.to_le_bytes());
    area.set(2, &status.to_le_bytes());
    area.set(4, &[tags]);
    for n in 0..8 {
        let st = extended(rng);
        area.set(32 + 16 * n, &st);
    }
}

/// An 80-bit number of any class.
fn extended(rng: &mut Rng) -> [u8; 10] {
    let sign = rng.next() as u16 & 0x8000;
    let (exponent, mantissa): (u16, u64) = match rng.below(12) {
        0 => (0, 0),
        1 => (0x7fff, 1 << 63),
        2 => (0x7fff, rng.next() | 1 << 63),
        3 => (0, rng.next() >> 1),
        4 => (rng.next() as u16 & 0x7fff, rng.next()),
        5 => (0x3fff + rng.below(64) as u16, 1 << 63),
        6 => (0x3fff + 62, rng.next() | 1 << 63),
        _ => (0x3fff - 20 + rng.below(60) as u16, rng.next() | 1 << 63),
    };
    let mut out = [0; 10];
    out[..8].copy_from_slice(&mantissa.to_le_bytes());
    out[8..].copy_from_slice(&(sign | exponent).to_le_bytes());
    out
}

/// Thirty-two bytes that mean something to some kind of vector instruction.
pub fn vector(rng: &mut Rng) -> [u8; 32] {
    let mut out = [0u8; 32];
    match rng.below(8) {
        0 => {}
        1 => out = [0xff; 32],
        2 | 3 => {
            for chunk in out.chunks_exact_mut(4) {
                chunk.copy_from_slice(&single(rng).to_le_bytes());
            }
        }
        4 | 5 => {
            for chunk in out.chunks_exact_mut(8) {
                chunk.copy_from_slice(&double(rng).to_le_bytes());
            }
        }
        6 => {
            for chunk in out.chunks_exact_mut(4) {
                let small = (rng.below(64) as i32) - 32;
                chunk.copy_from_slice(&small.to_le_bytes());
            }
        }
        _ => {
            for chunk in out.chunks_exact_mut(8) {
                chunk.copy_from_slice(&rng.next().to_le_bytes());
            }
        }
    }
    out
}

fn single(rng: &mut Rng) -> u32 {
    match rng.below(10) {
        0 => rng.pick(&[0, 1 << 31, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001, 1]),
        1 => rng.next() as u32 & 0x807f_ffff,
        2 => (rng.below(2000) as f32 - 1000.0).to_bits(),
        3 => rng.next() as u32,
        _ => (rng.next() as u32 & 0x8fff_ffff) | 0x3000_0000,
    }
}

fn double(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0 => {
            rng.pick(&[0, 1 << 63, 0x7ff0 << 48, 0xfff0 << 48, 0x7ff8 << 48, (0x7ff0 << 48) | 1, 1])
        }
        1 => rng.next() & 0x800f_ffff_ffff_ffff,
        2 => (rng.below(2000) as f64 - 1000.0).to_bits(),
        3 => rng.next(),
        _ => (rng.next() & 0x81ff_ffff_ffff_ffff) | (0x3e << 56),
    }
}
