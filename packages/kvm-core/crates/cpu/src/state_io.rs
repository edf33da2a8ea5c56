//! The register blocks of `linux/kvm.h`, to and from [`Cpu`].
//!
//! Values that no CPU could hold are refused with `EINVAL`, so that nothing downstream has to
//! doubt the state: hostile or damaged saved state ends here.

use kvm_abi::KvmError;
use kvm_abi::regs::{
    DebugRegs, Dtable, GuestDebug, MpState, Regs, Segment, Sregs, VcpuEvents, guestdbg,
};

use crate::bits::{canonical, cr0, cr4, dr, efer};
use crate::{Cpu, Fault, Seg, TableReg, Vector, flags, reg, seg};

use crate::flags::ALL as RFLAGS_ALL;

/// `KVM_VCPUEVENT_VALID_*`.
mod valid {
    pub const NMI_PENDING: u32 = 1;
    pub const SIPI_VECTOR: u32 = 2;
    pub const SHADOW: u32 = 4;
    pub const SMM: u32 = 8;
    pub const TRIPLE_FAULT: u32 = 0x20;
    pub const ALL: u32 = NMI_PENDING | SIPI_VECTOR | SHADOW | SMM | TRIPLE_FAULT;
}

impl From<&Seg> for Segment {
    fn from(s: &Seg) -> Self {
        Self {
            base: s.base,
            limit: s.limit,
            selector: s.selector,
            type_: s.access & 15,
            present: s.access >> 7,
            dpl: s.dpl(),
            db: s.flags >> 2 & 1,
            s: s.access >> 4 & 1,
            l: s.flags >> 1 & 1,
            g: s.flags >> 3 & 1,
            avl: s.flags & 1,
            unusable: u8::from(s.unusable),
        }
    }
}

impl From<&Segment> for Seg {
    fn from(s: &Segment) -> Self {
        let bit = |v: u8, n: u8| u8::from(v != 0) << n;
        Self {
            base: s.base,
            limit: s.limit,
            selector: s.selector,
            access: s.type_ & 15 | bit(s.s, 4) | (s.dpl & 3) << 5 | bit(s.present, 7),
            flags: bit(s.avl, 0) | bit(s.l, 1) | bit(s.db, 2) | bit(s.g, 3),
            unusable: s.unusable != 0 || s.present == 0,
        }
    }
}

impl Cpu {
    /// `KVM_GET_REGS`.
    #[must_use]
    pub fn regs_block(&self) -> Regs {
        let r = &self.regs;
        // kvm_regs has its own order: rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15.
        Regs::from_array(&[
            r[0],
            r[3],
            r[1],
            r[2],
            r[6],
            r[7],
            r[4],
            r[5],
            r[8],
            r[9],
            r[10],
            r[11],
            r[12],
            r[13],
            r[14],
            r[15],
            self.rip(),
            self.get_rflags(),
        ])
    }

    /// `KVM_SET_REGS`. The caller tells the engine that the context changed.
    ///
    /// # Errors
    /// `EINVAL` for a bit that RFLAGS does not have.
    pub fn set_regs_block(&mut self, regs: &Regs) -> Result<(), KvmError> {
        if regs.rflags & !RFLAGS_ALL != 0 {
            return Err(KvmError::invalid(format!(
                "rflags {:#x} has reserved bits, only {RFLAGS_ALL:#x} exist",
                regs.rflags
            )));
        }
        let a = regs.to_array();
        for (to, from) in [0, 3, 1, 2, 6, 7, 4, 5].into_iter().zip(a) {
            self.regs[to] = from;
        }
        self.regs[8..16].copy_from_slice(&a[8..16]);
        self.regs[reg::RIP] = regs.rip;
        self.set_rflags(regs.rflags);
        self.events.injected = None;
        self.derive_cpl();
        self.update_mode();
        Ok(())
    }

