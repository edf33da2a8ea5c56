//! Many connections, and frames that nobody should send.

mod guest;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use guest::{DNS, Guest, HOST, MAC, records};
use proptest::prelude::*;
use smoltcp::socket::tcp::State;
use usernet::batch::{Out, Records};
use usernet::config::Config;
use usernet::net::Net;

/// Several guests' worth of connections, made by hand: a socket of smoltcp's for each would take longer.
struct Syn {
    port: u16,
    to: u16,
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for word in part.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn segment(from: u16, to: u16, numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
    segment_with((from, to), numbers, flags, data, 0xffff)
}

/// One with that window.
fn segment_with(
    (from, to): (u16, u16),
    numbers: (u32, u32),
    flags: u8,
    data: &[u8],
    window: u16,
) -> Vec<u8> {
    let (source, destination) = ([10, 0, 2, 15], [10, 0, 2, 2]);
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&to.to_be_bytes());
    segment[4..8].copy_from_slice(&numbers.0.to_be_bytes());
    segment[8..12].copy_from_slice(&numbers.1.to_be_bytes());
    segment[12..14].copy_from_slice(&[0x50, flags]);
    segment[14..16].copy_from_slice(&window.to_be_bytes());
    segment.extend_from_slice(data);
    let length = (segment.len() as u16).to_be_bytes();
    let check = checksum(&[&source, &destination, &[0, 6], &length, &segment]);
    segment[16..18].copy_from_slice(&check.to_be_bytes());
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
    header[2..4].copy_from_slice(&(20 + segment.len() as u16).to_be_bytes());
    header.extend_from_slice(&source);
    header.extend_from_slice(&destination);
    let check = checksum(&[&header]);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    let mut frame = vec![0x52, 0x55, 10, 0, 2, 2];
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&header);
    frame.extend_from_slice(&segment);
    frame
}

/// Every frame that the network has now.
fn take(net: &mut Net, now_us: u64, frames: &[Vec<u8>], batch: &mut [u8]) -> Vec<Vec<u8>> {
    let mut result = Vec::new();
    let mut input = records(frames);
    loop {
        let mut out = Out::new(batch, 0);
        net.input(now_us, &input, &mut out);
        input.clear();
        let more = net.poll(now_us, &mut out);
        let used = out.used();
        result.extend(Records::new(&batch[..used]).map(|record| record.frame.to_vec()));
        if !more {
            return result;
        }
    }
}

/// Descriptors that this process may have open.
fn descriptors() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn thousands_of_connections_are_open_at_once_and_a_flood_is_refused() {
    // Each takes a descriptor here and one in the server.
    let limit = if descriptors() > 22_000 { 10_000 } else { 200 };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut sockets: Vec<_> = (0..limit).map(|_| listener.accept().unwrap().0).collect();
        for socket in &mut sockets {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            socket.write_all(&byte).unwrap();
        }
        sockets
    });
    let mut net = Net::new(Config { max_tcp: limit, ..Config::default() }).unwrap();
    let mut batch = vec![0; 512 << 10];
    let mut open = Vec::new();
    let now = |started: std::time::Instant| started.elapsed().as_micros() as u64;
    let started = std::time::Instant::now();
    let ports: Vec<Syn> = (0..limit).map(|index| Syn { port: 2000 + index as u16, to }).collect();
    for some in ports.chunks(64) {
        let syns: Vec<_> =
            some.iter().map(|syn| segment(syn.port, syn.to, (1, 0), 2, &[])).collect();
        let mut frames = take(&mut net, now(started), &syns, &mut batch);
        let mut seen = 0;
        while seen < some.len() {
            for frame in frames.drain(..).filter(|frame| frame[23] == 6 && frame[47] == 0x12) {
                let port = u16::from_be_bytes([frame[36], frame[37]]);
                let number = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
                open.push((port, number.wrapping_add(1)));
                seen += 1;
            }
            assert!(started.elapsed().as_secs() < 100, "{} of {limit} connections", open.len());
            frames = take(&mut net, now(started), &[], &mut batch);
        }
    }
    assert_eq!(net.usage().tcp, limit);
    assert!(net.usage().tcp_memory < 600 << 20, "{} bytes", net.usage().tcp_memory);

    // One more is refused.
    let frames = take(&mut net, now(started), &[segment(1999, to, (1, 0), 2, &[])], &mut batch);
    assert_eq!(frames.iter().filter(|frame| frame[47] & 4 != 0).count(), 1);
    assert_eq!(net.usage().tcp, limit);

    // All of them carry data.
    let mut answered = 0;
    for some in open.chunks(64) {
        let data: Vec<_> = some
            .iter()
            .map(|(port, number)| segment(*port, to, (2, *number), 0x18, &[*port as u8]))
            .collect();
        take(&mut net, now(started), &data, &mut batch);
    }
    let sockets = std::thread::spawn(move || server.join().unwrap());
    while answered < limit {
        let frames = take(&mut net, now(started), &[], &mut batch);
        let data = frames.iter().filter(|frame| frame.len() > 54 && frame[47] & 8 != 0);
        answered += data.filter(|frame| frame[54] == frame[37]).count();
        assert!(started.elapsed().as_secs() < 100, "{answered} of {limit} answers");
    }
    drop(sockets.join().unwrap());
}

