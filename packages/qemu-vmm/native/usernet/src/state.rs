//! What of a network belongs to the state of a machine: who has which address, and which connections the
//! guest believes in.
//!
//! Sockets of the host cannot be saved. A machine that goes on from a state, here or elsewhere, has
//! connections whose other end is gone, and a program that waits for data would wait for ever: nothing
//! tells a silent end of TCP. So they are reset when the state is loaded (RFC 9293, section 3.5.2), each
//! with the number that its end expects next.

use std::net::SocketAddr;

use crate::link::Mac;

/// A connection of the guest's that goes on no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Severed {
    /// The guest's end.
    pub guest: SocketAddr,
    /// The other.
    pub peer: SocketAddr,
    /// The guest's card.
    pub card: Mac,
    /// Of the next byte to the guest. When the guest has missed some before, it asks what is the matter,
    /// and is answered as anybody who has no connection.
    pub sequence: u32,
}

/// The state of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Who has the addresses of DHCP, from the first on. A card of zeroes stands for somebody unknown.
    pub leases: Vec<Option<Mac>>,
    /// Open connections.
    pub connections: Vec<Severed>,
}

/// Why a state is none of this network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateError {
    /// More leases than there are addresses.
    Leases(usize),
    /// More connections than there can be.
    Connections(usize),
    /// Ends of different families, or the address of a group as a card.
    Ends(SocketAddr, SocketAddr),
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leases(count) => write!(f, "{count} leases"),
            Self::Connections(count) => write!(f, "{count} connections"),
            Self::Ends(guest, peer) => write!(f, "a connection of {guest} and {peer}"),
        }
    }
}

impl std::error::Error for StateError {}

impl State {
    /// Whether it could have been saved.
    pub fn check(&self, max_tcp: usize) -> Result<(), StateError> {
        if self.leases.len() > crate::dhcp::LEASES {
            return Err(StateError::Leases(self.leases.len()));
        }
        if self.connections.len() > max_tcp {
            return Err(StateError::Connections(self.connections.len()));
        }
        let bad = |severed: &&Severed| {
            severed.guest.is_ipv4() != severed.peer.is_ipv4() || severed.card[0] & 1 != 0
        };
        match self.connections.iter().find(bad) {
            Some(Severed { guest, peer, .. }) => Err(StateError::Ends(*guest, *peer)),
            None => Ok(()),
        }
    }
}
