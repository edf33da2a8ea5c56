//! A vCPU over a few MiB of RAM for tests: accesses go through the real page walk, nothing is
//! cached.

use crate::bits::cr0;
use crate::paging::walk;
use crate::{Access, Cpu, Exec, Flush, Trap, reg, seg};

pub(crate) struct Machine {
    pub cpu: Cpu,
    pub ram: Vec<u8>,
    pub flushes: Vec<Flush>,
    pub tsc: u64,
    pub ns: u64,
    /// Fails compare-and-exchange this many times, as if another CPU had been faster.
    pub contended: u32,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            cpu: Cpu::new(0),
            ram: vec![0; 4 << 20],
            flushes: Vec::new(),
            tsc: 1000,
            ns: 500,
            contended: 0,
        }
    }

    /// Protected mode with flat segments, no paging; GDT at 0x1000, IDT at 0x2000.
    pub fn protected(cpl: u8) -> Self {
        let mut m = Self::new();
        m.cpu.cr0 |= cr0::PE;
        m.cpu.gdtr.base = 0x1000;
        m.cpu.gdtr.limit = 0x7ff;
        m.cpu.idtr.base = 0x2000;
        m.cpu.idtr.limit = 0x7ff;
        m.gdt(1, code32(0));
        m.gdt(2, data32(0));
        m.gdt(3, code32(3));
        m.gdt(4, data32(3));
        m.set_level(cpl);
        m.cpu.regs[reg::RSP] = 0x8000;
        m.cpu.regs[reg::RIP] = 0x100;
        m
    }

    /// As [`protected`](Self::protected) in 64-bit mode, with the first GiB mapped to itself for
    /// everybody by tables from 0x10000.
    pub fn long(cpl: u8) -> Self {
        let mut m = Self::protected(0);
        m.put64(0x10000, 0x11007);
        m.put64(0x11000, 0x87);
        m.cpu.cr3 = 0x10000;
        m.cpu.cr4 |= crate::bits::cr4::PAE;
        m.cpu.efer = 0xd01;
        m.cpu.cr0 |= cr0::PG;
        m.cpu.idtr.limit = 0xfff;
        m.gdt(1, code64(0));
        m.gdt(3, code64(3));
        m.set_level(cpl);
        m
    }

    /// Loads CS and SS with the descriptors of a level.
    pub fn set_level(&mut self, cpl: u8) {
        let (code, stack) = if cpl == 0 { (0x08, 0x10) } else { (0x1b, 0x23) };
        for (index, selector) in
            [(seg::CS, code), (seg::SS, stack), (seg::DS, stack), (seg::ES, stack)]
        {
            let raw = self.get64(0x1000 + u64::from(selector & 0xfff8));
            let d = crate::segment::Descriptor { raw, address: 0 };
            self.cpu.segs[index] = d.to_seg(selector);
        }
        self.cpu.cpl = cpl;
        self.cpu.update_mode();
    }

    pub fn gdt(&mut self, index: u64, raw: u64) {
        self.put64(0x1000 + index * 8, raw);
    }

    /// A 32-bit gate of the IDT: type and DPL in `access`.
    pub fn idt32(&mut self, vector: u64, selector: u16, offset: u32, access: u8) {
        let raw = u64::from(offset & 0xffff)
            | u64::from(selector) << 16
            | u64::from(access) << 40
            | u64::from(offset >> 16) << 48;
        self.put64(0x2000 + vector * 8, raw);
    }

    /// A 64-bit gate of the IDT.
    pub fn idt64(&mut self, vector: u64, selector: u16, offset: u64, access: u8, ist: u8) {
        let raw = offset & 0xffff
            | u64::from(selector) << 16
            | u64::from(ist) << 32
            | u64::from(access) << 40
            | (offset >> 16 & 0xffff) << 48;
        self.put64(0x2000 + vector * 16, raw);
        self.put64(0x2008 + vector * 16, offset >> 32);
    }

    pub fn put64(&mut self, at: u64, value: u64) {
        assert!(self.write_physical(at, 8, value));
    }
    pub fn put32(&mut self, at: u64, value: u32) {
        assert!(self.write_physical(at, 4, u64::from(value)));
    }
    pub fn put16(&mut self, at: u64, value: u16) {
        assert!(self.write_physical(at, 2, u64::from(value)));
    }
    pub fn get64(&mut self, at: u64) -> u64 {
        self.read_physical(at, 8).unwrap()
    }
    pub fn get32(&mut self, at: u64) -> u32 {
        self.read_physical(at, 4).unwrap() as u32
    }
    pub fn get16(&mut self, at: u64) -> u16 {
        self.read_physical(at, 2).unwrap() as u16
    }

    /// Vector and error code of the fault that `result` reports.
    pub fn fault<T: std::fmt::Debug>(&self, result: Result<T, Trap>) -> (u8, u32) {
        assert_eq!(result.unwrap_err(), Trap::Fault);
        (self.cpu.fault.vector as u8, self.cpu.fault.error)
    }

    fn physical(&mut self, addr: u64, access: Access, supervisor: bool) -> Result<usize, Trap> {
        let user = self.cpu.cpl == 3;
        let t = walk(self, addr, access, user, supervisor)?;
        Ok(t.gpa as usize)
    }
}

