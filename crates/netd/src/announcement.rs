//! Saying that an IPv6 address is this host's, unasked: who knew another for it learns (RFC 4861 section 7.2.6). The kernel does it
//! where `ndisc_notify` says so only. Where the service lets no ICMP through (contrib/systemd/queriers.conf) it is not said.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;

use crate::channel::{open_socket, set_option};
use crate::interface;
use crate::packet_info::{self, V6};

/// A neighbour advertisement (section 4.4), and its flag that says: in place of what was known.
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
/// The option with the link-layer address, of one unit of eight bytes (section 4.6.1).
const TARGET_LINK_ADDRESS: [u8; 2] = [2, 1];
/// Nobody accepts one that a router has forwarded (section 7.1.2).
const HOPS: libc::c_int = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Says it on the link of an interface.
pub(crate) fn send(interface: u32, name: &str, address: IpAddr) -> io::Result<()> {
    let (IpAddr::V6(address), Some(link_address)) = (address, interface::link_address(name)?) else { return Ok(()) };
    let socket = open_socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)?;
    set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &HOPS)?;
    // SAFETY: all zeros is valid for both.
    let (mut to, mut info): (libc::sockaddr_in6, libc::in6_pktinfo) = unsafe { std::mem::zeroed() };
    to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    to.sin6_addr.s6_addr = ALL_NODES.octets();
    to.sin6_scope_id = interface;
    (info.ipi6_ifindex, info.ipi6_addr.s6_addr) = (interface, address.octets());
    let message =
        [&[ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0][..], &address.octets(), &TARGET_LINK_ADDRESS, &link_address];
    packet_info::send::<V6>(socket.as_fd(), &message.concat(), to, info)
}
