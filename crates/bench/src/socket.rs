//! The few system calls of the sender, the counter and the plain relay.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A socket of the calling thread's namespace.
pub(crate) fn open(domain: i32, kind: i32, protocol: i32) -> OwnedFd {
    // SAFETY: a system call with plain numbers; the descriptor it makes is ours alone.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    assert!(fd >= 0, "socket: {}", io::Error::last_os_error());
    // SAFETY: as above.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sets an option whose value is a plain structure.
pub(crate) fn set<T: Copy>(socket: impl AsFd, level: i32, option: i32, value: T) {
    // SAFETY: the pointer is to a value of the given length that outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), size_of::<T>() as u32)
    };
    assert_eq!(result, 0, "socket option {option}: {}", io::Error::last_os_error());
}

/// Sets the TTL or hop limit of what a socket sends to `group`.
pub(crate) fn set_group_ttl(socket: &UdpSocket, group: SocketAddr, ttl: u8) {
    match group {
        SocketAddr::V4(_) => socket.set_multicast_ttl_v4(ttl.into()).expect("set the TTL"),
        SocketAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, i32::from(ttl)),
    }
}

/// The number of an interface of the calling thread's namespace.
pub(crate) fn interface_index(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).expect("a name without NUL");
    // SAFETY: the name is terminated and outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Binds a packet socket to an interface; `protocol` in host byte order, 0 receives nothing.
pub(crate) fn bind_packet(socket: &OwnedFd, interface: u32, protocol: u16) {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface as i32;
    // SAFETY: the pointer is to a valid address of that length.
    let result =
        unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32) };
    assert_eq!(result, 0, "bind: {}", io::Error::last_os_error());
}

/// Nanoseconds of a clock.
pub(crate) fn now(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
