//! Register blocks with the layouts of `linux/kvm.h` (x86).

use crate::{Errno, KvmError, Reader, Writer};

/// `struct kvm_regs`: 18 x u64 in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Regs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

impl Regs {
    /// The block as an array in `kvm_regs` order.
    #[must_use]
    pub fn to_array(&self) -> [u64; 18] {
        [
            self.rax,
            self.rbx,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.rsp,
            self.rbp,
            self.r8,
            self.r9,
            self.r10,
            self.r11,
            self.r12,
            self.r13,
            self.r14,
            self.r15,
            self.rip,
            self.rflags,
        ]
    }

    /// The block from an array in `kvm_regs` order.
    #[must_use]
    pub fn from_array(a: &[u64; 18]) -> Self {
        let [
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        ] = *a;
        Self {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        }
    }
}

/// `struct kvm_segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Linear base.
    pub base: u64,
    /// Limit in bytes, granularity applied: the last valid offset.
    pub limit: u32,
    /// Selector.
    pub selector: u16,
    /// Descriptor type, 4 bits.
    pub type_: u8,
    /// Present.
    pub present: u8,
    /// Descriptor privilege level.
    pub dpl: u8,
    /// Default operation size.
    pub db: u8,
    /// Code or data (1), system (0).
    pub s: u8,
    /// 64-bit code.
    pub l: u8,
    /// Granularity as loaded.
    pub g: u8,
    /// Available to software.
    pub avl: u8,
    /// The register holds no usable segment (a null selector).
    pub unusable: u8,
}

impl Segment {
    fn write(&self, w: &mut Writer) {
        w.u64(self.base).u32(self.limit).u16(self.selector);
        for b in [
            self.type_,
            self.present,
            self.dpl,
            self.db,
            self.s,
            self.l,
            self.g,
            self.avl,
            self.unusable,
        ] {
            w.u8(b);
        }
        w.pad(1);
    }
    fn read(r: &mut Reader<'_>) -> Self {
        let out = Self {
            base: r.u64(),
            limit: r.u32(),
            selector: r.u16(),
            type_: r.u8(),
            present: r.u8(),
            dpl: r.u8(),
            db: r.u8(),
            s: r.u8(),
            l: r.u8(),
            g: r.u8(),
            avl: r.u8(),
            unusable: r.u8(),
        };
        r.skip(1);
        out
    }
}

/// `struct kvm_dtable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dtable {
    /// Linear base.
    pub base: u64,
    /// Last valid offset.
    pub limit: u16,
}

/// `struct kvm_sregs`, 312 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sregs {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: Dtable,
    pub idt: Dtable,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub apic_base: u64,
    /// A pending external interrupt as a bit (`KVM_INTERRUPT`).
    pub interrupt_bitmap: [u64; 4],
}

impl Sregs {
    /// `sizeof(struct kvm_sregs)`.
    pub const BYTES: usize = 312;

    /// The block in KVM's layout.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        for s in [&self.cs, &self.ds, &self.es, &self.fs, &self.gs, &self.ss, &self.tr, &self.ldt] {
            s.write(&mut w);
        }
        for d in [&self.gdt, &self.idt] {
            w.u64(d.base).u16(d.limit).pad(6);
        }
        for v in [self.cr0, self.cr2, self.cr3, self.cr4, self.cr8, self.efer, self.apic_base] {
            w.u64(v);
        }
        for v in self.interrupt_bitmap {
            w.u64(v);
        }
        w.0
    }

    /// The block from KVM's layout.
    ///
    /// # Errors
    /// `EINVAL` when `bytes` is not 312 long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KvmError> {
        if bytes.len() != Self::BYTES {
            return Err(KvmError::new(
                Errno::EINVAL,
                format!("kvm_sregs is {} bytes, not {}", Self::BYTES, bytes.len()),
            ));
        }
        let mut r = Reader::new(bytes);
        let mut s = || Segment::read(&mut r);
        let (cs, ds, es, fs, gs, ss, tr, ldt) = (s(), s(), s(), s(), s(), s(), s(), s());
        let mut d = || {
            let out = Dtable { base: r.u64(), limit: r.u16() };
            r.skip(6);
            out
        };
        let (gdt, idt) = (d(), d());
        Ok(Self {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
            cr0: r.u64(),
            cr2: r.u64(),
            cr3: r.u64(),
            cr4: r.u64(),
            cr8: r.u64(),
            efer: r.u64(),
            apic_base: r.u64(),
            interrupt_bitmap: [r.u64(), r.u64(), r.u64(), r.u64()],
        })
    }
}

