//! RAM and the guest physical address space.

use std::os::fd::RawFd;
use std::sync::Arc;

use kvm_abi::KvmError;
use kvm_memory::{Backing, GuestMemory, GuestRam, Memslot};
use kvm_vm::Vm;
use napi::Env;
use napi::bindgen_prelude::{Object, Uint8Array, Uint8ArraySlice};
use napi_derive::napi;

use crate::buffers::{External, detach};
use crate::error::{Result, js};
use crate::numbers::{integer, number, word};

/// A mapping.
#[napi]
pub struct NativeRam {
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) memory: Arc<GuestMemory>,
}

#[napi]
impl NativeRam {
    /// Bytes.
    #[napi(getter)]
    pub fn size(&self) -> f64 {
        number(self.ram.len() as u64)
    }

    /// Identifies the mapping in this process: its address.
    #[napi(getter)]
    pub fn key(&self) -> f64 {
        number(self.ram.as_ptr() as u64)
    }

    /// True for a memfd.
    #[napi(getter)]
    pub fn shared(&self) -> bool {
        self.ram.backing() == Backing::Memfd
    }

    /// The memfd, or -1.
    #[napi(getter)]
    pub fn fd(&self) -> RawFd {
        self.ram.fd().unwrap_or(-1)
    }

    /// An ArrayBuffer of a part.
    #[napi]
    pub fn window(&self, env: Env, offset: f64, len: f64) -> Result<External> {
        let (offset, len) = (integer(offset, "offset")?, integer(len, "length")?);
        let size = self.ram.len() as u64;
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(js(KvmError::new(
                kvm_abi::Errno::EFAULT,
                format!(
                    "{len} bytes at offset {offset:#x} are not inside the {size:#x} of the RAM"
                ),
            )));
        }
        let base = self.ram.as_ptr().wrapping_add(offset as usize);
        External::new(env.raw(), base, len as usize, self.ram.clone())
    }

    /// Reports a write in every memslot that shows the bytes.
    #[napi]
    pub fn mark_written(&self, offset: f64, len: f64) -> Result<()> {
        let (offset, len) = (integer(offset, "offset")?, integer(len, "length")?);
        let end = offset.saturating_add(len);
        for slot in self.memory.table().slots() {
            let (from, to) = (offset.max(slot.offset), end.min(slot.offset + slot.size));
            if Arc::ptr_eq(&slot.ram, &self.ram) && from < to {
                self.memory.mark_written(slot.gpa + (from - slot.offset), to - from);
            }
        }
        Ok(())
    }

    /// Bytes in large pages.
    #[napi]
    pub fn huge_bytes(&self) -> f64 {
        number(self.ram.huge_bytes())
    }

    /// Bytes resident.
    #[napi]
    pub fn resident_bytes(&self) -> f64 {
        number(self.ram.resident_bytes())
    }
}

/// A memslot as TypeScript sees it.
#[napi]
pub struct NativeSlot {
    slot: Arc<Memslot>,
    memory: Arc<GuestMemory>,
}

#[napi]
impl NativeSlot {
    /// First address.
    #[napi(getter)]
    pub fn gpa(&self) -> f64 {
        number(self.slot.gpa)
    }
    /// Bytes.
    #[napi(getter)]
    pub fn size(&self) -> f64 {
        number(self.slot.size)
    }
    /// Where in the RAM it begins.
    #[napi(getter)]
    pub fn offset(&self) -> f64 {
        number(self.slot.offset)
    }
    /// Identifies the RAM, see `NativeRam::key`.
    #[napi(getter)]
    pub fn ram_key(&self) -> f64 {
        number(self.slot.ram.as_ptr() as u64)
    }
    /// The RAM.
    #[napi]
    pub fn ram(&self) -> NativeRam {
        NativeRam { ram: self.slot.ram.clone(), memory: self.memory.clone() }
    }
}

