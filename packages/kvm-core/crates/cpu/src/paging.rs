//! Address translation (SDM volume 3, chapter 4; AMD APM volume 2, chapter 5).
//!
//! One walk serves all formats: 32-bit with 4 MiB pages and PSE-36, PAE, and four levels with
//! 2 MiB and 1 GiB pages. A walk reads at most four entries, and restarts only when another CPU
//! changed an entry under it, a bounded number of times.

use crate::bits::{cr0, cr4, efer, pf};
use crate::{Access, Cpu, Exec, Trap, flags};

/// A translation and what it allows, for the privilege class that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest physical address of the byte asked for.
    pub gpa: u64,
    /// log2 of the page's size: 12, 21, 22 or 30.
    pub page_shift: u8,
    /// Reads are allowed.
    pub read: bool,
    /// Writes are allowed and need no further update of the dirty bit.
    pub write: bool,
    /// Fetches are allowed.
    pub exec: bool,
    /// The translation survives changes of CR3.
    pub global: bool,
    /// All levels have the U/S bit.
    pub user_page: bool,
}

/// How often a walk starts again because an entry changed between its read and its update. After
/// that the guest sees a page fault that is gone when it looks, which every system handles.
const RESTARTS: u32 = 64;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const G: u64 = 0x100;
const NX: u64 = 1 << 63;

/// What of the CPU's state a walk depends on.
#[derive(Clone, Copy)]
struct Context {
    phys_mask: u64,
    cr3: u64,
    format: Format,
    nxe: bool,
    pse: bool,
    pge: bool,
    gbpages: bool,
    wp: bool,
    smep: bool,
    /// Supervisor accesses to user pages fault.
    smap: bool,
    user: bool,
    /// Rights of the keys of user and of supervisor pages: two bits for each key, no access and no
    /// writes. All are allowed where there are no keys.
    keys: [u32; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Flat,
    Legacy32,
    Pae,
    Four,
}

impl Context {
    fn new(cpu: &Cpu, user: bool, implicit_supervisor: bool) -> Self {
        let c4 = |bit: u64| cpu.cr4 & bit != 0;
        let format = if cpu.cr0 & cr0::PG == 0 {
            Format::Flat
        } else if cpu.long_active() {
            Format::Four
        } else if c4(cr4::PAE) {
            Format::Pae
        } else {
            Format::Legacy32
        };
        let keyed = format == Format::Four;
        let key_rights = |bit, rights| if keyed && c4(bit) { rights } else { 0 };
        let ac = cpu.rflags & flags::AC != 0 && !implicit_supervisor;
        Self {
            phys_mask: (1 << cpu.phys_bits) - 1,
            cr3: cpu.cr3,
            format,
            nxe: cpu.efer & efer::NXE != 0 && format != Format::Legacy32,
            pse: c4(cr4::PSE) || format != Format::Legacy32,
            pge: c4(cr4::PGE),
            gbpages: cpu.caps.gbpages,
            wp: cpu.cr0 & cr0::WP != 0,
            smep: c4(cr4::SMEP),
            smap: c4(cr4::SMAP) && !ac,
            user: user && !implicit_supervisor,
            keys: [key_rights(cr4::PKE, cpu.pkru), key_rights(cr4::PKS, cpu.msrs.pkrs as u32)],
        }
    }

    /// Bits that must be zero in a present entry at `level` (1 is the page table). `leaf` entries
    /// above level 1 also have zeros between the PAT bit and the address.
    fn reserved(&self, level: u8, leaf: bool) -> u64 {
        let mut bits = match self.format {
            Format::Flat => 0,
            Format::Legacy32 => {
                // PSE-36: bits 13 to 20 are address bits 32 to 39, as far as they exist.
                return if level == 2 && leaf {
                    let high = (self.phys_mask >> 32) & 0xff;
                    0x3f_e000 & !(high << 13)
                } else {
                    0
                };
            }
            Format::Pae => !self.phys_mask & !NX,
            Format::Four => !self.phys_mask & 0x000f_ffff_ffff_f000,
        };
        if !self.nxe {
            bits |= NX;
        }
        match (level, leaf) {
            (4, _) => bits | PS,
            (3, false) => bits,
            (3, true) => bits | 0x3fff_e000,
            (2, true) => bits | 0x1f_e000,
            _ => bits,
        }
    }

    fn error(&self, access: Access, present: bool, reserved: bool) -> u32 {
        let mut error = if present { pf::PRESENT } else { 0 };
        if reserved {
            error |= pf::RESERVED;
        }
        if access == Access::Write {
            error |= pf::WRITE;
        }
        if self.user {
            error |= pf::USER;
        }
        if access == Access::Fetch && (self.nxe || self.smep) {
            error |= pf::FETCH;
        }
        error
    }

