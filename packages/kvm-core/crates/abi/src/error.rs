//! Errors carry the errno that the same ioctl of KVM would return, and say why.

use std::fmt;

/// The errno values that this interface returns, with Linux's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(clippy::upper_case_acronyms)]
pub enum Errno {
    /// No such file, slot or object.
    ENOENT = 2,
    /// Interrupted, by a kick or by `immediate_exit`.
    EINTR = 4,
    /// Input or output failed.
    EIO = 5,
    /// No such device or address.
    ENXIO = 6,
    /// A list is longer than the limit.
    E2BIG = 7,
    /// The object was closed.
    EBADF = 9,
    /// Try again: the object is busy for now.
    EAGAIN = 11,
    /// Out of memory.
    ENOMEM = 12,
    /// Not permitted.
    EACCES = 13,
    /// A guest address is outside RAM.
    EFAULT = 14,
    /// The object is in use.
    EBUSY = 16,
    /// The object exists, or overlaps one that does.
    EEXIST = 17,
    /// A value is outside what the interface accepts.
    EINVAL = 22,
    /// No room.
    ENOSPC = 28,
    /// The call does not exist here.
    ENOTTY = 25,
    /// The feature is not supported.
    EOPNOTSUPP = 95,
}

impl Errno {
    /// The symbolic name, for example `"EINVAL"`.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// An error of the KVM interface: an errno and the reason, which names the value and the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmError {
    /// What KVM would put in `errno`.
    pub errno: Errno,
    /// What was wrong, in one sentence without a period.
    pub reason: String,
}

impl KvmError {
    /// An error with `errno` and a reason.
    pub fn new(errno: Errno, reason: impl Into<String>) -> Self {
        Self { errno, reason: reason.into() }
    }

    /// `EINVAL` with a reason.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::new(Errno::EINVAL, reason)
    }
}

impl fmt::Display for KvmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.errno, self.reason)
    }
}

impl std::error::Error for KvmError {}
