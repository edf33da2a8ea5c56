//! One region: guest instructions with their memory accesses checked, everything else left to the
//! interpreter.

use super::asm::{Assembler, Opcode, Rm, host};
use super::dispatch::Far;
use super::flags;
use super::flat::Kind;
use super::group::{self, Group};
use super::guest::{Form, Operand, Register, Shape};
use super::region::{Page, Region, Source};
use super::state::{pinned, register};
use super::stubs::Stubs;
use super::targets::Targets;
use super::ways_out::{Back, Exit, Leaving, Miss, Slow};

/// The translation of a region.
pub struct Emitted {
    /// Bytes of its code, which are in [`Scratch::code`].
    pub bytes: usize,
    /// Offsets in the code at which linked jumps arrive: any, and those forward in the page.
    pub linked: u64,
    pub forward: u64,
}

/// A block without groups: for each instruction, where it is and whether the flags are in their place
/// there. Empty where there is no copy.
type Ungrouped = Vec<(u64, bool)>;

pub struct Emitter<'a> {
    pub asm: Assembler,
    pub region: &'a Region<'a>,
    /// The block that is being emitted.
    pub source: &'a Source<'a>,
    pub block: usize,
    pub stubs: &'a Stubs,
    pub page: &'a dyn Page,
    pub slow: Vec<Slow>,
    pub leaving: Vec<Leaving>,
    /// Jumps to offsets of the page outside the region, and whether they go forward.
    pub exits: Vec<(Exit, u16, bool)>,
    /// Where each block that was emitted starts.
    pub labels: Vec<Option<u64>>,
    /// Jumps to blocks that were not.
    pub pending: Vec<(usize, usize)>,
    /// The flags that are needed after each instruction of the block.
    pub live: Vec<u32>,
    /// Which vector registers the region needs.
    pub level: usize,
    /// Calls the interpreter.
    pub interpret: u64,
    /// The flags are in their place in the vCPU, and the host's mean nothing.
    pub flags_saved: bool,
    /// Groups of the block, unless it is the copy that is being emitted.
    pub groups: Vec<Group>,
    pub copying: bool,
    pub copies: Vec<Ungrouped>,
    pub misses: Vec<Miss>,
    /// Jumps to other pages.
    pub far: Vec<Far>,
    /// What they may know, and the number of the first.
    pub targets: Vec<Targets>,
    pub first_targets: usize,
    /// The group whose addend R11 has.
    pub addend: Option<usize>,
}

/// What the emitter fills and empties for each region, kept for the next.
#[derive(Default)]
pub struct Scratch {
    /// The code of the last region.
    pub code: Vec<u8>,
    slow: Vec<Slow>,
    leaving: Vec<Leaving>,
    exits: Vec<(Exit, u16, bool)>,
    labels: Vec<Option<u64>>,
    pending: Vec<(usize, usize)>,
    live: Vec<u32>,
    groups: Vec<Group>,
    misses: Vec<Miss>,
    far: Vec<Far>,
    /// What its jumps may know.
    pub targets: Vec<Targets>,
}

/// Translates a region that will lie at `origin`.
pub fn emit(
    region: &Region<'_>,
    stubs: &Stubs,
    page: &dyn Page,
    origin: u64,
    first_targets: usize,
    scratch: &mut Scratch,
) -> Emitted {
    let level = level(region);
    let kept = std::mem::take(scratch);
    let mut labels = kept.labels;
    labels.clear();
    labels.resize(region.blocks.len(), None);
    let mut targets = kept.targets;
    targets.clear();
    let mut e = Emitter {
        asm: Assembler::new(kept.code, origin, stubs.tables),
        region,
        source: &region.blocks[0],
        block: 0,
        stubs,
        page,
        slow: kept.slow,
        leaving: kept.leaving,
        exits: kept.exits,
        labels,
        pending: kept.pending,
        live: kept.live,
        level,
        interpret: stubs.interpret[level],
        flags_saved: false,
        groups: kept.groups,
        copying: false,
        copies: vec![Ungrouped::new(); region.blocks.len()],
        misses: kept.misses,
        far: kept.far,
        targets,
        first_targets,
        addend: None,
    };
    let entry = e.enter();
    for block in 0..region.blocks.len() {
        e.emit_block(block);
    }
    e.emit_copies();
    let [linked, forward] = e.enter_with_flags(entry);
    e.group_misses();
    e.far_jumps();
    e.leave_polls();
    e.leave_region();
    e.slow_paths();
    *scratch = Scratch {
        code: e.asm.into_code(),
        slow: e.slow,
        leaving: e.leaving,
        exits: e.exits,
        labels: e.labels,
        pending: e.pending,
        live: e.live,
        groups: e.groups,
        misses: e.misses,
        far: e.far,
        targets: e.targets,
    };
    Emitted { bytes: scratch.code.len(), linked, forward }
}

