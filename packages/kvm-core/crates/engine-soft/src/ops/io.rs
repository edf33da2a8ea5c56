//! IN and OUT.

use kvm_cpu::reg;

use crate::op::{Done, Op};
use crate::vcpu::Vcpu;
use crate::width::Width;

/// The port is `op.imm`, or DX where that is above 0xff.
fn port(v: &Vcpu, op: &Op) -> u16 {
    if op.imm > 0xff { v.cpu.regs[reg::RDX] as u16 } else { op.imm as u16 }
}

pub(crate) fn input<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let port = port(v, op);
    kvm_cpu::system::check_io(v, port, W::BYTES)?;
    let value = v.port_read(port, W::BYTES)?;
    v.set::<W>(reg::RAX as u8, value);
    Ok(())
}

pub(crate) fn output<W: Width>(v: &mut Vcpu, op: &Op) -> Done {
    let port = port(v, op);
    kvm_cpu::system::check_io(v, port, W::BYTES)?;
    let value = v.get::<W>(reg::RAX as u8);
    v.port_write(port, W::BYTES, value)
}
