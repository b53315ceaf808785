//! The few socket calls that the standard library has no names for.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::interface::Interface;

/// Room for more than a second of the fastest sender here; `SO_RCVBUFFORCE` is not bound by `net.core.rmem_max`.
const RECEIVE_BUFFER_BYTES: libc::c_int = 64 << 20;

/// How long a receiving thread sleeps at most before it looks whether it is to stop.
pub(crate) const RECEIVE_TIMEOUT: Duration = Duration::from_millis(20);

/// A value as the kernel takes it for a socket option.
///
/// # Safety
/// Every byte of a value is initialised (no padding), and a value lives for itself (no pointers).
pub(crate) unsafe trait OptionValue {}
// SAFETY: an integer.
unsafe impl OptionValue for libc::c_int {}
// SAFETY: two addresses and an int of 4 bytes each.
unsafe impl OptionValue for libc::ip_mreqn {}
// SAFETY: three addresses of 4 bytes each.
unsafe impl OptionValue for libc::ip_mreq_source {}
// SAFETY: two integers of the size of a word.
unsafe impl OptionValue for libc::timeval {}

#[track_caller]
pub(crate) fn set_option<T: OptionValue>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: &T) {
    let set = try_option(socket, level, name, value);
    set.unwrap_or_else(|error| panic!("cannot set socket option {name} of level {level}: {error}"));
}

pub(crate) fn try_option<T: OptionValue>(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which has them.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A UDP socket bound to `local` in the namespace of the calling thread; a group's port may be shared with other listeners, each of
/// which gets its copy.
pub(crate) fn listening_socket(local: SocketAddrV4) -> io::Result<UdpSocket> {
    // SAFETY: socket takes three integers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let socket = UdpSocket::from(own(fd));
    if local.ip().is_multicast() {
        try_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1)?;
    }
    // SAFETY: all zeros is a valid sockaddr_in.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = local.port().to_be();
    address.sin_addr = in_addr(*local.ip());
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `address`, which has them.
    match unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A large receive queue, and a receive timeout of [`RECEIVE_TIMEOUT`].
#[track_caller]
pub(crate) fn prepare_to_receive(socket: &impl AsRawFd) {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER_BYTES);
    let timeout = libc::timeval { tv_sec: 0, tv_usec: RECEIVE_TIMEOUT.subsec_micros().into() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout);
}

/// Joins `group` on `interface`, from `source` only if there is one.
#[track_caller]
pub(crate) fn join(socket: &impl AsRawFd, interface: &Interface, group: Ipv4Addr, source: Option<Ipv4Addr>) {
    match source {
        None => {
            let request = libc::ip_mreqn {
                imr_multiaddr: in_addr(group),
                imr_address: in_addr(Ipv4Addr::UNSPECIFIED),
                imr_ifindex: index(interface),
            };
            set_option(socket, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request);
        }
        Some(source) => {
            let request = libc::ip_mreq_source {
                imr_multiaddr: in_addr(group),
                imr_interface: in_addr(interface_address(interface)),
                imr_sourceaddr: in_addr(source),
            };
            set_option(socket, libc::IPPROTO_IP, libc::IP_ADD_SOURCE_MEMBERSHIP, &request);
        }
    }
}

/// Sends multicast out of `interface`, whatever the routes say.
#[track_caller]
pub(crate) fn set_multicast_interface(socket: &impl AsRawFd, interface: &Interface) {
    let request = libc::ip_mreqn {
        imr_multiaddr: in_addr(Ipv4Addr::UNSPECIFIED),
        imr_address: in_addr(Ipv4Addr::UNSPECIFIED),
        imr_ifindex: index(interface),
    };
    set_option(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request);
}

/// A raw packet socket on `interface` that receives frames of `protocol` (an `ETH_P_` number; 0 for none).
#[track_caller]
pub(crate) fn packet_socket(interface: &Interface, protocol: u16) -> OwnedFd {
    let opened = interface.namespace().run(|| {
        // Protocol 0 first: a socket that receives from all interfaces until it is bound would hold foreign frames.
        // SAFETY: socket takes three integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(own(fd)) }
    });
    let socket = opened.unwrap_or_else(|error| panic!("cannot open a packet socket: {error}"));
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index(interface);
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `address`, which has them.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    assert_eq!(bound, 0, "cannot bind a packet socket to {}: {}", interface.name(), io::Error::last_os_error());
    socket
}

pub(crate) fn endpoint_of(address: &libc::sockaddr_in) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)), u16::from_be(address.sin_port))
}

/// Shows each control message that came with a datagram: level, type and the bytes.
pub(crate) fn for_each_control(header: &libc::msghdr, mut show: impl FnMut(libc::c_int, libc::c_int, &[u8])) {
    // SAFETY: `header` is as recvmsg left it: control buffer and length are those that the kernel wrote.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR hand out only headers that lie in the control buffer, whose data follows
        // for as long as `cmsg_len` says; the buffer outlives the call of `show`.
        let (head, data) = unsafe {
            let head = at.read_unaligned();
            let length = head.cmsg_len - libc::CMSG_LEN(0) as usize;
            (head, std::slice::from_raw_parts(libc::CMSG_DATA(at), length))
        };
        show(head.cmsg_level, head.cmsg_type, data);
        // SAFETY: `at` is a header of this very `header`.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
}

#[track_caller]
fn interface_address(interface: &Interface) -> Ipv4Addr {
    let shown = interface.namespace().output("ip", &["-oneline", "-4", "address", "show", "dev", &interface.name()]);
    let address = shown.split("inet ").nth(1).and_then(|rest| rest.split(['/', ' ']).next()?.parse().ok());
    address.unwrap_or_else(|| panic!("{} has no IPv4 address to join from", interface.name()))
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from(address).to_be() }
}

fn index(interface: &Interface) -> libc::c_int {
    libc::c_int::try_from(interface.index()).expect("the kernel numbers interfaces with positive ints")
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
