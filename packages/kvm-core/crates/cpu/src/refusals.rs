//! What guests ask of a software processor and it does not have, for whoever looks into why one fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many are kept; a guest may do nothing else.
const MOST: usize = 256;

/// A list of the latest, which is kept once somebody has asked for it.
#[derive(Debug, Default)]
pub struct Refusals {
    wanted: AtomicBool,
    list: Mutex<Vec<String>>,
}

impl Refusals {
    /// Notes one, unless nobody asks, or the list is full.
    #[cold]
    pub fn note(&self, what: impl FnOnce() -> String) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut list) = self.list.lock() else { return };
        if list.len() < MOST {
            list.push(what());
        }
    }

    /// What was noted since the last call; from the first one on there is something.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        self.wanted.store(true, Ordering::Relaxed);
        self.list.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_bounded_and_kept_only_when_asked_for() {
        let refusals = Refusals::default();
        refusals.note(|| unreachable!());
        assert!(refusals.take().is_empty());
        for n in 0..1000 {
            refusals.note(|| format!("{n}"));
        }
        let noted = refusals.take();
        assert_eq!((noted.len(), noted[0].as_str()), (MOST, "0"));
        assert!(refusals.take().is_empty());
    }
}
