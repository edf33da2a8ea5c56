//! From the run loop into translated code and back, and from translated code to the interpreter.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Once, OnceLock};

use kvm_cpu::code_counters::{Place, add};
use kvm_cpu::flags::OF;
use kvm_cpu::{Trap, reg};

use super::asm::Tables;
use super::select::{Guest, SITES, Translator};
use super::stamps::NEVER;
use super::stubs::{Functions, left};
use super::{Code, Kind, Policy, perf_map};
use crate::block::Block;
use crate::op::Op;
use crate::tlb::Class;
use crate::vcpu::Vcpu;

/// Result of [`interpret`]: go on in the code.
const GO_ON: u64 = 0;

/// The vCPU that the thread's GS points at.
#[derive(Debug)]
pub struct Gs;

thread_local! {
    static OWNER: Cell<u64> = const { Cell::new(0) };
}

/// Whether user programs can read the base of GS by an instruction: what the kernel says in the
/// auxiliary vector (`HWCAP2_FSGSBASE`).
fn reads_base() -> bool {
    static READS: OnceLock<bool> = OnceLock::new();
    // SAFETY: reads the auxiliary vector.
    *READS.get_or_init(|| unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 != 0)
}

impl Gs {
    /// Lets GS point at `vcpu`. Nothing else in a Linux process uses GS.
    fn point_at(vcpu: u64) -> bool {
        if reads_base() {
            let base: u64;
            // SAFETY: reads a register; the kernel allows it.
            unsafe { std::arch::asm!("rdgsbase {}", out(reg) base, options(nomem, nostack)) };
            return base == vcpu || Self::set_base(vcpu);
        }
        OWNER.with(|owner| {
            if owner.get() == vcpu {
                return true;
            }
            let done = Self::set_base(vcpu);
            if done {
                owner.set(vcpu);
            }
            done
        })
    }

    fn set_base(vcpu: u64) -> bool {
        const ARCH_SET_GS: libc::c_int = 0x1001;
        // SAFETY: sets the base of a segment that no compiled code refers to.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, vcpu) == 0 }
    }
}

/// EFLAGS to what LAHF and SETO leave in AX.
fn to_ax(flags: u64) -> u64 {
    ((flags & 0xd5 | 2) << 8) | u64::from(flags & OF != 0)
}

/// And back.
fn from_ax(ax: u64) -> u64 {
    ((ax >> 8) & 0xd5) | ((ax & 1) * OF)
}

impl Vcpu {
    /// What a translated block must match to be entered now.
    pub(crate) fn code_context(&self) -> u64 {
        self.fetch_context | self.blocks.epoch()
    }

    /// Translated code for the present RIP, if there is any.
    #[inline(always)]
    pub(crate) fn known_code(&mut self, linear: u64) -> Option<Code> {
        if self.translator.is_none() || self.kind.is_none() {
            return None;
        }
        self.blocks.entries.find(linear, self.code_context())
    }

    /// The code of the block at the present RIP, translated now if that is worth while.
    #[inline(never)]
    pub(crate) fn code_of(&mut self, linear: u64, block: *const Block) -> Option<Code> {
        let class = self.tlb.class();
        let kind = self.kind?;
        if class == Class::Checked || !self.has_room_for_code(linear) {
            return None;
        }
        // SAFETY: found in the cache just now.
        let (gpa, number) = unsafe { ((*block).gpa, (*block).translated()) };
        let known = self.translator.as_ref().and_then(|t| t.find(number, class));
        let code = known.or_else(|| self.translate_block(linear, gpa, class, kind))?;
        let context = self.code_context();
        self.blocks.enter(linear, context, code, gpa);
        Some(code)
    }