/// Frames that look like something, of every layer, with some bytes changed.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let arp = vec![
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6, 0, 1, 8, 0, 6,
        4, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2,
    ];
    let mut six =
        vec![0x33, 0x33, 0, 0, 0, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x86, 0xdd, 0x60, 0];
    six.extend_from_slice(&[0, 0, 0, 24, 58, 255, 0xfe, 0x80]);
    six.extend_from_slice(&[0; 14]);
    six.extend_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    six.extend_from_slice(&[135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xc0]);
    six.extend_from_slice(&[0; 14]);
    let mut udp = segment(68, 67, (0, 0), 0, &[0; 300]);
    udp[23] = 17;
    let bases = vec![
        arp,
        six,
        segment(40_000, 1, (1, 0), 2, &[]),
        segment(40_000, 1, (2, 1), 0x10, &[1; 40]),
        udp,
        vec![0; 60],
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (prop::sample::select(bases), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, changes, length, cut)| {
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if cut {
                frame.truncate(14 + length.index(frame.len() - 13));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_does_harm(frames in prop::collection::vec((frame(), any::<bool>()), 1..40)) {
        // What looks like a packet for elsewhere must not leave this machine.
        let mut net = Net::new(Config { restrict: true, ..Config::default() }).unwrap();
        let mut bytes = records(&frames.iter().map(|(frame, _)| frame.clone()).collect::<Vec<_>>());
        let mut at = 0;
        for (frame, trusted) in &frames {
            bytes[at + 4] = u8::from(*trusted);
            at += (16 + frame.len() + 3) & !3;
        }
        let mut batch = vec![0; 512 << 10];
        let mut out = Out::new(&mut batch, 0);
        net.input(0, &bytes, &mut out);
        net.poll(1000, &mut out);
        let used = out.used();
        for record in Records::new(&batch[..used]) {
            prop_assert!(record.frame.len() <= 1514);
        }
        prop_assert_eq!(net.usage().tcp, 0);
    }

    #[test]
    fn no_bytes_are_a_batch_that_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let mut net = Net::new(Config { restrict: true, ..Config::default() }).unwrap();
        let mut batch = vec![0; 512 << 10];
        net.input(0, &bytes, &mut Out::new(&mut batch, 0));
    }

    #[test]
    fn a_connection_survives_any_segments(
        segments in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u8>(), 0..200usize), 1..60),
    ) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap().port();
        let mut net = Net::new(Config::default()).unwrap();
        let mut batch = vec![0; 512 << 10];
        let mut now = 0;
        let mut frames = take(&mut net, now, &[segment(3000, to, (1, 0), 2, &[])], &mut batch);
        let number = loop {
            if let Some(frame) = frames.iter().find(|frame| frame[47] == 0x12) {
                break u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]).wrapping_add(1);
            }
            frames = take(&mut net, now, &[], &mut batch);
        };
        for (sequence, acknowledged, flags, length) in segments {
            // Near enough to be looked at, mostly.
            let numbers = (2u32.wrapping_add(sequence % 4000), number.wrapping_add(acknowledged % 3).wrapping_sub(1));
            let frame = segment(3000, to, numbers, flags, &vec![1; length]);
            now += u64::from(sequence % 2_000_000);
            take(&mut net, now, &[frame], &mut batch);
        }
        prop_assert!(net.usage().tcp <= 1);
    }
}

