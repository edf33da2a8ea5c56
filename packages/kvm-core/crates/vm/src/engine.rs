//! Which engines there are.

use std::sync::Arc;

use kvm_abi::KvmError;
use kvm_cpu::engine::VmEngine;
use kvm_engine_host::HostEngine;
use kvm_engine_soft::{SoftEngine, SoftOptions};

/// An engine, opened: it makes one for each VM.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The software CPU of this project.
    Soft(SoftOptions),
    /// KVM of the host.
    Host(Arc<HostEngine>),
}

impl Engine {
    /// Opens the software CPU.
    ///
    /// # Errors
    /// `EINVAL` for a size outside the limits; why the map for `perf` cannot be written.
    pub fn soft(options: SoftOptions) -> Result<Self, KvmError> {
        options.check()?;
        Ok(Self::Soft(options))
    }

    /// Opens the host's KVM, `/dev/kvm` unless another path is given.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES` or `EOPNOTSUPP`; the message says what helps.
    pub fn host(device: Option<&str>) -> Result<Self, KvmError> {
        HostEngine::open(device).map(Self::Host)
    }

    /// An engine for one VM.
    #[must_use]
    pub fn for_vm(&self) -> Arc<dyn VmEngine> {
        match self {
            Self::Soft(options) => SoftEngine::with_options(*options),
            Self::Host(engine) => engine.another(),
        }
    }
}
