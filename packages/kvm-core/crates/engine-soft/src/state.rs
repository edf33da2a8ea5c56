//! `VcpuEngine`: entering the guest, and all state in and out.

use std::sync::Arc;

use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::exit::Exit;
use kvm_abi::regs::{DebugRegs, GuestDebug, MpState, Regs, Sregs, VcpuEvents};
use kvm_abi::{Errno, KvmError};
use kvm_cpu::code_counters::CodeCounters;
use kvm_cpu::engine::{Alarm, VcpuEngine, request};
use kvm_cpu::{flags, msr, paging};

use crate::features::GuestFeatures;
use crate::translate::Policy;
use crate::vcpu::Vcpu;

impl VcpuEngine for Vcpu {
    fn run(&mut self) -> Exit {
        self.run_guest()
    }

    fn complete_read(&mut self, data: &[u8]) {
        if self.io.complete_string(data) {
            return;
        }
        let mut bytes = [0xffu8; 8];
        let n = data.len().min(8);
        bytes[..n].copy_from_slice(&data[..n]);
        self.io.complete(Some(u64::from_le_bytes(bytes)));
    }

    fn string_data(&self) -> &[u8] {
        self.io.string_data()
    }

    fn io_pending(&self) -> bool {
        self.io.unfinished()
    }

    fn regs(&mut self) -> Regs {
        self.cpu.regs_block()
    }

    fn set_regs(&mut self, regs: &Regs) -> Result<(), KvmError> {
        let rip = self.cpu.rip();
        self.cpu.set_regs_block(regs)?;
        // What was half done belongs to the instruction that did it.
        if self.cpu.rip() != rip {
            self.io.commit();
        }
        self.refresh_context();
        Ok(())
    }

    fn sregs(&mut self) -> Sregs {
        let mut s = self.cpu.sregs_block();
        if let Some(vector) = self.queued_interrupt {
            s.interrupt_bitmap[usize::from(vector >> 6)] |= 1 << (vector & 63);
        }
        s
    }

    fn set_sregs(&mut self, sregs: &Sregs) -> Result<(), KvmError> {
        self.cpu.set_sregs_block(sregs)?;
        let bits = sregs.interrupt_bitmap;
        self.queued_interrupt = (0..=255u8)
            .find(|&n| bits[usize::from(n >> 6)] & (1 << (n & 63)) != 0)
            .or(self.queued_interrupt);
        self.tlb.flush_all();
        self.follow_pcid();
        self.refresh_context();
        Ok(())
    }

    fn xsave(&mut self) -> Vec<u8> {
        self.vectors.to_xsave()
    }

    fn set_xsave(&mut self, area: &[u8]) -> Result<(), KvmError> {
        self.vectors
            .load_xsave(area)
            .map_err(|e| KvmError::invalid(format!("the XSAVE area is refused: {e:?}")))?;
        self.follow_pkru();
        Ok(())
    }

    fn xcr0(&mut self) -> u64 {
        self.cpu.xcr0
    }

    fn set_xcr0(&mut self, value: u64) -> Result<(), KvmError> {
        let available = self.cpu.caps.xcr0 | 1;
        if !kvm_cpu::control::xcr0_valid(value, available) {
            return Err(KvmError::invalid(format!(
                "XCR0 {value:#x} is no combination of the components {available:#x} of CPUID"
            )));
        }
        self.cpu.xcr0 = value;
        self.refresh_context();
        Ok(())
    }

    fn vcpu_events(&mut self) -> VcpuEvents {
        self.take_requests(request::NMI | request::NMI_AGAIN | request::SMI);
        self.cpu.events_block()
    }

    fn set_vcpu_events(&mut self, events: &VcpuEvents) -> Result<(), KvmError> {
        self.cpu.set_events_block(events)?;
        self.follow_memory();
        self.follow_smm();
        self.attention = true;
        Ok(())
    }

    fn debugregs(&mut self) -> DebugRegs {
        self.cpu.debugregs_block()
    }

    fn set_debugregs(&mut self, regs: &DebugRegs) -> Result<(), KvmError> {
        self.cpu.set_debugregs_block(regs)?;
        self.refresh_context();
        Ok(())
    }

    fn set_guest_debug(&mut self, debug: &GuestDebug) -> Result<(), KvmError> {
        self.cpu.set_guest_debug_block(debug)?;
        self.refresh_context();
        Ok(())
    }

    fn msr(&mut self, index: u32) -> Result<u64, KvmError> {
        msr::get_msr(self, index)
    }

    fn set_msr(&mut self, index: u32, value: u64) -> Result<(), KvmError> {
        self.follow_memory();
        msr::set_msr(self, index, value)?;
        self.refresh_context();
        Ok(())
    }

