//! Joining a group by source, of either family (RFC 3678 section 5.1).

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use socket2::{SockAddr, Socket};

/// Joins `group` on the interface of this index for packets of `source` alone.
pub(super) fn join(socket: &Socket, interface: u32, group: IpAddr, source: IpAddr) -> io::Result<()> {
    let level = if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let request =
        libc::group_source_req { gsr_interface: interface, gsr_group: storage(group), gsr_source: storage(source) };
    let length = size_of_val(&request) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel reads `length` bytes of `request`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, libc::MCAST_JOIN_SOURCE_GROUP, (&raw const request).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An address as the kernel wants it, without a port.
fn storage(address: IpAddr) -> libc::sockaddr_storage {
    let address = SockAddr::from(std::net::SocketAddr::new(address, 0));
    // SAFETY: all zeros is a valid address storage: of no family.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    // SAFETY: `address` has `len` bytes, which is never more than a storage has; they do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            (address.len() as usize).min(size_of::<libc::sockaddr_storage>()),
        );
    }
    storage
}
