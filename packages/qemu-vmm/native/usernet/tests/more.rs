//! IPv6, TFTP, long segments, and servers that are elsewhere.

mod guest;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::thread;

use guest::{Guest, HOST, MAC};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpCidr, Ipv4Address, Ipv6Address};
use usernet::batch::{ACCEPTS_CSUM, ACCEPTS_TSO4, Out, Records};
use usernet::config::{Config, GuestForward, HostAddr, Protocol};

const ADDRESS6: Ipv6Address = Ipv6Address::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x15);
const HOST6: Ipv6Address = Ipv6Address::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);

/// Sends `total` bytes to whoever connects.
fn source(listener: TcpListener, total: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let bytes: Vec<u8> = (0..total).map(|at| at as u8).collect();
        socket.write_all(&bytes).unwrap();
    })
}

/// Reads to the end, and checks every byte.
fn drain(guest: &mut Guest, handle: smoltcp::iface::SocketHandle) -> usize {
    let mut got = 0;
    guest.until("the end of the data", |guest| {
        let socket = guest.tcp(handle);
        while socket.can_recv() {
            got += socket
                .recv(|data| {
                    for (at, value) in data.iter().enumerate() {
                        assert_eq!(*value, (got + at) as u8, "byte {}", got + at);
                    }
                    (data.len(), data.len())
                })
                .unwrap();
        }
        (socket.state() == State::CloseWait).then_some(())
    });
    got
}

#[test]
fn tcp_over_ipv6_reaches_the_loopback() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = source(listener, 500_000);
    let mut guest = Guest::new(Config::default());
    guest.set_address(IpCidr::new(ADDRESS6.into(), 64));
    let handle = guest.connect((HOST6, port), 50_000);
    assert_eq!(drain(&mut guest, handle), 500_000);
    server.join().unwrap();
}

#[test]
fn a_router_solicitation_is_answered_with_the_prefix() {
    let mut guest = Guest::new(Config::default());
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 2];
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255]);
    frame.extend_from_slice(&[0; 16]);
    frame.extend_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    // The sum of ff02, 2, the length 8, the protocol 58 and the type.
    let check = !(0xff02u32 + 2 + 8 + 58 + 0x8500);
    let check = !((!check & 0xffff) + (!check >> 16)) as u16;
    frame.extend_from_slice(&[133, 0]);
    frame.extend_from_slice(&check.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    let answers = guest.send_raw(frame);
    let [answer] = answers.as_slice() else { panic!("{} answers", answers.len()) };
    assert_eq!(answer[54], 134);
    let prefix: [u8; 4] = [3, 4, 64, 0xc0];
    let at = answer.windows(4).position(|window| window == prefix).expect("a prefix");
    assert_eq!(answer[at + 16..at + 18], [0xfe, 0xc0]);
}

#[test]
fn long_segments_reach_a_card_that_cuts_them() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = source(listener, 400_000);
    let mut guest = Guest::with_address(Config::default());
    guest.net.set_accepts(ACCEPTS_CSUM | ACCEPTS_TSO4);
    guest.connect((HOST, port), 50_000);
    let mut batch = vec![0; 512 << 10];
    // What the card gets, before smoltcp in the guest sees it: it does not know unfinished checksums.
    let mut longest = 0;
    let mut cut = 0;
    let started = std::time::Instant::now();
    while longest < 20_000 {
        assert!(started.elapsed().as_secs() < 60, "no segment is longer than {longest} bytes");
        let now = guest.now_us();
        let instant = smoltcp::time::Instant::from_micros(now as i64);
        guest.interface.poll(instant, &mut guest.card, &mut guest.sockets);
        let sent = std::mem::take(&mut guest.card.sent);
        let mut out = Out::new(&mut batch, 0);
        guest.net.input(now, &guest::records(&sent), &mut out);
        guest.net.poll(now, &mut out);
        let used = out.used();
        let mut at = 0;
        for record in Records::new(&batch[..used]) {
            let header = &batch[at + 4..at + 16];
            at += (16 + record.frame.len() + 3) & !3;
            let mut frame = record.frame.to_vec();
            longest = longest.max(frame.len());
            if header[0] & 1 != 0 {
                assert_eq!((header[6], header[8]), (34, 16), "where TCP and its checksum are");
                // As a card does: the sum of all, over what is there already.
                let sum: u32 = frame[34..]
                    .chunks(2)
                    .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
                    .sum();
                let sum = (sum & 0xffff) + (sum >> 16);
                let check = !((sum & 0xffff) + (sum >> 16)) as u16;
                frame[50..52].copy_from_slice(&check.to_be_bytes());
            }
            if frame.len() > 1514 {
                cut += 1;
                let size = u16::from_le_bytes([header[4], header[5]]);
                assert_eq!((header[1], size), (1, 1460), "how it is to be cut");
            }
            guest.card.received.push_back(frame);
        }
    }
    assert!(cut > 0);
    drop(guest);
    let _ = server.join();
}

