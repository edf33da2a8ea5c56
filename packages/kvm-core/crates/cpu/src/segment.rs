//! Segment descriptors and segment registers (SDM volume 3, chapters 3 and 5).

use crate::bits::{acc, canonical, cr0};
use crate::{Cpu, Exec, Mode, Seg, Trap, Vector, seg};

/// A descriptor as it lies in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The eight bytes.
    pub raw: u64,
    /// Linear address of the descriptor.
    pub address: u64,
}

impl Descriptor {
    /// Base, 32 bits.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.raw >> 16 & 0xff_ffff | (self.raw >> 56) << 24
    }
    /// Limit with the granularity applied.
    #[must_use]
    pub fn limit(&self) -> u32 {
        let limit = (self.raw & 0xffff | self.raw >> 32 & 0xf_0000) as u32;
        if self.flags() & 8 != 0 { limit << 12 | 0xfff } else { limit }
    }
    /// P, DPL, S and type.
    #[must_use]
    pub fn access(&self) -> u8 {
        (self.raw >> 40) as u8
    }
    /// AVL, L, D/B and G.
    #[must_use]
    pub fn flags(&self) -> u8 {
        (self.raw >> 52 & 15) as u8
    }
    /// Descriptor privilege level.
    #[must_use]
    pub fn dpl(&self) -> u8 {
        self.access() >> 5 & 3
    }
    /// P.
    #[must_use]
    pub fn present(&self) -> bool {
        self.access() & acc::PRESENT != 0
    }
    /// Type of a system descriptor; `None` for code and data.
    #[must_use]
    pub fn system_type(&self) -> Option<u8> {
        (self.access() & acc::S == 0).then_some(self.access() & 15)
    }
    /// Code of any kind.
    #[must_use]
    pub fn is_code(&self) -> bool {
        self.access() & (acc::S | acc::CODE) == acc::S | acc::CODE
    }
    /// Conforming code.
    #[must_use]
    pub fn is_conforming(&self) -> bool {
        self.is_code() && self.access() & acc::CONFORMING != 0
    }
    /// Data that can be written: what SS needs.
    #[must_use]
    pub fn is_writable_data(&self) -> bool {
        self.access() & (acc::S | acc::CODE | acc::RW) == acc::S | acc::RW
    }
    /// Data, or code that can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let a = self.access();
        a & acc::S != 0 && (a & acc::CODE == 0 || a & acc::RW != 0)
    }
    /// L.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.flags() & 2 != 0
    }
    /// D/B.
    #[must_use]
    pub fn is_big(&self) -> bool {
        self.flags() & 4 != 0
    }
    /// The segment register that a load of this descriptor gives.
    #[must_use]
    pub fn to_seg(&self, selector: u16) -> Seg {
        Seg {
            base: self.base(),
            limit: self.limit(),
            selector,
            access: self.access(),
            flags: self.flags(),
            unusable: false,
        }
    }
}

/// True for the four selectors of descriptor 0 of the GDT.
#[must_use]
pub fn is_null(selector: u16) -> bool {
    selector & 0xfffc == 0
}

/// The error code that names a selector.
#[must_use]
pub fn selector_error(selector: u16) -> u32 {
    u32::from(selector & 0xfffc)
}

/// A segment register after the load of a null selector. `dpl` is what SS carries as CPL.
#[must_use]
pub fn null_seg(selector: u16, dpl: u8) -> Seg {
    Seg { selector, access: dpl << 5, unusable: true, ..Seg::default() }
}

/// The address of a descriptor, if the selector lies inside its table.
fn locate(cpu: &Cpu, selector: u16, bytes: u32) -> Option<u64> {
    let offset = u32::from(selector & 0xfff8);
    let (base, limit) = if selector & 4 == 0 {
        (cpu.gdtr.base, u32::from(cpu.gdtr.limit))
    } else {
        let ldt = &cpu.segs[seg::LDTR];
        if ldt.unusable {
            return None;
        }
        (ldt.base, ldt.limit)
    };
    (offset + (bytes - 1) <= limit).then(|| cpu.wrap_linear(base.wrapping_add(u64::from(offset))))
}

