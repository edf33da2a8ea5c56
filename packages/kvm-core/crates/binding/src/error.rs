//! Errors on their way to JavaScript: `code` is the errno's name, the message is the reason.

use kvm_abi::{Errno, KvmError};

/// The `code` of the JavaScript error.
#[derive(Debug)]
pub struct Code(String);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What native calls return.
pub type Result<T> = std::result::Result<T, napi::Error<Code>>;

/// An error of the VM layer as one of JavaScript.
pub fn js(error: KvmError) -> napi::Error<Code> {
    napi::Error::new(Code(error.errno.name()), error.reason)
}

/// A failed Node-API call. It means that the environment is going down, or a limit of it.
pub fn check(status: napi::sys::napi_status, what: &str) -> Result<()> {
    match status {
        napi::sys::Status::napi_ok => Ok(()),
        napi::sys::Status::napi_no_external_buffers_allowed => Err(js(KvmError::new(
            Errno::EOPNOTSUPP,
            "this runtime does not allow external ArrayBuffers, so guest memory cannot be shown",
        ))),
        _ => Err(js(KvmError::new(Errno::EIO, format!("{what} failed with status {status}")))),
    }
}
