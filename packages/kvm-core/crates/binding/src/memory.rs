//! RAM and the guest physical address space.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use kvm_abi::{Errno, KvmError};
use kvm_memory::{Backing, GuestMemory, GuestRam, Region};
use kvm_vm::Vm;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Float64Array, Object, Uint8Array, Uint8ArraySlice};
use napi_derive::napi;

use crate::buffers::{External, detach};
use crate::error::{Result, js};
use crate::numbers::{integer, number, word};

/// f64 numbers per memslot in the array of `slots`: slot number, gpa, size, offset, RAM key, flags.
const SLOT_NUMBERS: usize = 6;
/// f64 numbers per region that `set_regions` takes.
const REGION_NUMBERS: usize = 6;

/// A mapping, until it is released: memory does not wait for the garbage collector.
#[napi]
pub struct NativeRam {
    open: Option<(Arc<GuestRam>, Arc<GuestMemory>)>,
}

impl NativeRam {
    fn parts(&self) -> Result<&(Arc<GuestRam>, Arc<GuestMemory>)> {
        let gone = || js(KvmError::new(Errno::EBADF, "this isolate has detached the RAM"));
        self.open.as_ref().ok_or_else(gone)
    }

    fn ram(&self) -> Result<&Arc<GuestRam>> {
        self.parts().map(|(ram, _)| ram)
    }
}

#[napi]
impl NativeRam {
    /// Bytes.
    #[napi(getter)]
    pub fn size(&self) -> Result<f64> {
        Ok(number(self.ram()?.len() as u64))
    }

    /// Identifies the mapping in this process: its address.
    #[napi(getter)]
    pub fn key(&self) -> Result<f64> {
        Ok(key_of(self.ram()?))
    }

    /// 'anon', 'memfd', 'hugetlb' or 'file'.
    #[napi(getter)]
    pub fn backing(&self) -> Result<&'static str> {
        Ok(match self.ram()?.backing() {
            Backing::Anon => "anon",
            Backing::Memfd => "memfd",
            Backing::Hugetlb => "hugetlb",
            Backing::File => "file",
        })
    }

    /// Makes every page present.
    #[napi]
    pub fn populate(&self) -> Result<()> {
        self.ram()?.populate().map_err(js)
    }

    /// The memfd, or -1.
    #[napi(getter)]
    pub fn fd(&self) -> Result<RawFd> {
        Ok(self.ram()?.fd().unwrap_or(-1))
    }

    /// An ArrayBuffer of a part.
    #[napi]
    pub fn window(&self, env: Env, offset: f64, len: f64) -> Result<External> {
        let (offset, len) = (integer(offset, "offset")?, integer(len, "length")?);
        let ram = self.ram()?;
        let size = ram.len() as u64;
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(js(KvmError::new(
                Errno::EFAULT,
                format!(
                    "{len} bytes at offset {offset:#x} are not inside the {size:#x} of the RAM"
                ),
            )));
        }
        let base = ram.as_ptr().wrapping_add(offset as usize);
        External::new(env.raw(), base, len as usize, ram.clone())
    }

    /// Reports a write in every memslot that shows the bytes.
    #[napi]
    pub fn mark_written(&self, offset: f64, len: f64) -> Result<()> {
        let (offset, len) = (integer(offset, "offset")?, integer(len, "length")?);
        let (ram, memory) = self.parts()?;
        let end = offset.saturating_add(len);
        for slot in memory.table().slots() {
            let (from, to) = (offset.max(slot.offset), end.min(slot.offset + slot.size));
            if Arc::ptr_eq(&slot.ram, ram) && from < to {
                memory.mark_written(slot.gpa + (from - slot.offset), to - from);
            }
        }
        Ok(())
    }

    /// Bytes in large pages.
    #[napi]
    pub fn huge_bytes(&self) -> Result<f64> {
        Ok(number(self.ram()?.huge_bytes()))
    }

    /// Bytes resident.
    #[napi]
    pub fn resident_bytes(&self) -> Result<f64> {
        Ok(number(self.ram()?.resident_bytes()))
    }

    /// Lets go of the mapping.
    #[napi]
    pub fn release(&mut self) {
        self.open = None;
    }
}

