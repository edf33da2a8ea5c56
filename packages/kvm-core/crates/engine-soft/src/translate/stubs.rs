//! The fixed code around translated blocks: into it, out of it, from one block to another that is
//! not linked, and to the interpreter for one instruction.
//!
//! Conventions. In a block all pinned registers hold guest values, EFLAGS the guest's arithmetic
//! flags or something that nobody needs. R10 and R11 are scratch. A block's *entry* expects the
//! flags in [`FLAGS`], its *linked entry* has them live. RAX, which flags pass through, stays in a
//! register from one block to the next: a detour through memory would be waited for each time.

use super::asm::{Assembler, Opcode, Rm, Tables, host};
use super::dispatch::Way;
use super::entries::{
    ENTRY_BYTES, ENTRY_CODE, ENTRY_CONTEXT, ENTRY_RIP, NEAR_CODE, NEAR_MASK, SET_BYTES, SET_MASK,
};
use super::flat::Kind;
use super::state::{
    BUDGET, CONTEXT, ENTRIES, FLAGS, HOST_RSP, LINK, LINK_FORWARD, PAGE_BASE, RAX, RIP, SCRATCH,
    SITE, VCPU, near, reload, spill, table,
};
use super::vector_state::{LEVELS, emit_raise, emit_take_back, raise_again, take_back};
use crate::tlb::{CLASSES, Class, ENTRIES as TLB_ENTRIES, Entry};
use crate::vcpu::Vcpu;

/// Why code was left; the low half of what [`Stubs::enter`] yields.
pub mod left {
    /// RIP names a block that is not known. The flags are in `Hot::flags`.
    pub const JUMP: u64 = 1;
    /// The budget is too small for the block at RIP, or a request waits. The flags are in `Hot::flags`.
    pub const BUDGET: u64 = 2;
    /// The interpreter executed the last instruction; everything is in its place.
    pub const DONE: u64 = 3;
    /// The interpreter's instruction trapped.
    pub const TRAP: u64 = 4;
}

/// Addresses of the stubs for one class of memory accesses and one kind of code.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassStubs {
    /// Jump to the linear address in R10, which is not in the small table, for each [`Way`]. The flags are
    /// in their place, R11D is the site.
    pub far: [u64; 3],
}

/// All stubs.
#[derive(Clone, Copy, Debug)]
pub struct Stubs {
    /// What the stubs were assembled with.
    pub tables: Tables,
    enter: u64,
    /// Called: interpret the instructions at the site in R11D and come back with the vector
    /// registers of the level.
    pub interpret: [u64; LEVELS],
    /// Called: raise the level at the start of a block, see `emit_raise`.
    pub raise: [u64; LEVELS],
    /// Called: the jump with the number R11D may learn its target, the linear address in R10. The flags
    /// are in their place.
    pub sample: u64,
    /// Jumped to: interpret the instructions at the site in R11D, the last ones of their block.
    pub finish: u64,
    /// Jumped to: go to offset R10 of the page, also forward. R11 is the end of a jump that may be
    /// linked.
    pub unlinked: [u64; 2],
    /// Jumped to: go on at offset R10 of the page, which may be its end.
    pub ahead: u64,
    /// Jumped to: the block at offset R10 of the page is not executed now. R11 instructions go back to
    /// the budget.
    pub exhausted: u64,
    /// Of 64-bit and of flat code.
    classes: [[ClassStubs; CLASSES]; 2],
}

impl Stubs {
    /// Runs translated code from a block's entry, which changes the vCPU. Yields one of [`left`].
    ///
    /// # Safety
    /// `entry` belongs to the vCPU, and the thread's GS points at it.
    pub unsafe fn enter(&self, entry: u64, vcpu: *mut Vcpu) -> u64 {
        // SAFETY: the stub is a function of this type.
        let enter: extern "sysv64" fn(u64, *mut Vcpu) -> u64 =
            unsafe { std::mem::transmute(self.enter) };
        enter(entry, vcpu)
    }

