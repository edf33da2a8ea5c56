//! The engine against the host CPU: random states for every instruction form that user code can run.
//!
//! `CASES=n` runs n cases per form, `LONG=1` a hundred times the usual number, `SEED=x` starts from
//! another seed, `FORM=name` runs one form only (`FORM=name CASE=x` one case, as a failure prints it).
//!
//! Blocks, programs with loops that change themselves, the same with an interrupt at every boundary,
//! and bytes that hardly are a program take `SEED`, `LONG` and `CASE` too. A program that fails is
//! shrunk before it is printed.

#[allow(dead_code)]
#[path = "../support/alarm.rs"]
mod alarm;
mod allowed;
mod blocks;
mod build;
mod bytes;
mod compare;
mod contents;
mod forms;
mod guest;
mod host;
mod interrupts;
mod layout;
mod machine;
mod memory_operand;
mod native;
#[path = "../support/number.rs"]
mod number;
#[path = "../support/policy.rs"]
mod policy;
mod programs;
mod rng;
mod spots;
mod state;
mod tune;

use std::collections::BTreeMap;

use bytes::Tiers;
use forms::Form;
use interrupts::Trio;
use machine::Pair;
use number::number;
use policy::policy;
use rng::{Rng, case_seed};

/// Cases per form of the short run.
const CASES: u64 = 100;
/// Blocks of the short run.
const BLOCKS: u64 = 30_000;
/// Programs of the short run, and those with interrupts.
const PROGRAMS: u64 = 5000;
const INTERRUPTED: u64 = 60;
/// Runs of random bytes.
const NOISES: u64 = 4000;
const SEED: u64 = 0x6b76_6d20_6a73;

fn run(bits: u32) {
    let seed = number("SEED").unwrap_or(SEED);
    let cases = number("CASES").unwrap_or(CASES) * if number("LONG").is_some() { 100 } else { 1 };
    let only = std::env::var("FORM").ok();
    let one = number("CASE");
    let mut pair = Pair::new(policy());
    let mut failures: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut skipped = Vec::new();
    let mut total = 0u64;
    for form in forms::tested(bits) {
        let name = format!("{:?}", form.code);
        if only.as_ref().is_some_and(|o| *o != name) {
            continue;
        }
        if !forms::on_host(form) {
            skipped.push(name);
            continue;
        }
        for n in 0..cases {
            let seed = one.unwrap_or_else(|| case_seed(seed, form.code as u64, n));
            if let Err(text) = one_case(&mut pair, form, seed) {
                let entry = failures.entry(name.clone()).or_insert((0, text));
                entry.0 += 1;
            }
            total += 1;
            if one.is_some() {
                break;
            }
        }
    }
    println!("{total} cases of {bits}-bit code; not on this host: {skipped:?}");
    for (name, (count, text)) in &failures {
        println!("--- {name}: {count} of {cases} fail\n{text}");
    }
    assert!(failures.is_empty(), "{} forms fail", failures.len());
}

#[test]
fn instructions_of_compatibility_mode() {
    run(32);
}

/// What is not tested is listed: a form cannot drop out of the tests unseen. `UPDATE=1` writes the
/// list anew.
#[test]
fn untested_forms_are_listed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/uncovered.txt");
    let list = forms::uncovered_list();
    if number("UPDATE").is_some() {
        std::fs::write(path, &list).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == list, "see UPDATE=1 and git diff");
}

/// Straight-line code of several instructions: blocks, and what one instruction leaves to the next.
fn run_blocks(bits: u32) {
    let seed = number("SEED").unwrap_or(SEED);
    let count = BLOCKS * if number("LONG").is_some() { 100 } else { 1 };
    let mut pair = Pair::new(policy());
    let pool = blocks::pool(&mut pair, bits);
    let one = number("CASE");
    let mut instructions = 0;
    for n in 0..if one.is_some() { 1 } else { count } {
        let seed = one.unwrap_or_else(|| case_seed(seed, u64::from(bits) << 32, n));
        let case = blocks::case(&mut Rng::new(seed), &pool, bits);
        instructions += case.instructions.len();
        if let Err(text) = pair.check(&case, seed) {
            panic!("block {n} of {bits}-bit code\n{text}");
        }
    }
    println!("{count} blocks of {} forms, {instructions} instructions", pool.len());
}

