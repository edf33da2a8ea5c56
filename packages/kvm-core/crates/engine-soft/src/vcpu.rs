//! One vCPU of the software engine: its registers and everything derived from them.

use std::any::Any;
use std::sync::Arc;

use kvm_abi::Entropy;
use kvm_abi::exit::Exit;
use kvm_cpu::code_counters::CodeCounters;
use kvm_cpu::engine::{Alarm, VcpuRequests, VmContext};
use kvm_cpu::{Cpu, Mode, Trap, flags};
use kvm_memory::SlotTable;

use crate::block::BlockCache;
use crate::features::GuestFeatures;
use crate::io::IoLog;
use crate::rest::Rest;
use crate::slice::Slice;
use crate::thunk::{HostCpu, VectorState};
use crate::tlb::{Class, Tlb};
use crate::translate::{FLAT_CONTEXT, Hot, Kind, Policy, Translator};
use crate::watch::{Member, Watch};

/// One vCPU. On cache lines of its own: its thread writes to it all the time.
#[allow(missing_debug_implementations)]
#[repr(align(128))]
pub struct Vcpu {
    pub(crate) cpu: Cpu,
    pub(crate) tlb: Tlb,
    /// What translated code works with.
    pub(crate) hot: Hot,
    pub(crate) translator: Option<Box<Translator>>,
    pub(crate) policy: Policy,
    /// What an instruction left behind that translated code had interpreted.
    pub(crate) trap: Trap,
    pub(crate) panic: Option<Box<dyn Any + Send>>,
    /// Instructions left in the block: set to zero to stop after the present one.
    pub(crate) block_end: usize,
    /// Instructions retired, see [`Vcpu::next_check`].
    pub(crate) retired: u64,
    /// The run loop looks around when `retired` reaches this.
    pub(crate) next_check: u64,
    /// And at the clock when it reaches this.
    pub(crate) next_clock: u64,
    pub(crate) slice: Slice,
    /// Who watches the clock while translated code runs, and the time that it was told.
    pub(crate) alarm: Option<Arc<dyn Alarm>>,
    pub(crate) armed: u64,
    /// Something needs the run loop's attention before the next block.
    pub(crate) attention: bool,
    /// Part of the key of entry points: address space, privilege and decode mode.
    pub(crate) fetch_context: u64,
    /// What the present code is translated as.
    pub(crate) kind: Option<Kind>,
    /// [`Tlb::restarts`] when all entry points were last forgotten for it.
    tlb_restarts: u64,
    /// EFER.LMA: linear addresses have 64 bits.
    pub(crate) long_addresses: bool,
    /// Breakpoints are enabled: every access takes the slow path, instructions run one at a time.
    pub(crate) breakpoints: bool,
    /// The page of the local APIC, where it is memory-mapped.
    pub(crate) apic_page: Option<u64>,
    pub(crate) io: IoLog,
    pub(crate) blocks: BlockCache,
    /// For others to read.
    pub(crate) counters: Arc<CodeCounters>,
    /// Instructions that the interpreter executed.
    pub(crate) interpreted: u64,
    /// Where operations are put together, to be used again.
    pub(crate) lowered: Vec<crate::op::Op>,
    pub(crate) vectors: VectorState,
    /// CR0, CR4 and XCR0 allow these classes of vector instructions.
    pub(crate) vector_gate: u8,
    pub(crate) table: Arc<SlotTable>,
    /// The same slots as they are seen outside, or inside, system management mode.
    pub(crate) other_view: Option<Arc<SlotTable>>,
    pub(crate) context: VmContext,
    pub(crate) requests: Arc<VcpuRequests>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) host: HostCpu,
    pub(crate) features: GuestFeatures,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// An exit that an instruction asked for; taken after it completed.
    pub(crate) exit: Option<Exit>,
    /// `KVM_INTERRUPT`: a vector queued where there is no irqchip.
    pub(crate) queued_interrupt: Option<u8>,
    pub(crate) interrupt_window: bool,
    pub(crate) stop_at: Option<u64>,
    /// Every instruction is counted: from the first `stop_at` on.
    pub(crate) exact: bool,
    /// This vCPU as the memory watch knows it, and the last change it took notice of.
    pub(crate) member: Arc<Member>,
    pub(crate) noticed: u64,
    /// Whether the guest rests.
    pub(crate) rest: Rest,
    /// PAUSEs in a row, and when the last one was.
    pub(crate) pauses: u32,
    pub(crate) last_pause: u64,
    /// Another vCPU ended the next HLT with `KVM_HC_KICK_CPU`.
    pub(crate) unhalted: bool,
    /// A SIPI was taken, and no instruction executed since.
    pub(crate) starting: bool,
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.drop_all_code();
    }
}