    /// Assembles the stubs, with the addresses of the functions of the engine.
    pub fn assemble(asm: &mut Assembler, functions: Functions) -> Self {
        let Functions { interpret, learn } = functions;
        let enter = asm.here();
        emit_enter(asm);
        let take_back = emit_take_back(asm);
        let leave = asm.here();
        emit_leave(asm, take_back);
        let engine = Engine { function: interpret, take_back };
        let interpreted = std::array::from_fn(|level| {
            let at = asm.here();
            emit_interpret(asm, engine, leave, level);
            at
        });
        let raise = std::array::from_fn(|level| emit_raise(asm, level, take_back, leave));
        let sample = asm.here();
        emit_sample(asm, Engine { function: learn, take_back });
        let finish = asm.here();
        emit_finish(asm, engine, leave);
        let unlinked = [false, true].map(|forward| {
            let at = asm.here();
            emit_unlinked(asm, forward, leave);
            at
        });
        let ahead = asm.here();
        emit_ahead(asm, leave);
        let exhausted = asm.here();
        emit_exhausted(asm, leave);
        let missed = asm.here();
        emit_missed(asm, engine, leave);
        let classes = [Kind::Long, Kind::Flat].map(|kind| {
            std::array::from_fn(|class| ClassStubs {
                far: [Way::Jump, Way::Call, Way::Return].map(|way| {
                    let at = asm.here();
                    emit_far(asm, class, kind, way, missed);
                    at
                }),
            })
        });
        Self {
            tables: asm.tables,
            enter,
            interpret: interpreted,
            raise,
            sample,
            finish,
            unlinked,
            ahead,
            exhausted,
            classes,
        }
    }

    /// Those for a class of accesses.
    pub fn of(&self, kind: Kind, class: Class) -> &ClassStubs {
        &self.classes[usize::from(kind == Kind::Flat)][class as usize]
    }
}

/// RBX, RBP, R12 to R15: what a function must keep.
const KEPT: [u8; 6] = [3, 5, 12, 13, 14, 15];
/// Keeps the stack aligned for the calls of the stubs.
const PAD: i32 = 8;

fn emit_enter(asm: &mut Assembler) {
    for r in KEPT {
        asm.in_opcode(Opcode::narrow(0x50), r);
    }
    asm.lea_rsp(-PAD);
    asm.store(HOST_RSP, host::RSP);
    asm.mov(host::R10, host::RDI);
    reload(asm);
    asm.load(host::RAX, RAX);
    asm.modrm(Opcode::narrow(0xff), 4, Rm::Reg(host::R10));
}

/// Back to the engine with the code in EAX, from any depth of calls.
fn emit_leave(asm: &mut Assembler, stub: u64) {
    asm.load(host::RSP, HOST_RSP);
    take_back(asm, stub);
    asm.lea_rsp(PAD);
    for r in KEPT.into_iter().rev() {
        asm.in_opcode(Opcode::narrow(0x58), r);
    }
    asm.byte(0xc3);
}

/// RAX to its place and the flags to AX.
fn take_flags(asm: &mut Assembler) {
    asm.store(RAX, host::RAX);
    asm.save_flags();
}

/// `mov word [FLAGS], ax`.
fn store_flags(asm: &mut Assembler) {
    let op = Opcode { operand_size: true, ..Opcode::narrow(0x89) };
    asm.modrm(op, host::RAX, Rm::State { index: None, disp: FLAGS });
}

/// The flags to their place. RAX keeps its value, `scratch` does not.
pub fn save_flags(asm: &mut Assembler, scratch: u8) {
    asm.mov(scratch, host::RAX);
    asm.save_flags();
    store_flags(asm);
    asm.mov(host::RAX, scratch);
}

/// `movzx to, word [FLAGS]`.
pub fn load_flags(asm: &mut Assembler, to: u8) {
    asm.modrm(Opcode::two(0xb7), to, Rm::State { index: None, disp: FLAGS });
}

/// The engine's functions that code calls.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    /// Interprets the instructions at a site.
    pub interpret: u64,
    /// Lets a jump know its target.
    pub learn: u64,
}

/// How stubs call the engine.
#[derive(Clone, Copy)]
struct Engine {
    function: u64,
    take_back: u64,
}

/// Calls the engine's function for the site in ESI and the flags in EDX.
fn call_engine(asm: &mut Assembler, engine: Engine) {
    take_back(asm, engine.take_back);
    asm.load(host::RDI, VCPU);
    asm.in_opcode(Opcode::wide(0xb8), host::RAX);
    asm.bytes(&engine.function.to_le_bytes());
    asm.modrm(Opcode::narrow(0xff), 2, Rm::Reg(host::RAX));
}