#[test]
fn a_guest_that_never_reads_takes_no_more_than_the_buffers() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::with_address(Config::default());
    let handle = guest.connect((HOST, port), 50_100);
    guest.until("the connection", |guest| {
        (guest.tcp(handle).state() == State::Established).then_some(())
    });
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut total = 0;
    let mut idle = 0;
    let chunk = vec![7; 65_536];
    guest.until("the end of all room", |_| {
        match socket.write(&chunk) {
            Ok(count) => (total, idle) = (total + count, 0),
            Err(_) => idle += 1,
        }
        (idle > 20).then_some(())
    });
    assert_eq!(guest.net.usage().tcp_memory, 1 << 20);
    // Then it reads.
    let mut got = 0;
    guest.until("all of it", |guest| {
        let socket = guest.tcp(handle);
        while socket.can_recv() {
            got += socket.recv(|data| (data.len(), data.len())).unwrap();
        }
        (got == total).then_some(())
    });
}

#[test]
fn a_guest_whose_window_stays_shut_and_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap().port();
    let mut net = Net::new(Config::default()).unwrap();
    let mut batch = vec![0; 512 << 10];
    let mut frames = take(&mut net, 0, &[segment(3000, to, (1, 0), 2, &[])], &mut batch);
    while frames.is_empty() {
        frames = take(&mut net, 0, &[], &mut batch);
    }
    let [.., answer] = frames.as_slice() else { panic!("no answer") };
    let next = u32::from_be_bytes([answer[38], answer[39], answer[40], answer[41]]) + 1;
    let shut = segment_with((3000, to), (2, next), 0x10, &[], 0);
    take(&mut net, 0, std::slice::from_ref(&shut), &mut batch);
    let (mut socket, _) = listener.accept().unwrap();
    socket.write_all(&[7; 100_000]).unwrap();
    let data = |frames: &[Vec<u8>]| frames.iter().map(|frame| frame.len() - 54).max();
    // As long as it answers, it may keep its window shut for hours, and gets a byte at a time at most.
    let mut now_us = 0;
    for _ in 0..120 {
        now_us += 60_000_000;
        let sent = take(&mut net, now_us, std::slice::from_ref(&shut), &mut batch);
        assert!(data(&sent).unwrap_or(0) <= 1, "{} bytes into a window of 0", data(&sent).unwrap());
        assert_eq!(net.usage().tcp, 1);
    }
    // Silent, it is gone after a while, and the host's end with it.
    for _ in 0..22 {
        now_us += 60_000_000;
        take(&mut net, now_us, &[], &mut batch);
    }
    assert_eq!(net.usage().tcp, 0);
    assert_eq!(net.usage().tcp_memory, 0);
    assert!(socket.read(&mut [0; 8]).is_err(), "reset");
}

#[test]
fn names_that_nobody_answers_keep_no_more_sockets_than_ports_and_not_for_long() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let name_servers = vec![silent.local_addr().unwrap()];
    let config = Config { name_servers, max_udp: 50, ..Config::default() };
    let mut guest = Guest::with_address(config);
    for port in 2000..2100 {
        let handle = guest.bind_udp(port);
        guest.udp(handle).send_slice(b"who is it", (DNS, 53)).unwrap();
    }
    guest.settle();
    assert_eq!(guest.net.usage().udp, 50);
    let later = guest.now_us() + 60_000_000;
    assert!(take(&mut guest.net, later, &[], &mut vec![0; 512 << 10]).is_empty());
    assert_eq!(guest.net.usage().udp, 0);
}
