//! The run loop: blocks, boundaries between them, events, exits.

use std::sync::atomic::{AtomicU64, Ordering};

use kvm_abi::exit::{Exit, INTERNAL_ERROR_EMULATION};
use kvm_abi::regs::{MpState, guestdbg};
use kvm_cpu::engine::request;
use kvm_cpu::exception::{self, Event};
use kvm_cpu::{Trap, Vector, flags, reg};

use crate::block::{Block, MAX_OPS};
use crate::ops::system::DR6_BS;
use crate::vcpu::Vcpu;

/// `KVM_INTERNAL_ERROR_DELIVERY_EV`.
const INTERNAL_ERROR_DELIVERY: u32 = 3;

impl Vcpu {
    /// Runs the guest until an exit.
    pub(crate) fn run_guest(&mut self) -> Exit {
        let _inside = self.member_enter();
        // Time passed while somebody answered the last exit.
        self.next_clock = self.retired;
        let exit = self.run_inside();
        self.publish();
        exit
    }

    fn run_inside(&mut self) -> Exit {
        if self.io.unfinished() {
            // Writes need no answer; a read without one was answered with ones by the caller.
            self.io.complete(None);
            if self.must_step() {
                if let Some(exit) = self.step_again() {
                    return exit;
                }
            } else if let Err(trap) = self.step()
                && let Some(exit) = self.after_trap(trap)
            {
                return exit;
            }
        }
        self.attention = true;
        loop {
            // Most faults leave nothing to look around for.
            if (self.attention || self.retired >= self.next_check || self.requests.any())
                && let Some(exit) = self.boundary()
            {
                return exit;
            }
            if let Err(trap) = self.run_blocks()
                && let Some(exit) = self.after_trap(trap)
            {
                return exit;
            }
        }
    }

    /// The hot loop: block after block until something needs a look around.
    fn run_blocks(&mut self) -> Result<(), Trap> {
        // Code that runs for the first times leads to code that is not translated either, mostly.
        let mut looks_first = true;
        while !self.attention && self.retired < self.next_check && !self.requests.any() {
            if self.near_code_limit() {
                self.attention = true;
                return Ok(());
            }
            let linear = self.linear_rip();
            if looks_first
                && let Some(code) = self.known_code(linear)
                && self.execute(linear, code)?
            {
                continue;
            }
            let block = self.block_at(linear)?;
            // SAFETY: in the cache just now.
            let (translated, due) =
                unsafe { ((*block).translated() != 0, (*block).heats_to(self.policy.threshold)) };
            if translated
                && !looks_first
                && let Some(code) = self.known_code(linear)
                && self.execute(linear, code)?
            {
                looks_first = true;
                continue;
            }
            if (translated || due)
                && let Some(code) = self.code_of(linear, block)
                && self.execute(linear, code)?
            {
                looks_first = true;
                continue;
            }
            looks_first = false;
            // SAFETY: the cache keeps withdrawn blocks alive until `bury`, which is only called
            // between blocks.
            let ops = unsafe { Block::ops(block) };
            self.block_end = ops.len();
            let mut n = 0;
            while n < self.block_end {
                let op = &ops[n];
                if let Err(trap) = (op.handler)(self, op) {
                    self.retired = self.retired.wrapping_add(n as u64);
                    self.interpreted += n as u64;
                    return Err(trap);
                }
                self.cpu.regs[reg::RIP] = self.cpu.regs[reg::RIP].wrapping_add(u64::from(op.len));
                n += 1;
            }
            self.retired = self.retired.wrapping_add(n as u64);
            self.interpreted += n as u64;
        }
        Ok(())
    }

    /// Executes one instruction alone, with device accesses allowed.
    pub(crate) fn step(&mut self) -> Result<(), Trap> {
        self.io.begin();
        let result = self.step_inner();
        match result {
            Err(Trap::Exit) if self.io.pending() => {}
            _ => self.io.commit(),
        }
        self.io.end();
        result
    }

    fn step_inner(&mut self) -> Result<(), Trap> {
        let linear = self.linear_rip();
        let block = self.block_at(linear)?;
        // SAFETY: as in `run_blocks`. No block is empty.
        let op = unsafe { &Block::ops(block)[0] };
        self.check_code_end(op.len)?;
        self.block_end = 1;
        (op.handler)(self, op)?;
        self.cpu.regs[reg::RIP] = self.cpu.regs[reg::RIP].wrapping_add(u64::from(op.len));
        self.retired = self.retired.wrapping_add(1);
        self.interpreted += 1;
        Ok(())
    }

