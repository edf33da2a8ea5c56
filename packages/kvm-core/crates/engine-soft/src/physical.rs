//! Access to guest physical addresses: RAM, pages that need bookkeeping, devices.

use std::sync::atomic::{Ordering, fence};

use kvm_cpu::Trap;

use crate::io::Access;
use crate::linear::{self, PAGE};
use crate::vcpu::Vcpu;
use crate::width::{W8, W16, W32, W64};

/// Offset of the local APIC's interrupt command register (SDM volume 3, table 13-1).
const ICR: u32 = 0x300;

impl Vcpu {
    /// Reads 1 to 8 bytes that do not leave a page.
    pub(crate) fn physical_read(&mut self, gpa: u64, size: u8) -> Result<u64, Trap> {
        if Some(gpa & !0xfff) != self.apic_page
            && let Some(v) = self.ram_read(gpa, size)
        {
            return Ok(v);
        }
        self.device_read(gpa, size)
    }

    /// Writes 1 to 8 bytes that do not leave a page.
    pub(crate) fn physical_write(&mut self, gpa: u64, size: u8, value: u64) -> Result<(), Trap> {
        if Some(gpa & !0xfff) != self.apic_page && self.ram_write(gpa, size, value) {
            return Ok(());
        }
        self.device_write(gpa, size, value)
    }

    /// Reads RAM; `None` where no memslot is.
    pub(crate) fn ram_read(&self, gpa: u64, size: u8) -> Option<u64> {
        let slot = self.table.find(gpa)?;
        if u64::from(size) > PAGE - (gpa & 0xfff) {
            return None;
        }
        let host = slot.host_ptr(gpa) as u64;
        // SAFETY: the slot covers whole pages, `gpa` is in it and the access stays in its page; the
        // slot table that this vCPU holds keeps the mapping alive.
        unsafe {
            Some(match size {
                1 => linear::load::<W8>(host),
                2 => linear::load::<W16>(host),
                4 => linear::load::<W32>(host),
                8 => linear::load::<W64>(host),
                _ => (0..u64::from(size)).map(|i| linear::load::<W8>(host + i) << (8 * i)).sum(),
            })
        }
    }

    /// Copies bytes of one page out of RAM; false where no memslot is.
    pub(crate) fn ram_copy(&self, gpa: u64, out: &mut [u8]) -> bool {
        let Some(slot) = self.table.find(gpa) else { return false };
        if out.len() as u64 > PAGE - (gpa & 0xfff) {
            return false;
        }
        let host = slot.host_ptr(gpa).cast_const();
        // SAFETY: the slot covers whole pages and the bytes stay in one; `out` is not guest RAM.
        unsafe { std::ptr::copy_nonoverlapping(host, out.as_mut_ptr(), out.len()) };
        true
    }

    /// Writes RAM with dirty logging and code invalidation; false where no writable memslot is.
    pub(crate) fn ram_write(&mut self, gpa: u64, size: u8, value: u64) -> bool {
        let Some(slot) = self.table.find(gpa) else { return false };
        if slot.readonly() || u64::from(size) > PAGE - (gpa & 0xfff) {
            return false;
        }
        let host = slot.host_ptr(gpa) as u64;
        // SAFETY: as in `ram_read`, and the slot is writable.
        unsafe {
            match size {
                1 => linear::store::<W8>(host, value),
                2 => linear::store::<W16>(host, value),
                4 => linear::store::<W32>(host, value),
                8 => linear::store::<W64>(host, value),
                _ => {
                    for i in 0..u64::from(size) {
                        linear::store::<W8>(host + i, value >> (8 * i));
                    }
                }
            }
        }
        // Pairs with `mark_code` of another vCPU, which holds the page before it reads the bytes.
        fence(Ordering::SeqCst);
        self.ram_written(gpa, u64::from(size));
        true
    }

    /// Host address of a byte that the guest may store to; `None` outside writable memslots.
    pub(crate) fn writable_ram(&self, gpa: u64) -> Option<u64> {
        if Some(gpa & !0xfff) == self.apic_page {
            return None;
        }
        let slot = self.table.find(gpa).filter(|slot| !slot.readonly())?;
        Some(slot.host_ptr(gpa) as u64)
    }

    /// What follows a store to RAM that the TLB did not make: dirty log and decoded code. The
    /// bytes lie in one page, and a fence or a locked instruction came after the store.
    pub(crate) fn ram_written(&mut self, gpa: u64, len: u64) {
        let Some(slot) = self.table.find(gpa) else { return };
        slot.mark_dirty(gpa, len);
        if slot.page_flags(gpa).has_code() {
            self.code_written(gpa, len);
        }
    }

