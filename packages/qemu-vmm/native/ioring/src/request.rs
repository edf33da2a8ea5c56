//! One request from its first to its last byte, however often the kernel is asked.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use libc::iovec;

/// Linux takes no more parts in one call (`UIO_MAXIOV`).
const MAX_PARTS: usize = 1024;
/// And no more bytes (`MAX_RW_COUNT`).
const MAX_BYTES: usize = 0x7fff_f000;
/// A file that has nothing but `EAGAIN` for us must not keep us for ever.
const MAX_RETRIES: u32 = 1000;

/// What is asked of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// preadv(2): fewer bytes than asked for are those before the end of the file. What the page cache holds is copied by the
    /// thread that submits the request.
    Read,
    /// The same by threads of the kernel, as several large requests are read sooner, and the thread that submits them has
    /// other things to do.
    ReadApart,
    /// pwritev(2).
    Write,
    /// fdatasync(2).
    Flush,
}

/// A request and how far it is.
#[derive(Debug)]
pub(crate) struct Request {
    operation: Operation,
    fd: RawFd,
    offset: u64,
    /// What is left to do. The kernel may look at this list until it has answered.
    parts: Vec<iovec>,
    /// Parts before this one are done.
    first: usize,
    left: u64,
    done: u64,
    retries: u32,
}

impl Request {
    pub(crate) fn new(operation: Operation, fd: RawFd, offset: u64, parts: Vec<iovec>) -> Self {
        let left = parts.iter().map(|part| part.iov_len as u64).sum();
        Self { operation, fd, offset, parts, first: 0, left, done: 0, retries: 0 }
    }

    /// What the kernel is asked next.
    pub(crate) fn entry(&self) -> squeue::Entry {
        let fd = types::Fd(self.fd);
        let offset = self.offset + self.done;
        let rest = &self.parts[self.first..];
        let rest = &rest[..rest.len().min(MAX_PARTS)];
        let (list, count) = (rest.as_ptr(), rest.len() as u32);
        let entry = match (self.operation, rest) {
            (Operation::Flush, _) => {
                opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build()
            }
            (Operation::Read | Operation::ReadApart, [part]) => {
                let length = part.iov_len.min(MAX_BYTES) as u32;
                opcode::Read::new(fd, part.iov_base.cast(), length).offset(offset).build()
            }
            (Operation::Write, [part]) => {
                let length = part.iov_len.min(MAX_BYTES) as u32;
                opcode::Write::new(fd, part.iov_base.cast(), length).offset(offset).build()
            }
            (Operation::Read | Operation::ReadApart, _) => {
                opcode::Readv::new(fd, list, count).offset(offset).build()
            }
            (Operation::Write, _) => opcode::Writev::new(fd, list, count).offset(offset).build(),
        };
        match self.operation {
            Operation::ReadApart => entry.flags(squeue::Flags::ASYNC),
            _ => entry,
        }
    }

    /// Takes the kernel's answer: how it ended, in bytes or as a negative errno, or None when the kernel must be asked again.
    pub(crate) fn answer(&mut self, result: i32) -> Option<i64> {
        if result < 0 {
            let again = matches!(-result, libc::EINTR | libc::EAGAIN) && self.retries < MAX_RETRIES;
            self.retries += 1;
            return if again { None } else { Some(i64::from(result)) };
        }
        if self.operation == Operation::Flush || self.left == 0 {
            return Some(self.done as i64);
        }
        if result == 0 {
            return Some(match self.operation {
                Operation::Write => -i64::from(libc::ENOSPC),
                _ => self.done as i64,
            });
        }
        self.advance(result as usize);
        if self.left == 0 { Some(self.done as i64) } else { None }
    }

    fn advance(&mut self, mut bytes: usize) {
        self.done += bytes as u64;
        self.left = self.left.saturating_sub(bytes as u64);
        self.retries = 0;
        while let Some(part) = self.parts.get_mut(self.first) {
            if bytes < part.iov_len {
                part.iov_base = part.iov_base.wrapping_byte_add(bytes);
                part.iov_len -= bytes;
                return;
            }
            bytes -= part.iov_len;
            self.first += 1;
        }
    }

    /// The list, to be used for another request.
    pub(crate) fn into_parts(mut self) -> Vec<iovec> {
        self.parts.clear();
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(lengths: &[usize]) -> Vec<iovec> {
        let mut at = 0x1000usize;
        let mut list = Vec::new();
        for &iov_len in lengths {
            list.push(iovec { iov_base: std::ptr::without_provenance_mut(at), iov_len });
            at += iov_len;
        }
        list
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_takes_at_a_time_all_bytes_are_done_once(
            lengths in proptest::collection::vec(0usize..40, 1..20),
            steps in proptest::collection::vec(1usize..50, 1..200),
        ) {
            let total: usize = lengths.iter().sum();
            prop_assume!(total > 0);
            let mut request = Request::new(Operation::Write, 3, 7, parts(&lengths));
            let mut done = 0;
            for step in steps {
                let step = step.min(total - done);
                done += step;
                let answer = request.answer(step as i32);
                if done == total {
                    prop_assert_eq!(answer, Some(total as i64));
                    return Ok(());
                }
                prop_assert_eq!(answer, None);
                let rest = &request.parts[request.first..];
                prop_assert_eq!(rest.iter().map(|part| part.iov_len).sum::<usize>(), total - done);
                let next = rest.iter().find(|part| part.iov_len > 0).map(|part| part.iov_base.addr());
                prop_assert_eq!(next, Some(0x1000 + done));
            }
        }
    }

    #[test]
    fn the_end_of_a_file_ends_a_read_and_fails_a_write() {
        let mut read = Request::new(Operation::Read, 3, 0, parts(&[10]));
        assert_eq!(read.answer(4), None);
        assert_eq!(read.answer(0), Some(4));
        let mut write = Request::new(Operation::Write, 3, 0, parts(&[10]));
        assert_eq!(write.answer(4), None);
        assert_eq!(write.answer(0), Some(-i64::from(libc::ENOSPC)));
    }

    #[test]
    fn what_was_interrupted_is_asked_again_but_not_for_ever() {
        let mut read = Request::new(Operation::Read, 3, 0, parts(&[10]));
        for _ in 0..MAX_RETRIES / 2 {
            assert_eq!(read.answer(-libc::EINTR), None);
            assert_eq!(read.answer(-libc::EAGAIN), None);
        }
        assert_eq!(read.answer(-libc::EAGAIN), Some(-i64::from(libc::EAGAIN)));
        let mut flush = Request::new(Operation::Flush, 3, 0, Vec::new());
        assert_eq!(flush.answer(-libc::EIO), Some(-i64::from(libc::EIO)));
        assert_eq!(flush.answer(0), Some(0));
    }
}