#[test]
fn a_server_of_the_network_can_be_elsewhere() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = HostAddr::Inet(listener.local_addr().unwrap());
    let server = source(listener, 10_000);
    let at = (Ipv4Addr::new(10, 0, 2, 100), 80).into();
    let guest_forwards = vec![GuestForward { protocol: Protocol::Tcp, at, to: Some(target) }];
    // Also for a guest that reaches nothing else.
    let mut guest =
        Guest::with_address(Config { guest_forwards, restrict: true, ..Config::default() });
    let handle = guest.connect((Ipv4Address::new(10, 0, 2, 100), 80), 50_000);
    assert_eq!(drain(&mut guest, handle), 10_000);
    server.join().unwrap();
}

/// A folder that is removed again.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("usernet-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("served/below")).unwrap();
        std::fs::write(path.join("secret"), b"secret").unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read_request(name: &str, options: &str) -> Vec<u8> {
    let mut message = vec![0, 1];
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(b"\0octet\0");
    message.extend_from_slice(options.as_bytes());
    message
}

#[test]
fn tftp_gives_whole_files() {
    let folder = Folder::new("whole");
    let bytes: Vec<u8> = (0..3 * 512).map(|at| (at * 7) as u8).collect();
    std::fs::write(folder.0.join("served/below/kernel"), &bytes).unwrap();
    let tftp = Some(folder.0.join("served"));
    let mut guest = Guest::with_address(Config { tftp, restrict: true, ..Config::default() });
    let handle = guest.bind_udp(3000);
    guest.udp(handle).send_slice(&read_request("/below/kernel", ""), (HOST, 69)).unwrap();
    let mut got = Vec::new();
    for number in 1..=4u16 {
        let (data, from) = guest.datagram(handle);
        assert_eq!(data[..4], [0, 3, 0, number as u8]);
        got.extend_from_slice(&data[4..]);
        // The last one is empty, as the file is a multiple of a block.
        assert_eq!(data.len(), if number < 4 { 516 } else { 4 });
        guest.udp(handle).send_slice(&[0, 4, 0, number as u8], from).unwrap();
    }
    assert_eq!(got, bytes);
}

#[test]
fn tftp_agrees_on_a_size() {
    let folder = Folder::new("options");
    std::fs::write(folder.0.join("served/file"), vec![5; 2000]).unwrap();
    let tftp = Some(folder.0.join("served"));
    let mut guest = Guest::with_address(Config { tftp, ..Config::default() });
    let handle = guest.bind_udp(3001);
    let request = read_request("file", "tsize\x000\0blksize\x001024\0other\x001\0");
    guest.udp(handle).send_slice(&request, (HOST, 69)).unwrap();
    let (data, from) = guest.datagram(handle);
    assert_eq!(data, b"\0\x06tsize\x002000\0blksize\x001024\0");
    guest.udp(handle).send_slice(&[0, 4, 0, 0], from).unwrap();
    assert_eq!(guest.datagram(handle).0.len(), 1028);
}

#[test]
fn tftp_gives_nothing_from_outside_its_folder() {
    let folder = Folder::new("outside");
    let served = folder.0.join("served");
    std::os::unix::fs::symlink(folder.0.join("secret"), served.join("link")).unwrap();
    std::os::unix::fs::symlink("/", served.join("root")).unwrap();
    let mut guest = Guest::with_address(Config { tftp: Some(served), ..Config::default() });
    let handle = guest.bind_udp(3002);
    for name in
        ["../secret", "below/../../secret", "link", "root/etc/passwd", "..", "/", "", "below"]
    {
        guest.udp(handle).send_slice(&read_request(name, ""), (HOST, 69)).unwrap();
        let (data, _) = guest.datagram(handle);
        assert_eq!(data[..2], [0, 5], "{name}: {data:?}");
    }
    guest.udp(handle).send_slice(&[0, 2, b'x', 0, b'o', 0], (HOST, 69)).unwrap();
    assert_eq!(guest.datagram(handle).0[..4], [0, 5, 0, 2]);
}

#[test]
fn a_guest_with_a_false_address_is_not_heard() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new(Config::default());
    guest.set_address(IpCidr::new(Ipv4Address::new(10, 9, 9, 9).into(), 8));
    guest.connect((HOST, port), 50_000);
    guest.settle();
    assert_eq!(guest.net.usage().tcp, 0);
    assert!(listener.accept().is_err());
}

#[test]
fn a_reset_of_the_host_reaches_the_guest() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::with_address(Config::default());
    let handle = guest.connect((HOST, port), 50_000);
    guest.until("the connection", |guest| {
        (guest.tcp(handle).state() == State::Established).then_some(())
    });
    guest.tcp(handle).send_slice(b"unread").unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    guest.until("the data", |guest| (guest.tcp(handle).send_queue() == 0).then_some(()));
    let mut byte = [0];
    socket.read_exact(&mut byte).unwrap();
    // What was not read makes of this end a reset.
    drop(socket);
    guest.until("the reset", |guest| (guest.tcp(handle).state() == State::Closed).then_some(()));
    assert_eq!(guest.net.usage().tcp, 0);
}
