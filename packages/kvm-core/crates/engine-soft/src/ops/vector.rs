//! Vector, x87 and other instructions that the host CPU executes for us.

use kvm_cpu::{Access, Trap, Vector, reg, seg};

use crate::linear::{PAGE, Via};
use crate::op::{Done, Op};
use crate::thunk::{
    self, Class, ElementMemory, MemOperand, Operands, Scratch, VecFault, VecOp, X87Pointers,
};
use crate::tlb::Tlb;
use crate::vcpu::Vcpu;

const CR0_MP: u64 = 2;
const CR0_EM: u64 = 4;
const CR0_TS: u64 = 8;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_OSXSAVE: u64 = 1 << 18;

impl Vcpu {
    /// Works out which classes need no check, from CR0, CR4 and XCR0.
    pub(crate) fn update_vector_gate(&mut self) {
        let mut gate = 1 << Class::General as u8;
        for class in
            [Class::VexGeneral, Class::X87, Class::Mmx, Class::Sse, Class::Avx, Class::Wait]
        {
            if self.class_fault(class).is_none() {
                gate |= 1 << class as u8;
            }
        }
        self.vector_gate = gate;
    }

    /// The exception that an instruction of a class raises in the present mode.
    fn class_fault(&self, class: Class) -> Option<Vector> {
        let (cr0, cr4) = (self.cpu.cr0, self.cpu.cr4);
        let ts = cr0 & CR0_TS != 0;
        match class {
            Class::General => None,
            Class::VexGeneral => self.cpu.real_or_v86().then_some(Vector::Ud),
            Class::X87 => (cr0 & CR0_EM != 0 || ts).then_some(Vector::Nm),
            Class::Mmx if cr0 & CR0_EM != 0 => Some(Vector::Ud),
            Class::Mmx => ts.then_some(Vector::Nm),
            Class::Sse if cr0 & CR0_EM != 0 || cr4 & CR4_OSFXSR == 0 => Some(Vector::Ud),
            Class::Sse => ts.then_some(Vector::Nm),
            Class::Avx
                if self.cpu.real_or_v86() || cr4 & CR4_OSXSAVE == 0 || self.cpu.xcr0 & 6 != 6 =>
            {
                Some(Vector::Ud)
            }
            Class::Avx => ts.then_some(Vector::Nm),
            Class::Wait => (ts && cr0 & CR0_MP != 0).then_some(Vector::Nm),
        }
    }