fn emit_interpret(asm: &mut Assembler, engine: Engine, leave: u64, level: usize) {
    take_flags(asm);
    spill(asm);
    // movzx edx, ax; mov esi, r11d
    asm.modrm(Opcode::two(0xb7), host::RDX, Rm::Reg(host::RAX));
    asm.modrm(Opcode::narrow(0x8b), host::RSI, Rm::Reg(host::R11));
    asm.lea_rsp(-8);
    call_engine(asm, engine);
    asm.lea_rsp(8);
    let out = test_status(asm);
    let refused = (level > 0).then(|| raise_again(asm, level, engine.take_back));
    reload(asm);
    asm.restore_flags();
    asm.load(host::RAX, RAX);
    asm.byte(0xc3);
    if let Some(refused) = refused {
        asm.land(refused);
        asm.mov_imm32(host::RAX, (left::DONE << 16) as u32);
    }
    asm.land(out);
    shift_status(asm);
    asm.jump(leave);
}

/// Lets the engine's function have the number in R11D and the address in R10, which stays there.
fn emit_sample(asm: &mut Assembler, engine: Engine) {
    asm.store(RAX, host::RAX);
    spill(asm);
    asm.store(SCRATCH, host::R10);
    asm.modrm(Opcode::narrow(0x8b), host::RSI, Rm::Reg(host::R11));
    asm.mov(host::RDX, host::R10);
    asm.lea_rsp(-8);
    call_engine(asm, engine);
    asm.lea_rsp(8);
    reload(asm);
    asm.load(host::RAX, RAX);
    asm.load(host::R10, SCRATCH);
    asm.byte(0xc3);
}

/// Jumps if the function's result says to leave.
fn test_status(asm: &mut Assembler) -> usize {
    // test eax, 0xffff0000
    asm.byte(0xa9);
    asm.bytes(&0xffff_0000u32.to_le_bytes());
    asm.jcc_later(5)
}

fn shift_status(asm: &mut Assembler) {
    // shr eax, 16
    asm.bytes(&[0xc1, 0xe8, 16]);
}

fn emit_finish(asm: &mut Assembler, engine: Engine, leave: u64) {
    take_flags(asm);
    spill(asm);
    asm.modrm(Opcode::two(0xb7), host::RDX, Rm::Reg(host::RAX));
    asm.modrm(Opcode::narrow(0x8b), host::RSI, Rm::Reg(host::R11));
    call_engine(asm, engine);
    let out = test_status(asm);
    store_flags(asm);
    asm.load(host::R10, RIP);
    let looked = look_up(asm);
    reload(asm);
    asm.load(host::RAX, RAX);
    go(asm);
    second_entry(asm, &looked);
    asm.mov_imm32(host::RAX, left::DONE as u32);
    asm.jump(leave);
    asm.land(out);
    shift_status(asm);
    asm.jump(leave);
}

/// The status of a way out that has its RIP in R10 and the flags in AX.
fn emit_way_out(asm: &mut Assembler, status: u64, leave: u64) {
    store_flags(asm);
    asm.modrm(Opcode::wide(0x03), host::R10, Rm::State { index: None, disp: PAGE_BASE });
    asm.store(RIP, host::R10);
    spill(asm);
    asm.mov_imm32(host::RAX, status as u32);
    asm.jump(leave);
}

fn emit_unlinked(asm: &mut Assembler, forward: bool, leave: u64) {
    take_flags(asm);
    asm.store(LINK, host::R11);
    asm.mov_imm32(host::R11, u32::from(forward));
    asm.store(LINK_FORWARD, host::R11);
    emit_way_out(asm, left::JUMP, leave);
}

fn emit_ahead(asm: &mut Assembler, leave: u64) {
    take_flags(asm);
    store_flags(asm);
    asm.modrm(Opcode::wide(0x03), host::R10, Rm::State { index: None, disp: PAGE_BASE });
    let looked = look_up(asm);
    asm.load(host::RAX, RAX);
    go(asm);
    second_entry(asm, &looked);
    asm.store(RIP, host::R10);
    spill(asm);
    asm.mov_imm32(host::RAX, left::JUMP as u32);
    asm.jump(leave);
}