    /// Handles what stopped an instruction. An exit if the caller must act.
    fn after_trap(&mut self, trap: Trap) -> Option<Exit> {
        let mut trap = trap;
        loop {
            match trap {
                Trap::Exit => {
                    if let Some(exit) = self.io.exit() {
                        return Some(exit);
                    }
                    if let Some(exit) = self.exit.take() {
                        return Some(exit);
                    }
                    // A device access on the fast path: once more, carefully.
                    match self.step() {
                        Ok(()) => return None,
                        Err(Trap::Exit) if !self.io.pending() && self.exit.is_none() => {
                            return Some(self.internal_error(INTERNAL_ERROR_EMULATION));
                        }
                        Err(next) => trap = next,
                    }
                }
                Trap::Shutdown => return Some(Exit::Shutdown),
                Trap::Fault => {
                    let fault = self.last_fault();
                    if let Some(exit) = self.debugger_takes(fault.vector, fault.address) {
                        return Some(exit);
                    }
                    return match exception::deliver(self, Event::Fault(fault)) {
                        Ok(()) => None,
                        Err(Trap::Exit) => Some(self.internal_error(INTERNAL_ERROR_DELIVERY)),
                        Err(_) => Some(Exit::Shutdown),
                    };
                }
            }
        }
    }

    pub(crate) fn internal_error(&mut self, suberror: u32) -> Exit {
        let mut data = vec![self.cpu.rip(), self.linear_rip(), u64::from(self.cpu.cpl)];
        let linear = self.linear_rip();
        if let Ok(gpa) = self.translate_fetch(linear) {
            data.push(gpa);
            data.push(self.ram_read(gpa & !7, 8).unwrap_or(0));
        }
        Exit::InternalError { suberror, data }
    }

    /// Exceptions that a debugger asked to see go out instead of into the guest.
    fn debugger_takes(&mut self, vector: Vector, dr6: u64) -> Option<Exit> {
        let control = self.cpu.guest_debug.control;
        if control & guestdbg::ENABLE == 0 {
            return None;
        }
        let wanted = match vector {
            Vector::Db => control & (guestdbg::SINGLESTEP | guestdbg::USE_HW_BP) != 0,
            Vector::Bp => control & guestdbg::USE_SW_BP != 0,
            _ => false,
        };
        wanted.then(|| Exit::Debug {
            exception: vector as u32,
            pc: self.linear_rip(),
            dr6,
            dr7: self.cpu.dr[7],
        })
    }

    /// Lets others read what was counted.
    fn publish(&self) {
        let set = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        set(&self.counters.decoded_blocks, self.blocks.decoded);
        set(&self.counters.evicted_blocks, self.blocks.evicted);
        set(&self.counters.invalidated_blocks, self.blocks.invalidated);
        set(&self.counters.interpreted, self.interpreted);
    }

    /// Looks around between blocks: requests, timers, events, single-stepping. An exit if the
    /// caller must act.
    fn boundary(&mut self) -> Option<Exit> {
        self.blocks.bury();
        self.publish();
        loop {
            self.attention = false;
            if let Some(exit) = self.exit.take() {
                return Some(exit);
            }
            let wanted = self.requests.take();
            if wanted != 0
                && let Some(exit) = self.serve_requests(wanted)
            {
                return Some(exit);
            }
            if self.cpu.mp_state != MpState::Runnable && !self.wake_up() {
                self.give_code_back();
                return Some(Exit::Hlt);
            }
            // Whoever leaves the code often must not pay for the time each time.
            if wanted != 0 || self.retired >= self.next_clock {
                self.next_clock = self.poll_clock();
            }
            if self.stop_at == Some(self.retired) {
                self.stop_at = None;
                return Some(Exit::CountReached);
            }
            if let Some(exit) = self.take_debug_trap() {
                return Some(exit);
            }
            match self.deliver_events() {
                Ok(()) => {}
                Err(Trap::Exit) => return Some(self.internal_error(INTERNAL_ERROR_DELIVERY)),
                Err(_) => return Some(Exit::Shutdown),
            }
            if self.interrupt_window && self.ready_for_interrupt() {
                self.interrupt_window = false;
                return Some(Exit::IrqWindowOpen);
            }
            // RF only keeps instruction breakpoints away from the next instruction. Where there are
            // none it need not be taken alone, which a repeated one would pay for at every element.
            if !self.breakpoints {
                self.cpu.rflags &= !flags::RF;
            }
            if !self.must_step() {
                self.hot.waiting = self.waits_for_interrupts();
                self.next_check = self.next_clock;
                if let Some(stop) = self.stop_at {
                    self.next_check = self.next_check.min(stop.saturating_sub(MAX_OPS as u64));
                }
                if self.exit.is_some() {
                    continue;
                }
                self.set_alarm();
                return None;
            }
            let exit = self.step_one();
            if std::mem::take(&mut self.starting) {
                self.requests.starting.store(false, Ordering::SeqCst);
            }
            if exit.is_some() {
                return exit;
            }
        }
    }

