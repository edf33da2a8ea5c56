//! Device accesses in the middle of instructions: each is made once, in order, and registers change
//! at the end.

use kvm_abi::exit::Exit;
use kvm_cpu::engine::request;

use super::machine::{DATA, DEVICE, Machine, Mode, RAM, mmio};

/// Expects a read, and answers it.
fn answer(m: &mut Machine, gpa: u64, data: &[u8]) {
    assert_eq!(m.vcpu.run(), mmio(false, gpa, data));
    m.vcpu.complete_read(data);
}

fn expect_write(m: &mut Machine, gpa: u64, data: &[u8]) {
    assert_eq!(m.vcpu.run(), mmio(true, gpa, data));
}

#[test]
fn a_read_modify_write_reads_once_and_writes_once() {
    // add [rdi], eax; hlt, and the same with LOCK
    for code in [&[0x01, 0x07, 0xf4][..], &[0xf0, 0x01, 0x07, 0xf4]] {
        let mut m = Machine::new(Mode::Long, code);
        m.set(|r| (r.rdi, r.rax) = (DEVICE + 16, 0xffff_fff0));
        answer(&mut m, DEVICE + 16, &[0x20, 0, 0, 0]);
        expect_write(&mut m, DEVICE + 16, &[0x10, 0, 0, 0]);
        let r = m.run_to_halt();
        assert_eq!(r.rflags & 0x8d5, 0x01, "carry alone");
    }
}

#[test]
fn an_exchange_keeps_its_register_until_the_end() {
    // lock xadd [rdi], rax; hlt
    let mut m = Machine::new(Mode::Long, &[0xf0, 0x48, 0x0f, 0xc1, 0x07, 0xf4]);
    m.set(|r| (r.rdi, r.rax) = (DEVICE, 5));
    answer(&mut m, DEVICE, &[7, 0, 0, 0, 0, 0, 0, 0]);
    expect_write(&mut m, DEVICE, &[12, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(m.regs().rax, 5);
    assert_eq!(m.run_to_halt().rax, 7);
}

#[test]
fn an_access_from_ram_into_a_device_is_split() {
    // mov eax, [rdi]; mov [rdi], ebx; hlt
    let mut m = Machine::new(Mode::Long, &[0x8b, 0x07, 0x89, 0x1f, 0xf4]);
    m.write(RAM - 2, &[1, 2]);
    m.set(|r| (r.rdi, r.rbx) = (RAM - 2, 0x4433_2211));
    for (n, byte) in [(0, 3), (1, 4)] {
        answer(&mut m, DEVICE + n, &[byte]);
    }
    expect_write(&mut m, DEVICE, &[0x33]);
    expect_write(&mut m, DEVICE + 1, &[0x44]);
    assert_eq!(m.run_to_halt().rax, 0x0403_0201);
    assert_eq!(m.read(RAM - 2, 2), [0x11, 0x22]);
}

#[test]
fn a_move_between_devices_restarts_without_repeating() {
    // push [rdi]; pop [rsi]; hlt
    let mut m = Machine::new(Mode::Long, &[0xff, 0x37, 0x8f, 0x06, 0xf4]);
    m.set(|r| (r.rdi, r.rsi) = (DEVICE, DEVICE + 8));
    let rsp = m.regs().rsp;
    let value = [1, 2, 3, 4, 5, 6, 7, 8];
    answer(&mut m, DEVICE, &value);
    expect_write(&mut m, DEVICE + 8, &value);
    assert_eq!(m.regs().rsp, rsp - 8);
    assert_eq!(m.run_to_halt().rsp, rsp);
}

#[test]
fn a_repeated_copy_out_of_a_device_counts_exactly() {
    // rep movsb; hlt
    let mut m = Machine::new(Mode::Long, &[0xf3, 0xa4, 0xf4]);
    m.set(|r| (r.rsi, r.rdi, r.rcx) = (DEVICE, DATA, 5));
    for n in 0..5u64 {
        answer(&mut m, DEVICE + n, &[n as u8 + 10]);
        // The element is not done before the answer is taken.
        assert_eq!(m.regs().rcx, 5 - n);
    }
    let r = m.run_to_halt();
    assert_eq!((r.rsi, r.rdi, r.rcx), (DEVICE + 5, DATA + 5, 0));
    assert_eq!(m.read(DATA, 5), [10, 11, 12, 13, 14]);
}

#[test]
fn sixteen_bytes_are_two_accesses() {
    // movups xmm1, [rdi]; movups [rdi + 16], xmm1; hlt
    let mut m = Machine::new(Mode::Long, &[0x0f, 0x10, 0x0f, 0x0f, 0x11, 0x4f, 0x10, 0xf4]);
    m.set(|r| r.rdi = DEVICE);
    answer(&mut m, DEVICE, &[1; 8]);
    answer(&mut m, DEVICE + 8, &[2; 8]);
    expect_write(&mut m, DEVICE + 16, &[1; 8]);
    expect_write(&mut m, DEVICE + 24, &[2; 8]);
    m.run_to_halt();
}

#[test]
fn a_store_that_pops_the_x87_stack_pops_once() {
    // fninit; fld1; fldpi; fstp qword [rdi]; fstp qword [rdi]; hlt
    let code = [0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xeb, 0xdd, 0x1f, 0xdd, 0x1f, 0xf4];
    let mut m = Machine::new(Mode::Long, &code);
    m.set(|r| r.rdi = DEVICE);
    expect_write(&mut m, DEVICE, &std::f64::consts::PI.to_le_bytes());
    expect_write(&mut m, DEVICE, &1f64.to_le_bytes());
    m.run_to_halt();
    // All registers are empty again.
    assert_eq!(m.vcpu.xsave()[4], 0);
}

#[test]
fn a_kick_waits_for_the_end_of_the_instruction() {
    // add [rdi], eax; inc ebx; hlt
    let mut m = Machine::new(Mode::Long, &[0x01, 0x07, 0xff, 0xc3, 0xf4]);
    m.set(|r| (r.rdi, r.rax) = (DEVICE, 1));
    let rip = m.regs().rip;
    answer(&mut m, DEVICE, &[4, 0, 0, 0]);
    m.requests.raise(request::EXIT);
    expect_write(&mut m, DEVICE, &[5, 0, 0, 0]);
    m.requests.raise(request::EXIT);
    assert_eq!(m.vcpu.run(), Exit::Intr);
    let r = m.regs();
    assert_eq!((r.rip, r.rbx), (rip + 2, 0));
    assert!(!m.vcpu.io_pending());
    assert_eq!(m.run_to_halt().rbx, 1);
}

#[test]
fn another_instruction_pointer_drops_what_was_half_done() {
    let mut m = Machine::new(Mode::Long, &[0x01, 0x07, 0xf4]);
    m.set(|r| r.rdi = DEVICE);
    assert_eq!(m.vcpu.run(), mmio(false, DEVICE, &[0; 4]));
    assert!(m.vcpu.io_pending());
    m.set(|r| r.rip += 2);
    assert!(!m.vcpu.io_pending());
    m.run_to_halt();
}
