//! Who handles which range of ports and of memory that is not RAM.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use kvm_abi::{Errno, KvmError};

use crate::host::{Host, PostedWrite};
use crate::page::SharedPage;

/// Bytes of the register block of a latched route.
pub const LATCH_BYTES: u64 = 64;
const MAX_ROUTES: usize = 65536;

/// Ports or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Ports.
    Pio,
    /// Memory.
    Mmio,
}

/// What happens to an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// The vCPU exits and waits for the answer.
    Js,
    /// Writes go to a ring and the vCPU goes on.
    Posted,
    /// Reads are answered from a block of registers.
    Latched,
    /// Reads give all ones, writes are dropped.
    Ignore,
}

/// One range.
#[derive(Debug)]
pub struct Route {
    space: Space,
    base: u64,
    len: u64,
    kind: RouteKind,
    /// The only size of writes that are posted.
    size: Option<u64>,
    host: Arc<Host>,
    latch: Option<Arc<SharedPage>>,
}

impl Route {
    /// Checks the range.
    ///
    /// # Errors
    /// `EINVAL` for an empty range, one outside its space, a latched one of more than 64 bytes, or a size of
    /// writes that are none or are not posted.
    pub(crate) fn new(
        space: Space,
        base: u64,
        len: u64,
        kind: RouteKind,
        size: Option<u64>,
        host: Arc<Host>,
    ) -> Result<Self, KvmError> {
        let limit = match space {
            Space::Pio => 0x1_0000,
            Space::Mmio => kvm_memory::MAX_GPA,
        };
        if len == 0 || base.checked_add(len).is_none_or(|end| end > limit) {
            return Err(KvmError::invalid(format!(
                "range {base:#x} + {len:#x} is empty or not below {limit:#x}"
            )));
        }
        if kind == RouteKind::Latched && len > LATCH_BYTES {
            return Err(KvmError::invalid(format!(
                "a latched range has at most {LATCH_BYTES} bytes, not {len}"
            )));
        }
        if let Some(size) = size
            && (kind != RouteKind::Posted || !matches!(size, 1 | 2 | 4 | 8))
        {
            return Err(KvmError::invalid(format!(
                "writes of {size} bytes alone: posted ones can be of 1, 2, 4 or 8"
            )));
        }
        let latch = match kind {
            RouteKind::Latched => Some(SharedPage::new(LATCH_BYTES as usize)?),
            _ => None,
        };
        Ok(Self { space, base, len, kind, size, host, latch })
    }

    /// The register block of a latched route.
    #[must_use]
    pub fn latch(&self) -> Option<&Arc<SharedPage>> {
        self.latch.as_ref()
    }

    /// Where in the range an access of `bytes` at `addr` lies, if it is all inside.
    fn offset(&self, addr: u64, bytes: u64) -> Option<u64> {
        let offset = addr.checked_sub(self.base)?;
        (offset.checked_add(bytes)? <= self.len).then_some(offset)
    }

    fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        let Some(offset) = self.offset(addr, data.len() as u64) else { return false };
        match (self.kind, &self.latch) {
            (RouteKind::Ignore, _) => data.fill(0xff),
            (RouteKind::Latched, Some(latch)) => {
                for (i, byte) in data.iter_mut().enumerate() {
                    *byte = latch.u8(offset as usize + i).load(Ordering::Acquire);
                }
            }
            _ => return false,
        }
        true
    }

    fn write(&self, addr: u64, data: &[u8]) -> bool {
        if self.offset(addr, data.len() as u64).is_none() {
            return false;
        }
        match self.kind {
            RouteKind::Ignore => true,
            RouteKind::Posted if self.size.is_none_or(|size| size == data.len() as u64) => {
                let mut value = [0; 8];
                let Some(low) = value.get_mut(..data.len()) else { return false };
                low.copy_from_slice(data);
                self.host.post_write(&PostedWrite {
                    mmio: self.space == Space::Mmio,
                    addr,
                    size: data.len() as u32,
                    value: u64::from_le_bytes(value),
                })
            }
            RouteKind::Js | RouteKind::Posted | RouteKind::Latched => false,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    pio: Vec<Arc<Route>>,
    mmio: Vec<Arc<Route>>,
}

impl Table {
    fn of(&self, space: Space) -> &Vec<Arc<Route>> {
        match space {
            Space::Pio => &self.pio,
            Space::Mmio => &self.mmio,
        }
    }

    fn find(&self, space: Space, addr: u64) -> Option<&Arc<Route>> {
        let list = self.of(space);
        let after = list.partition_point(|route| route.base <= addr);
        let route = list.get(after.checked_sub(1)?)?;
        (addr - route.base < route.len).then_some(route)
    }
}

/// All routes of a VM. A change replaces the whole table: readers keep the one they have.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    table: RwLock<Arc<Table>>,
}