fn level(region: &Region<'_>) -> usize {
    let shapes = region.blocks.iter().flat_map(|b| &b.shapes);
    let levels = shapes.map(|shape| match shape {
        Some(Shape::Vector(form)) => usize::from(form.level),
        _ => 0,
    });
    levels.max().unwrap_or(0)
}

impl<'a> Emitter<'a> {
    pub fn site(&self, n: usize) -> u32 {
        self.source.site + n as u32
    }

    pub fn offset(&self, n: usize) -> u16 {
        self.source.offsets[n]
    }

    pub fn class(&self) -> usize {
        self.region.class as usize
    }

    /// True in flat code.
    pub fn flat(&self) -> bool {
        self.region.kind == Kind::Flat
    }

    /// Bytes of a stack slot.
    pub fn slot(&self) -> i32 {
        self.region.kind.slot()
    }

    /// An instruction with an operand of a stack slot's size, which is also that of addresses.
    pub fn full(&self, byte: u8) -> Opcode {
        Opcode { wide: !self.flat(), ..Opcode::narrow(byte) }
    }

    /// Adds to the stack pointer. The flags stay.
    pub fn move_stack(&mut self, by: i32) {
        let sum = Rm::Mem { base: host::R9, index: None, disp: by };
        self.asm.modrm(self.full(0x8d), host::R9, sum);
    }

    /// The host register that a guest register has here.
    pub fn home(&self, register: u8) -> Option<u8> {
        let borrowed = self.region.borrowed.iter().find(|&&(guest, _)| guest == register);
        borrowed.map(|&(_, donor)| donor).or(pinned(register))
    }

    /// True if the arithmetic flags are needed after an instruction.
    pub fn live_after(&self, n: usize) -> bool {
        self.live[n] != 0
    }

    /// Lends host registers to R9 to R11. The flags stay.
    pub fn borrow(&mut self) {
        for &(guest, donor) in &self.region.borrowed {
            self.asm.store(register(donor), donor);
            self.asm.load(donor, register(guest));
        }
    }

    /// Takes them back.
    pub fn give_back(&mut self) {
        for &(guest, donor) in &self.region.borrowed {
            self.asm.store(register(guest), donor);
            self.asm.load(donor, register(donor));
        }
    }

    fn emit_block(&mut self, block: usize) {
        self.block = block;
        self.source = &self.region.blocks[block];
        self.find_live();
        let flags_saved = self.begin_block();
        let mut groups = std::mem::take(&mut self.groups);
        group::plan(
            self.source,
            |r| self.home(r).is_some(),
            |n| self.source.shapes[n].is_some() && self.flags_live_at_check(n),
            &mut groups,
        );
        self.groups = groups;
        self.body(0, flags_saved);
    }

    fn find_live(&mut self) {
        let behind = self.region.needs_behind(self.block);
        flags::live_after(&self.source.effects, behind, &mut self.live);
    }

    /// Copies of the blocks with groups, from the first check on.
    fn emit_copies(&mut self) {
        self.groups.clear();
        self.copying = true;
        for block in 0..self.region.blocks.len() {
            let entries = self.misses.iter().filter(|m| m.block == block).map(|m| m.n);
            let Some(first) = entries.min() else { continue };
            self.block = block;
            self.source = &self.region.blocks[block];
            self.find_live();
            self.copies[block] = vec![(0, false); self.source.ops.len() + 1];
            self.body(first, false);
        }
    }

