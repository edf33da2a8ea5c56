//! What a guest needs first: an address, an echo, names, and connections to the host.

mod guest;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;

use guest::{ADDRESS, DNS, Guest, HOST, MAC};
use smoltcp::socket::tcp::State;
use usernet::config::{Config, Config4, Forward, HostAddr, Protocol};

fn loopback(port: u16) -> HostAddr {
    HostAddr::Inet((Ipv4Addr::LOCALHOST, port).into())
}

#[test]
fn dhcp_gives_the_address_of_qemu() {
    let mut guest = Guest::new(Config::default());
    let config = guest.dhcp();
    assert_eq!(config.address.to_string(), "10.0.2.15/24");
    assert_eq!(config.router, Some(HOST));
    assert_eq!(config.dns_servers.as_slice(), [DNS]);
    assert_eq!(config.server.address, HOST);
}

#[test]
fn dhcp_follows_the_configuration() {
    let net = Config4 {
        net: Ipv4Addr::new(192, 168, 76, 0),
        prefix: 25,
        host: Ipv4Addr::new(192, 168, 76, 9),
        dns: Ipv4Addr::new(192, 168, 76, 10),
        dhcp_start: Ipv4Addr::new(192, 168, 76, 9),
    };
    let mut guest = Guest::new(Config { v4: Some(net), ..Config::default() });
    // The first two are the router's and the name server's.
    assert_eq!(guest.dhcp().address.to_string(), "192.168.76.11/25");
}

#[test]
fn a_restricted_guest_is_given_no_router() {
    let mut guest = Guest::new(Config { restrict: true, ..Config::default() });
    let config = guest.dhcp();
    assert_eq!((config.router, config.dns_servers.len()), (None, 0));
}

/// What a server on the host's loopback got, and what it answers.
fn echo_server() -> (u16, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut buffer = [0; 65536];
        let mut total = 0;
        loop {
            let count = socket.read(&mut buffer).unwrap();
            if count == 0 {
                return total;
            }
            socket.write_all(&buffer[..count]).unwrap();
            total += count;
        }
    });
    (port, server)
}

fn byte(at: usize) -> u8 {
    (at * 31 + (at >> 8) * 7) as u8
}

/// Sends and gets back `total` bytes through the host.
fn echo(guest: &mut Guest, total: usize) {
    let (port, server) = echo_server();
    let handle = guest.connect((HOST, port), 50_000);
    let (mut sent, mut got) = (0, 0);
    guest.until("all bytes", |guest| {
        let socket = guest.tcp(handle);
        while sent < total && socket.can_send() {
            let chunk: Vec<u8> = (sent..total.min(sent + 9000)).map(byte).collect();
            sent += socket.send_slice(&chunk).unwrap();
        }
        while socket.can_recv() {
            let (from, count) = (
                got,
                socket
                    .recv(|data| {
                        for (index, value) in data.iter().enumerate() {
                            assert_eq!(*value, byte(got + index), "byte {}", got + index);
                        }
                        (data.len(), data.len())
                    })
                    .unwrap(),
            );
            got = from + count;
        }
        (got == total).then_some(())
    });
    guest.tcp(handle).close();
    guest.until("the end", |guest| {
        matches!(guest.tcp(handle).state(), State::Closed | State::TimeWait).then_some(())
    });
    assert_eq!(server.join().unwrap(), total);
    guest.settle();
    assert_eq!(guest.net.usage().tcp, 0);
    assert_eq!(guest.net.usage().tcp_memory, 0);
}

#[test]
fn tcp_reaches_the_loopback_of_the_host() {
    let mut guest = Guest::with_address(Config::default());
    echo(&mut guest, 3_000_000);
    assert!(guest.longest <= 1514, "{} bytes are more than a frame", guest.longest);
}

#[test]
fn a_port_that_is_closed_refuses() {
    let mut guest = Guest::with_address(Config::default());
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let handle = guest.connect((HOST, closed), 50_001);
    guest.until("the refusal", |guest| (guest.tcp(handle).state() == State::Closed).then_some(()));
    assert_eq!(guest.net.usage().tcp, 0);
}