    /// `KVM_GET_SREGS`. The interrupt bitmap is left empty: it is for the engine to fill in what
    /// `KVM_INTERRUPT` queued, while an interrupt being delivered is in the events.
    #[must_use]
    pub fn sregs_block(&self) -> Sregs {
        let s = |i: usize| Segment::from(&self.segs[i]);
        Sregs {
            cs: s(seg::CS),
            ds: s(seg::DS),
            es: s(seg::ES),
            fs: s(seg::FS),
            gs: s(seg::GS),
            ss: s(seg::SS),
            tr: s(seg::TR),
            ldt: s(seg::LDTR),
            gdt: Dtable { base: self.gdtr.base, limit: self.gdtr.limit },
            idt: Dtable { base: self.idtr.base, limit: self.idtr.limit },
            cr0: self.cr0,
            cr2: self.cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            cr8: self.cr8_value(),
            efer: self.efer,
            apic_base: self.apic_base_value(),
            interrupt_bitmap: [0; 4],
        }
    }

    /// `KVM_SET_SREGS` without the interrupt bitmap. The caller flushes all translations and tells the engine that the context
    /// changed.
    ///
    /// # Errors
    /// `EINVAL` for a combination that no CPU could be in; nothing has changed then.
    pub fn set_sregs_block(&mut self, s: &Sregs) -> Result<(), KvmError> {
        self.check_sregs(s)?;
        self.set_apic_base_value(s.apic_base)?;
        for (index, from) in [
            (seg::CS, &s.cs),
            (seg::DS, &s.ds),
            (seg::ES, &s.es),
            (seg::FS, &s.fs),
            (seg::GS, &s.gs),
            (seg::SS, &s.ss),
            (seg::TR, &s.tr),
            (seg::LDTR, &s.ldt),
        ] {
            self.segs[index] = Seg::from(from);
        }
        self.gdtr = TableReg { base: s.gdt.base, limit: s.gdt.limit };
        self.idtr = TableReg { base: s.idt.base, limit: s.idt.limit };
        self.cr0 = s.cr0 | cr0::ET;
        self.cr2 = s.cr2;
        self.cr3 = s.cr3;
        self.cr4 = s.cr4;
        self.efer = s.efer;
        self.set_cr8_value(s.cr8);
        self.pdptrs_valid = false;
        self.derive_cpl();
        self.update_mode();
        Ok(())
    }

    fn check_sregs(&self, s: &Sregs) -> Result<(), KvmError> {
        let fail = |reason: String| Err(KvmError::invalid(reason));
        if s.cr0 & !cr0::ALL != 0 {
            return fail(format!("cr0 {:#x} has reserved bits", s.cr0));
        }
        let paging = s.cr0 & cr0::PG != 0;
        if paging && s.cr0 & cr0::PE == 0 {
            return fail(format!("cr0 {:#x} has PG without PE", s.cr0));
        }
        if s.cr0 & cr0::NW != 0 && s.cr0 & cr0::CD == 0 {
            return fail(format!("cr0 {:#x} has NW without CD", s.cr0));
        }
        if s.cr4 & !self.caps.cr4 != 0 {
            return fail(format!("cr4 {:#x} has bits that this CPU does not have", s.cr4));
        }
        if s.efer & !self.caps.efer != 0 {
            return fail(format!("efer {:#x} has bits that this CPU does not have", s.efer));
        }
        let lma = s.efer & efer::LMA != 0;
        if lma != (paging && s.efer & efer::LME != 0) {
            return fail(format!("efer {:#x}: LMA must equal LME and cr0.PG", s.efer));
        }
        if lma && s.cr4 & cr4::PAE == 0 {
            return fail(format!("cr4 {:#x} lacks PAE in long mode", s.cr4));
        }
        if s.cr4 & cr4::PCIDE != 0 && !lma {
            return fail(format!("cr4 {:#x} has PCIDE outside long mode", s.cr4));
        }
        let cr3_bits = if lma { (1 << self.phys_bits) - 1 } else { 0xffff_ffff };
        if paging && s.cr3 & !cr3_bits != 0 {
            return fail(format!("cr3 {:#x} is beyond {} physical bits", s.cr3, self.phys_bits));
        }
        if s.cs.l != 0 && !lma {
            return fail("cs.l is set outside long mode".into());
        }
        if s.cs.l != 0 && s.cs.db != 0 {
            return fail("cs.l and cs.db are both set".into());
        }
        if s.cr8 > 15 {
            return fail(format!("cr8 {:#x} is more than 15", s.cr8));
        }
        let bases = [
            ("fs", s.fs.base),
            ("gs", s.gs.base),
            ("tr", s.tr.base),
            ("ldt", s.ldt.base),
            ("gdt", s.gdt.base),
            ("idt", s.idt.base),
        ];
        if let Some((name, base)) = bases.iter().find(|(_, base)| !canonical(*base)) {
            return fail(format!("the base of {name} {base:#x} is not canonical"));
        }
        let others = [("cs", &s.cs), ("ds", &s.ds), ("es", &s.es), ("ss", &s.ss)];
        if let Some((name, one)) = others.iter().find(|(_, one)| one.base >> 32 != 0) {
            return fail(format!("the base of {name} {:#x} is beyond 32 bits", one.base));
        }
        Ok(())
    }

