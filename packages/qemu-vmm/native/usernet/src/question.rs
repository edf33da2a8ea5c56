//! What the program is asked about a connection of the guest's, and what it can say.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::config::{HostAddr, Protocol};
use crate::host::{Kind, Token};

/// How long a question waits, and a connection is left without an answer on purpose: as long as Linux
/// repeats its first segment (`tcp_syn_retries` of ip-sysctl).
pub const PATIENCE_US: u64 = 130_000_000;
/// Set in numbers of flows of UDP. A connection of TCP has 24 bits of generation and 24 of index.
const UDP_BIT: u64 = 1 << 48;

/// A connection, or the first datagram of a port of the guest's to somebody.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Names it in the answer; it fits into a double.
    pub id: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// The guest's end.
    pub guest: SocketAddr,
    /// Whom it wants to reach.
    pub peer: SocketAddr,
}

/// What the program says.
#[derive(Debug)]
pub enum Answer {
    /// Where it would go without asking.
    Allow,
    /// Nowhere, and the guest is told: by a reset, or an ICMP error.
    Refuse,
    /// Nowhere, and the guest is told nothing.
    Drop,
    /// Somewhere else.
    Redirect(HostAddr),
    /// To the other end of this socket, which is connected and does not block.
    Socket(OwnedFd),
}

/// What a number names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A connection in the table of TCP.
    Tcp(Token),
    /// A flow of UDP.
    Udp(u64),
}

impl Asked {
    /// The number.
    pub fn id(self) -> u64 {
        match self {
            Self::Tcp(token) => u64::from(token.generation) << 24 | u64::from(token.index),
            Self::Udp(number) => UDP_BIT | number,
        }
    }

    /// What has this number.
    pub fn from_id(id: u64) -> Self {
        if id & UDP_BIT != 0 {
            return Self::Udp(id & (UDP_BIT - 1));
        }
        let generation = (id >> 24) as u32 & 0xff_ffff;
        Self::Tcp(Token { kind: Kind::Tcp, index: (id & 0xff_ffff) as u32, generation })
    }
}
