//! The pair of machines and the comparison of one case.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use iced_x86::{Code, FlowControl, Formatter, Instruction, IntelFormatter, Register};
use kvm_engine_soft::TranslationPolicy;

use super::allowed::reconcile;
use super::blocks;
use super::build::Case;
use super::compare::{ARITHMETIC, differences, undefined_flags};
use super::guest::Guest;
use super::layout::{CODE, PAGE, data_pages, locate};
use super::native::{CASE, Native};
use super::rng::Rng;
use super::state::{Outcome, State, vector};

/// The host CPU and tier 0, with equal memory.
#[derive(Debug)]
pub struct Pair {
    pub native: Native,
    pub guest: Guest,
    policy: TranslationPolicy,
    /// What data pages hold at the start of every case.
    pub template: Vec<(usize, Vec<u8>)>,
}

impl Pair {
    pub fn new(policy: TranslationPolicy) -> Self {
        let mut native = Native::new();
        let mut guest = Guest::new(policy);
        let mut rng = Rng::new(0x7465_6d70_6c61);
        let template: Vec<_> = data_pages().map(|page| (page, content(&mut rng))).collect();
        for (page, bytes) in &template {
            native.bytes(*page).copy_from_slice(bytes);
            guest.bytes(*page).copy_from_slice(bytes);
        }
        Self { native, guest, policy, template }
    }

    /// Runs a case on the host alone: whether its one instruction goes on to the next.
    pub fn completes(&mut self, case: &Case) -> bool {
        CASE.store(case.state.rip, Ordering::Relaxed);
        self.native.set_code(case.offset, &case.code);
        let end = self.native.run(&case.state);
        self.native.set_code(case.offset, &vec![0xcc; case.code.len()]);
        self.restore();
        let next = case.state.rip + case.code.len() as u64 + 1;
        end.event.vector == 3 && end.state.rip == next
    }

    /// Gives both the code and the data that a case begins with.
    pub fn begin(&mut self, case: &Case, seed: u64) {
        CASE.store(seed, Ordering::Relaxed);
        self.native.set_code(case.offset, &case.code);
        self.guest.set_code(case.offset, &case.code);
        for (addr, bytes) in &case.patches {
            self.patch(*addr, bytes);
        }
    }

    /// Gives both the memory back that every case begins with.
    pub fn restore(&mut self) {
        self.compare_memory(&mut Vec::new());
        self.compare_code(&mut Vec::new());
    }

    /// Whether the guest translates.
    pub fn translates(&self) -> bool {
        self.policy.threshold != 0
    }

    /// How many instructions of a case come before the one that did not complete, and the flags that
    /// need not be equal then.
    pub fn completed(&self, case: &Case, native: &Outcome) -> (usize, u64) {
        let all = &case.instructions[..];
        let at = all.iter().position(|i| i.ip() == native.state.rip);
        let end = case.state.rip + case.code.len() as u64 + 1;
        let completed = at.unwrap_or(all.len());
        let undefined = match all {
            [only] => undefined_flags(only, &case.state),
            // It returned to somewhere else.
            _ if at.is_none() && native.state.rip != end => ARITHMETIC,
            // To the end one may come from any return, too.
            _ => all
                .iter()
                .enumerate()
                .filter(|(_, i)| i.flow_control() == FlowControl::Return)
                .map(|(n, _)| n)
                .chain([completed])
                .fold(0, |undefined, n| undefined | blocks::undefined_after(&all[..n])),
        };
        // Translated code does not keep flags that the instruction, had it not faulted, or one behind
        // it would overwrite.
        let kept = !self.translates() || completed == all.len();
        (completed, if kept { undefined } else { ARITHMETIC })
    }

    /// Runs a case on both.
    ///
    /// # Errors
    /// A description of the case and of all differences.
    pub fn check(&mut self, case: &Case, seed: u64) -> Result<(), String> {
        self.begin(case, seed);
        let native = self.native.run(&case.state);
        let mut tier0 = match self.guest.run(&case.state) {
            Ok(outcome) => outcome,
            Err(why) => {
                self.renew();
                self.restore();
                return Err(describe(case, seed, &[why], &native));
            }
        };
        let (completed, undefined) = self.completed(case, &native);
        let last = &case.instructions[completed.min(case.instructions.len() - 1)];
        let memory_differs = reconcile(last, &native, &mut tier0);
        self.same_mask(case);
        let mut found = differences((&case.state, &case.instructions), &native, &tier0, undefined);
        let filler = vec![0xcc; case.code.len()];
        self.native.set_code(case.offset, &filler);
        self.guest.set_code(case.offset, &filler);
        let mut in_memory = Vec::new();
        self.compare_memory(&mut in_memory);
        self.compare_code(&mut in_memory);
        if !memory_differs {
            found.append(&mut in_memory);
        }
        if found.is_empty() {
            return Ok(());
        }
        Err(describe(case, seed, &found, &native))
    }

