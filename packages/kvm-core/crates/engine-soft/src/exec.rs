//! What system operations of the `cpu` crate need from this engine.

use kvm_cpu::{Access, Cpu, Exec, Flush, Trap};

use crate::linear::Via;
use crate::vcpu::Vcpu;
use crate::width::{W8, W16, W32, W64};

fn via(supervisor: bool) -> Via {
    if supervisor { Via::Implicit } else { Via::Explicit }
}

impl Exec for Vcpu {
    fn cpu(&mut self) -> &mut Cpu {
        &mut self.cpu
    }

    fn read_linear(&mut self, addr: u64, size: u8, supervisor: bool) -> Result<u64, Trap> {
        if !supervisor {
            // Segment 8 is none: no stack fault.
            return match size {
                1 => self.read::<W8>(addr, 8),
                2 => self.read::<W16>(addr, 8),
                4 => self.read::<W32>(addr, 8),
                _ => self.read::<W64>(addr, 8),
            };
        }
        self.read_slow(addr, size, Via::Implicit)
    }

    fn write_linear(
        &mut self,
        addr: u64,
        size: u8,
        value: u64,
        supervisor: bool,
    ) -> Result<(), Trap> {
        self.write_slow(addr, size, via(supervisor), value)
    }

    fn update_byte(&mut self, addr: u64, clear: u8, set: u8) -> Result<(), Trap> {
        let (clear, set) = (u64::from(clear), u64::from(set));
        self.modify_slow::<W8>(addr, Via::Implicit, true, |_, old| old & !clear | set)
    }

    fn probe_write(&mut self, addr: u64, len: u64, supervisor: bool) -> Result<(), Trap> {
        self.probe(addr, len, Access::Write, via(supervisor))
    }

    fn read_physical(&mut self, gpa: u64, size: u8) -> Option<u64> {
        self.ram_read(gpa, size)
    }

    fn write_physical(&mut self, gpa: u64, size: u8, value: u64) -> bool {
        self.ram_write(gpa, size, value)
    }

    fn cmpxchg_physical(&mut self, gpa: u64, size: u8, old: u64, new: u64) -> Option<bool> {
        self.ram_cmpxchg(gpa, size, old, new)
    }

    fn flush(&mut self, what: Flush) {
        let pcid = self.current_pcid();
        match what {
            Flush::All | Flush::AllNonGlobal => {
                self.tlb.flush_all();
                self.tlb.switch(pcid, true);
                self.blocks.forget_addresses();
            }
            Flush::NonGlobal => self.tlb.switch(pcid, true),
            Flush::Page(linear) | Flush::PcidPage(_, linear) => {
                if self.tlb.flush_page(linear) {
                    self.blocks.forget_addresses();
                } else {
                    self.blocks.forget_page(linear);
                }
            }
            Flush::Pcid(other) => self.tlb.flush_pcid(other),
        }
        self.update_fetch_context();
    }

    fn context_changed(&mut self) {
        self.refresh_context();
    }

    fn privilege_changed(&mut self) {
        self.follow_privilege();
    }

    fn smm_changed(&mut self) {
        self.follow_smm();
    }

    fn segment_loaded(&mut self) {
        self.follow_segment();
    }

    fn tsc(&mut self) -> u64 {
        let ns = self.context.clock.now_ns();
        let khz = self.cpu.tsc_khz;
        // The default of 1 GHz needs no arithmetic.
        let ticks = if khz == 1_000_000 {
            ns
        } else {
            #[allow(clippy::cast_possible_truncation)]
            {
                (u128::from(ns) * u128::from(khz) / 1_000_000) as u64
            }
        };
        ticks.wrapping_add_signed(self.cpu.tsc_offset)
    }

    fn clock_ns(&mut self) -> u64 {
        self.context.clock.now_ns()
    }

    fn wall_ns(&mut self) -> u64 {
        self.context.clock.wall_ns()
    }

    fn random(&mut self) -> Option<u64> {
        self.entropy.next()
    }
}

impl Vcpu {
    /// Sees the memory of the mode that the processor is in: inside or outside system management mode.
    pub(crate) fn follow_smm(&mut self) {
        if self.table.in_smm() == self.cpu.events.smm || self.other_view.is_none() {
            return;
        }
        // Code is known by its address, at which there is other code now.
        for (gpa, len) in self.table.differing().collect::<Vec<_>>() {
            self.code_written_range(gpa, len);
        }
        if let Some(view) = &mut self.other_view {
            std::mem::swap(view, &mut self.table);
        }
        self.flush(Flush::All);
    }

    /// Follows a load of CR3 that keeps the translations of the new PCID.
    pub(crate) fn follow_pcid(&mut self) {
        let pcid = self.current_pcid();
        if self.tlb.pcid() != pcid {
            self.tlb.switch(pcid, false);
            self.update_fetch_context();
        }
    }

    /// The PCID in CR3, 0 while CR4.PCIDE is clear.
    fn current_pcid(&self) -> u16 {
        if self.cpu.cr4 & (1 << 17) == 0 { 0 } else { (self.cpu.cr3 & 0xfff) as u16 }
    }
}
