//! What the program decides on connections of the guest's.

mod guest;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use guest::{Guest, HOST};
use smoltcp::socket::tcp::State;
use smoltcp::wire::Ipv4Address;
use usernet::batch::{Out, Records};
use usernet::config::{Config, HostAddr, Protocol};
use usernet::question::{Answer, PATIENCE_US, Question};

/// An address that leads nowhere (RFC 5737).
const NOBODY: Ipv4Address = Ipv4Address::new(192, 0, 2, 7);

fn asking() -> Guest {
    Guest::with_address(Config { ask: true, ..Config::default() })
}

fn question(guest: &mut Guest) -> Question {
    guest.until("a question", |guest| guest.net.questions().pop())
}

/// Answers as the addon does, and brings the guest what the network says to that.
fn answer(guest: &mut Guest, id: u64, answer: Answer) {
    let mut batch = vec![0; 512 << 10];
    let mut out = Out::new(&mut batch, 0);
    let now = guest.now_us();
    guest.net.answer(now, id, answer, &mut out);
    let used = out.used();
    for record in Records::new(&batch[..used]) {
        guest.card.received.push_back(record.frame.to_vec());
    }
}

fn reaches(guest: &mut Guest, handle: smoltcp::iface::SocketHandle, state: State) {
    guest.until("a state of the guest's socket", |guest| {
        (guest.tcp(handle).state() == state).then_some(())
    });
}

#[test]
fn a_connection_waits_for_the_answer_and_is_asked_about_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = asking();
    let handle = guest.connect((HOST, port), 50_000);
    let asked = question(&mut guest);
    assert_eq!(asked.protocol, Protocol::Tcp);
    assert_eq!(asked.guest, "10.0.2.15:50000".parse().unwrap());
    assert_eq!(asked.peer, (Ipv4Addr::new(10, 0, 2, 2), port).into());
    // Longer than smoltcp waits before it repeats itself.
    let begin = guest.now_us();
    guest.until("a repeated segment", |guest| (guest.now_us() > begin + 1_500_000).then_some(()));
    assert!(guest.net.questions().is_empty());
    assert_eq!(guest.tcp(handle).state(), State::SynSent);
    answer(&mut guest, asked.id, Answer::Allow);
    reaches(&mut guest, handle, State::Established);
    // An answer to what was answered changes nothing.
    answer(&mut guest, asked.id, Answer::Refuse);
    guest.settle();
    assert_eq!(guest.tcp(handle).state(), State::Established);
}

#[test]
fn a_refused_connection_is_reset() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = asking();
    let handle = guest.connect((HOST, port), 50_000);
    let asked = question(&mut guest);
    answer(&mut guest, asked.id, Answer::Refuse);
    reaches(&mut guest, handle, State::Closed);
    assert_eq!(guest.net.usage().tcp, 0);
}

#[test]
fn a_dropped_connection_hears_nothing_and_is_forgotten() {
    let mut guest = asking();
    let handle = guest.connect((NOBODY, 80), 50_000);
    let asked = question(&mut guest);
    answer(&mut guest, asked.id, Answer::Drop);
    let begin = guest.now_us();
    guest.until("a repeated segment", |guest| (guest.now_us() > begin + 1_500_000).then_some(()));
    assert_eq!(guest.tcp(handle).state(), State::SynSent);
    assert!(guest.net.questions().is_empty());
    assert_eq!(guest.net.usage().tcp, 1);
    let mut batch = vec![0; 512 << 10];
    let later = guest.now_us() + PATIENCE_US;
    guest.net.poll(later, &mut Out::new(&mut batch, 0));
    assert_eq!(guest.net.usage().tcp, 0);
}

#[test]
fn a_question_that_nobody_answers_is_given_up() {
    let mut guest = asking();
    guest.connect((NOBODY, 80), 50_000);
    let asked = question(&mut guest);
    let mut batch = vec![0; 512 << 10];
    let later = guest.now_us() + PATIENCE_US;
    guest.net.poll(later, &mut Out::new(&mut batch, 0));
    assert_eq!(guest.net.usage().tcp, 0);
    answer(&mut guest, asked.id, Answer::Allow);
    assert_eq!(guest.net.usage().tcp, 0);
}

#[test]
fn a_connection_is_redirected() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut guest = asking();
    let handle = guest.connect((NOBODY, 80), 50_000);
    let asked = question(&mut guest);
    answer(&mut guest, asked.id, Answer::Redirect(HostAddr::Inet(listener.local_addr().unwrap())));
    reaches(&mut guest, handle, State::Established);
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"elsewhere").unwrap();
    let data = guest.until("data", |guest| {
        let socket = guest.tcp(handle);
        socket.can_recv().then(|| socket.recv(|data| (data.len(), data.to_vec())).unwrap())
    });
    assert_eq!(data, b"elsewhere");
}

