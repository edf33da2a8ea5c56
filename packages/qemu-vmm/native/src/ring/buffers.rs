//! The memory of requests: where it is, and who keeps it.

use std::ptr::null_mut;

use libc::iovec;
use napi::sys;

use crate::errno::{Result, check};

/// Keeps what is being read and written from the garbage collector: a list of JavaScript with the buffers of each request
/// at its tag.
#[derive(Debug)]
pub struct Held {
    env: sys::napi_env,
    list: sys::napi_ref,
}

impl Held {
    pub fn new(env: sys::napi_env) -> Result<Self> {
        let (mut list, mut reference) = (null_mut(), null_mut());
        // SAFETY: called in the scope of a call from JavaScript.
        let status = unsafe { sys::napi_create_array(env, &raw mut list) };
        check(status, "napi_create_array")?;
        // SAFETY: the value that was just made.
        let status = unsafe { sys::napi_create_reference(env, list, 1, &raw mut reference) };
        check(status, "napi_create_reference")?;
        Ok(Self { env, list: reference })
    }

    /// Keeps `buffers` until `release`.
    pub fn put(&mut self, tag: u32, buffers: sys::napi_value) {
        let mut list = null_mut();
        // SAFETY: called in the scope of a call from JavaScript, with a value of that.
        unsafe {
            sys::napi_get_reference_value(self.env, self.list, &raw mut list);
            sys::napi_set_element(self.env, list, tag, buffers);
        }
    }

    pub fn release(&mut self, tag: u32) {
        let mut nothing = null_mut();
        // SAFETY: as above.
        unsafe { sys::napi_get_undefined(self.env, &raw mut nothing) };
        self.put(tag, nothing);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the reference of `new`, deleted once, on the environment's thread.
        unsafe { sys::napi_delete_reference(self.env, self.list) };
    }
}

/// Where the views of a list are. False when one of them is no array of bytes.
pub fn vectors(env: sys::napi_env, list: sys::napi_value, out: &mut Vec<iovec>) -> bool {
    let mut length = 0;
    // SAFETY: a value of the call's scope, as are those below; a wrong kind of value is a status.
    if unsafe { sys::napi_get_array_length(env, list, &raw mut length) } != sys::Status::napi_ok {
        return false;
    }
    out.reserve(length as usize);
    for i in 0..length {
        let (mut view, mut kind, mut bytes) = (null_mut(), -1, 0);
        let (mut data, mut buffer, mut offset) = (null_mut(), null_mut(), 0);
        // SAFETY: as above; each of the places is of the type that the call writes.
        let status = unsafe {
            sys::napi_get_element(env, list, i, &raw mut view);
            sys::napi_get_typedarray_info(
                env,
                view,
                &raw mut kind,
                &raw mut bytes,
                &raw mut data,
                &raw mut buffer,
                &raw mut offset,
            )
        };
        if status != sys::Status::napi_ok || kind != sys::TypedarrayType::uint8_array {
            return false;
        }
        out.push(iovec { iov_base: data, iov_len: bytes });
    }
    true
}
