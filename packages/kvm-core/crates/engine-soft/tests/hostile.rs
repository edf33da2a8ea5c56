//! What a guest or a caller that means harm tries: each of these once reached further than it may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use kvm_abi::Clock;
use kvm_abi::exit::Exit;
use kvm_abi::regs::{Dtable, Regs, Segment, Sregs};
use kvm_cpu::engine::{KernelBus, VcpuEngine, VcpuRequests, VmContext, VmEngine};
use kvm_engine_soft::{HostEntropy, SoftEngine};
use kvm_irqchip::{Irqchip, VcpuWaker, Wake};
use kvm_memory::{Backing, GuestMemory, GuestRam};

#[allow(dead_code)]
#[path = "support/alarm.rs"]
mod alarm;
#[path = "support/policy.rs"]
mod policy;

use policy::policy;

const RAM: u64 = 6 << 20;
const PML4: u64 = 0x1000;
const GDT: u64 = 0x4000;
const HANDLERS: u64 = 0x5000;
const CODE: u64 = 0x6000;
const IDT: u64 = 0x8000;
/// From here on all linear addresses show the second large page of RAM.
const ALIAS: u64 = 0xffff_8000_0000_0000;
/// Where tests map what they like.
const TESTS: u64 = 0x80_0000_0000;
/// Writes to this port panic.
const TRAPDOOR: u16 = 0x99;

struct Bus;
impl KernelBus for Bus {
    fn pio_read(&self, _: u32, _: u16, _: u8) -> Option<u32> {
        None
    }
    fn pio_write(&self, _: u32, port: u16, _: u8, _: u32) -> bool {
        assert!(port != TRAPDOOR, "a bug behind the bus");
        false
    }
    fn pio_claims(&self, port: u16) -> bool {
        port == TRAPDOOR
    }
    fn mmio_read(&self, _: u32, _: u64, _: &mut [u8]) -> bool {
        false
    }
    fn mmio_write(&self, _: u32, _: u64, _: &[u8]) -> bool {
        false
    }
}

struct Now(Instant);
impl Clock for Now {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap()
    }
    fn wall_ns(&self) -> u64 {
        0
    }
}

struct Deaf;
impl VcpuWaker for Deaf {
    fn wake(&self, _: Wake) {}
}

struct Guest {
    memory: Arc<GuestMemory>,
    ram: Arc<GuestRam>,
    irqchip: Option<Arc<Irqchip>>,
    vcpu: Box<dyn VcpuEngine>,
    _engine: Arc<SoftEngine>,
}

fn segment(selector: u16, type_: u8) -> Segment {
    Segment {
        selector,
        limit: u32::MAX,
        type_,
        present: 1,
        s: 1,
        g: 1,
        db: 1,
        ..Segment::default()
    }
}

