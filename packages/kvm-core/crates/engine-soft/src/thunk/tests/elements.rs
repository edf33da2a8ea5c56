//! Masked moves and gathers against the host.

use iced_x86::{Decoder, DecoderOptions, OpCodeOperandKind as K, OpKind, Register};

use super::super::kinds::kind;
use super::super::table::{FORMS, Form};
use super::super::*;
use super::differential::random_state;
use super::native::{Native, Page, encode};
use super::random::{Random, instruction};

/// Memory at the effective address, which is `bytes[64]` for gathers with their negative indices.
struct Memory {
    bytes: Vec<u8>,
    origin: i64,
    /// Fails at the access with this number.
    fail_at: usize,
    accesses: usize,
}

impl Memory {
    fn range(&mut self, offset: i64, bytes: u8) -> Result<std::ops::Range<usize>, ()> {
        self.accesses += 1;
        if self.accesses > self.fail_at {
            return Err(());
        }
        let at = usize::try_from(self.origin + offset).expect("in bounds");
        Ok(at..at + usize::from(bytes))
    }
}

impl ElementMemory for Memory {
    type Error = ();
    fn read(&mut self, offset: i64, bytes: u8) -> Result<u64, ()> {
        let range = self.range(offset, bytes)?;
        let mut word = [0; 8];
        word[..range.len()].copy_from_slice(&self.bytes[range]);
        Ok(u64::from_le_bytes(word))
    }
    fn write(&mut self, offset: i64, bytes: u8, value: u64) -> Result<(), ()> {
        let range = self.range(offset, bytes)?;
        self.bytes[range].copy_from_slice(&value.to_le_bytes()[..usize::from(bytes)]);
        Ok(())
    }
}

fn memory(native: &Native, origin: i64) -> Memory {
    Memory { bytes: native.mem.to_vec(), origin, fail_at: usize::MAX, accesses: 0 }
}

fn run(bytes: &[u8], state: &mut VectorState, memory: &mut Memory) -> Result<(), ()> {
    let instr = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    let op = prepare(&instr, &HostCpu::detect()).expect("the host has it");
    assert!(op.by_element());
    assert_eq!(op.mem(), None);
    execute_elements(&op, state, memory)
}

fn check_masked(form: &Form, random: &mut Random, page: &Page) {
    let instr = instruction(form, random);
    let bytes = encode(&instr);
    let mut native = Native::default();
    let mut state = VectorState::default();
    random_state(random, &mut native, &mut state);
    // MMX registers are zero here: one of them gets data.
    state.x87.st[1][..8].copy_from_slice(&[0x80, 1, 0xff, 0x7f, 0x80, 0, 0x90, 3]);
    native.fx[48..56].copy_from_slice(&state.x87.st[1][..8]);
    let mut ours = memory(&native, 0);
    run(&bytes, &mut state, &mut ours).expect("no access fails");
    page.run(&bytes, &mut native);
    assert_eq!(ours.bytes, native.mem, "{:?}", form.code);
    let vectors: Vec<_> = state.vec.iter().map(|v| v.0).collect();
    assert_eq!(vectors, native.vec, "{:?}", form.code);
}

fn check_gather(form: &Form, random: &mut Random, page: &Page) {
    let mut native = Native::default();
    let mut state = VectorState::default();
    random_state(random, &mut native, &mut state);
    let mut registers = [0u32; 3];
    while registers[0] == registers[1]
        || registers[0] == registers[2]
        || registers[1] == registers[2]
    {
        registers = std::array::from_fn(|_| random.below(16) as u32);
    }
    let kinds = form.code.op_code().op_kinds();
    let base = |kind: &K| match kind {
        K::xmm_reg | K::xmm_vvvv | K::mem_vsib32x | K::mem_vsib64x => Register::XMM0,
        _ => Register::YMM0,
    };
    let mut instr = instruction_skeleton(form);
    instr.set_op0_register(base(&kinds[0]) + registers[0]);
    instr.set_memory_index(base(&kinds[1]) + registers[1]);
    instr.set_op2_register(base(&kinds[2]) + registers[2]);
    let scale = 1u32 << random.below(4);
    instr.set_memory_index_scale(scale);
    // The effective address is the middle of the memory: indices reach both ways.
    instr.set_memory_displacement64(64);
    instr.set_memory_displ_size(1);
    let limit = i64::from(56 / scale);
    let index = &mut state.vec[registers[1] as usize];
    let mut pick = || (random.next() >> 8) as i64 % limit;
    *index = if form.index == 4 {
        let pair = |a: i64, b: i64| u64::from(a as i32 as u32) | (u64::from(b as i32 as u32) << 32);
        Vector(std::array::from_fn(|_| pair(pick(), -pick())))
    } else {
        Vector(std::array::from_fn(|i| if i & 1 == 0 { pick() as u64 } else { (-pick()) as u64 }))
    };
    native.vec[registers[1] as usize] = index.0;
    let bytes = encode(&instr);

    // An access that fails: the elements before it are done and will not be read again.
    let start = state.clone();
    for fail_at in 0..8 {
        let mut partial = start.clone();
        let mut ours = memory(&native, 64);
        ours.fail_at = fail_at;
        if run(&bytes, &mut partial, &mut ours).is_err() {
            let mut rest = memory(&native, 64);
            run(&bytes, &mut partial, &mut rest).expect("no access fails");
            let mut whole = start.clone();
            let mut all = memory(&native, 64);
            run(&bytes, &mut whole, &mut all).expect("no access fails");
            assert_eq!(partial.vec, whole.vec);
            assert_eq!(all.accesses, fail_at + rest.accesses);
        }
    }
    let mut ours = memory(&native, 64);
    run(&bytes, &mut state, &mut ours).expect("no access fails");
    page.run(&bytes, &mut native);
    let vectors: Vec<_> = state.vec.iter().map(|v| v.0).collect();
    assert_eq!(vectors, native.vec, "{:?} {bytes:02x?}", form.code);
}

fn instruction_skeleton(form: &Form) -> iced_x86::Instruction {
    let mut instr = iced_x86::Instruction::default();
    instr.set_code(form.code);
    instr.set_op1_kind(OpKind::Memory);
    instr.set_memory_base(Register::RDI);
    instr
}

#[test]
fn masked_moves_and_gathers_give_what_the_host_gives() {
    let host = HostCpu::detect();
    let page = Page::new();
    let mut random = Random(99);
    let mut tested = 0;
    for form in FORMS.iter().filter(|form| host.has(form.feature)) {
        let check = match form.kind {
            kind::MASK_LOAD | kind::MASK_STORE | kind::MASK_BYTES => check_masked,
            kind::GATHER => check_gather,
            _ => continue,
        };
        for _ in 0..100 {
            check(form, &mut random, &page);
        }
        tested += 1;
    }
    assert!(tested >= 3, "only {tested} forms");
}

#[test]
fn gathers_with_equal_registers_are_invalid() {
    // vgatherdps xmm1, [rax+xmm1], xmm2; xmm1, [rax+xmm2], xmm2; xmm1, [rax+xmm2], xmm1
    for bytes in [
        [0xc4, 0xe2, 0x69, 0x92, 0x0c, 0x08],
        [0xc4, 0xe2, 0x69, 0x92, 0x0c, 0x10],
        [0xc4, 0xe2, 0x71, 0x92, 0x0c, 0x10],
    ] {
        let instr = Decoder::new(64, &bytes, DecoderOptions::NONE).decode();
        assert!(prepare(&instr, &HostCpu::detect()).is_none());
    }
}
