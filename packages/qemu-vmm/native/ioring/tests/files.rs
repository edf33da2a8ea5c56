//! Files of the host through a ring.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use ioring::{Completion, Operation, Ring, refusal};
use libc::iovec;

/// None on a host that forbids it, which is said.
fn ring(entries: u32) -> Option<Ring> {
    match Ring::new(entries) {
        Ok(ring) => Some(ring),
        Err(error) => {
            println!("no io_uring here: {}", refusal(error.raw_os_error().unwrap_or(0)));
            None
        }
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> (Self, File) {
        let path = std::env::temp_dir().join(format!("ioring-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        (Self(path), file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn part(bytes: &mut [u8]) -> iovec {
    iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// Waits until `count` requests have ended.
fn finish(ring: &mut Ring, count: usize) -> Vec<Completion> {
    let mut all = Vec::new();
    ring.submit().unwrap();
    while all.len() < count {
        let mut poll = libc::pollfd { fd: ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, which lives until the call returns.
        assert!(unsafe { libc::poll(&raw mut poll, 1, 10_000) } > 0, "{} of {count}", all.len());
        ring.take(usize::MAX, |done| all.push(done)).unwrap();
    }
    all
}

fn one(ring: &mut Ring, operation: Operation, fd: RawFd, offset: u64, list: Vec<iovec>) -> i64 {
    // SAFETY: callers keep the memory until this returns.
    let tag = unsafe { ring.queue(operation, fd, offset, list) };
    let done = finish(ring, 1);
    assert_eq!(done[0].tag, tag);
    assert_eq!(ring.outstanding(), 0);
    done[0].result
}

#[test]
fn a_read_ends_with_the_file() {
    let Some(mut ring) = ring(8) else { return };
    let (_scratch, file) = Scratch::new("end", b"hello");
    let mut bytes = [0u8; 16];
    let (first, rest) = bytes.split_at_mut(3);
    let list = vec![part(first), part(rest)];
    assert_eq!(one(&mut ring, Operation::Read, file.as_raw_fd(), 0, list), 5);
    assert_eq!(&bytes[..6], b"hello\0");
    let list = vec![part(&mut bytes)];
    assert_eq!(one(&mut ring, Operation::Read, file.as_raw_fd(), 100, list), 0);
    let mut others = [0u8; 16];
    let list = vec![part(&mut others)];
    assert_eq!(one(&mut ring, Operation::ReadApart, file.as_raw_fd(), 1, list), 4);
    assert_eq!(&others[..5], b"ello\0");
}

#[test]
fn more_parts_than_the_kernel_takes_are_one_request() {
    let Some(mut ring) = ring(8) else { return };
    let (scratch, file) = Scratch::new("parts", b"");
    let mut bytes: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    let list = bytes.chunks_mut(2).map(part).collect();
    assert_eq!(one(&mut ring, Operation::Write, file.as_raw_fd(), 10, list), 5000);
    assert_eq!(one(&mut ring, Operation::Flush, file.as_raw_fd(), 0, Vec::new()), 0);
    assert_eq!(fs::read(&scratch.0).unwrap()[10..], bytes);
    let mut back = vec![0u8; 5000];
    let list = back.chunks_mut(3).map(part).collect();
    assert_eq!(one(&mut ring, Operation::Read, file.as_raw_fd(), 10, list), 5000);
    assert_eq!(back, bytes);
}

#[test]
fn more_requests_than_the_ring_has_room_for_all_end() {
    let Some(mut ring) = ring(4) else { return };
    let (scratch, file) = Scratch::new("many", b"");
    let mut blocks: Vec<[u8; 64]> = (0..1000).map(|i| [i as u8; 64]).collect();
    for (i, block) in blocks.iter_mut().enumerate() {
        // SAFETY: the blocks live until all have ended.
        unsafe {
            ring.queue(Operation::Write, file.as_raw_fd(), i as u64 * 64, vec![part(block)]);
        }
    }
    assert_eq!(ring.outstanding(), 1000);
    let done = finish(&mut ring, 1000);
    assert!(done.iter().all(|done| done.result == 64));
    let mut tags: Vec<u32> = done.iter().map(|done| done.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..1000).collect::<Vec<_>>());
    assert_eq!(fs::read(&scratch.0).unwrap(), blocks.concat());
    assert!(!ring.is_stalled());
}

#[test]
fn at_most_so_many_completions_are_taken_as_are_asked_for() {
    let Some(mut ring) = ring(16) else { return };
    let (_scratch, file) = Scratch::new("few", &[1; 4096]);
    let mut blocks = [[0u8; 16]; 10];
    for block in &mut blocks {
        // SAFETY: the blocks live until all have ended.
        unsafe { ring.queue(Operation::Read, file.as_raw_fd(), 0, vec![part(block)]) };
    }
    ring.submit().unwrap();
    let mut left = 10;
    while left > 0 {
        let taken = ring.take(3, |done| assert_eq!(done.result, 16)).unwrap();
        assert!(taken <= 3);
        left -= taken;
        assert_eq!(ring.outstanding(), left);
    }
}

#[test]
fn errors_are_those_of_the_host() {
    let Some(mut ring) = ring(8) else { return };
    let (scratch, file) = Scratch::new("errors", b"");
    let mut bytes = [0u8; 16];
    let list = vec![part(&mut bytes)];
    assert_eq!(one(&mut ring, Operation::Read, -1, 0, list), -i64::from(libc::EBADF));
    let read_only = File::open(&scratch.0).unwrap();
    let list = vec![part(&mut bytes)];
    let errno = one(&mut ring, Operation::Write, read_only.as_raw_fd(), 0, list);
    assert_eq!(errno, -i64::from(libc::EBADF));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let list = vec![part(&mut bytes)];
    let errno = one(&mut ring, Operation::Write, full.as_raw_fd(), 0, list);
    assert_eq!(errno, -i64::from(libc::ENOSPC));
    // Nothing is mapped there.
    let nowhere = iovec { iov_base: std::ptr::without_provenance_mut(8), iov_len: 8 };
    (&file).write_all(b"12345678").unwrap();
    let errno = one(&mut ring, Operation::Read, file.as_raw_fd(), 0, vec![nowhere]);
    assert_eq!(errno, -i64::from(libc::EFAULT));
}

#[test]
fn a_ring_that_goes_waits_for_what_is_under_way() {
    let Some(mut ring) = ring(8) else { return };
    let (scratch, file) = Scratch::new("gone", b"");
    let mut blocks: Vec<Vec<u8>> = (0..4).map(|i| vec![i + 1; 1 << 20]).collect();
    for (i, block) in blocks.iter_mut().enumerate() {
        // SAFETY: the blocks live longer than the ring.
        unsafe {
            ring.queue(Operation::Write, file.as_raw_fd(), (i as u64) << 20, vec![part(block)])
        };
    }
    ring.submit().unwrap();
    drop(ring);
    // The kernel reads no more of it: the file stays as it was.
    for block in &mut blocks {
        block.fill(0xff);
    }
    let found = fs::read(&scratch.0).unwrap();
    for (i, block) in found.chunks(1 << 20).enumerate() {
        assert!(block.iter().all(|&byte| byte == i as u8 + 1), "block {i}");
    }
    assert_eq!(found.len(), 4 << 20);
}

#[test]
fn a_filter_of_system_calls_is_an_errno() {
    // A filter belongs to a thread, and stays.
    let found = std::thread::spawn(|| {
        forbid_io_uring();
        Ring::new(8).map(|_| ()).map_err(|error| error.raw_os_error())
    });
    assert_eq!(found.join().unwrap(), Err(Some(libc::EPERM)));
}

fn forbid_io_uring() {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(load, 0, 0, 0),
        step(equal, 0, 1, libc::SYS_io_uring_setup as u32),
        step(end, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(end, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives until the calls return.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER as libc::c_ulong;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
    }
}