    /// The privilege level that CR0.PE, RFLAGS.VM and SS give.
    pub(crate) fn derive_cpl(&mut self) {
        self.cpl = if self.cr0 & cr0::PE == 0 {
            0
        } else if self.rflags & flags::VM != 0 {
            3
        } else {
            self.segs[seg::SS].dpl()
        };
    }

    /// `KVM_GET_VCPU_EVENTS`.
    #[must_use]
    pub fn events_block(&self) -> VcpuEvents {
        let e = &self.events;
        let mut out = VcpuEvents {
            interrupt_shadow: u8::from(e.mov_ss_shadow) | u8::from(e.sti_shadow) << 1,
            nmi_injected: u8::from(e.nmi_injected),
            nmi_pending: e.nmi_pending,
            nmi_masked: u8::from(e.nmi_masked),
            sipi_vector: u32::from(e.sipi_vector),
            smi_pending: u8::from(e.smi_pending),
            smi_smm: u8::from(e.smm),
            smi_smm_inside_nmi: u8::from(e.smm_inside_nmi),
            smi_latched_init: u8::from(e.init_latched),
            triple_fault_pending: u8::from(e.triple_fault),
            flags: valid::NMI_PENDING | valid::SHADOW | valid::SMM,
            ..VcpuEvents::default()
        };
        if e.triple_fault {
            out.flags |= valid::TRIPLE_FAULT;
        }
        if let Some(fault) = e.injected {
            out.exception_injected = 1;
            out.exception_nr = fault.vector as u8;
            out.exception_has_error_code = u8::from(fault.vector.has_error_code());
            out.exception_error_code = fault.error;
        }
        if let Some((vector, soft)) = e.interrupt {
            out.interrupt_injected = 1;
            out.interrupt_nr = vector;
            out.interrupt_soft = u8::from(soft);
        }
        out
    }

    /// `KVM_SET_VCPU_EVENTS`.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags or an exception that does not exist.
    pub fn set_events_block(&mut self, v: &VcpuEvents) -> Result<(), KvmError> {
        let fail = |reason: String| Err(KvmError::invalid(reason));
        if v.flags & !valid::ALL != 0 {
            return fail(format!("flags {:#x}: only {:#x} are known", v.flags, valid::ALL));
        }
        let has_exception = v.exception_injected != 0 || v.exception_pending != 0;
        let vector = Vector::from_number(v.exception_nr);
        if has_exception && !vector.is_some_and(|n| n != Vector::Nmi) {
            return fail(format!("exception_nr {} is not an exception", v.exception_nr));
        }
        if v.flags & valid::SIPI_VECTOR != 0 && v.sipi_vector > 255 {
            return fail(format!("sipi_vector {} is more than 255", v.sipi_vector));
        }
        let e = &mut self.events;
        e.injected = vector.filter(|_| has_exception).map(|vector| Fault {
            vector,
            error: v.exception_error_code,
            // CR2 and DR6 were set when the exception was raised.
            address: if vector == Vector::Pf { self.cr2 } else { 0 },
        });
        e.interrupt =
            (v.interrupt_injected != 0).then_some((v.interrupt_nr, v.interrupt_soft != 0));
        e.nmi_injected = v.nmi_injected != 0;
        e.nmi_masked = v.nmi_masked != 0;
        if v.flags & valid::NMI_PENDING != 0 {
            e.nmi_pending = 0;
            e.add_nmis(v.nmi_pending);
        }
        if v.flags & valid::SIPI_VECTOR != 0 {
            e.sipi_vector = (v.sipi_vector & 255) as u8;
        }
        if v.flags & valid::SHADOW != 0 {
            e.mov_ss_shadow = v.interrupt_shadow & 1 != 0;
            e.sti_shadow = v.interrupt_shadow & 2 != 0;
        }
        if v.flags & valid::SMM != 0 {
            e.smi_pending = v.smi_pending != 0;
            e.smm = v.smi_smm != 0;
            e.smm_inside_nmi = e.smm && v.smi_smm_inside_nmi != 0;
            e.init_latched = e.smm && v.smi_latched_init != 0;
        }
        if v.flags & valid::TRIPLE_FAULT != 0 {
            e.triple_fault = v.triple_fault_pending != 0;
        }
        Ok(())
    }

