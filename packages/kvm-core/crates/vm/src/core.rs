//! One entry into the guest, and the `kvm_run` page before and after it.

use kvm_abi::exit::{Exit, PIO_DATA_BYTES, RUN_PIO_DATA_OFFSET, reason, run};
use kvm_abi::regs::{Regs, Sregs, VcpuEvents};
use kvm_cpu::engine::VcpuEngine;

use crate::page::SharedPage;
use crate::routes::Space;
use crate::sampler::Sampler;
use crate::spin::SpinWindow;
use crate::sys::usable_cpus;

/// `internal.suberror` after a panic of the engine; not one of KVM's.
pub const INTERNAL_ERROR_PANIC: u32 = 0x1_0000;
/// The longest look, as KVM's `halt_poll_ns` has it.
const HALT_POLL_NS: u32 = 200_000;
/// The same while devices are at work; code of theirs that is rarely used takes as long.
const SERVED_POLL_NS: u32 = 400_000;
/// The bit of `kvm_run.flags` for exits of a vCPU in system management mode.
const KVM_RUN_X86_SMM: u8 = 1;
/// Bits of `kvm_valid_regs` and `kvm_dirty_regs`.
const SYNC_REGS: u64 = 1;
const SYNC_SREGS: u64 = 2;
const SYNC_EVENTS: u64 = 4;

/// What the next entry must take from the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Io { bytes: usize },
    IoString { bytes: usize },
    Mmio { bytes: usize },
    Hypercall,
}

/// An engine's vCPU with the state of its page. Whoever holds it is the vCPU.
pub(crate) struct Core {
    pub engine: Box<dyn VcpuEngine>,
    answer: Answer,
    /// Where the answers of a string read are put together.
    items: Box<[u8; PIO_DATA_BYTES]>,
    /// The kernel fills the page and reads the answers from it.
    pub page_is_kernels: bool,
    /// An exit that nobody answered because the vCPU was stopped: it is shown again.
    pub unanswered: Option<u32>,
    /// The message of a panic inside the engine: it does not run again.
    pub failure: Option<String>,
    /// How long a halted vCPU looks for requests before it sleeps.
    pub halting: SpinWindow,
    /// The same while devices are at work on something, which may end in an interrupt.
    pub served: SpinWindow,
    /// Where the code of the guest is executed in software.
    pub sampler: Option<Sampler>,
}

impl Core {
    pub fn new(engine: Box<dyn VcpuEngine>, sampler: Option<Sampler>) -> Self {
        let page_is_kernels = engine.run_mapping().is_some();
        let alone = usable_cpus() < 2;
        Self {
            engine,
            answer: Answer::None,
            items: Box::new([0; PIO_DATA_BYTES]),
            page_is_kernels,
            unanswered: None,
            failure: None,
            sampler,
            halting: SpinWindow::new(if alone { 0 } else { HALT_POLL_NS }, HALT_POLL_NS),
            served: SpinWindow::new(if alone { 0 } else { SERVED_POLL_NS }, SERVED_POLL_NS),
        }
    }

    /// True if an entry is needed to bring the registers to an instruction boundary.
    pub fn half_done(&self) -> bool {
        self.failure.is_none()
            && self.unanswered.is_none()
            && (self.answer != Answer::None || self.engine.io_pending())
    }

    /// Gives the engine what the page says: answers, registers, requests.
    pub fn before_entry(&mut self, page: &SharedPage, has_irqchip: bool) {
        if self.page_is_kernels {
            return;
        }
        match std::mem::replace(&mut self.answer, Answer::None) {
            Answer::None => {}
            Answer::Io { bytes } => {
                let data: [u8; 4] = page.get(RUN_PIO_DATA_OFFSET);
                self.engine.complete_read(&data[..bytes]);
            }
            Answer::IoString { bytes } => {
                let items = &mut self.items[..bytes];
                page.copy(RUN_PIO_DATA_OFFSET, items);
                self.engine.complete_read(items);
            }
            Answer::Mmio { bytes } => {
                let data: [u8; 8] = page.get(run::MMIO_DATA);
                self.engine.complete_read(&data[..bytes]);
            }
            Answer::Hypercall => {
                let rax = u64::from_le_bytes(page.get(run::HYPERCALL_RET));
                let regs = Regs { rax, ..self.engine.regs() };
                // General registers have no invalid values.
                let _ = self.engine.set_regs(&regs);
            }
        }
        let dirty = page.u64(run::KVM_DIRTY_REGS).swap(0, std::sync::atomic::Ordering::Relaxed);
        if dirty != 0 {
            self.load_sync_regs(page, dirty);
        }
        if !has_irqchip {
            let cr8 = u64::from_le_bytes(page.get(run::CR8));
            let sregs = self.engine.sregs();
            if sregs.cr8 != cr8 && cr8 < 16 {
                let _ = self.engine.set_sregs(&Sregs { cr8, ..sregs });
            }
            self.engine
                .request_interrupt_window(page.get::<1>(run::REQUEST_INTERRUPT_WINDOW) != [0]);
        }
    }

