//! Entries of the kernel's neighbour table that it resolves and keeps fresh while they are held
//! (rtnetlink(7); `net/core/neighbour.c: neigh_add`).
//!
//! `NTF_USE` starts the resolution as sending a packet would. `NTF_EXT_MANAGED` (Linux 5.16) lets
//! the kernel repeat it for as long as the entry has the flag; older kernels ignore it. An entry
//! that the administrator made permanent is left alone: the same request would make it an ordinary one.

use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::channel::{check, retry};

const NTF_USE: u8 = 1;
const NUD_PERMANENT: u16 = 0x80;
const NDA_DST: u16 = 1;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_MANAGED: u32 = 1;
/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct ndmsg`.
const NEIGHBOUR_BYTES: usize = 12;
/// The kernel answers a request before the call that sent it returns; this only bounds a surprise.
const ANSWER_TIMEOUT: libc::timeval = libc::timeval { tv_sec: 2, tv_usec: 0 };

/// A connection to rtnetlink.
#[derive(Debug)]
pub(crate) struct Neighbours {
    socket: OwnedFd,
    sequence: u32,
}

/// Whether the kernel resolves the entry again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Managed,
    Ordinary,
}

impl Neighbours {
    pub(crate) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        check(fd)?;
        // SAFETY: `fd` was just opened and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let borrowed = std::os::fd::AsFd::as_fd(&socket);
        crate::channel::set_option(borrowed, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &ANSWER_TIMEOUT)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Starts resolving a neighbour, and keeps it resolved.
    pub(crate) fn resolve(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        if self.state(interface, address)?.is_some_and(|state| state & NUD_PERMANENT != 0) {
            return Ok(());
        }
        let create = libc::NLM_F_CREATE as u16;
        match self.put(interface, address, create, Freshness::Managed) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.put(interface, address, create, Freshness::Ordinary)
            }
            other => other,
        }
    }

    /// Lets an entry age like any other; it is no error when it is gone.
    pub(crate) fn forget(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        match self.state(interface, address) {
            Ok(Some(state)) if state & NUD_PERMANENT == 0 => {}
            Ok(_) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        match self.put(interface, address, 0, Freshness::Ordinary) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other,
        }
    }

    /// The state (`NUD_*`) of an entry, `None` when there is none.
    fn state(&mut self, interface: u32, address: IpAddr) -> io::Result<Option<u16>> {
        let message = Message::new(libc::RTM_GETNEIGH, 0, interface, address, 0);
        match self.ask(message) {
            Ok(answer) => Ok(answer),
            // The kernel says this when the address has no entry.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put(&mut self, interface: u32, address: IpAddr, flags: u16, freshness: Freshness) -> io::Result<()> {
        let flags = flags | libc::NLM_F_ACK as u16;
        let mut message = Message::new(libc::RTM_NEWNEIGH, flags, interface, address, NTF_USE);
        if freshness == Freshness::Managed {
            message.attribute(NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes());
        }
        self.ask(message).map(|_| ())
    }

    /// Sends a request and reads its answer: the state of the entry that it shows, if it shows one.
    fn ask(&mut self, message: Message) -> io::Result<Option<u16>> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence);
        let fd = self.socket.as_raw_fd();
        // SAFETY: the pointer and the length describe `bytes`, which outlives the call.
        retry(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) })?;
        let mut answer = [0_u8; 4096];
        loop {
            // SAFETY: the pointer and the length describe `answer`, which outlives the call.
            let length = retry(|| unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) })?;
            if let Some(answer) = read_answer(&answer[..length], self.sequence) {
                return answer;
            }
        }
    }
}

/// The first message with our sequence number; `None` when these bytes answer something else.
fn read_answer(bytes: &[u8], sequence: u32) -> Option<io::Result<Option<u16>>> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    if u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?) != sequence {
        return None;
    }
    let body = bytes.get(HEADER_BYTES..)?;
    match kind {
        libc::RTM_NEWNEIGH => {
            // `ndm_state` follows family, padding and the interface.
            let state = body.get(8..10)?.try_into().ok()?;
            Some(Ok(Some(u16::from_ne_bytes(state))))
        }
        _ if kind == libc::NLMSG_ERROR as u16 => {
            let errno = -i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
            Some(if errno == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(errno)) })
        }
        _ => None,
    }
}

/// A request about one neighbour; all fields in host order (`include/uapi/linux/neighbour.h`).
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, interface: u32, address: IpAddr, entry_flags: u8) -> Self {
        let (family, octets) = match address {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        let mut bytes = Vec::with_capacity(64);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([family as u8, 0, 0, 0]);
        bytes.extend(interface.to_ne_bytes());
        bytes.extend([0, 0, entry_flags, 0]);
        debug_assert_eq!(bytes.len(), HEADER_BYTES + NEIGHBOUR_BYTES);
        let mut message = Self(bytes);
        message.attribute(NDA_DST, &octets);
        message
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (2 * size_of::<u16>() + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
