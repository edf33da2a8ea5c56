//! An engine that plays a script, so that the VM layer is tested without a CPU.
#![allow(dead_code, reason = "not every test file uses every step")]

pub mod guests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvm_abi::KvmError;
use kvm_abi::cpuid::CpuidEntry;
use kvm_abi::exit::Exit;
use kvm_abi::regs::{DebugRegs, GuestDebug, MpState, Regs, Sregs, VcpuEvents};
use kvm_cpu::engine::{VcpuEngine, VcpuRequests, VmContext, VmEngine, request};

/// What the next entry does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Leaves the guest.
    Exit(Exit),
    /// Stays in the guest until a request to leave.
    Spin,
    /// Stays halted until an interrupt request.
    Halt,
    /// Writes to a port; leaves if nobody in the kernel takes it.
    Out(u16, u32),
    /// Reads a port; leaves if nobody in the kernel answers, and notes the answer.
    In(u16),
    /// Panics.
    Panic,
}

/// What the script's reads were answered with, and how entries went.
#[derive(Debug, Default)]
pub struct Log {
    pub answers: Vec<u64>,
}

/// Makes vCPUs that play `steps`, then spin.
#[derive(Default)]
pub struct Script {
    pub steps: Mutex<Vec<Step>>,
    pub log: Arc<Mutex<Log>>,
}

impl Script {
    pub fn new(steps: &[Step]) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.to_vec()), log: Arc::default() })
    }

    pub fn answers(&self) -> Vec<u64> {
        self.log.lock().unwrap().answers.clone()
    }
}

struct Player {
    id: u32,
    steps: VecDeque<Step>,
    log: Arc<Mutex<Log>>,
    context: VmContext,
    requests: Arc<VcpuRequests>,
    waiting: Option<Waiting>,
    regs: Regs,
    sregs: Sregs,
}

#[derive(PartialEq)]
enum Waiting {
    Read,
    Write,
}

impl VmEngine for Script {
    fn create_vcpu(
        &self,
        id: u32,
        context: VmContext,
        requests: Arc<VcpuRequests>,
    ) -> Result<Box<dyn VcpuEngine>, KvmError> {
        Ok(Box::new(Player {
            id,
            steps: self.steps.lock().unwrap().clone().into(),
            log: self.log.clone(),
            context,
            requests,
            waiting: None,
            regs: Regs::default(),
            sregs: Sregs::default(),
        }))
    }
    fn supported_cpuid(&self) -> Vec<CpuidEntry> {
        Vec::new()
    }
    fn cpuid_for_model(&self, _: &str, _: &[(String, bool)]) -> Result<Vec<CpuidEntry>, KvmError> {
        Ok(Vec::new())
    }
    fn cpu_models(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn cpu_features(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn msr_index_list(&self) -> Vec<u32> {
        Vec::new()
    }
}

pub fn io(write: bool, port: u16, value: u32) -> Exit {
    Exit::Io { write, port, size: 1, value }
}

impl VcpuEngine for Player {
    fn run(&mut self) -> Exit {
        self.waiting = None;
        loop {
            if self.requests.take() & request::EXIT != 0 {
                return Exit::Intr;
            }
            let exit = match self.steps.pop_front() {
                None | Some(Step::Spin) => {
                    self.steps.push_front(Step::Spin);
                    std::thread::yield_now();
                    continue;
                }
                Some(Step::Halt) => Exit::Hlt,
                Some(Step::Panic) => panic!("the script says so"),
                Some(Step::Exit(exit)) => exit,
                Some(Step::Out(port, value)) => {
                    if self.context.bus.pio_write(self.id, port, 1, value) {
                        continue;
                    }
                    io(true, port, value)
                }
                Some(Step::In(port)) => match self.context.bus.pio_read(self.id, port, 1) {
                    Some(value) => {
                        self.log.lock().unwrap().answers.push(u64::from(value));
                        continue;
                    }
                    None => io(false, port, 0),
                },
            };
            self.waiting = match &exit {
                Exit::Io { write, .. } | Exit::Mmio { write, .. } => {
                    Some(if *write { Waiting::Write } else { Waiting::Read })
                }
                _ => None,
            };
            return exit;
        }
    }
    fn complete_read(&mut self, data: &[u8]) {
        assert!(self.waiting == Some(Waiting::Read), "nothing was read");
        self.waiting = Some(Waiting::Write);
        let value = data.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        self.log.lock().unwrap().answers.push(value);
    }
    fn io_pending(&self) -> bool {
        self.waiting.is_some()
    }
    fn regs(&mut self) -> Regs {
        self.regs
    }
    fn set_regs(&mut self, regs: &Regs) -> Result<(), KvmError> {
        self.regs = *regs;
        Ok(())
    }
    fn sregs(&mut self) -> Sregs {
        self.sregs
    }
    fn set_sregs(&mut self, sregs: &Sregs) -> Result<(), KvmError> {
        self.sregs = *sregs;
        Ok(())
    }
    fn xsave(&mut self) -> Vec<u8> {
        vec![0; 832]
    }
    fn set_xsave(&mut self, _: &[u8]) -> Result<(), KvmError> {
        Ok(())
    }
    fn xcr0(&mut self) -> u64 {
        1
    }
    fn set_xcr0(&mut self, _: u64) -> Result<(), KvmError> {
        Ok(())
    }
    fn vcpu_events(&mut self) -> VcpuEvents {
        VcpuEvents::default()
    }
    fn set_vcpu_events(&mut self, _: &VcpuEvents) -> Result<(), KvmError> {
        Ok(())
    }
    fn debugregs(&mut self) -> DebugRegs {
        DebugRegs::default()
    }
    fn set_debugregs(&mut self, _: &DebugRegs) -> Result<(), KvmError> {
        Ok(())
    }
    fn set_guest_debug(&mut self, _: &GuestDebug) -> Result<(), KvmError> {
        Ok(())
    }
    fn msr(&mut self, index: u32) -> Result<u64, KvmError> {
        Err(KvmError::invalid(format!("no MSR {index:#x}")))
    }
    fn set_msr(&mut self, index: u32, _: u64) -> Result<(), KvmError> {
        Err(KvmError::invalid(format!("no MSR {index:#x}")))
    }
    fn set_cpuid(&mut self, _: &[CpuidEntry]) -> Result<(), KvmError> {
        Ok(())
    }
    fn cpuid(&mut self) -> Vec<CpuidEntry> {
        Vec::new()
    }
    fn mp_state(&mut self) -> MpState {
        MpState::Runnable
    }
    fn set_mp_state(&mut self, _: MpState) -> Result<(), KvmError> {
        Ok(())
    }
    fn interrupt(&mut self, _: u8) -> Result<(), KvmError> {
        Ok(())
    }
    fn nmi(&mut self) {}
    fn tsc_khz(&mut self) -> u32 {
        1_000_000
    }
    fn set_tsc_khz(&mut self, _: u32) -> Result<(), KvmError> {
        Ok(())
    }
    fn translate(&mut self, gva: u64) -> Option<u64> {
        Some(gva)
    }
    fn interrupt_window(&self) -> (bool, bool) {
        (true, true)
    }
    fn request_interrupt_window(&mut self, _: bool) {}
    fn instructions(&self) -> u64 {
        0
    }
    fn stop_at_instruction(&mut self, _: Option<u64>) -> Result<(), KvmError> {
        Ok(())
    }
}

/// Waits for `what`, at most five seconds.
pub fn eventually(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(5), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