/// Guest physical memory.
#[napi]
pub struct NativeMemory {
    pub(crate) vm: Arc<Vm>,
}

#[napi]
impl NativeMemory {
    /// A page whose first word changes with the memslots.
    #[napi]
    pub fn generation(&self, env: Env) -> Result<External> {
        let page = self.vm.words();
        External::new(env.raw(), page.as_ptr(), 4, page.clone())
    }

    /// `KVM_SET_USER_MEMORY_REGION`.
    #[napi]
    pub fn set_region(
        &self,
        slot: f64,
        gpa: f64,
        size: f64,
        flags: f64,
        ram: Option<&NativeRam>,
        offset: f64,
    ) -> Result<()> {
        self.vm.check_open().map_err(js)?;
        let ram = ram.map(|native| native.ram.clone());
        self.vm
            .memory()
            .set_user_memory_region(
                word(slot, "slot")?,
                integer(gpa, "gpa")?,
                integer(size, "size")?,
                word(flags, "flags")?,
                ram,
                integer(offset, "offset")?,
            )
            .map_err(js)
    }

    /// The present memslots by address.
    #[napi]
    pub fn slots(&self) -> Vec<NativeSlot> {
        let memory = self.vm.memory();
        let slots = memory.table().slots().to_vec();
        slots.into_iter().map(|slot| NativeSlot { slot, memory: memory.clone() }).collect()
    }

    /// Copies guest memory.
    #[napi]
    pub fn read(&self, gpa: f64, mut dst: Uint8ArraySlice<'_>) -> Result<()> {
        // SAFETY: the caller's array. If it shows guest memory, bytes may change meanwhile, which
        // the copy allows for.
        let dst = unsafe { dst.as_mut() };
        self.vm.memory().read(integer(gpa, "gpa")?, dst).map_err(js)
    }

    /// Copies to guest memory and reports the write.
    #[napi]
    pub fn write(&self, gpa: f64, src: &[u8]) -> Result<()> {
        self.vm.memory().write(integer(gpa, "gpa")?, src).map_err(js)
    }

    /// Reports a write.
    #[napi]
    pub fn mark_written(&self, gpa: f64, len: f64) -> Result<()> {
        self.vm.memory().mark_written(integer(gpa, "gpa")?, integer(len, "length")?);
        Ok(())
    }

    /// `KVM_GET_DIRTY_LOG`.
    #[napi]
    pub fn dirty_log(&self, slot: f64) -> Result<Uint8Array> {
        let slot = word(slot, "slot")?;
        self.vm.memory().get_dirty_log(slot).map(Into::into).map_err(js)
    }

    /// `KVM_CLEAR_DIRTY_LOG`.
    #[napi]
    pub fn clear_dirty_log(
        &self,
        slot: f64,
        first_page: f64,
        num_pages: f64,
        bitmap: &[u8],
    ) -> Result<()> {
        let (first, pages) = (integer(first_page, "firstPage")?, integer(num_pages, "numPages")?);
        let slot = word(slot, "slot")?;
        self.vm.memory().clear_dirty_log(slot, first, pages, bitmap).map_err(js)
    }

    /// `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`.
    #[napi]
    pub fn set_manual_protect(&self, on: bool) {
        self.vm.memory().set_manual_protect(on);
    }
}

/// Maps RAM.
pub fn create_ram(vm: &Arc<Vm>, size: f64, shared: bool) -> Result<NativeRam> {
    vm.check_open().map_err(js)?;
    let bytes = usize::try_from(integer(size, "size")?).unwrap_or(usize::MAX);
    let backing = if shared { Backing::Memfd } else { Backing::Anon };
    let ram = GuestRam::new(bytes, backing).map_err(js)?;
    Ok(NativeRam { ram, memory: vm.memory().clone() })
}

/// Detaches an ArrayBuffer of this addon.
#[napi]
pub fn detach_buffer(env: Env, buffer: Object<'_>) -> Result<()> {
    detach(env.raw(), &buffer)
}
