//! Connections that a saved machine had: their list, and the end of them.

use crate::batch::ETHERNET;
use crate::context::Context;
use crate::link::{Header, IPV6_HEADER, Link, TCP, finish};
use crate::packet::FLAG_RST;
use crate::state::Severed;

use super::Tcp;

const HEADER: usize = 20;
/// Where a TCP header has its checksum (RFC 9293, section 3.1).
const CHECKSUM_AT: usize = 16;

impl Tcp {
    /// The connections that the guest has. Those that it has only asked for it asks for again.
    pub fn severed(&self, link: &Link) -> Vec<Severed> {
        let open = self.table.connections().filter_map(|connection| {
            let (guest, peer) = (connection.key.guest, connection.key.peer);
            let sequence = connection.next_sequence?;
            Some(Severed { guest, peer, card: link.neighbor(guest.ip())?, sequence })
        });
        // Also those that the guest has not been told of yet.
        open.chain(self.severed.iter().cloned()).collect()
    }

    /// Forgets all connections, and resets those that the guest has now.
    pub fn sever(&mut self, guests: Vec<Severed>) {
        self.table.clear();
        self.questions.clear();
        self.severed = guests.into();
    }

    /// Tells the guest of them. False when there was no room for all.
    pub(super) fn reset_severed(&mut self, cx: &mut Context<'_, '_>) -> bool {
        while let Some(severed) = self.severed.front() {
            if !cx.out.has_room(ETHERNET + IPV6_HEADER + HEADER) {
                return false;
            }
            let Severed { guest, peer, card, sequence } = *severed;
            let header = Header::new(peer.ip(), guest.ip(), TCP);
            let _ = cx.send(card, header, HEADER, |segment| {
                segment[..2].copy_from_slice(&peer.port().to_be_bytes());
                segment[2..4].copy_from_slice(&guest.port().to_be_bytes());
                segment[4..8].copy_from_slice(&sequence.to_be_bytes());
                segment[8..].fill(0);
                segment[12] = (HEADER as u8 / 4) << 4;
                segment[13] = FLAG_RST;
                finish(&header, segment, CHECKSUM_AT);
            });
            self.severed.pop_front();
        }
        true
    }
}
