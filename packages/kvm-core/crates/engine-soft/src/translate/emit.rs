//! One block: guest instructions with their memory accesses checked, everything else left to the
//! interpreter.

use iced_x86::Instruction;

use super::asm::{Assembler, Opcode, Rm, host};
use super::flags::{self, Effect, UNKNOWN};
use super::guest::{Form, Operand, Register, Shape};
use super::state::{BUDGET, RAX, REQUESTS, pinned, register};
use super::stubs::{ClassStubs, Stubs, load_flags};
use super::vector_state::compare_level;
use crate::op::Op;
use crate::tlb::Class;

/// Guest code of one block, instruction by instruction.
pub struct Source<'a> {
    pub ops: &'a [Op],
    pub instructions: &'a [Instruction],
    /// The bytes of the block.
    pub bytes: &'a [u8],
    /// The shapes of those that are emitted.
    pub shapes: Vec<Option<Shape>>,
    /// Offset in the page of each instruction, and of the end.
    pub offsets: Vec<u16>,
    pub class: Class,
    /// The first number of the block's sites.
    pub site: u32,
}

/// What the emitter asks about other code of the page.
pub trait Page {
    /// The linked entry of the block at an offset, if it is translated.
    fn linked(&self, offset: u16) -> Option<u64>;
    /// The flags that code at an offset may read before it overwrites them.
    fn needs(&self, offset: u16) -> u32;
}

/// The translation of a block.
pub struct Emitted {
    pub code: Vec<u8>,
    /// Offset in the code at which linked jumps arrive.
    pub linked: usize,
}

/// An access that the TLB does not answer, handled behind the block.
struct Slow {
    /// Jumps that arrive there.
    from: Vec<usize>,
    site: u32,
    /// Where the block goes on; `None` behind its last instruction.
    back: Option<u64>,
    /// The flags are in their place in the vCPU.
    flags_saved: bool,
}

pub struct Emitter<'a> {
    pub asm: Assembler,
    pub source: &'a Source<'a>,
    pub stubs: &'a Stubs,
    page: &'a dyn Page,
    slow: Vec<Slow>,
    /// Jumps that leave at the block's start, and what goes back to the budget then.
    leaving: Vec<(usize, u32)>,
    /// The flags are in their place at these.
    flags_at_entry: bool,
    /// Jumps to offsets of the page whose code is not known.
    exits: Vec<(usize, u16)>,
    live: Vec<u32>,
    linked: u64,
    /// Which vector registers the block needs.
    level: usize,
    /// The jump to where they are loaded, and where that comes back to.
    lower: Option<(usize, u64)>,
}

/// Translates a block that will lie at `origin`.
pub fn emit(source: &Source<'_>, stubs: &Stubs, page: &dyn Page, origin: u64) -> Emitted {
    let effects: Vec<Effect> = source
        .instructions
        .iter()
        .zip(&source.shapes)
        .map(|(i, shape)| shape.map_or(UNKNOWN, |_| flags::effect(i)))
        .collect();
    let mut e = Emitter {
        asm: Assembler::new(origin),
        source,
        stubs,
        page,
        slow: Vec::new(),
        leaving: Vec::new(),
        flags_at_entry: false,
        exits: Vec::new(),
        live: Vec::new(),
        linked: 0,
        level: level(&source.shapes),
        lower: None,
    };
    e.live = flags::live_after(&effects, e.needs_behind());
    let at_entry = flags::live_before(effects[0], e.live[0]);
    e.prologue(at_entry != 0);
    let linked = e.asm.len();
    e.linked = e.asm.here();
    e.count(at_entry != 0);
    e.body();
    e.slow_paths();
    e.link_exits();
    Emitted { code: e.asm.code().to_vec(), linked }
}

fn level(shapes: &[Option<Shape>]) -> usize {
    let levels = shapes.iter().map(|shape| match shape {
        Some(Shape::Vector(form)) => usize::from(form.level),
        _ => 0,
    });
    levels.max().unwrap_or(0)
}

