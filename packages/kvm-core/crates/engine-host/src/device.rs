//! `/dev/kvm`: what must be there before anything is tried.

use std::ffi::CString;

use kvm_abi::{Errno, KvmError, cap};
use kvm_ioctls::Kvm;

use crate::error::errno;

/// Path of the device unless another one is asked for.
pub const DEVICE: &str = "/dev/kvm";
/// `KVM_GET_API_VERSION` has been 12 since Linux 2.6.22, and no other was ever stable.
const API_VERSION: i32 = 12;
const INSTEAD: &str = "engine 'soft' runs the same guests without it";

/// Capabilities without which this engine does not work, with their names.
pub const REQUIRED: &[(&str, u32)] = &[
    ("KVM_CAP_IRQCHIP", cap::IRQCHIP),
    ("KVM_CAP_USER_MEMORY", cap::USER_MEMORY),
    ("KVM_CAP_SET_TSS_ADDR", 4),
    ("KVM_CAP_EXT_CPUID", cap::EXT_CPUID),
    ("KVM_CAP_MP_STATE", cap::MP_STATE),
    ("KVM_CAP_DESTROY_MEMORY_REGION_WORKS", cap::DESTROY_MEMORY_REGION_WORKS),
    ("KVM_CAP_IRQ_ROUTING", cap::IRQ_ROUTING),
    ("KVM_CAP_IRQFD", cap::IRQFD),
    ("KVM_CAP_PIT2", cap::PIT2),
    ("KVM_CAP_PIT_STATE2", cap::PIT_STATE2),
    ("KVM_CAP_IOEVENTFD", cap::IOEVENTFD),
    ("KVM_CAP_VCPU_EVENTS", cap::VCPU_EVENTS),
    ("KVM_CAP_DEBUGREGS", cap::DEBUGREGS),
    ("KVM_CAP_XSAVE", cap::XSAVE),
    ("KVM_CAP_SIGNAL_MSI", cap::SIGNAL_MSI),
    ("KVM_CAP_IMMEDIATE_EXIT", cap::IMMEDIATE_EXIT),
];

/// Opens the device at `path` and checks that it is a KVM that this engine can use.
pub(crate) fn open(path: &str) -> Result<Kvm, KvmError> {
    let name = CString::new(path)
        .map_err(|_| KvmError::invalid(format!("device {path:?} has a NUL byte")))?;
    let kvm = Kvm::new_with_path(&name).map_err(|e| cannot_open(path, e.errno()))?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(KvmError::new(
            Errno::EOPNOTSUPP,
            format!("{path} has KVM API version {version}, not {API_VERSION}; {INSTEAD}"),
        ));
    }
    let missing: Vec<_> = REQUIRED
        .iter()
        .filter(|(_, number)| kvm.check_extension_raw(u64::from(*number)) <= 0)
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        return Err(KvmError::new(
            Errno::EOPNOTSUPP,
            format!("the kernel's KVM has no {}; {INSTEAD}", missing.join(", ")),
        ));
    }
    Ok(kvm)
}

fn cannot_open(path: &str, number: i32) -> KvmError {
    let text = std::io::Error::from_raw_os_error(number);
    let remedy = match number {
        libc::ENOENT => {
            "the CPU has no virtualization, it is off in the firmware, or kvm_intel or kvm_amd is \
             not loaded"
        }
        libc::EACCES | libc::EPERM => {
            "the user must be in the group that owns the device: 'sudo usermod -aG kvm $USER', \
             then log in again"
        }
        libc::ENXIO | libc::ENODEV => "the kernel has the device node, but no KVM behind it",
        _ => "it must be a KVM device",
    };
    KvmError::new(errno(number), format!("cannot open {path} ({text}): {remedy}; {INSTEAD}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_remedy_and_what_works_instead() {
        let error = open("/nonexistent/kvm").unwrap_err();
        assert_eq!(error.errno, Errno::ENOENT);
        assert!(error.reason.contains("kvm_intel") && error.reason.contains("'soft'"));
        let error = cannot_open(DEVICE, libc::EACCES);
        assert_eq!(error.errno, Errno::EACCES);
        assert!(error.reason.contains("usermod -aG kvm"));
        // A device that is no KVM answers the version with an error.
        assert_eq!(open("/dev/null").unwrap_err().errno, Errno::EOPNOTSUPP);
        assert_eq!(open("a\0b").unwrap_err().errno, Errno::EINVAL);
    }
}