    /// Read, write and fetch permission from the combined bits of all levels.
    fn rights(&self, us: bool, rw: bool, nx: bool) -> (bool, bool, bool) {
        if self.user {
            return (us, us && rw, us && !nx);
        }
        let data = !us || !self.smap;
        let fetch = !us || !self.smep;
        (data, data && (rw || !self.wp), fetch && !nx)
    }

    /// Whether the protection key of a page allows reads and writes.
    fn key(&self, us: bool, leaf: u64) -> (bool, bool) {
        let rights = self.keys[usize::from(!us)] >> (2 * (leaf >> 59 & 15));
        let read = rights & 1 == 0;
        (read, read && (rights & 2 == 0 || !self.user && !self.wp))
    }
}

/// An entry that was read on the way.
#[derive(Clone, Copy, Default)]
struct Step {
    address: u64,
    entry: u64,
}

/// The outcome of reading the tables once.
struct Found {
    steps: [Step; 4],
    count: usize,
    gpa: u64,
    shift: u8,
    us: bool,
    rw: bool,
    nx: bool,
}

/// Why no page was found: the entry is not present, or has reserved bits.
enum Missing {
    NotPresent,
    Reserved,
}

fn find<E: Exec + ?Sized>(e: &mut E, c: &Context, linear: u64) -> Result<Found, Missing> {
    let (bytes, bits) = if c.format == Format::Legacy32 { (4u8, 10) } else { (8, 9) };
    let mut found = Found {
        steps: [Step::default(); 4],
        count: 0,
        gpa: 0,
        shift: 12,
        us: true,
        rw: true,
        nx: false,
    };
    let (mut level, mut table) = match c.format {
        Format::Four => (4u8, c.cr3 & c.phys_mask & !0xfff),
        Format::Pae => {
            let entry = pdptr(e, (linear >> 30 & 3) as usize);
            if entry & P == 0 {
                return Err(Missing::NotPresent);
            }
            if entry & pdptr_reserved(c.phys_mask) != 0 {
                return Err(Missing::Reserved);
            }
            (2, entry & c.phys_mask & !0xfff)
        }
        _ => (2, c.cr3 & 0xffff_f000),
    };
    loop {
        let shift = 12 + bits * (level - 1);
        let index = linear >> shift & ((1 << bits) - 1);
        let address = table + index * u64::from(bytes);
        // Outside RAM nobody answers, and a bus without an answer reads as ones.
        let ones = if bytes == 4 { 0xffff_ffff } else { u64::MAX };
        let entry = e.read_physical(address, bytes).unwrap_or(ones);
        if entry & P == 0 {
            return Err(Missing::NotPresent);
        }
        let large = match level {
            2 => entry & PS != 0 && c.pse,
            3 => entry & PS != 0 && c.gbpages,
            _ => false,
        };
        let no_gbpages = level == 3 && entry & PS != 0 && !c.gbpages;
        if entry & c.reserved(level, large) != 0 || no_gbpages {
            return Err(Missing::Reserved);
        }
        found.us &= entry & US != 0;
        found.rw &= entry & RW != 0;
        found.nx |= c.nxe && entry & NX != 0;
        if let Some(step) = found.steps.get_mut(found.count) {
            *step = Step { address, entry };
            found.count += 1;
        }
        if level == 1 || large {
            let offset = (1u64 << shift) - 1;
            let mut base = if c.format == Format::Legacy32 {
                entry & 0xffff_f000
            } else {
                entry & c.phys_mask & !0xfff
            };
            base &= !offset;
            if large && c.format == Format::Legacy32 {
                base |= (entry >> 13 & 0xff) << 32;
            }
            found.gpa = base | linear & offset;
            found.shift = shift;
            return Ok(found);
        }
        table = if bytes == 4 { entry & 0xffff_f000 } else { entry & c.phys_mask & !0xfff };
        level -= 1;
    }
}

/// Sets accessed bits on the way and the dirty bit of the page. False if an entry was changed by
/// another CPU meanwhile: the walk starts again.
fn update_bits<E: Exec + ?Sized>(e: &mut E, c: &Context, found: &mut Found, write: bool) -> bool {
    let bytes = if c.format == Format::Legacy32 { 4 } else { 8 };
    let count = found.count;
    for (i, step) in found.steps.iter_mut().enumerate().take(count) {
        let want = step.entry | A | if write && i + 1 == count { D } else { 0 };
        if want == step.entry {
            continue;
        }
        // `None`: tables in ROM, where the update goes nowhere.
        if e.cmpxchg_physical(step.address, bytes, step.entry, want) == Some(false) {
            return false;
        }
        step.entry = want;
    }
    true
}

/// Translates `linear` for one access and sets accessed and dirty bits.
///
/// `user` is true when the effective privilege is 3; `implicit_supervisor` marks accesses to
/// descriptor tables and the like, which are privileged whatever CPL is and which RFLAGS.AC does
/// not exempt from SMAP. The caller has checked that `linear` is canonical.
///
/// # Errors
/// #PF with its exact error code; nothing was changed in memory.
pub fn walk<E: Exec + ?Sized>(
    e: &mut E,
    linear: u64,
    access: Access,
    user: bool,
    implicit_supervisor: bool,
) -> Result<Translation, Trap> {
    let c = Context::new(e.cpu(), user, implicit_supervisor);
    if c.format == Format::Flat {
        return Ok(flat(linear));
    }
    let linear = if c.format == Format::Four { linear } else { linear & 0xffff_ffff };
    for _ in 0..RESTARTS {
        let mut found = match find(e, &c, linear) {
            Ok(found) => found,
            Err(why) => {
                let reserved = matches!(why, Missing::Reserved);
                let error = c.error(access, reserved, reserved);
                return Err(e.cpu().page_fault(linear, error));
            }
        };
        let leaf = found.steps.get(found.count.wrapping_sub(1)).map_or(0, |s| s.entry);
        let (read, write, exec) = c.rights(found.us, found.rw, found.nx);
        let (key_read, key_write) = c.key(found.us, leaf);
        let denied_by_key = match access {
            Access::Read => !key_read,
            Access::Write => !key_write,
            Access::Fetch => false,
        };
        let (read, write) = (read && key_read, write && key_write);
        let allowed = match access {
            Access::Read => read,
            Access::Write => write,
            Access::Fetch => exec,
        };
        if !allowed {
            let key = if denied_by_key { pf::KEY } else { 0 };
            let error = c.error(access, true, false) | key;
            return Err(e.cpu().page_fault(linear, error));
        }
        if !update_bits(e, &c, &mut found, access == Access::Write) {
            continue;
        }
        let leaf = found.steps.get(found.count.wrapping_sub(1)).map_or(0, |s| s.entry);
        return Ok(Translation {
            gpa: found.gpa,
            page_shift: found.shift,
            read,
            write: write && leaf & D != 0,
            exec,
            global: leaf & G != 0 && c.pge,
            user_page: found.us,
        });
    }
    let error = c.error(access, false, false);
    Err(e.cpu().page_fault(linear, error))
}

/// Translates without permission checks and without touching memory (`KVM_TRANSLATE`). `None` if
/// nothing is mapped there.
pub fn translate_debug<E: Exec + ?Sized>(e: &mut E, linear: u64) -> Option<u64> {
    let c = Context::new(e.cpu(), false, true);
    match c.format {
        Format::Flat => Some(linear),
        Format::Four if !crate::bits::canonical(linear) => None,
        Format::Four => find(e, &c, linear).ok().map(|f| f.gpa),
        _ => find(e, &c, linear & 0xffff_ffff).ok().map(|f| f.gpa),
    }
}

fn flat(linear: u64) -> Translation {
    Translation {
        gpa: linear & 0xffff_ffff,
        page_shift: 12,
        read: true,
        write: true,
        exec: true,
        global: false,
        user_page: true,
    }
}

fn pdptr_reserved(phys_mask: u64) -> u64 {
    !phys_mask | 0x1e6
}

/// One page-directory-pointer entry; after state was set from outside they come from memory.
fn pdptr<E: Exec + ?Sized>(e: &mut E, index: usize) -> u64 {
    if !e.cpu().pdptrs_valid {
        let table = e.cpu().cr3 & 0xffff_ffe0;
        let entries = read_pdptrs(e, table);
        let cpu = e.cpu();
        cpu.pdptrs = entries;
        cpu.pdptrs_valid = true;
    }
    e.cpu().pdptrs[index & 3]
}

fn read_pdptrs<E: Exec + ?Sized>(e: &mut E, table: u64) -> [u64; 4] {
    let mut out = [0; 4];
    for (entry, at) in out.iter_mut().zip((table..).step_by(8)) {
        *entry = e.read_physical(at, 8).unwrap_or(u64::MAX);
    }
    out
}

/// Loads the four page-directory-pointer entries for a CR3 value, as MOV CR3 does in PAE mode.
///
/// # Errors
/// #GP(0) when a present entry has reserved bits; nothing has changed then.
pub fn load_pdptrs<E: Exec + ?Sized>(e: &mut E, cr3: u64) -> Result<(), Trap> {
    let entries = read_pdptrs(e, cr3 & 0xffff_ffe0);
    let cpu = e.cpu();
    let reserved = pdptr_reserved((1 << cpu.phys_bits) - 1);
    if entries.iter().any(|entry| entry & P != 0 && entry & reserved != 0) {
        return Err(cpu.gp(0));
    }
    cpu.pdptrs = entries;
    cpu.pdptrs_valid = true;
    Ok(())
}
