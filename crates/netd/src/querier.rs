//! Membership queries as this host's own IGMP hears them (RFC 3376 section 4.1), and asking them in the place of a router.
//!
//! What the reverse path or a filter takes away is not heard here either: the kernel does not answer such queries. The kernel
//! says who sent one and where it came; nothing of it is read.

use std::collections::BTreeMap;
use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use mcr_datapath::FilterInstruction;

use crate::board::{self, Board, HeardQuerier};
use crate::channel::{check, retry, set_option};

/// General query of version 3 (RFC 3376 section 4.1): answers within 10 s, robustness 2, queries every 125 s.
const GENERAL_QUERY: [u8; 12] = with_checksum([0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]);
/// The router alert that every IGMP message carries (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Internetwork control (RFC 3376 section 4).
const TYPE_OF_SERVICE: libc::c_int = 0xc0;
/// All systems.
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Lets queries through and nothing else: the byte behind the IP header is the type.
const QUERIES_ONLY: [FilterInstruction; 5] = [
    FilterInstruction { code: 0xb1, jt: 0, jf: 0, k: 0 }, // ldxb 4*([0]&0xf)
    FilterInstruction { code: 0x50, jt: 0, jf: 0, k: 0 }, // ldb [x + 0]
    FilterInstruction { code: 0x15, jt: 0, jf: 1, k: 0x11 }, // jeq #0x11, else skip one
    FilterInstruction { code: 0x06, jt: 0, jf: 0, k: u32::MAX },
    FilterInstruction { code: 0x06, jt: 0, jf: 0, k: 0 },
];
/// Most pairs of an interface and a querier that are remembered.
const MOST_HEARD: usize = 1_024;
/// Most of one interface. It has one querier but for a moment; whoever sends queries from many addresses gets no more.
const MOST_OF_AN_INTERFACE: usize = 8;
/// How long others wait for a querier before one of them takes its place (RFC 3376 section 8.5).
const PRESENCE: Duration = Duration::from_secs(255);
/// Most messages that are read at once.
const MOST_AT_ONCE: usize = 256;

/// Who asked on which interface, and when last.
#[derive(Debug)]
pub(crate) struct Queries {
    socket: OwnedFd,
    heard: Heard,
    board: Board,
}

/// When each querier of an interface was heard last, by `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
struct Heard(BTreeMap<(u32, Ipv4Addr), Duration>);

impl Queries {
    /// Listens on all interfaces from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_IGMP) };
        check(fd)?;
        // SAFETY: `fd` was just opened and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        mcr_datapath::set_filter(socket.as_fd(), &QUERIES_ONLY)?;
        let level = libc::IPPROTO_IP;
        set_option(socket.as_fd(), level, libc::IP_PKTINFO, &1_i32)?;
        set_option(socket.as_fd(), level, libc::IP_TOS, &TYPE_OF_SERVICE)?;
        set_option(socket.as_fd(), level, libc::IP_OPTIONS, &ROUTER_ALERT)?;
        Ok(Self { socket, heard: Heard::default(), board: Board::new()? })
    }

    /// Takes note of what has come.
    pub(crate) fn take(&mut self) {
        for _ in 0..MOST_AT_ONCE {
            let Ok((interface, querier)) = receive(&self.socket) else { break };
            self.heard.note(interface, querier, board::now());
        }
        self.write();
    }

    /// Knows of none on an interface that is gone.
    pub(crate) fn forget(&mut self, interface: u32) {
        self.heard.0.retain(|(index, _), _| *index != interface);
        self.write();
    }

    fn write(&self) {
        let heard = self.heard.0.iter();
        self.board.write(heard.map(|((interface, querier), at)| HeardQuerier {
            interface: *interface,
            querier: *querier,
            at: *at,
        }));
    }

    /// Where they are written down.
    pub(crate) fn board(&self) -> BorrowedFd<'_> {
        self.board.as_fd()
    }

    /// Asks everybody on the link of an interface for their memberships, this host too.
    pub(crate) fn ask(&self, interface: u32) -> io::Result<()> {
        // SAFETY: all zeros is valid for both.
        let (mut to, mut header): (libc::sockaddr_in, libc::msghdr) = unsafe { std::mem::zeroed() };
        to.sin_family = libc::AF_INET as libc::sa_family_t;
        to.sin_addr.s_addr = u32::from(EVERYBODY).to_be();
        let mut part = libc::iovec { iov_base: GENERAL_QUERY.as_ptr().cast_mut().cast(), iov_len: GENERAL_QUERY.len() };
        let mut control = [0_u64; 8];
        (header.msg_name, header.msg_namelen) = ((&raw mut to).cast(), size_of::<libc::sockaddr_in>() as u32);
        (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
        header.msg_control = control.as_mut_ptr().cast();
        let bytes = size_of::<libc::in_pktinfo>() as libc::c_uint;
        // SAFETY: pure arithmetic.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as _;
        // SAFETY: `control` is zeroed, aligned, and has room for one header and its data (16 and 12 bytes of 64).
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::IPPROTO_IP;
            (*first).cmsg_type = libc::IP_PKTINFO;
            (*first).cmsg_len = libc::CMSG_LEN(bytes) as _;
            let mut info: libc::in_pktinfo = std::mem::zeroed();
            info.ipi_ifindex = interface.cast_signed();
            libc::CMSG_DATA(first).cast::<libc::in_pktinfo>().write_unaligned(info);
        }
        // SAFETY: `header` points to memory that outlives the call, with its true lengths.
        retry(|| unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) }).map(drop)
    }
}