impl Guest {
    /// In 64-bit mode at CPL 0, about to execute `code`; all exceptions halt.
    fn new(code: &[u8], with_irqchip: bool) -> Self {
        let memory = GuestMemory::new();
        let ram = GuestRam::new(RAM as usize, Backing::Anon).unwrap();
        memory.set_user_memory_region(0, 0, RAM, 0, Some(ram.clone()), 0).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Now(Instant::now()));
        let irqchip = with_irqchip.then(|| Irqchip::new(clock.clone()));
        if let Some(irqchip) = &irqchip {
            irqchip.add_vcpu(0, Arc::new(Deaf)).unwrap();
        }
        let context = VmContext {
            memory: memory.clone(),
            bus: Arc::new(Bus),
            irqchip: irqchip.clone(),
            clock,
        };
        let engine = SoftEngine::with_policy(Arc::new(HostEntropy), policy());
        let requests = Arc::new(VcpuRequests::default());
        let mut vcpu = engine.create_vcpu(0, context, Arc::clone(&requests)).unwrap();
        alarm::offer(&mut *vcpu, &requests);
        let mut guest = Self { memory, ram, irqchip, vcpu, _engine: engine };
        guest.tables();
        guest.write(HANDLERS, &[0xf4; 0x1000]);
        guest.write(CODE, code);
        guest.vcpu.set_cpuid(&guest._engine.cpuid_for_model("max", &[]).unwrap()).unwrap();
        let mut s = guest.vcpu.sregs();
        s.cs = Segment { l: 1, db: 0, ..segment(0x10, 11) };
        s.ss = segment(0x18, 3);
        (s.ds, s.es) = (segment(0x18, 3), segment(0x18, 3));
        s.gdt = Dtable { base: GDT, limit: 0x3f };
        s.idt = Dtable { base: IDT, limit: 0xfff };
        s.cr0 = 0x8000_0011;
        s.cr3 = PML4;
        s.cr4 = 0x4_0620;
        s.efer = 0xd00;
        guest.vcpu.set_sregs(&s).unwrap();
        guest
    }

    fn tables(&self) {
        let (low, identity, pdpt, pd) = (0x2000, 0x3000, 0x9000, 0xa000);
        self.put(PML4, low | 7);
        self.put(low, identity | 7);
        for n in 0..3 {
            self.put(identity + 8 * n, n << 21 | 0xe7);
        }
        for n in 0..512 {
            if n >= 256 {
                self.put(PML4 + 8 * n, pdpt | 7);
            }
            self.put(pdpt + 8 * n, pd | 7);
            self.put(pd + 8 * n, 0x20_00e7);
        }
        self.put(GDT + 0x10, 0x00af_9b00_0000_ffff);
        self.put(GDT + 0x18, 0x008f_9300_0000_ffff);
        self.put(GDT + 0x20, 0x00cf_9300_0000_ffff);
        for v in 0..256 {
            self.put(IDT + 16 * v, (HANDLERS + v) | 0x8e00 << 32 | 0x10 << 16);
        }
    }

    fn write(&self, gpa: u64, bytes: &[u8]) {
        self.memory.write(gpa, bytes).unwrap();
    }

    fn put(&self, gpa: u64, value: u64) {
        self.write(gpa, &value.to_le_bytes());
    }

    /// Runs with registers that differ from zero as given, until something happens.
    fn run(&mut self, regs: Regs) -> Exit {
        self.vcpu.set_regs(&regs).unwrap();
        self.vcpu.run()
    }

    /// Stops all long-mode things: flat 32-bit protected mode.
    fn protected(&mut self) -> Sregs {
        let mut s = self.vcpu.sregs();
        s.cs = segment(8, 11);
        (s.cr0, s.cr4, s.efer) = (0x11, 0, 0);
        s.idt.limit = 0;
        s
    }
}

fn start() -> Regs {
    Regs { rip: CODE, rsp: 0x20_0000, rflags: 2, ..Regs::default() }
}

#[test]
fn a_panic_inside_the_guest_does_not_block_changes_of_memory() {
    let mut guest = Guest::new(&[0xe6, TRAPDOOR as u8], false);
    let panicked = catch_unwind(AssertUnwindSafe(|| guest.run(start())));
    assert!(panicked.is_err());
    let (done, wait) = channel();
    let memory = guest.memory.clone();
    std::thread::spawn(move || {
        let ram = GuestRam::new(4096, Backing::Anon).unwrap();
        memory.set_user_memory_region(1, 1 << 30, 4096, 0, Some(ram), 0).unwrap();
        done.send(()).unwrap();
    });
    wait.recv_timeout(Duration::from_secs(20)).expect("waits for a vCPU that is gone");
}

