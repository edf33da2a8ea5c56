//! What the network is made of.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// What a forward or a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The IPv4 half. QEMU's defaults are 10.0.2.0/24 and in it 2, 3 and 15.
#[derive(Debug, Clone)]
pub struct Config4 {
    /// Address of the network.
    pub net: Ipv4Addr,
    /// Length of its prefix, 1 to 30.
    pub prefix: u8,
    /// The router, which stands for the host.
    pub host: Ipv4Addr,
    /// The name server.
    pub dns: Ipv4Addr,
    /// First address that DHCP gives.
    pub dhcp_start: Ipv4Addr,
}

/// The IPv6 half. QEMU's defaults are fec0::/64 and in it 2 and 3.
#[derive(Debug, Clone)]
pub struct Config6 {
    /// The prefix that is advertised.
    pub net: Ipv6Addr,
    /// Its length.
    pub prefix: u8,
    /// The router, which stands for the host.
    pub host: Ipv6Addr,
    /// The name server.
    pub dns: Ipv6Addr,
}

/// A place on the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostAddr {
    /// An address and a port.
    Inet(SocketAddr),
    /// The path of a UNIX socket.
    Unix(PathBuf),
}

/// A port of the host that leads into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP; a UNIX socket can only be TCP's.
    pub protocol: Protocol,
    /// Where to listen.
    pub host: HostAddr,
    /// Where that leads. An unspecified address is the first one that DHCP gives.
    pub guest: SocketAddr,
}

/// An address of the guest's network that leads to a place on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestForward {
    /// TCP or UDP; a UNIX socket can only be TCP's.
    pub protocol: Protocol,
    /// Where the guest connects to.
    pub at: SocketAddr,
    /// Where that leads. None: the program answers.
    pub to: Option<HostAddr>,
}

/// The network.
#[derive(Debug, Clone)]
pub struct Config {
    /// None switches IPv4 off.
    pub v4: Option<Config4>,
    /// None switches IPv6 off.
    pub v6: Option<Config6>,
    /// The router's card.
    pub mac: [u8; 6],
    /// The guest reaches nothing but what is forwarded.
    pub restrict: bool,
    /// The guest's name, in answers of DHCP.
    pub hostname: Option<String>,
    /// The domain, in answers of DHCP.
    pub domainname: Option<String>,
    /// Domains to look names up in.
    pub dnssearch: Vec<String>,
    /// The folder whose files TFTP gives.
    pub tftp: Option<PathBuf>,
    /// The name of that server, in answers of DHCP.
    pub tftp_server_name: Option<String>,
    /// The file to boot, in answers of DHCP.
    pub bootfile: Option<String>,
    /// The file with the host's name servers.
    pub resolv_conf: PathBuf,
    /// Name servers instead of the host's.
    pub name_servers: Vec<SocketAddr>,
    /// Servers in the guest's network that are elsewhere.
    pub guest_forwards: Vec<GuestForward>,
    /// Seed of sequence numbers.
    pub seed: u64,
    /// TCP connections at most.
    pub max_tcp: usize,
    /// Associations of UDP at most.
    pub max_udp: usize,
    /// Ask the program about each connection.
    pub ask: bool,
}

impl Config {
    /// What leads elsewhere from there.
    pub fn guest_forward(&self, protocol: Protocol, at: SocketAddr) -> Option<&GuestForward> {
        self.guest_forwards.iter().find(|forward| forward.protocol == protocol && forward.at == at)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            v4: Some(Config4 {
                net: Ipv4Addr::new(10, 0, 2, 0),
                prefix: 24,
                host: Ipv4Addr::new(10, 0, 2, 2),
                dns: Ipv4Addr::new(10, 0, 2, 3),
                dhcp_start: Ipv4Addr::new(10, 0, 2, 15),
            }),
            v6: Some(Config6 {
                net: Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0),
                prefix: 64,
                host: Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2),
                dns: Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 3),
            }),
            mac: [0x52, 0x55, 10, 0, 2, 2],
            restrict: false,
            hostname: None,
            domainname: None,
            dnssearch: Vec::new(),
            tftp: None,
            tftp_server_name: None,
            bootfile: None,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            name_servers: Vec::new(),
            guest_forwards: Vec::new(),
            seed: 0,
            max_tcp: 16_384,
            max_udp: 1024,
            ask: false,
        }
    }
}

impl Config4 {
    /// The mask of the network.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// The address that means everybody.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.net) | !u32::from(self.mask()))
    }

    /// Whether an address is in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.net)) & u32::from(self.mask()) == 0
    }
}

impl Config6 {
    /// Whether an address is in the network.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        (u128::from(address) ^ u128::from(self.net)) & mask == 0
    }
}
