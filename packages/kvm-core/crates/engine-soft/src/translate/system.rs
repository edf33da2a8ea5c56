//! What a kernel executes all the time: interrupt flag, SWAPGS, control registers and selectors, and
//! pushes of memory and flags. Whatever is not the plain case, above all a fault, is the interpreter's.

use iced_x86::{Instruction, Mnemonic, OpKind, Register as Name};

use super::asm::{Opcode, Rm, host};
use super::emit::Emitter;
use super::guest::{Form, Operand};
use super::state::{
    self, CPL, CR4, FLAGS, KERNEL_GS_BASE, PKRU, RFLAGS, SCRATCH, STI_SHADOW, WAITING, register,
};
use crate::lower;

/// IF is this bit of the second byte of RFLAGS.
const IF: u8 = 2;
/// RF, which PUSHF leaves out.
const RF: i32 = 1 << 16;
const PKE: i32 = 1 << 22;

/// Instructions of this kind.
#[derive(Clone, Copy, Debug)]
pub enum System {
    PushMemory(Form),
    PushFlags,
    ClearInterrupts,
    SetInterrupts,
    SwapGs,
    /// From CR0, CR2, CR3 or CR4 to a general register.
    ReadControl {
        register: u8,
        number: u8,
    },
    /// A selector to a general register of 32 or 64 bits.
    ReadSelector {
        register: u8,
        segment: u8,
    },
    ReadPkru,
}

/// The instruction, if it is one of these; `form` is that of one with a memory operand.
pub fn system(i: &Instruction, form: impl FnOnce() -> Option<Form>) -> Option<System> {
    Some(match i.mnemonic() {
        Mnemonic::Push if i.op0_kind() == OpKind::Memory => {
            System::PushMemory(form().filter(|form| form.rm == Operand::Memory)?)
        }
        Mnemonic::Pushfq | Mnemonic::Pushfd => System::PushFlags,
        Mnemonic::Cli => System::ClearInterrupts,
        Mnemonic::Sti => System::SetInterrupts,
        Mnemonic::Swapgs => System::SwapGs,
        Mnemonic::Rdpkru => System::ReadPkru,
        Mnemonic::Mov if i.op1_register().is_cr() => {
            let number = match i.op1_register() {
                Name::CR0 => 0,
                Name::CR2 => 2,
                Name::CR3 => 3,
                Name::CR4 => 4,
                _ => return None,
            };
            System::ReadControl { register: lower::number(i.op0_register()), number }
        }
        Mnemonic::Mov if i.op1_register().is_segment_register() => {
            // With 16 bits the rest of the register stays; to memory it is a store.
            let to = i.op0_register();
            if !to.is_gpr32() && !to.is_gpr64() {
                return None;
            }
            let segment = lower::segment(i.op1_register());
            System::ReadSelector { register: lower::number(to), segment }
        }
        _ => return None,
    })
}

fn at(disp: i32) -> Rm {
    Rm::State { index: None, disp }
}

