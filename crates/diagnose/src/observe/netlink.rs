//! Asking the kernel over netlink (`man 7 netlink`): requests and the attributes of their answers, read only.
//!
//! Small and of our own because half of what is asked here (bridge groups, socket memory) is in no library's types.

use std::io::{self, Read};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel sends at most 32 KiB in one datagram of a dump.
const BUFFER_BYTES: usize = 64 * 1024;
/// Beyond the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const ATTRIBUTE_KIND: u16 = 0x3fff;

/// A family of netlink.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Family {
    /// NETLINK_ROUTE.
    Route,
    /// NETLINK_SOCK_DIAG.
    SocketDiagnosis,
}

/// How many answers a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Everything that there is.
    All,
    /// The answer to one question.
    One,
}

/// One answer: its fixed part and attributes, after `struct nlmsghdr`.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// A socket of one family.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open(family: Family) -> io::Result<Self> {
        let protocol = match family {
            Family::Route => libc::NETLINK_ROUTE,
            Family::SocketDiagnosis => libc::NETLINK_SOCK_DIAG,
        };
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(protocol)))?;
        // The kernel answers at once; a lost answer must not hold up the whole explanation.
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and collects its answers.
    pub(crate) fn ask(&mut self, kind: u16, answers: Answers, body: &[u8]) -> io::Result<Vec<Message>> {
        self.sequence += 1;
        let flags = NLM_F_REQUEST | if answers == Answers::All { NLM_F_DUMP } else { 0 };
        self.socket.send(&request(kind, flags, self.sequence, body))?;
        let mut found = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = (&self.socket).read(&mut buffer)?;
            for (sequence, message) in messages(&buffer[..length]) {
                match message.kind {
                    _ if sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => return refusal(&message.body).map_or(Ok(found), Err),
                    _ => found.push(message),
                }
            }
            if answers == Answers::One && !found.is_empty() {
                return Ok(found);
            }
        }
    }
}

fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    // A request is a few dozen bytes.
    bytes.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

fn messages(mut bytes: &[u8]) -> Vec<(u32, Message)> {
    let mut found = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let length = number(bytes, 0) as usize;
        let Some(body) = bytes.get(HEADER_BYTES..length) else { break };
        found.push((number(bytes, 8), Message { kind: half(bytes, 4), body: body.to_vec() }));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn refusal(body: &[u8]) -> Option<io::Error> {
    match number(body, 0).cast_signed() {
        0 => None,
        code => Some(io::Error::from_raw_os_error(-code)),
    }
}

/// An attribute, as a request carries it.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len().next_multiple_of(4));
    // Attributes of requests are a few bytes.
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes that begin at `start`; what is malformed ends them.
pub(crate) fn attributes(body: &[u8], start: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0));
        let value = rest.get(4..length)?;
        let kind = half(rest, 2) & ATTRIBUTE_KIND;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number of 16 bits in host order; 0 beyond the end.
pub(crate) fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// A number of 32 bits in host order; 0 beyond the end.
pub(crate) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Text without its terminating zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let body = [attribute(3, b"eth0\0"), attribute(4 | 0x8000, &7_u32.to_ne_bytes())].concat();
        let read: Vec<(u16, &[u8])> = attributes(&body, 0).collect();
        assert_eq!(read, [(3, &b"eth0\0"[..]), (4, &7_u32.to_ne_bytes()[..])]);
        assert_eq!(text(read[0].1), "eth0");
    }

    #[test]
    fn any_bytes_end() {
        for length in 0..40 {
            for fill in [0, 1, 4, 16, 0xff] {
                let bytes = vec![fill; length];
                messages(&bytes);
                assert!(attributes(&bytes, 0).count() <= 40);
            }
        }
    }
}
