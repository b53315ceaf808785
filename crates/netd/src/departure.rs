//! Interfaces that leave this namespace, as the kernel tells it (rtnetlink(7), `RTM_DELLINK`).
//!
//! With an interface the kernel forgets its groups and unbinds its packet sockets for good, but its index may come
//! back: with an interface that returns from another namespace, or that is made with a chosen index. So an index
//! alone does not tell whether what was joined and opened is still there.
//!
//! A packet socket per interface would notice as well (`net/packet/af_packet.c: packet_notifier`), but closing one
//! waits for every processor (`packet_release: synchronize_net`): 13 ms each were measured.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::channel::{check, open_socket, retry, set_option};

/// Bytes of messages that may wait; one takes about 2,000 with its attributes.
const QUEUE_BYTES: libc::c_int = 4 << 20;
/// Longer than any message of a link that has no virtual functions; the fields that are read come first anyway.
const MESSAGE_BYTES: usize = 32 << 10;
/// Bytes of `struct nlmsghdr` (`include/uapi/linux/netlink.h`).
const HEADER_BYTES: usize = 16;

/// A subscription to what happens to interfaces.
#[derive(Debug)]
pub(crate) struct Departures {
    socket: OwnedFd,
}

/// What the kernel said since it was listened to last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Departed {
    /// Nothing has happened to any interface.
    Nothing,
    /// Something has, and these have left, all that did.
    Exactly(Vec<u32>),
    /// Some of what it said was lost.
    Unknown,
}

impl Departures {
    pub(crate) fn watch() -> io::Result<Self> {
        let socket = open_socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_NONBLOCK, libc::NETLINK_ROUTE)?;
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &QUEUE_BYTES)?;
        // SAFETY: all-zero bytes are a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // Bound, so that it has a number: the kernel sends to no socket without (`do_one_broadcast`).
        // SAFETY: pointer and length describe `address`, which outlives the call.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(Self { socket })
    }

    /// Everything that the kernel has said. It says so before the call that took an interface away returns.
    pub(crate) fn take(&self) -> Departed {
        let mut departed = Vec::new();
        let mut bytes = vec![0_u8; MESSAGE_BYTES];
        let (mut is_complete, mut is_silent) = (true, true);
        loop {
            let fd = self.socket.as_raw_fd();
            // SAFETY: the pointer and the length describe `bytes`, which outlives the call.
            match retry(|| unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) }) {
                Ok(length) => {
                    is_silent = false;
                    departed.extend(departures(&bytes[..length]));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => is_complete = false,
                // Nothing else is known to happen to a socket of netlink that is bound.
                Err(_) => return Departed::Unknown,
            }
        }
        match is_complete {
            true if is_silent => Departed::Nothing,
            true => Departed::Exactly(departed),
            false => Departed::Unknown,
        }
    }
}

impl AsFd for Departures {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The interfaces whose end these messages tell.
fn departures(mut bytes: &[u8]) -> Vec<u32> {
    let mut departed = Vec::new();
    while let Some((length, index)) = message(bytes) {
        departed.extend(index);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    departed
}

/// The length of the first message, and the interface whose end it tells.
fn message(bytes: &[u8]) -> Option<(usize, Option<u32>)> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((length, Some(body).filter(|_| kind == libc::RTM_DELLINK).and_then(whole_interface)))
}

/// The index in `struct ifinfomsg`. One with a family tells that an interface left a bridge, say, and is there still.
fn whole_interface(body: &[u8]) -> Option<u32> {
    let family = i32::from(*body.first()?);
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    (family == libc::AF_UNSPEC).then_some(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(kind: u16, family: i32, index: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES + 16 + 5];
        bytes[..4].copy_from_slice(&37_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[16] = family as u8;
        bytes[20..24].copy_from_slice(&index.to_ne_bytes());
        bytes.resize(40, 0);
        bytes
    }

    #[test]
    fn only_the_end_of_a_whole_interface_counts() {
        let messages = [
            link(libc::RTM_NEWLINK, libc::AF_UNSPEC, 3),
            link(libc::RTM_DELLINK, libc::AF_UNSPEC, 4),
            link(libc::RTM_DELLINK, libc::AF_BRIDGE, 5),
            link(libc::RTM_DELLINK, libc::AF_UNSPEC, 6),
        ];
        assert_eq!(departures(&messages.concat()), [4, 6]);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(0..40_u8, 0..200)) {
            departures(&bytes);
        }
    }
}
