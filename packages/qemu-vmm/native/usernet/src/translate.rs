//! Addresses of the guest's network and addresses of the host's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Config;
use crate::resolver::Resolver;

/// What an address of the guest's network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The router: the host's loopback.
    Host,
    /// The name server.
    Dns,
    /// Somewhere outside.
    Outside,
    /// No place that can be reached: everybody, nobody, the guest's own loopback, or an address of
    /// the guest's network that is not served here.
    Nowhere,
}

/// What an address that the guest sends to is.
pub fn place(config: &Config, address: IpAddr) -> Place {
    match address {
        IpAddr::V4(address) => place4(config, address),
        IpAddr::V6(address) => place6(config, address),
    }
}

fn place4(config: &Config, address: Ipv4Addr) -> Place {
    let Some(v4) = &config.v4 else { return Place::Nowhere };
    if address == v4.dns {
        Place::Dns
    } else if address == v4.host {
        Place::Host
    } else if v4.contains(address) {
        Place::Nowhere
    } else {
        let first = address.octets()[0];
        // 0/8, loopback, multicast, reserved (RFC 6890).
        if first == 0 || first == 127 || first >= 224 { Place::Nowhere } else { Place::Outside }
    }
}

fn place6(config: &Config, address: Ipv6Addr) -> Place {
    let Some(v6) = &config.v6 else { return Place::Nowhere };
    let segments = address.segments();
    if address == v6.dns {
        Place::Dns
    } else if address == v6.host || address == link_local(v6.host) {
        Place::Host
    } else if address.is_multicast() || segments[0] & 0xffc0 == 0xfe80 || v6.contains(address) {
        Place::Nowhere
    } else if segments[..5] == [0; 5] {
        // Unspecified, loopback, and IPv4 in disguise.
        Place::Nowhere
    } else {
        Place::Outside
    }
}

/// The router's address on the link itself: fe80:: with the same lower half.
pub fn link_local(host: Ipv6Addr) -> Ipv6Addr {
    let [.., e, f, g, h] = host.segments();
    Ipv6Addr::new(0xfe80, 0, 0, 0, e, f, g, h)
}

/// Where the host connects to when the guest sends to `to`. None when it must not or cannot.
pub fn outward(
    config: &Config,
    resolver: &mut Resolver,
    now_us: u64,
    attempt: usize,
    to: SocketAddr,
) -> Option<SocketAddr> {
    if config.restrict {
        return None;
    }
    match place(config, to.ip()) {
        Place::Host if to.is_ipv4() => Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port())),
        Place::Host => Some(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), to.port())),
        Place::Dns => resolver.server(now_us, attempt, to.port()),
        Place::Outside => Some(to),
        Place::Nowhere => None,
    }
}

/// As whom the guest sees a peer of the host. Who is on the host itself, who speaks another
/// protocol, and who has an address of the guest's network, is seen as the router.
pub fn inward(config: &Config, peer: Option<IpAddr>, six: bool) -> Option<IpAddr> {
    let router = if six {
        IpAddr::V6(config.v6.as_ref()?.host)
    } else {
        IpAddr::V4(config.v4.as_ref()?.host)
    };
    let Some(peer) = peer else { return Some(router) };
    let seen = peer.is_ipv6() == six && place(config, peer) == Place::Outside;
    Some(if seen { peer } else { router })
}

/// Whether a guest may have this address.
pub fn may_be_guest(config: &Config, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => config.v4.as_ref().is_some_and(|v4| {
            v4.contains(address) && ![v4.net, v4.host, v4.dns, v4.broadcast()].contains(&address)
        }),
        IpAddr::V6(address) => config.v6.as_ref().is_some_and(|v6| {
            let local = address.segments()[0] & 0xffc0 == 0xfe80;
            (local || v6.contains(address))
                && ![v6.host, v6.dns, link_local(v6.host)].contains(&address)
        }),
    }
}