    /// `KVM_GET_DEBUGREGS`.
    #[must_use]
    pub fn debugregs_block(&self) -> DebugRegs {
        let [a, b, c, d, _, _, dr6, dr7] = self.dr;
        DebugRegs { db: [a, b, c, d], dr6, dr7 }
    }

    /// `KVM_SET_DEBUGREGS`. The caller tells the engine that the context changed.
    ///
    /// # Errors
    /// `EINVAL` when DR6 or DR7 is beyond 32 bits.
    pub fn set_debugregs_block(&mut self, v: &DebugRegs) -> Result<(), KvmError> {
        if (v.dr6 | v.dr7) >> 32 != 0 {
            return Err(KvmError::invalid(format!(
                "dr6 {:#x} and dr7 {:#x} have 32 bits",
                v.dr6, v.dr7
            )));
        }
        self.dr[..4].copy_from_slice(&v.db);
        self.dr[6] = v.dr6 & dr::DR6_TRAPS | dr::DR6_FIXED;
        self.dr[7] = v.dr7 & !0xd800 | dr::DR7_FIXED;
        Ok(())
    }

    /// `KVM_SET_GUEST_DEBUG`.
    ///
    /// # Errors
    /// `EINVAL` for control bits that this engine does not have.
    pub fn set_guest_debug_block(&mut self, debug: &GuestDebug) -> Result<(), KvmError> {
        let known =
            guestdbg::ENABLE | guestdbg::SINGLESTEP | guestdbg::USE_SW_BP | guestdbg::USE_HW_BP;
        if debug.control & !known != 0 {
            return Err(KvmError::invalid(format!(
                "guest debug control {:#x}: only {known:#x} are known",
                debug.control
            )));
        }
        self.guest_debug = *debug;
        Ok(())
    }

    /// `KVM_SET_MP_STATE`.
    ///
    /// # Errors
    /// `EINVAL` for a wait for INIT or SIPI without a local APIC, which nothing could end.
    pub fn set_mp_state_checked(&mut self, state: MpState) -> Result<(), KvmError> {
        if self.lapic.is_none() && !matches!(state, MpState::Runnable | MpState::Halted) {
            return Err(KvmError::invalid(format!("{state:?} needs an in-kernel local APIC")));
        }
        self.mp_state = state;
        Ok(())
    }
}

impl Vector {
    /// The exception with number `n`, if there is one.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::De,
            1 => Self::Db,
            2 => Self::Nmi,
            3 => Self::Bp,
            4 => Self::Of,
            5 => Self::Br,
            6 => Self::Ud,
            7 => Self::Nm,
            8 => Self::Df,
            10 => Self::Ts,
            11 => Self::Np,
            12 => Self::Ss,
            13 => Self::Gp,
            14 => Self::Pf,
            16 => Self::Mf,
            17 => Self::Ac,
            18 => Self::Mc,
            19 => Self::Xm,
            _ => return None,
        })
    }

    /// True if the exception pushes an error code (outside real mode).
    #[must_use]
    pub fn has_error_code(self) -> bool {
        matches!(self, Self::Df | Self::Ts | Self::Np | Self::Ss | Self::Gp | Self::Pf | Self::Ac)
    }
}
