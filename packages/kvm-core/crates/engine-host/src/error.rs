//! What the kernel answers, as errors of this interface.

use kvm_abi::{Errno, KvmError};

/// The kernel's error to a call, named by its ioctl.
pub(crate) fn failed(what: &str, error: &kvm_ioctls::Error) -> KvmError {
    refused(what, error.errno())
}

/// As [`failed`], for an errno.
pub(crate) fn refused(what: &str, number: i32) -> KvmError {
    let text = std::io::Error::from_raw_os_error(number);
    KvmError::new(errno(number), format!("the kernel refuses {what}: {text}"))
}

/// The name of an errno; `EIO` for one that this interface does not use.
pub(crate) fn errno(number: i32) -> Errno {
    match number {
        libc::ENOENT => Errno::ENOENT,
        libc::EINTR => Errno::EINTR,
        libc::ENXIO | libc::ENODEV => Errno::ENXIO,
        libc::E2BIG => Errno::E2BIG,
        libc::EBADF => Errno::EBADF,
        libc::EAGAIN => Errno::EAGAIN,
        libc::ENOMEM | libc::EMFILE | libc::ENFILE => Errno::ENOMEM,
        libc::EACCES | libc::EPERM => Errno::EACCES,
        libc::EFAULT => Errno::EFAULT,
        libc::EBUSY => Errno::EBUSY,
        libc::EEXIST => Errno::EEXIST,
        libc::EINVAL => Errno::EINVAL,
        libc::ENOSPC => Errno::ENOSPC,
        libc::ENOTTY => Errno::ENOTTY,
        libc::EOPNOTSUPP => Errno::EOPNOTSUPP,
        _ => Errno::EIO,
    }
}