    /// Describes `exit` in the page. Returns its reason.
    pub fn after_exit(&mut self, page: &SharedPage, exit: &Exit, has_irqchip: bool) -> u32 {
        let put64 = |at: usize, value: u64| page.set(at, &value.to_le_bytes());
        let put32 = |at: usize, value: u32| page.set(at, &value.to_le_bytes());
        let why = match exit {
            Exit::Io { write, port, size, value } => {
                let bytes = usize::from(*size).min(4);
                put_port(page, *write, *port, *size, 1);
                page.set(RUN_PIO_DATA_OFFSET, &value.to_le_bytes()[..bytes]);
                if !*write {
                    self.answer = Answer::Io { bytes };
                }
                reason::IO
            }
            Exit::IoString { write, port, size, count } => {
                put_port(page, *write, *port, *size, u32::from(*count));
                let bytes = (usize::from(*size) * usize::from(*count)).min(PIO_DATA_BYTES);
                if *write {
                    let data = self.engine.string_data();
                    page.set(RUN_PIO_DATA_OFFSET, &data[..data.len().min(bytes)]);
                } else {
                    self.answer = Answer::IoString { bytes };
                }
                reason::IO
            }
            Exit::Mmio { write, gpa, len, data } => {
                put64(run::MMIO_PHYS_ADDR, *gpa);
                page.set(run::MMIO_DATA, data);
                put32(run::MMIO_LEN, u32::from(*len));
                page.set(run::MMIO_IS_WRITE, &[u8::from(*write)]);
                if !*write {
                    self.answer = Answer::Mmio { bytes: usize::from(*len).min(8) };
                }
                reason::MMIO
            }
            Exit::Described(why) => return *why,
            Exit::Hlt => reason::HLT,
            Exit::Shutdown => reason::SHUTDOWN,
            Exit::Intr => reason::INTR,
            Exit::IrqWindowOpen => reason::IRQ_WINDOW_OPEN,
            Exit::CountReached => reason::COUNT_REACHED,
            Exit::Debug { exception, pc, dr6, dr7 } => {
                put32(run::DEBUG_EXCEPTION, *exception);
                put64(run::DEBUG_PC, *pc);
                put64(run::DEBUG_DR6, *dr6);
                put64(run::DEBUG_DR7, *dr7);
                reason::DEBUG
            }
            Exit::Hypercall { nr, args } => {
                put64(run::HYPERCALL_NR, *nr);
                for (i, arg) in args.iter().enumerate() {
                    put64(run::HYPERCALL_ARGS + 8 * i, *arg);
                }
                put64(run::HYPERCALL_RET, 0);
                self.answer = Answer::Hypercall;
                reason::HYPERCALL
            }
            Exit::InternalError { suberror, data } => {
                put32(run::INTERNAL_SUBERROR, *suberror);
                let words = data.len().min(16);
                put32(run::INTERNAL_NDATA, words as u32);
                for (i, word) in data.iter().take(words).enumerate() {
                    put64(run::INTERNAL_DATA + 8 * i, *word);
                }
                reason::INTERNAL_ERROR
            }
        };
        put32(run::EXIT_REASON, why);
        if self.failure.is_none() {
            let (ready, if_flag) = self.engine.interrupt_window();
            let flags = u8::from(self.engine.in_smm()) * KVM_RUN_X86_SMM;
            page.set(
                run::READY_FOR_INTERRUPT_INJECTION,
                &[u8::from(ready), u8::from(if_flag), flags, 0],
            );
            if !has_irqchip {
                let sregs = self.engine.sregs();
                put64(run::CR8, sregs.cr8);
                put64(run::APIC_BASE, sregs.apic_base);
            }
            self.store_sync_regs(page);
        }
        why
    }

    fn store_sync_regs(&mut self, page: &SharedPage) {
        let wanted = u64::from_le_bytes(page.get(run::KVM_VALID_REGS));
        let mut at = run::SYNC_REGS;
        if wanted & SYNC_REGS != 0 {
            for (i, value) in self.engine.regs().to_array().iter().enumerate() {
                page.set(at + 8 * i, &value.to_le_bytes());
            }
        }
        at += 18 * 8;
        if wanted & SYNC_SREGS != 0 {
            page.set(at, &self.engine.sregs().to_bytes());
        }
        at += Sregs::BYTES;
        if wanted & SYNC_EVENTS != 0 {
            page.set(at, &self.engine.vcpu_events().to_bytes());
        }
    }

    /// Values that the engine refuses are dropped, as an entry cannot fail for them: the caller
    /// sees the old ones at the next exit.
    fn load_sync_regs(&mut self, page: &SharedPage, dirty: u64) {
        let mut at = run::SYNC_REGS;
        if dirty & SYNC_REGS != 0 {
            let regs = std::array::from_fn(|i| u64::from_le_bytes(page.get(at + 8 * i)));
            let _ = self.engine.set_regs(&Regs::from_array(&regs));
        }
        at += 18 * 8;
        if dirty & SYNC_SREGS != 0
            && let Ok(sregs) = Sregs::from_bytes(&page.get::<{ Sregs::BYTES }>(at))
        {
            let _ = self.engine.set_sregs(&sregs);
        }
        at += Sregs::BYTES;
        if dirty & SYNC_EVENTS != 0
            && let Ok(events) = VcpuEvents::from_bytes(&page.get::<{ VcpuEvents::BYTES }>(at))
        {
            let _ = self.engine.set_vcpu_events(&events);
        }
    }
}

/// Describes accesses to a port, except for what they write.
fn put_port(page: &SharedPage, write: bool, port: u16, size: u8, count: u32) {
    page.set(run::IO_DIRECTION, &[u8::from(write), size]);
    page.set(run::IO_PORT, &port.to_le_bytes());
    page.set(run::IO_COUNT, &count.to_le_bytes());
    page.set(run::IO_DATA_OFFSET, &(RUN_PIO_DATA_OFFSET as u64).to_le_bytes());
}

/// The address of the device access that the page describes.
pub(crate) fn access_of(page: &SharedPage, why: u32) -> Option<(Space, u64)> {
    match why {
        reason::IO => Some((Space::Pio, u64::from(u16::from_le_bytes(page.get(run::IO_PORT))))),
        reason::MMIO => Some((Space::Mmio, u64::from_le_bytes(page.get(run::MMIO_PHYS_ADDR)))),
        _ => None,
    }
}
