//! The host's name servers (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

/// The C library takes no more.
const MAX_SERVERS: usize = 3;
/// The file is looked at again after this long, in microseconds.
const RECHECK_US: u64 = 1_000_000;
/// A file that is longer is read that far.
const MAX_BYTES: usize = 64 << 10;

/// Remembers the servers, and looks whether the file has changed.
#[derive(Debug)]
pub struct Resolver {
    path: PathBuf,
    /// Those that were configured: the host's do not matter then.
    fixed: Vec<SocketAddr>,
    servers: Vec<IpAddr>,
    changed: Option<SystemTime>,
    checked_us: Option<u64>,
}

impl Resolver {
    pub fn new(path: PathBuf, fixed: Vec<SocketAddr>) -> Self {
        Self { path, fixed, servers: Vec::new(), changed: None, checked_us: None }
    }

    /// A server of the host, at the port that the guest asks; another one for each `attempt`. None when the host has none.
    pub fn server(&mut self, now_us: u64, attempt: usize, port: u16) -> Option<SocketAddr> {
        if !self.fixed.is_empty() {
            return Some(self.fixed[attempt % self.fixed.len()]);
        }
        self.refresh(now_us);
        let count = self.servers.len();
        (count > 0).then(|| SocketAddr::new(self.servers[attempt % count], port))
    }

    fn refresh(&mut self, now_us: u64) {
        if self.checked_us.is_some_and(|at| now_us.saturating_sub(at) < RECHECK_US) {
            return;
        }
        self.checked_us = Some(now_us);
        let changed = std::fs::metadata(&self.path).and_then(|file| file.modified()).ok();
        if changed.is_some() && changed == self.changed {
            return;
        }
        self.changed = changed;
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        self.servers = parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]));
    }
}

/// Scopes of link-local servers are left out: such an address is no use without.
fn parse(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    });
    servers.take(MAX_SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_order() {
        let text = "# c\nsearch x.org\nnameserver 9.9.9.9\n nameserver ::1 # c\nnameserver bad\n\
                    nameserver fe80::1%eth0\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n";
        let wanted: Vec<IpAddr> =
            ["9.9.9.9", "::1", "1.1.1.1"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(parse(text), wanted);
    }
}
