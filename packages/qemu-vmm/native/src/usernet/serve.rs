//! The queues of a card that were lent to the network: who kicks them is answered on the event loop's thread, without JavaScript.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use ::usernet::batch::Out;
use ::usernet::net::Net;
use napi_derive::napi;
use vring::{Backend, Card, CardConfig, Layout, Positions, Strange, Which};

use super::calls::Calls;
use crate::errno::{Result, js, last_errno};
use crate::watch::Watch;

/// A queue of the card.
#[napi(object)]
#[derive(Debug)]
pub struct LentQueue {
    /// Descriptors.
    pub size: u32,
    /// Guest physical addresses.
    pub desc: f64,
    /// Of the available ring.
    pub avail: f64,
    /// Of the used ring.
    pub used: f64,
    /// Position of the next chain.
    pub last_avail: u32,
    /// Position of the next used element.
    pub used_idx: u32,
    /// Used elements that the driver was considered for an interrupt for.
    pub signalled: u32,
    /// An eventfd, signalled when the driver kicks.
    pub kick_fd: i32,
    /// The message that interrupts the driver.
    pub address: f64,
    /// Its data.
    pub data: u32,
}

/// What a card lends.
#[napi(object)]
#[derive(Debug)]
pub struct Loan {
    /// Towards the guest.
    pub rx: LentQueue,
    /// From the guest.
    pub tx: LentQueue,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
    /// A frame may go to several buffers.
    pub mergeable: bool,
    /// The driver takes partial checksums.
    pub checksums: bool,
    /// `ACCEPTS_…` bits of what the driver may ask for.
    pub offloads: u32,
    /// The card's address.
    pub mac: Vec<u8>,
    /// Frames to that pass its filter.
    pub unicast: bool,
    /// Frames to everybody pass its filter.
    pub broadcast: bool,
}

/// Where the queues are when the card has them again, and what was done with them.
#[napi(object)]
#[derive(Debug)]
pub struct Returned {
    /// `lastAvail`, `usedIdx` and `signalled` of the receive queue.
    pub rx: Vec<u32>,
    /// The same of the transmit queue.
    pub tx: Vec<u32>,
    /// Bytes of the batch that are used then.
    pub used: u32,
    /// Frames from and to the guest, their bytes, and those that made no sense.
    pub sent: f64,
    /// Bytes of those.
    pub sent_bytes: f64,
    /// Frames to the guest.
    pub received: f64,
    /// Bytes of those.
    pub received_bytes: f64,
    /// Frames of the guest's that made no sense.
    pub errors: f64,
    /// Times that the driver kicked.
    pub kicks: f64,
    /// Interrupts.
    pub interrupts: f64,
}

/// Calls of the event loop in which the queues are looked at.
#[derive(Debug)]
pub struct Kicks {
    fds: [OwnedFd; 2],
    watches: Vec<Rc<Watch>>,
    /// Kicks of the driver's.
    count: u64,
    own: u64,
}

impl Kicks {
    /// Duplicates of the descriptors: who owns them may close them at any time.
    pub fn new(fds: [RawFd; 2]) -> Result<Self> {
        let duplicate = |fd: RawFd| {
            if fd < 0 {
                return Err(js(libc::EBADF, "an eventfd"));
            }
            // SAFETY: duplicating a descriptor that is not open fails, and has no other effect.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            fd.try_clone_to_owned().map_err(|_| js(last_errno(), "an eventfd"))
        };
        let fds = [duplicate(fds[0])?, duplicate(fds[1])?];
        let mut kicks = Self { fds, watches: Vec::new(), count: 0, own: 0 };
        // What JavaScript was told of as well is not counted twice, but looked at.
        kicks.take();
        if std::mem::take(&mut kicks.count) > 0 {
            kicks.again();
        }
        Ok(kicks)
    }

    /// Calls `kicked` from the loop of `env`.
    pub fn watch(&mut self, env: napi::sys::napi_env, kicked: &Rc<dyn Fn()>) -> Result<()> {
        for fd in &self.fds {
            let kicked = kicked.clone();
            self.watches.push(Watch::native(env, fd.as_raw_fd(), Box::new(move || kicked()))?);
        }
        Ok(())
    }

    /// Takes the counts of both.
    pub fn take(&mut self) {
        for fd in &self.fds {
            let mut count = [0u8; 8];
            // SAFETY: eight bytes of a live variable; the descriptor does not block, and without a count nothing is written.
            unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
            self.count += u64::from_ne_bytes(count);
        }
        self.count = self.count.saturating_sub(std::mem::take(&mut self.own));
    }

    /// Kicks, so that the event loop comes back here.
    pub fn again(&mut self) {
        self.own += 1;
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of a live variable. A full counter is as good.
        unsafe { libc::write(self.fds[1].as_raw_fd(), one.as_ptr().cast(), 8) };
    }
}

impl Drop for Kicks {
    /// The poll handles go before the descriptors do.
    fn drop(&mut self) {
        for watch in self.watches.drain(..) {
            watch.close();
        }
    }
}

