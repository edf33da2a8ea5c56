//! Locked instructions of several vCPUs on the same bytes: no update is lost, wherever they lie.

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, dword_ptr, gpr8::*, gpr16::*, gpr32::*, gpr64::*, qword_ptr, word_ptr,
    xmmword_ptr,
};

use super::machine::{BARRIER, Machine, SHARED};

const TIMES: u64 = 3000;
/// Aligned, misaligned, across a cache line, across a page.
const PLACES: [u64; 4] = [0x100, 0x103, 0x13d, 0xffd];

type Body = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// Every vCPU runs `body` `TIMES` times on the counter at RDI, which starts at zero. The result.
fn count(vcpus: u64, place: u64, body: Body) -> u64 {
    let program = || -> Result<CodeAssembler, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let (mut wait, mut again) = (a.create_label(), a.create_label());
        a.mov(rdi, SHARED + place)?;
        a.mov(rsi, TIMES)?;
        a.mov(r8, BARRIER)?;
        a.lock().inc(qword_ptr(r8))?;
        a.set_label(&mut wait)?;
        a.pause()?;
        a.cmp(qword_ptr(r8), vcpus as i32)?;
        a.jb(wait)?;
        a.set_label(&mut again)?;
        body(&mut a)?;
        a.dec(rsi)?;
        a.jne(again)?;
        a.hlt()?;
        Ok(a)
    };
    let programs = (0..vcpus).map(|_| program().unwrap()).collect();
    Machine::run_programs(programs).read_u64(SHARED + place)
}

fn exact(body: Body) {
    for place in PLACES {
        assert_eq!(count(2, place, body), 2 * TIMES, "at {place:#x}");
    }
}

#[test]
fn lock_inc_and_add() {
    exact(|a| a.lock().inc(qword_ptr(rdi)));
    exact(|a| a.lock().add(dword_ptr(rdi), 1));
    exact(|a| a.lock().inc(word_ptr(rdi)));
    exact(|a| {
        a.mov(ebx, 1)?;
        a.lock().add(qword_ptr(rdi), rbx)
    });
}

#[test]
fn four_vcpus_on_two_or_more_host_cpus() {
    for place in PLACES {
        let total = count(4, place, |a| a.lock().inc(qword_ptr(rdi)));
        assert_eq!(total, 4 * TIMES, "at {place:#x}");
    }
}

#[test]
fn lock_xadd() {
    exact(|a| {
        a.mov(eax, 1)?;
        a.lock().xadd(qword_ptr(rdi), rax)
    });
    exact(|a| {
        a.mov(ax, 1)?;
        a.lock().xadd(word_ptr(rdi), ax)
    });
}

#[test]
fn lock_adc_takes_the_carry_once() {
    exact(|a| {
        a.stc()?;
        a.lock().adc(dword_ptr(rdi), 0)
    });
}

#[test]
fn lock_cmpxchg() {
    exact(|a| {
        let mut retry = a.create_label();
        a.mov(rax, qword_ptr(rdi))?;
        a.set_label(&mut retry)?;
        a.lea(rbx, qword_ptr(rax + 1))?;
        a.lock().cmpxchg(qword_ptr(rdi), rbx)?;
        a.jne(retry)
    });
}

#[test]
fn lock_cmpxchg8b() {
    exact(|a| {
        let mut retry = a.create_label();
        a.mov(eax, dword_ptr(rdi))?;
        a.mov(edx, dword_ptr(rdi + 4))?;
        a.set_label(&mut retry)?;
        a.lea(ebx, qword_ptr(rax + 1))?;
        a.mov(ecx, edx)?;
        a.lock().cmpxchg8b(qword_ptr(rdi))?;
        a.jne(retry)
    });
}

#[test]
fn lock_cmpxchg16b() {
    // The upper half counts down: both halves change together.
    let body: Body = |a| {
        let mut retry = a.create_label();
        a.mov(rax, qword_ptr(rdi))?;
        a.mov(rdx, qword_ptr(rdi + 8))?;
        a.set_label(&mut retry)?;
        a.lea(rbx, qword_ptr(rax + 1))?;
        a.lea(rcx, qword_ptr(rdx - 1))?;
        a.lock().cmpxchg16b(xmmword_ptr(rdi))?;
        a.jne(retry)
    };
    assert_eq!(count(2, 0x100, body), 2 * TIMES);
}