/// The fields of `struct kvm_vcpu_events` that this interface keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VcpuEvents {
    pub exception_injected: u8,
    pub exception_nr: u8,
    pub exception_has_error_code: u8,
    pub exception_pending: u8,
    pub exception_error_code: u32,
    pub interrupt_injected: u8,
    pub interrupt_nr: u8,
    pub interrupt_soft: u8,
    /// Bit 0: `mov ss`, bit 1: `sti`.
    pub interrupt_shadow: u8,
    pub nmi_injected: u8,
    pub nmi_pending: u8,
    pub nmi_masked: u8,
    pub sipi_vector: u32,
    pub flags: u32,
    pub smi_smm: u8,
    pub smi_pending: u8,
    pub smi_smm_inside_nmi: u8,
    pub smi_latched_init: u8,
    pub triple_fault_pending: u8,
}

impl VcpuEvents {
    /// `sizeof(struct kvm_vcpu_events)`.
    pub const BYTES: usize = 64;

    /// The block in KVM's layout.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(self.exception_injected).u8(self.exception_nr).u8(self.exception_has_error_code);
        w.u8(self.exception_pending).u32(self.exception_error_code);
        w.u8(self.interrupt_injected).u8(self.interrupt_nr).u8(self.interrupt_soft);
        w.u8(self.interrupt_shadow);
        w.u8(self.nmi_injected).u8(self.nmi_pending).u8(self.nmi_masked).pad(1);
        w.u32(self.sipi_vector).u32(self.flags);
        w.u8(self.smi_smm).u8(self.smi_pending).u8(self.smi_smm_inside_nmi);
        w.u8(self.smi_latched_init).u8(self.triple_fault_pending);
        let len = w.0.len();
        w.pad(Self::BYTES - len);
        w.0
    }

    /// The block from KVM's layout.
    ///
    /// # Errors
    /// `EINVAL` when `bytes` is not 64 long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KvmError> {
        if bytes.len() != Self::BYTES {
            return Err(KvmError::invalid(format!(
                "kvm_vcpu_events is {} bytes, not {}",
                Self::BYTES,
                bytes.len()
            )));
        }
        let mut r = Reader::new(bytes);
        Ok(Self {
            exception_injected: r.u8(),
            exception_nr: r.u8(),
            exception_has_error_code: r.u8(),
            exception_pending: r.u8(),
            exception_error_code: r.u32(),
            interrupt_injected: r.u8(),
            interrupt_nr: r.u8(),
            interrupt_soft: r.u8(),
            interrupt_shadow: r.u8(),
            nmi_injected: r.u8(),
            nmi_pending: r.u8(),
            nmi_masked: {
                let v = r.u8();
                r.skip(1);
                v
            },
            sipi_vector: r.u32(),
            flags: r.u32(),
            smi_smm: r.u8(),
            smi_pending: r.u8(),
            smi_smm_inside_nmi: r.u8(),
            smi_latched_init: r.u8(),
            triple_fault_pending: r.u8(),
        })
    }
}

/// `struct kvm_debugregs`: DR0 to DR3, DR6, DR7 (then padding to 128 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugRegs {
    /// DR0 to DR3.
    pub db: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
}

/// `struct kvm_guest_debug`: control flags and the debugger's own breakpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestDebug {
    /// `KVM_GUESTDBG_*`.
    pub control: u32,
    /// DR0 to DR7 for `USE_HW_BP`.
    pub debugreg: [u64; 8],
}

/// `KVM_GUESTDBG_*` bits.
pub mod guestdbg {
    /// Debugging is on.
    pub const ENABLE: u32 = 1;
    /// Exit after each instruction.
    pub const SINGLESTEP: u32 = 2;
    /// `int3` exits.
    pub const USE_SW_BP: u32 = 0x1_0000;
    /// The debug registers given are used instead of the guest's.
    pub const USE_HW_BP: u32 = 0x2_0000;
}

/// `KVM_MP_STATE_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum MpState {
    /// Runs.
    #[default]
    Runnable = 0,
    /// An AP that waits for INIT.
    Uninitialized = 1,
    /// Waits for SIPI.
    InitReceived = 2,
    /// Halted.
    Halted = 3,
    /// SIPI arrived.
    SipiReceived = 4,
}

impl MpState {
    /// The state with KVM's number `v`.
    ///
    /// # Errors
    /// `EINVAL` for a number that x86 does not have.
    pub fn from_u32(v: u32) -> Result<Self, KvmError> {
        Ok(match v {
            0 => Self::Runnable,
            1 => Self::Uninitialized,
            2 => Self::InitReceived,
            3 => Self::Halted,
            4 => Self::SipiReceived,
            _ => return Err(KvmError::invalid(format!("mp_state {v} is not one of 0 to 4"))),
        })
    }
}
