//! An interrupt at every boundary between two instructions of a program: nothing of its end may
//! depend on it, and what is there at the boundary is the same for all tiers.

use kvm_engine_soft::TranslationPolicy;

use super::allowed::reconcile;
use super::build::Case;
use super::compare::{ARITHMETIC, differences};
use super::guest::{Guest, Seen};
use super::layout::{CODE, PAGE, data_pages};
use super::machine::{Pair, describe};
use super::state::Outcome;

/// Boundaries of a program that are tried; of a longer one an even choice.
const MOST: u64 = 150;

/// A pair, and the interpreter beside it.
#[derive(Debug)]
pub struct Trio {
    pair: Pair,
    interpreter: Guest,
}

impl Trio {
    pub fn new(pair: Pair) -> Self {
        let mut interpreter = Guest::new(TranslationPolicy::OFF);
        interpreter.take_interrupts();
        let mut trio = Self { pair, interpreter };
        trio.pair.guest.take_interrupts();
        trio
    }

    pub fn pair(&mut self) -> &mut Pair {
        &mut self.pair
    }

    /// Interrupts a case everywhere. Yields at how many boundaries.
    ///
    /// # Errors
    /// A description of the case and of all differences.
    pub fn check(&mut self, case: &Case, seed: u64) -> Result<u64, String> {
        self.pair.begin(case, seed);
        let native = self.pair.native.run(&case.state);
        let after: Vec<(usize, Vec<u8>)> = data_pages()
            .chain([CODE, CODE + 1])
            .map(|page| (page, self.pair.native.bytes(page).to_vec()))
            .collect();
        let result = self.everywhere(case, &native, &after);
        self.pair.restore();
        result.map_err(|found| {
            self.pair.renew();
            self.pair.guest.take_interrupts();
            self.interpreter = Guest::new(TranslationPolicy::OFF);
            self.interpreter.take_interrupts();
            describe(case, seed, &found, &native)
        })
    }

    fn everywhere(
        &mut self,
        case: &Case,
        native: &Outcome,
        after: &[(usize, Vec<u8>)],
    ) -> Result<u64, Vec<String>> {
        let lone = |why: String| vec![why];
        self.prepare(case);
        let length = self.interpreter.count(&case.state).map_err(lone)?;
        let step = length / MOST + 1;
        let mut tried = 0;
        for at in (0..=length).step_by(step as usize) {
            self.prepare(case);
            let (seen, mut end) = self.pair.guest.run_interrupted(&case.state, at).map_err(lone)?;
            let (wanted, _) = self.interpreter.run_interrupted(&case.state, at).map_err(lone)?;
            let mut found = unlike(&wanted, &seen, self.pair.translates());
            found.extend(self.judge(case, native, &mut end, after));
            if !found.is_empty() {
                found.insert(0, format!("interrupted before instruction {at} of {length}"));
                return Err(found);
            }
            tried += 1;
        }
        Ok(tried)
    }

    /// Gives both guests the memory that the case begins with.
    fn prepare(&mut self, case: &Case) {
        let filler = vec![0xcc; 2 * PAGE as usize];
        for guest in [&mut self.pair.guest, &mut self.interpreter] {
            for (page, bytes) in &self.pair.template {
                guest.bytes(*page).copy_from_slice(bytes);
            }
            guest.set_code(0, &filler);
            guest.set_code(case.offset, &case.code);
            for (addr, bytes) in &case.patches {
                guest.patch(*addr, bytes);
            }
        }
    }

    /// Compares the end with that of the host, which nobody interrupted.
    fn judge(
        &mut self,
        case: &Case,
        native: &Outcome,
        end: &mut Outcome,
        after: &[(usize, Vec<u8>)],
    ) -> Vec<String> {
        let (completed, undefined) = self.pair.completed(case, native);
        let last = &case.instructions[completed.min(case.instructions.len() - 1)];
        let memory_differs = reconcile(last, native, end);
        let mut found = differences((&case.state, &case.instructions), native, end, undefined);
        if !memory_differs {
            for (page, bytes) in after {
                let now = self.pair.guest.bytes(*page);
                if now != bytes {
                    let at = (0..bytes.len()).find(|&n| now[n] != bytes[n]);
                    found.push(format!("memory: page {page} at {at:x?}"));
                }
            }
        }
        found
    }
}

/// What differs between two tiers at a boundary. Translated code need not keep flags that nobody
/// reads.
fn unlike(wanted: &Seen, seen: &Seen, translated: bool) -> Vec<String> {
    let mut out = Vec::new();
    let (mut a, mut b) = (wanted.regs, seen.regs);
    if translated {
        a.rflags &= !ARITHMETIC;
        b.rflags &= !ARITHMETIC;
    }
    if a != b {
        out.push(format!("at the boundary: interpreter {a:x?}, this {b:x?}"));
    }
    if wanted.area != seen.area {
        out.push("vector registers at the boundary".into());
    }
    out
}