fn emit_exhausted(asm: &mut Assembler, leave: u64) {
    take_flags(asm);
    asm.modrm(Opcode::wide(0x01), host::R11, Rm::State { index: None, disp: BUDGET });
    emit_way_out(asm, left::BUDGET, leave);
}

/// A look at the table of entry points.
struct LookUp {
    /// Jumps away where the first entry of the set is another's.
    first: [usize; 2],
    found: u64,
}

/// The entry point for the linear address in R10, left in R11. Uses RAX. [`second_entry`] must follow
/// out of line.
fn look_up(asm: &mut Assembler) -> LookUp {
    asm.mov(host::R11, host::R10);
    // shr r11, 6; mov eax, r10d; and eax, 63; xor r11, rax; and r11d, mask; shl r11d, 6
    asm.modrm(Opcode::wide(0xc1), 5, Rm::Reg(host::R11));
    asm.byte(6);
    asm.modrm(Opcode::narrow(0x8b), host::RAX, Rm::Reg(host::R10));
    asm.bytes(&[0x83, 0xe0, 63]);
    asm.modrm(Opcode::wide(0x33), host::R11, Rm::Reg(host::RAX));
    asm.modrm(Opcode::narrow(0x81), 4, Rm::Reg(host::R11));
    asm.bytes(&(SET_MASK as u32).to_le_bytes());
    asm.modrm(Opcode::narrow(0xc1), 4, Rm::Reg(host::R11));
    asm.byte(SET_BYTES.trailing_zeros() as u8);
    asm.modrm(Opcode::wide(0x03), host::R11, Rm::State { index: None, disp: ENTRIES });
    let first = compare_entry(asm);
    LookUp { first, found: asm.here() }
}

/// Compares the entry at R11 with the linear address in R10 and the context, or jumps away.
fn compare_entry(asm: &mut Assembler) -> [usize; 2] {
    let field = |disp| Rm::Mem { base: host::R11, index: None, disp };
    asm.modrm(Opcode::wide(0x3b), host::R10, field(ENTRY_RIP));
    let address = asm.jcc_later(5);
    asm.load(host::RAX, CONTEXT);
    asm.modrm(Opcode::wide(0x3b), host::RAX, field(ENTRY_CONTEXT));
    let context = asm.jcc_later(5);
    [address, context]
}

/// Looks at the other entry of the set, and lands the jumps away if it is another's, too.
fn second_entry(asm: &mut Assembler, look_up: &LookUp) {
    look_up.first.iter().for_each(|&m| asm.land(m));
    asm.lea(host::R11, host::R11, None, ENTRY_BYTES as i32);
    let misses = compare_entry(asm);
    asm.jump(look_up.found);
    misses.into_iter().for_each(|m| asm.land(m));
}

/// Enters the block that [`look_up`] found.
fn go(asm: &mut Assembler) {
    set_page(asm);
    let code = Rm::Mem { base: host::R11, index: None, disp: ENTRY_CODE };
    asm.modrm(Opcode::narrow(0xff), 4, code);
}

/// What a branch does whose target is not known or whose access is not simple: all of it is left to
/// the interpreter, and the engine looks for the next block. RAX is in its place.
fn emit_missed(asm: &mut Assembler, engine: Engine, leave: u64) {
    spill(asm);
    load_flags(asm, host::RDX);
    asm.modrm(Opcode::narrow(0x8b), host::RSI, Rm::State { index: None, disp: SITE });
    call_engine(asm, engine);
    let out = test_status(asm);
    asm.mov_imm32(host::RAX, left::DONE as u32);
    asm.jump(leave);
    asm.land(out);
    shift_status(asm);
    asm.jump(leave);
}

/// A look at the small table of entry points.
pub struct Near {
    /// The entry is that many bytes behind R11.
    at: i32,
    /// A jump away where the entry is another's.
    pub miss: usize,
}

impl Near {
    /// Where the entry's code is.
    pub fn code(&self) -> Rm {
        entry_field(self.at + NEAR_CODE)
    }
}