impl Routes {
    /// Adds a route.
    pub fn add(&self, route: Route) -> Result<Arc<Route>, KvmError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let list = table.of(route.space);
        if list.len() >= MAX_ROUTES {
            return Err(KvmError::new(Errno::ENOSPC, format!("there are {MAX_ROUTES} routes")));
        }
        let at = list.partition_point(|other| other.base < route.base);
        let clash = list
            .get(at)
            .filter(|next| next.base < route.base + route.len)
            .or_else(|| at.checked_sub(1).and_then(|i| list.get(i)))
            .filter(|other| {
                other.base < route.base + route.len && route.base < other.base + other.len
            });
        if let Some(other) = clash {
            return Err(KvmError::new(
                Errno::EEXIST,
                format!(
                    "range {:#x} + {:#x} overlaps the route {:#x} + {:#x}",
                    route.base, route.len, other.base, other.len
                ),
            ));
        }
        let route = Arc::new(route);
        let mut next = Table { pio: table.pio.clone(), mmio: table.mmio.clone() };
        match route.space {
            Space::Pio => next.pio.insert(at, route.clone()),
            Space::Mmio => next.mmio.insert(at, route.clone()),
        }
        *table = Arc::new(next);
        Ok(route)
    }

    /// Removes a route; nothing if it is gone already.
    pub fn remove(&self, route: &Arc<Route>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let without = |list: &[Arc<Route>]| {
            list.iter().filter(|other| !Arc::ptr_eq(other, route)).cloned().collect()
        };
        *table = Arc::new(Table { pio: without(&table.pio), mmio: without(&table.mmio) });
    }

    /// Answers a read without an exit; false if it must exit.
    pub fn read(&self, space: Space, addr: u64, data: &mut [u8]) -> bool {
        self.look(space, addr).is_some_and(|route| route.read(addr, data))
    }

    /// Takes a write without an exit; false if it must exit.
    pub fn write(&self, space: Space, addr: u64, data: &[u8]) -> bool {
        self.look(space, addr).is_some_and(|route| route.write(addr, data))
    }

    /// True if some access to `addr` needs no exit.
    pub fn claims(&self, space: Space, addr: u64) -> bool {
        self.look(space, addr).is_some_and(|route| route.kind != RouteKind::Js)
    }

    /// Number of the host that answers an exit, where a route says so.
    pub fn host(&self, space: Space, addr: u64) -> Option<u32> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.find(space, addr).map(|route| route.host.id())
    }

    /// The routes that were in force are dropped, with the references to their hosts.
    pub fn clear(&self) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    fn look(&self, space: Space, addr: u64) -> Option<Arc<Route>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.find(space, addr).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Arc<Host> {
        Host::new(0, Arc::default()).unwrap()
    }

    fn route(space: Space, base: u64, len: u64, kind: RouteKind) -> Result<Route, KvmError> {
        Route::new(space, base, len, kind, None, host())
    }

    #[test]
    fn overlaps_and_bad_ranges_are_refused() {
        let routes = Routes::default();
        let add = |base, len| routes.add(route(Space::Pio, base, len, RouteKind::Js)?).map(drop);
        add(0x60, 1).unwrap();
        add(0x64, 1).unwrap();
        add(0x61, 3).unwrap();
        for (base, len) in [(0x60, 1), (0x5f, 2), (0x64, 8), (0x50, 0x100), (0x62, 1)] {
            assert_eq!(add(base, len).unwrap_err().errno, Errno::EEXIST, "{base:#x}");
        }
        for (base, len) in [(0, 0), (0xffff, 2), (u64::MAX, 2)] {
            assert_eq!(add(base, len).unwrap_err().errno, Errno::EINVAL);
        }
        assert!(route(Space::Mmio, 0, 65, RouteKind::Latched).is_err());
    }

    #[test]
    fn ignored_and_latched_ranges_answer_by_themselves() {
        let routes = Routes::default();
        let ignored =
            routes.add(route(Space::Mmio, 0x1000, 8, RouteKind::Ignore).unwrap()).unwrap();
        let latched =
            routes.add(route(Space::Mmio, 0x2000, 8, RouteKind::Latched).unwrap()).unwrap();
        let mut data = [0; 4];
        assert!(routes.read(Space::Mmio, 0x1004, &mut data));
        assert_eq!(data, [0xff; 4]);
        assert!(!routes.read(Space::Mmio, 0x1006, &mut data), "only partly inside");
        latched.latch().unwrap().set(4, &[1, 2, 3, 4]);
        assert!(routes.read(Space::Mmio, 0x2004, &mut data));
        assert_eq!(data, [1, 2, 3, 4]);
        assert!(!routes.write(Space::Mmio, 0x2004, &data), "writes to latched ranges exit");
        assert!(routes.write(Space::Mmio, 0x1000, &data));
        assert!(!routes.write(Space::Pio, 0x1000, &data));
        assert!(routes.claims(Space::Mmio, 0x2000) && !routes.claims(Space::Pio, 0x2000));
        routes.remove(&ignored);
        assert!(!routes.write(Space::Mmio, 0x1000, &data));
        assert_eq!(routes.host(Space::Mmio, 0x2000), Some(0));
    }

    #[test]
    fn posted_writes_may_be_of_one_size_alone() {
        let routes = Routes::default();
        let new = |kind, size| Route::new(Space::Pio, 0xcf8, 4, kind, Some(size), host());
        routes.add(new(RouteKind::Posted, 4).unwrap()).unwrap();
        assert!(routes.write(Space::Pio, 0xcf8, &[0; 4]));
        assert!(!routes.write(Space::Pio, 0xcf9, &[6]));
        assert!(!routes.write(Space::Pio, 0xcf8, &[0; 2]));
        assert!(!routes.write(Space::Pio, 0xcf9, &[0; 4]), "only partly inside");
        assert!(new(RouteKind::Js, 4).is_err() && new(RouteKind::Posted, 3).is_err());
    }

    #[test]
    fn a_full_posted_ring_makes_the_write_exit() {
        let host = host();
        let routes = Routes::default();
        let posted =
            Route::new(Space::Pio, 0x3f8, 1, RouteKind::Posted, None, host.clone()).unwrap();
        routes.add(posted).unwrap();
        let taken = (0..300).filter(|_| routes.write(Space::Pio, 0x3f8, b"x")).count();
        assert_eq!(taken, 256);
        assert!(!routes.read(Space::Pio, 0x3f8, &mut [0]));
    }
}
