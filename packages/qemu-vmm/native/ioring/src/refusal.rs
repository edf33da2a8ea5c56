//! Why a host has no io_uring for us.

use std::fs;

/// 0: everybody may; 1: members of a group may; 2: nobody may (Linux 6.6).
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// What the errno of a failed [`Ring::new`](crate::Ring::new) means, as the end of a sentence.
pub fn refusal(errno: i32) -> String {
    let setting = fs::read_to_string(DISABLED).ok().and_then(|text| text.trim().parse().ok());
    explain(errno, setting)
}

fn explain(errno: i32, disabled: Option<i32>) -> String {
    match (errno, disabled) {
        (libc::ENOSYS, _) => "the kernel has no io_uring".into(),
        (libc::EPERM, Some(2)) => "kernel.io_uring_disabled is 2: nobody may use it".into(),
        (libc::EPERM, Some(1)) => {
            "kernel.io_uring_disabled is 1: only the group of kernel.io_uring_group may use it"
                .into()
        }
        (libc::EPERM | libc::EACCES, _) => "a filter of system calls (seccomp) forbids it".into(),
        (libc::ENOMEM, _) => "there is no memory for it, or RLIMIT_MEMLOCK is too low".into(),
        (libc::EMFILE | libc::ENFILE, _) => "there are too many open files".into(),
        (libc::EOPNOTSUPP, _) => {
            "the kernel is too old: Linux 5.6 is the first that will do".into()
        }
        (other, _) => std::io::Error::from_raw_os_error(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::explain;

    #[test]
    fn names_the_setting_that_forbids_it() {
        assert!(explain(libc::EPERM, Some(2)).contains("io_uring_disabled is 2"));
        assert!(explain(libc::EPERM, Some(1)).contains("io_uring_group"));
        assert!(explain(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(explain(libc::EPERM, None).contains("seccomp"));
        assert!(explain(libc::ENOSYS, None).contains("no io_uring"));
        assert!(explain(libc::EIO, None).contains("Input/output error"));
    }
}
