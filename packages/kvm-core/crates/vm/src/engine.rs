//! Which engines there are.

use std::sync::Arc;

use kvm_abi::{Errno, KvmError};
use kvm_cpu::engine::VmEngine;
use kvm_engine_soft::SoftEngine;

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// The software CPU of this project.
    Soft,
    /// KVM of the host.
    Host,
}

/// An engine for one VM.
///
/// # Errors
/// `ENXIO` for an engine that this build does not have.
pub fn create_engine(kind: EngineKind) -> Result<Arc<dyn VmEngine>, KvmError> {
    match kind {
        EngineKind::Soft => Ok(SoftEngine::new()),
        EngineKind::Host => Err(KvmError::new(
            Errno::ENXIO,
            "the host engine is not part of this release: use engine 'soft' or 'auto'",
        )),
    }
}