    /// True while instructions must run one at a time.
    pub(crate) fn must_step(&self) -> bool {
        let e = &self.cpu.events;
        self.starting
            || e.sti_shadow
            || e.mov_ss_shadow
            || self.cpu.rflags & (flags::TF | flags::RF) != 0
            || e.debug_trap != 0
            || self.breakpoints
            || self.near_code_limit()
            || self.cpu.guest_debug.control & guestdbg::SINGLESTEP != 0
            || self.stop_at.is_some_and(|stop| stop - self.retired.min(stop) <= MAX_OPS as u64)
    }

    /// One instruction with its shadows, breakpoints and traps.
    fn step_one(&mut self) -> Option<Exit> {
        // On AMD a load of SS puts off traps only, on Intel instruction breakpoints too.
        if self.breakpoints && (self.cpu.caps.amd || !self.cpu.events.mov_ss_shadow) {
            let linear = self.linear_rip();
            let hits = self.cpu.instruction_hits(linear);
            if hits != 0 {
                // With what a load of SS put off it is one exception.
                let put_off = std::mem::take(&mut self.cpu.events.debug_trap);
                self.cpu.raise(Vector::Db, 0);
                self.cpu.fault.address = hits | put_off;
                return self.after_trap(Trap::Fault);
            }
        }
        self.step_again()
    }

    /// [`step_one`](Self::step_one) past the instruction breakpoints: also an instruction that
    /// waited for a device runs again under its shadows and traps after its end.
    fn step_again(&mut self) -> Option<Exit> {
        let (sti, mov_ss) = (self.cpu.events.sti_shadow, self.cpu.events.mov_ss_shadow);
        let trap_flag = self.cpu.rflags & flags::TF != 0;
        let resume = self.cpu.rflags & flags::RF != 0;
        self.cpu.events.sti_shadow = false;
        self.cpu.events.mov_ss_shadow = false;
        let before = self.retired;
        if trap_flag {
            self.cpu.events.debug_trap |= DR6_BS;
        }
        if let Err(trap) = self.step() {
            // A fault comes instead of the traps; what waits for a device starts over.
            self.cpu.events.debug_trap = 0;
            // An instruction that waits for a device stays in the shadow it was in.
            if self.io.pending() {
                self.cpu.events.sti_shadow |= sti;
                self.cpu.events.mov_ss_shadow |= mov_ss;
            }
            return self.after_trap(trap);
        }
        // RF covers one whole instruction: a repeated one keeps it until its end.
        if resume && self.retired != before {
            self.cpu.rflags &= !flags::RF;
        }
        if self.cpu.events.mov_ss_shadow {
            // Loading SS loses the single step, while a data breakpoint is only put off.
            self.cpu.events.debug_trap &= !DR6_BS;
        }
        if let Some(exit) = self.take_debug_trap() {
            return Some(exit);
        }
        if self.cpu.guest_debug.control & (guestdbg::ENABLE | guestdbg::SINGLESTEP)
            == guestdbg::ENABLE | guestdbg::SINGLESTEP
        {
            return Some(Exit::Debug {
                exception: Vector::Db as u32,
                pc: self.linear_rip(),
                dr6: 1 << 14,
                dr7: self.cpu.dr[7],
            });
        }
        None
    }

    /// Delivers the traps of the last instruction, unless a load of SS puts them off: RIP already
    /// names the next instruction and RF is pushed as zero.
    fn take_debug_trap(&mut self) -> Option<Exit> {
        if self.cpu.events.debug_trap == 0 || self.cpu.events.mov_ss_shadow {
            return None;
        }
        let dr6 = std::mem::take(&mut self.cpu.events.debug_trap);
        if self.cpu.mp_state == MpState::Halted {
            // The trap after HLT ends it.
            self.cpu.mp_state = MpState::Runnable;
        }
        self.cpu.raise(Vector::Db, 0);
        self.cpu.fault.address = dr6;
        let fault = self.last_fault();
        if let Some(exit) = self.debugger_takes(fault.vector, fault.address) {
            return Some(exit);
        }
        match exception::deliver(self, Event::Fault(fault)) {
            Ok(()) => None,
            Err(Trap::Exit) => Some(self.internal_error(INTERNAL_ERROR_DELIVERY)),
            Err(_) => Some(Exit::Shutdown),
        }
    }

    pub(crate) fn serve_requests(&mut self, wanted: u32) -> Option<Exit> {
        if wanted & request::MEMORY != 0 {
            self.notice_memory();
        }
        // INTERRUPT needs nothing more: every boundary looks at timers and interrupts.
        let nmis = (wanted & (request::NMI | request::NMI_AGAIN)).count_ones();
        if nmis != 0 {
            self.cpu.events.add_nmis(nmis as u8);
        }
        if wanted & request::SMI != 0 {
            self.cpu.events.smi_pending = true;
        }
        if wanted & request::UNHALT != 0 {
            self.unhalted = true;
        }
        if wanted & request::INIT != 0 {
            self.take_init();
        }
        if wanted & request::SIPI != 0 {
            self.take_sipi();
        }
        (wanted & request::EXIT != 0).then_some(Exit::Intr)
    }
}
