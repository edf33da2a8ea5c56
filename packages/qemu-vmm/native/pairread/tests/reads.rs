//! Reads of a file by a pair of threads beside those of preadv2(2).
#![allow(missing_docs)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::iovec;
use pairread::PairReader;
use proptest::prelude::*;

const FILE_BYTES: usize = 3_000_001;

/// A file that goes with it.
struct Scratch {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
}

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pairread-{}-{number}", std::process::id()));
        let mut file =
            OpenOptions::new().create_new(true).read(true).write(true).open(&path).expect("a file");
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|i| ((i % 251) ^ (i >> 13)) as u8).collect();
        file.write_all(&bytes).expect("room for it");
        Self { path, file, bytes }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What was returned, and what the buffers of these lengths hold then.
fn read(reader: &mut PairReader, fd: i32, offset: i64, lengths: &[usize]) -> (i64, Vec<u8>) {
    let mut buffers: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![0xee; length]).collect();
    let parts: Vec<iovec> = buffers
        .iter_mut()
        .map(|buffer| iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    // SAFETY: the buffers live until the end of this function.
    let outcome = unsafe { reader.read(fd, offset, &parts, 0) };
    (outcome, buffers.concat())
}

fn expected(bytes: &[u8], offset: usize, lengths: &[usize]) -> (i64, Vec<u8>) {
    let wanted: usize = lengths.iter().sum();
    let from = &bytes[offset.min(bytes.len())..];
    let mut all = from[..wanted.min(from.len())].to_vec();
    let done = all.len() as i64;
    all.resize(wanted, 0xee);
    (done, all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]
    #[test]
    fn every_byte_comes_to_its_place_whoever_reads_it(
        requests in proptest::collection::vec(
            (0usize..FILE_BYTES + 10, proptest::collection::vec(0usize..400_000, 0..9)), 1..8),
    ) {
        let scratch = Scratch::new();
        let mut reader = PairReader::default();
        for (offset, lengths) in requests {
            let found = read(&mut reader, scratch.file.as_raw_fd(), offset as i64, &lengths);
            prop_assert!(found == expected(&scratch.bytes, offset, &lengths));
        }
    }
}

#[test]
fn many_requests_one_after_the_other_end_each() {
    let scratch = Scratch::new();
    let mut reader = PairReader::default();
    for i in 0..1000usize {
        let offset = i * 7919 % 2_000_000;
        let lengths = [300_000 - i % 4096, 1, i % 100_000];
        let found = read(&mut reader, scratch.file.as_raw_fd(), offset as i64, &lengths);
        assert!(found == expected(&scratch.bytes, offset, &lengths), "request {i}");
    }
}

#[test]
fn errors_are_those_of_the_kernel_and_the_end_of_the_file_is_none() {
    let scratch = Scratch::new();
    let mut reader = PairReader::default();
    let fd = scratch.file.as_raw_fd();
    assert_eq!(read(&mut reader, -1, 0, &[600_000]).0, -i64::from(libc::EBADF));
    assert_eq!(read(&mut reader, -1, 0, &[6]).0, -i64::from(libc::EBADF));
    assert_eq!(read(&mut reader, fd, -1, &[600_000]).0, -i64::from(libc::EINVAL));
    assert!(read(&mut reader, fd, i64::MAX, &[600_000]).0 <= 0);
    assert_eq!(read(&mut reader, fd, FILE_BYTES as i64, &[600_000]).0, 0);
    assert_eq!(read(&mut reader, fd, FILE_BYTES as i64 - 400_000, &[600_000]).0, 400_000);
    // Memory that is none of ours: the kernel says so, and what was read before it counts.
    let mut good = vec![0u8; 256 << 10];
    let parts = [
        iovec { iov_base: good.as_mut_ptr().cast(), iov_len: good.len() },
        iovec { iov_base: std::ptr::without_provenance_mut(8), iov_len: 300_000 },
    ];
    // SAFETY: nothing is mapped at the second address, where the kernel finds that it must not write.
    assert_eq!(unsafe { reader.read(fd, 0, &parts, 0) }, 256 << 10);
    // SAFETY: as above.
    let bad = unsafe { reader.read(fd, 0, &parts[1..], 0) };
    assert_eq!(bad, -i64::from(libc::EFAULT));
}

#[test]
fn a_reader_may_go_with_and_without_a_helper() {
    drop(PairReader::default());
    let scratch = Scratch::new();
    for _ in 0..50 {
        let mut reader = PairReader::default();
        read(&mut reader, scratch.file.as_raw_fd(), 0, &[1 << 20]);
    }
}
