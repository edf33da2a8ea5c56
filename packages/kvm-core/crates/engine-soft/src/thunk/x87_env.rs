//! The memory formats of the x87 environment (SDM volume 1, 8.1.10), and tag words.

use super::state::{VectorState, X87Image};

impl VectorState {
    /// Loads FCW; its reserved bits are fixed.
    pub(super) fn set_fcw(&mut self, value: u16) {
        self.x87.fcw = (value & 0x1f3f) | 0x40;
        self.update_summary();
    }

    /// Loads FSW and moves the registers along with TOP, as they are stored relative to it.
    pub(super) fn set_fsw(&mut self, value: u16) {
        let before = self.x87.top();
        self.x87.fsw = value;
        let moved = self.x87.top().wrapping_sub(before) & 7;
        self.x87.st.rotate_left(moved);
        self.update_summary();
    }
}

/// The two-bit tags of the eight physical registers.
pub(super) fn full_tags(image: &X87Image) -> u16 {
    (0..8).fold(0, |tags, index| {
        let tag =
            if image.ftw & (1 << index) == 0 { 3 } else { classify(&image.st[image.place(index)]) };
        tags | (tag << (2 * index))
    })
}

/// Valid, zero or special.
fn classify(st: &[u8; 16]) -> u16 {
    let exponent = u16::from_le_bytes([st[8], st[9]]) & 0x7fff;
    let zero = st[..8].iter().all(|&byte| byte == 0);
    let integer_bit = st[7] & 0x80 != 0;
    match (exponent, zero, integer_bit) {
        (0, true, _) => 1,
        (0 | 0x7fff, _, _) | (_, _, false) => 2,
        _ => 0,
    }
}

/// One bit per register that is not empty, from two-bit tags.
fn abridged_tags(tags: u16) -> u8 {
    (0..8).fold(0, |bits, index| {
        let used = (tags >> (2 * index)) & 3 != 3;
        bits | (u8::from(used) << index)
    })
}

fn word(bytes: &[u8; 128], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Stores the environment in its 14- or 28-byte (`wide`) format; gives its size.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn store(state: &VectorState, out: &mut [u8; 128], wide: bool, real: bool) -> usize {
    let pointers = &state.pointers;
    let linear =
        |selector: u16, offset: u64| (u32::from(selector) << 4).wrapping_add(offset as u32);
    let ip = linear(pointers.fcs, pointers.fip);
    let dp = linear(pointers.fds, pointers.fdp);
    let head = [state.x87.fcw, state.x87.fsw, full_tags(&state.x87)];
    if wide {
        let head = head.map(|value| 0xffff_0000 | u32::from(value));
        let tail = if real {
            let fop = u32::from(pointers.fop);
            [
                0xffff_0000 | (ip & 0xffff),
                ((ip >> 16) << 12) | fop,
                0xffff_0000 | (dp & 0xffff),
                (dp >> 16) << 12,
            ]
        } else {
            [
                pointers.fip as u32,
                (u32::from(pointers.fop) << 16) | u32::from(pointers.fcs),
                pointers.fdp as u32,
                0xffff_0000 | u32::from(pointers.fds),
            ]
        };
        for (chunk, value) in out.chunks_exact_mut(4).zip(head.into_iter().chain(tail)) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        28
    } else {
        let tail = if real {
            let high = |linear: u32| ((linear >> 16) << 12) as u16;
            [ip as u16, high(ip) | pointers.fop, dp as u16, high(dp)]
        } else {
            [pointers.fip as u16, pointers.fcs, pointers.fdp as u16, pointers.fds]
        };
        for (chunk, value) in out.chunks_exact_mut(2).zip(head.into_iter().chain(tail)) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        14
    }
}

/// Loads the environment; gives its size.
pub(super) fn load(state: &mut VectorState, bytes: &[u8; 128], wide: bool, real: bool) -> usize {
    let step = if wide { 4 } else { 2 };
    let low = |i: usize| word(bytes, i * step);
    let high = |i: usize| if wide { word(bytes, i * step + 2) } else { 0 };
    let pointers = &mut state.pointers;
    if real {
        let linear = |i: usize| {
            let upper = u32::from(low(i + 1) >> 12) | (u32::from(high(i + 1) & 0xfff) << 4);
            u64::from(u32::from(low(i)) | (upper << 16))
        };
        pointers.fip = linear(3);
        pointers.fop = low(4) & 0x7ff;
        pointers.fdp = linear(5);
        pointers.fcs = 0;
        pointers.fds = 0;
    } else {
        pointers.fip = u64::from(low(3)) | (u64::from(high(3)) << 16);
        pointers.fcs = low(4);
        // The 14-byte format has no opcode.
        pointers.fop = high(4) & 0x7ff;
        pointers.fdp = u64::from(low(5)) | (u64::from(high(5)) << 16);
        pointers.fds = low(6);
    }
    state.x87.fcw = (low(0) & 0x1f3f) | 0x40;
    state.set_fsw(low(1));
    state.x87.ftw = abridged_tags(low(2));
    7 * step
}
