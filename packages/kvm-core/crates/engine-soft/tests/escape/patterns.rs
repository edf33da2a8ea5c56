//! A mapped page's address with every pattern in the bits above it.

use kvm_abi::exit::Exit;

use super::fence::Neighbour;
use super::layout::{CODE_AT, PAGE, SPARE_AT, canonical, find};
use super::machine::{HANDLERS, Machine, State, Who};

/// The first bit that tells the halves of the address space apart.
const SIGN: u32 = 47;
const PATTERNS: u64 = 1 << (64 - SIGN);
/// A page near the end of the lower half: it shares the rest of its address with others.
const TARGET: u64 = 0x4001_1ff0;

/// Counts in `counter` (the last byte of `inc r64`) and goes on at R12: the instruction that faults
/// is left out. With an error code, at CPL 0.
fn count_and_skip(counter: u8) -> [u8; 14] {
    // inc r; add rsp, 8; mov [rsp], r12; iretq
    [0x49, 0xff, counter, 0x48, 0x83, 0xc4, 8, 0x4c, 0x89, 0x24, 0x24, 0x48, 0xcf, 0xf4]
}

/// Runs `access`, which addresses memory by RAX, with every pattern. Yields how many raised #GP, #SS
/// and #PF.
fn count(m: &mut Machine, access: &[u8]) -> [u64; 3] {
    // l: mov rax, rcx; shl rax, 47; or rax, r10
    let mut code = vec![0x48, 0x89, 0xc8, 0x48, 0xc1, 0xe0, SIGN as u8, 0x4c, 0x09, 0xd0];
    code.extend_from_slice(access);
    let resume = code.len() as u64;
    // inc rcx; cmp rcx, r8; jb l; int3
    code.extend_from_slice(&[0x48, 0xff, 0xc1, 0x4c, 0x39, 0xc1, 0x72]);
    code.push((code.len() as i8 + 1).wrapping_neg().cast_unsigned());
    code.push(0xcc);
    m.set_code(0, &code);
    let mut gpr = [0; 16];
    gpr[4] = SPARE_AT + PAGE / 2;
    gpr[10] = TARGET;
    gpr[7] = SPARE_AT + 0x100;
    gpr[8] = PATTERNS;
    gpr[12] = CODE_AT[0] + resume;
    let state = State { gpr, rip: CODE_AT[0], fs: 0, gs: 0 };
    m.load(&state, Who::Supervisor);
    let exit = m.run();
    assert_eq!(exit, Exit::Hlt, "{access:02x?} at {:x?}", m.vcpu.regs());
    let (gpr, end) = m.end();
    assert_eq!(end.vector, 3, "{access:02x?}: {end:x?} {gpr:x?}");
    assert_eq!(gpr[1], PATTERNS);
    [gpr[15], gpr[14], gpr[13]]
}

#[test]
fn every_pattern_of_upper_bits_is_a_fault() {
    let patterns = || (0..PATTERNS).map(|n| n << SIGN | TARGET);
    let wrong = patterns().filter(|&at| !canonical(at)).count() as u64;
    let missing = patterns().filter(|&at| canonical(at) && find(at).is_none()).count() as u64;
    assert_eq!((wrong, missing), (PATTERNS - 2, 1));
    let mut m = Machine::new(Neighbour::Canary);
    for (vector, counter) in [(13, 0xc7), (12, 0xc6), (14, 0xc5)] {
        m.write(HANDLERS + 16 * vector, &count_and_skip(counter));
    }
    let data: &[&[u8]] = &[
        // mov dl, [rax]; mov rdx, [rax]; mov [rax], dx; mov [rax], edx
        &[0x8a, 0x10],
        &[0x48, 0x8b, 0x10],
        &[0x66, 0x89, 0x10],
        &[0x89, 0x10],
        // mov rdx, rax; shr rdx, 1; sub rax, rdx; mov rdx, [rax + rdx]
        &[0x48, 0x89, 0xc2, 0x48, 0xd1, 0xea, 0x48, 0x29, 0xd0, 0x48, 0x8b, 0x14, 0x10],
        // add [rax], rdx; lock add [rax], rdx; lock cmpxchg16b [rax]; xchg [rax], dl
        &[0x48, 0x01, 0x10],
        &[0xf0, 0x48, 0x01, 0x10],
        &[0x86, 0x10],
        // movups xmm0, [rax]; movaps [rax], xmm0; vmovups ymm0, [rax - 16]
        &[0x0f, 0x10, 0x00],
        &[0x0f, 0x29, 0x00],
        &[0xc5, 0xfc, 0x10, 0x40, 0xf0],
        // mov r9, rax; mov [r9 + 1], r10b: registers without a place of their own
        &[0x49, 0x89, 0xc1, 0x45, 0x88, 0x51, 1],
        // mov rsi, rax; lodsq; and stosb
        &[0x48, 0x89, 0xc6, 0x48, 0xad],
        &[0x48, 0x89, 0xc7, 0xaa],
    ];
    for access in data {
        assert_eq!(count(&mut m, access), [wrong, 0, missing], "{access:02x?}");
    }
    let stack: &[&[u8]] = &[
        // mov rsp, rax; push rdx; and pop rdx
        &[0x48, 0x89, 0xc4, 0x52],
        &[0x48, 0x89, 0xc4, 0x5a],
        // mov rsp, rax; mov [rsp], edx; movups xmm0, [rsp]
        &[0x48, 0x89, 0xc4, 0x89, 0x14, 0x24],
        &[0x48, 0x89, 0xc4, 0x0f, 0x10, 0x04, 0x24],
        // mov rsp, rax; call next
        &[0x48, 0x89, 0xc4, 0xe8, 0, 0, 0, 0],
        // mov rbp, rax; mov rdx, [rbp]; and leave
        &[0x48, 0x89, 0xc5, 0x48, 0x8b, 0x55, 0],
        &[0x48, 0x89, 0xc5, 0xc9],
    ];
    for access in stack {
        let [gp, ss, pf] = count(&mut m, access);
        assert_eq!([gp, ss, pf], [0, wrong, missing], "{access:02x?}");
    }
    m.fence.take().unwrap().finish();
}