/// Reads the descriptor of a non-null selector. `vector` is the fault for a selector outside its
/// table: #GP, or #TS while a task state segment is being used. `ext` is 1 while an event that
/// the program did not ask for is being delivered, and 0 otherwise.
///
/// # Errors
/// `vector(selector)` or the page fault of the read.
pub fn fetch<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    vector: Vector,
    ext: u32,
) -> Result<Descriptor, Trap> {
    let Some(address) = locate(e.cpu(), selector, 8) else {
        return Err(e.cpu().raise(vector, selector_error(selector) | ext));
    };
    let raw = e.read_linear(address, 8, true)?;
    Ok(Descriptor { raw, address })
}

/// The upper half of a 16-byte descriptor: bits 63 to 32 of its base or offset.
///
/// # Errors
/// #GP(selector) when it lies outside the table or its type field is not zero.
pub fn fetch_upper<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    vector: Vector,
) -> Result<u64, Trap> {
    let Some(address) = locate(e.cpu(), selector, 16) else {
        return Err(e.cpu().raise(vector, selector_error(selector)));
    };
    let upper = e.read_linear(address.wrapping_add(8), 8, true)?;
    if upper >> 40 & 0x1f != 0 {
        return Err(e.cpu().raise(vector, selector_error(selector)));
    }
    Ok(upper & 0xffff_ffff)
}

/// Sets the accessed bit of a code or data descriptor in memory.
///
/// # Errors
/// The page fault of the write.
pub fn mark_accessed<E: Exec + ?Sized>(e: &mut E, d: &mut Descriptor) -> Result<(), Trap> {
    if d.access() & acc::ACCESSED == 0 {
        e.update_byte(d.address.wrapping_add(5), 0, acc::ACCESSED)?;
        d.raw |= u64::from(acc::ACCESSED) << 40;
    }
    Ok(())
}

/// MOV and POP to a segment register, LDS and its kin, in every mode. CS is not allowed here (the
/// decoder raises #UD).
///
/// # Errors
/// #GP, #NP or #SS as the SDM has it for MOV.
pub fn load_segment<E: Exec + ?Sized>(e: &mut E, index: usize, selector: u16) -> Result<(), Trap> {
    let cpu = e.cpu();
    if cpu.real_or_v86() {
        load_real_segment(cpu, index, selector);
        e.segment_loaded();
        return Ok(());
    }
    let (cpl, rpl) = (cpu.cpl, (selector & 3) as u8);
    let error = selector_error(selector);
    if is_null(selector) {
        if index == seg::SS && (cpu.mode != Mode::Long64 || cpl == 3 || rpl != cpl) {
            return Err(cpu.gp(0));
        }
        cpu.segs[index] = null_seg(selector, if index == seg::SS { cpl } else { 0 });
        e.segment_loaded();
        return Ok(());
    }
    let mut d = fetch(e, selector, Vector::Gp, 0)?;
    let fits = if index == seg::SS {
        rpl == cpl && d.is_writable_data() && d.dpl() == cpl
    } else {
        d.is_readable() && (d.is_conforming() || (d.dpl() >= rpl && d.dpl() >= cpl))
    };
    if !fits {
        return Err(e.cpu().gp(error));
    }
    if !d.present() {
        let vector = if index == seg::SS { Vector::Ss } else { Vector::Np };
        return Err(e.cpu().raise(vector, error));
    }
    mark_accessed(e, &mut d)?;
    e.cpu().segs[index] = d.to_seg(selector);
    if index == seg::SS {
        e.context_changed();
    } else {
        e.segment_loaded();
    }
    Ok(())
}