impl Heard {
    /// Room is made by who has been silent for too long to be the querier, then by the highest address: the lowest is the
    /// querier (RFC 3376 section 6.6.2).
    fn note(&mut self, interface: u32, querier: Ipv4Addr, now: Duration) {
        self.0.insert((interface, querier), now);
        let of_interface = self.0.range((interface, Ipv4Addr::UNSPECIFIED)..=(interface, Ipv4Addr::BROADCAST));
        if of_interface.clone().count() > MOST_OF_AN_INTERFACE {
            let is_silent = |at: &Duration| now.saturating_sub(*at) > PRESENCE;
            let least = of_interface.max_by_key(|((_, querier), at)| (is_silent(at), *querier)).map(|(key, _)| *key);
            least.map(|key| self.0.remove(&key));
        }
        if self.0.len() > MOST_HEARD {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key);
            oldest.map(|key| self.0.remove(&key));
        }
    }
}

impl AsFd for Queries {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The interface that the next query came on, and who sent it.
fn receive(socket: &OwnedFd) -> io::Result<(u32, Ipv4Addr)> {
    let (mut bytes, mut control) = ([0_u8; 64], [0_u64; 8]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros is valid for both.
    let (mut from, mut header): (libc::sockaddr_in, libc::msghdr) = unsafe { std::mem::zeroed() };
    (header.msg_name, header.msg_namelen) = ((&raw mut from).cast(), size_of::<libc::sockaddr_in>() as u32);
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    // SAFETY: `header` points to memory that outlives the call, with its true lengths.
    retry(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) })?;
    // SAFETY: the kernel filled in the control data, which CMSG_FIRSTHDR checks for room of a header; IP_PKTINFO is all that
    // was asked for, and its data is an in_pktinfo.
    let interface = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        let is_info =
            !first.is_null() && ((*first).cmsg_level, (*first).cmsg_type) == (libc::IPPROTO_IP, libc::IP_PKTINFO);
        is_info.then(|| libc::CMSG_DATA(first).cast::<libc::in_pktinfo>().read_unaligned().ipi_ifindex)
    };
    let interface = interface.and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
    Ok((interface, Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr))))
}

/// The message with its checksum (RFC 1071) in place.
const fn with_checksum(mut message: [u8; 12]) -> [u8; 12] {
    let (mut sum, mut at) = (0_u32, 0);
    while at < message.len() {
        sum += (message[at] as u32) << 8 | message[at + 1] as u32;
        at += 2;
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(folded as u16);
    message[2] = (checksum >> 8) as u8;
    message[3] = checksum as u8;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_queriers_do_not_displace_the_real_one_nor_those_of_other_interfaces() {
        let (mut heard, address) = (Heard::default(), |last: u32| Ipv4Addr::from(0x0a00_0000 + last));
        heard.note(1, address(9), Duration::ZERO);
        heard.note(2, address(5), Duration::ZERO);
        for forged in 100..3_000 {
            heard.note(2, address(forged), Duration::from_secs(1));
        }
        let of_2 = std::iter::once(5).chain(100..=106).map(|querier| (2, address(querier)));
        let expected: Vec<_> = std::iter::once((1, address(9))).chain(of_2).collect();
        assert_eq!(heard.0.keys().copied().collect::<Vec<_>>(), expected);
        // One that has been silent for long makes room also when it is the lowest.
        heard.note(2, address(200), PRESENCE + Duration::from_millis(500));
        assert!(!heard.0.contains_key(&(2, address(5))) && heard.0.contains_key(&(2, address(200))));
    }

    #[test]
    fn the_query_adds_up() {
        let words = GENERAL_QUERY.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        assert_eq!(words.sum::<u32>(), 0xffff);
    }
}
