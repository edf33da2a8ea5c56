//! Errors on their way to JavaScript: `code` is the errno's name, as in errors of Node.js.

/// The `code` of the JavaScript error.
#[derive(Debug)]
pub struct Code(&'static str);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0
    }
}

/// What synchronous calls return.
pub type Result<T> = std::result::Result<T, napi::Error<Code>>;

/// The errno that a failed call of `what` left behind.
pub fn last(what: &str) -> napi::Error<Code> {
    js(last_errno(), what)
}

/// The calling thread's errno.
pub fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// An errno as an error of JavaScript.
pub fn js(errno: i32, what: &str) -> napi::Error<Code> {
    let reason = std::io::Error::from_raw_os_error(errno);
    napi::Error::new(Code(name(errno)), format!("{what}: {reason}"))
}

/// A failed Node-API call: the environment is going down, or a limit of it.
pub fn check(status: napi::sys::napi_status, what: &str) -> Result<()> {
    if status == napi::sys::Status::napi_ok { Ok(()) } else { Err(js(libc::EIO, what)) }
}

/// Names of what the calls of this addon can fail with; the rest is an I/O error.
fn name(errno: i32) -> &'static str {
    match errno {
        libc::EACCES => "EACCES",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EAGAIN => "EAGAIN",
        libc::EBADF => "EBADF",
        libc::EBUSY => "EBUSY",
        libc::EDQUOT => "EDQUOT",
        libc::EFBIG => "EFBIG",
        libc::EINTR => "EINTR",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ENFILE => "ENFILE",
        libc::ENOENT => "ENOENT",
        libc::ENODEV => "ENODEV",
        libc::ENOLCK => "ENOLCK",
        libc::ENOMEM => "ENOMEM",
        libc::ENOSPC => "ENOSPC",
        libc::ENOSYS => "ENOSYS",
        libc::ENOTTY => "ENOTTY",
        libc::ENXIO => "ENXIO",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EPERM => "EPERM",
        libc::EPROTO => "EPROTO",
        libc::EROFS => "EROFS",
        libc::ESPIPE => "ESPIPE",
        libc::ETXTBSY => "ETXTBSY",
        _ => "EIO",
    }
}