impl Emitter<'_> {
    pub fn system(&mut self, n: usize, op: System) {
        match op {
            System::PushMemory(form) => self.push_memory(n, form),
            System::PushFlags => self.push_flags(n),
            System::ClearInterrupts => {
                self.privileged(n);
                // and byte [rflags + 1], ~IF
                self.asm.modrm(Opcode::narrow(0x80), 4, at(RFLAGS + 1));
                self.asm.byte(!IF);
            }
            System::SetInterrupts => self.set_interrupts(n),
            System::SwapGs => {
                self.privileged(n);
                let base = state::segment_base(kvm_cpu::seg::GS as u8);
                self.asm.load(host::R10, base);
                self.asm.load(host::R11, KERNEL_GS_BASE);
                self.asm.store(base, host::R11);
                self.asm.store(KERNEL_GS_BASE, host::R10);
            }
            System::ReadControl { register, number } => {
                self.privileged(n);
                self.asm.load(host::R10, state::control(number));
                self.put(register);
            }
            System::ReadSelector { register, segment } => {
                // movzx r10d, word [selector]
                self.asm.modrm(Opcode::two(0xb7), host::R10, at(state::selector(segment)));
                self.put(register);
            }
            System::ReadPkru => self.read_pkru(n),
        }
    }

    /// R10 to a guest register.
    fn put(&mut self, r: u8) {
        match self.home(r) {
            Some(to) => self.asm.modrm(self.full(0x8b), to, Rm::Reg(host::R10)),
            None => self.asm.store(register(r), host::R10),
        }
    }

    /// Goes on at CPL 0 only. The code is the same for CPL 1 and 2.
    fn privileged(&mut self, n: usize) {
        if self.flags_live_at_check(n) {
            self.protect_flags();
        }
        self.asm.modrm(Opcode::narrow(0x80), 7, at(CPL));
        self.asm.byte(0);
        let above = self.asm.jcc_later(5);
        self.slow_path(n, above);
    }

    /// Another reason for the slow path of this instruction.
    pub fn or_slow(&mut self, from: usize) {
        if let Some(slow) = self.slow.last_mut() {
            slow.from.push(from);
        }
    }

    /// STI, unless something waits for it.
    fn set_interrupts(&mut self, n: usize) {
        self.privileged(n);
        // test byte [rflags + 1], IF: then it does nothing.
        self.asm.modrm(Opcode::narrow(0xf6), 0, at(RFLAGS + 1));
        self.asm.byte(IF);
        let already = self.asm.jcc_later(5);
        self.asm.modrm(Opcode::narrow(0x80), 7, at(WAITING));
        self.asm.byte(0);
        let waiting = self.asm.jcc_later(5);
        self.or_slow(waiting);
        self.asm.modrm(Opcode::narrow(0x80), 1, at(RFLAGS + 1));
        self.asm.byte(IF);
        // What comes now comes behind the next instruction.
        self.asm.modrm(Opcode::narrow(0xc6), 0, at(STI_SHADOW));
        self.asm.byte(1);
        self.asm.land(already);
    }

    fn push_memory(&mut self, n: usize, form: Form) {
        let live = self.flags_live_at_check(n);
        let rm = self.access(n, form.size, false, false, live, false);
        self.asm.modrm(self.full(0x8b), host::R10, rm);
        self.asm.store(SCRATCH, host::R10);
        self.push_scratch(n);
    }

    /// The value in [`SCRATCH`] to the stack. The instruction starts over if that is not simple.
    fn push_scratch(&mut self, n: usize) {
        let before = self.slow.len();
        let slot = self.call_check(n, false);
        // One slow path for both accesses.
        let site = self.site(n);
        if self.slow.len() > before && before > 0 && self.slow[before - 1].site == site {
            let second = self.slow.pop().map(|s| s.from).unwrap_or_default();
            second.into_iter().for_each(|from| self.or_slow(from));
        }
        self.asm.load(host::R10, SCRATCH);
        self.asm.modrm(self.full(0x89), host::R10, slot);
        self.move_stack(-self.slot());
    }

    fn push_flags(&mut self, n: usize) {
        self.protect_flags();
        // Their place has OF in the low byte and SF to CF in the other.
        self.asm.modrm(Opcode::two(0xb6), host::R10, at(FLAGS));
        self.asm.modrm(Opcode::narrow(0xc1), 4, Rm::Reg(host::R10));
        self.asm.byte(11);
        self.asm.modrm(Opcode::two(0xb6), host::R11, at(FLAGS + 1));
        self.asm.modrm(Opcode::wide(0x0b), host::R10, Rm::Reg(host::R11));
        self.asm.modrm(Opcode::wide(0x0b), host::R10, at(RFLAGS));
        self.asm.modrm(Opcode::wide(0x81), 4, Rm::Reg(host::R10));
        self.asm.bytes(&(!RF).to_le_bytes());
        self.asm.store(SCRATCH, host::R10);
        self.push_scratch(n);
    }

    fn read_pkru(&mut self, n: usize) {
        if self.flags_live_at_check(n) {
            self.protect_flags();
        }
        // test dword [cr4], PKE; je; test ecx, ecx; jne
        self.asm.modrm(Opcode::narrow(0xf7), 0, at(CR4));
        self.asm.bytes(&PKE.to_le_bytes());
        let none = self.asm.jcc_later(4);
        self.slow_path(n, none);
        self.asm.modrm(Opcode::narrow(0x85), host::RCX, Rm::Reg(host::RCX));
        let index = self.asm.jcc_later(5);
        self.or_slow(index);
        self.asm.modrm(Opcode::narrow(0x8b), host::RAX, at(PKRU));
        self.asm.mov_imm32(host::RDX, 0);
    }
}