impl Vcpu {
    /// A vCPU in its reset state.
    pub(crate) fn new(
        id: u32,
        context: VmContext,
        requests: Arc<VcpuRequests>,
        watch: Arc<Watch>,
        host: HostCpu,
        entropy: Arc<dyn Entropy>,
        tsc_khz: u32,
    ) -> Self {
        let mut cpu = Cpu::new(id);
        let table = context.memory.table();
        cpu.tsc_khz = tsc_khz;
        let member = watch.join(Arc::clone(&requests));
        Self {
            cpu,
            tlb: Tlb::default(),
            hot: Hot::default(),
            translator: None,
            policy: Policy::OFF,
            trap: Trap::Exit,
            panic: None,
            block_end: 0,
            retired: 0,
            next_check: 0,
            next_clock: 0,
            slice: Slice::default(),
            alarm: None,
            armed: u64::MAX,
            attention: true,
            fetch_context: 0,
            kind: None,
            tlb_restarts: 0,
            long_addresses: false,
            breakpoints: false,
            apic_page: None,
            io: IoLog::default(),
            blocks: BlockCache::default(),
            counters: Arc::default(),
            interpreted: 0,
            lowered: Vec::new(),
            vectors: VectorState::default(),
            vector_gate: 0,
            other_view: table.other_view().map(Arc::new),
            table,
            context,
            requests,
            watch,
            host,
            features: GuestFeatures::new(&[], host),
            entropy,
            exit: None,
            queued_interrupt: None,
            interrupt_window: false,
            stop_at: None,
            exact: false,
            member,
            noticed: 0,
            rest: Rest::default(),
            pauses: 0,
            last_pause: 0,
            unhalted: false,
            starting: false,
        }
    }

    /// Re-derives everything that depends on modes, privilege and flags.
    pub(crate) fn refresh_context(&mut self) {
        self.cpu.update_mode();
        self.long_addresses = self.cpu.long_active();
        let breakpoints = self.cpu.any_breakpoint();
        let apic_page = self.cpu.lapic.as_ref().map(|l| l.page());
        if breakpoints != self.breakpoints || apic_page != self.apic_page {
            self.breakpoints = breakpoints;
            self.apic_page = apic_page;
            self.tlb.flush_all();
        }
        self.update_class();
        self.update_fetch_context();
        self.update_vector_gate();
        self.attention = true;
    }

    /// Follows a change of CPL, RFLAGS and segments: [`refresh_context`](Self::refresh_context) unless
    /// the decode mode changed as well. The run loop is only bothered if it has something to do.
    pub(crate) fn follow_privilege(&mut self) {
        let before = self.cpu.mode;
        self.cpu.update_mode();
        let now = self.cpu.mode;
        if before != now || !matches!(now, Mode::Long64 | Mode::Protected32) {
            self.refresh_context();
            return;
        }
        self.update_class();
        self.update_fetch_context();
        // Whatever changes the privilege is itself the instruction behind an STI.
        self.cpu.events.sti_shadow = false;
        self.attention |= self.has_business();
    }

    /// Follows a change of CPL, AC, CR4.SMAP or CR0.AM.
    pub(crate) fn update_class(&mut self) {
        let class = if self.cpu.cpl == 3 {
            if self.alignment_checked() { Class::Checked } else { Class::User }
        } else if self.cpu.rflags & flags::AC != 0 && self.cpu.cr4 & (1 << 21) != 0 {
            Class::SupervisorAc
        } else {
            Class::Supervisor
        };
        self.tlb.set_class(class);
    }

    /// Follows a change of address space, CPL, decode mode or segments.
    pub(crate) fn update_fetch_context(&mut self) {
        // The same number means another address space now.
        if self.tlb_restarts != self.tlb.restarts() {
            self.tlb_restarts = self.tlb.restarts();
            self.blocks.forget_addresses();
        }
        self.update_kind();
        let flat = if self.kind == Some(Kind::Flat) { FLAT_CONTEXT } else { 0 };
        let bits = u64::from(self.cpu.mode.bits() >> 5) | flat;
        let class = self.tlb.class() as u64;
        let space = if self.cpu.cpl == 3 { self.tlb.space() } else { 0 };
        // Bit 6 keeps it from being 0.
        self.fetch_context = space << 12 | 1 << 6 | class << 4 | bits;
    }

    /// Default operand size of the code segment.
    pub(crate) fn code_bits(&self) -> u32 {
        self.cpu.mode.bits()
    }

    /// Linear address of the next instruction.
    #[inline(always)]
    pub(crate) fn linear_rip(&self) -> u64 {
        if self.cpu.mode == Mode::Long64 {
            self.cpu.rip()
        } else {
            self.cpu.segs[kvm_cpu::seg::CS].base.wrapping_add(self.cpu.rip() & 0xffff_ffff)
                & 0xffff_ffff
        }
    }

    /// Fetches the present slot table and drops what was derived from the old one.
    pub(crate) fn refresh_memory(&mut self) {
        let now = self.context.memory.table();
        if now.generation() != self.table.generation() {
            // The holds on pages of code are in the old table.
            self.drop_all_code();
            self.other_view = now.other_view().map(Arc::new);
            self.table = now;
            if self.cpu.events.smm
                && let Some(view) = &mut self.other_view
            {
                std::mem::swap(view, &mut self.table);
            }
            self.tlb.flush_all();
        } else {
            self.tlb.revoke_writes(None);
        }
        self.update_fetch_context();
    }
}