    fn body(&mut self, first: usize, flags_saved: bool) {
        let count = self.source.ops.len();
        self.flags_saved = flags_saved;
        self.addend = None;
        let mut n = first;
        while n < count {
            self.note_copy(n);
            match self.source.shapes[n] {
                Some(shape) => {
                    self.check_groups(n);
                    self.instruction(n, shape);
                    n += 1;
                }
                None => {
                    let first = n;
                    self.need_flags();
                    while n < count && self.source.shapes[n].is_none() {
                        n += 1;
                    }
                    self.asm.mov_imm32(host::R11, self.site(first));
                    if n == count {
                        self.give_back();
                        self.asm.jump(self.stubs.finish);
                        return;
                    }
                    self.call_interpreter();
                    self.addend = None;
                }
            }
        }
        self.note_copy(count);
        if !self.source.shapes[self.source.last()].is_some_and(|shape| shape.transfers()) {
            self.go_on();
        }
    }

    fn note_copy(&mut self, n: usize) {
        if self.copying {
            self.copies[self.block][n] = (self.asm.here(), self.flags_saved);
        }
    }

    /// Goes on behind the block, whose last instruction is no branch.
    fn go_on(&mut self) {
        let last = self.source.last();
        let next = self.offset(last + 1);
        if next < 4096 {
            self.go_to(i64::from(next), last);
        } else {
            self.need_flags();
            self.give_back();
            self.asm.mov_imm32(host::R10, u32::from(next));
            self.asm.jump(self.stubs.ahead);
        }
    }

    /// Has the interpreter execute the site in R11D.
    pub fn call_interpreter(&mut self) {
        self.give_back();
        self.asm.call(self.interpret);
        // What it changed of the lender is in its place already.
        for &(guest, donor) in &self.region.borrowed {
            self.asm.load(donor, register(guest));
        }
    }

    fn instruction(&mut self, n: usize, shape: Shape) {
        let slow = self.slow.len();
        let keeps = self.keeps_addend(n, shape);
        self.emit_shape(n, shape);
        if !keeps {
            self.addend = None;
        }
        self.flags_after(n);
        if shape.transfers() {
            return;
        }
        let first = self.groups.iter().map(|g| g.at).min();
        let back = match first {
            // What the checks found out may not hold any more.
            Some(first) if n >= first => Back::Copy(self.block, n + 1),
            _ => Back::Here(self.asm.here(), self.flags_saved),
        };
        if let Some(slow) = self.slow.get_mut(slow) {
            slow.back = back;
        }
    }

    fn emit_shape(&mut self, n: usize, shape: Shape) {
        match shape {
            Shape::Nothing => {}
            Shape::Verbatim => {
                self.flags_before(n);
                self.asm.bytes(self.bytes_of(n));
            }
            Shape::Modrm(form) => self.modrm(n, form),
            Shape::Vector(form) => self.vector(n, form),
            Shape::Divide(form) => self.divide(n, form),
            Shape::Lea(form) => {
                if !self.lea_at_once(n, form) {
                    self.effective(n, host::R10);
                    self.lea_result(form);
                }
            }
            Shape::InOpcode { op, reg, access, imm } => {
                let home = self.home(reg);
                let to = home.unwrap_or(host::R10);
                if home.is_none() && access.read {
                    self.asm.load(host::R10, register(reg));
                }
                self.asm.in_opcode(op, to);
                self.immediate(n, imm);
                if home.is_none() {
                    self.asm.store(register(reg), host::R10);
                }
            }
            Shape::Element(e) => self.element(n, e),
            Shape::Repeated(e) => self.repeated(n, e),
            Shape::Push(r) => self.push(n, Some(r), 0),
            Shape::PushImmediate(v) => self.push(n, None, v),
            Shape::Pop(r) => self.pop(n, r),
            Shape::Leave => self.leave(n),
            Shape::Jump => {
                let target = self.source.target(n);
                self.go_to(target, n);
            }
            Shape::Branch(c) => {
                self.flags_before(n);
                self.branch(n, c);
            }
            Shape::Call => self.call(n),
            Shape::Indirect(form, call) => self.indirect(n, form, call),
            Shape::Return(_) => self.go_back(n),
            Shape::System(op) => self.system(n, op),
        }
    }

