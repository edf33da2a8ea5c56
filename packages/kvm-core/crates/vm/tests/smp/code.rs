//! Code that one vCPU writes and another executes (SDM volume 3, 9.1.3), and page tables that both
//! change.

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, byte_ptr, dword_ptr, gpr8::*, gpr32::*, gpr64::*, qword_ptr,
};

use super::machine::{Machine, PAGE_DIRECTORY, SHARED, rounds};

/// `mov eax, imm32; ret`: the immediate is rewritten.
const FUNCTION: u64 = 0x3_0000;
const FLAG: u64 = 0x3_8000;
const ROUNDS: u64 = 2000;

/// One vCPU writes the round's number into the function and then into the flag; the other one
/// waits for the flag, calls the function and counts wrong answers in `SHARED`.
fn modify(serialize: bool, padding: u64) {
    let writer = || -> Result<CodeAssembler, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let (mut again, mut wait) = (a.create_label(), a.create_label());
        a.mov(rdi, FUNCTION + padding)?;
        a.mov(rsi, FLAG)?;
        a.mov(eax, 1)?;
        a.set_label(&mut again)?;
        a.mov(dword_ptr(rdi + 1), eax)?;
        a.mov(dword_ptr(rsi), eax)?;
        a.set_label(&mut wait)?;
        a.pause()?;
        a.cmp(dword_ptr(rsi + 64), eax)?;
        a.jne(wait)?;
        a.inc(eax)?;
        a.cmp(eax, ROUNDS as i32)?;
        a.jbe(again)?;
        a.hlt()?;
        Ok(a)
    };
    let reader = || -> Result<CodeAssembler, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let (mut again, mut wait) = (a.create_label(), a.create_label());
        a.mov(rdi, FUNCTION + padding)?;
        a.mov(rsi, FLAG)?;
        a.mov(r8, SHARED)?;
        a.mov(r9d, 1)?;
        a.set_label(&mut again)?;
        a.nop()?;
        a.set_label(&mut wait)?;
        a.pause()?;
        a.cmp(dword_ptr(rsi), r9d)?;
        a.jne(wait)?;
        if serialize {
            a.cpuid()?;
        }
        a.call(rdi)?;
        a.cmp(eax, r9d)?;
        a.setne(al)?;
        a.movzx(eax, al)?;
        a.add(qword_ptr(r8), rax)?;
        a.mov(dword_ptr(rsi + 64), r9d)?;
        a.inc(r9d)?;
        a.cmp(r9d, ROUNDS as i32)?;
        a.jbe(again)?;
        a.hlt()?;
        Ok(a)
    };
    let m = Machine::new(2, false);
    m.vm.memory().write(FUNCTION + padding, &[0xb8, 0, 0, 0, 0, 0xc3]).unwrap();
    m.load(0, &mut writer().unwrap());
    m.load(1, &mut reader().unwrap());
    m.run();
    assert_eq!(m.read_u64(SHARED), 0, "stale instructions were executed");
}

#[test]
fn another_vcpus_code_is_seen_after_a_serialising_instruction() {
    modify(true, 0);
}

#[test]
fn another_vcpus_code_is_seen_as_soon_as_what_was_stored_after_it() {
    // What every x86 CPU does, and guests rely on, though the manual asks for more.
    modify(false, 0);
}

#[test]
fn an_instruction_in_two_pages_is_seen_too() {
    modify(true, 0xffd);
}

#[test]
fn two_vcpus_that_write_each_others_code_come_through() {
    // Both decode and both write the same page all the time: no lost answer, no deadlock.
    let program = |own: u64, other: u64| -> Result<CodeAssembler, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let mut again = a.create_label();
        a.mov(rdi, FUNCTION + own)?;
        a.mov(rsi, FUNCTION + other)?;
        a.mov(ebx, ROUNDS as u32)?;
        a.set_label(&mut again)?;
        a.mov(dword_ptr(rsi + 1), ebx)?;
        a.call(rdi)?;
        a.mov(byte_ptr(rsi + 0x80), al)?;
        a.dec(ebx)?;
        a.jne(again)?;
        a.hlt()?;
        Ok(a)
    };
    let m = Machine::new(2, false);
    for at in [0, 0x200] {
        m.vm.memory().write(FUNCTION + at, &[0xb8, 0, 0, 0, 0, 0xc3]).unwrap();
    }
    m.load(0, &mut program(0, 0x200).unwrap());
    m.load(1, &mut program(0x200, 0).unwrap());
    m.run();
}

#[test]
fn accessed_and_dirty_bits_and_the_guests_own_lose_nothing() {
    const TABLE: u64 = 0x4_0000;
    const PAGES: u64 = 400;
    // Page i of the last large page, 4 KiB each, at the entry that the second vCPU marks.
    let m = Machine::new(2, false);
    let base = 14 << 20;
    let entries: Vec<u64> = (0..512).map(|i| (base + i * 4096) | 3).collect();
    let touch = rounds(0, 2, PAGES, |a| {
        let mut code = || -> Result<(), IcedError> {
            a.mov(rax, r15)?;
            a.shl(rax, 12)?;
            a.add(rax, i32::try_from(base).unwrap())?;
            a.mov(qword_ptr(rax), 1)
        };
        code().unwrap();
    });
    let mark = rounds(1, 2, PAGES, |a| {
        let mut code = || -> Result<(), IcedError> {
            a.mov(rax, TABLE)?;
            a.lock().or(qword_ptr(rax + r15 * 8), 0x200)
        };
        code().unwrap();
    });
    m.write_words(TABLE, &entries);
    m.write_words(PAGE_DIRECTORY + 7 * 8, &[TABLE | 3]);
    for (i, mut program) in [touch, mark].into_iter().enumerate() {
        m.load(i, &mut program);
    }
    m.run();
    for i in 0..PAGES {
        assert_eq!(m.read_u64(TABLE + i * 8) & 0xfff, 0x263, "entry {i}");
    }
}
