//! What x87 exceptions leave to the next instruction.

use kvm_abi::cpuid::CpuidEntry;
use kvm_cpu::engine::VmEngine;

use super::machine::{CODE, DATA, Machine, Mode};

/// `fninit; fldcw [rdi]; fist dword ptr [rsi]; fwait; hlt`: the stack is empty.
const STORE_OF_NOTHING: [u8; 8] = [0xdb, 0xe3, 0xd9, 0x2f, 0xdb, 0x16, 0x9b, 0xf4];
const FIST: u64 = CODE + 4;
const FWAIT: u64 = CODE + 6;
/// All exceptions masked but the invalid operation.
const CONTROL: u16 = 0x37e;

/// Gives the CPUID model another vendor.
fn sold_by(entries: &mut [CpuidEntry], vendor: &[u8; 12]) {
    let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().unwrap());
    for e in entries.iter_mut().filter(|e| matches!(e.function, 0 | 0x8000_0000)) {
        (e.ebx, e.edx, e.ecx) = (word(0), word(4), word(8));
    }
}

/// Vector and RIP of the exception that a store to `address` ends in.
fn store(vendor: &[u8; 12], address: u64) -> (u64, u64) {
    let mut m = Machine::new(Mode::Long, &STORE_OF_NOTHING);
    let mut model = m.engine.cpuid_for_model("max", &[]).unwrap();
    sold_by(&mut model, vendor);
    m.vcpu.set_cpuid(&model).unwrap();
    m.write(DATA, &CONTROL.to_le_bytes());
    m.set(|r| (r.rdi, r.rsi) = (DATA, address));
    let vector = m.run_to_fault();
    let at = m.regs().rsp + if matches!(vector, 13 | 14) { 8 } else { 0 };
    (vector, m.read_u64(at))
}

#[test]
fn where_an_exception_withholds_a_store_intel_does_not_look_at_the_operand() {
    let (unmapped, not_canonical) = (0x60_0000, 1 << 63);
    for address in [DATA, unmapped, not_canonical] {
        assert_eq!(store(b"GenuineIntel", address), (16, FWAIT), "{address:#x}");
    }
    assert_eq!(store(b"AuthenticAMD", DATA), (16, FWAIT));
    assert_eq!(store(b"AuthenticAMD", unmapped), (14, FIST));
    assert_eq!(store(b"AuthenticAMD", not_canonical), (13, FIST));
}