    /// Reads a memory operand of any size into the scratch.
    fn load_operand(&mut self, linear: u64, bytes: u8, segment: u8, out: &mut Scratch) -> Done {
        let n = usize::from(bytes);
        let e = self.tlb.entry(linear);
        if e.read == Tlb::tag(linear) && (linear & 0xfff) + u64::from(bytes) <= PAGE {
            let host = linear.wrapping_add(e.addend);
            // SAFETY: a matching read tag says that the page is mapped RAM, and the operand does not
            // leave it.
            unsafe { std::ptr::copy_nonoverlapping(host as *const u8, out.0.as_mut_ptr(), n) };
            return Ok(());
        }
        let via = Via::Part(segment);
        self.probe_operand(linear, bytes, Access::Read, via)?;
        for at in (0..n).step_by(8) {
            let len = (n - at).min(8);
            #[allow(clippy::cast_possible_truncation)]
            let value = self.read_slow(linear.wrapping_add(at as u64), len as u8, via)?;
            out.0[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        Ok(())
    }

    /// Writes a memory operand of any size from the scratch.
    fn store_operand(&mut self, linear: u64, bytes: u8, segment: u8, data: &Scratch) -> Done {
        let n = usize::from(bytes);
        let e = self.tlb.entry(linear);
        if e.write == Tlb::tag(linear) && (linear & 0xfff) + u64::from(bytes) <= PAGE {
            let host = linear.wrapping_add(e.addend);
            // SAFETY: as in `load_operand`, with a write tag.
            unsafe { std::ptr::copy_nonoverlapping(data.0.as_ptr(), host as *mut u8, n) };
            return Ok(());
        }
        let via = Via::Part(segment);
        for at in (0..n).step_by(8) {
            let len = (n - at).min(8);
            let mut word = [0u8; 8];
            word[..len].copy_from_slice(&data.0[at..at + len]);
            #[allow(clippy::cast_possible_truncation)]
            self.write_slow(
                linear.wrapping_add(at as u64),
                len as u8,
                via,
                u64::from_le_bytes(word),
            )?;
        }
        Ok(())
    }

    /// [`probe`](Self::probe) for an operand of any size. Whether it is canonical comes first: for all
    /// of it, or for the mantissa of a ten-byte number, while environments are several accesses.
    fn probe_operand(&mut self, linear: u64, bytes: u8, access: Access, via: Via) -> Done {
        let first = match bytes {
            1 | 2 | 4 | 8 | 16 | 32 => bytes,
            10 => 8,
            _ => 1,
        };
        self.check_linear(linear, first, via)?;
        self.probe(linear, u64::from(bytes), access, via)
    }

    fn vector_linear(&mut self, op: &Op, m: MemOperand) -> Result<u64, Trap> {
        let linear = self.linear(op, u64::from(m.bytes), m.write)?;
        if m.align > 1 && linear & u64::from(m.align - 1) != 0 {
            return Err(self.cpu.gp(0));
        }
        self.check_vector_alignment(linear, m.bytes, op.seg)?;
        if m.write {
            // Registers change before the store (an x87 pop): it must not fault then.
            let e = self.tlb.entry(linear);
            if e.write != Tlb::tag(linear) || (linear & 0xfff) + u64::from(m.bytes) > PAGE {
                let via = Via::Part(op.seg);
                self.probe_operand(linear, m.bytes, Access::Write, via)?;
                // The store may turn out to be a device's: only careful mode can take the
                // instruction back then.
                let e = self.tlb.entry(linear);
                if !self.io.careful()
                    && (e.write != Tlb::tag(linear) || (linear & 0xfff) + u64::from(m.bytes) > PAGE)
                {
                    return Err(Trap::Exit);
                }
            }
        }
        Ok(linear)
    }

    /// #AC, where that is checked: the processors look at 16 bytes at most, at 8 of the ten-byte
    /// numbers, and not at environments.
    fn check_vector_alignment(&mut self, linear: u64, bytes: u8, segment: u8) -> Done {
        let size = match bytes {
            10 => 8,
            1 | 2 | 4 | 8 | 16 => bytes,
            32 => 16,
            _ => return Ok(()),
        };
        self.check_linear(linear, size, Via::Segment(segment))
    }

    /// What the x87 unit notes of an instruction.
    fn x87_pointers(&self, op: &Op, memory: bool) -> X87Pointers {
        X87Pointers {
            fop: 0,
            fcs: self.cpu.segs[seg::CS].selector,
            fds: self.cpu.segs[usize::from(op.seg) & 7].selector,
            fip: self.cpu.rip(),
            fdp: if memory { self.offset(op) } else { 0 },
        }
    }

    fn vector_fault(&mut self, fault: VecFault) -> Trap {
        match fault {
            VecFault::Simd if self.cpu.cr4 & CR4_OSXMMEXCPT != 0 => self.cpu.raise(Vector::Xm, 0),
            VecFault::Simd => self.cpu.raise(Vector::Ud, 0),
            VecFault::GeneralProtection => self.cpu.gp(0),
            // Without CR0.NE the error would go out on FERR# to IRQ 13 of an AT; nothing of this
            // machine's time is wired for that, and #MF is what the guest can make sense of.
            VecFault::X87 => self.cpu.raise(Vector::Mf, 0),
        }
    }
}

/// `op.imm` is the address of the [`VecOp`], which the block keeps.
pub(crate) fn vector(v: &mut Vcpu, op: &Op) -> Done {
    // SAFETY: the lowering put the address of a box there that lives as long as the block, and a
    // block lives while it executes.
    let vop: &VecOp = unsafe { &*(op.imm as *const VecOp) };
    if v.vector_gate & (1 << vop.class() as u8) == 0
        && let Some(fault) = v.class_fault(vop.class())
    {
        return Err(v.cpu.raise(fault, 0));
    }
    if vop.waits() && v.vectors.x87_pending() {
        return Err(v.vector_fault(VecFault::X87));
    }
    if vop.by_element() {
        return elements(v, op, vop);
    }
    let mut scratch = Scratch::default();
    let scratch = &mut scratch;
    let memory = vop.mem();
    let mut linear = 0;
    if let Some(m) = memory {
        if vop.is_x87_store() && withheld(v, op, vop) {
            return Ok(());
        }
        linear = v.vector_linear(op, m)?;
        if m.read {
            v.load_operand(linear, m.bytes, op.seg, scratch)?;
        }
    }
    // Where the store must leave for a device, the instruction runs again from its start.
    let saved = (v.io.careful() && memory.is_some_and(|m| m.write))
        .then(|| (Box::new(v.vectors.clone()), v.cpu.regs));
    let (written, pointers) = (vop.flags_written(), vop.needs_x87_pointers());
    let x87 = if pointers { v.x87_pointers(op, memory.is_some()) } else { X87Pointers::default() };
    let flags = if written != 0 || vop.flags_read() != 0 { v.cpu.arith.get() } else { 0 };
    let real_format = pointers && v.cpu.real_or_v86();
    let mut io =
        Operands { mem: scratch, gpr: &mut v.cpu.regs, flags, x87, real_format, store: true };
    let result = thunk::execute(vop, &mut v.vectors, &mut io);
    let (flags, store) = (io.flags, io.store);
    if let Err(fault) = result {
        return Err(v.vector_fault(fault));
    }
    if written != 0 {
        v.cpu.arith.update(written, flags);
    }
    if let Some(m) = memory
        && m.write
        && store
        && let Err(trap) = v.store_operand(linear, m.bytes, op.seg, scratch)
    {
        if let Some((vectors, regs)) = saved {
            v.vectors = *vectors;
            v.cpu.regs = regs;
        }
        return Err(trap);
    }
    Ok(())
}

/// Executes a store of the x87 unit if it meets an unmasked exception, which then waits for the next
/// instruction: nothing is stored, and Intel's processors do not look at the operand then, while
/// AMD's fault as for a store. Otherwise does nothing.
fn withheld(v: &mut Vcpu, op: &Op, vop: &VecOp) -> bool {
    if v.cpu.caps.amd || v.vectors.x87_masked() {
        return false;
    }
    let x87 = v.x87_pointers(op, true);
    let mut state = v.vectors.clone();
    let mem = &mut Scratch::default();
    let gpr = &mut v.cpu.regs;
    let mut io = Operands { mem, gpr, flags: 0, x87, real_format: false, store: true };
    let withheld = thunk::execute(vop, &mut state, &mut io).is_ok() && !io.store;
    if withheld {
        v.vectors = state;
    }
    withheld
}

/// A store of an element: linear address, bytes, value.
type Store = (u64, u8, u64);

/// The elements of one operand. Alignment is never checked. Stores wait until all elements are known
/// not to fault.
struct Elements<'a> {
    v: &'a mut Vcpu,
    op: &'a Op,
    offset: u64,
    stores: Vec<Store>,
}

impl Elements<'_> {
    fn linear(&mut self, offset: i64, bytes: u8, write: bool) -> Result<u64, Trap> {
        let at = super::truncate(self.offset.wrapping_add_signed(offset), self.op.addressing);
        if self.op.addressing == crate::op::FLAT {
            return Ok(at);
        }
        self.v.linear_general(self.op.seg, at, u64::from(bytes), write)
    }
}