#[test]
fn a_long_string_instruction_is_interrupted_by_the_timer() {
    // rep stosb; hlt
    let mut guest = Guest::new(&[0xf3, 0xaa, 0xf4], true);
    let lapic = guest.irqchip.as_ref().unwrap().lapic(0).unwrap();
    lapic.set_base(0xfee0_0d00).unwrap();
    // Enabled, one shot on vector 0x40, not divided, a millisecond.
    for (register, value) in [(0x80f, 0x1ff), (0x832, 0x40), (0x83e, 0xb), (0x838, 1_000_000)] {
        lapic.x2apic_write(register, value).unwrap();
    }
    let regs = Regs { rflags: 0x202, rdi: ALIAS, rcx: 1 << 35, ..start() };
    assert!(matches!(guest.run(regs), Exit::Hlt));
    let regs = guest.vcpu.regs();
    assert_eq!(regs.rip, HANDLERS + 0x41);
    assert_ne!(regs.rcx, 0, "the interrupt waited for the end of the instruction");
}

#[test]
fn code_of_an_address_space_is_not_executed_in_another() {
    // mov cr3, rax; call rdx; l: mov cr3, rax; dec ecx; jnz l; mov cr3, rsi; call rdx; hlt
    let code = [
        0x0f, 0x22, 0xd8, 0xff, 0xd2, 0x0f, 0x22, 0xd8, 0xff, 0xc9, 0x75, 0xf9, 0x0f, 0x22, 0xde,
        0xff, 0xd2, 0xf4,
    ];
    let mut guest = Guest::new(&code, false);
    let roots = [0x1_0000u64, 0x2_0000];
    for (root, n) in roots.into_iter().zip(1u8..) {
        let page = root + 0x4000;
        // mov ebx, n; ret
        guest.write(page, &[0xbb, n, 0, 0, 0, 0xc3]);
        guest.put(root, 0x2007);
        guest.put(root + 8 * (TESTS >> 39), (root + 0x1000) | 7);
        guest.put(root + 0x1000, (root + 0x2000) | 7);
        guest.put(root + 0x2000, (root + 0x3000) | 7);
        guest.put(root + 0x3000, page | 0x67);
    }
    // As many switches as there are numbers for address spaces, and some more or less.
    for switches in 4080..4105 {
        let [rax, rsi] = roots;
        let exit = guest.run(Regs { rax, rsi, rdx: TESTS, rcx: switches, ..start() });
        assert!(matches!(exit, Exit::Hlt), "{exit:?}");
        assert_eq!(guest.vcpu.regs().rbx, 2, "old code after {switches} switches");
    }
}

#[test]
fn invlpg_forgets_the_code_of_a_whole_large_page() {
    // call rdx; mov [rdi], rax; invlpg [rsi]; call rdx; hlt
    let code = [0xff, 0xd2, 0x48, 0x89, 0x07, 0x0f, 0x01, 0x3e, 0xff, 0xd2, 0xf4];
    let mut guest = Guest::new(&code, false);
    guest.put(PML4 + 8 * (TESTS >> 39), 0xb007);
    guest.put(0xb000, 0xc007);
    guest.put(0xc000, 0x20_00e7);
    guest.write(0x20_5000, &[0xbb, 1, 0, 0, 0, 0xc3]);
    guest.write(0x40_5000, &[0xbb, 2, 0, 0, 0, 0xc3]);
    let regs = Regs { rdx: TESTS + 0x5000, rdi: 0xc000, rax: 0x40_00e7, rsi: TESTS, ..start() };
    assert!(matches!(guest.run(regs), Exit::Hlt));
    assert_eq!(guest.vcpu.regs().rbx, 2);
}

/// Maps the pages at `TESTS`, in order, to these physical ones.
fn map_tests(guest: &mut Guest, pages: &[u64]) {
    guest.put(PML4 + 8 * (TESTS >> 39), 0xb007);
    guest.put(0xb000, 0xc007);
    guest.put(0xc000, 0xd007);
    for (n, page) in pages.iter().enumerate() {
        guest.put(0xd000 + 8 * n as u64, page | 7);
    }
}

/// `mov ebx, n; ret`.
fn yields(n: u8) -> [u8; 6] {
    [0xbb, n, 0, 0, 0, 0xc3]
}

