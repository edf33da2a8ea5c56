//! The TFTP server (RFC 1350, RFC 2347 to 2349): files of one folder, for reading only.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

use crate::context::Context;
use crate::datagram::send;
use crate::link::{MTU, Mac};

/// The server's port.
pub const SERVER_PORT: u16 = 69;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

const NOT_FOUND: u16 = 1;
const ACCESS: u16 = 2;
const ILLEGAL: u16 = 4;

/// Transfers at a time; the one that is silent for the longest gives way.
const SESSIONS: usize = 20;
/// Bytes of a block that asks for no other size, and the most that one packet has room for.
const BLOCK: usize = 512;
const LARGEST_BLOCK: usize = MTU - 40 - 8 - 4;
const LONGEST_NAME: usize = 512;

#[derive(Debug)]
struct Session {
    client: SocketAddr,
    file: OwnedFd,
    size: u64,
    block: usize,
    /// Blocks that were acknowledged.
    done: u64,
    used_us: u64,
}

/// Transfers.
#[derive(Debug, Default)]
pub struct Tftp {
    sessions: Vec<Session>,
}

/// Who talks to the server, and at which of its addresses.
#[derive(Debug, Clone, Copy)]
pub struct Parties {
    /// The guest.
    pub client: SocketAddr,
    /// Its card.
    pub mac: Mac,
    /// The router.
    pub server: SocketAddr,
}

impl Tftp {
    /// A datagram to the server's port.
    pub fn input(&mut self, cx: &mut Context<'_, '_>, parties: Parties, data: &[u8]) {
        let Some(root) = &cx.config.tftp else { return };
        let Some((code, rest)) = data.split_first_chunk::<2>() else { return };
        match u16::from_be_bytes(*code) {
            READ => self.begin(cx, parties, root, rest),
            WRITE => fail(cx, parties, ACCESS, "the folder is for reading only"),
            ACK => {
                let Some(number) = rest.first_chunk() else { return };
                self.acknowledged(cx, parties, u16::from_be_bytes(*number));
            }
            ERROR => self.sessions.retain(|session| session.client != parties.client),
            _ => fail(cx, parties, ILLEGAL, "no such operation"),
        }
    }

    fn begin(&mut self, cx: &mut Context<'_, '_>, parties: Parties, root: &Path, request: &[u8]) {
        let mut words = request.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).ok());
        let (name, mode) = (words.next().flatten(), words.next().flatten());
        let (Some(name), Some(mode)) = (name, mode) else {
            return fail(cx, parties, ILLEGAL, "no file name and mode");
        };
        if !mode.eq_ignore_ascii_case("octet") {
            return fail(cx, parties, ILLEGAL, "the only mode is octet");
        }
        let (file, size) = match open_below(root, name) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return fail(cx, parties, NOT_FOUND, "no such file"),
            Err(_) => return fail(cx, parties, ACCESS, "the file cannot be read"),
        };
        let mut block = BLOCK;
        let mut accepted = Vec::new();
        while let (Some(Some(option)), Some(Some(value))) = (words.next(), words.next()) {
            match option.to_ascii_lowercase().as_str() {
                "blksize" => {
                    // A size that no block may have is as if it was not there (RFC 2348).
                    let Some(wanted) = value.parse().ok().filter(|wanted| *wanted >= 8) else {
                        continue;
                    };
                    block = LARGEST_BLOCK.min(wanted);
                    option_text(&mut accepted, "blksize", block as u64);
                }
                "tsize" => option_text(&mut accepted, "tsize", size),
                "timeout" => {
                    // The client repeats what it misses; the answer says no more than that it may.
                    let Ok(seconds @ 1..=255) = value.parse::<u64>() else { continue };
                    option_text(&mut accepted, "timeout", seconds);
                }
                _ => {}
            }
            if accepted.len() > BLOCK {
                return fail(cx, parties, ILLEGAL, "too many options");
            }
        }
        self.sessions.retain(|session| session.client != parties.client);
        if self.sessions.len() >= SESSIONS {
            let oldest =
                self.sessions.iter().enumerate().min_by_key(|(_, session)| session.used_us);
            if let Some((index, _)) = oldest {
                self.sessions.swap_remove(index);
            }
        }
        let session =
            Session { client: parties.client, file, size, block, done: 0, used_us: cx.now_us };
        if accepted.is_empty() {
            send_block(cx, parties, &session);
        } else {
            let mut message = OPTIONS.to_be_bytes().to_vec();
            message.append(&mut accepted);
            let _ = send(cx, parties.mac, parties.server, parties.client, &message);
        }
        self.sessions.push(session);
    }

    fn acknowledged(&mut self, cx: &mut Context<'_, '_>, parties: Parties, number: u16) {
        let found = self.sessions.iter().position(|session| session.client == parties.client);
        let Some(index) = found else { return };
        let session = &mut self.sessions[index];
        session.used_us = cx.now_us;
        // Of a block that was sent: it is done, and the next is due. Of the one before, or of the options:
        // the block is sent again.
        if number == (session.done + 1) as u16
            && session.done * (session.block as u64) <= session.size
        {
            session.done += 1;
        } else if number != session.done as u16 {
            return;
        }
        // The last block is the one that is shorter than the others; it may be empty.
        if session.done * (session.block as u64) > session.size {
            self.sessions.swap_remove(index);
            return;
        }
        send_block(cx, parties, &self.sessions[index]);
    }
}

/// Opens a file below a folder, whatever links and dots its name contains.
fn open_below(root: &Path, name: &str) -> Result<(OwnedFd, u64), Errno> {
    let relative = name.trim_start_matches('/');
    if relative.is_empty() || relative.len() > LONGEST_NAME {
        return Err(Errno::NOENT);
    }
    let folder = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // A pipe must not make the caller wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(&folder, relative, flags, Mode::empty(), resolve)?;
    let about = fstat(&file)?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    Ok((file, about.st_size as u64))
}

fn option_text(options: &mut Vec<u8>, name: &str, value: u64) {
    options.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
}

fn send_block(cx: &mut Context<'_, '_>, parties: Parties, session: &Session) {
    let at = session.done * session.block as u64;
    let wanted = session.size.saturating_sub(at).min(session.block as u64) as usize;
    let mut message = vec![0; 4 + wanted];
    message[..2].copy_from_slice(&DATA.to_be_bytes());
    message[2..4].copy_from_slice(&((session.done + 1) as u16).to_be_bytes());
    let mut filled = 0;
    while filled < wanted {
        match rustix::io::pread(&session.file, &mut message[4 + filled..], at + filled as u64) {
            Ok(0) => return fail(cx, parties, ACCESS, "the file became shorter"),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(_) => return fail(cx, parties, ACCESS, "the file cannot be read"),
        }
    }
    // Without room the client asks again.
    let _ = send(cx, parties.mac, parties.server, parties.client, &message);
}

fn fail(cx: &mut Context<'_, '_>, parties: Parties, code: u16, text: &str) {
    let mut message = ERROR.to_be_bytes().to_vec();
    message.extend_from_slice(&code.to_be_bytes());
    message.extend_from_slice(text.as_bytes());
    message.push(0);
    let _ = send(cx, parties.mac, parties.server, parties.client, &message);
}
