//! Virtual-8086 mode and hardware task switches, as 32-bit guests use them.

use kvm_abi::exit::Exit;

use super::machine::{CODE, GDT, IDT, Machine, Mode, STACK};

/// TSS that the machine starts with, and a second one behind it.
const TSS: u64 = 0xa000;
const TSS2: u64 = 0xa100;
const TSS2_SELECTOR: u64 = 0x38;
/// Stack of level 0 for events out of virtual-8086 mode.
const ESP0: u64 = 0x7_0000;
/// Segment base of the virtual-8086 program.
const V86_CODE: u64 = 0x1_8000;
const V86_DATA: u64 = 0x2_0000;
const VM: u32 = 1 << 17;

/// `push imm32` for each value, then `iretd`.
fn iret_to(frame: &[u32]) -> Vec<u8> {
    let mut code = Vec::new();
    for value in frame {
        code.push(0x68);
        code.extend(value.to_le_bytes());
    }
    code.push(0xcf);
    code
}

/// A machine that enters virtual-8086 mode at `code` with these flags.
fn v86(code: &[u8], flags: u32) -> Machine {
    let (cs, data, stack) = ((V86_CODE >> 4) as u32, (V86_DATA >> 4) as u32, 0x3000);
    // GS, FS, DS, ES, SS, ESP, EFLAGS, CS, EIP.
    let frame = [0x11, 0x22, data, data, stack, 0x1000, flags | VM | 2, cs, 0];
    let m = Machine::new(Mode::Protected32, &iret_to(&frame));
    m.write(V86_CODE, code);
    m.write(TSS + 4, &(ESP0 as u32).to_le_bytes());
    m.write(TSS + 8, &[0x10, 0]);
    m
}

