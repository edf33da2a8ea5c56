//! Sets of features, and names looked up in them.

use kvm_abi::{Errno, KvmError};

use super::HostCpuid;
use super::features::{ALIASES, ALSO, DEPENDS, FEATURES, Feature, NOT_OFFERED, Need, WORDS, Word};

/// Feature bits by word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet {
    words: [u32; WORDS],
}

impl FeatureSet {
    /// All features that the engine offers on this host.
    #[must_use]
    pub fn all(host: HostCpuid<'_>, intel: bool) -> Self {
        let mut out = Self::default();
        for feature in FEATURES {
            // AMD parts of before 2023 do not have arch-capabilities, and need none of what it says.
            let fits = match feature.name {
                "arch-capabilities" => intel,
                "auto-ibrs" => !intel,
                _ => true,
            };
            if fits && on_host(feature, host) {
                out.insert(feature.name);
            }
        }
        out.drop_dependents();
        out
    }

    /// Leaves out features by name.
    #[must_use]
    pub fn without(mut self, names: &[&'static str]) -> Self {
        for name in names {
            self.remove(name);
        }
        self
    }

    /// The named features as far as this host has them.
    #[must_use]
    pub fn named(names: &[&str], host: HostCpuid<'_>) -> Self {
        let mut out = Self::default();
        for feature in FEATURES.iter().filter(|f| names.contains(&f.name)) {
            if on_host(feature, host) {
                out.insert(feature.name);
            }
        }
        out.drop_dependents();
        out
    }

    /// The bits of a word.
    #[must_use]
    pub fn word(&self, word: Word) -> u32 {
        self.words[word as usize]
    }

    /// Is the feature on?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        find(name).is_some_and(|f| self.word(f.word) >> f.bit & 1 != 0)
    }

    fn bits(name: &str) -> impl Iterator<Item = (Word, u8)> {
        let first = find(name).map(|f| (f.word, f.bit));
        let more = ALSO.iter().filter(move |a| a.0 == name).map(|a| (a.1, a.2));
        first.into_iter().chain(more)
    }

    fn insert(&mut self, name: &'static str) {
        for (word, bit) in Self::bits(name) {
            self.words[word as usize] |= 1 << bit;
        }
    }

    fn remove(&mut self, name: &'static str) {
        for (word, bit) in Self::bits(name) {
            self.words[word as usize] &= !(1 << bit);
        }
    }

    /// Removes features whose base is missing. The table is ordered from bases to dependents.
    pub fn drop_dependents(&mut self) {
        for (name, base) in DEPENDS {
            if !self.has(base) {
                self.remove(name);
            }
        }
    }

    /// Switches features on and off by name. What depends on a feature that is switched off goes
    /// with it.
    ///
    /// # Errors
    /// `EINVAL` for a name that does not exist, with the nearest one that does; `EOPNOTSUPP` for
    /// switching on one that the engine or the host does not have, or whose base is off.
    pub fn apply(
        &mut self,
        changes: &[(String, bool)],
        host: HostCpuid<'_>,
    ) -> Result<(), KvmError> {
        let mut wanted = Vec::new();
        for (given, on) in changes {
            let name = normalise(given);
            let Some(feature) = find(&name) else {
                if NOT_OFFERED.contains(&name.as_str()) {
                    if *on {
                        return Err(unsupported(given, "this engine does not have it"));
                    }
                    continue;
                }
                return Err(unknown(given, &name));
            };
            if *on {
                if !on_host(feature, host) {
                    return Err(unsupported(given, "the host CPU does not have it"));
                }
                self.insert(feature.name);
                wanted.push((given, feature.name));
            } else {
                self.remove(feature.name);
                wanted.retain(|(_, n)| *n != feature.name);
            }
        }
        self.drop_dependents();
        for (given, name) in wanted {
            if !self.has(name) {
                let base = DEPENDS.iter().find(|d| d.0 == name).map_or("", |d| d.1);
                return Err(unsupported(given, &format!("it needs {base}, which is off")));
            }
        }
        Ok(())
    }
}

fn on_host(feature: &Feature, host: HostCpuid<'_>) -> bool {
    let (leaf, sub, register) = feature.word.place();
    feature.need == Need::Always
        || super::host_register(host, leaf, sub, register) >> feature.bit & 1 != 0
}

fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|f| f.name == name)
}

/// `_` is `-`, and aliases become names.
fn normalise(given: &str) -> String {
    let name = given.replace('_', "-");
    ALIASES.iter().find(|a| a.0 == name).map_or(name, |a| a.1.into())
}

fn unsupported(given: &str, why: &str) -> KvmError {
    KvmError::new(Errno::EOPNOTSUPP, format!("CPU feature {given} cannot be switched on: {why}"))
}

fn unknown(given: &str, name: &str) -> KvmError {
    let nearest = nearest(name, FEATURES.iter().map(|f| f.name).chain(NOT_OFFERED.iter().copied()));
    KvmError::invalid(format!("CPU feature {given} does not exist, the nearest is {nearest}"))
}

/// The candidate with the fewest edits.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> &'a str {
    candidates.min_by_key(|c| distance(name, c)).unwrap_or_default()
}

/// Edits (insert, delete, replace) between two names.
fn distance(a: &str, b: &str) -> usize {
    // A name that long is no misspelling; the limit bounds the work.
    let a: Vec<char> = a.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (j, cb) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = j + 1;
        for i in 0..a.len() {
            let replaced = diagonal + usize::from(a[i] != cb);
            diagonal = row[i + 1];
            row[i + 1] = replaced.min(row[i] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}
