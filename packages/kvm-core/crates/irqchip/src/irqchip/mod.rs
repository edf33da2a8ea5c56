//! The whole of a VM's interrupt hardware, and its lines.

mod bus;
mod state;
mod work;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use kvm_abi::{Clock, Errno, KvmError};

use crate::deliver::{Message, deliver};
pub use crate::ioapic::IOAPIC_BASE;
use crate::lapic::Lapic;
use crate::notify::{NotifierId, Notifiers};
use crate::pit::{KVM_PIT_SPEAKER_DUMMY, Pit};
use crate::routing::{KVM_MAX_IRQ_ROUTES, Route, Routing};
use crate::sync::{replace, snapshot};
use crate::wake::{VcpuWaker, Wake, Wakes};
pub use state::{
    IRQCHIP_STATE_BYTES, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_PRIMARY, KVM_IRQCHIP_PIC_SECONDARY,
};
use work::Chips;

/// Lines driven by `KVM_IRQ_LINE` and by irqfds that pulse.
pub const IRQ_SOURCE_USERSPACE: u32 = 0;
/// Lines held high by resampling irqfds.
pub const IRQ_SOURCE_RESAMPLE: u32 = 1;
/// The PIT's line.
pub const IRQ_SOURCE_PIT: u32 = 2;
/// Sources are the bits of a word.
const IRQ_SOURCES: u32 = 64;
/// vCPU IDs are below this (`KVM_CAP_MAX_VCPU_ID`).
const MAX_VCPU_ID: u32 = 4096;
const NEVER: u64 = u64::MAX;

/// PIC, IOAPIC, local APICs, PIT and GSI routing of one VM.
///
/// Shared by all threads; every method locks what it needs for a short time.
pub struct Irqchip {
    this: Weak<Self>,
    clock: Arc<dyn Clock>,
    /// Sorted by ID.
    lapics: RwLock<Arc<[Arc<Lapic>]>>,
    routing: RwLock<Arc<Routing>>,
    notifiers: RwLock<Arc<Notifiers>>,
    chips: Mutex<Chips>,
    pic_output: Arc<AtomicBool>,
    /// When PIT or IOAPIC need vCPU 0 to poll.
    deadline: AtomicU64,
    /// Vectors that the IOAPIC can send: their EOIs must reach it.
    ioapic_vectors: [AtomicU32; 8],
    wide_ids: AtomicBool,
}

impl fmt::Debug for Irqchip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Irqchip")
            .field("lapics", &self.lapics)
            .field("chips", &self.chips)
            .field("notifiers", &self.notifiers)
            .finish_non_exhaustive()
    }
}