impl ElementMemory for Elements<'_> {
    type Error = Trap;
    fn read(&mut self, offset: i64, bytes: u8) -> Result<u64, Trap> {
        let linear = self.linear(offset, bytes, false)?;
        self.v.read_slow(linear, bytes, Via::Part(self.op.seg))
    }
    fn write(&mut self, offset: i64, bytes: u8, value: u64) -> Result<(), Trap> {
        let linear = self.linear(offset, bytes, true)?;
        self.v.probe_operand(linear, bytes, Access::Write, Via::Part(self.op.seg))?;
        self.stores.push((linear, bytes, value));
        Ok(())
    }
}

fn elements(v: &mut Vcpu, op: &Op, vop: &VecOp) -> Done {
    let offset = if vop.is_gather() {
        v.cpu.regs[usize::from(op.base) & 31].wrapping_add(op.disp.cast_unsigned())
    } else if vop.is_masked_bytes() {
        v.cpu.regs[reg::RDI]
    } else {
        v.effective(op)
    };
    let mut state = v.vectors.clone();
    let before = v.vectors.clone();
    let careful = v.io.careful();
    let mut memory = Elements { v, op, offset, stores: Vec::new() };
    let mut result = thunk::execute_elements(vop, &mut state, &mut memory);
    let stores = std::mem::take(&mut memory.stores);
    if result.is_ok() {
        let mut write =
            |(linear, bytes, value)| v.write_slow(linear, bytes, Via::Part(op.seg), value);
        result = stores.into_iter().try_for_each(&mut write);
    }
    // A gather keeps its progress over a fault, but not over a device access: the log of accesses
    // starts again with the first element.
    v.vectors = if careful && result == Err(Trap::Exit) { before } else { state };
    result
}
