//! MLD beside the kernel's own, as [`igmp`](crate::igmp) is for IPv4: hearing who asks for memberships (RFC 3810 section 5.1), asking
//! in the place of a router, and reporting what the kernel has joined once more.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::channel::{open_socket, set_option};
use crate::interface;
use crate::packet_info::{self, Taken, V6};
use crate::report::{self, Membership};

/// The type of queries (RFC 3810 section 5).
const QUERY: u8 = 130;
/// Reports of version 2, and of version 1 (RFC 2710 section 3).
const REPORT: u8 = 143;
const REPORT_OF_VERSION_1: u8 = 131;
/// A query of exactly so many bytes is of version 1 (RFC 3810 section 8.1).
const BYTES_OF_VERSION_1: usize = 24;
/// So long after one the hosts of a link speak version 1 (section 9.12, with the usual times).
const OLDER_QUERIER_PRESENT: Duration = Duration::from_secs(260);
/// `ICMPV6_FILTER` (`include/uapi/linux/icmpv6.h`).
const ICMPV6_FILTER: libc::c_int = 1;
/// An extension header of eight bytes: the router alert of MLD (RFC 2711), and padding.
const ROUTER_ALERT: [u8; 8] = [0, 0, 5, 2, 0, 0, 1, 0];
/// All nodes of a link, and its routers that speak version 2.
const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// A socket for all interfaces. The kernel fills in checksums.
#[derive(Debug)]
pub(crate) struct Mld {
    socket: OwnedFd,
    /// When a query of version 1 was heard last on an interface: the kernel does not tell which version it speaks.
    older: BTreeMap<u32, Instant>,
}

impl Mld {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = open_socket(libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_NONBLOCK, libc::IPPROTO_ICMPV6)?;
        set_option(socket.as_fd(), libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &queries_only())?;
        let level = libc::IPPROTO_IPV6;
        set_option(socket.as_fd(), level, libc::IPV6_RECVPKTINFO, &1_i32)?;
        set_option(socket.as_fd(), level, libc::IPV6_HOPOPTS, &ROUTER_ALERT)?;
        Ok(Self { socket, older: BTreeMap::new() })
    }

    /// The interface that the next query came on, and who sent it; `None`: one that hosts do not answer, because it comes from no
    /// link-local address (RFC 3810 section 5.1.14).
    pub(crate) fn next_query(&mut self) -> io::Result<Option<(u32, IpAddr)>> {
        let Taken { from, info, bytes } = packet_info::receive::<V6>(self.socket.as_fd())?;
        let querier = Ipv6Addr::from(from.sin6_addr.s6_addr);
        let interface = info.map_or(0, |info| info.ipi6_ifindex);
        let is_answered = querier.is_unicast_link_local();
        if is_answered && bytes == BYTES_OF_VERSION_1 {
            self.older.insert(interface, Instant::now());
        }
        Ok(is_answered.then_some((interface, querier.into())))
    }

    /// The interface is gone.
    pub(crate) fn forget(&mut self, interface: u32) {
        self.older.remove(&interface);
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

    /// Reports these memberships, in the version that the kernel speaks there.
    pub(crate) fn report(&self, interface: u32, memberships: &[Membership]) -> io::Result<()> {
        if self.speaks_version_1(interface) {
            return memberships.iter().try_for_each(|(group, _)| match group {
                IpAddr::V6(group) => self.send(interface, *group, &report_of_version_1(*group)),
                IpAddr::V4(_) => Ok(()),
            });
        }
        let mut messages = report::messages(REPORT, memberships).into_iter();
        messages.try_for_each(|message| self.send(interface, ROUTERS, &message))
    }

    /// As the kernel decides it (`net/ipv6/mcast.c: mld_in_v1_mode`).
    fn speaks_version_1(&self, interface: u32) -> bool {
        let named = interface::name(interface).ok().flatten();
        match ["all"].into_iter().chain(named.as_deref()).find_map(forced_version) {
            Some(version) => version == 1,
            None => self.older.get(&interface).is_some_and(|heard| heard.elapsed() < OLDER_QUERIER_PRESENT),
        }
    }

    fn send(&self, interface: u32, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        // SAFETY: all zeros is valid for both; as a source it lets the kernel choose.
        let (mut address, mut info): (libc::sockaddr_in6, libc::in6_pktinfo) = unsafe { std::mem::zeroed() };
        address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        address.sin6_addr.s6_addr = to.octets();
        address.sin6_scope_id = interface;
        info.ipi6_ifindex = interface;
        packet_info::send::<V6>(self.socket.as_fd(), message, address, info)
    }
}

impl AsFd for Mld {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The version that the administrator wants to be spoken (`force_mld_version`); `None`: any, or that is hidden from this service
/// (`ProcSubset=pid`).
fn forced_version(interface: &str) -> Option<u8> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/force_mld_version");
    let version: u8 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (version != 0).then_some(version)
}

fn report_of_version_1(group: Ipv6Addr) -> Vec<u8> {
    [&[REPORT_OF_VERSION_1, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat()
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