    /// Writes to data pages, as far as they are.
    fn patch(&mut self, addr: u64, bytes: &[u8]) {
        self.guest.patch(addr, bytes);
        for (n, byte) in bytes.iter().enumerate() {
            if let Some((page, at)) = locate(addr.wrapping_add(n as u64)) {
                self.native.bytes(page)[at] = *byte;
            }
        }
    }

    /// Replaces the guest after something went badly wrong.
    pub fn renew(&mut self) {
        self.guest = Guest::new(self.policy);
        for (page, bytes) in &self.template {
            self.native.bytes(*page).copy_from_slice(bytes);
            self.guest.bytes(*page).copy_from_slice(bytes);
        }
    }

    /// The save areas show which bits MXCSR has, which is not the same on all processors.
    fn same_mask(&mut self, case: &Case) {
        let Some(area) = save_area(case) else { return };
        for n in (28..32).map(|n| area.wrapping_add(n)) {
            if let Some((page, at)) = locate(n) {
                self.guest.bytes(page)[at] = self.native.bytes(page)[at];
            }
        }
    }

    /// Compares the code pages, to which a stray store may lead, and fills them with INT3 again.
    fn compare_code(&mut self, found: &mut Vec<String>) {
        let filler = [0xcc; PAGE as usize];
        for (n, page) in [CODE, CODE + 1].into_iter().enumerate() {
            let (a, b) = (self.native.bytes(page), self.guest.bytes(page));
            if a[..] == filler && b[..] == filler {
                continue;
            }
            if a != b {
                found.push("code pages".into());
            }
            self.native.set_code(n * PAGE as usize, &filler);
            self.guest.set_code(n * PAGE as usize, &filler);
        }
    }

    /// Compares the data pages and puts their first content back.
    fn compare_memory(&mut self, found: &mut Vec<String>) {
        for (page, bytes) in &self.template {
            let (a, b) = (self.native.bytes(*page), self.guest.bytes(*page));
            if a != b {
                let at = (0..PAGE as usize).find(|&n| a[n] != b[n]).unwrap();
                let end = (0..PAGE as usize).rfind(|&n| a[n] != b[n]).unwrap() + 1;
                let shown = end.min(at + 32);
                found.push(format!(
                    "memory: page {page} {at:#x}..{end:#x}: host {:02x?}, tier 0 {:02x?}",
                    &a[at..shown],
                    &b[at..shown]
                ));
            }
            if a != &bytes[..] {
                a.copy_from_slice(bytes);
            }
            if b != &bytes[..] {
                b.copy_from_slice(bytes);
            }
        }
    }
}

/// Where FXSAVE or an XSAVE form stores.
fn save_area(case: &Case) -> Option<u64> {
    let [i] = &case.instructions[..] else { return None };
    let name = format!("{:?}", i.mnemonic());
    (name.starts_with("Fxsave") || name.starts_with("Xsave")).then(|| {
        i.virtual_address(0, 0, |r, _, _| {
            Some(match r {
                Register::FS => case.state.fs_base,
                Register::GS => case.state.gs_base,
                _ if r.is_segment_register() => 0,
                _ => case.state.gpr[r.full_register().number()],
            })
        })
    })?
}

/// A page of values that mean something to many kinds of instructions.
fn content(rng: &mut Rng) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE as usize);
    while page.len() < PAGE as usize {
        match rng.below(3) {
            0 => page.extend_from_slice(&vector(rng)),
            1 => page.extend((0..4).flat_map(|_| rng.value().to_le_bytes())),
            _ => page.extend((0..4).flat_map(|_| rng.next().to_le_bytes())),
        }
    }
    page
}

fn text(i: &Instruction) -> String {
    let mut out = String::new();
    IntelFormatter::new().format(i, &mut out);
    out
}

pub fn describe(case: &Case, seed: u64, found: &[String], native: &Outcome) -> String {
    let mut out = format!("CASE={seed:#x} {:02x?} at {:#x}\n", case.code, case.state.rip);
    for i in case.instructions.iter().filter(|i| i.code() != Code::Nopd) {
        let _ = writeln!(out, "  {:x}: {}", i.ip(), text(i));
    }
    for line in found {
        let _ = writeln!(out, "  {line}");
    }
    let _ = writeln!(out, "  host: {:?} rip {:#x}", native.event, native.state.rip);
    show(&mut out, &case.state);
    out
}

fn show(out: &mut String, s: &State) {
    let _ = writeln!(
        out,
        "  before: rflags {:#x} fs {:#x} gs {:#x} fcw {:#x} fsw {:#x} mxcsr {:#x}",
        s.rflags,
        s.fs_base,
        s.gs_base,
        s.area.u16(0),
        s.area.u16(2),
        s.area.u32(24)
    );
    for (n, value) in s.gpr.iter().enumerate() {
        let _ = write!(out, "{}{value:#x}", if n % 8 == 0 { "\n    " } else { " " });
    }
    out.push('\n');
}
