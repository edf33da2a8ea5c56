//! Native memory as ArrayBuffers.
//!
//! Each buffer holds an `Arc` of what it shows and frees nothing itself, so a buffer that lives
//! too long costs memory but never dangles. Safe wrappers of napi-rs would copy where external
//! buffers are not allowed, which for guest memory is silent corruption: the calls are made here.

use std::any::Any;
use std::ffi::c_void;
use std::sync::Arc;

use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::sys;

use crate::error::{Result, check};

/// What a buffer keeps alive.
pub type Keep = Arc<dyn Any + Send + Sync>;

/// An ArrayBuffer, as a return value.
#[derive(Debug)]
pub struct External(sys::napi_value);

impl ToNapiValue for External {
    unsafe fn to_napi_value(_env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        Ok(value.0)
    }
}

impl External {
    /// Shows `len` bytes at `base`, which `keep` keeps mapped.
    pub fn new(env: sys::napi_env, base: *mut u8, len: usize, keep: Keep) -> Result<Self> {
        let hint = Box::into_raw(Box::new(keep));
        let mut value = std::ptr::null_mut();
        // SAFETY: the memory is mapped while `keep` lives, and the finalizer drops it exactly once.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(
                env,
                base.cast(),
                len,
                Some(release),
                hint.cast(),
                &raw mut value,
            )
        };
        if status != sys::Status::napi_ok {
            // SAFETY: the call failed, so the finalizer will not run for this box.
            drop(unsafe { Box::from_raw(hint) });
        }
        check(status, "napi_create_external_arraybuffer")?;
        Ok(Self(value))
    }
}

unsafe extern "C" fn release(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: the box that `External::new` handed over; called once.
    drop(unsafe { Box::from_raw(hint.cast::<Keep>()) });
}

/// Detaches an ArrayBuffer: its length becomes 0, and views on it read as undefined.
pub fn detach(env: sys::napi_env, buffer: &Object<'_>) -> Result<()> {
    use napi::bindgen_prelude::JsValue;
    // SAFETY: a value of this call's scope. An object that is no ArrayBuffer gives a status.
    check(unsafe { sys::napi_detach_arraybuffer(env, buffer.raw()) }, "napi_detach_arraybuffer")
}