    #[cold]
    #[inline(never)]
    fn translate_block(&mut self, linear: u64, gpa: u64, class: Class, kind: Kind) -> Option<Code> {
        self.start_translator()?;
        let mut page = [0u8; 4096];
        if !self.ram_copy(gpa & !0xfff, &mut page) {
            return None;
        }
        let dialect = self.dialect();
        let translator = self.translator.as_mut()?;
        if translator.make_room(&mut self.blocks) {
            add(&self.counters.code_resets, 1);
        }
        let guest = Guest { features: &self.features, dialect, kind };
        let code = translator.translate(&mut self.blocks, guest, gpa, class, &page)?;
        add(&self.counters.translations, 1);
        if self.policy.perf_map {
            let bytes = translator.end() - code.entry;
            perf_map::add_region(code.entry, bytes as usize, class, kind, linear);
        }
        self.counters.code_bytes.store(translator.bytes(), Ordering::Relaxed);
        Some(code)
    }

    /// Makes the translator at its first use; where the host forbids that, never again.
    fn start_translator(&mut self) -> Option<()> {
        if self.translator.is_none() {
            let immediate = self.policy.immediate_tables;
            let fitting = |at: u64| i32::try_from(at).ok().filter(|_| immediate);
            let tables = Tables {
                tlb: self.tlb.addresses().map(fitting),
                near: self.blocks.entries.near_addresses().map(fitting),
            };
            let functions = Functions {
                interpret: interpret as *const () as u64,
                learn: learn as *const () as u64,
            };
            match Translator::new(self.policy, functions, tables, self.alarm.is_some()) {
                Ok(t) => {
                    if self.policy.perf_map {
                        let (start, bytes) = t.stub_code();
                        perf_map::add_stubs(start, bytes);
                    }
                    self.translator = Some(Box::new(t));
                    if self.exact {
                        self.count_exactly();
                    }
                    // What stays where it is as long as the vCPU lives.
                    self.hot.entries = self.blocks.entries.address();
                    self.hot.near = self.blocks.entries.near_addresses();
                    self.hot.tables = self.tlb.addresses();
                    self.hot.requests = self.requests.futex_word().as_ptr() as u64;
                }
                Err(error) => {
                    self.policy = Policy::OFF;
                    warn_once(&error);
                    return None;
                }
            }
        }
        Some(())
    }

    /// Counts instructions one by one from now on, in translated code as well.
    pub(crate) fn count_exactly(&mut self) {
        self.exact = true;
        if let Some(translator) = &mut self.translator {
            translator.count_exactly(&mut self.blocks);
        }
    }

    /// Executes translated code. False if the block at RIP must be interpreted first.
    pub(crate) fn execute(&mut self, linear: u64, code: Code) -> Result<bool, Trap> {
        let me: *mut Self = self;
        let context = self.code_context();
        if !self.registers_fit() || !Gs::point_at(me as u64) {
            return Ok(false);
        }
        let Some(translator) = &mut self.translator else { return Ok(false) };
        let link = std::mem::take(&mut self.hot.link);
        if link != 0
            && self.hot.target == linear
            && self.hot.page == linear & !0xfff
            && self.hot.context == context
        {
            translator.link(link, code.linked(self.hot.link_forward != 0));
        }
        let stubs = translator.stubs;
        self.hot.vcpu = me as u64;
        self.hot.page = linear & !0xfff;
        self.hot.context = context;
        self.blocks.entries.enter(self.tlb.class(), context);
        self.hot.stamp = self.blocks.entries.stamps.get(context);
        self.hot.budget = self.next_check.wrapping_sub(self.retired).cast_signed();
        self.hot.flags = to_ax(self.cpu.arith.get());
        self.hot.vectors_allowed = self.vectors_allowed();
        self.counters.set_place(Place::Translated);
        // SAFETY: the code was found for this vCPU in its present context.
        let status = unsafe { stubs.enter(code.entry, me) };
        self.counters.set_place(Place::Interpreter);
        if status == left::JUMP || status == left::BUDGET {
            self.cpu.arith.set(from_ax(self.hot.flags));
            self.retired = self.next_check.wrapping_sub(self.hot.budget.cast_unsigned());
            self.hot.target = self.cpu.rip();
        }
        if status == left::TRAP {
            if let Some(payload) = self.panic.take() {
                std::panic::resume_unwind(payload);
            }
            return Err(self.trap);
        }
        // The first block may be too long for the budget.
        Ok(status != left::BUDGET || self.cpu.rip() != linear || self.requests.any())
    }

