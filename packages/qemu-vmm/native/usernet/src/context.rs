//! What the parts of the network share while they handle something.

use std::net::IpAddr;

use crate::arp;
use crate::batch::Out;
use crate::config::Config;
use crate::host::Poller;
use crate::link::{Header, Link, Mac, send};
use crate::ndp;
use crate::resolver::Resolver;

/// Borrowed for the time of one call.
#[derive(Debug)]
pub struct Context<'a, 'b> {
    /// What was configured.
    pub config: &'a Config,
    /// Cards on the link.
    pub link: &'a mut Link,
    /// Where sockets of the host are watched.
    pub poller: &'a Poller,
    /// The host's name servers.
    pub resolver: &'a mut Resolver,
    /// Microseconds of a clock that only goes forward.
    pub now_us: u64,
    /// Frames to the guest.
    pub out: &'a mut Out<'b>,
}

impl Context<'_, '_> {
    /// The card that has an address. When it is not known, asks who has it.
    pub fn find(&mut self, address: IpAddr) -> Option<Mac> {
        let known = self.link.neighbor(address);
        if known.is_none() {
            match address {
                IpAddr::V4(address) => arp::ask(self.config, self.link, address, self.out),
                IpAddr::V6(address) => ndp::ask(self.config, self.link, address, self.out),
            }
        }
        known
    }

    /// Sends one packet that the link takes as it is. None when there was no room.
    pub fn send(
        &mut self,
        to: Mac,
        header: Header,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<()> {
        send(self.link, self.out, to, header, length, fill)
    }
}
