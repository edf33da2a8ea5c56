//! Forwards by UNIX sockets, and servers of the network that are elsewhere by UDP.

mod guest;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use guest::{ADDRESS, Guest, HOST};
use smoltcp::socket::tcp::State;
use smoltcp::wire::Ipv4Address;
use usernet::config::{Config, Forward, GuestForward, HostAddr, Protocol};

const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 2, 100);

/// A path for a socket, in a folder that is removed again.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("usernet-forwards-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder.join("socket"))
    }

    fn host(&self) -> HostAddr {
        HostAddr::Unix(self.0.clone())
    }

    fn forward(&self) -> Forward {
        Forward { protocol: Protocol::Tcp, host: self.host(), guest: (ADDRESS, 22).into() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

#[test]
fn a_unix_socket_leads_into_the_guest() {
    let place = Place::new("in");
    let mut guest = Guest::with_address(Config::default());
    let id = guest.net.add_forward(place.forward()).unwrap();
    assert_eq!(guest.net.forward_address(id), None);
    let handle = guest.listen(22);
    let mut client = UnixStream::connect(&place.0).unwrap();
    client.write_all(b"hello").unwrap();
    guest.until("the greeting", |guest| (guest.tcp(handle).recv_queue() == 5).then_some(()));
    // Who comes by a path has no address: the guest sees the router.
    assert_eq!(guest.tcp(handle).remote_endpoint().unwrap().addr, HOST.into());
    guest.tcp(handle).send_slice(b"good bye").unwrap();
    guest.until("the end", |guest| {
        let socket = guest.tcp(handle);
        let _ = socket.recv(|data| (data.len(), ()));
        socket.close();
        (socket.state() == State::FinWait2).then_some(())
    });
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"good bye");
    // The file goes with the forward.
    guest.net.remove_forward(id);
    assert!(!place.0.exists());
}

#[test]
fn a_path_that_is_in_use_is_refused_and_one_that_was_left_is_taken() {
    let place = Place::new("left");
    let mut guest = Guest::new(Config::default());
    let listener = UnixListener::bind(&place.0).unwrap();
    let error = guest.net.add_forward(place.forward()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    // As after `kill -9`: the file is there, and nobody listens.
    drop(listener);
    assert!(place.0.exists());
    guest.net.add_forward(place.forward()).unwrap();
    UnixStream::connect(&place.0).unwrap();
    drop(guest);
    assert!(!place.0.exists());
    // What is no socket is nobody's to remove.
    std::fs::write(&place.0, b"a file").unwrap();
    let mut guest = Guest::new(Config::default());
    assert!(guest.net.add_forward(place.forward()).is_err());
    drop(guest);
    assert_eq!(std::fs::read(&place.0).unwrap(), b"a file");
}

#[test]
fn a_server_of_the_network_can_be_a_unix_socket() {
    let place = Place::new("out");
    let listener = UnixListener::bind(&place.0).unwrap();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut question = [0; 8];
        socket.read_exact(&mut question).unwrap();
        socket.write_all(b"answer").unwrap();
        question
    });
    let at = (Ipv4Addr::from(SERVER.octets()), 80).into();
    let forward = GuestForward { protocol: Protocol::Tcp, at, to: Some(place.host()) };
    // Also for a guest that reaches nothing else.
    let config = Config { guest_forwards: vec![forward], restrict: true, ..Config::default() };
    let mut guest = Guest::with_address(config);
    let handle = guest.connect((SERVER, 80), 50_000);
    guest.until("the connection", |guest| guest.tcp(handle).may_send().then_some(()));
    guest.tcp(handle).send_slice(b"question").unwrap();
    guest.until("the answer", |guest| (guest.tcp(handle).recv_queue() == 6).then_some(()));
    assert_eq!(&server.join().unwrap(), b"question");
}

#[test]
fn a_server_of_datagrams_can_be_elsewhere() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server.set_nonblocking(true).unwrap();
    let at = (Ipv4Addr::from(SERVER.octets()), 69).into();
    let to = Some(HostAddr::Inet(server.local_addr().unwrap()));
    let forward = GuestForward { protocol: Protocol::Udp, at, to };
    let config = Config { guest_forwards: vec![forward], restrict: true, ..Config::default() };
    let mut guest = Guest::with_address(config);
    let handle = guest.bind_udp(4000);
    let mut buffer = [0; 100];
    // The port beside it, and TCP there, lead nowhere.
    guest.udp(handle).send_slice(b"lost", (SERVER, 70)).unwrap();
    let closed = guest.connect((SERVER, 69), 50_001);
    guest.until("the refusal", |guest| (guest.tcp(closed).state() == State::Closed).then_some(()));
    for round in 0..2u8 {
        guest.udp(handle).send_slice(&[round; 9], (SERVER, 69)).unwrap();
        let (count, from) = guest.until("the question", |_| server.recv_from(&mut buffer).ok());
        assert_eq!(buffer[..count], [round; 9]);
        // Nobody else is heard.
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        stranger.send_to(b"lie", from).unwrap();
        server.send_to(b"answer", from).unwrap();
        let (data, source) = guest.datagram(handle);
        assert_eq!((data.as_slice(), source), (&b"answer"[..], (SERVER, 69).into()));
    }
    assert_eq!(guest.net.usage().udp, 1);
}
