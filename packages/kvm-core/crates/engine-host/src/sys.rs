//! ioctls that `kvm-ioctls` does not have in the form that is needed here.

use std::os::fd::RawFd;

/// `KVM_RUN`.
pub(crate) const KVM_RUN: u32 = 0xae80;
/// `KVM_INTERRUPT`, a u32.
pub(crate) const KVM_INTERRUPT: u32 = 0x4004_ae86;
/// `KVM_REINJECT_CONTROL`, 32 bytes of which the first one counts.
pub(crate) const KVM_REINJECT_CONTROL: u32 = 0xae71;
/// `KVM_IRQFD`, a `kvm_irqfd` of 32 bytes.
pub(crate) const KVM_IRQFD: u32 = 0x4020_ae76;
/// `KVM_IOEVENTFD`, a `kvm_ioeventfd` of 64 bytes.
pub(crate) const KVM_IOEVENTFD: u32 = 0x4040_ae79;
/// `KVM_GET_XSAVE`, 4096 bytes.
pub(crate) const KVM_GET_XSAVE: u32 = 0x9000_aea4;
/// `KVM_SET_XSAVE`, 4096 bytes.
pub(crate) const KVM_SET_XSAVE: u32 = 0x5000_aea5;

/// An ioctl without an argument. The errno where it fails.
pub(crate) fn ioctl(fd: RawFd, request: u32) -> Result<i32, i32> {
    // SAFETY: the request takes no pointer.
    checked(unsafe { libc::ioctl(fd, libc::c_ulong::from(request), 0) })
}

/// An ioctl that reads or fills `argument`.
///
/// # Safety
/// `T` is the structure that `request` is made for.
pub(crate) unsafe fn ioctl_with<T>(fd: RawFd, request: u32, argument: &mut T) -> Result<i32, i32> {
    // SAFETY: the caller vouches for the type, and the reference for the memory.
    checked(unsafe { libc::ioctl(fd, libc::c_ulong::from(request), std::ptr::from_mut(argument)) })
}

fn checked(result: i32) -> Result<i32, i32> {
    if result < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
    }
    Ok(result)
}
