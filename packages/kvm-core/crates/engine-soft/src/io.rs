//! Device accesses of the instruction being executed, and how it restarts after an exit.
//!
//! A handler can need several device accesses (a read-modify-write, an access across pages). Each
//! that nobody in the kernel claims leaves the guest; afterwards the instruction runs again from
//! its start and takes the answers it already has from this log. So handlers are written as if
//! every access completed at once, and only rule: no register changes before the last access.
//!
//! The log is only kept while an instruction runs in *careful* mode, alone. The fast path stops
//! at the first device access without performing it and runs the instruction again carefully.

use kvm_abi::exit::Exit;

mod string;

pub(crate) use string::MAX_BYTES as STRING_BYTES;
use string::StringAccess;

/// One access of the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Port space instead of memory.
    pub port: bool,
    /// True for a write.
    pub write: bool,
    /// Port number or guest physical address.
    pub addr: u64,
    /// Bytes, 1 to 8.
    pub len: u8,
    /// Bytes written, or the answer, little-endian.
    pub data: u64,
}

/// The accesses made so far by the present instruction.
#[derive(Debug, Default)]
pub struct IoLog {
    done: Vec<Access>,
    position: usize,
    pending: Option<Access>,
    string: StringAccess,
    careful: bool,
}

impl IoLog {
    /// True while one instruction runs alone and may touch devices.
    #[inline]
    pub fn careful(&self) -> bool {
        self.careful
    }

    /// Starts (or restarts) an instruction in careful mode.
    pub fn begin(&mut self) {
        self.careful = true;
        self.position = 0;
    }

    /// The instruction, or one iteration of it, completed: its accesses are history.
    pub fn commit(&mut self) {
        self.done.clear();
        self.position = 0;
        self.pending = None;
        self.string.forget();
    }

    /// Leaves careful mode.
    pub fn end(&mut self) {
        self.careful = false;
    }

    /// True if an instruction is half done.
    pub fn unfinished(&self) -> bool {
        self.pending() || self.string.answered() || !self.done.is_empty()
    }

    /// The answer of an access that was already made at this place of the instruction.
    pub fn replay(&mut self, port: bool, write: bool, addr: u64, len: u8) -> Option<u64> {
        let past = self.done.get(self.position)?;
        if (past.port, past.write, past.addr, past.len) == (port, write, addr, len) {
            self.position += 1;
            return Some(past.data);
        }
        // The instruction took another way than before (its code or page tables changed under it):
        // what was logged belongs to an access that will not be made.
        self.done.truncate(self.position);
        None
    }

    /// Notes an access that was made.
    pub fn record(&mut self, access: Access) {
        self.done.push(access);
        self.position = self.done.len();
    }

    /// Notes an access that needs an exit.
    pub fn request(&mut self, access: Access) {
        self.pending = Some(access);
    }

    /// True if an access waits for its exit's answer.
    pub fn pending(&self) -> bool {
        self.pending.is_some() || self.string.requested()
    }

    /// The exit for the pending access.
    #[allow(clippy::cast_possible_truncation)]
    pub fn exit(&self) -> Option<Exit> {
        let Some(a) = self.pending else { return self.string.exit() };
        Some(if a.port {
            Exit::Io { write: a.write, port: a.addr as u16, size: a.len, value: a.data as u32 }
        } else {
            Exit::Mmio { write: a.write, gpa: a.addr, len: a.len, data: a.data.to_le_bytes() }
        })
    }

    /// Turns the pending access into a done one, with `answer` for a read.
    pub fn complete(&mut self, answer: Option<u64>) {
        self.string.complete(&[]);
        if let Some(mut access) = self.pending.take() {
            if !access.write {
                let mask = if access.len >= 8 { u64::MAX } else { (1 << (8 * access.len)) - 1 };
                access.data = answer.unwrap_or(u64::MAX) & mask;
            }
            self.done.push(access);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(addr: u64) -> Access {
        Access { port: false, write: false, addr, len: 4, data: 0 }
    }

    #[test]
    fn answers_come_back_in_order_when_the_instruction_runs_again() {
        let mut log = IoLog::default();
        log.begin();
        assert_eq!(log.replay(false, false, 0x100, 4), None);
        log.request(read(0x100));
        log.end();
        log.complete(Some(0x1_2345_6789));
        log.begin();
        // Truncated to the width of the access.
        assert_eq!(log.replay(false, false, 0x100, 4), Some(0x2345_6789));
        assert_eq!(log.replay(false, true, 0x100, 4), None);
        log.request(Access { write: true, data: 7, ..read(0x100) });
        log.complete(None);
        log.begin();
        assert_eq!(log.replay(false, false, 0x100, 4), Some(0x2345_6789));
        assert_eq!(log.replay(false, true, 0x100, 4), Some(7));
        assert!(log.unfinished());
        log.commit();
        assert!(!log.unfinished());
    }

    #[test]
    fn an_instruction_that_takes_another_way_forgets_the_rest() {
        let mut log = IoLog::default();
        log.begin();
        log.record(read(0x100));
        log.record(read(0x104));
        log.begin();
        assert!(log.replay(false, false, 0x100, 4).is_some());
        assert_eq!(log.replay(false, false, 0x200, 4), None);
        log.begin();
        assert!(log.replay(false, false, 0x100, 4).is_some());
        assert_eq!(log.replay(false, false, 0x104, 4), None);
    }

    #[test]
    fn a_read_without_an_answer_is_all_ones() {
        let mut log = IoLog::default();
        log.begin();
        log.request(Access { port: true, len: 1, ..read(0x60) });
        log.complete(None);
        log.begin();
        assert_eq!(log.replay(true, false, 0x60, 1), Some(0xff));
    }
}
