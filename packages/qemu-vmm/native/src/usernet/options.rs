//! Options of a network as JavaScript gives them, already checked there: what is wrong here is a defect of
//! the caller.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ::usernet::config::{Config, Config4, Config6, Forward, GuestForward, HostAddr, Protocol};
use napi_derive::napi;

use crate::errno::{Result, js};

/// The IPv4 half.
#[napi(object)]
#[derive(Debug)]
pub struct UserIpv4 {
    /// Address of the network, and the length of its prefix.
    pub net: String,
    /// 1 to 30.
    pub prefix: u32,
    /// The router.
    pub host: String,
    /// The name server.
    pub dns: String,
    /// First address that DHCP gives.
    pub dhcp_start: String,
}

/// The IPv6 half.
#[napi(object)]
#[derive(Debug)]
pub struct UserIpv6 {
    /// The prefix that is advertised.
    pub net: String,
    /// Its length.
    pub prefix: u32,
    /// The router.
    pub host: String,
    /// The name server.
    pub dns: String,
}

/// A server in the guest's network that is elsewhere.
#[napi(object)]
#[derive(Debug)]
pub struct UserGuestForward {
    /// UDP, not TCP.
    pub udp: bool,
    /// Address and port in the guest's network.
    pub at: String,
    /// `unix:PATH`, or address and port; absent when the program answers.
    pub to: Option<String>,
}

/// What the network is made of.
#[napi(object)]
#[derive(Debug)]
pub struct UserNetOptions {
    /// Absent: no IPv4.
    pub ipv4: Option<UserIpv4>,
    /// Absent: no IPv6.
    pub ipv6: Option<UserIpv6>,
    /// The guest reaches nothing but what is forwarded.
    pub restrict: bool,
    /// The guest's name.
    pub hostname: Option<String>,
    /// Its domain.
    pub domainname: Option<String>,
    /// Domains to look names up in.
    pub dnssearch: Vec<String>,
    /// The folder that TFTP serves.
    pub tftp: Option<String>,
    /// The name of that server.
    pub tftp_server_name: Option<String>,
    /// The file to boot.
    pub bootfile: Option<String>,
    /// Name servers instead of the host's, each an address and a port.
    pub name_servers: Vec<String>,
    /// Servers in the guest's network that are elsewhere.
    pub guest_forwards: Vec<UserGuestForward>,
    /// Seed of sequence numbers, below 2^53.
    pub seed: f64,
    /// Ask about each connection.
    pub ask: bool,
}

/// A port of the host that leads into the guest.
#[napi(object)]
#[derive(Debug)]
pub struct UserForward {
    /// UDP, not TCP.
    pub udp: bool,
    /// `unix:PATH`, or address and port.
    pub host: String,
    /// Address and port in the guest.
    pub guest: String,
}

/// An address that JavaScript gave.
pub fn parse<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| js(libc::EINVAL, &format!("the address '{text}'")))
}

/// `unix:PATH`, or address and port.
pub fn place(text: &str) -> Result<HostAddr> {
    match text.strip_prefix("unix:") {
        Some(path) => Ok(HostAddr::Unix(PathBuf::from(path))),
        None => Ok(HostAddr::Inet(parse::<SocketAddr>(text)?)),
    }
}

impl UserNetOptions {
    /// As the network wants them.
    pub fn config(self) -> Result<Config> {
        let v4 = self.ipv4.map(UserIpv4::parse).transpose()?;
        let v6 = self.ipv6.map(UserIpv6::parse).transpose()?;
        let name_servers =
            self.name_servers.iter().map(|text| parse(text)).collect::<Result<_>>()?;
        let guest_forwards = self.guest_forwards.iter().map(UserGuestForward::parse);
        let mut config = Config {
            v4,
            v6,
            restrict: self.restrict,
            hostname: self.hostname,
            domainname: self.domainname,
            dnssearch: self.dnssearch,
            tftp: self.tftp.map(PathBuf::from),
            tftp_server_name: self.tftp_server_name,
            bootfile: self.bootfile,
            name_servers,
            guest_forwards: guest_forwards.collect::<Result<_>>()?,
            seed: self.seed as u64,
            ask: self.ask,
            ..Config::default()
        };
        if let Some(v4) = &config.v4 {
            config.mac[2..].copy_from_slice(&v4.host.octets());
        }
        Ok(config)
    }
}

impl UserIpv4 {
    fn parse(self) -> Result<Config4> {
        let (net, host) = (parse::<Ipv4Addr>(&self.net)?, parse(&self.host)?);
        let (dns, dhcp_start) = (parse(&self.dns)?, parse(&self.dhcp_start)?);
        let prefix = u8::try_from(self.prefix).ok().filter(|prefix| (1..=30).contains(prefix));
        let prefix = prefix.ok_or_else(|| js(libc::EINVAL, "the length of an IPv4 prefix"))?;
        Ok(Config4 { net, prefix, host, dns, dhcp_start })
    }
}

impl UserIpv6 {
    fn parse(self) -> Result<Config6> {
        let (net, host, dns) =
            (parse::<Ipv6Addr>(&self.net)?, parse(&self.host)?, parse(&self.dns)?);
        let prefix = u8::try_from(self.prefix).ok().filter(|prefix| (1..=126).contains(prefix));
        let prefix = prefix.ok_or_else(|| js(libc::EINVAL, "the length of an IPv6 prefix"))?;
        Ok(Config6 { net, prefix, host, dns })
    }
}

impl UserGuestForward {
    fn parse(&self) -> Result<GuestForward> {
        let to = self.to.as_deref().map(place).transpose()?;
        let protocol = if self.udp { Protocol::Udp } else { Protocol::Tcp };
        Ok(GuestForward { protocol, at: parse(&self.at)?, to })
    }
}

impl UserForward {
    /// As the network wants it.
    pub fn parse(&self) -> Result<Forward> {
        let protocol = if self.udp { Protocol::Udp } else { Protocol::Tcp };
        Ok(Forward { protocol, host: place(&self.host)?, guest: parse(&self.guest)? })
    }
}
