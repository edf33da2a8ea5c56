//! The calls of kvm-core's addon: guest memory and messages, without JavaScript in between.

use std::ptr::{NonNull, null_mut};

use napi::sys;
use vring::Memory;

use crate::errno::{Result, js};

/// Names the kind of the value: "kvm-core" and "calls" in ASCII.
static TAG: sys::napi_type_tag =
    sys::napi_type_tag { lower: 0x6b76_6d2d_636f_7265, upper: 0x63_616c_6c73 };
const VERSION: u32 = 1;

/// As `crates/binding/src/calls.rs` of kvm-core has it; what is behind these fields is its own.
#[repr(C)]
struct MachineCalls {
    version: u32,
    retain: unsafe extern "C" fn(*const MachineCalls),
    release: unsafe extern "C" fn(*const MachineCalls),
    read: unsafe extern "C" fn(*const MachineCalls, u64, *mut u8, usize) -> bool,
    write: unsafe extern "C" fn(*const MachineCalls, u64, *const u8, usize) -> bool,
    signal_msi: unsafe extern "C" fn(*const MachineCalls, u64, u32) -> bool,
}

/// A reference to the calls of a machine.
#[derive(Debug)]
pub struct Calls(NonNull<MachineCalls>);

impl Calls {
    /// Those that `value`, of kvm-core's `nativeCalls`, stands for.
    pub fn of(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        let (mut tagged, mut data) = (false, null_mut());
        // SAFETY: a value of the call's scope. One of another kind, without this tag, is a status or not tagged.
        let found = unsafe {
            sys::napi_check_object_type_tag(env, value, &raw const TAG, &raw mut tagged)
                == sys::Status::napi_ok
                && tagged
                && sys::napi_get_value_external(env, value, &raw mut data) == sys::Status::napi_ok
        };
        let calls = NonNull::new(data.cast::<MachineCalls>()).filter(|_| found);
        let calls = calls.ok_or_else(|| js(libc::EINVAL, "no calls of a machine"))?;
        // SAFETY: the tag says that it is this structure, which the value keeps for as long as this call takes. Every version
        // begins with its number.
        let version = unsafe { calls.cast::<u32>().read() };
        if version != VERSION {
            return Err(js(libc::ENOSYS, "calls of another version of kvm-core"));
        }
        // SAFETY: as above.
        unsafe { (calls.as_ref().retain)(calls.as_ptr()) };
        Ok(Self(calls))
    }

    /// Sends a message.
    pub fn signal(&self, address: u64, data: u32) {
        // SAFETY: the reference of `of`.
        unsafe { (self.0.as_ref().signal_msi)(self.0.as_ptr(), address, data) };
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // SAFETY: the reference of `of`, given back once.
        unsafe { (self.0.as_ref().release)(self.0.as_ptr()) };
    }
}

impl Memory for Calls {
    fn read(&self, gpa: u64, to: &mut [u8]) -> bool {
        // SAFETY: the reference of `of`; the slice is valid for its length, and nobody else has it.
        unsafe { (self.0.as_ref().read)(self.0.as_ptr(), gpa, to.as_mut_ptr(), to.len()) }
    }

    fn write(&self, gpa: u64, from: &[u8]) -> bool {
        // SAFETY: the reference of `of`; the slice is valid for its length.
        unsafe { (self.0.as_ref().write)(self.0.as_ptr(), gpa, from.as_ptr(), from.len()) }
    }
}