#[test]
fn the_program_answers_through_a_socket() {
    let (mut program, network) = UnixStream::pair().unwrap();
    network.set_nonblocking(true).unwrap();
    let mut guest = asking();
    let handle = guest.connect((NOBODY, 80), 50_000);
    let asked = question(&mut guest);
    program.write_all(b"220 ready").unwrap();
    answer(&mut guest, asked.id, Answer::Socket(network.into()));
    let data = guest.until("data", |guest| {
        let socket = guest.tcp(handle);
        socket.can_recv().then(|| socket.recv(|data| (data.len(), data.to_vec())).unwrap())
    });
    assert_eq!(data, b"220 ready");
    guest.tcp(handle).send_slice(b"QUIT").unwrap();
    guest.tcp(handle).close();
    guest.settle();
    let mut text = String::new();
    program.read_to_string(&mut text).unwrap();
    assert_eq!(text, "QUIT");
}

fn udp_server() -> (UdpSocket, u16) {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

#[test]
fn datagrams_wait_for_the_answer_and_flows_are_asked_about_once() {
    let (server, port) = udp_server();
    let mut guest = asking();
    let handle = guest.bind_udp(5000);
    for text in ["one", "two"] {
        guest.udp(handle).send_slice(text.as_bytes(), (HOST, port)).unwrap();
    }
    let asked = question(&mut guest);
    assert_eq!((asked.protocol, asked.peer.port()), (Protocol::Udp, port));
    guest.settle();
    assert!(guest.net.questions().is_empty());
    answer(&mut guest, asked.id, Answer::Allow);
    let mut buffer = [0; 16];
    for text in ["one", "two"] {
        let (length, _) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], text.as_bytes());
    }
}

#[test]
fn redirected_datagrams_are_answered_as_by_whom_the_guest_wrote_to() {
    let (server, port) = udp_server();
    let mut guest = asking();
    let handle = guest.bind_udp(5000);
    guest.udp(handle).send_slice(b"who", (NOBODY, 53)).unwrap();
    let asked = question(&mut guest);
    let to = HostAddr::Inet((Ipv4Addr::LOCALHOST, port).into());
    answer(&mut guest, asked.id, Answer::Redirect(to));
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"me", from).unwrap();
    let (data, peer) = guest.datagram(handle);
    assert_eq!((data.as_slice(), peer), (&b"me"[..], (NOBODY, 53).into()));
    // Nobody else is heard.
    let (stranger, _) = udp_server();
    stranger.send_to(b"lie", from).unwrap();
    guest.settle();
    assert!(!guest.udp(handle).can_recv());
}

#[test]
fn refused_datagrams_come_back_as_an_unreachable_port() {
    let mut guest = asking();
    let handle = guest.bind_udp(5000);
    guest.udp(handle).send_slice(b"who", (NOBODY, 53)).unwrap();
    let asked = question(&mut guest);
    guest.card.received.clear();
    answer(&mut guest, asked.id, Answer::Refuse);
    let error = guest.card.received.pop_back().expect("an error");
    // Type and code, then the header of what was sent.
    assert_eq!(error[14 + 9], 1);
    assert_eq!(error[34..36], [3, 3]);
    assert_eq!(error[42 + 12..42 + 20], [10, 0, 2, 15, 192, 0, 2, 7]);
    assert_eq!(error[62..66], [19, 136, 0, 53]);
    let sum: u32 =
        error[34..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

#[test]
fn a_flood_of_flows_keeps_its_limit() {
    let config = Config { ask: true, max_udp: 8, ..Config::default() };
    let mut guest = Guest::with_address(config);
    let handle = guest.bind_udp(5000);
    let mut ids = Vec::new();
    for port in 1..100 {
        guest.udp(handle).send_slice(b"x", (NOBODY, port)).unwrap();
        ids.push(question(&mut guest).id);
    }
    // The first gave way long ago.
    let before = guest.net.usage().udp;
    answer(&mut guest, ids[0], Answer::Redirect(HostAddr::Inet("127.0.0.1:9".parse().unwrap())));
    assert_eq!(guest.net.usage().udp, before);
    answer(&mut guest, ids[98], Answer::Redirect(HostAddr::Inet("127.0.0.1:9".parse().unwrap())));
    assert_eq!(guest.net.usage().udp, before + 1);
}
