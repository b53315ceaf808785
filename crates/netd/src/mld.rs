//! MLD beside the kernel's own, as [`igmp`](crate::igmp) is for IPv4: hearing who asks for memberships (RFC 3810 section 5.1), asking
//! in the place of a router, and reporting what the kernel has joined once more.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::channel::{open_socket, set_option};
use crate::packet_info::{self, V6};
use crate::report::{self, Membership};

/// The type of queries (RFC 3810 section 5).
const QUERY: u8 = 130;
/// Reports of version 2.
const REPORT: u8 = 143;
/// `ICMPV6_FILTER` (`include/uapi/linux/icmpv6.h`).
const ICMPV6_FILTER: libc::c_int = 1;
/// An extension header of eight bytes: the router alert of MLD (RFC 2711), and padding.
const ROUTER_ALERT: [u8; 8] = [0, 0, 5, 2, 0, 0, 1, 0];
/// All nodes of a link, and its routers that speak version 2.
const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// A socket for all interfaces. The kernel fills in checksums.
#[derive(Debug)]
pub(crate) struct Mld(OwnedFd);

impl Mld {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = open_socket(libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_NONBLOCK, libc::IPPROTO_ICMPV6)?;
        set_option(socket.as_fd(), libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &queries_only())?;
        let level = libc::IPPROTO_IPV6;
        set_option(socket.as_fd(), level, libc::IPV6_RECVPKTINFO, &1_i32)?;
        set_option(socket.as_fd(), level, libc::IPV6_HOPOPTS, &ROUTER_ALERT)?;
        Ok(Self(socket))
    }

    /// The interface that the next query came on, and who sent it; `None`: one that hosts do not answer, because it comes from no
    /// link-local address (RFC 3810 section 5.1.14).
    pub(crate) fn next_query(&self) -> io::Result<Option<(u32, IpAddr)>> {
        let (from, info) = packet_info::receive::<V6>(self.0.as_fd())?;
        let querier = Ipv6Addr::from(from.sin6_addr.s6_addr);
        let interface = info.map_or(0, |info| info.ipi6_ifindex);
        Ok(querier.is_unicast_link_local().then_some((interface, querier.into())))
    }

    /// Asks everybody on the link of an interface for their memberships, this host too: a general query of version 2, answers
    /// within 10 s, robustness 2, queries every 125 s (RFC 3810 section 5.1).
    pub(crate) fn ask(&self, interface: u32) -> io::Result<()> {
        self.send(interface, EVERYBODY, &query(10_000, Ipv6Addr::UNSPECIFIED))
    }

    /// Asks who wants this group, answers within a second (RFC 3810 sections 5.1.15 and 9.8).
    pub(crate) fn ask_for(&self, interface: u32, group: Ipv6Addr) -> io::Result<()> {
        self.send(interface, group, &query(1_000, group))
    }

    /// Reports these memberships.
    pub(crate) fn report(&self, interface: u32, memberships: &[Membership]) -> io::Result<()> {
        let mut messages = report::messages(REPORT, memberships).into_iter();
        messages.try_for_each(|message| self.send(interface, ROUTERS, &message))
    }

    fn send(&self, interface: u32, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        // SAFETY: all zeros is valid for both; as a source it lets the kernel choose.
        let (mut address, mut info): (libc::sockaddr_in6, libc::in6_pktinfo) = unsafe { std::mem::zeroed() };
        address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        address.sin6_addr.s6_addr = to.octets();
        address.sin6_scope_id = interface;
        info.ipi6_ifindex = interface;
        packet_info::send::<V6>(self.0.as_fd(), message, address, info)
    }
}

impl AsFd for Mld {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A query of version 2, robustness 2, queries every 125 s.
fn query(answer_milliseconds: u16, group: Ipv6Addr) -> Vec<u8> {
    let [high, low] = answer_milliseconds.to_be_bytes();
    [&[QUERY, 0, 0, 0, high, low, 0, 0][..], &group.octets(), &[2, 125, 0, 0]].concat()
}

/// `struct icmp6_filter`: a bit for each type that is not wanted.
fn queries_only() -> [u32; 8] {
    let mut blocked = [u32::MAX; 8];
    blocked[usize::from(QUERY / 32)] &= !(1 << (QUERY % 32));
    blocked
}
