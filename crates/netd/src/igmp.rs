//! IGMP beside the kernel's own: hearing who asks for memberships (RFC 3376 section 4.1), asking in the place of a router, and
//! reporting what the kernel has joined once more.
//!
//! What the reverse path or a filter takes away is not heard here either: the kernel does not answer such queries. The kernel
//! says who sent one and where it came; nothing of it is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mcr_datapath::FilterInstruction;

use crate::channel::{open_socket, set_option};
use crate::igmp_version::igmp_versions;
use crate::packet_info::{self, Taken, V4};
use crate::report::{self, Membership};

/// General query of version 3 (RFC 3376 section 4.1): answers within 10 s, robustness 2, queries every 125 s.
const GENERAL_QUERY: [u8; 12] = [0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
/// The longest that answers to a query for one group take, in tenths of a second (RFC 3376 section 8.8).
const ANSWER_TENTHS: u8 = 10;
/// Reports of version 3, and of the versions before (RFC 3376 section 4).
const REPORT: u8 = 0x22;
const REPORT_OF_VERSION_2: u8 = 0x16;
const REPORT_OF_VERSION_1: u8 = 0x12;
/// The router alert that every IGMP message carries (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Internetwork control (RFC 3376 section 4).
const TYPE_OF_SERVICE: libc::c_int = 0xc0;
/// All systems, and all routers that speak version 3.
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// `LOOPBACK_IFINDEX` (`include/net/flow.h`).
const LOOPBACK_INDEX: u32 = 1;
/// Lets queries through and nothing else: the byte behind the IP header is the type.
const QUERIES_ONLY: [FilterInstruction; 5] = [
    FilterInstruction { code: 0xb1, jt: 0, jf: 0, k: 0 }, // ldxb 4*([0]&0xf)
    FilterInstruction { code: 0x50, jt: 0, jf: 0, k: 0 }, // ldb [x + 0]
    FilterInstruction { code: 0x15, jt: 0, jf: 1, k: 0x11 }, // jeq #0x11, else skip one
    FilterInstruction { code: 0x06, jt: 0, jf: 0, k: u32::MAX },
    FilterInstruction { code: 0x06, jt: 0, jf: 0, k: 0 },
];

/// A socket for all interfaces.
#[derive(Debug)]
pub(crate) struct Igmp(OwnedFd);

impl Igmp {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = open_socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, libc::IPPROTO_IGMP)?;
        mcr_datapath::set_filter(socket.as_fd(), &QUERIES_ONLY)?;
        let level = libc::IPPROTO_IP;
        set_option(socket.as_fd(), level, libc::IP_PKTINFO, &1_i32)?;
        set_option(socket.as_fd(), level, libc::IP_TOS, &TYPE_OF_SERVICE)?;
        set_option(socket.as_fd(), level, libc::IP_OPTIONS, &ROUTER_ALERT)?;
        let igmp = Self(socket);
        igmp.try_out()?;
        Ok(igmp)
    }

    /// Fails where packets of this process are filtered, as systemd's `IPAddressDeny` does it: nothing would be heard there, and that
    /// nobody asks would be a wrong conclusion. A message of no type goes to this host, which passes it over.
    fn try_out(&self) -> io::Result<()> {
        match self.send(LOOPBACK_INDEX, Ipv4Addr::LOCALHOST, &mut [0; 8]) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            // The loopback interface may be down.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The interface that the next query came on, and who sent it.
    pub(crate) fn next_query(&self) -> io::Result<(u32, IpAddr)> {
        let Taken { from, info, .. } = packet_info::receive::<V4>(self.0.as_fd())?;
        let interface = info.and_then(|info| u32::try_from(info.ipi_ifindex).ok()).unwrap_or(0);
        Ok((interface, Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)).into()))
    }

    /// Asks everybody on the link of an interface for their memberships, this host too.
    pub(crate) fn ask(&self, interface: u32) -> io::Result<()> {
        self.send(interface, EVERYBODY, &mut GENERAL_QUERY.clone())
    }

    /// Asks who wants this group, answers within a second (RFC 3376 section 4.1.9).
    pub(crate) fn ask_for(&self, interface: u32, group: Ipv4Addr) -> io::Result<()> {
        let mut query = GENERAL_QUERY;
        query[1] = ANSWER_TENTHS;
        query[4..8].copy_from_slice(&group.octets());
        self.send(interface, group, &mut query)
    }

    /// Reports these memberships, in the version that the kernel speaks there.
    pub(crate) fn report(&self, interface: u32, memberships: &[Membership]) -> io::Result<()> {
        if memberships.is_empty() {
            return Ok(());
        }
        let old = match igmp_versions()?.get(&interface) {
            Some(1) => REPORT_OF_VERSION_1,
            Some(2) => REPORT_OF_VERSION_2,
            _ => {
                let mut messages = report::messages(REPORT, memberships).into_iter();
                return messages.try_for_each(|mut message| self.send(interface, ROUTERS, &mut message));
            }
        };
        memberships.iter().try_for_each(|(group, _)| match group {
            IpAddr::V4(group) => {
                let mut message = [&[old, 0, 0, 0], &group.octets()[..]].concat();
                self.send(interface, *group, &mut message)
            }
            IpAddr::V6(_) => Ok(()),
        })
    }

    /// Sends a message once its checksum is in place.
    fn send(&self, interface: u32, to: Ipv4Addr, message: &mut [u8]) -> io::Result<()> {
        put_checksum(message);
        // SAFETY: all zeros is valid for both.
        let (mut address, mut info): (libc::sockaddr_in, libc::in_pktinfo) = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from(to).to_be();
        info.ipi_ifindex = interface.cast_signed();
        packet_info::send::<V4>(self.0.as_fd(), message, address, info)
    }
}

impl AsFd for Igmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// RFC 1071, over all of the message, whose checksum is zero still.
fn put_checksum(message: &mut [u8]) {
    let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) as u16 + (folded >> 16) as u16);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_add_up() {
        for length in [12, 300] {
            let mut message: Vec<u8> = (0..length).map(|at| at as u8 | 0xc1).collect();
            message[2..4].fill(0);
            put_checksum(&mut message);
            let sum: u64 = message.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum();
            assert_eq!(sum % 0xffff, 0);
        }
    }
}
