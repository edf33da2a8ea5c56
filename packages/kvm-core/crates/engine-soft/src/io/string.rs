//! The accesses of a repeated INS or OUTS that leave the guest together.

use kvm_abi::exit::{Exit, PIO_DATA_BYTES};

use super::IoLog;

/// Bytes that go through one exit.
pub(crate) const MAX_BYTES: usize = PIO_DATA_BYTES;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    /// Left for the caller.
    Requested,
    /// The caller has handled it.
    Answered,
}

/// One port, and the items that go to it or come from it.
#[derive(Debug, Default)]
pub(super) struct StringAccess {
    stage: Stage,
    write: bool,
    port: u16,
    size: u8,
    count: u16,
    /// Items of a read that the guest has in memory.
    taken: u16,
    /// Allocated by the first one, and kept.
    data: Vec<u8>,
}

impl StringAccess {
    pub(super) fn forget(&mut self) {
        self.stage = Stage::None;
    }

    pub(super) fn requested(&self) -> bool {
        self.stage == Stage::Requested
    }

    pub(super) fn answered(&self) -> bool {
        self.stage == Stage::Answered
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        let Self { write, port, size, count, .. } = *self;
        self.requested().then_some(Exit::IoString { write, port, size, count })
    }

    /// Takes the answers; all ones for what is missing. False if nothing was asked.
    pub(super) fn complete(&mut self, answers: &[u8]) -> bool {
        if !self.requested() {
            return false;
        }
        if !self.write {
            let given = answers.len().min(self.data.len());
            self.data[..given].copy_from_slice(&answers[..given]);
            self.data[given..].fill(0xff);
        }
        self.stage = Stage::Answered;
        true
    }
}

impl IoLog {
    /// Asks for `count` accesses in one exit; `fill` writes what they write.
    pub fn request_string(
        &mut self,
        write: bool,
        port: u16,
        size: u8,
        count: u16,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let s = &mut self.string;
        s.data.resize(usize::from(size) * usize::from(count), 0);
        fill(&mut s.data);
        (s.stage, s.write, s.port, s.size, s.count) = (Stage::Requested, write, port, size, count);
        s.taken = 0;
    }

    /// How many of the accesses that were made together the guest does not have yet; `None` if
    /// none were made for such an instruction.
    pub fn replay_string(&mut self, write: bool, port: u16, size: u8) -> Option<u16> {
        let s = &self.string;
        if !s.answered() {
            return None;
        }
        if (s.write, s.port, s.size) != (write, port, size) {
            // Another instruction than the one that made them.
            self.string.forget();
            return None;
        }
        Some(s.count - s.taken)
    }

    /// The next item of a string read; zeros behind the last one.
    pub fn string_item(&self) -> u64 {
        let s = &self.string;
        let size = usize::from(s.size);
        let mut bytes = [0; 8];
        if let Some(item) = s.data.get(usize::from(s.taken) * size..).and_then(|d| d.get(..size)) {
            bytes[..size].copy_from_slice(item);
        }
        u64::from_le_bytes(bytes)
    }

    /// The guest has the item: what its store did to devices is history.
    pub fn string_item_taken(&mut self) {
        self.string.taken = self.string.count.min(self.string.taken + 1);
        self.done.clear();
        self.position = 0;
    }

    /// The answers to a requested string read; false if there is none.
    pub fn complete_string(&mut self, answers: &[u8]) -> bool {
        self.string.complete(answers)
    }

    /// What a requested string write writes.
    pub fn string_data(&self) -> &[u8] {
        if self.string.requested() && self.string.write { &self.string.data } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_taken_one_by_one_and_never_twice() {
        let mut log = IoLog::default();
        log.request_string(false, 0x1f0, 2, 3, |_| {});
        assert!(log.pending());
        let exit = Exit::IoString { write: false, port: 0x1f0, size: 2, count: 3 };
        assert_eq!(log.exit(), Some(exit));
        assert!(log.complete_string(&[1, 2, 3, 4]));
        assert!(!log.complete_string(&[9]), "answered once");
        assert!(log.unfinished() && !log.pending());
        for (left, item) in [(3, 0x0201), (2, 0x0403), (1, 0xffff)] {
            assert_eq!(log.replay_string(false, 0x1f0, 2), Some(left));
            assert_eq!(log.string_item(), item);
            log.string_item_taken();
        }
        assert_eq!(log.replay_string(false, 0x1f0, 2), Some(0));
        log.commit();
        assert!(!log.unfinished());
    }

    #[test]
    fn another_instruction_gets_nothing_of_it() {
        let mut log = IoLog::default();
        log.request_string(true, 0x1f0, 4, 2, |data| data.copy_from_slice(&[7; 8]));
        assert_eq!(log.string_data(), [7; 8]);
        log.complete(None);
        assert_eq!(log.replay_string(false, 0x1f0, 4), None);
        assert!(!log.unfinished());
    }
}