    /// Atomic compare and exchange of an aligned page-table entry.
    pub(crate) fn ram_cmpxchg(&mut self, gpa: u64, size: u8, old: u64, new: u64) -> Option<bool> {
        let slot = self.table.find(gpa)?;
        if slot.readonly() || gpa & u64::from(size - 1) != 0 {
            return None;
        }
        let host = slot.host_ptr(gpa) as u64;
        // SAFETY: as in `ram_write`, and aligned.
        let done = unsafe {
            if size == 4 {
                linear::compare_exchange::<W32>(host, old, new)
            } else {
                linear::compare_exchange::<W64>(host, old, new)
            }
        };
        if done {
            self.ram_written(gpa, u64::from(size));
        }
        Some(done)
    }

    #[cold]
    fn device_read(&mut self, gpa: u64, size: u8) -> Result<u64, Trap> {
        if !self.io.careful() {
            return Err(Trap::Exit);
        }
        if let Some(v) = self.io.replay(false, false, gpa, size) {
            return Ok(v);
        }
        let mut bytes = [0u8; 8];
        let data = &mut bytes[..usize::from(size)];
        let claimed = if Some(gpa & !0xfff) == self.apic_page {
            self.lapic_read(gpa, data);
            true
        } else {
            self.context.bus.mmio_read(self.cpu.id, gpa, data)
        };
        let access = Access {
            port: false,
            write: false,
            addr: gpa,
            len: size,
            data: u64::from_le_bytes(bytes),
        };
        if claimed {
            self.io.record(access);
            return Ok(access.data);
        }
        self.io.request(access);
        Err(Trap::Exit)
    }

    #[cold]
    fn device_write(&mut self, gpa: u64, size: u8, value: u64) -> Result<(), Trap> {
        if !self.io.careful() {
            return Err(Trap::Exit);
        }
        if self.io.replay(false, true, gpa, size).is_some() {
            return Ok(());
        }
        let bytes = value.to_le_bytes();
        let data = &bytes[..usize::from(size)];
        let claimed = if Some(gpa & !0xfff) == self.apic_page {
            self.lapic_write(gpa, data);
            true
        } else {
            self.context.bus.mmio_write(self.cpu.id, gpa, data)
        };
        let access = Access { port: false, write: true, addr: gpa, len: size, data: value };
        if claimed {
            self.io.record(access);
            return Ok(());
        }
        self.io.request(access);
        Err(Trap::Exit)
    }

    /// IN: the value, zero-extended.
    pub(crate) fn port_read(&mut self, port: u16, size: u8) -> Result<u64, Trap> {
        self.note_port_breakpoint(port, size);
        if !self.io.careful() {
            return Err(Trap::Exit);
        }
        let addr = u64::from(port);
        if let Some(v) = self.io.replay(true, false, addr, size) {
            return Ok(v);
        }
        let mut access = Access { port: true, write: false, addr, len: size, data: 0 };
        if let Some(v) = self.context.bus.pio_read(self.cpu.id, port, size) {
            access.data = u64::from(v);
            self.io.record(access);
            return Ok(access.data);
        }
        self.io.request(access);
        Err(Trap::Exit)
    }

    /// OUT.
    pub(crate) fn port_write(&mut self, port: u16, size: u8, value: u64) -> Result<(), Trap> {
        self.note_port_breakpoint(port, size);
        if !self.io.careful() {
            return Err(Trap::Exit);
        }
        let addr = u64::from(port);
        if self.io.replay(true, true, addr, size).is_some() {
            return Ok(());
        }
        let access = Access { port: true, write: true, addr, len: size, data: value };
        #[allow(clippy::cast_possible_truncation)]
        if self.context.bus.pio_write(self.cpu.id, port, size, value as u32) {
            self.io.record(access);
            return Ok(());
        }
        self.io.request(access);
        Err(Trap::Exit)
    }

    fn note_port_breakpoint(&mut self, port: u16, size: u8) {
        if self.breakpoints {
            self.cpu.events.debug_trap |= self.cpu.port_hits(port, size);
        }
    }

    fn lapic_read(&mut self, gpa: u64, data: &mut [u8]) {
        if let Some(lapic) = &self.cpu.lapic {
            #[allow(clippy::cast_possible_truncation)]
            lapic.mmio_read((gpa & 0xfff) as u32, data);
        }
    }

    fn lapic_write(&mut self, gpa: u64, data: &[u8]) {
        #[allow(clippy::cast_possible_truncation)]
        let register = (gpa & 0xfff) as u32;
        let write = |v: &mut Self| {
            if let Some(lapic) = &v.cpu.lapic {
                lapic.mmio_write(register, data);
            }
        };
        // Who sends a SIPI waits until the other one has begun.
        if register & 0xff0 == ICR {
            self.aside(write)
        } else {
            write(self)
        }
        // An EOI or a lower priority can let the next interrupt through.
        self.attention = true;
    }
}
