//! From an instruction pointer to a decoded block, and back when the bytes change.

use iced_x86::Mnemonic;
use kvm_cpu::{Trap, Vector};
use kvm_decode::{Dialect, Failure, MAX_INSTRUCTION_BYTES, Reader, decode, ends_block};

use crate::block::{self, Block, BlockBox, MAX_OPS};
use crate::linear::PAGE;
use crate::lower::Lowering;
use crate::vcpu::Vcpu;

impl Vcpu {
    /// The block at a linear address. Faults as the fetch would.
    #[inline(always)]
    pub(crate) fn block_at(&mut self, linear: u64) -> Result<*const Block, Trap> {
        // 64-bit mode, which has no limits, is the one that has to be quick.
        let bits = if self.cpu.mode == kvm_cpu::Mode::Long64 {
            64
        } else if self.cpu.rip() <= u64::from(self.cpu.segs[kvm_cpu::seg::CS].limit) {
            self.code_bits()
        } else {
            return self.find_block(linear);
        };
        if let Some(page) = self.tlb.exec(self.cpu.cpl == 3, linear)
            && let Some(block) = self.blocks.near(block::key(page | (linear & 0xfff), bits))
        {
            return Ok(block);
        }
        self.find_block(linear)
    }

    /// The block at a linear address, decoded now if need be. Faults as the fetch would.
    #[cold]
    #[inline(never)]
    fn find_block(&mut self, linear: u64) -> Result<*const Block, Trap> {
        self.check_code_limit()?;
        let gpa = self.translate_fetch(linear)?;
        let key = block::key(gpa, self.code_bits());
        if let Some(found) = self.blocks.find(key) {
            // SAFETY: found in the cache just now.
            let Some(second) = (unsafe { (*found).second_page() }) else {
                self.blocks.bring_near(key, found);
                return Ok(found);
            };
            // An instruction across two pages is only itself while the second page is the same.
            // It is not brought near, so this is looked at every time.
            let next = (linear & !0xfff).wrapping_add(PAGE);
            if self.translate_fetch(next)? == second {
                return Ok(found);
            }
            self.blocks.drop_page(gpa & !0xfff);
            self.release_code();
        }
        self.blocks.make_room();
        self.release_code();
        let block = self.decode_block(linear, gpa)?;
        let straddles = block.second_page();
        let at = self.blocks.insert(key, block);
        if straddles.is_none() {
            self.blocks.bring_near(key, at);
        }
        Ok(at)
    }

    /// #GP(0) where the instruction pointer is beyond the code segment's limit.
    fn check_code_limit(&mut self) -> Result<(), Trap> {
        if self.cpu.mode != kvm_cpu::Mode::Long64
            && self.cpu.rip() > u64::from(self.cpu.segs[kvm_cpu::seg::CS].limit)
        {
            return Err(self.cpu.gp(0));
        }
        Ok(())
    }

    /// True where a block could run into the end of the code segment: instructions then run one at a
    /// time, each with its last byte checked.
    #[inline(always)]
    pub(crate) fn near_code_limit(&self) -> bool {
        const LONGEST: u64 = (MAX_OPS * MAX_INSTRUCTION_BYTES) as u64;
        self.cpu.mode != kvm_cpu::Mode::Long64
            && self.cpu.rip().saturating_add(LONGEST)
                > u64::from(self.cpu.segs[kvm_cpu::seg::CS].limit)
    }

    /// #GP(0) where the last byte of an instruction is beyond the code segment's limit.
    pub(crate) fn check_code_end(&mut self, len: u8) -> Result<(), Trap> {
        if self.cpu.mode != kvm_cpu::Mode::Long64
            && self.cpu.rip().saturating_add(u64::from(len.saturating_sub(1)))
                > u64::from(self.cpu.segs[kvm_cpu::seg::CS].limit)
        {
            return Err(self.cpu.gp(0));
        }
        Ok(())
    }

    /// Whose encodings the guest's CPUID promises.
    pub(crate) fn dialect(&self) -> Dialect {
        if self.cpu.caps.amd { Dialect::Amd } else { Dialect::Intel }
    }

    fn decode_block(&mut self, linear: u64, gpa: u64) -> Result<BlockBox, Trap> {
        let (bits, dialect) = (self.code_bits(), self.dialect());
        // More than a block of average instructions: long ones end the block early.
        let mut bytes = [0u8; MAX_OPS * 8];
        let window = ((PAGE - (gpa & 0xfff)) as usize).min(bytes.len());
        self.fetch_bytes(gpa, &mut bytes[..window])?;
        let ip = self.cpu.rip();
        let mut lowering = Lowering::new(bits, self.features, std::mem::take(&mut self.lowered));
        let mut reader = Reader::new(bits, &bytes[..window], dialect);
        let mut at = 0;
        while lowering.len() < MAX_OPS && at < window {
            let here = ip.wrapping_add(at as u64);
            match reader.at(at, here) {
                Ok(i) => {
                    // Legacy code may run into its segment's limit: let the fetch of the next block
                    // find out.
                    lowering.add(i, here, &bytes[at..at + i.len()]);
                    at += i.len();
                    if ends_block(i) || lowering.ended() {
                        break;
                    }
                }
                Err(_) if at != 0 => break,
                Err(Failure::Incomplete) => return self.decode_straddling(linear, gpa, ip),
                Err(Failure::Invalid) => {
                    lowering.add_undefined();
                    at += 1;
                    break;
                }
                Err(Failure::TooLong) => return Err(self.cpu.gp(0)),
            }
        }
        let (ops, vectors) = lowering.finish();
        let block = BlockBox::new(&ops, vectors, at as u16, gpa, None);
        self.lowered = ops;
        Ok(block)
    }