pub(crate) fn code32(dpl: u8) -> u64 {
    0x00cf_9a00_0000_ffff | u64::from(dpl) << 45
}
pub(crate) fn data32(dpl: u8) -> u64 {
    0x00cf_9200_0000_ffff | u64::from(dpl) << 45
}
pub(crate) fn code64(dpl: u8) -> u64 {
    0x00af_9a00_0000_ffff | u64::from(dpl) << 45
}
/// A system descriptor: present, with its type, base and limit.
pub(crate) fn system(kind: u8, dpl: u8, base: u64, limit: u64) -> u64 {
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | u64::from(0x80 | kind | dpl << 5) << 40
        | (base >> 24 & 0xff) << 56
}

impl Exec for Machine {
    fn cpu(&mut self) -> &mut Cpu {
        &mut self.cpu
    }
    fn read_linear(&mut self, addr: u64, size: u8, supervisor: bool) -> Result<u64, Trap> {
        let mut value = 0;
        for i in 0..u64::from(size) {
            let at = self.physical(addr.wrapping_add(i), Access::Read, supervisor)?;
            value |= u64::from(self.ram.get(at).copied().unwrap_or(0xff)) << (i * 8);
        }
        Ok(value)
    }
    fn write_linear(
        &mut self,
        addr: u64,
        size: u8,
        value: u64,
        supervisor: bool,
    ) -> Result<(), Trap> {
        self.probe_write(addr, u64::from(size), supervisor)?;
        for i in 0..u64::from(size) {
            let at = self.physical(addr.wrapping_add(i), Access::Write, supervisor)?;
            if let Some(byte) = self.ram.get_mut(at) {
                *byte = (value >> (i * 8)) as u8;
            }
        }
        Ok(())
    }
    fn update_byte(&mut self, addr: u64, clear: u8, set: u8) -> Result<(), Trap> {
        let old = self.read_linear(addr, 1, true)? as u8;
        self.write_linear(addr, 1, u64::from(old & !clear | set), true)
    }
    fn probe_write(&mut self, addr: u64, len: u64, supervisor: bool) -> Result<(), Trap> {
        for i in 0..len {
            self.physical(addr.wrapping_add(i), Access::Write, supervisor)?;
        }
        Ok(())
    }
    fn read_physical(&mut self, gpa: u64, size: u8) -> Option<u64> {
        let at = usize::try_from(gpa).ok()?;
        let bytes = self.ram.get(at..at.checked_add(usize::from(size))?)?;
        Some(bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    }
    fn write_physical(&mut self, gpa: u64, size: u8, value: u64) -> bool {
        let Ok(at) = usize::try_from(gpa) else { return false };
        let end = at.saturating_add(usize::from(size));
        let Some(bytes) = self.ram.get_mut(at..end) else { return false };
        bytes.copy_from_slice(&value.to_le_bytes()[..usize::from(size)]);
        true
    }
    fn cmpxchg_physical(&mut self, gpa: u64, size: u8, old: u64, new: u64) -> Option<bool> {
        let now = self.read_physical(gpa, size)?;
        if self.contended > 0 {
            self.contended -= 1;
            return Some(false);
        }
        Some(now == old && self.write_physical(gpa, size, new))
    }
    fn flush(&mut self, what: Flush) {
        self.flushes.push(what);
    }
    fn context_changed(&mut self) {}
    fn tsc(&mut self) -> u64 {
        self.tsc.wrapping_add(self.cpu.tsc_offset.cast_unsigned())
    }
    fn clock_ns(&mut self) -> u64 {
        self.ns
    }
    fn wall_ns(&mut self) -> u64 {
        1_700_000_000_250_000_000
    }
    fn random(&mut self) -> Option<u64> {
        Some(4)
    }
}