impl Irqchip {
    /// `KVM_CREATE_IRQCHIP`: PIC and IOAPIC in their reset state with the routing of a PC. There
    /// is no PIT and no vCPU yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            clock,
            lapics: RwLock::new(Arc::new([])),
            routing: RwLock::new(Arc::new(Routing::pc())),
            notifiers: RwLock::default(),
            chips: Mutex::new(Chips::new()),
            pic_output: Arc::new(AtomicBool::new(false)),
            deadline: AtomicU64::new(NEVER),
            ioapic_vectors: Default::default(),
            wide_ids: AtomicBool::new(false),
        })
    }

    /// `KVM_CREATE_PIT2`. With [`KVM_PIT_SPEAKER_DUMMY`] port 0x61 belongs to the PIT as well.
    /// `EEXIST` if there is one, `EINVAL` for other flags.
    pub fn create_pit(&self, flags: u32) -> Result<(), KvmError> {
        if flags & !KVM_PIT_SPEAKER_DUMMY != 0 {
            return Err(KvmError::invalid(format!("unknown PIT flags {flags:#x}")));
        }
        self.work(|w| {
            if w.chips.pit.is_some() {
                return Err(KvmError::new(Errno::EEXIST, "the VM has a PIT already"));
            }
            w.chips.pit = Some(Pit::new(flags & KVM_PIT_SPEAKER_DUMMY != 0));
            Ok(())
        })
    }

    /// Adds the local APIC of vCPU `id`, in power-up state. vCPU 0 is the boot processor and
    /// polls the PIT. `EEXIST` if the ID is taken, `EINVAL` if it is out of range.
    pub fn add_vcpu(&self, id: u32, waker: Arc<dyn VcpuWaker>) -> Result<Arc<Lapic>, KvmError> {
        if id >= MAX_VCPU_ID {
            return Err(KvmError::invalid(format!("vCPU ID {id} is not below {MAX_VCPU_ID}")));
        }
        replace(&self.lapics, |lapics| {
            let Err(at) = lapics.binary_search_by_key(&id, |lapic| lapic.id()) else {
                return Err(KvmError::new(Errno::EEXIST, format!("vCPU {id} exists already")));
            };
            let clock = Arc::clone(&self.clock);
            let pic_output = Arc::clone(&self.pic_output);
            let lapic = Lapic::new(id, clock, waker, Weak::clone(&self.this), pic_output);
            let lapic = Arc::new(lapic);
            let mut list = lapics.to_vec();
            list.insert(at, Arc::clone(&lapic));
            *lapics = list.into();
            Ok(lapic)
        })
    }

    /// The local APIC of vCPU `id`.
    pub fn lapic(&self, id: u32) -> Option<Arc<Lapic>> {
        let lapics = snapshot(&self.lapics);
        let at = lapics.binary_search_by_key(&id, |lapic| lapic.id()).ok()?;
        lapics.get(at).cloned()
    }

    /// `KVM_CAP_X2APIC_API` with `KVM_X2APIC_API_USE_32BIT_IDS`: MSI addresses and saved states
    /// carry 32-bit destination IDs.
    pub fn set_wide_ids(&self, on: bool) {
        self.wide_ids.store(on, Ordering::SeqCst);
    }

    pub(crate) fn wide_ids(&self) -> bool {
        self.wide_ids.load(Ordering::SeqCst)
    }

    /// `KVM_IRQ_LINE`: drives a line for userspace. A line without a route is silently open.
    /// `EINVAL` if the GSI does not exist.
    pub fn irq_line(&self, gsi: u32, level: bool) -> Result<(), KvmError> {
        self.irq_line_from(IRQ_SOURCE_USERSPACE, gsi, level)
    }

    /// Drives a line for one of 64 sources; the line is high while any source holds it.
    /// `EINVAL` if the GSI or the source does not exist.
    pub fn irq_line_from(&self, source: u32, gsi: u32, level: bool) -> Result<(), KvmError> {
        self.irq_line_status(source, gsi, level).map(drop)
    }

    /// `KVM_IRQ_LINE_STATUS`: as [`irq_line_from`](Self::irq_line_from), and tells what became of
    /// it: -1 masked or without a route, 0 coalesced with an earlier one, else how many took it.
    pub fn irq_line_status(&self, source: u32, gsi: u32, level: bool) -> Result<i32, KvmError> {
        check_gsi(gsi)?;
        if source >= IRQ_SOURCES {
            return Err(KvmError::invalid(format!("IRQ source {source} is not below 64")));
        }
        if let Some((addr, data)) = snapshot(&self.routing).targets(gsi).msi {
            if !level {
                return Ok(-1);
            }
            return self.signal_msi(addr, data).map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        }
        Ok(self.work(|w| w.set_gsi(gsi, source, level)))
    }

    /// An edge on `gsi`: what an irqfd without resampling does when it is signalled.
    pub fn pulse(&self, gsi: u32) -> Result<(), KvmError> {
        self.irq_line(gsi, true)?;
        self.irq_line(gsi, false)
    }

    /// `KVM_SET_GSI_ROUTING`: replaces the table. `EINVAL` for pins, chips or GSIs that do not
    /// exist and for two routes of a GSI to one chip, `E2BIG` for too many.
    pub fn set_gsi_routing(&self, routes: &[Route]) -> Result<(), KvmError> {
        let table = Arc::new(Routing::new(routes)?);
        replace(&self.routing, |routing| *routing = table);
        Ok(())
    }

    /// `KVM_SIGNAL_MSI`: returns how many local APICs took the message. One to an address outside
    /// the interrupt range reaches nobody; it is the guest that chooses it.
    pub fn signal_msi(&self, addr: u64, data: u32) -> Result<u32, KvmError> {
        let message = Message::from_msi(addr, data, self.wide_ids());
        Ok(message.map_or(0, |message| self.deliver(&message, None)))
    }

    /// `KVM_HC_SEND_IPI`: the fixed interrupt or NMI of `icr` for the APIC IDs `first + i` of each
    /// bit `i` of `bitmap`. Returns how many local APICs took it.
    pub fn send_ipis(&self, bitmap: u128, first: u32, icr: u32) -> u32 {
        let mut left = bitmap;
        let mut taken = 0;
        while left != 0 {
            let id = first.saturating_add(left.trailing_zeros());
            left &= left - 1;
            let message = Message::from_icr(u64::from(id) << 32 | u64::from(icr), true);
            // All ones would be everybody.
            if id != u32::MAX {
                taken += self.deliver(&message, None);
            }
        }
        taken
    }

    /// `KVM_HC_KICK_CPU`: the vCPU with this APIC ID leaves HLT.
    pub fn unhalt(&self, apic_id: u32) {
        if let Some(lapic) = self.lapic(apic_id) {
            lapic.wake(Wake::Unhalt);
        }
    }

    /// Sends a message to the local APICs and wakes who must look. No lock is held.
    pub(crate) fn deliver(&self, message: &Message, source: Option<u32>) -> u32 {
        let mut wakes = Wakes::default();
        let accepted = deliver(&snapshot(&self.lapics), message, source, &mut wakes);
        wakes.fire();
        accepted
    }

    /// True if vCPU `vcpu` would take a maskable interrupt now, were IF set. A run loop calls
    /// [`Lapic::has_interrupt`] instead, which needs no look-up.
    pub fn has_interrupt(&self, vcpu: u32) -> bool {
        self.lapic(vcpu).is_some_and(|lapic| lapic.has_interrupt())
    }

    /// The INTA cycle of vCPU `vcpu`: the vector to take, PIC first, then the local APIC.
    pub fn ack_interrupt(&self, vcpu: u32) -> Option<u8> {
        self.lapic(vcpu)?.ack_interrupt()
    }

    /// The INTA cycle at the PIC; `None` if another vCPU was faster.
    pub(crate) fn ack_pic(&self) -> Option<u8> {
        self.work(|w| w.chips.pic.output().then(|| w.chips.pic.acknowledge()))
    }

    /// When vCPU `vcpu` must call [`poll_timers`](Self::poll_timers) at the latest, in
    /// nanoseconds of the clock: its local APIC's timer, and on vCPU 0 the PIT.
    pub fn next_deadline_ns(&self, vcpu: u32) -> Option<u64> {
        self.next_deadline_of(&*self.lapic(vcpu)?)
    }

    /// The same for the vCPU of a local APIC that the caller has at hand.
    pub fn next_deadline_of(&self, lapic: &Lapic) -> Option<u64> {
        let vcpu = lapic.id();
        let own = lapic.next_deadline_ns();
        let shared = Some(self.deadline.load(Ordering::SeqCst));
        let shared = shared.filter(|ns| vcpu == 0 && *ns != NEVER);
        own.into_iter().chain(shared).min()
    }

    /// Fires the timers of vCPU `vcpu` that are due.
    pub fn poll_timers(&self, vcpu: u32) {
        if let Some(lapic) = self.lapic(vcpu) {
            lapic.poll_timer();
        }
        if vcpu != 0 {
            return;
        }
        let deadline = self.deadline.load(Ordering::SeqCst);
        if deadline != NEVER {
            let now = self.clock.now_ns();
            if deadline <= now {
                self.work(|w| w.poll(now));
            }
        }
    }

    /// Calls `f` whenever the guest has acknowledged `gsi`: at the EOI of PIC or IOAPIC, and when
    /// it unmasks a level-triggered IOAPIC pin whose line is high. That is the moment for a
    /// resampling irqfd to lower the line and to ask its device again. No lock is held during
    /// the call. `EINVAL` if the GSI does not exist.
    pub fn add_ack_notifier(
        &self,
        gsi: u32,
        f: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<NotifierId, KvmError> {
        check_gsi(gsi)?;
        Ok(replace(&self.notifiers, |list| Arc::make_mut(list).add(gsi, f)))
    }

    /// Removes a notifier. A call that is under way in another thread may still finish after
    /// this returns. `ENOENT` if it is not registered.
    pub fn remove_ack_notifier(&self, id: NotifierId) -> Result<(), KvmError> {
        replace(&self.notifiers, |list| Arc::make_mut(list).remove(id))
    }

    /// An EOI at a local APIC. No lock is held.
    pub(crate) fn end_of_interrupt(&self, vector: u8, level: bool) {
        let word = self.ioapic_vectors[usize::from(vector >> 5)].load(Ordering::SeqCst);
        if !level && word & (1 << (vector & 31)) == 0 {
            return;
        }
        // Notifiers come before the line is looked at again: they lower it.
        if level && !snapshot(&self.notifiers).is_empty() {
            self.work(|w| w.ioapic_acked(vector));
            self.work(|w| w.ioapic_eoi(vector));
        } else {
            self.work(|w| {
                w.ioapic_acked(vector);
                if level {
                    w.ioapic_eoi(vector);
                }
            });
        }
    }
}

fn check_gsi(gsi: u32) -> Result<(), KvmError> {
    if gsi < KVM_MAX_IRQ_ROUTES {
        return Ok(());
    }
    Err(KvmError::invalid(format!("GSI {gsi} is not below {KVM_MAX_IRQ_ROUTES}")))
}
