//! The map that `perf` reads to name code which no file has: `/tmp/perf-PID.map`, one line
//! `START SIZE NAME` for each piece, numbers in hexadecimal (tools/perf/Documentation/jit-interface.txt
//! of Linux).
//!
//! Each line is one write: whoever looks while the guest runs finds whole lines, and nothing is lost
//! when the process is killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Kind;
use crate::tlb::Class;

/// One for the process, open from the first engine that wants it on.
static MAP: Mutex<Option<File>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<File>> {
    MAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the map of this process is.
#[must_use]
pub fn path() -> PathBuf {
    PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()))
}

/// Begins the map of this process, unless that was done before.
///
/// # Errors
/// What opening the file says; `ResourceBusy` where another part of the process writes it, as Node.js
/// does with `--perf-basic-prof`.
pub fn start() -> io::Result<()> {
    let mut map = lock();
    if map.is_none() {
        *map = Some(open(&path())?);
    }
    Ok(())
}

/// Opens the map, without what a former process of this number left there.
fn open(path: &Path) -> io::Result<File> {
    // Anybody can put a link there.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.nlink() > 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file of its own"));
    }
    if opened_elsewhere(&about) {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another part of the process writes it, as Node.js does with --perf-basic-prof",
        ));
    }
    file.set_len(0)?;
    Ok(file)
}

/// True if another descriptor of this process is open for the same file.
fn opened_elsewhere(about: &std::fs::Metadata) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return false };
    let same = |entry: &std::fs::DirEntry| {
        std::fs::metadata(entry.path())
            .is_ok_and(|other| (other.dev(), other.ino()) == (about.dev(), about.ino()))
    };
    entries.flatten().filter(same).count() > 1
}

/// Adds a line. What cannot be written, as on a full disk, is missing in the map.
fn add(start: u64, bytes: usize, name: &str) {
    if let Some(file) = &mut *lock() {
        let _ = file.write_all(format!("{start:x} {bytes:x} {name}\n").as_bytes());
    }
}

/// The fixed code of a vCPU.
pub fn add_stubs(start: u64, bytes: usize) {
    add(start, bytes, "guest-stubs");
}

/// A region that was translated when its first instruction was at `linear`.
pub fn add_region(start: u64, bytes: usize, class: Class, kind: Kind, linear: u64) {
    let who = match class {
        Class::User | Class::Checked => "user",
        Class::Supervisor | Class::SupervisorAc => "kernel",
    };
    let bits = kind.bits();
    add(start, bytes, &format!("guest-{who}{bits} {linear:#x}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("perf-map-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn what_a_former_process_left_is_gone() {
        let path = scratch("old");
        std::fs::write(&path, "1 2 old\n").unwrap();
        let mut file = open(&path).unwrap();
        file.write_all(b"3 4 new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3 4 new\n");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_link_is_not_followed_nor_a_second_name_written() {
        let (target, link) = (scratch("target"), scratch("link"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(open(&link).is_err());
        std::fs::remove_file(&link).unwrap();
        std::fs::hard_link(&target, &link).unwrap();
        assert_eq!(open(&link).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_file(&target).unwrap();
    }

    #[test]
    fn a_file_that_the_process_writes_already_is_refused() {
        let path = scratch("busy");
        let held = File::create(&path).unwrap();
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(held);
        open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
