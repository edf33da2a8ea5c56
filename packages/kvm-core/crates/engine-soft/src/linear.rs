//! Access to memory by linear address: the fast path through the TLB and the slow path behind it.

use kvm_cpu::paging;
use kvm_cpu::{Access, Fault, Mode, Trap, Vector, flags, seg};

use crate::op::{FLAT, Op};
use crate::tlb::{Allowed, Class, Tlb};
use crate::vcpu::Vcpu;
use crate::width::Width;

pub(crate) const PAGE: u64 = 4096;

/// Who makes an access, and through which segment: decides permissions and the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The instruction's own operand through this segment register.
    Segment(u8),
    /// A part of an operand through this segment register: the alignment of the part means nothing.
    Part(u8),
    /// The CPU itself, as supervisor.
    Implicit,
    /// The CPU itself with the privilege of the present code.
    Explicit,
}

impl Vcpu {
    /// Host address of the memory operand of `op` if it can be read with no further attention, or
    /// 0. With nothing alive across a call, handlers built on this need no stack frame.
    #[inline(always)]
    pub(crate) fn readable<W: Width>(&self, op: &Op) -> u64 {
        let linear = self.effective(op);
        let e = self.tlb.entry(linear);
        let fits = (linear & 0xfff) <= PAGE - u64::from(W::BYTES);
        let hit = op.addressing == FLAT && e.read == Tlb::tag(linear) && fits;
        if hit { linear.wrapping_add(e.addend) } else { 0 }
    }

    /// As [`readable`](Self::readable), for a store.
    #[inline(always)]
    pub(crate) fn writable<W: Width>(&self, op: &Op) -> u64 {
        let linear = self.effective(op);
        let e = self.tlb.entry(linear);
        let fits = (linear & 0xfff) <= PAGE - u64::from(W::BYTES);
        let hit = op.addressing == FLAT && e.write == Tlb::tag(linear) && fits;
        if hit { linear.wrapping_add(e.addend) } else { 0 }
    }

    /// Reads a data operand.
    #[inline(always)]
    pub(crate) fn read<W: Width>(&mut self, linear: u64, segment: u8) -> Result<u64, Trap> {
        let e = self.tlb.entry(linear);
        if e.read == Tlb::tag(linear) && (linear & 0xfff) <= PAGE - u64::from(W::BYTES) {
            let host = linear.wrapping_add(e.addend);
            // SAFETY: a matching read tag says that the whole page at `host` is mapped guest RAM of
            // the slot table this vCPU holds, and the access does not leave the page.
            return Ok(unsafe { load::<W>(host) });
        }
        self.read_slow(linear, W::BYTES, Via::Segment(segment))
    }

    /// Writes a data operand.
    #[inline(always)]
    pub(crate) fn write<W: Width>(
        &mut self,
        linear: u64,
        segment: u8,
        value: u64,
    ) -> Result<(), Trap> {
        let e = self.tlb.entry(linear);
        if e.write == Tlb::tag(linear) && (linear & 0xfff) <= PAGE - u64::from(W::BYTES) {
            let host = linear.wrapping_add(e.addend);
            // SAFETY: as in `read`; a write tag is only set for pages that may be stored to with no
            // bookkeeping.
            unsafe { store::<W>(host, value) };
            return Ok(());
        }
        self.write_slow(linear, W::BYTES, Via::Segment(segment), value)
    }

