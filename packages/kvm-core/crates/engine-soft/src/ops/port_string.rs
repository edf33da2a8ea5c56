//! Repeated INS and OUTS: as many elements as one exit takes.
//!
//! Only between a port that nobody in the kernel answers and plain RAM, all of it in one page. What
//! is different goes element by element.

use kvm_cpu::flags::DF;
use kvm_cpu::{Access, Trap, reg, seg};

use super::string::{INS, OUTS, advance, merge};
use crate::io::STRING_BYTES;
use crate::linear::Via;
use crate::op::Op;
use crate::vcpu::Vcpu;
use crate::width::Width;

impl Vcpu {
    /// Does the next of `count` elements together, with all registers. Yields how many were done:
    /// 0 where the general path must take over.
    pub(super) fn port_string<W: Width, const K: u8>(
        &mut self,
        op: &Op,
        mask: u64,
        count: u64,
    ) -> Result<u64, Trap> {
        let port = self.cpu.regs[reg::RDX] as u16;
        if let Some(n) = self.io.replay_string(K == OUTS, port, W::BYTES) {
            // Somebody may have changed the registers meanwhile.
            let n = count.min(u64::from(n));
            if K == INS {
                self.take_items::<W>(mask, n)?;
            } else {
                let by = self.string_step::<W>().wrapping_mul(n);
                advance(self, reg::RSI, by, mask);
                self.count_down(n, mask);
            }
            return Ok(n);
        }
        // What looks at every element gets it alone.
        if count < 2 || self.must_step() || self.context.bus.pio_claims(port) {
            return Ok(0);
        }
        let most = count.min(STRING_BYTES as u64 / u64::from(W::BYTES));
        if K == INS {
            self.request_items::<W>(port, mask, most)
        } else {
            self.send_items::<W>(op, port, mask, most)
        }
    }

    fn request_items<W: Width>(&mut self, port: u16, mask: u64, most: u64) -> Result<u64, Trap> {
        let es = seg::ES as u8;
        let offset = self.cpu.regs[reg::RDI] & mask;
        let found = self.in_one_page::<W>(es, offset, mask, most, true);
        let Some((linear, n @ 2..)) = found else { return Ok(0) };
        // Its page faults come before the port is read, which cannot be taken back.
        self.check_linear(linear, W::BYTES, Via::Segment(es))?;
        let gpa = self.translate(linear, Access::Write, Via::Segment(es))?;
        if self.writable_ram(gpa).is_none() {
            return Ok(0);
        }
        #[allow(clippy::cast_possible_truncation)]
        self.io.request_string(false, port, W::BYTES, n as u16, |_| {});
        Err(Trap::Exit)
    }

    fn send_items<W: Width>(
        &mut self,
        op: &Op,
        port: u16,
        mask: u64,
        most: u64,
    ) -> Result<u64, Trap> {
        let offset = self.cpu.regs[reg::RSI] & mask;
        let found = self.in_one_page::<W>(op.seg, offset, mask, most, false);
        let Some((linear, n @ 2..)) = found else { return Ok(0) };
        self.check_linear(linear, W::BYTES, Via::Segment(op.seg))?;
        let gpa = self.translate(linear, Access::Read, Via::Segment(op.seg))?;
        if Some(gpa & !0xfff) == self.apic_page {
            return Ok(0);
        }
        let mut items = [0; STRING_BYTES];
        let size = usize::from(W::BYTES);
        let items = &mut items[..n as usize * size];
        let copied = if self.cpu.rflags & DF == 0 {
            self.ram_copy(gpa, items)
        } else {
            let down = (0..).map(|i| gpa - i * u64::from(W::BYTES));
            items.chunks_exact_mut(size).zip(down).all(|(item, gpa)| self.ram_copy(gpa, item))
        };
        if !copied {
            return Ok(0);
        }
        #[allow(clippy::cast_possible_truncation)]
        self.io.request_string(true, port, W::BYTES, n as u16, |data| data.copy_from_slice(items));
        Err(Trap::Exit)
    }

    /// Stores items that were read. Whatever a store meets, the registers say how far it got.
    fn take_items<W: Width>(&mut self, mask: u64, n: u64) -> Result<(), Trap> {
        let by = self.string_step::<W>();
        for _ in 0..n {
            let item = self.io.string_item();
            let linear = self.destination::<W>(mask, true)?;
            self.write::<W>(linear, seg::ES as u8, item)?;
            advance(self, reg::RDI, by, mask);
            self.count_down(1, mask);
            self.io.string_item_taken();
        }
        Ok(())
    }

    fn count_down(&mut self, n: u64, mask: u64) {
        let count = self.cpu.regs[reg::RCX];
        self.cpu.regs[reg::RCX] = merge(count, (count & mask).wrapping_sub(n), mask);
    }

    fn string_step<W: Width>(&self) -> u64 {
        super::string::step::<W>(self)
    }
}
