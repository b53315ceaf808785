//! Entries of the kernel's neighbour table that it resolves and keeps fresh while they are held
//! (rtnetlink(7); `net/core/neighbour.c: neigh_add`).
//!
//! `NTF_USE` starts the resolution as sending a packet would. `NTF_EXT_MANAGED` (Linux 5.16) lets
//! the kernel repeat it for as long as the entry has the flag; older kernels ignore it. An entry
//! that the administrator made permanent is left alone: the same request would make it an ordinary one.

use std::io;
use std::net::IpAddr;

use crate::netlink::{Message, Read, Socket, messages};

const NTF_USE: u8 = 1;
const NUD_PERMANENT: u16 = 0x80;
const NDA_DST: u16 = 1;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_MANAGED: u32 = 1;

/// A connection to rtnetlink.
#[derive(Debug)]
pub(crate) struct Neighbours {
    socket: Socket,
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
        Ok(Self { socket: Socket::open(libc::NETLINK_ROUTE)?, sequence: 0 })
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
        let message = request(libc::RTM_GETNEIGH, 0, interface, address, 0);
        match self.ask(message) {
            Ok(answer) => Ok(answer),
            // The kernel says this when the address has no entry.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put(&mut self, interface: u32, address: IpAddr, flags: u16, freshness: Freshness) -> io::Result<()> {
        let flags = flags | libc::NLM_F_ACK as u16;
        let mut message = request(libc::RTM_NEWNEIGH, flags, interface, address, NTF_USE);
        if freshness == Freshness::Managed {
            message.attribute(NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes());
        }
        self.ask(message).map(|_| ())
    }

    /// Sends a request and reads its answer: the state of the entry that it shows, if it shows one.
    fn ask(&mut self, message: Message) -> io::Result<Option<u16>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&message.finish(self.sequence))?;
        loop {
            let answer = self.socket.receive()?;
            let ours = messages(&answer).filter(|read| read.sequence == self.sequence);
            if let Some(answer) = ours.filter_map(|read| read_answer(&read)).next() {
                return answer;
            }
        }
    }
}

/// What a message answers; `None` when it is of another kind.
fn read_answer(read: &Read<'_>) -> Option<io::Result<Option<u16>>> {
    if read.kind == libc::RTM_NEWNEIGH {
        // `ndm_state` follows family, padding and the interface.
        let state = read.body.get(8..10)?.try_into().ok()?;
        return Some(Ok(Some(u16::from_ne_bytes(state))));
    }
    read.outcome().map(|outcome| outcome.map(|()| None))
}

/// A request about one neighbour (`struct ndmsg`, `include/uapi/linux/neighbour.h`).
fn request(kind: u16, flags: u16, interface: u32, address: IpAddr, entry_flags: u8) -> Message {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let [a, b, c, d] = interface.to_ne_bytes();
    let mut message = Message::new(kind, flags, &[family as u8, 0, 0, 0, a, b, c, d, 0, 0, entry_flags, 0]);
    message.attribute(NDA_DST, &octets);
    message
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
