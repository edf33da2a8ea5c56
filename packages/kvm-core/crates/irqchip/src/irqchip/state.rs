//! Save, load and reset of PIC, IOAPIC and PIT.

use kvm_abi::{Errno, KvmError, Reader};

use super::Irqchip;
use super::work::Chips;
use crate::pit::PitState;

/// `chip_id` of the first PIC.
pub const KVM_IRQCHIP_PIC_PRIMARY: u32 = 0;
/// `chip_id` of the second PIC.
pub const KVM_IRQCHIP_PIC_SECONDARY: u32 = 1;
/// `chip_id` of the IOAPIC.
pub const KVM_IRQCHIP_IOAPIC: u32 = 2;
/// Size of the union in `struct kvm_irqchip`.
pub const IRQCHIP_STATE_BYTES: usize = 512;

type Page = [u8; IRQCHIP_STATE_BYTES];

fn no_pit() -> KvmError {
    KvmError::new(Errno::ENXIO, "the VM has no PIT")
}

impl Irqchip {
    /// `KVM_GET_IRQCHIP`: the union of `struct kvm_irqchip` for `chip`. After KVM's structure the
    /// page holds which sources drive each line, which KVM does not save. `EINVAL` for another
    /// chip number.
    pub fn irqchip_state(&self, chip: u32) -> Result<Page, KvmError> {
        self.work(|w| {
            let mut page = [0; IRQCHIP_STATE_BYTES];
            match chip {
                KVM_IRQCHIP_PIC_PRIMARY | KVM_IRQCHIP_PIC_SECONDARY => {
                    let (state, sources) = w.chips.pic.save(chip as usize);
                    page[..16].copy_from_slice(&state);
                    for (to, from) in page[16..].chunks_exact_mut(8).zip(sources) {
                        to.copy_from_slice(&from.to_le_bytes());
                    }
                }
                KVM_IRQCHIP_IOAPIC => {
                    let bytes = w.chips.ioapic.save((w.now)()).0;
                    page[..bytes.len()].copy_from_slice(&bytes);
                }
                _ => return Err(KvmError::invalid(format!("there is no irqchip {chip}"))),
            }
            Ok(page)
        })
    }

    /// `KVM_SET_IRQCHIP`. Local APICs are to be loaded before: a request that the IOAPIC had
    /// pending is sent at once. `EINVAL` for another chip number or another IOAPIC address.
    pub fn set_irqchip_state(&self, chip: u32, page: &Page) -> Result<(), KvmError> {
        self.work(|w| {
            match chip {
                KVM_IRQCHIP_PIC_PRIMARY | KVM_IRQCHIP_PIC_SECONDARY => {
                    let mut r = Reader::new(page);
                    let state = r.array();
                    let sources = std::array::from_fn(|_| r.u64());
                    w.chips.pic.load(chip as usize, &state, &sources);
                }
                KVM_IRQCHIP_IOAPIC => {
                    let now = (w.now)();
                    w.with_ioapic(|ioapic, send| ioapic.load(page, now, send))?;
                    self.publish_vectors(&w.chips.ioapic);
                }
                _ => return Err(KvmError::invalid(format!("there is no irqchip {chip}"))),
            }
            Ok(())
        })
    }

    /// `KVM_GET_PIT2`. `ENXIO` without a PIT. A tick that is due is raised first, so this comes
    /// before the other chips are saved.
    pub fn pit_state(&self) -> Result<PitState, KvmError> {
        self.work(|w| {
            let now = (w.now)();
            w.poll(now);
            Ok(w.chips.pit.as_ref().ok_or_else(no_pit)?.save(now))
        })
    }

    /// `KVM_SET_PIT2`. `ENXIO` without a PIT.
    pub fn set_pit_state(&self, state: &PitState) -> Result<(), KvmError> {
        self.work(|w| {
            let now = (w.now)();
            w.chips.pit.as_mut().ok_or_else(no_pit)?.load(state, now);
            Ok(())
        })
    }

    /// `KVM_REINJECT_CONTROL`: with reinjection, the default, every tick of the PIT reaches the
    /// guest, late ones one after the other; without, ticks that find the last one pending are
    /// lost. `ENXIO` without a PIT.
    pub fn set_pit_reinject(&self, on: bool) -> Result<(), KvmError> {
        self.work(|w| {
            let pit = w.chips.pit.as_mut().ok_or_else(no_pit)?;
            pit.ticks.reinject = on;
            pit.ticks.forget();
            Ok(())
        })
    }

    /// RESET of the machine: PIC, IOAPIC and PIT as after power-up. Lines are open until their
    /// devices drive them again; local APICs are reset with their vCPUs.
    pub fn reset(&self) {
        self.work(|w| {
            let pit = w.chips.pit.take().map(|pit| pit.reset());
            *w.chips = Chips::new();
            w.chips.pit = pit;
            self.publish_vectors(&w.chips.ioapic);
        });
    }
}