impl Emitter<'_> {
    fn last(&self) -> usize {
        self.source.ops.len() - 1
    }

    pub fn site(&self, n: usize) -> u32 {
        self.source.site + n as u32
    }

    pub fn offset(&self, n: usize) -> u16 {
        self.source.offsets[n]
    }

    pub fn class(&self) -> usize {
        self.source.class as usize
    }

    pub fn class_stubs(&self) -> ClassStubs {
        self.stubs.classes[self.source.class as usize]
    }

    /// True if the arithmetic flags are needed after an instruction.
    pub fn live_after(&self, n: usize) -> bool {
        self.live[n] != 0
    }

    /// The flags that code behind the block needs.
    fn needs_behind(&self) -> u32 {
        let last = self.last();
        let next = i64::from(self.offset(last + 1));
        match self.source.shapes[last] {
            Some(Shape::Jump | Shape::Call) => self.needs_at(self.target(last)),
            Some(Shape::Branch(_)) => self.needs_at(self.target(last)) | self.needs_at(next),
            Some(Shape::Indirect(..) | Shape::Return(_)) | None => flags::ALL,
            Some(_) => self.needs_at(next),
        }
    }

    fn needs_at(&self, offset: i64) -> u32 {
        match in_page(offset) {
            Some(offset) => self.page.needs(offset),
            None => flags::ALL,
        }
    }

    /// Offset, from the start of the page, of the target of a relative branch.
    pub fn target(&self, n: usize) -> i64 {
        i64::from(self.offset(n)).wrapping_add(self.source.ops[n].imm.cast_signed())
    }

    /// The block's entry: RAX and the flags come from their places.
    fn prologue(&mut self, flags: bool) {
        if flags {
            load_flags(&mut self.asm, host::RAX);
            self.asm.restore_flags();
        }
        self.asm.load(host::RAX, RAX);
    }

    /// Takes the block's instructions off the budget, or leaves: also when a request waits, so that
    /// who sees what another vCPU stored sees code that it stored before.
    fn count(&mut self, flags: bool) {
        let budget = Rm::State { index: None, disp: BUDGET };
        let n = self.source.ops.len() as i32;
        if flags {
            self.save_live_flags();
        }
        // mov r11, [requests]; cmp dword [r11], 0; jne
        self.asm.load(host::R11, REQUESTS);
        let word = Rm::Mem { base: host::R11, index: None, disp: 0 };
        self.asm.modrm(Opcode::narrow(0x83), 7, word);
        self.asm.byte(0);
        let asked = self.asm.jcc_later(5);
        // sub qword [budget], n; js
        self.asm.modrm(Opcode::wide(0x83), 5, budget);
        self.asm.byte(n as u8);
        let out = self.asm.jcc_later(8);
        if self.level > 0 {
            compare_level(&mut self.asm, self.level);
            self.lower = Some((self.asm.jcc_later(2), self.asm.here()));
        }
        if flags {
            self.load_live_flags();
        }
        for (from, back) in [(asked, 0), (out, n as u32)] {
            self.leaving.push((from, back));
        }
        self.flags_at_entry = flags;
    }

    fn body(&mut self) {
        let count = self.source.ops.len();
        let mut n = 0;
        while n < count {
            match self.source.shapes[n] {
                Some(shape) => {
                    self.instruction(n, shape);
                    n += 1;
                }
                None => {
                    let first = n;
                    while n < count && self.source.shapes[n].is_none() {
                        n += 1;
                    }
                    self.asm.mov_imm32(host::R11, self.site(first));
                    if n == count {
                        self.asm.jump(self.stubs.finish);
                        return;
                    }
                    self.call_interpreter();
                }
            }
        }
        let last = self.last();
        if !matches!(
            self.source.shapes[last],
            Some(
                Shape::Jump
                    | Shape::Branch(_)
                    | Shape::Call
                    | Shape::Indirect(..)
                    | Shape::Return(_)
            )
        ) {
            self.go_on();
        }
    }

    /// Goes on behind the block, whose last instruction is no branch.
    fn go_on(&mut self) {
        let last = self.last();
        let next = self.offset(last + 1);
        if next < 4096 {
            self.go_to(i64::from(next), last);
        } else {
            self.asm.mov_imm32(host::R10, u32::from(next));
            self.asm.jump(self.stubs.ahead);
        }
    }

    /// Has the interpreter execute the site in R11D.
    fn call_interpreter(&mut self) {
        let stub = self.stubs.interpret[self.level];
        self.asm.call(stub);
    }

    fn instruction(&mut self, n: usize, shape: Shape) {
        match shape {
            Shape::Nothing => {}
            Shape::Verbatim => {
                let bytes = self.bytes_of(n).to_vec();
                self.asm.bytes(&bytes);
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
                let to = pinned(reg).unwrap_or(host::R10);
                if pinned(reg).is_none() && access.read {
                    self.asm.load(host::R10, register(reg));
                }
                self.asm.in_opcode(op, to);
                self.immediate(n, imm);
                if pinned(reg).is_none() {
                    self.asm.store(register(reg), host::R10);
                }
            }
            Shape::Push(r) => self.push(n, Some(r), 0),
            Shape::PushImmediate(v) => self.push(n, None, v),
            Shape::Pop(r) => self.pop(n, r),
            Shape::Leave => self.leave(n),
            Shape::Jump => {
                let target = self.target(n);
                self.go_to(target, n);
            }
            Shape::Branch(c) => self.branch(n, c),
            Shape::Call => self.call(n),
            Shape::Indirect(form, call) => self.indirect(n, form, call),
            Shape::Return(_) => {
                self.asm.mov_imm32(host::R11, self.site(n));
                let to = self.class_stubs().ret;
                self.asm.jump(to);
            }
        }
    }

    pub fn bytes_of(&self, n: usize) -> &[u8] {
        let first = self.offset(0);
        let (from, to) = (self.offset(n) - first, self.offset(n + 1) - first);
        &self.source.bytes[usize::from(from)..usize::from(to)]
    }

    /// The last bytes of an instruction.
    fn immediate(&mut self, n: usize, count: u8) {
        let bytes = self.bytes_of(n);
        let imm = bytes[bytes.len() - usize::from(count)..].to_vec();
        self.asm.bytes(&imm);
    }

    fn lea_result(&mut self, form: Form) {
        // The address is in R10 with 64 bits; a smaller destination takes less of it.
        let Register::General(r) = form.reg else { return };
        let op = Opcode { byte: 0x8b, ..form.op };
        match pinned(r) {
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
            _ => self.slow_path(n, miss, false),
        }
        let Register::Extension(extension) = form.reg else { return };
        self.encode(form, extension, rm);
        self.resume_here();
    }

    fn encode(&mut self, form: Form, reg: u8, rm: Rm) {
        let high = matches!(form.reg, Register::High(_))
            || matches!(form.rm, Operand::Register(Register::High(_)));
        if high { self.asm.high_byte(form.op, reg, rm) } else { self.asm.modrm(form.op, reg, rm) }
    }

    /// The host register of an operand, loaded to `scratch` if it has none.
    fn operand(&mut self, r: Register, read: bool, scratch: u8) -> u8 {
        match r {
            Register::General(r) => pinned(r).unwrap_or_else(|| {
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
            && pinned(r).is_none()
        {
            self.asm.store(register(r), scratch);
        }
    }

    fn with_memory(&mut self, n: usize, form: Form) {
        let in_scratch = matches!(form.reg, Register::General(r) if pinned(r).is_none());
        // Flags that the instruction reads must pass the check, too.
        let live = self.flags_live_at_check(n);
        let rm = self.access(n, form.size, form.rm_access.write, form.locked, live, in_scratch);
        let reg = self.operand(form.reg, form.reg_access.read, host::R10);
        self.encode(form, reg, rm);
        self.immediate(n, form.imm);
        self.put_back(form.reg, form.reg_access.write, host::R10);
        self.resume_here();
    }

    /// True if a check in front of instruction `n` must leave the flags as they are.
    pub fn flags_live_at_check(&self, n: usize) -> bool {
        let effect = flags::effect(&self.source.instructions[n]);
        flags::live_before(effect, self.live[n]) != 0
    }

    /// The slow path that was made last comes back here.
    pub fn resume_here(&mut self) {
        let here = self.asm.here();
        if let Some(slow) = self.slow.last_mut() {
            slow.back = Some(here);
        }
    }

    /// Notes a jump to the interpreter for instruction `n`.
    pub fn slow_path(&mut self, n: usize, from: usize, flags_saved: bool) {
        let site = self.site(n);
        self.slow.push(Slow { from: vec![from], site, back: None, flags_saved });
    }

    /// Puts live flags where a check cannot reach them.
    pub fn save_live_flags(&mut self) {
        self.asm.store(RAX, host::RAX);
        self.asm.save_flags();
        let op = Opcode { operand_size: true, ..Opcode::narrow(0x89) };
        let place = Rm::State { index: None, disp: super::state::FLAGS };
        self.asm.modrm(op, host::RAX, place);
        self.asm.load(host::RAX, RAX);
    }

    /// Takes them back.
    pub fn load_live_flags(&mut self) {
        self.asm.store(RAX, host::RAX);
        load_flags(&mut self.asm, host::RAX);
        self.asm.restore_flags();
        self.asm.load(host::RAX, RAX);
    }

    fn slow_paths(&mut self) {
        let start = u32::from(self.offset(0));
        for (from, back) in std::mem::take(&mut self.leaving) {
            self.asm.land(from);
            if self.flags_at_entry {
                self.load_live_flags();
            }
            self.asm.mov_imm32(host::R10, start);
            self.asm.mov_imm32(host::R11, back);
            self.asm.jump(self.stubs.exhausted);
        }
        if let Some((from, back)) = self.lower.take() {
            self.asm.land(from);
            self.asm.mov_imm32(host::R10, start);
            self.asm.mov_imm32(host::R11, self.source.ops.len() as u32);
            self.asm.call(self.stubs.raise[self.level]);
            self.asm.jump(back);
        }
        for s in std::mem::take(&mut self.slow) {
            self.arrive(&s);
            self.asm.mov_imm32(host::R11, s.site);
            match s.back {
                Some(back) => {
                    self.call_interpreter();
                    self.asm.jump(back);
                }
                None => self.asm.jump(self.stubs.finish),
            }
        }
    }

    fn arrive(&mut self, slow: &Slow) {
        slow.from.iter().for_each(|&from| self.asm.land(from));
        if slow.flags_saved {
            self.load_live_flags();
        }
    }

    fn link_exits(&mut self) {
        for (after, offset) in std::mem::take(&mut self.exits) {
            self.asm.land(after);
            // lea r11, [rip + distance to the end of the jump]
            self.asm.bytes(&[0x4c, 0x8d, 0x1d]);
            let distance = after as i64 - (self.asm.len() as i64 + 4);
            self.asm.bytes(&(distance as i32).to_le_bytes());
            self.asm.mov_imm32(host::R10, u32::from(offset));
            self.asm.jump(self.stubs.unlinked);
        }
    }

    /// Where the block of an offset of the page is entered by a link, if it is known.
    pub fn linked_to(&self, offset: u16) -> Option<u64> {
        if offset == self.offset(0) { Some(self.linked) } else { self.page.linked(offset) }
    }

    /// Notes a jump, already emitted, to an offset of the page.
    pub fn exit(&mut self, after: usize, offset: u16) {
        self.exits.push((after, offset));
    }
}

/// An offset from the start of the page, if it is in the page.
pub fn in_page(offset: i64) -> Option<u16> {
    u16::try_from(offset).ok().filter(|&o| o < 4096)
}
