//! The state of a network on its way to and from JavaScript: addresses as text.

use std::net::SocketAddr;

use ::usernet::state::{Severed, State};
use napi_derive::napi;

use super::options::parse;
use crate::errno::{Result, js};

/// What a saved machine has of a network.
#[napi(object)]
#[derive(Debug)]
pub struct UserState {
    /// Cards that have the addresses of DHCP, from the first on; empty for one that is free.
    pub leases: Vec<String>,
    /// Open connections of TCP.
    pub connections: Vec<UserSevered>,
}

/// A connection that the guest of a saved machine has.
#[napi(object)]
#[derive(Debug)]
pub struct UserSevered {
    /// The guest's end, as address and port.
    pub guest: String,
    /// The other.
    pub peer: String,
    /// The guest's card.
    pub card: String,
    /// Of the next byte to the guest.
    pub sequence: u32,
}

impl From<State> for UserState {
    fn from(state: State) -> Self {
        let lease = |mac: &Option<[u8; 6]>| mac.map_or_else(String::new, text);
        let connection = |severed: &Severed| UserSevered {
            guest: severed.guest.to_string(),
            peer: severed.peer.to_string(),
            card: text(severed.card),
            sequence: severed.sequence,
        };
        Self {
            leases: state.leases.iter().map(lease).collect(),
            connections: state.connections.iter().map(connection).collect(),
        }
    }
}

impl UserState {
    /// As the network wants it.
    pub fn parse(self) -> Result<State> {
        let lease = |text: &String| match text.as_str() {
            "" => Ok(None),
            text => mac(text).map(Some),
        };
        let connection = |severed: &UserSevered| {
            Ok(Severed {
                guest: parse::<SocketAddr>(&severed.guest)?,
                peer: parse::<SocketAddr>(&severed.peer)?,
                card: mac(&severed.card)?,
                sequence: severed.sequence,
            })
        };
        Ok(State {
            leases: self.leases.iter().map(lease).collect::<Result<_>>()?,
            connections: self.connections.iter().map(connection).collect::<Result<_>>()?,
        })
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bad = || js(libc::EINVAL, &format!("the card '{text}'"));
    let byte = |part: &str| u8::from_str_radix(part, 16).map_err(|_| bad());
    let bytes = text.split(':').map(byte).collect::<Result<Vec<u8>>>()?;
    bytes.try_into().map_err(|_| bad())
}
