//! Structures of the kernel as bytes, which is how this project keeps state.

use kvm_bindings::{kvm_lapic_state, kvm_pit_state2, kvm_regs, kvm_sregs, kvm_vcpu_events};

/// A structure of integers without padding.
///
/// # Safety
/// Every byte of the type belongs to an integer, and all bits are valid.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers only, with padding as fields; `size_of` is KVM's in every case, which the
// bindings check.
unsafe impl Plain for kvm_regs {}
// SAFETY: as above.
unsafe impl Plain for kvm_sregs {}
// SAFETY: as above.
unsafe impl Plain for kvm_vcpu_events {}
// SAFETY: as above.
unsafe impl Plain for kvm_pit_state2 {}
// SAFETY: as above.
unsafe impl Plain for kvm_lapic_state {}

/// The bytes of `value`.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: the type is plain, so every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
}

/// The structure with these bytes, `None` if there are more or fewer than it has.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the type is plain, so all bits are valid, and the length is its own.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