    pub fn bytes_of(&self, n: usize) -> &'a [u8] {
        let source = self.source;
        let first = self.offset(0);
        let (from, to) = (self.offset(n) - first, self.offset(n + 1) - first);
        &source.bytes[usize::from(from)..usize::from(to)]
    }

    /// The last bytes of an instruction.
    fn immediate(&mut self, n: usize, count: u8) {
        let bytes = self.bytes_of(n);
        self.asm.bytes(&bytes[bytes.len() - usize::from(count)..]);
    }

    fn lea_result(&mut self, form: Form) {
        // The address is in R10 with 64 bits; a smaller destination takes less of it.
        let Register::General(r) = form.reg else { return };
        let op = Opcode { byte: 0x8b, ..form.op };
        match self.home(r) {
            Some(to) => self.asm.modrm(op, to, Rm::Reg(host::R10)),
            None if form.op.operand_size => {
                let slot = Rm::State { index: None, disp: register(r) };
                self.asm.modrm(Opcode { byte: 0x89, ..op }, host::R10, slot);
            }
            None => {
                if !form.op.wide {
                    self.asm.modrm(Opcode::narrow(0x8b), host::R10, Rm::Reg(host::R10));
                }
                self.asm.store(register(r), host::R10);
            }
        }
    }

    /// An instruction with a register and a register or memory operand.
    fn modrm(&mut self, n: usize, form: Form) {
        match form.rm {
            Operand::Memory => self.with_memory(n, form),
            Operand::Register(rm) => {
                self.flags_before(n);
                let reg = self.operand(form.reg, form.reg_access.read, host::R10);
                let to = self.operand(rm, form.rm_access.read, host::R11);
                self.encode(form, reg, Rm::Reg(to));
                self.immediate(n, form.imm);
                self.put_back(form.reg, form.reg_access.write, host::R10);
                self.put_back(rm, form.rm_access.write, host::R11);
            }
        }
    }

    /// DIV, unless the quotient does not fit: that is the interpreter's to report.
    fn divide(&mut self, n: usize, form: Form) {
        let rm = match form.rm {
            Operand::Memory => self.access(n, form.size, false, false, false, false),
            Operand::Register(rm) => Rm::Reg(self.operand(rm, true, host::R11)),
        };
        // cmp rdx, divisor; jae: a divisor of 0 is among them.
        self.asm.modrm(Opcode { wide: form.op.wide, ..Opcode::narrow(0x3b) }, host::RDX, rm);
        let miss = self.asm.jcc_later(3);
        match (form.rm, self.slow.last_mut()) {
            (Operand::Memory, Some(slow)) => slow.from.push(miss),
            _ => self.slow_path(n, miss),
        }
        let Register::Extension(extension) = form.reg else { return };
        self.encode(form, extension, rm);
    }

    fn encode(&mut self, form: Form, reg: u8, rm: Rm) {
        let high = matches!(form.reg, Register::High(_))
            || matches!(form.rm, Operand::Register(Register::High(_)));
        if high { self.asm.high_byte(form.op, reg, rm) } else { self.asm.modrm(form.op, reg, rm) }
    }

    /// The host register of an operand, loaded to `scratch` if it has none.
    fn operand(&mut self, r: Register, read: bool, scratch: u8) -> u8 {
        match r {
            Register::General(r) => self.home(r).unwrap_or_else(|| {
                if read {
                    self.asm.load(scratch, register(r));
                }
                scratch
            }),
            Register::High(r) | Register::Extension(r) => r,
        }
    }

    fn put_back(&mut self, r: Register, written: bool, scratch: u8) {
        if let Register::General(r) = r
            && written
            && self.home(r).is_none()
        {
            self.asm.store(register(r), scratch);
        }
    }

    fn with_memory(&mut self, n: usize, form: Form) {
        let in_scratch = matches!(form.reg, Register::General(r) if self.home(r).is_none());
        // Flags that the instruction reads must pass the check, too.
        let live = self.flags_live_at_check(n);
        let rm = self.access(n, form.size, form.rm_access.write, form.locked, live, in_scratch);
        let reg = self.operand(form.reg, form.reg_access.read, host::R10);
        self.encode(form, reg, rm);
        self.immediate(n, form.imm);
        self.put_back(form.reg, form.reg_access.write, host::R10);
    }

    /// True if a block of the region follows the present one.
    pub fn follows(&self, block: usize) -> bool {
        !self.copying && block == self.block + 1
    }
}

/// An offset from the start of the page, if it is in the page.
pub fn in_page(offset: i64) -> Option<u16> {
    u16::try_from(offset).ok().filter(|&o| o < 4096)
}
