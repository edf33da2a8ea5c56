//! What other addons of the process call without JavaScript in between, as a kernel's vhost does without its VMM: guest
//! memory and messages.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use kvm_vm::Vm;
use napi::bindgen_prelude::ToNapiValue;
use napi::sys;

use crate::error::{Result, check};

/// Names the kind of the value, so that no other is taken for it: "kvm-core" and "calls" in ASCII.
static TAG: sys::napi_type_tag =
    sys::napi_type_tag { lower: 0x6b76_6d2d_636f_7265, upper: 0x63_616c_6c73 };
/// Of the structure.
const VERSION: u32 = 1;

/// The calls, in C's layout. All can be made from any thread while a reference is held, also after the VM was closed.
#[repr(C)]
pub struct MachineCalls {
    version: u32,
    /// Holds one more reference.
    retain: unsafe extern "C" fn(*const MachineCalls),
    /// Gives one back.
    release: unsafe extern "C" fn(*const MachineCalls),
    /// Copies guest memory; false, with nothing copied, when not all of it is RAM. Aligned 2, 4 and 8 bytes are read at once.
    read: unsafe extern "C" fn(*const MachineCalls, gpa: u64, to: *mut u8, bytes: usize) -> bool,
    /// Copies to guest memory and reports the write; false, with nothing copied, when a device may not write all of it.
    write:
        unsafe extern "C" fn(*const MachineCalls, gpa: u64, from: *const u8, bytes: usize) -> bool,
    /// `KVM_SIGNAL_MSI`; false for what is no message.
    signal_msi: unsafe extern "C" fn(*const MachineCalls, addr: u64, data: u32) -> bool,
    vm: Arc<Vm>,
}

/// The value that JavaScript hands on.
pub struct Handle(sys::napi_value);

impl ToNapiValue for Handle {
    unsafe fn to_napi_value(_env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        Ok(value.0)
    }
}

impl Handle {
    /// Of the calls of `vm`.
    pub fn new(env: sys::napi_env, vm: Arc<Vm>) -> Result<Self> {
        let calls = MachineCalls { version: VERSION, retain, release, read, write, signal_msi, vm };
        let calls = Arc::into_raw(Arc::new(calls));
        let mut value = null_mut();
        // SAFETY: called in the scope of a call from JavaScript. The finalizer gives the reference back.
        let status = unsafe {
            let data = calls.cast_mut().cast();
            sys::napi_create_external(env, data, Some(finalize), null_mut(), &raw mut value)
        };
        if status != sys::Status::napi_ok {
            // SAFETY: the call failed, so the finalizer will not run.
            unsafe { release(calls) };
        }
        check(status, "napi_create_external")?;
        // SAFETY: the value that was just made.
        let status = unsafe { sys::napi_type_tag_object(env, value, &raw const TAG) };
        check(status, "napi_type_tag_object")?;
        Ok(Self(value))
    }
}

unsafe extern "C" fn finalize(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the reference of `Handle::new`, given back once.
    unsafe { release(data.cast()) };
}

unsafe extern "C" fn retain(calls: *const MachineCalls) {
    // SAFETY: the caller has a reference, as for all of these calls.
    unsafe { Arc::increment_strong_count(calls) };
}

unsafe extern "C" fn release(calls: *const MachineCalls) {
    // SAFETY: as above; this is the caller's last use of it.
    unsafe { Arc::decrement_strong_count(calls) };
}

unsafe extern "C" fn read(calls: *const MachineCalls, gpa: u64, to: *mut u8, bytes: usize) -> bool {
    // SAFETY: as above, and `to` has room for `bytes`, which nobody else looks at meanwhile.
    let (calls, to) = unsafe { (&*calls, std::slice::from_raw_parts_mut(to, bytes)) };
    calls.vm.memory().read(gpa, to).is_ok()
}

unsafe extern "C" fn write(
    calls: *const MachineCalls,
    gpa: u64,
    from: *const u8,
    bytes: usize,
) -> bool {
    // SAFETY: as above, and `from` has so many bytes, which nobody changes meanwhile.
    let (calls, from) = unsafe { (&*calls, std::slice::from_raw_parts(from, bytes)) };
    let memory = calls.vm.memory();
    let Some(end) = gpa.checked_add(bytes as u64) else { return false };
    let table = memory.table();
    let mut at = gpa;
    while at < end {
        match table.find(at) {
            Some(slot) if !slot.readonly() => at = slot.end(),
            _ => return false,
        }
    }
    memory.write(gpa, from).is_ok()
}

unsafe extern "C" fn signal_msi(calls: *const MachineCalls, addr: u64, data: u32) -> bool {
    // SAFETY: as above.
    let calls = unsafe { &*calls };
    calls.vm.irqchip().and_then(|chip| chip.signal_msi(addr, data)).is_ok()
}