/// The dwords on the stack, from ESP up.
fn stack(m: &mut Machine, count: usize) -> Vec<u32> {
    let at = m.regs().rsp;
    let bytes = m.read(at, count * 4);
    bytes.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn virtual_8086_code_has_real_mode_addresses_and_faults_to_its_monitor() {
    // mov ax, [0x10]; inc ax; mov [0x12], ax; mov cx, ds; int 0x21
    let code = [0xa1, 0x10, 0, 0x40, 0xa3, 0x12, 0, 0x8c, 0xd9, 0xcd, 0x21];
    let mut m = v86(&code, 0);
    m.write(V86_DATA + 0x10, &[0x34, 0x12]);
    assert_eq!(m.run_to_fault(), 13);
    assert_eq!(m.read(V86_DATA + 0x12, 2), [0x35, 0x12]);
    assert_eq!(m.regs().rcx & 0xffff, V86_DATA >> 4);
    assert_eq!(m.regs().rsp, ESP0 - 40);
    let frame = stack(&mut m, 10);
    // Error code, EIP of INT, CS, EFLAGS, ESP, SS, ES, DS, FS, GS.
    assert_eq!(&frame[..3], &[0, 9, (V86_CODE >> 4) as u32]);
    assert_eq!(frame[3] & VM, VM);
    assert_eq!(&frame[4..], &[0x1000, 0x3000, 0x2000, 0x2000, 0x22, 0x11]);
    let s = m.vcpu.sregs();
    assert_eq!((s.ds.selector, s.es.selector, s.fs.selector, s.gs.selector), (0, 0, 0, 0));
    assert_eq!(m.regs().rflags & u64::from(VM), 0);
}

#[test]
fn instructions_that_touch_the_interrupt_flag_need_iopl_3() {
    // pushf, popf, iret, cli, sti, int; and hlt, which is privileged in any case.
    for code in [&[0x9c][..], &[0x9d], &[0xcf], &[0xfa], &[0xfb], &[0xcd, 0x21], &[0xf4]] {
        assert_eq!(v86(code, 0).run_to_fault(), 13, "{code:02x?}");
    }
    // With IOPL 3 they run, up to the HLT.
    let mut m = v86(&[0x9c, 0x58, 0xfa, 0x9c, 0x5b, 0xf4], 0x3200);
    assert_eq!(m.run_to_fault(), 13);
    let r = m.regs();
    assert_eq!((r.rax & 0xffff, r.rbx & 0xffff), (0x3202, 0x3002));
    assert_eq!(stack(&mut m, 2)[1], 5);
}

#[test]
fn int_goes_through_a_gate_of_level_3_and_returns() {
    // int 0x21; mov al, 5; hlt, and a handler: hlt; iretd.
    let mut m = v86(&[0xcd, 0x21, 0xb0, 5, 0xf4], 0x3000);
    m.handler(0x21, &[0xf4, 0xcf]);
    let gate = m.read_u64(IDT + 0x21 * 8) | 3 << 45;
    m.write(IDT + 0x21 * 8, &gate.to_le_bytes());
    assert_eq!(m.run_to_fault(), 0x21);
    assert_eq!(m.regs().rsp, ESP0 - 36, "no error code");
    assert_eq!(stack(&mut m, 1), [2]);
    m.resume();
    assert_eq!(m.run_to_fault(), 13);
    assert_eq!(m.regs().rax & 0xff, 5);
    assert_eq!(stack(&mut m, 2)[1], 4);
}

#[test]
fn the_permission_map_decides_on_ports_whatever_iopl_is() {
    // out 0x10, al; out 0x11, al; hlt
    let mut m = v86(&[0xe6, 0x10, 0xe6, 0x11, 0xf4], 0x3000);
    // The map lies behind the TSS: all ones but for port 0x10, and the byte that must follow.
    m.write(TSS + 0x66, &[0x68, 0]);
    m.write(TSS + 0x68, &[0xff, 0xff, 0xfe, 0xff, 0xff]);
    let mut s = m.vcpu.sregs();
    s.tr.limit = 0x6c;
    m.vcpu.set_sregs(&s).unwrap();
    assert!(matches!(m.vcpu.run(), Exit::Io { write: true, port: 0x10, .. }));
    assert_eq!(m.run_to_fault(), 13);
    assert_eq!(stack(&mut m, 2)[1], 2);
}

/// A machine with a second task at `code`.
fn tasks(first: &[u8], second: &[u8]) -> Machine {
    const SECOND: u64 = 0x1_4000;
    let m = Machine::new(Mode::Protected32, first);
    m.write(SECOND, second);
    let mut tss = [0u32; 26];
    (tss[8], tss[9], tss[14]) = (SECOND as u32, 2, 0x6_0000);
    (tss[10], tss[13]) = (0xaaaa, 0xbbbb);
    (tss[18], tss[19]) = (0x10, 0x08);
    tss[20..24].fill(0x10);
    let bytes: Vec<u8> = tss.iter().flat_map(|w| w.to_le_bytes()).collect();
    m.write(TSS2, &bytes);
    let descriptor = 0x67 | TSS2 << 16 | 0x89 << 40;
    m.write(GDT + TSS2_SELECTOR, &descriptor.to_le_bytes());
    m.write(GDT + 0x30 + 5, &[0x8b]);
    m
}

fn busy(m: &Machine, selector: u64) -> bool {
    m.read(GDT + selector + 5, 1)[0] & 2 != 0
}

fn word(m: &Machine, at: u64) -> u32 {
    u32::from_le_bytes(m.read(at, 4).try_into().unwrap())
}

#[test]
fn a_far_jump_to_a_tss_switches_tasks() {
    // mov eax, 1; jmp 0x38:0, to: hlt
    let mut m = tasks(&[0xb8, 1, 0, 0, 0, 0xea, 0, 0, 0, 0, 0x38, 0], &[0xf4]);
    let r = m.run_to_halt();
    assert_eq!((r.rax, r.rbx, r.rsp), (0xaaaa, 0xbbbb, 0x6_0000));
    let s = m.vcpu.sregs();
    assert_eq!((u64::from(s.tr.selector), s.tr.base), (TSS2_SELECTOR, TSS2));
    assert_eq!(s.cr0 & 8, 8, "TS is set");
    assert!(!busy(&m, 0x30) && busy(&m, TSS2_SELECTOR));
    // The old task's registers, and where it goes on.
    assert_eq!((word(&m, TSS + 0x28), word(&m, TSS + 0x20)), (1, CODE as u32 + 12));
    assert_eq!(u64::from(word(&m, TSS + 0x38)), STACK);
}

#[test]
fn a_call_nests_and_iret_comes_back() {
    // call 0x38:0; mov ebx, eax; hlt, and a task that goes on after its IRET: mov eax, 7; iret; hlt
    let first = [0x9a, 0, 0, 0, 0, 0x38, 0, 0x89, 0xc3, 0xf4];
    let mut m = tasks(&first, &[0xb8, 7, 0, 0, 0, 0xcf, 0xf4]);
    let r = m.run_to_halt();
    assert_eq!((r.rip, r.rsp), (CODE + 10, STACK));
    assert_eq!(r.rbx, 0, "tasks do not share registers");
    assert_eq!(word(&m, TSS2) & 0xffff, 0x30, "the link");
    assert_eq!(word(&m, TSS2 + 0x28), 7);
    assert!(busy(&m, 0x30) && !busy(&m, TSS2_SELECTOR));
    assert_eq!(r.rflags & (1 << 14), 0, "NT belongs to the nested task");
}

#[test]
fn an_exception_through_a_task_gate_gets_a_task_of_its_own() {
    // ud2; hlt, and a task that steps over the UD2 in the other one's TSS:
    // add dword [TSS + 0x20], 2; iret
    let mut second = vec![0x83, 0x05];
    second.extend((TSS as u32 + 0x20).to_le_bytes());
    second.extend([2, 0xcf]);
    let mut m = tasks(&[0x0f, 0x0b, 0xf4], &second);
    let gate = TSS2_SELECTOR << 16 | 0x85 << 40;
    m.write(IDT + 6 * 8, &gate.to_le_bytes());
    assert_eq!(m.run_to_halt().rip, CODE + 3);
}

#[test]
fn a_busy_task_cannot_be_entered() {
    // jmp 0x30:0, which is the task that runs.
    let mut m = tasks(&[0xea, 0, 0, 0, 0, 0x30, 0], &[0xf4]);
    assert_eq!(m.run_to_fault(), 13);
    assert_eq!(stack(&mut m, 1), [0x30]);
}

#[test]
fn a_task_switch_can_enter_virtual_8086_mode() {
    let mut m = tasks(&[0xea, 0, 0, 0, 0, 0x38, 0], &[0xf4]);
    m.write(V86_CODE, &[0x8c, 0xd8, 0xf4]); // mov ax, ds; hlt
    m.write(TSS2 + 0x20, &0u32.to_le_bytes());
    m.write(TSS2 + 0x24, &(VM | 2).to_le_bytes());
    m.write(TSS2 + 0x4c, &((V86_CODE >> 4) as u32).to_le_bytes());
    m.write(TSS2 + 0x50, &0x3000u32.to_le_bytes());
    m.write(TSS2 + 0x54, &0x2345u32.to_le_bytes());
    m.write(TSS2 + 4, &(ESP0 as u32).to_le_bytes());
    m.write(TSS2 + 8, &[0x10, 0]);
    assert_eq!(m.run_to_fault(), 13);
    assert_eq!(m.regs().rax & 0xffff, 0x2345);
    assert_eq!(stack(&mut m, 2)[1], 2);
}
