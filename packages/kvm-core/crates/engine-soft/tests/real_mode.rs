//! Small guests in real mode: debug traps at the boundaries of instructions, noted by a #DB handler,
//! and the window of the local APIC.

use std::sync::Arc;

use kvm_abi::Clock;
use kvm_abi::exit::Exit;
use kvm_abi::regs::{Regs, Segment};
use kvm_cpu::engine::{KernelBus, VcpuEngine, VcpuRequests, VmContext, VmEngine};
use kvm_engine_soft::SoftEngine;
use kvm_irqchip::{Irqchip, VcpuWaker, Wake};
use kvm_memory::{Backing, GuestMemory, GuestRam};

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
    fn wall_ns(&self) -> u64 {
        0
    }
}

struct NoDevices;

impl KernelBus for NoDevices {
    fn pio_read(&self, _: u32, _: u16, _: u8) -> Option<u32> {
        None
    }
    fn pio_write(&self, _: u32, _: u16, _: u8, _: u32) -> bool {
        false
    }
    fn mmio_read(&self, _: u32, _: u64, _: &mut [u8]) -> bool {
        false
    }
    fn mmio_write(&self, _: u32, _: u64, _: &[u8]) -> bool {
        false
    }
}

impl VcpuWaker for NoDevices {
    fn wake(&self, _: Wake) {}
}

const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x2000;
/// The handler's notes: return addresses, relative to `CODE`.
const NOTES: u64 = 0x3000;
const DONE: u16 = 0xf4;
/// RFLAGS with TF.
const TF: u64 = 0x102;

struct Guest {
    vcpu: Box<dyn VcpuEngine>,
    memory: Arc<GuestMemory>,
}