/// Calls `TESTS` a hundred times, does something, and all that again, R8 times in all. The sum of what the
/// calls yielded.
fn call_again(guest: &mut Guest, between: &[u8], regs: Regs) -> u64 {
    // mov ecx, 100; call rdx; add r12, rbx; dec rcx; jne call
    let calls = [0xb9, 100, 0, 0, 0, 0xff, 0xd2, 0x49, 0x01, 0xdc, 0x48, 0xff, 0xc9, 0x75, 0xf6];
    // dec r8; jne mov; hlt
    let back = -((calls.len() + between.len() + 5) as i8);
    let code = [&calls, between, &[0x49, 0xff, 0xc8, 0x75, back as u8, 0xf4]].concat();
    guest.write(CODE, &code);
    assert!(matches!(guest.run(Regs { rdx: TESTS, r8: 3, ..regs }), Exit::Hlt));
    guest.vcpu.regs().r12
}

#[test]
fn a_jump_that_knows_its_target_notices_another_page_there() {
    // mov [rdi], rax; invlpg [rsi]; xchg rax, r9
    let between = [0x48, 0x89, 0x07, 0x0f, 0x01, 0x3e, 0x49, 0x91];
    let mut guest = Guest::new(&[0xf4], false);
    map_tests(&mut guest, &[0x20_5000]);
    guest.write(0x20_5000, &yields(1));
    guest.write(0x20_6000, &yields(2));
    let regs = Regs { rdi: 0xd000, rax: 0x20_6007, r9: 0x20_5007, rsi: TESTS, ..start() };
    assert_eq!(call_again(&mut guest, &between, regs), 100 + 200 + 100);
}

#[test]
fn a_jump_that_knows_its_target_notices_other_code_there() {
    // mov [rdx + 1], r8b
    let between = [0x44, 0x88, 0x42, 0x01];
    let mut guest = Guest::new(&[0xf4], false);
    map_tests(&mut guest, &[0x20_5000]);
    guest.write(0x20_5000, &yields(1));
    assert_eq!(call_again(&mut guest, &between, start()), 100 + 300 + 200);
}

#[test]
fn code_that_shows_twice_knows_where_each_leads() {
    // Each of two callers calls the page behind it: call +0x1000 - 5; ret
    let caller = [0xe8, 0xfb, 0x0f, 0, 0, 0xc3];
    // call rdx; add r12, rbx; call rsi; add r13, rbx; dec rcx; jne back; hlt
    let code = [
        0xff, 0xd2, 0x49, 0x01, 0xdc, 0xff, 0xd6, 0x49, 0x01, 0xdd, 0x48, 0xff, 0xc9, 0x75, 0xf1,
        0xf4,
    ];
    let mut guest = Guest::new(&code, false);
    map_tests(&mut guest, &[0x20_5000, 0x20_6000, 0x20_5000, 0x20_7000]);
    guest.write(0x20_5000, &caller);
    guest.write(0x20_6000, &yields(1));
    guest.write(0x20_7000, &yields(2));
    let regs = Regs { rdx: TESTS, rsi: TESTS + 0x2000, rcx: 100, ..start() };
    assert!(matches!(guest.run(regs), Exit::Hlt));
    assert_eq!((guest.vcpu.regs().r12, guest.vcpu.regs().r13), (100, 200));
}

#[test]
fn pages_are_marked_before_their_bytes_are_read_as_code() {
    // Too long to be an instruction, so that nothing of it is kept.
    let mut guest = Guest::new(&[0x66; 32], false);
    assert!(matches!(guest.run(start()), Exit::Hlt));
    assert_eq!(guest.vcpu.regs().rip, HANDLERS + 14);
    assert!(guest.ram.page_flags()[(CODE >> 12) as usize].has_code());
}

