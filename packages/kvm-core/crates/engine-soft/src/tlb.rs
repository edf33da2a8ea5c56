//! The software TLB: direct-mapped tables from linear page to host address.
//!
//! A tag is the last byte's linear address in the page, which no page's first byte has, so that
//! an empty entry, all zeroes, matches nothing. Only one address space is kept: a switch drops
//! the entries that are on a list of those that are not global. Translations of other PCIDs are
//! not kept either: to tell them apart would cost every access of translated code an instruction.

use crate::table::{Plain, Table};

/// Entries per table.
pub const ENTRIES: usize = 4096;
/// One table per permission class, see [`Class`].
pub const CLASSES: usize = 4;
const EXEC_ENTRIES: usize = 512;
/// No tag.
const NEVER: u64 = 0;
/// 1 GiB regions remembered one by one; with more the whole TLB goes.
const MAX_HUGE: usize = 64;
/// Entries that are looked at together.
const GROUP: usize = 32;
/// Words of the filter for large pages.
const LARGE_WORDS: usize = 128;
const PAGE_MASK: u64 = !0xfff;

/// Permission classes of data accesses. They differ in what the same page allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// CPL 0 to 2, and implicit supervisor accesses.
    Supervisor = 0,
    /// CPL 0 to 2 with SMAP on and RFLAGS.AC set: user pages are allowed.
    SupervisorAc = 1,
    /// CPL 3.
    User = 2,
    /// CPL 3 with alignment checks: never filled, every access takes the slow path.
    Checked = 3,
}

/// What a data translation may be used for.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Reads.
    pub read: bool,
    /// Stores that need no bookkeeping at all.
    pub write: bool,
    /// Every address space.
    pub global: bool,
}

/// A data translation. `host = linear + addend` for both kinds of access.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Entry {
    /// Tag for reads.
    pub read: u64,
    /// Tag for writes: set only where a store needs no bookkeeping at all.
    pub write: u64,
    /// Host address minus linear address.
    pub addend: u64,
    /// Guest physical page, and 1 if the translation is global.
    page: u64,
}

impl Entry {
    /// Guest physical page.
    #[inline]
    pub fn gpa(&self) -> u64 {
        self.page & PAGE_MASK
    }
}

// SAFETY: numbers.
unsafe impl Plain for Entry {}

const EMPTY: Entry = Entry { read: NEVER, write: NEVER, addend: 0, page: 0 };

#[derive(Clone, Copy, Debug)]
struct ExecEntry {
    tag: u64,
    gpa: u64,
}

const NO_EXEC: ExecEntry = ExecEntry { tag: NEVER, gpa: 0 };
/// Entries on the list of those that are not global. With more a flush looks at all of them.
const MAX_LOCAL: usize = 4096;
/// The last number of a space of user code.
const LAST_SPACE: u64 = 0xf_ffff;

/// Data and instruction translations of one vCPU.
#[derive(Debug)]
pub struct Tlb {
    entries: Table<Entry, { ENTRIES * CLASSES }>,
    /// See [`Self::frame`]: the page of each entry that was writable when it was filled. Looking for those of one page
    /// takes an eighth of the memory that the entries have.
    frames: Table<u32, { ENTRIES * CLASSES }>,
    exec: Box<[[ExecEntry; EXEC_ENTRIES]; 2]>,
    class: usize,
    /// Changes when supervisor code may lie elsewhere, or a number of [`Self::space`] comes again:
    /// whoever keeps addresses of code must drop them.
    restarts: u64,
    pcid: u16,
    /// Bloom filter over the 2 MiB regions that hold translations from large pages: of a size that
    /// a gigabyte of them leaves nearly empty.
    large: Box<[u64; LARGE_WORDS]>,
    /// 1 GiB regions that hold translations from 1 GiB pages.
    huge: Vec<u64>,
    /// Data entries that are not global.
    local: Vec<u16>,
    /// There are more than the list has.
    local_unknown: bool,
    /// The supervisor executes pages that are not global.
    local_code: bool,
    /// Changes when code of user programs may lie elsewhere.
    space: u64,
}