fn key_of(ram: &GuestRam) -> f64 {
    number(ram.as_ptr() as u64)
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

    /// `KVM_SET_USER_MEMORY_REGION`, for several at once: six numbers for each, of which the last is
    /// the place of its memory in `rams`, or -1.
    #[napi]
    pub fn set_regions(
        &self,
        numbers: Float64Array,
        rams: Vec<ClassInstance<'_, NativeRam>>,
    ) -> Result<()> {
        self.vm.check_open().map_err(js)?;
        let mut regions = Vec::new();
        for region in numbers.chunks_exact(REGION_NUMBERS) {
            let &[slot, gpa, size, flags, offset, place] = region else { continue };
            let ram = match place {
                -1.0 => None,
                place => rams.get(integer(place, "place")? as usize),
            };
            regions.push(Region {
                slot: word(slot, "slot")?,
                gpa: integer(gpa, "gpa")?,
                size: integer(size, "size")?,
                flags: word(flags, "flags")?,
                ram: ram.map(|native| native.ram().cloned()).transpose()?,
                offset: integer(offset, "offset")?,
            });
        }
        self.vm.memory().set_user_memory_regions(regions).map_err(js)
    }

    /// The present memslots by address, `SLOT_NUMBERS` for each.
    #[napi]
    pub fn slots(&self) -> Float64Array {
        let table = self.vm.memory().table();
        let mut numbers = Vec::with_capacity(table.slots().len() * SLOT_NUMBERS);
        for s in table.slots() {
            numbers.extend([u64::from(s.slot), s.gpa, s.size, s.offset].map(number));
            numbers.extend([key_of(&s.ram), f64::from(s.flags)]);
        }
        numbers.into()
    }

    /// The RAM behind a memslot.
    #[napi]
    pub fn slot_ram(&self, slot: f64) -> Result<NativeRam> {
        let slot = word(slot, "slot")?;
        let memory = self.vm.memory();
        let ram = memory.table().by_number(slot).map(|s| s.ram.clone()).ok_or_else(|| {
            js(KvmError::new(Errno::ENOENT, format!("slot {slot} does not exist")))
        })?;
        Ok(NativeRam { open: Some((ram, memory.clone())) })
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

    /// Gives whole pages back to the host.
    #[napi]
    pub fn discard(&self, gpa: f64, len: f64) -> Result<()> {
        self.vm.memory().discard(integer(gpa, "gpa")?, integer(len, "length")?).map_err(js)
    }

    /// Reports writes: the entries `first` up to `end` of two arrays, addresses and lengths.
    #[napi]
    pub fn mark_all_written(&self, gpas: &[f64], lens: &[u32], first: u32, end: u32) -> Result<()> {
        let entries = first as usize..end as usize;
        let (Some(gpas), Some(lens)) = (gpas.get(entries.clone()), lens.get(entries)) else {
            let (have, of) = (gpas.len(), lens.len());
            let what = format!("entries {first} to {end} are not in arrays of {have} and {of}");
            return Err(js(KvmError::invalid(what)));
        };
        for gpa in gpas {
            integer(*gpa, "gpa")?;
        }
        // Should the arrays lie where somebody changes them meanwhile: the conversion saturates, and
        // what is outside RAM is ignored.
        let ranges = gpas.iter().zip(lens).map(|(gpa, len)| (*gpa as u64, u64::from(*len)));
        self.vm.memory().mark_all_written(ranges);
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
pub fn create_ram(vm: &Arc<Vm>, size: f64, backing: &str) -> Result<NativeRam> {
    vm.check_open().map_err(js)?;
    let bytes = usize::try_from(integer(size, "size")?).unwrap_or(usize::MAX);
    let backing = match backing {
        "memfd" => Backing::Memfd,
        "hugetlb" => Backing::Hugetlb,
        // The TypeScript side refuses other names.
        _ => Backing::Anon,
    };
    let ram = GuestRam::new(bytes, backing).map_err(js)?;
    Ok(NativeRam { open: Some((ram, vm.memory().clone())) })
}

/// Maps a file that the caller has open.
pub fn create_file_ram(vm: &Arc<Vm>, size: f64, fd: RawFd, share: bool) -> Result<NativeRam> {
    vm.check_open().map_err(js)?;
    let bytes = usize::try_from(integer(size, "size")?).unwrap_or(usize::MAX);
    if fd < 0 {
        return Err(js(KvmError::invalid(format!("{fd} is not a file descriptor"))));
    }
    // SAFETY: duplicating a descriptor that is not open fails, and has no other effect.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let ram = GuestRam::of_file(bytes, fd, share).map_err(js)?;
    Ok(NativeRam { open: Some((ram, vm.memory().clone())) })
}

/// Detaches an ArrayBuffer of this addon.
#[napi]
pub fn detach_buffer(env: Env, buffer: Object<'_>) -> Result<()> {
    detach(env.raw(), &buffer)
}