/// Loads a segment register in real or virtual-8086 mode. In real mode limit and attributes stay
/// as they are, which is what "unreal mode" rests on.
pub fn load_real_segment(cpu: &mut Cpu, index: usize, selector: u16) {
    let v86 = cpu.cr0 & cr0::PE != 0;
    let s = &mut cpu.segs[index];
    s.selector = selector;
    s.base = u64::from(selector) << 4;
    if v86 {
        s.limit = 0xffff;
        s.access = 0xf3;
        s.flags = 0;
    } else if s.unusable {
        s.limit = 0xffff;
        s.access = 0x93;
        s.flags = 0;
    }
    s.unusable = false;
}

/// Checks an access of `len` bytes (at least 1) at `offset` in segment `index` and gives its
/// linear address. Segments are checked as the present mode does: limits and types outside 64-bit
/// mode, canonical addresses in it.
///
/// # Errors
/// #SS(0) for the stack segment, #GP(0) for the others.
pub fn check_segment(
    cpu: &mut Cpu,
    index: usize,
    offset: u64,
    len: u64,
    write: bool,
) -> Result<u64, Trap> {
    let s = cpu.segs[index & 7];
    let linear = if cpu.mode == Mode::Long64 {
        let base = if matches!(index, seg::FS | seg::GS) { s.base } else { 0 };
        let linear = base.wrapping_add(offset);
        let last = linear.wrapping_add(len.wrapping_sub(1));
        (canonical(linear) && canonical(last)).then_some(linear)
    } else {
        let typed = cpu.real_or_v86() || type_allows(&s, write);
        (typed && (inside_limit(&s, offset, len) || endless(&s, offset)))
            .then(|| s.base.wrapping_add(offset) & 0xffff_ffff)
    };
    linear.ok_or_else(|| cpu.raise(if index == seg::SS { Vector::Ss } else { Vector::Gp }, 0))
}

fn type_allows(s: &Seg, write: bool) -> bool {
    if s.unusable {
        return false;
    }
    let code = s.access & acc::CODE != 0;
    let rw = s.access & acc::RW != 0;
    if write { !code && rw } else { !code || rw }
}

/// True if no operand runs into the limit: where that is 4 GiB, processors go on at zero (SDM volume 3,
/// 5.3, leaves it open).
fn endless(s: &Seg, offset: u64) -> bool {
    let grows_up = s.access & (acc::CODE | acc::CONFORMING) != acc::CONFORMING;
    grows_up && s.limit == u32::MAX && offset <= u64::from(s.limit)
}

/// True if all of `len` bytes at `offset` lie inside the segment's limit.
pub(crate) fn inside_limit(s: &Seg, offset: u64, len: u64) -> bool {
    let Some(last) = offset.checked_add(len.wrapping_sub(1)) else { return false };
    let expand_down = s.access & (acc::S | acc::CODE | acc::CONFORMING) == acc::S | acc::CONFORMING;
    if expand_down {
        let top = if s.big() { 0xffff_ffff } else { 0xffff };
        offset > u64::from(s.limit) && last <= top
    } else {
        last <= u64::from(s.limit)
    }
}

/// LLDT.
///
/// # Errors
/// #UD in real and virtual-8086 mode, #GP or #NP as the SDM has it.
pub fn lldt<E: Exec + ?Sized>(e: &mut E, selector: u16) -> Result<(), Trap> {
    e.cpu().require_protected()?;
    e.cpu().require_cpl0()?;
    if is_null(selector) {
        e.cpu().segs[seg::LDTR] = null_seg(selector, 0);
        return Ok(());
    }
    let (d, upper) = fetch_table(e, selector, &[2])?;
    let mut s = d.to_seg(selector);
    s.base |= upper << 32;
    e.cpu().segs[seg::LDTR] = s;
    Ok(())
}

/// LTR: the TSS becomes busy.
///
/// # Errors
/// As for [`lldt`]; a null selector is #GP(0).
pub fn ltr<E: Exec + ?Sized>(e: &mut E, selector: u16) -> Result<(), Trap> {
    e.cpu().require_protected()?;
    e.cpu().require_cpl0()?;
    if is_null(selector) {
        return Err(e.cpu().gp(0));
    }
    let types: &[u8] = if e.cpu().long_active() { &[9] } else { &[1, 9] };
    let (d, upper) = fetch_table(e, selector, types)?;
    let busy = d.access() | 2;
    e.update_byte(d.address.wrapping_add(5), 0, 2)?;
    let mut s = d.to_seg(selector);
    s.base |= upper << 32;
    s.access = busy;
    e.cpu().segs[seg::TR] = s;
    Ok(())
}