    fn set_cpuid(&mut self, entries: &[CpuidEntry]) -> Result<(), KvmError> {
        self.cpu.set_cpuid(entries);
        self.features = GuestFeatures::new(entries, self.host);
        // What was decoded may not exist any more.
        self.drop_all_code();
        self.refresh_context();
        Ok(())
    }

    fn cpuid(&mut self) -> Vec<CpuidEntry> {
        self.cpu.cpuid.clone()
    }

    fn mp_state(&mut self) -> MpState {
        self.take_requests(request::INIT | request::SIPI | request::UNHALT);
        if self.cpu.mp_state == MpState::Halted && self.unhalted {
            return MpState::Runnable;
        }
        self.cpu.mp_state
    }

    fn set_mp_state(&mut self, state: MpState) -> Result<(), KvmError> {
        self.cpu.set_mp_state_checked(state)
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), KvmError> {
        if self.context.irqchip.is_some() {
            return Err(KvmError::new(
                Errno::ENXIO,
                "interrupts are queued by the in-kernel irqchip; use irqLine, signalMsi or an irqfd",
            ));
        }
        if self.queued_interrupt.is_some() {
            return Err(KvmError::new(Errno::EEXIST, "an interrupt is queued already"));
        }
        self.queued_interrupt = Some(vector);
        self.attention = true;
        Ok(())
    }

    fn nmi(&mut self) {
        self.cpu.events.add_nmis(1);
        self.attention = true;
    }

    fn tsc_khz(&mut self) -> u32 {
        self.cpu.tsc_khz
    }

    fn set_tsc_khz(&mut self, khz: u32) -> Result<(), KvmError> {
        if khz == 0 {
            return Err(KvmError::invalid("a TSC of 0 kHz cannot count"));
        }
        self.follow_memory();
        // The count goes on from where it is, at the new speed.
        let before = kvm_cpu::Exec::tsc(self);
        self.cpu.tsc_khz = khz;
        let after = kvm_cpu::Exec::tsc(self);
        let shift = before.wrapping_sub(after).cast_signed();
        self.cpu.tsc_offset = self.cpu.tsc_offset.wrapping_add(shift);
        self.cpu.update_apic();
        kvm_cpu::pvclock::refresh(self);
        Ok(())
    }

    fn translate(&mut self, gva: u64) -> Option<u64> {
        self.follow_memory();
        paging::translate_debug(self, gva)
    }

    fn interrupt_window(&self) -> (bool, bool) {
        (
            self.ready_for_interrupt() && self.queued_interrupt.is_none(),
            self.cpu.rflags & flags::IF != 0,
        )
    }

    fn request_interrupt_window(&mut self, on: bool) {
        self.interrupt_window = on;
        self.attention |= on;
    }

    fn takes_smis(&self) -> bool {
        true
    }

    fn in_smm(&self) -> bool {
        self.cpu.events.smm
    }

    fn code_counters(&self) -> Option<Arc<CodeCounters>> {
        Some(Arc::clone(&self.counters))
    }

    fn instructions(&self) -> u64 {
        self.retired
    }

    fn offer_alarm(
        &mut self,
        make: &dyn Fn() -> Result<Arc<dyn Alarm>, KvmError>,
    ) -> Result<(), KvmError> {
        if self.policy != Policy::OFF {
            self.alarm = Some(make()?);
        }
        Ok(())
    }

    fn stop_at_instruction(&mut self, count: Option<u64>) -> Result<(), KvmError> {
        if let Some(at) = count
            && at < self.retired
        {
            return Err(KvmError::invalid(format!(
                "instruction {at} is in the past, {} were retired",
                self.retired
            )));
        }
        if count.is_some() {
            self.count_exactly();
        }
        self.stop_at = count;
        self.attention = true;
        Ok(())
    }
}

impl Vcpu {
    /// Takes in what others asked for while the vCPU is parked, so that its state shows it.
    fn take_requests(&mut self, bits: u32) {
        let wanted = self.requests.take_some(bits);
        if wanted != 0 {
            // None of these leads to an exit.
            let _ = self.serve_requests(wanted);
            self.attention = true;
        }
    }

    /// Outside the guest nobody tells of new slots, but some state lies in memory.
    fn follow_memory(&mut self) {
        if self.table_stale() {
            self.refresh_memory();
        }
    }

    /// Connects the vCPU to its local APIC, where the VM has an irqchip.
    pub(crate) fn bind_apic(&mut self) {
        if let Some(irqchip) = &self.context.irqchip {
            self.cpu.lapic = irqchip.lapic(self.cpu.id);
            self.cpu.update_apic();
        }
    }
}
