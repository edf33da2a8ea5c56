//! Where a block of straight-line code must end.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

/// True if the engine must look around after `i`: control flow leaves, or the instruction can
/// change the mode, the mapping, the interrupt state or the code itself.
#[must_use]
pub fn ends_block(i: &Instruction) -> bool {
    use Mnemonic as M;
    if i.flow_control() != FlowControl::Next {
        return true;
    }
    match i.mnemonic() {
        // Interrupt and trap flags, and the shadows that delay them.
        M::Cli | M::Sti | M::Popf | M::Popfd | M::Popfq | M::Hlt
        // Mode, mapping and permissions.
        | M::Wrmsr | M::Lmsw | M::Clts | M::Invlpg | M::Invlpga | M::Invpcid | M::Stac | M::Clac
        | M::Swapgs | M::Xsetbv | M::Lgdt | M::Lidt | M::Lldt | M::Ltr | M::Wrfsbase | M::Wrgsbase
        // The vector state may change which instructions are legal.
        | M::Wrpkru | M::Xrstor | M::Xrstor64 | M::Xrstors | M::Xrstors64
        // Ports and string operations can stop half way.
        | M::In | M::Out | M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd
        // A serialising instruction is where self-modifying code becomes visible.
        | M::Cpuid | M::Serialize | M::Wbinvd | M::Invd | M::Rsm | M::Mwait | M::Monitor => true,
        M::Movsb | M::Movsw | M::Movsq | M::Stosb | M::Stosw | M::Stosd | M::Stosq | M::Lodsb
        | M::Lodsw | M::Lodsd | M::Lodsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq | M::Cmpsb
        | M::Cmpsw | M::Cmpsq => i.has_rep_prefix() || i.has_repne_prefix(),
        M::Movsd | M::Cmpsd => {
            // The SSE instructions of the same name have vector operands.
            matches!(i.op0_kind(), OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI
                | OpKind::MemorySegSI | OpKind::MemorySegESI | OpKind::MemorySegRSI)
                && (i.has_rep_prefix() || i.has_repne_prefix())
        }
        M::Mov | M::Pop | M::Lss => {
            let dst = if i.mnemonic() == M::Lss { Register::SS } else { i.op0_register() };
            dst.is_segment_register() || dst.is_cr() || dst.is_dr() || i.op1_register().is_cr()
        }
        _ => false,
    }
}
