//! The engine by itself, below the VM layer. Skipped with a word where the CPU has no
//! virtualization or the process no access to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kvm_abi::exit::{Exit, reason, run};
use kvm_abi::regs::Regs;
use kvm_abi::{Clock, Errno, cap};
use kvm_cpu::engine::{KernelBus, VcpuEngine, VcpuRequests, VmContext, VmEngine, request};
use kvm_cpu::kernel::KernelVm;
use kvm_engine_host::HostEngine;
use kvm_memory::{Backing, GuestMemory, GuestRam};

const CODE: u64 = 0x6000;

/// Takes writes to port 0x80 and answers reads of port 0x81.
#[derive(Default)]
struct Bus(AtomicU32);

impl KernelBus for Bus {
    fn pio_read(&self, _: u32, port: u16, _: u8) -> Option<u32> {
        (port == 0x81).then_some(0x5a)
    }
    fn pio_write(&self, _: u32, port: u16, _: u8, value: u32) -> bool {
        if port == 0x80 {
            self.0.fetch_add(value, Ordering::SeqCst);
        }
        port == 0x80
    }
    fn mmio_read(&self, _: u32, _: u64, data: &mut [u8]) -> bool {
        data.fill(0x77);
        true
    }
    fn mmio_write(&self, _: u32, _: u64, _: &[u8]) -> bool {
        false
    }
}

struct Zero;

impl Clock for Zero {
    fn now_ns(&self) -> u64 {
        0
    }
    fn wall_ns(&self) -> u64 {
        0
    }
}

fn host() -> Option<Arc<HostEngine>> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or("");
    if !flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        println!("skipped: the CPU has neither vmx nor svm");
        return None;
    }
    HostEngine::open(None).map_err(|error| println!("skipped: {error}")).ok()
}

struct Machine {
    kernel: Arc<dyn KernelVm>,
    vcpu: Box<dyn VcpuEngine>,
    requests: Arc<VcpuRequests>,
    bus: Arc<Bus>,
    memory: Arc<GuestMemory>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.memory.set_user_memory_region(0, 0, 0, 0, None, 0).unwrap();
    }
}

fn machine(engine: &Arc<HostEngine>, irqchip: bool, code: &[u8]) -> Machine {
    let engine = engine.another();
    let kernel = engine.create_kernel_vm().unwrap().unwrap();
    assert!(engine.create_kernel_vm().is_err(), "one VM for each engine");
    if irqchip {
        kernel.create_irqchip().unwrap();
    }
    let memory = GuestMemory::new();
    memory.set_keeper(Some(kernel.slots()));
    let ram = GuestRam::new(1 << 20, Backing::Anon).unwrap();
    memory.set_user_memory_region(0, 0, 0x8_0000, 0, Some(ram), 0).unwrap();
    memory.write(CODE, code).unwrap();
    let bus = Arc::new(Bus::default());
    let context = VmContext {
        memory: memory.clone(),
        bus: bus.clone(),
        irqchip: None,
        clock: Arc::new(Zero),
    };
    let requests = Arc::new(VcpuRequests::default());
    let mut vcpu = engine.create_vcpu(0, context, requests.clone()).unwrap();
    let mut sregs = vcpu.sregs();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs).unwrap();
    vcpu.set_regs(&Regs { rip: CODE, rsp: 0x5000, rflags: 2, ..Regs::default() }).unwrap();
    Machine { kernel, vcpu, requests, bus, memory }
}

#[test]
fn a_device_that_is_no_kvm_is_refused() {
    assert_eq!(HostEngine::open(Some("/nonexistent")).unwrap_err().errno, Errno::ENOENT);
    let error = HostEngine::open(Some("/dev/null")).unwrap_err();
    assert_eq!(error.errno, Errno::EOPNOTSUPP);
    assert!(error.reason.contains("engine 'soft'"), "{error}");
}

#[test]
fn accesses_that_the_bus_takes_do_not_leave() {
    let Some(engine) = host() else { return };
    #[rustfmt::skip]
    let code = [
        0xb0, 0x05, 0xe6, 0x80, 0xe6, 0x80, // mov al, 5; out 0x80, al, twice
        0xe4, 0x81,                         // in al, 0x81
        0x8a, 0x26, 0x00, 0x00,             // mov ah, [0]
        0xb9, 0x00, 0xd0, 0x8e, 0xd9,       // mov ds, 0xd000
        0x8a, 0x1e, 0x00, 0x00,             // mov bl, [0]
        0xe6, 0x10, 0xf4,                   // out 0x10, al; hlt
    ];
    let mut m = machine(&engine, false, &code);
    assert_eq!(m.vcpu.run(), Exit::Described(reason::IO));
    assert!(m.vcpu.io_pending());
    assert_eq!(m.bus.0.load(Ordering::SeqCst), 10);
    let regs = m.vcpu.regs();
    assert_eq!((regs.rax & 0xff, regs.rbx & 0xff), (0x5a, 0x77));
    m.requests.raise(request::EXIT);
    assert_eq!(m.vcpu.run(), Exit::Described(reason::INTR));
    assert!(!m.vcpu.io_pending());
    assert_eq!(m.vcpu.run(), Exit::Described(reason::HLT));
    assert!(m.vcpu.run_mapping().is_some_and(|(_, len)| len > run::SIZEOF));
    assert_eq!(m.vcpu.stop_at_instruction(Some(1)).unwrap_err().errno, Errno::EOPNOTSUPP);
}

#[test]
fn requests_interrupt_a_guest_that_never_exits() {
    let Some(engine) = host() else { return };
    let mut m = machine(&engine, true, &[0xeb, 0xfe]);
    for _ in 0..200 {
        let requests = m.requests.clone();
        let kicker = std::thread::spawn(move || requests.raise(request::EXIT));
        assert_eq!(m.vcpu.run(), Exit::Described(reason::INTR));
        kicker.join().unwrap();
    }
    // A halted guest too.
    m.memory.write(CODE, &[0xf4, 0xeb, 0xfd]).unwrap();
    m.vcpu.set_regs(&Regs { rip: CODE, rflags: 2, ..Regs::default() }).unwrap();
    let requests = m.requests.clone();
    let start = Instant::now();
    let kicker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        requests.raise(request::EXIT);
    });
    assert_eq!(m.vcpu.run(), Exit::Described(reason::INTR));
    assert!(start.elapsed() >= Duration::from_millis(25));
    kicker.join().unwrap();
    assert_eq!(m.vcpu.interrupt(0x20).unwrap_err().errno, Errno::ENXIO);
}

#[test]
fn the_kernel_answers_for_its_chips() {
    let Some(engine) = host() else { return };
    let m = machine(&engine, true, &[0xf4]);
    assert!(m.kernel.has_irqchip());
    assert_eq!(m.kernel.create_irqchip().unwrap_err().errno, Errno::EEXIST);
    assert!(m.kernel.pit_state().is_err(), "there is no PIT");
    assert_eq!(m.kernel.remove_irqfd(0, 1).unwrap_err().errno, Errno::EINVAL);
    assert_eq!(engine.check_extension(cap::IRQCHIP), Some(1));
    assert_eq!(engine.check_extension(cap::X86_SMM), Some(0));
    assert!(!engine.supported_cpuid().is_empty());
    let msrs = engine.msr_index_list();
    assert!(msrs.contains(&0x10) && msrs.contains(&0xc000_0082));
}