#[test]
fn a_save_area_can_go_around_the_end_of_the_address_space() {
    // xsave [rdi]; hlt
    let mut guest = Guest::new(&[0x0f, 0xae, 0x27, 0xf4], false);
    guest.vcpu.set_xcr0(7).unwrap();
    let regs = Regs { rdi: 0u64.wrapping_sub(64), rax: 7, ..start() };
    assert!(matches!(guest.run(regs), Exit::Hlt));
    assert_eq!(guest.vcpu.regs().rip, CODE + 4);
}

#[test]
fn where_no_component_is_saved_only_the_header_of_the_area_is_accessed() {
    // The first page of the area is not there, and its header in the second.
    let area = TESTS + 0x1000 - 512;
    let fault = HANDLERS + 15;
    // xsave [rdi]; hlt, xrstor, and xsavec, which stores MXCSR with SSE alone
    let (xsave, xrstor, xsavec) = ([0x0f, 0xae, 0x27], [0x0f, 0xae, 0x2f], [0x0f, 0xc7, 0x27]);
    for (code, avx) in [(xsave, fault), (xrstor, fault), (xsavec, CODE + 4)] {
        let code = [&code[..], &[0xf4]].concat();
        for (components, end) in [(0, CODE + 4), (1, fault), (4, avx)] {
            let mut guest = Guest::new(&code, false);
            guest.put(PML4 + 8 * (TESTS >> 39), 0xb007);
            guest.put(0xb000, 0xc007);
            guest.put(0xc000, 0xd007);
            guest.put(0xd008, 0x20_5067);
            guest.vcpu.set_xcr0(7).unwrap();
            let exit = guest.run(Regs { rdi: area, rax: components, ..start() });
            assert!(matches!(exit, Exit::Hlt), "{exit:?}");
            assert_eq!(guest.vcpu.regs().rip, end);
        }
    }
}

#[test]
fn an_instruction_pointer_beyond_32_bits_is_a_fault_in_protected_mode() {
    let mut guest = Guest::new(&[], false);
    let ram = GuestRam::new(4096, Backing::Anon).unwrap();
    guest.memory.set_user_memory_region(1, 0xffff_f000, 4096, 0, Some(ram), 0).unwrap();
    guest.write(0xffff_ffff, &[0xf4]);
    let sregs = guest.protected();
    guest.vcpu.set_sregs(&sregs).unwrap();
    assert!(matches!(guest.run(Regs { rip: 0xffff_ffff, ..start() }), Exit::Hlt));
    let exit = guest.run(Regs { rip: u64::MAX, ..start() });
    assert!(matches!(exit, Exit::Shutdown), "{exit:?}");
}

#[test]
fn pop_ss_moves_the_stack_pointer_in_the_old_stack() {
    // pop ss, 16 bits; hlt
    let mut guest = Guest::new(&[0x66, 0x17, 0xf4], false);
    guest.write(0xfffe, &0x20u16.to_le_bytes());
    let mut sregs = guest.protected();
    sregs.ss.db = 0;
    guest.vcpu.set_sregs(&sregs).unwrap();
    assert!(matches!(guest.run(Regs { rsp: 0x1_fffe, ..start() }), Exit::Hlt));
    assert_eq!(guest.vcpu.regs().rsp, 0x1_0000);
    assert_eq!(guest.vcpu.sregs().ss.selector, 0x20);
}

#[test]
fn an_alignment_check_that_raises_itself_ends() {
    // mov eax, [esp]
    let mut guest = Guest::new(&[0x8b, 0x04, 0x24], false);
    guest.put(GDT + 0x28, 0x00cf_fb00_0000_ffff);
    guest.put(GDT + 0x30, 0x00cf_f300_0000_ffff);
    // To a handler at CPL 3, whose stack stays as misaligned as it is.
    guest.put(IDT + 8 * 17, HANDLERS | 0xee00 << 32 | 0x2b << 16);
    let mut sregs = guest.protected();
    sregs.cr0 |= 1 << 18;
    sregs.idt.limit = 0x7ff;
    sregs.cs = Segment { dpl: 3, ..segment(0x2b, 11) };
    sregs.ss = Segment { dpl: 3, ..segment(0x33, 3) };
    sregs.ds = sregs.ss;
    guest.vcpu.set_sregs(&sregs).unwrap();
    let (done, wait) = channel();
    std::thread::spawn(move || {
        let exit = guest.run(Regs { rflags: 2 | 1 << 18, rsp: 0x20_0001, ..start() });
        done.send(exit).unwrap();
    });
    let exit = wait.recv_timeout(Duration::from_secs(20)).expect("no kick reaches it");
    assert!(matches!(exit, Exit::Shutdown), "{exit:?}");
}