#[test]
fn a_restricted_guest_reaches_nothing() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::with_address(Config { restrict: true, ..Config::default() });
    let handle = guest.connect((HOST, port), 50_002);
    guest.until("the refusal", |guest| (guest.tcp(handle).state() == State::Closed).then_some(()));
    assert!(listener.accept().is_err());
}

#[test]
fn a_forward_leads_into_the_guest() {
    let mut guest = Guest::with_address(Config::default());
    let forward =
        Forward { protocol: Protocol::Tcp, host: loopback(0), guest: (ADDRESS, 22).into() };
    let id = guest.net.add_forward(forward).unwrap();
    let port = guest.net.forward_address(id).unwrap().port();
    let handle = guest.listen(22);
    let client = thread::spawn(move || {
        let mut socket = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.write_all(b"hello").unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    });
    guest.until("the greeting", |guest| {
        let socket = guest.tcp(handle);
        (socket.recv_queue() == 5).then_some(())
    });
    let peer = guest.tcp(handle).remote_endpoint().unwrap();
    assert_eq!(peer.addr, HOST.into());
    guest.tcp(handle).send_slice(b"good bye").unwrap();
    guest.until("the end", |guest| {
        let socket = guest.tcp(handle);
        let _ = socket.recv(|data| (data.len(), ()));
        socket.close();
        matches!(socket.state(), State::Closed | State::TimeWait).then_some(())
    });
    guest.settle();
    assert_eq!(client.join().unwrap(), "good bye");
    assert_eq!(guest.net.usage().tcp, 0);
}

#[test]
fn a_forward_to_a_closed_port_ends_the_client() {
    let mut guest = Guest::with_address(Config::default());
    let forward =
        Forward { protocol: Protocol::Tcp, host: loopback(0), guest: (ADDRESS, 23).into() };
    let id = guest.net.add_forward(forward).unwrap();
    let port = guest.net.forward_address(id).unwrap().port();
    let mut socket = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let result = guest.until("the reset", |_| match socket.read(&mut [0; 8]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        result => Some(result),
    });
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn udp_reaches_the_loopback_and_comes_back() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    server.set_nonblocking(true).unwrap();
    let mut guest = Guest::with_address(Config::default());
    let handle = guest.bind_udp(4000);
    guest.udp(handle).send_slice(b"question", (HOST, port)).unwrap();
    let mut buffer = [0; 100];
    let (count, from) = guest.until("the question", |_| server.recv_from(&mut buffer).ok());
    assert_eq!(&buffer[..count], b"question");
    server.send_to(b"answer", from).unwrap();
    let (data, source) = guest.datagram(handle);
    assert_eq!((data.as_slice(), source), (&b"answer"[..], (HOST, port).into()));
}

#[test]
fn nobody_answers_udp_who_was_not_asked() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // The same machine under another address.
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    server.set_nonblocking(true).unwrap();
    let mut guest = Guest::with_address(Config::default());
    let handle = guest.bind_udp(4001);
    guest.udp(handle).send_slice(b"x", (HOST, server.local_addr().unwrap().port())).unwrap();
    let (_, from) = guest.until("the question", |_| server.recv_from(&mut [0; 8]).ok());
    stranger.send_to(b"lie", from).unwrap();
    server.send_to(b"truth", from).unwrap();
    assert_eq!(guest.datagram(handle).0, b"truth");
}

#[test]
fn a_forward_of_udp_goes_both_ways() {
    let mut guest = Guest::with_address(Config::default());
    let forward =
        Forward { protocol: Protocol::Udp, host: loopback(0), guest: (ADDRESS, 53).into() };
    let id = guest.net.add_forward(forward).unwrap();
    let port = guest.net.forward_address(id).unwrap();
    let handle = guest.bind_udp(53);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect(port).unwrap();
    client.set_nonblocking(true).unwrap();
    client.send(b"ping").unwrap();
    // The first may be lost: it makes the network ask for the guest's card.
    let (data, source) = guest.until("the datagram", |guest| {
        if let Ok((data, about)) = guest.udp(handle).recv() {
            return Some((data.to_vec(), about.endpoint));
        }
        let _ = client.send(b"ping");
        None
    });
    assert_eq!(data, b"ping");
    assert_eq!(source.addr, HOST.into());
    guest.udp(handle).send_slice(b"pong", source).unwrap();
    let mut buffer = [0; 8];
    let count = guest.until("the answer", |_| client.recv(&mut buffer).ok());
    assert_eq!(&buffer[..count], b"pong");
}

