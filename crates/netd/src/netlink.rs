//! Messages of netlink(7): a header, a body of the family's own, and attributes that may nest. Header fields are in host order.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::channel::{check, open_socket, retry, set_option};

/// Bytes of `struct nlmsghdr` (`include/uapi/linux/netlink.h`).
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;
/// Marks an attribute that is made of attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that say what it is.
const NLA_TYPE_MASK: u16 = 0x3fff;
/// Most of what the kernel puts into one answer.
const ANSWER_BYTES: usize = 64 << 10;
/// Fits the buffer that a socket has from the beginning (`net.core.wmem_default`), with its own overhead.
const USUAL_SEND_BYTES: usize = 64 << 10;
/// The kernel answers a request before the call that sent it returns; this only bounds a surprise.
const ANSWER_TIMEOUT: libc::timeval = libc::timeval { tv_sec: 2, tv_usec: 0 };

/// A connection to a part of the kernel.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// A message that is being written.
#[derive(Debug)]
pub(crate) struct Message(Vec<u8>);

/// A message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    /// The number of the socket by which it was asked for, also where it is told to others; 0: nobody has.
    pub(crate) asker: u32,
    pub(crate) body: &'a [u8],
}

impl Socket {
    /// Opens one of a protocol (`NETLINK_ROUTE`, `NETLINK_NETFILTER`).
    pub(crate) fn open(protocol: libc::c_int) -> io::Result<Self> {
        let socket = open_socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, &ANSWER_TIMEOUT)?;
        Ok(Self(socket))
    }

    /// Sends messages together, however many: each takes room in the socket's buffer until it is carried out.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > USUAL_SEND_BYTES {
            let room = libc::c_int::try_from(bytes.len()).unwrap_or(libc::c_int::MAX);
            set_option(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &room)?;
        }
        // SAFETY: the pointer and the length describe `bytes`, which outlives the call.
        retry(|| unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) }).map(drop)
    }

    /// Gives it a number, by which the kernel knows it for as long as it lives.
    pub(crate) fn number(&self) -> io::Result<u32> {
        // SAFETY: all-zero bytes are a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        let fd = self.0.as_raw_fd();
        // SAFETY: pointer and length describe `address`, which outlives the call.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
        // SAFETY: the pointers describe `address` and `length`, which outlive the call.
        check(unsafe { libc::getsockname(fd, (&raw mut address).cast(), &raw mut length) })?;
        Ok(address.nl_pid)
    }

    /// Hears from now on what the kernel tells everybody of this multicast group.
    pub(crate) fn listen(&self, group: libc::c_int) -> io::Result<()> {
        // The kernel tells no socket without a number (`do_one_broadcast`).
        self.number()?;
        set_option(self.0.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group)
    }

    /// As [`Socket::receive`], without waiting.
    pub(crate) fn receive_now(&self) -> io::Result<Vec<u8>> {
        self.receive_with(libc::MSG_DONTWAIT)
    }

    /// What the kernel answers next: one message or several.
    pub(crate) fn receive(&self) -> io::Result<Vec<u8>> {
        self.receive_with(0)
    }

    fn receive_with(&self, flags: libc::c_int) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; ANSWER_BYTES];
        // SAFETY: the pointer and the length describe `bytes`, which outlives the call.
        let length =
            retry(|| unsafe { libc::recv(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) })?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Message {
    /// One with a body of the family's own, to be followed by attributes.
    pub(crate) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self(bytes)
    }

    /// Appends an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (ATTRIBUTE_BYTES + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Appends a text that ends in NUL.
    pub(crate) fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Appends an attribute that is made of those which `fill` appends.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.attribute(kind | NLA_F_NESTED, &[]);
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + size_of::<u16>()].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Asks for an answer also when it is done.
    pub(crate) fn acknowledge(&mut self) {
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | libc::NLM_F_ACK as u16;
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The bytes, once nothing is appended any more.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

impl Read<'_> {
    /// The error that the kernel answers with, `Ok` for an acknowledgement; `None` when it is another message.
    pub(crate) fn outcome(&self) -> Option<io::Result<()>> {
        if i32::from(self.kind) != libc::NLMSG_ERROR {
            return None;
        }
        let errno = -i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        Some(if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) })
    }
}

/// The messages in what was received; what is cut short ends them.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Read<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let asker = u32::from_ne_bytes(bytes.get(12..16)?.try_into().ok()?);
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Read { kind, sequence, asker, body })
    })
}

/// The attributes in a body, with their types; what is cut short ends them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::new(7, 0, &[1, 2, 3, 4]);
        message.text(1, "ab").nested(2, |inner| {
            inner.attribute(3, &[9]);
        });
        let bytes = [message.finish(42), Message::new(8, 0, &[]).finish(43)].concat();
        let read: Vec<Read<'_>> = messages(&bytes).collect();
        assert_eq!(read.iter().map(|read| (read.kind, read.sequence)).collect::<Vec<_>>(), [(7, 42), (8, 43)]);
        let found: Vec<_> = attributes(&read[0].body[4..]).collect();
        assert_eq!(found[0], (1, b"ab\0".as_slice()));
        assert_eq!(attributes(found[1].1).collect::<Vec<_>>(), [(3, [9].as_slice())]);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(0..40_u8, 0..200)) {
            for read in messages(&bytes) {
                attributes(read.body).for_each(drop);
            }
        }
    }
}