#[test]
fn code_is_withdrawn_by_stores_through_another_slot() {
    // mov [rdi], al; call rdx; mov [rsi], cl; call rdx; hlt
    let code = [0x88, 0x07, 0xff, 0xd2, 0x88, 0x0e, 0xff, 0xd2, 0xf4];
    let mut guest = Guest::new(&code, false);
    let other = 1 << 30;
    guest.memory.set_user_memory_region(1, other, RAM, 0, Some(guest.ram.clone()), 0).unwrap();
    guest.put(PML4 + 8 * (TESTS >> 39), 0xb007);
    guest.put(0xb000, 0xc007);
    guest.put(0xc000, 0xd007);
    guest.put(0xd000, 0x20_5067);
    guest.put(0xd008, (other + 0x20_5000) | 0x67);
    guest.write(0x20_5000, &[0xbb, 1, 0, 0, 0, 0xc3]);
    let written = TESTS + 0x1000;
    let regs = Regs { rdi: written + 0x800, rdx: TESTS, rsi: written + 1, rcx: 2, ..start() };
    assert!(matches!(guest.run(regs), Exit::Hlt));
    assert_eq!(guest.vcpu.regs().rbx, 2);
}

#[test]
fn state_in_memory_follows_the_slots_outside_the_guest_too() {
    let mut guest = Guest::new(&[], false);
    let gpa = 1 << 30;
    let ram = GuestRam::new(0x1000, Backing::Anon).unwrap();
    guest.memory.set_user_memory_region(1, gpa, 0x1000, 0, Some(ram), 0).unwrap();
    // The paravirtual clock.
    guest.vcpu.set_msr(0x4b56_4d01, gpa | 1).unwrap();
    let mut version = [0; 4];
    guest.memory.read(gpa, &mut version).unwrap();
    assert_ne!(version, [0; 4]);
    assert_eq!(guest.vcpu.translate(CODE), Some(CODE));
    guest.memory.set_user_memory_region(0, 0, 0, 0, None, 0).unwrap();
    assert_eq!(guest.vcpu.translate(CODE), None);
}

#[test]
fn a_user_program_that_executes_a_device_does_not_stop_the_machine() {
    let mut guest = Guest::new(&[], false);
    let device = 1u64 << 32;
    guest.put(PML4 + 8 * (TESTS >> 39), 0xb007);
    guest.put(0xb000, 0xc007);
    guest.put(0xc000, device | 0xe7);
    guest.put(0x7004, 0x20_0000);
    let mut sregs = guest.vcpu.sregs();
    let kernel = sregs;
    sregs.tr = Segment { base: 0x7000, limit: 0x67, s: 0, g: 0, db: 0, ..segment(0x28, 11) };
    sregs.cs = Segment { l: 1, db: 0, dpl: 3, ..segment(0x33, 11) };
    sregs.ss = Segment { dpl: 3, ..segment(0x3b, 3) };
    guest.vcpu.set_sregs(&sregs).unwrap();
    assert!(matches!(guest.run(Regs { rip: TESTS, ..start() }), Exit::Hlt));
    assert_eq!(guest.vcpu.regs().rip, HANDLERS + 7, "no #UD");
    // A kernel that does so is beyond help.
    guest.vcpu.set_sregs(&kernel).unwrap();
    assert!(matches!(guest.run(Regs { rip: TESTS, ..start() }), Exit::InternalError { .. }));
}