    /// Interprets the instructions of a translated block from `first` on: one that failed on its
    /// fast path, or all in a row that have none.
    fn interpret_ops(&mut self, ops: &[Op], first: usize, native: u64) -> Result<(), Trap> {
        self.block_end = ops.len();
        let mut n = first;
        add(&self.counters.slow_paths, 1);
        if native >> first & 1 != 0 && first + 1 == ops.len() {
            add(&self.counters.branch_misses, 1);
        }
        loop {
            let op = &ops[n];
            (op.handler)(self, op)?;
            self.cpu.regs[reg::RIP] = self.cpu.regs[reg::RIP].wrapping_add(u64::from(op.len));
            self.retired = self.retired.wrapping_add(1);
            self.interpreted += 1;
            n += 1;
            if n >= self.block_end || native >> (n - 1) & 1 != 0 || native >> n & 1 != 0 {
                return Ok(());
            }
        }
    }
}

/// Says once that guests will be slow, and why.
fn warn_once(error: &std::io::Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        eprintln!(
            "kvm-core: the host allows no executable memory ({error}): guests are interpreted"
        );
    });
}

/// What translated code calls for instructions that it does not have, or whose memory access is not
/// simple. Takes and yields the flags in AX form; above them why to leave, or [`GO_ON`].
extern "sysv64" fn interpret(vcpu: *mut Vcpu, site: u32, flags: u64) -> u64 {
    // SAFETY: `execute` lent the vCPU to the code, which lends it on.
    let v = unsafe { &mut *vcpu };
    let Some(translator) = &v.translator else { return left::TRAP << 16 };
    let (known, first) = translator.at_site(site);
    // SAFETY: withdrawn blocks live until no code is executing.
    let ops = unsafe { &*known.ops };
    let native = known.native;
    // Where a whole region was counted in advance the number is only about right.
    let left_over = if translator.exact() { (ops.len() - first) as u64 } else { 0 };
    v.cpu.regs[reg::RIP] = v.hot.page + known.offset(first);
    v.cpu.arith.set(from_ax(flags));
    v.retired = v.next_check.wrapping_sub(v.hot.budget.cast_unsigned()).wrapping_sub(left_over);
    debug_assert!(site >= SITES);
    v.counters.set_place(Place::Helper);
    let done = catch_unwind(AssertUnwindSafe(|| v.interpret_ops(ops, first, native)));
    let status = match done {
        Ok(Ok(())) if v.attention || v.block_end == 0 || v.requests.any() => left::DONE,
        Ok(Ok(())) if !v.registers_fit() => left::DONE,
        Ok(Ok(())) => GO_ON,
        Ok(Err(trap)) => {
            v.trap = trap;
            left::TRAP
        }
        Err(payload) => {
            v.panic = Some(payload);
            left::TRAP
        }
    };
    let context = v.code_context();
    if context != v.hot.context {
        v.hot.context = context;
        v.blocks.entries.enter(v.tlb.class(), context);
    }
    v.hot.stamp = v.blocks.entries.stamps.get(context);
    v.hot.vectors_allowed = v.vectors_allowed();
    v.counters.set_place(Place::Translated);
    status << 16 | to_ax(v.cpu.arith.get())
}

/// What translated code calls where a jump with this number goes to a linear address and may know it the next
/// time.
extern "sysv64" fn learn(vcpu: *mut Vcpu, number: u32, rip: u64) {
    // SAFETY: `execute` lent the vCPU to the code, which lends it on.
    let v = unsafe { &mut *vcpu };
    v.hot.sample = i32::from(v.policy.learn_after);
    let Some(translator) = &mut v.translator else { return };
    if let Some(code) = v.blocks.entries.find(rip, v.hot.context)
        && v.hot.stamp != NEVER
    {
        v.blocks.entries.stamps.note(rip);
        translator.learn(number, rip, v.hot.stamp, code);
    }
}