impl Guest {
    /// A guest about to run `code` followed by a write to port `DONE`, with these flags.
    fn new(code: &[u8], rflags: u64) -> Self {
        let memory = GuestMemory::new();
        let ram = GuestRam::new(0x10000, Backing::Anon).unwrap();
        memory.set_user_memory_region(0, 0, 0x10000, 0, Some(ram), 0).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Still);
        let irqchip = Irqchip::new(Arc::clone(&clock));
        irqchip.add_vcpu(0, Arc::new(NoDevices)).unwrap();
        let context = VmContext {
            memory: Arc::clone(&memory),
            bus: Arc::new(NoDevices),
            irqchip: Some(irqchip),
            clock,
        };
        let engine = SoftEngine::new();
        let mut vcpu = engine.create_vcpu(0, context, Arc::new(VcpuRequests::default())).unwrap();
        vcpu.set_cpuid(&engine.cpuid_for_model("qemu64", &[]).unwrap()).unwrap();
        memory.write(CODE, code).unwrap();
        // out 0xf4, al
        memory.write(CODE + code.len() as u64, &[0xe6, 0xf4]).unwrap();
        let handler = [
            0x89, 0xe5, 0x8b, 0x5e, 0x00, // mov bp, sp; mov bx, [bp]
            0x89, 0x1d, 0x83, 0xc7, 0x02, // mov [di], bx; add di, 2
            0x66, 0x31, 0xdb, 0x0f, 0x23, 0xfb, // xor ebx, ebx; mov dr7, ebx
            0xcf, // iret
        ];
        memory.write(HANDLER, &handler).unwrap();
        memory.write(4, &[0x00, 0x20, 0, 0]).unwrap();
        let mut sregs = vcpu.sregs();
        let flat = |s: Segment| Segment { base: 0, selector: 0, limit: u32::MAX, ..s };
        (sregs.cs, sregs.ds, sregs.ss) = (flat(sregs.cs), flat(sregs.ds), flat(sregs.ss));
        vcpu.set_sregs(&sregs).unwrap();
        let regs = Regs { rip: CODE, rsp: 0x8000, rdi: NOTES, rflags, ..Regs::default() };
        vcpu.set_regs(&regs).unwrap();
        Self { vcpu, memory }
    }

    /// Runs to the end; where the handler was called.
    fn run(&mut self) -> Vec<u64> {
        for _ in 0..100 {
            match self.vcpu.run() {
                Exit::Io { write: true, port: DONE, .. } => {
                    let count = (self.vcpu.regs().rdi - NOTES) / 2;
                    let note = |n| {
                        let mut word = [0; 2];
                        self.memory.read(NOTES + n * 2, &mut word).unwrap();
                        u64::from(u16::from_le_bytes(word)) - CODE
                    };
                    return (0..count).map(note).collect();
                }
                Exit::Io { write: false, size, .. } => {
                    self.vcpu.complete_read(&[0x5a; 4][..usize::from(size)]);
                }
                Exit::Io { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("no end");
    }
}

#[test]
fn an_instruction_that_waited_for_a_device_traps_after_its_end() {
    // nop; in al, 0x60; out 0x61, al; nop
    assert_eq!(Guest::new(&[0x90, 0xe4, 0x60, 0xe6, 0x61, 0x90], TF).run(), [1, 3, 5, 6]);
}

#[test]
fn a_trap_ends_hlt() {
    // hlt; nop
    assert_eq!(Guest::new(&[0xf4, 0x90], TF).run(), [1, 2]);
}

#[test]
fn a_breakpoint_on_the_operand_of_a_load_of_ss_waits_for_the_next_instruction() {
    // mov ss, [0x4000]; nop; nop
    let load = [0x8e, 0x16, 0x00, 0x40, 0x90, 0x90];
    // mov ss, [0x4000]; int 1: its own call, and the breakpoint at the handler's first instruction.
    let int = [0x8e, 0x16, 0x00, 0x40, 0xcd, 0x01];
    // mov ss, [0x4000]; int1: one #DB for both.
    let icebp = [0x8e, 0x16, 0x00, 0x40, 0xf1];
    for (code, notes) in
        [(&load[..], vec![5]), (&int[..], vec![HANDLER - CODE, 6]), (&icebp[..], vec![5])]
    {
        let mut guest = Guest::new(code, 2);
        let mut debug = guest.vcpu.debugregs();
        // DR0: reads and writes of two bytes.
        (debug.db[0], debug.dr7) = (0x4000, 0x7_0402);
        guest.vcpu.set_debugregs(&debug).unwrap();
        assert_eq!(guest.run(), notes);
    }
}

#[test]
fn a_load_of_ss_hides_a_breakpoint_on_the_next_instruction_on_intel_only() {
    // mov ax, ss; mov ss, ax; inc cx; nop
    let code = [0x8c, 0xd0, 0x8e, 0xd0, 0x41, 0x90];
    for (vendor, notes) in [(b"AuthenticAMD", vec![4]), (b"GenuineIntel", vec![])] {
        let mut guest = Guest::new(&code, 2);
        let mut cpuid = guest.vcpu.cpuid();
        let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().unwrap());
        for leaf in cpuid.iter_mut().filter(|e| e.function == 0) {
            (leaf.ebx, leaf.edx, leaf.ecx) = (word(0), word(4), word(8));
        }
        guest.vcpu.set_cpuid(&cpuid).unwrap();
        let mut debug = guest.vcpu.debugregs();
        (debug.db[0], debug.dr7) = (CODE + 4, 0x402);
        guest.vcpu.set_debugregs(&debug).unwrap();
        assert_eq!(guest.run(), notes, "{}", String::from_utf8_lossy(vendor));
    }
}

#[test]
fn loading_ss_puts_the_trap_off() {
    // mov ax, ss; mov ss, ax; nop; nop
    assert_eq!(Guest::new(&[0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0x90], TF).run(), [2, 5, 6]);
}

#[test]
fn the_apic_window_moves_with_its_base() {
    let code = [
        0x66, 0xb9, 0x1b, 0, 0, 0, // mov ecx, 0x1b
        0x66, 0xb8, 0x00, 0x09, 0xd4, 0xfe, // mov eax, 0xfed40900
        0x66, 0x31, 0xd2, // xor edx, edx
        0x0f, 0x30, // wrmsr
        0x67, 0x66, 0x8b, 0x1d, 0x30, 0x00, 0xd4, 0xfe, // mov ebx, [0xfed40030]
    ];
    let mut guest = Guest::new(&code, 2);
    assert!(guest.run().is_empty());
    // The version register.
    assert_eq!(guest.vcpu.regs().rbx & 0xff, 0x14);
}