impl Default for Tlb {
    fn default() -> Self {
        Self {
            entries: Table::default(),
            frames: Table::default(),
            exec: Box::new([[NO_EXEC; EXEC_ENTRIES]; 2]),
            class: 0,
            restarts: 0,
            pcid: 0,
            large: Box::new([0; LARGE_WORDS]),
            huge: Vec::new(),
            local: Vec::new(),
            local_unknown: false,
            local_code: false,
            space: 0,
        }
    }
}

impl Tlb {
    /// One whose address fits an instruction, if there is room for it.
    pub fn low() -> Self {
        Self { entries: Table::low(), ..Self::default() }
    }

    /// Where the entries of each class are, for translated code.
    pub fn addresses(&self) -> [u64; CLASSES] {
        std::array::from_fn(|class| &raw const self.entries[class * ENTRIES] as u64)
    }

    #[inline(always)]
    fn index(linear: u64) -> usize {
        (linear >> 12) as usize & (ENTRIES - 1)
    }

    /// The entry that a data access of the present class would use.
    #[inline(always)]
    pub fn entry(&self, linear: u64) -> &Entry {
        // The mask says what the compiler cannot know: the class is in range.
        &self.entries[(self.class | Self::index(linear)) & (ENTRIES * CLASSES - 1)]
    }

    /// The entry of another class.
    #[inline]
    pub fn entry_of(&self, class: Class, linear: u64) -> &Entry {
        &self.entries[(class as usize * ENTRIES) | Self::index(linear)]
    }

    /// The tag that a usable entry for `linear` carries.
    #[inline(always)]
    pub fn tag(linear: u64) -> u64 {
        linear | !PAGE_MASK
    }

    /// Changes whenever addresses of code that somebody keeps may be wrong, see [`Self::space`] as well.
    #[inline]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Sets the class of data accesses from now on.
    pub fn set_class(&mut self, class: Class) {
        self.class = class as usize * ENTRIES;
    }

    /// The class of data accesses.
    pub fn class(&self) -> Class {
        match self.class / ENTRIES {
            0 => Class::Supervisor,
            1 => Class::SupervisorAc,
            2 => Class::User,
            _ => Class::Checked,
        }
    }

    /// Stores a data translation. `read` and `write` say which accesses may use it.
    pub fn fill(&mut self, class: Class, linear: u64, host: u64, gpa: u64, allowed: Allowed) {
        if class == Class::Checked {
            return;
        }
        let tag = Self::tag(linear);
        let page = linear & PAGE_MASK;
        let Allowed { read, write, global } = allowed;
        let index = (class as usize * ENTRIES) | Self::index(linear);
        if !global {
            if self.local.len() < MAX_LOCAL {
                #[allow(clippy::cast_possible_truncation)]
                self.local.push(index as u16);
            } else {
                self.local_unknown = true;
            }
        }
        if write {
            self.frames[index] = Self::frame(gpa);
        }
        self.entries[index] = Entry {
            read: if read { tag } else { NEVER },
            write: if write { tag } else { NEVER },
            addend: host.wrapping_sub(page),
            page: gpa & PAGE_MASK | u64::from(global),
        };
    }

    /// Guest physical page of an instruction fetch, if cached.
    #[inline]
    pub fn exec(&self, user: bool, linear: u64) -> Option<u64> {
        let e = &self.exec[usize::from(user)][(linear >> 12) as usize & (EXEC_ENTRIES - 1)];
        (e.tag == Self::tag(linear)).then_some(e.gpa)
    }

    /// Stores an instruction translation.
    pub fn fill_exec(&mut self, user: bool, linear: u64, gpa: u64, global: bool) {
        self.local_code |= !user && !global;
        let tag = Self::tag(linear);
        self.exec[usize::from(user)][(linear >> 12) as usize & (EXEC_ENTRIES - 1)] =
            ExecEntry { tag, gpa: gpa & PAGE_MASK };
    }

    /// Remembers that the translation of `linear` came from a page of `1 << shift` bytes.
    pub fn note_large(&mut self, linear: u64, shift: u8) {
        if shift > 22 {
            if !self.huge.contains(&(linear >> 30)) {
                if self.huge.len() == MAX_HUGE {
                    self.flush_all();
                }
                self.huge.push(linear >> 30);
            }
        } else {
            // A 4 MiB page is two regions of 2 MiB.
            for part in [linear, linear ^ (1 << 21)] {
                let (word, bit) = Self::large_slot(part);
                self.large[word] |= bit;
            }
        }
    }