/// Where the entry of the linear address in R10 is in the small table: that many bytes behind R11.
fn near_entry(asm: &mut Assembler, class: usize) -> i32 {
    // mov r11d, r10d; and r11d, mask
    asm.modrm(Opcode::narrow(0x8b), host::R11, Rm::Reg(host::R10));
    asm.modrm(Opcode::narrow(0x81), 4, Rm::Reg(host::R11));
    asm.bytes(&NEAR_MASK.to_le_bytes());
    asm.tables.near[class].unwrap_or_else(|| {
        asm.modrm(Opcode::wide(0x03), host::R11, Rm::State { index: None, disp: near(class) });
        0
    })
}

/// Looks for the linear address in R10.
pub fn look_near(asm: &mut Assembler, class: usize) -> Near {
    let at = near_entry(asm, class);
    asm.modrm(Opcode::wide(0x3b), host::R10, entry_field(at));
    Near { at, miss: asm.jcc_later(5) }
}

/// Goes to the linear address in R10 if the large table has it, and lets it be found in the small one.
fn emit_far(asm: &mut Assembler, class: usize, kind: Kind, way: Way, missed: u64) {
    asm.modrm(Opcode::narrow(0x89), host::R11, Rm::State { index: None, disp: SITE });
    asm.store(RAX, host::RAX);
    let large = look_up(asm);
    let code = Rm::Mem { base: host::R11, index: None, disp: ENTRY_CODE };
    asm.modrm(Opcode::wide(0x8b), host::RAX, code);
    let at = near_entry(asm, class);
    asm.modrm(Opcode::wide(0x89), host::R10, entry_field(at));
    asm.modrm(Opcode::wide(0x89), host::RAX, entry_field(at + NEAR_CODE));
    asm.load(host::RAX, RAX);
    let moved = way.slots() * kind.slot();
    match kind {
        _ if moved == 0 => {}
        Kind::Long => asm.lea(host::R9, host::R9, None, moved),
        // Here the stack pointer wraps.
        Kind::Flat => asm.lea_short(host::R9, host::R9, None, moved),
    }
    set_page(asm);
    asm.modrm(Opcode::narrow(0xff), 4, entry_field(at + NEAR_CODE));
    second_entry(asm, &large);
    asm.jump(missed);
}

/// The page of the linear address in R10 to its place.
pub fn set_page(asm: &mut Assembler) {
    // and r10, -4096
    asm.modrm(Opcode::wide(0x81), 4, Rm::Reg(host::R10));
    asm.bytes(&(-4096i32).to_le_bytes());
    asm.store(PAGE_BASE, host::R10);
}

/// Makes of the linear address in R11 where its TLB entry is: that many bytes behind R11.
pub fn tlb_entry(asm: &mut Assembler, class: usize) -> i32 {
    const SHIFT: u8 = 12 - size_of::<Entry>().trailing_zeros() as u8;
    const MASK: i32 = ((TLB_ENTRIES - 1) * size_of::<Entry>()) as i32;
    // shr r11, SHIFT; and r11d, MASK
    asm.modrm(Opcode::wide(0xc1), 5, Rm::Reg(host::R11));
    asm.byte(SHIFT);
    asm.modrm(Opcode::narrow(0x81), 4, Rm::Reg(host::R11));
    asm.bytes(&MASK.to_le_bytes());
    asm.tables.tlb[class].unwrap_or_else(|| {
        asm.modrm(Opcode::wide(0x03), host::R11, Rm::State { index: None, disp: table(class) });
        0
    })
}

/// A field of the entry at R11.
pub fn entry_field(disp: i32) -> Rm {
    Rm::Mem { base: host::R11, index: None, disp }
}

/// Compares the page of the address in `last`, that of the access's last byte, with a tag. The access
/// must have an alignment, which is not more than its size.
pub fn tlb_compare(asm: &mut Assembler, last: u8, tag: i32, alignment: u8) {
    // or last, 4096 - alignment: a tag has ones in all these bits, and in those below if aligned
    asm.modrm(Opcode::wide(0x81), 1, Rm::Reg(last));
    asm.bytes(&(4096 - i32::from(alignment)).to_le_bytes());
    asm.modrm(Opcode::wide(0x3b), last, entry_field(tag));
}