    /// One instruction whose bytes lie in two pages.
    fn decode_straddling(&mut self, linear: u64, gpa: u64, ip: u64) -> Result<BlockBox, Trap> {
        let bits = self.code_bits();
        let first = (PAGE - (gpa & 0xfff)) as usize;
        let next = (linear & !0xfff).wrapping_add(PAGE);
        let next = if self.long_addresses { next } else { next & 0xffff_ffff };
        let second = self.translate_fetch(next)?;
        let mut bytes = [0u8; MAX_INSTRUCTION_BYTES];
        let first = first.min(bytes.len());
        self.fetch_bytes(gpa, &mut bytes[..first])?;
        self.fetch_bytes(second, &mut bytes[first..])?;
        let mut lowering = Lowering::new(bits, self.features, Vec::new());
        let len = match decode(bits, &bytes, ip, self.dialect()) {
            Ok(i) => {
                lowering.add(&i, ip, &bytes);
                i.len()
            }
            Err(Failure::TooLong) => return Err(self.cpu.gp(0)),
            _ => {
                lowering.add_undefined();
                first + 1
            }
        };
        let (ops, vectors) = lowering.finish();
        Ok(BlockBox::new(&ops, vectors, len.max(first + 1) as u16, gpa, Some(second)))
    }

    /// Copies instruction bytes out of one page of RAM; code outside RAM cannot be executed.
    fn fetch_bytes(&mut self, gpa: u64, out: &mut [u8]) -> Result<(), Trap> {
        // Before the bytes are read: a device that writes them later finds the mark.
        self.mark_code(gpa & !0xfff);
        if self.ram_copy(gpa, out) {
            return Ok(());
        }
        if self.cpu.cpl == 3 {
            // A user program must not stop the machine: as on KVM it gets #UD.
            return Err(self.cpu.raise(Vector::Ud, 0));
        }
        self.exit = Some(self.code_outside_ram(gpa));
        Err(Trap::Exit)
    }

    fn code_outside_ram(&self, gpa: u64) -> kvm_abi::exit::Exit {
        kvm_abi::exit::Exit::InternalError {
            suberror: kvm_abi::exit::INTERNAL_ERROR_EMULATION,
            data: vec![self.cpu.rip(), self.linear_rip(), u64::from(self.cpu.cpl), gpa],
        }
    }

    /// A store of this vCPU hit a page with code, of its own or of another vCPU.
    #[cold]
    pub(crate) fn code_written(&mut self, gpa: u64, len: u64) {
        self.forget_code(gpa, len);
        // The others hear of it before this vCPU stores anything else.
        if self.table.find(gpa).is_some_and(|slot| slot.page_flags(gpa).has_code()) {
            self.watch.written_by(Some(&self.member), gpa, len);
        }
    }

    /// Withdraws what this vCPU decoded from bytes in `[gpa, gpa + len)`, which lies in one page.
    fn forget_code(&mut self, gpa: u64, len: u64) {
        let before = self.blocks.invalidated;
        // The page may show at other addresses too, and its code have been fetched there.
        let other = self.other_view.iter().flat_map(|view| view.aliases(gpa));
        for alias in self.table.aliases(gpa).chain(other) {
            self.blocks.invalidate(alias, len);
        }
        self.release_code();
        if self.blocks.invalidated != before {
            // The present block may be among them: what follows is fetched anew.
            self.block_end = 0;
        }
    }

    /// Ends the holds on pages from which all code was withdrawn.
    fn release_code(&mut self) {
        for page in self.blocks.released.drain(..) {
            let other = || self.other_view.as_ref().and_then(|view| view.find(page));
            if let Some(slot) = self.table.find(page).or_else(other) {
                slot.page_flags(page).release_code();
            }
        }
    }

    /// Somebody else wrote `[gpa, gpa + len)`.
    pub(crate) fn code_written_range(&mut self, gpa: u64, len: u64) {
        let mut at = gpa;
        let end = gpa.saturating_add(len);
        while at < end {
            let step = (PAGE - (at & 0xfff)).min(end - at);
            self.forget_code(at, step);
            at += step;
        }
    }

    /// Called before the vCPU sleeps: a guest that has done next to nothing for some time gives the
    /// memory of its code back.
    pub(crate) fn give_code_back(&mut self) {
        if !self.rest.gives_back(self.context.clock.now_ns(), thread_ns, self.blocks.len()) {
            return;
        }
        self.drop_all_code();
        self.blocks.shrink();
        if let Some(translator) = &mut self.translator {
            translator.reset(&mut self.blocks);
        }
        // SAFETY: gives free pages of the heap back.
        unsafe { libc::malloc_trim(0) };
    }

    /// Forgets all decoded code.
    pub(crate) fn drop_all_code(&mut self) {
        self.blocks.clear();
        self.release_code();
        self.block_end = 0;
    }
}

/// The time that the calling thread has run.
fn thread_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live variable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned()
}

/// The fault of an instruction that does not exist.
pub(crate) fn undefined(v: &mut Vcpu, op: &crate::op::Op) -> crate::op::Done {
    // One that exists and has no handler.
    if let Some(mnemonic) = op.imm.checked_sub(1).and_then(|n| Mnemonic::try_from(n as usize).ok())
    {
        let name = || format!("the instruction {}", format!("{mnemonic:?}").to_lowercase());
        v.counters.refusals.note(name);
    }
    Err(v.cpu.raise(Vector::Ud, 0))
}