#[test]
fn blocks_of_64_bit_mode() {
    run_blocks(64);
}

#[test]
fn blocks_of_compatibility_mode() {
    run_blocks(32);
}

/// Programs that loop, call and change themselves.
fn run_programs(bits: u32) {
    let seed = number("SEED").unwrap_or(SEED);
    let count = PROGRAMS * if number("LONG").is_some() { 100 } else { 1 };
    let mut pair = Pair::new(policy());
    let pool = blocks::pool(&mut pair, bits);
    let one = number("CASE");
    for n in 0..if one.is_some() { 1 } else { count } {
        let seed = one.unwrap_or_else(|| case_seed(seed, u64::from(bits) << 33, n));
        let case = programs::case(&mut Rng::new(seed), &pool, bits, policy().threshold == 0);
        if let Err(text) = pair.check(&case, seed) {
            let less = programs::shrink(case, bits, |less| pair.check(less, seed).is_err());
            let less = pair.check(&less, seed).err();
            panic!("program {n} of {bits}-bit code, seed {seed:#x}\n{}", less.unwrap_or(text));
        }
    }
    println!("{count} programs of {} forms, seed {seed:#x}", pool.len());
}

#[test]
fn programs_of_64_bit_mode() {
    run_programs(64);
}

#[test]
fn programs_of_compatibility_mode() {
    run_programs(32);
}

/// The same with an interrupt before each of their instructions.
fn run_interrupted(bits: u32) {
    let seed = number("SEED").unwrap_or(SEED);
    let count = INTERRUPTED * if number("LONG").is_some() { 100 } else { 1 };
    let mut trio = Trio::new(Pair::new(policy()));
    let pool = blocks::pool(trio.pair(), bits);
    let one = number("CASE");
    let mut boundaries = 0;
    for n in 0..if one.is_some() { 1 } else { count } {
        let seed = one.unwrap_or_else(|| case_seed(seed, u64::from(bits) << 34, n));
        let case = programs::case(&mut Rng::new(seed), &pool, bits, policy().threshold == 0);
        match trio.check(&case, seed) {
            Ok(tried) => boundaries += tried,
            Err(text) => {
                let less = programs::shrink(case, bits, |less| trio.check(less, seed).is_err());
                let less = trio.check(&less, seed).err();
                panic!("program {n} of {bits}-bit code, seed {seed:#x}\n{}", less.unwrap_or(text));
            }
        }
    }
    println!("{count} programs at {boundaries} boundaries, seed {seed:#x}");
}

#[test]
fn interrupts_of_64_bit_mode() {
    run_interrupted(64);
}

#[test]
fn interrupts_of_compatibility_mode() {
    run_interrupted(32);
}

/// Bytes that hardly are a program.
fn run_bytes(bits: u32) {
    let seed = number("SEED").unwrap_or(SEED);
    let count = NOISES * if number("LONG").is_some() { 100 } else { 1 };
    let pool = blocks::pool(&mut Pair::new(policy()), bits);
    let mut tiers = Tiers::new(policy());
    let one = number("CASE");
    let mut agreed = 0;
    for n in 0..if one.is_some() { 1 } else { count } {
        let seed = one.unwrap_or_else(|| case_seed(seed, u64::from(bits) << 35, n));
        let noise = bytes::case(&mut Rng::new(seed), &pool, bits);
        match tiers.check(&noise) {
            Ok(same) => agreed += u64::from(same),
            Err(text) => panic!("CASE={seed:#x} {bits}-bit code\n{text}"),
        }
    }
    println!("{agreed} of {count} runs of bytes are the same, seed {seed:#x}");
    assert!(one.is_some() || agreed * 10 > count * 8);
}

#[test]
fn bytes_of_64_bit_mode() {
    run_bytes(64);
}

#[test]
fn bytes_of_compatibility_mode() {
    run_bytes(32);
}

fn one_case(pair: &mut Pair, form: Form, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let case = build::case(&mut rng, form)?;
    pair.check(&case, seed)
}

#[test]
fn instructions_of_64_bit_mode() {
    run(64);
}