    fn large_slot(linear: u64) -> (usize, u64) {
        let n = (linear >> 21).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51;
        ((n >> 6) as usize & (LARGE_WORDS - 1), 1 << (n & 63))
    }

    /// Drops everything.
    pub fn flush_all(&mut self) {
        // The last class has no entries.
        self.entries[..ENTRIES * (CLASSES - 1)].fill(EMPTY);
        for table in self.exec.iter_mut() {
            table.fill(NO_EXEC);
        }
        self.local.clear();
        self.local_unknown = false;
        self.local_code = false;
        self.large.fill(0);
        self.huge.clear();
        self.restarts += 1;
    }

    /// Drops one PCID.
    pub fn flush_pcid(&mut self, pcid: u16) {
        if pcid == self.pcid {
            self.drop_local();
        }
    }

    /// Enters the address space of `pcid`, keeping what it had unless `flush`.
    pub fn switch(&mut self, pcid: u16, flush: bool) {
        if flush || pcid != self.pcid {
            self.pcid = pcid;
            self.drop_local();
        }
    }

    /// The PCID of the present address space.
    pub fn pcid(&self) -> u16 {
        self.pcid
    }

    /// Drops all translations but global ones.
    fn drop_local(&mut self) {
        if std::mem::take(&mut self.local_unknown) {
            for e in &mut self.entries[..ENTRIES * (CLASSES - 1)] {
                if e.page & 1 == 0 {
                    *e = EMPTY;
                }
            }
            self.local.clear();
        }
        for index in self.local.drain(..) {
            // A global one may have come into its place.
            let e = &mut self.entries[usize::from(index)];
            if e.page & 1 == 0 {
                *e = EMPTY;
            }
        }
        let [supervisor, user] = &mut *self.exec;
        user.fill(NO_EXEC);
        if self.local_code {
            supervisor.fill(NO_EXEC);
            self.local_code = false;
            self.restarts += 1;
        }
        self.space = (self.space + 1) & LAST_SPACE;
        if self.space == 0 {
            self.restarts += 1;
        }
    }

    /// Part of the keys of user programs' code: 20 bits.
    pub fn space(&self) -> u64 {
        self.space
    }

    /// Drops the translations of one page in every class and address space, with all parts of the
    /// large page that it may belong to. True if more than the one page went.
    pub fn flush_page(&mut self, linear: u64) -> bool {
        if self.huge.contains(&(linear >> 30)) {
            self.flush_all();
            return true;
        }
        let (word, bit) = Self::large_slot(linear);
        if self.large[word] & bit != 0 {
            let same = |tag: u64| tag >> 22 == linear >> 22;
            for e in self.entries.iter_mut() {
                if same(e.read) || same(e.write) {
                    *e = EMPTY;
                }
            }
            for e in self.exec.iter_mut().flatten() {
                if same(e.tag) {
                    e.tag = NEVER;
                }
            }
            return true;
        }
        for class in 0..CLASSES {
            self.entries[(class * ENTRIES) | Self::index(linear)] = EMPTY;
        }
        for table in self.exec.iter_mut() {
            table[(linear >> 12) as usize & (EXEC_ENTRIES - 1)].tag = NEVER;
        }
        false
    }

    /// Withdraws the write permission of every translation, or of those of one guest page.
    pub fn revoke_writes(&mut self, gpa: Option<u64>) {
        let Some(gpa) = gpa else {
            self.entries.iter_mut().for_each(|e| e.write = NEVER);
            return;
        };
        let wanted = Self::frame(gpa);
        let groups = self.entries.chunks_exact_mut(GROUP).zip(self.frames.chunks_exact(GROUP));
        for (entries, frames) in groups {
            // All of them are compared, because the compiler then compares several at once.
            if frames.iter().fold(0, |any, &frame| any | u32::from(frame == wanted)) != 0 {
                for e in entries.iter_mut().filter(|e| e.gpa() == gpa & PAGE_MASK) {
                    e.write = NEVER;
                }
            }
        }
    }

    /// A guest page's number, never 0; of pages beyond 8 TiB some share one.
    #[allow(clippy::cast_possible_truncation)]
    fn frame(gpa: u64) -> u32 {
        (gpa >> 12) as u32 | 1 << 31
    }
}

#[cfg(test)]
mod tests;