#[test]
fn a_spin_lock_of_xchg_guards_a_plain_counter() {
    for place in PLACES {
        let total = count(2, place, |a| {
            let (mut spin, mut taken) = (a.create_label(), a.create_label());
            a.nop()?;
            a.set_label(&mut spin)?;
            a.mov(eax, 1)?;
            a.xchg(dword_ptr(rdi + 0x2000), eax)?;
            a.test(eax, eax)?;
            a.je(taken)?;
            a.pause()?;
            a.jmp(spin)?;
            a.set_label(&mut taken)?;
            a.inc(qword_ptr(rdi))?;
            a.mov(dword_ptr(rdi + 0x2000), 0)
        });
        assert_eq!(total, 2 * TIMES, "at {place:#x}");
    }
}

#[test]
fn a_lock_of_bts_and_btr_guards_a_plain_counter() {
    for place in PLACES {
        let total = count(2, place, |a| {
            let (mut spin, mut taken) = (a.create_label(), a.create_label());
            a.nop()?;
            a.set_label(&mut spin)?;
            a.lock().bts(dword_ptr(rdi + 0x2000), 17)?;
            a.jae(taken)?;
            a.pause()?;
            a.jmp(spin)?;
            a.set_label(&mut taken)?;
            a.inc(qword_ptr(rdi))?;
            a.lock().btr(dword_ptr(rdi + 0x2000), 17)
        });
        assert_eq!(total, 2 * TIMES, "at {place:#x}");
    }
}

#[test]
fn split_and_whole_accesses_to_the_same_bytes_exclude_each_other() {
    // vCPUs increment a quadword across a line and the byte of it that lies in the next line.
    let body: Body = |a| {
        a.lock().inc(qword_ptr(rdi))?;
        a.lock().add(dword_ptr(rdi + 3), 1)
    };
    let total = count(2, 0x13d, body);
    assert_eq!(total, 2 * TIMES + ((2 * TIMES) << 24));
}

#[test]
fn aligned_accesses_are_not_torn() {
    // One vCPU stores all ones and all zeros, the other one counts anything else.
    let writer = || -> Result<CodeAssembler, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let mut again = a.create_label();
        a.mov(rdi, SHARED)?;
        a.mov(rsi, 20 * TIMES)?;
        a.mov(rax, 0u64)?;
        a.set_label(&mut again)?;
        a.not(rax)?;
        a.mov(qword_ptr(rdi), rax)?;
        a.mov(dword_ptr(rdi + 0x44), eax)?;
        a.mov(word_ptr(rdi + 0x82), ax)?;
        a.dec(rsi)?;
        a.jne(again)?;
        a.hlt()?;
        Ok(a)
    };
    let reader = || -> Result<CodeAssembler, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let mut again = a.create_label();
        a.mov(rdi, SHARED)?;
        a.mov(rsi, 20 * TIMES)?;
        a.mov(rbx, 0u64)?;
        a.mov(ecx, 0)?;
        a.set_label(&mut again)?;
        a.mov(rax, qword_ptr(rdi))?;
        a.inc(rax)?;
        a.cmp(rax, 1)?;
        a.seta(cl)?;
        a.add(rbx, rcx)?;
        a.mov(eax, dword_ptr(rdi + 0x44))?;
        a.inc(eax)?;
        a.cmp(eax, 1)?;
        a.seta(cl)?;
        a.add(rbx, rcx)?;
        a.mov(ax, word_ptr(rdi + 0x82))?;
        a.inc(ax)?;
        a.cmp(ax, 1)?;
        a.seta(cl)?;
        a.add(rbx, rcx)?;
        a.dec(rsi)?;
        a.jne(again)?;
        a.mov(qword_ptr(rdi + 0x800), rbx)?;
        a.hlt()?;
        Ok(a)
    };
    let m = Machine::run_programs(vec![writer().unwrap(), reader().unwrap()]);
    assert_eq!(m.read_u64(SHARED + 0x800), 0);
}
