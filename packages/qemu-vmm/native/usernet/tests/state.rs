//! The network of a machine that goes on from a saved state.

mod guest;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use guest::{Guest, HOST, MAC};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State as TcpState;
use usernet::config::{Config, Forward, HostAddr, Protocol};
use usernet::net::Net;
use usernet::state::{Severed, State, StateError};

/// A connection of the guest's to a server of the host, on which each has said something.
fn connected(guest: &mut Guest, port: u16) -> (SocketHandle, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let handle = guest.connect((HOST, listener.local_addr().unwrap().port()), port);
    guest.until("a connection", |guest| guest.tcp(handle).may_send().then_some(()));
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    guest.until("data", |guest| (guest.tcp(handle).recv_queue() == 5).then_some(()));
    guest.settle();
    (handle, server)
}

fn state_of(guest: &mut Guest, handle: SocketHandle) -> TcpState {
    guest.tcp(handle).state()
}

#[test]
fn connections_of_a_saved_machine_are_reset_in_a_new_network() {
    let mut guest = Guest::with_address(Config::default());
    let (first, _one) = connected(&mut guest, 50_000);
    let (second, _two) = connected(&mut guest, 50_001);
    let state = guest.net.save();
    assert_eq!(state.connections.len(), 2);
    assert!(state.connections.iter().all(|severed| severed.card == MAC));
    // Saving changes nothing.
    assert_eq!(guest.net.save(), state);
    assert_eq!(state_of(&mut guest, first), TcpState::Established);

    guest.net = Net::new(Config::default()).unwrap();
    guest.net.load(state.clone()).unwrap();
    // A machine that is saved before its guest has heard of it loses nothing.
    assert_eq!(guest.net.save(), state);
    // The guest only waits: it says nothing that could be answered.
    for handle in [first, second] {
        guest.until("a reset", |guest| (state_of(guest, handle) == TcpState::Closed).then_some(()));
    }
    assert_eq!(guest.net.save().connections, []);
    let (third, _three) = connected(&mut guest, 50_000);
    assert_eq!(state_of(&mut guest, third), TcpState::Established);
}

#[test]
fn going_back_in_the_same_network_ends_what_there_is() {
    let mut guest = Guest::with_address(Config::default());
    let (old, _old) = connected(&mut guest, 50_000);
    let state = guest.net.save();
    let (new, mut server) = connected(&mut guest, 50_001);
    guest.net.load(state).unwrap();
    assert_eq!(guest.net.usage().tcp, 0);
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = server.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset), "the host's end");
    guest.until("a reset", |guest| (state_of(guest, old) == TcpState::Closed).then_some(()));
    // The machine that was saved did not have this one: it is answered when it speaks.
    guest.tcp(new).send_slice(b"still there?").unwrap();
    guest.until("a reset", |guest| (state_of(guest, new) == TcpState::Closed).then_some(()));
}

#[test]
fn a_guest_that_has_missed_data_is_reset_when_it_asks() {
    let mut guest = Guest::with_address(Config::default());
    let (handle, mut server) = connected(&mut guest, 50_000);
    server.write_all(&[7; 4000]).unwrap();
    let mut state = State::default();
    guest.until("data on its way", |guest| {
        // It is sent, and lost with the machine that was.
        guest.exchange();
        if guest.card.received.is_empty() {
            return None;
        }
        guest.card.received.clear();
        state = guest.net.save();
        guest.net = Net::new(Config::default()).unwrap();
        Some(())
    });
    guest.net.load(state).unwrap();
    guest.until("a reset", |guest| (state_of(guest, handle) == TcpState::Closed).then_some(()));
}

#[test]
fn ten_thousand_resets_wait_for_room() {
    let config = Config::default();
    let severed = |at: u16| Severed {
        guest: (Ipv4Addr::new(10, 0, 2, 15), 1000 + at).into(),
        peer: (Ipv4Addr::new(10, 0, 2, 2), 80).into(),
        card: MAC,
        sequence: u32::from(at),
    };
    let state = State { leases: vec![], connections: (0..10_000).map(severed).collect() };
    let mut guest = Guest::with_address(config);
    guest.net.load(state).unwrap();
    guest.exchange();
    assert_eq!(guest.card.received.len(), 10_000);
    let last = guest.card.received.back().unwrap();
    assert_eq!(last[36..42], [0x2a, 0xf7, 0, 0, 0x27, 0x0f], "port and sequence number");
    assert_eq!(last[47], 4, "RST alone");
}

#[test]
fn a_lease_and_forwards_go_on() {
    let mut guest = Guest::new(Config::default());
    let address = guest.dhcp().address.address();
    let mut state = guest.net.save();
    assert_eq!(state.leases[0], Some(MAC));
    // Somebody else came first in another network: this one remembers whose the address is.
    state.leases.swap(0, 1);
    guest.net = Net::new(Config::default()).unwrap();
    guest.net.load(state).unwrap();
    let forward = guest.net.add_forward(Forward {
        protocol: Protocol::Tcp,
        host: HostAddr::Inet((Ipv4Addr::LOCALHOST, 0).into()),
        guest: (address, 22).into(),
    });
    let port = guest.net.forward_address(forward.unwrap()).unwrap();
    let handle = guest.listen(22);
    let _client = TcpStream::connect(port).unwrap();
    guest.until("a connection", |guest| guest.tcp(handle).may_send().then_some(()));

    let mut again = Guest::new(Config::default());
    again.net.load(guest.net.save()).unwrap();
    assert_eq!(again.dhcp().address.address(), Ipv4Addr::new(10, 0, 2, 16));
}

#[test]
fn what_is_no_state_changes_nothing() {
    let mut guest = Guest::with_address(Config::default());
    let (_handle, _server) = connected(&mut guest, 50_000);
    let before = guest.net.save();
    let [severed] = before.connections.as_slice() else { panic!("one connection") };
    let with = |connections| State { leases: vec![], connections };
    let six = (std::net::Ipv6Addr::LOCALHOST, 1).into();
    let states = [
        State { leases: vec![None; 17], connections: vec![] },
        with(vec![severed.clone(); 20_000]),
        with(vec![Severed { peer: six, ..severed.clone() }]),
        with(vec![Severed { card: [0xff; 6], ..severed.clone() }]),
    ];
    for state in states {
        assert!(guest.net.load(state).is_err());
        assert_eq!(guest.net.save(), before);
    }
    assert_eq!(StateError::Leases(17).to_string(), "17 leases");
}
