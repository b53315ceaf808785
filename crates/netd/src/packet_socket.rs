//! What the keeper asks of packet sockets besides receiving and sending (packet(7)).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::channel::{check, open_socket, set_option};

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// The interface that a packet socket is bound to, `None` when that is gone or there never was one.
pub(crate) fn bound_interface(socket: &OwnedFd) -> io::Result<Option<u32>> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = ADDRESS_BYTES;
    // SAFETY: the pointers describe `address` and `length`, which outlive the call.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    // The kernel says -1 for an interface that is gone, 0 for none.
    Ok(u32::try_from(address.sll_ifindex).ok().filter(|index| *index != 0))
}

/// Takes the interface away from a packet socket that only sends, for everybody who has a descriptor of it: sending
/// fails with `ENXIO` from then on (`net/packet/af_packet.c: packet_do_bind`, `packet_snd`).
pub(crate) fn detach(sender: &OwnedFd) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut nowhere: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    nowhere.sll_family = libc::AF_PACKET as libc::c_ushort;
    // SAFETY: pointer and length describe `nowhere`, which outlives the call.
    check(unsafe { libc::bind(sender.as_raw_fd(), (&raw const nowhere).cast(), ADDRESS_BYTES) })
}

/// A socket that hears nothing and makes its interface take every group, as long as it is open.
pub(crate) fn all_groups(interface: u32) -> io::Result<OwnedFd> {
    // Protocol 0: it never receives.
    let socket = open_socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let request = libc::packet_mreq {
        mr_ifindex: interface.cast_signed(),
        mr_type: libc::PACKET_MR_ALLMULTI as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)?;
    Ok(socket)
}