    /// Reads, applies `f` and writes back: one data operand of a read-modify-write instruction.
    ///
    /// `f` yields the new value; it may run more than once when `locked`. Faults as a write does,
    /// also for the read.
    #[inline(always)]
    pub(crate) fn modify<W: Width>(
        &mut self,
        linear: u64,
        segment: u8,
        locked: bool,
        mut f: impl FnMut(&mut Self, u64) -> u64,
    ) -> Result<(), Trap> {
        let e = self.tlb.entry(linear);
        if e.write == Tlb::tag(linear) && (linear & 0xfff) <= PAGE - u64::from(W::BYTES) {
            let host = linear.wrapping_add(e.addend);
            if locked {
                if splits_line(linear, W::BYTES) {
                    return self.modify_slow::<W>(linear, Via::Segment(segment), true, f);
                }
                loop {
                    // SAFETY: as in `write`, and within a cache line.
                    let old = unsafe { load::<W>(host) };
                    let new = f(self, old);
                    // SAFETY: as above.
                    if unsafe { compare_exchange::<W>(host, old, new) } {
                        return Ok(());
                    }
                }
            }
            // SAFETY: as in `read`.
            let old = unsafe { load::<W>(host) };
            let new = f(self, old);
            // SAFETY: as in `write`; `f` has no access to the TLB's entry.
            unsafe { store::<W>(host, new) };
            return Ok(());
        }
        self.modify_slow::<W>(linear, Via::Segment(segment), locked, f)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn modify_slow<W: Width>(
        &mut self,
        linear: u64,
        via: Via,
        locked: bool,
        mut f: impl FnMut(&mut Self, u64) -> u64,
    ) -> Result<(), Trap> {
        self.check_linear(linear, W::BYTES, via)?;
        self.probe(linear, u64::from(W::BYTES), Access::Write, via)?;
        // No host locks what lies in two cache lines without slowing down all its CPUs, and some
        // refuse to. The other vCPUs wait instead, and nobody sees the parts apart.
        let split = locked && splits_line(linear, W::BYTES);
        let _stopped = split.then(|| self.stop_others());
        if locked && !split {
            let wrapped = self.wrap(linear, via);
            let gpa = self.translate(wrapped, Access::Write, via)?;
            if let Some(host) = self.writable_ram(gpa) {
                self.note_breakpoint(wrapped, W::BYTES, true);
                loop {
                    // SAFETY: RAM of the slot table this vCPU holds, within a cache line.
                    let old = unsafe { load::<W>(host) };
                    let new = f(self, old);
                    // SAFETY: as above, and the slot is writable.
                    if unsafe { compare_exchange::<W>(host, old, new) } {
                        self.ram_written(gpa, u64::from(W::BYTES));
                        return Ok(());
                    }
                }
            }
        }
        let old = self.read_slow_as(linear, W::BYTES, via, Access::Write)?;
        let saved = self.cpu.arith;
        let new = f(self, old);
        let flags = self.cpu.arith;
        // The write can still leave for a device: the flags must not change before it is done.
        self.cpu.arith = saved;
        self.write_slow(linear, W::BYTES, via, new)?;
        self.cpu.arith = flags;
        Ok(())
    }

    /// The permission class of an access.
    fn class_of(&self, via: Via) -> Class {
        match via {
            Via::Implicit => Class::Supervisor,
            _ => self.tlb.class(),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn read_slow(&mut self, linear: u64, size: u8, via: Via) -> Result<u64, Trap> {
        self.read_slow_as(linear, size, via, Access::Read)
    }

    fn read_slow_as(
        &mut self,
        linear: u64,
        size: u8,
        via: Via,
        access: Access,
    ) -> Result<u64, Trap> {
        self.check_linear(linear, size, via)?;
        let linear = self.wrap(linear, via);
        self.note_breakpoint(linear, size, false);
        let first = PAGE - (linear & 0xfff);
        if u64::from(size) <= first {
            return self.read_in_page(linear, size, via, access);
        }
        let next = self.wrap(linear.wrapping_add(first), via);
        #[allow(clippy::cast_possible_truncation)]
        let (head, tail) = (first as u8, size - first as u8);
        // Both translations before any access: a device read must not happen if the rest faults.
        self.translate(linear, access, via)?;
        self.translate(next, access, via)?;
        let mut bytes = [0u8; 8];
        for i in 0..head {
            let byte = self.read_in_page(linear + u64::from(i), 1, via, access)?;
            bytes[usize::from(i)] = byte.to_le_bytes()[0];
        }
        for i in 0..tail {
            let byte = self.read_in_page(next + u64::from(i), 1, via, access)?;
            bytes[usize::from(head + i)] = byte.to_le_bytes()[0];
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn read_in_page(
        &mut self,
        linear: u64,
        size: u8,
        via: Via,
        access: Access,
    ) -> Result<u64, Trap> {
        let gpa = self.translate(linear, access, via)?;
        self.physical_read(gpa, size)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn write_slow(
        &mut self,
        linear: u64,
        size: u8,
        via: Via,
        value: u64,
    ) -> Result<(), Trap> {
        self.check_linear(linear, size, via)?;
        let linear = self.wrap(linear, via);
        self.note_breakpoint(linear, size, true);
        let first = PAGE - (linear & 0xfff);
        if u64::from(size) <= first {
            let gpa = self.translate(linear, Access::Write, via)?;
            return self.physical_write(gpa, size, value);
        }
        let next = self.wrap(linear.wrapping_add(first), via);
        let gpa = self.translate(linear, Access::Write, via)?;
        let gpa_next = self.translate(next, Access::Write, via)?;
        let bytes = value.to_le_bytes();
        for i in 0..u64::from(size) {
            let at = if i < first { gpa + i } else { gpa_next + (i - first) };
            #[allow(clippy::cast_possible_truncation)]
            self.physical_write(at, 1, u64::from(bytes[i as usize]))?;
        }
        Ok(())
    }

    /// Faults as an access of `len` bytes would, without making it.
    pub(crate) fn probe(
        &mut self,
        linear: u64,
        len: u64,
        access: Access,
        via: Via,
    ) -> Result<(), Trap> {
        if len == 0 {
            return Ok(());
        }
        self.check_linear(linear, 1, via)?;
        let mut at = self.wrap(linear, via);
        let mut left = len;
        loop {
            self.translate(at, access, via)?;
            let step = PAGE - (at & 0xfff);
            if step >= left {
                return Ok(());
            }
            left -= step;
            at = self.wrap(at.wrapping_add(step), via);
            self.check_linear(at, 1, via)?;
        }
    }

    /// Linear addresses outside 64-bit mode have 32 bits; but in compatibility mode the CPU's own tables
    /// and stacks may lie anywhere.
    #[inline]
    fn wrap(&self, linear: u64, via: Via) -> u64 {
        let wide = match via {
            Via::Segment(_) | Via::Part(_) => self.cpu.mode == Mode::Long64,
            Via::Implicit | Via::Explicit => self.long_addresses,
        };
        if wide { linear } else { linear & 0xffff_ffff }
    }

    /// The address of a later part of an operand.
    pub(crate) fn further(&self, linear: u64, bytes: u64) -> u64 {
        self.wrap(linear.wrapping_add(bytes), Via::Segment(0))
    }

    /// Canonical form and alignment.
    pub(crate) fn check_linear(&mut self, linear: u64, size: u8, via: Via) -> Result<(), Trap> {
        if self.long_addresses {
            let end = linear.wrapping_add(u64::from(size) - 1);
            if !canonical(linear) || !canonical(end) {
                let stack =
                    matches!(via, Via::Segment(s) | Via::Part(s) if usize::from(s) == seg::SS);
                return Err(self.cpu.raise(if stack { Vector::Ss } else { Vector::Gp }, 0));
            }
        }
        if matches!(via, Via::Segment(_) | Via::Explicit) {
            return self.check_alignment(linear, size);
        }
        Ok(())
    }

    /// #AC for an operand that is not at a multiple of its size, where that is checked.
    fn check_alignment(&mut self, linear: u64, size: u8) -> Result<(), Trap> {
        if self.tlb.class() == Class::Checked
            && size.is_power_of_two()
            && linear & u64::from(size - 1) != 0
        {
            return Err(self.cpu.raise(Vector::Ac, 0));
        }
        Ok(())
    }

    /// Linear to guest physical with the permissions of `via`, filling the TLB.
    pub(crate) fn translate(&mut self, linear: u64, access: Access, via: Via) -> Result<u64, Trap> {
        let class = self.class_of(via);
        let tag = Tlb::tag(linear);
        let e = self.tlb.entry_of(class, linear);
        let hit = if access == Access::Write { e.write == tag } else { e.read == tag };
        if hit {
            return Ok(e.gpa() | (linear & 0xfff));
        }
        let user = matches!(class, Class::User | Class::Checked);
        let t = paging::walk(self, linear, access, user, via == Via::Implicit)?;
        let gpa = t.gpa;
        if t.page_shift > 12 {
            self.tlb.note_large(linear, t.page_shift);
        }
        self.fill(class, linear, gpa, Allowed { read: t.read, write: t.write, global: t.global });
        Ok(gpa)
    }

    /// Caches a data translation where accesses to the page need no further attention.
    fn fill(&mut self, class: Class, linear: u64, gpa: u64, allowed: Allowed) {
        if self.breakpoints || Some(gpa & !0xfff) == self.apic_page {
            return;
        }
        let Some(slot) = self.table.find(gpa) else { return };
        let host = slot.host_ptr(gpa & !0xfff) as u64;
        let plain = allowed.write
            && !slot.readonly()
            && !slot.logs_dirty()
            && slot.page_flags(gpa).grant_write(self.cpu.id);
        self.tlb.fill(class, linear, host, gpa, Allowed { write: plain, ..allowed });
    }

    /// Linear to guest physical for an instruction fetch.
    pub(crate) fn translate_fetch(&mut self, linear: u64) -> Result<u64, Trap> {
        let user = self.cpu.cpl == 3;
        if let Some(page) = self.tlb.exec(user, linear) {
            return Ok(page | (linear & 0xfff));
        }
        if self.long_addresses && !canonical(linear) {
            return Err(self.cpu.gp(0));
        }
        let t = paging::walk(self, linear, Access::Fetch, user, false)?;
        if t.page_shift > 12 {
            self.tlb.note_large(linear, t.page_shift);
        }
        self.tlb.fill_exec(user, linear, t.gpa, t.global);
        Ok(t.gpa)
    }

    /// Data breakpoints are reported after the instruction.
    pub(crate) fn note_breakpoint(&mut self, linear: u64, size: u8, write: bool) {
        if self.breakpoints {
            let hits = self.cpu.data_hits(linear, u64::from(size), write);
            self.cpu.events.debug_trap |= hits;
        }
    }

    /// The fault recorded last, for handlers that deliver it themselves.
    pub(crate) fn last_fault(&self) -> Fault {
        self.cpu.fault
    }

    /// True if AC checks apply to user accesses.
    pub(crate) fn alignment_checked(&self) -> bool {
        self.cpu.cpl == 3 && self.cpu.cr0 & (1 << 18) != 0 && self.cpu.rflags & flags::AC != 0
    }
}

/// 48-bit canonical form.
#[inline(always)]
pub(crate) fn canonical(linear: u64) -> bool {
    ((linear << 16) as i64 >> 16) as u64 == linear
}

/// # Safety
/// `host` must be mapped for `W::BYTES` bytes.
#[inline(always)]
pub(crate) unsafe fn load<W: Width>(host: u64) -> u64 {
    // SAFETY: by the caller. Guest RAM has no Rust references: raw loads are the only readers.
    unsafe {
        match W::BYTES {
            1 => u64::from((host as *const u8).read()),
            2 => u64::from((host as *const u16).read_unaligned()),
            4 => u64::from((host as *const u32).read_unaligned()),
            _ => (host as *const u64).read_unaligned(),
        }
    }
}

/// # Safety
/// `host` must be mapped and writable for `W::BYTES` bytes.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)]
pub(crate) unsafe fn store<W: Width>(host: u64, value: u64) {
    // SAFETY: by the caller.
    unsafe {
        match W::BYTES {
            1 => (host as *mut u8).write(value as u8),
            2 => (host as *mut u16).write_unaligned(value as u16),
            4 => (host as *mut u32).write_unaligned(value as u32),
            _ => (host as *mut u64).write_unaligned(value),
        }
    }
}

/// True if an access lies in two cache lines.
#[inline(always)]
fn splits_line(linear: u64, bytes: u8) -> bool {
    (linear & 63) + u64::from(bytes) > 64
}

/// Compares and exchanges as the host's locked instruction does, which within a cache line needs
/// no alignment. True if the exchange happened.
///
/// # Safety
/// `host` must be mapped and writable for `W::BYTES` bytes.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)]
pub(crate) unsafe fn compare_exchange<W: Width>(host: u64, old: u64, new: u64) -> bool {
    let equal: u8;
    macro_rules! exchange {
        ($text:literal, $class:ident, $int:ty) => {
            // SAFETY: by the caller; guest RAM has no Rust references.
            unsafe {
                std::arch::asm!(
                    concat!("lock cmpxchg ", $text),
                    "sete {equal}",
                    p = in(reg) host,
                    new = in($class) new as $int,
                    equal = out(reg_byte) equal,
                    inout("rax") old => _,
                    options(nostack),
                )
            }
        };
    }
    match W::BYTES {
        1 => exchange!("byte ptr [{p}], {new}", reg_byte, u8),
        2 => exchange!("word ptr [{p}], {new:x}", reg, u16),
        4 => exchange!("dword ptr [{p}], {new:e}", reg, u32),
        _ => exchange!("qword ptr [{p}], {new:r}", reg, u64),
    }
    equal != 0
}