#[test]
fn arp_is_answered_for_the_router_and_the_name_server_only() {
    let mut guest = Guest::with_address(Config::default());
    for (last, answered) in [(2, true), (3, true), (4, false), (15, false), (100, false)] {
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&MAC);
        frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend_from_slice(&MAC);
        frame.extend_from_slice(&[10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, last]);
        assert_eq!(guest.send_raw(frame).len(), usize::from(answered), "10.0.2.{last}");
    }
}

#[test]
fn names_are_asked_for_at_the_next_server_when_one_is_silent() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server.set_nonblocking(true).unwrap();
    let name_servers = vec![silent.local_addr().unwrap(), server.local_addr().unwrap()];
    let mut guest = Guest::with_address(Config { name_servers, ..Config::default() });
    let handle = guest.bind_udp(4002);
    let mut buffer = [0; 100];
    let mut sent_us = None;
    let (count, from) = guest.until("the question", |guest| {
        let now = guest.now_us();
        if sent_us.is_none_or(|at| now - at > 500_000) {
            guest.udp(handle).send_slice(b"who is it", (DNS, 53)).unwrap();
            sent_us = Some(now);
        }
        server.recv_from(&mut buffer).ok()
    });
    assert_eq!(&buffer[..count], b"who is it");
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut [0; 100]).is_ok());
    server.send_to(b"nobody", from).unwrap();
    let (data, source) = guest.datagram(handle);
    assert_eq!((data.as_slice(), source), (&b"nobody"[..], (DNS, 53).into()));
}

/// A complete IPv4 packet in a frame to the router.
fn packet(protocol: u8, to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x52, 0x55, 10, 0, 2, 2];
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&[8, 0]);
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&[10, 0, 2, 15]);
    header[16..20].copy_from_slice(&to);
    let check = checksum(&header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}

fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

fn echo_request(data: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend_from_slice(data);
    let check = checksum(&message);
    message[2..4].copy_from_slice(&check.to_be_bytes());
    message
}

#[test]
fn the_router_and_the_name_server_answer_an_echo() {
    let mut guest = Guest::with_address(Config::default());
    for last in [2, 3] {
        let answers = guest.send_raw(packet(1, [10, 0, 2, last], &echo_request(b"abc")));
        let [answer] = answers.as_slice() else { panic!("{} answers", answers.len()) };
        assert_eq!(answer[26..34], [10, 0, 2, last, 10, 0, 2, 15]);
        assert_eq!(answer[34], 0);
        assert_eq!(checksum(&answer[34..]), 0);
        assert_eq!(answer[38..], [0x12, 0x34, 0, 1, b'a', b'b', b'c']);
    }
}

#[test]
fn an_echo_with_a_wrong_checksum_has_no_answer() {
    let mut guest = Guest::with_address(Config::default());
    let mut request = echo_request(b"abc");
    request[2] ^= 1;
    assert_eq!(guest.send_raw(packet(1, [10, 0, 2, 2], &request)).len(), 0);
}

#[test]
fn a_packet_in_parts_is_answered_as_one_and_in_parts() {
    let mut guest = Guest::with_address(Config::default());
    let data: Vec<u8> = (0..4000).map(byte).collect();
    let request = echo_request(&data);
    let mut answers = Vec::new();
    // The last part first.
    for (start, end) in [(2960, request.len()), (0, 1480), (1480, 2960)] {
        let mut frame = packet(1, [10, 0, 2, 2], &request[start..end]);
        let word = (start / 8) as u16 | if end < request.len() { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        frame[24..26].fill(0);
        let check = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&check.to_be_bytes());
        answers = guest.send_raw(frame);
    }
    assert_eq!(answers.len(), 3);
    let mut whole = Vec::new();
    for answer in &answers {
        assert!(answer.len() <= 1514);
        whole.extend_from_slice(&answer[34..]);
    }
    assert_eq!(whole[0], 0);
    assert_eq!(checksum(&whole), 0);
    assert_eq!(whole[8..], data);
}
