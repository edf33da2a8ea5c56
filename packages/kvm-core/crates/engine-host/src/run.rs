//! `KVM_RUN`, and the exits that need nobody outside.

use std::os::fd::AsRawFd;

use kvm_abi::exit::{Exit, reason, run};
use kvm_cpu::engine::request;

use crate::error::refused;
use crate::sys::{KVM_RUN, ioctl};
use crate::vcpu::HostVcpu;

/// `KVM_EXIT_SET_TPR`: CR8 was lowered, which the page has already.
const SET_TPR: u32 = 11;
/// `internal.suberror` where the kernel gives an errno instead of an exit; the errno follows.
const SUBERROR_RUN_FAILED: u32 = 0x1_0001;

impl HostVcpu {
    /// Enters until an exit for the caller.
    pub(crate) fn enter(&mut self) -> Exit {
        let by_user = self.kick.begin();
        let exit = self.enter_until_exit(by_user);
        self.kick.end();
        exit
    }

    fn enter_until_exit(&mut self, by_user: bool) -> Exit {
        loop {
            let asked = self.requests.take();
            for nmi in [request::NMI, request::NMI_AGAIN] {
                if asked & nmi != 0 {
                    self.inject_nmi();
                }
            }
            let leave = by_user || asked & request::EXIT != 0;
            if leave {
                self.kick.leave_at_once();
            }
            let done = ioctl(self.fd.as_raw_fd(), KVM_RUN);
            self.kick.rearm(by_user);
            self.pending = false;
            match done {
                Ok(_) => {
                    let why = self.page.u32(run::EXIT_REASON);
                    let inside = match why {
                        reason::IO => self.io_inside(),
                        reason::MMIO => self.mmio_inside(),
                        SET_TPR => true,
                        _ => false,
                    };
                    if inside {
                        if leave {
                            // The access is to be completed before the vCPU leaves.
                            self.requests.raise(request::EXIT);
                        }
                        continue;
                    }
                    self.pending = matches!(why, reason::IO | reason::MMIO | reason::HYPERCALL);
                    return Exit::Described(why);
                }
                Err(libc::EINTR) if leave => {
                    self.page.set(run::EXIT_REASON, &reason::INTR.to_le_bytes());
                    return Exit::Described(reason::INTR);
                }
                // A kick whose request is taken at the next round, or a signal for somebody else.
                // EAGAIN: an AP that was woken and may now be entered.
                Err(libc::EINTR | libc::EAGAIN) => {}
                Err(number) => {
                    self.notes.push(refused("KVM_RUN", number).reason);
                    let data = vec![u64::from(number.unsigned_abs())];
                    return Exit::InternalError { suberror: SUBERROR_RUN_FAILED, data };
                }
            }
        }
    }

    /// Handles a port access that a quiet route takes. With several items (`rep outs`) those that
    /// are done leave the exit.
    fn io_inside(&self) -> bool {
        let [direction, size] = self.page.get::<2>(run::IO_DIRECTION);
        let port = u16::from_le_bytes(self.page.get(run::IO_PORT));
        let count = self.page.u32(run::IO_COUNT);
        let offset = u64::from_le_bytes(self.page.get(run::IO_DATA_OFFSET));
        let Ok(offset) = usize::try_from(offset) else { return false };
        let bytes = usize::from(size);
        if !matches!(bytes, 1 | 2 | 4) {
            return false;
        }
        let bus = &self.context.bus;
        for item in 0..count as usize {
            let at = offset.saturating_add(item.saturating_mul(bytes));
            let done = if direction == 0 {
                bus.pio_read(self.id, port, size).is_some_and(|value| {
                    self.page.set(at, &value.to_le_bytes()[..bytes]);
                    true
                })
            } else {
                let raw: [u8; 4] = self.page.get(at);
                let mut word = [0; 4];
                word[..bytes].copy_from_slice(&raw[..bytes]);
                bus.pio_write(self.id, port, size, u32::from_le_bytes(word))
            };
            if !done {
                if item > 0 && direction != 0 {
                    self.page.set(run::IO_COUNT, &(count - item as u32).to_le_bytes());
                    self.page.set(run::IO_DATA_OFFSET, &(at as u64).to_le_bytes());
                }
                return false;
            }
        }
        true
    }

    /// Handles a memory access that a quiet route takes.
    fn mmio_inside(&self) -> bool {
        let gpa = u64::from_le_bytes(self.page.get(run::MMIO_PHYS_ADDR));
        let len = self.page.u32(run::MMIO_LEN) as usize;
        let mut data: [u8; 8] = self.page.get(run::MMIO_DATA);
        let Some(part) = data.get_mut(..len).filter(|part| !part.is_empty()) else { return false };
        let bus = &self.context.bus;
        if self.page.get::<1>(run::MMIO_IS_WRITE) != [0] {
            return bus.mmio_write(self.id, gpa, part);
        }
        let done = bus.mmio_read(self.id, gpa, part);
        if done {
            self.page.set(run::MMIO_DATA, part);
        }
        done
    }
}
