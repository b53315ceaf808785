//! Several packet sockets that share what arrives at an interface: a fanout group.
//!
//! The kernel hands each frame to one socket of the group, by a hash of its addresses and ports, and
//! only that socket's filter sees it (`net/packet/af_packet.c: packet_rcv_fanout`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket::set_option;
use super::wait::get_option;

/// `PACKET_FANOUT_HASH`.
const HASH: u32 = 0;
/// `PACKET_FANOUT_FLAG_UNIQUEID`: the kernel chooses a number that no other group of the network namespace has.
const UNIQUE: u32 = 0x2000;
/// `PACKET_FANOUT_FLAG_IGNORE_OUTGOING`: the sockets' own `PACKET_IGNORE_OUTGOING` does not count in a group.
const IGNORE_OUTGOING: u32 = 0x4000;

/// The number of a group in its network namespace.
#[derive(Clone, Copy)]
pub(super) struct Group(u16);

/// Makes a group of this socket alone.
///
/// # Errors
///
/// `EINVAL` when the socket's interface is down, before Linux 6.13.
pub(super) fn found(socket: &OwnedFd) -> io::Result<Group> {
    enter(socket, Group(0), HASH | IGNORE_OUTGOING | UNIQUE)?;
    let mut number: libc::c_int = 0;
    get_option(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, &mut number)?;
    Ok(Group(number as u16))
}

/// Adds a socket to a group. It leaves when it is closed.
pub(super) fn join(socket: &OwnedFd, group: Group) -> io::Result<()> {
    enter(socket, group, HASH | IGNORE_OUTGOING)
}

fn enter(socket: &OwnedFd, Group(number): Group, mode: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &(u32::from(number) | mode << 16))
}