/// Queues that are being served.
#[derive(Debug)]
pub struct Serving {
    card: Card<Rc<Calls>>,
    calls: Rc<Calls>,
    messages: [(u64, u32); 2],
    pub kicks: Kicks,
    /// The network's clock when the time was `start`.
    now_us: f64,
    start: Instant,
}

impl Serving {
    /// Throws for what no driver could have negotiated.
    pub fn new(loan: &Loan, calls: Calls, now_us: f64) -> Result<Self> {
        let mac = loan.mac.as_slice().try_into();
        let config = CardConfig {
            mergeable: loan.mergeable,
            checksums: loan.checksums,
            offloads: loan.offloads,
            mac: mac.map_err(|_| js(libc::EINVAL, "an address of a card"))?,
            unicast: loan.unicast,
            broadcast: loan.broadcast,
        };
        let calls = Rc::new(calls);
        let (rx, tx) = (queue(&loan.rx, loan)?, queue(&loan.tx, loan)?);
        Ok(Self {
            card: Card::new(calls.clone(), config, rx, tx),
            calls,
            messages: [&loan.rx, &loan.tx].map(|queue| (queue.address as u64, queue.data)),
            kicks: Kicks::new([loan.rx.kick_fd, loan.tx.kick_fd])?,
            now_us,
            start: Instant::now(),
        })
    }

    /// The time of the network's clock.
    pub fn now_us(&self) -> u64 {
        self.now_us as u64 + self.start.elapsed().as_micros() as u64
    }

    /// Looks at the queues and at the network. Strange when the card has to have them back. A defect is one of the network's,
    /// which then is no more.
    pub fn run(&mut self, net: &mut Option<Net>) -> vring::Result<()> {
        self.kicks.take();
        let now_us = self.now_us();
        let result = {
            let Some(there) = net.as_mut() else { return Err(Strange) };
            let mut at = At { net: there, now_us };
            let (card, calls, messages) = (&mut self.card, &self.calls, self.messages);
            let mut raise = |which: Which| {
                let (address, data) = messages[usize::from(which == Which::Transmit)];
                calls.signal(address, data);
            };
            catch_unwind(AssertUnwindSafe(|| card.run(&mut at, &mut raise)))
        };
        match result {
            Ok(Ok(false)) => Ok(()),
            Ok(Ok(true)) => {
                self.kicks.again();
                Ok(())
            }
            Ok(Err(strange)) => Err(strange),
            Err(_) => {
                *net = None;
                Err(Strange)
            }
        }
    }

    /// Ends it. Frames that were not delivered go behind the `used` bytes of `out`, as many as there is room for.
    pub fn end(self, out: &mut [u8], used: usize) -> Returned {
        let (rx, tx) = self.card.positions();
        let list = |at: Positions| vec![at.last_avail, at.used_idx, at.signalled];
        let words = |at: Positions| list(at).into_iter().map(u32::from).collect();
        let mut rest = self.card.undelivered();
        let mut used = used.min(out.len());
        while let Some(length) = rest.first_chunk() {
            let record = (u32::from_le_bytes(*length) as usize + 4).next_multiple_of(4);
            let Some((record, behind)) = rest.split_at_checked(record) else { break };
            let Some(place) = out.get_mut(used..used + record.len()) else { break };
            place.copy_from_slice(record);
            used += record.len();
            rest = behind;
        }
        let counts = self.card.counts();
        Returned {
            rx: words(rx),
            tx: words(tx),
            used: used as u32,
            sent: counts.sent.0 as f64,
            sent_bytes: counts.sent.1 as f64,
            received: counts.received.0 as f64,
            received_bytes: counts.received.1 as f64,
            errors: counts.errors as f64,
            kicks: self.kicks.count as f64,
            interrupts: counts.interrupts as f64,
        }
    }
}

fn queue(of: &LentQueue, loan: &Loan) -> Result<(Layout, Positions)> {
    let size = u16::try_from(of.size).ok().filter(|size| size.is_power_of_two() && *size <= 1024);
    let layout = Layout {
        size: size.ok_or_else(|| js(libc::EINVAL, "a queue of that size"))?,
        desc: of.desc as u64,
        avail: of.avail as u64,
        used: of.used as u64,
        event_idx: loan.event_idx,
        indirect: loan.indirect,
    };
    let positions = Positions {
        last_avail: of.last_avail as u16,
        used_idx: of.used_idx as u16,
        signalled: of.signalled as u16,
    };
    Ok((layout, positions))
}

/// The network at one moment.
struct At<'a> {
    net: &'a mut Net,
    now_us: u64,
}

impl Backend for At<'_> {
    fn input(&mut self, frames: &[u8], out: &mut [u8], used: usize) -> vring::Result<usize> {
        let mut out = Out::new(out, used);
        self.net.input(self.now_us, frames, &mut out);
        Ok(out.used())
    }

    fn poll(&mut self, out: &mut [u8], used: usize) -> vring::Result<(usize, bool)> {
        let mut out = Out::new(out, used);
        let more = self.net.poll(self.now_us, &mut out);
        Ok((out.used(), more))
    }
}
