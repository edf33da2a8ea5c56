//! Litmus tests of the x86 memory model (Owens, Sarkar, Sewell: "A better x86 memory model:
//! x86-TSO"). A round uses variables that nobody touched before; forbidden outcomes never appear.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, gpr64::*, qword_ptr};

use super::machine::{Machine, SHARED, rounds};

const ROUNDS: u64 = 6000;
/// Offsets of the variables: each on a cache line of its own.
const X: i32 = 0;
const Y: i32 = 128;

type Body = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// Runs one body per vCPU; yields what each noted, round by round.
fn run(bodies: &[Body]) -> Machine {
    let count = bodies.len() as u64;
    let program = |(i, body): (usize, &Body)| {
        rounds(i as u64, count, ROUNDS, |a| body(a).expect("the body assembles"))
    };
    Machine::run_programs(bodies.iter().enumerate().map(program).collect())
}

/// No round ends with `forbidden`, a list of (vCPU, word, value).
fn never(bodies: &[Body], forbidden: &[(u64, u64, u64)]) {
    let m = run(bodies);
    for round in 0..ROUNDS {
        let all = forbidden.iter().all(|&(vcpu, word, value)| m.result(vcpu, round, word) == value);
        assert!(!all, "the forbidden outcome came in round {round}");
    }
}

fn set(a: &mut CodeAssembler, variable: i32) -> Result<(), IcedError> {
    a.mov(qword_ptr(r12 + variable), 1)
}

fn get(a: &mut CodeAssembler, variable: i32, word: i32) -> Result<(), IcedError> {
    a.mov(rax, qword_ptr(r12 + variable))?;
    a.mov(qword_ptr(r11 + word * 8), rax)
}

/// Loads two variables back to back, then notes both.
fn get_both(a: &mut CodeAssembler, first: i32, second: i32) -> Result<(), IcedError> {
    a.mov(rax, qword_ptr(r12 + first))?;
    a.mov(rbx, qword_ptr(r12 + second))?;
    a.mov(qword_ptr(r11), rax)?;
    a.mov(qword_ptr(r11 + 8), rbx)
}

#[test]
fn message_passing() {
    let write: Body = |a| {
        set(a, X)?;
        set(a, Y)
    };
    never(&[write, |a| get_both(a, Y, X)], &[(1, 0, 1), (1, 1, 0)]);
}

#[test]
fn load_buffering() {
    let first: Body = |a| {
        a.mov(rax, qword_ptr(r12 + X))?;
        set(a, Y)?;
        a.mov(qword_ptr(r11), rax)
    };
    let second: Body = |a| {
        a.mov(rax, qword_ptr(r12 + Y))?;
        set(a, X)?;
        a.mov(qword_ptr(r11), rax)
    };
    never(&[first, second], &[(0, 0, 1), (1, 0, 1)]);
}

#[test]
fn store_buffering_with_mfence() {
    let first: Body = |a| {
        set(a, X)?;
        a.mfence()?;
        get(a, Y, 0)
    };
    let second: Body = |a| {
        set(a, Y)?;
        a.mfence()?;
        get(a, X, 0)
    };
    never(&[first, second], &[(0, 0, 0), (1, 0, 0)]);
}

#[test]
fn store_buffering_with_a_locked_instruction() {
    let first: Body = |a| {
        set(a, X)?;
        a.lock().add(qword_ptr(rsp), 0)?;
        get(a, Y, 0)
    };
    let second: Body = |a| {
        set(a, Y)?;
        a.xchg(qword_ptr(rsp), rdx)?;
        get(a, X, 0)
    };
    never(&[first, second], &[(0, 0, 0), (1, 0, 0)]);
}

#[test]
fn store_buffering_with_a_serialising_instruction() {
    let first: Body = |a| {
        set(a, X)?;
        a.cpuid()?;
        get(a, Y, 0)
    };
    let second: Body = |a| {
        set(a, Y)?;
        a.mov(rax, cr3_of())?;
        a.mov(iced_x86::code_asm::registers::cr::cr3, rax)?;
        get(a, X, 0)
    };
    never(&[first, second], &[(0, 0, 0), (1, 0, 0)]);
}

fn cr3_of() -> iced_x86::code_asm::AsmRegisterCr {
    iced_x86::code_asm::registers::cr::cr3
}

#[test]
fn stores_are_exchanges() {
    // XCHG is a store and a barrier at once.
    let first: Body = |a| {
        a.mov(rdx, 1u64)?;
        a.xchg(qword_ptr(r12 + X), rdx)?;
        get(a, Y, 0)
    };
    let second: Body = |a| {
        a.mov(rdx, 1u64)?;
        a.xchg(qword_ptr(r12 + Y), rdx)?;
        get(a, X, 0)
    };
    never(&[first, second], &[(0, 0, 0), (1, 0, 0)]);
}

#[test]
fn one_variable_never_goes_back() {
    never(&[|a| set(a, X), |a| get_both(a, X, X)], &[(1, 0, 1), (1, 1, 0)]);
}

#[test]
fn two_readers_agree_on_the_order_of_two_writers() {
    never(
        &[|a| set(a, X), |a| set(a, Y), |a| get_both(a, X, Y), |a| get_both(a, Y, X)],
        &[(2, 0, 1), (2, 1, 0), (3, 0, 1), (3, 1, 0)],
    );
}

#[test]
fn causality_is_transitive() {
    let forward: Body = |a| {
        a.mov(rax, qword_ptr(r12 + X))?;
        a.mov(qword_ptr(r12 + Y), rax)
    };
    never(&[|a| set(a, X), forward, |a| get_both(a, Y, X)], &[(2, 0, 1), (2, 1, 0)]);
}

#[test]
fn stores_of_two_vcpus_have_one_order() {
    let first: Body = |a| {
        a.mov(qword_ptr(r12 + X), 1)?;
        a.mov(qword_ptr(r12 + Y), 2)
    };
    let second: Body = |a| {
        a.mov(qword_ptr(r12 + Y), 1)?;
        a.mov(qword_ptr(r12 + X), 2)
    };
    let m = run(&[first, second]);
    for round in 0..ROUNDS {
        let at = SHARED + round * 256;
        let last = (m.read_u64(at), m.read_u64(at + 128));
        assert_ne!(last, (1, 1), "round {round}");
    }
}

#[test]
fn a_vcpu_sees_its_own_store_at_once() {
    let both: Body = |a| {
        set(a, X)?;
        get(a, X, 0)
    };
    never(&[both, |a| set(a, Y)], &[(0, 0, 0)]);
}