/// A system descriptor of one of `types` from the GDT, with the upper half of its base.
fn fetch_table<E: Exec + ?Sized>(
    e: &mut E,
    selector: u16,
    types: &[u8],
) -> Result<(Descriptor, u64), Trap> {
    let error = selector_error(selector);
    if selector & 4 != 0 {
        return Err(e.cpu().gp(error));
    }
    let d = fetch(e, selector, Vector::Gp, 0)?;
    if !d.system_type().is_some_and(|t| types.contains(&t)) {
        return Err(e.cpu().gp(error));
    }
    let upper = if e.cpu().long_active() { fetch_upper(e, selector, Vector::Gp)? } else { 0 };
    if !canonical(upper << 32 | d.base()) {
        return Err(e.cpu().gp(error));
    }
    if !d.present() {
        return Err(e.cpu().raise(Vector::Np, error));
    }
    Ok((d, upper))
}

/// What LAR, LSL, VERR and VERW ask of a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// LAR.
    AccessRights,
    /// LSL.
    Limit,
    /// VERR.
    Readable,
    /// VERW.
    Writable,
}

/// LAR, LSL, VERR and VERW: `Some` with the destination's value (not masked to the operand size;
/// 0 for VERR and VERW) sets ZF, `None` clears it and leaves the destination.
///
/// # Errors
/// #UD in real and virtual-8086 mode, or the page fault of the descriptor's read.
pub fn query<E: Exec + ?Sized>(e: &mut E, what: Query, selector: u16) -> Result<Option<u64>, Trap> {
    e.cpu().require_protected()?;
    if is_null(selector) || locate(e.cpu(), selector, 8).is_none() {
        return Ok(None);
    }
    let d = fetch(e, selector, Vector::Gp, 0)?;
    let long = e.cpu().long_active();
    let privileged = d.dpl() >= e.cpu().cpl && d.dpl() >= (selector & 3) as u8;
    let visible = d.is_conforming() || privileged;
    let allowed = match (what, d.system_type()) {
        (Query::AccessRights, Some(t)) => {
            // LDT, TSS and, for LAR alone, gates. In long mode 16-bit TSSs and task gates are gone.
            matches!(t, 2 | 9 | 11 | 12) || !long && matches!(t, 1 | 3 | 4 | 5)
        }
        (Query::Limit, Some(t)) => matches!(t, 2 | 9 | 11) || !long && matches!(t, 1 | 3),
        (Query::AccessRights | Query::Limit, None) => true,
        (Query::Readable, _) => d.is_readable(),
        (Query::Writable, _) => d.is_writable_data(),
    };
    if !allowed || !visible {
        return Ok(None);
    }
    Ok(Some(match what {
        Query::AccessRights => d.raw >> 32 & 0x00ff_ff00,
        Query::Limit => u64::from(d.limit()),
        Query::Readable | Query::Writable => 0,
    }))
}

impl Cpu {
    /// Linear addresses have 32 bits outside long mode.
    pub(crate) fn wrap_linear(&self, address: u64) -> u64 {
        if self.long_active() { address } else { address & 0xffff_ffff }
    }

    /// #GP(0) unless CPL is 0.
    ///
    /// # Errors
    /// #GP(0).
    pub fn require_cpl0(&mut self) -> Result<(), Trap> {
        if self.cpl == 0 { Ok(()) } else { Err(self.gp(0)) }
    }

    /// #UD in real and virtual-8086 mode.
    ///
    /// # Errors
    /// #UD.
    pub fn require_protected(&mut self) -> Result<(), Trap> {
        if self.real_or_v86() { Err(self.ud()) } else { Ok(()) }
    }
}
