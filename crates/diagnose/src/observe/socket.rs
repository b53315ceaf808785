//! UDP sockets of the host (`man 7 sock_diag`), who has them open, and what each of them has joined.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::netlink::{Answers, Family, Netlink, attributes, number};
use crate::facts::{Hold, Owner, Socket};

/// Numbers of `include/uapi/linux/sock_diag.h` and `inet_diag.h`.
mod uapi {
    pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
    pub(super) const INET_DIAG_SKMEMINFO: u16 = 7;
    pub(super) const INET_DIAG_SKV6ONLY: u16 = 11;
    /// Bytes of `struct inet_diag_req_v2`.
    pub(super) const REQUEST_BYTES: usize = 56;
    /// Bytes of `struct inet_diag_msg`.
    pub(super) const MESSAGE_BYTES: usize = 72;
    /// Places in the array of SKMEMINFO.
    pub(super) const RECEIVE_ALLOCATED: usize = 0;
    pub(super) const RECEIVE_BUFFER: usize = 1;
    pub(super) const DROPS: usize = 8;
}

/// The most sources of one membership that are read.
const MOST_SOURCES: usize = 64;

/// What the kernel says of a socket, and the inode that it is known by in `/proc`.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) inode: u64,
    pub(super) socket: Socket,
}

/// The UDP sockets that are bound to a port and can hear the family of `group`: IPv4 those of IPv6 too that are for both.
pub(super) fn of_port(port: u16, group: IpAddr) -> io::Result<Vec<Found>> {
    let mut netlink = Netlink::open(Family::SocketDiagnosis)?;
    let mut found = Vec::new();
    let families = if group.is_ipv6() { &[libc::AF_INET6][..] } else { &[libc::AF_INET, libc::AF_INET6] };
    for &family in families {
        let mut request = vec![0; uapi::REQUEST_BYTES];
        // Family, protocol, extensions (bit n - 1 for attribute n), then the states: all.
        request[0] = family as u8;
        request[1] = libc::IPPROTO_UDP as u8;
        request[2] = 1 << (uapi::INET_DIAG_SKMEMINFO - 1);
        request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        for message in netlink.ask(uapi::SOCK_DIAG_BY_FAMILY, Answers::All, &request)? {
            found.extend(read(&message.body, group).filter(|found| found.socket.port == port));
        }
    }
    Ok(found)
}

/// `struct inet_diag_msg`: family, state, timer, retransmissions; ports (network order); source and destination (16 bytes each);
/// interface; cookie (8 bytes); expiry, queues, user, inode.
fn read(body: &[u8], group: IpAddr) -> Option<Found> {
    let port = |at: usize| body.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let is_v6 = i32::from(*body.first()?) == libc::AF_INET6;
    let heard = |bytes: &[u8]| if group.is_ipv6() { ipv6(bytes) } else { ipv4(bytes, is_v6) };
    let address = heard(body.get(8..24)?)?;
    let peer = heard(body.get(24..40)?).filter(|peer| !peer.is_unspecified());
    let (mut memory, mut is_v6_only) = (&[][..], false);
    for (kind, value) in attributes(body, uapi::MESSAGE_BYTES) {
        match kind {
            uapi::INET_DIAG_SKMEMINFO => memory = value,
            uapi::INET_DIAG_SKV6ONLY => is_v6_only = value != [0],
            _ => {}
        }
    }
    let socket = Socket {
        address,
        port: port(4)?,
        peer,
        interface: Some(number(body, 40)).filter(|index| *index != 0),
        buffer_bytes: number(memory, 4 * uapi::RECEIVE_BUFFER),
        waiting_bytes: number(memory, 4 * uapi::RECEIVE_ALLOCATED),
        drops: number(memory, 4 * uapi::DROPS),
        new_drops: 0,
        owners: Vec::new(),
        membership: None,
        hears_all: None,
        groups_held: 0,
    };
    (group.is_ipv6() || !is_v6_only).then_some(Found { inode: number(body, 68).into(), socket })
}

/// The IPv4 address of a socket; of one of IPv6, when it is bound to no address or to a mapped one.
fn ipv4(bytes: &[u8], is_v6: bool) -> Option<IpAddr> {
    if !is_v6 {
        return bytes.first_chunk().map(|bytes: &[u8; 4]| IpAddr::from(*bytes));
    }
    let address = Ipv6Addr::from(*bytes.first_chunk::<16>()?);
    if address.is_unspecified() { Some(Ipv4Addr::UNSPECIFIED.into()) } else { address.to_ipv4_mapped().map(IpAddr::V4) }
}

/// The address of a socket that hears IPv6: of one that is bound to a mapped address there is none.
fn ipv6(bytes: &[u8]) -> Option<IpAddr> {
    let address = Ipv6Addr::from(*bytes.first_chunk::<16>()?);
    address.to_ipv4_mapped().is_none().then_some(IpAddr::V6(address))
}

/// A descriptor of a process.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) owner: Owner,
    descriptor: RawFd,
}

/// Who has these inodes open; without privilege, only one's own.
pub(super) fn holders(inodes: &BTreeSet<u64>) -> BTreeMap<u64, Vec<Held>> {
    let mut found: BTreeMap<u64, Vec<Held>> = BTreeMap::new();
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != own && !inodes.is_empty()) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Some(inode) = fs::read_link(entry.path()).ok().and_then(|target| socket_inode(target.to_str()?)) else {
                continue;
            };
            let descriptor = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (true, Some(descriptor)) = (inodes.contains(&inode), descriptor) {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
                found.entry(inode).or_default().push(Held { owner: Owner { pid, name }, descriptor });
            }
        }
    }
    found
}

fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A copy of the descriptor of another process, to ask the socket with; nothing is changed by it.
pub(super) fn borrow(held: &Held) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, held.owner.pid, 0) };
    let process = owned(process)?;
    // SAFETY: pidfd_getfd takes three integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), held.descriptor, 0) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(result).unwrap_or(-1);
    // SAFETY: the kernel made a new descriptor for us, which nobody else has.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

/// `struct group_filter` (`include/uapi/linux/in.h`) with room for some sources.
#[repr(C)]
struct GroupFilter {
    interface: u32,
    group: libc::sockaddr_storage,
    mode: u32,
    sources: u32,
    source: [libc::sockaddr_storage; MOST_SOURCES],
}

/// What a socket has joined of a group on an interface; `None` when it does not tell.
pub(super) fn membership(socket: &OwnedFd, interface: u32, group: IpAddr) -> Option<Hold> {
    const MCAST_MSFILTER: libc::c_int = 48;
    const MCAST_EXCLUDE: u32 = 0;
    // SAFETY: all zeros is a valid GroupFilter.
    let mut filter: Box<GroupFilter> = Box::new(unsafe { std::mem::zeroed() });
    filter.interface = interface;
    filter.group = storage(group);
    filter.sources = MOST_SOURCES as u32;
    let mut length = size_of::<GroupFilter>() as libc::socklen_t;
    let value = std::ptr::from_mut(&mut *filter).cast();
    // SAFETY: the kernel writes at most `length` bytes, the size of the filter.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level(group), MCAST_MSFILTER, value, &mut length) };
    if done != 0 {
        let is_stranger = io::Error::last_os_error().raw_os_error() == Some(libc::EADDRNOTAVAIL);
        return is_stranger.then_some(Hold::No);
    }
    let told = (filter.sources as usize).min(MOST_SOURCES);
    let sources: BTreeSet<IpAddr> = filter.source[..told].iter().filter_map(address).collect();
    Some(if filter.mode == MCAST_EXCLUDE { Hold::AllBut(sources) } else { Hold::Only(sources) })
}

/// The level of the options about a group.
fn level(group: IpAddr) -> libc::c_int {
    if group.is_ipv6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP }
}

/// Whether a socket hears the groups that others have joined.
pub(super) fn hears_all(socket: &OwnedFd, group: IpAddr) -> Option<bool> {
    const IP_MULTICAST_ALL: libc::c_int = 49;
    const IPV6_MULTICAST_ALL: libc::c_int = 29;
    let option = if group.is_ipv6() { IPV6_MULTICAST_ALL } else { IP_MULTICAST_ALL };
    let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    let pointer = std::ptr::from_mut(&mut value).cast();
    // SAFETY: the kernel writes at most the four bytes of the value.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level(group), option, pointer, &mut length) };
    (done == 0).then_some(value != 0)
}

fn storage(address: IpAddr) -> libc::sockaddr_storage {
    // SAFETY: all zeros is a valid sockaddr_storage, which is large and aligned enough for the address of either family.
    unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        match address {
            IpAddr::V4(address) => {
                let named = &mut *std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>();
                named.sin_family = libc::AF_INET as u16;
                named.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
            }
            IpAddr::V6(address) => {
                let named = &mut *std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>();
                named.sin6_family = libc::AF_INET6 as u16;
                named.sin6_addr.s6_addr = address.octets();
            }
        }
        storage
    }
}

fn address(storage: &libc::sockaddr_storage) -> Option<IpAddr> {
    let pointer = std::ptr::from_ref(storage);
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage is large and aligned enough for a sockaddr_in, of which any bytes are one.
            let named = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            Some(IpAddr::from(named.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: the same of a sockaddr_in6.
            let named = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            Some(IpAddr::from(named.sin6_addr.s6_addr))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_proc_name_inodes() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        assert_eq!(socket_inode("/dev/null"), None);
    }

    #[test]
    fn a_socket_of_our_own_is_found_with_its_buffer() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        let found = of_port(port, Ipv4Addr::new(239, 1, 1, 1).into()).expect("sock_diag");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].socket.address, Ipv4Addr::LOCALHOST);
        assert!(found[0].socket.buffer_bytes > 1000, "{found:?}");
        let fd: OwnedFd = socket.into();
        assert_eq!(membership(&fd, 1, Ipv4Addr::new(239, 1, 1, 1).into()), Some(Hold::No));
    }

    #[test]
    fn a_membership_is_told_with_its_sources() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
        let (group, source) = (Ipv4Addr::new(239, 1, 1, 9), Ipv4Addr::new(10, 9, 9, 9));
        let joined = socket.join_ssm_v4(&source, &group, &Ipv4Addr::LOCALHOST);
        joined.expect("lo can be joined on");
        let fd: OwnedFd = socket.into();
        assert_eq!(membership(&fd, 1, group.into()), Some(Hold::Only(BTreeSet::from([source.into()]))));
    }

    #[test]
    fn a_socket_of_ipv6_is_asked_in_its_own_words() {
        let socket = std::net::UdpSocket::bind("[::1]:0").expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        let group: Ipv6Addr = "ff3e::1".parse().expect("a group");
        let found = of_port(port, group.into()).expect("sock_diag");
        assert_eq!(found.iter().map(|found| found.socket.address).collect::<Vec<_>>(), [Ipv6Addr::LOCALHOST]);
        assert!(of_port(port, Ipv4Addr::new(239, 1, 1, 1).into()).expect("sock_diag").is_empty());
        socket.join_multicast_v6(&group, 1).expect("lo can be joined on");
        let fd: OwnedFd = socket.into();
        assert_eq!(membership(&fd, 1, group.into()), Some(Hold::AllBut(BTreeSet::new())));
        assert_eq!(membership(&fd, 1, "ff3e::2".parse().expect("a group")), Some(Hold::No));
        assert_eq!(hears_all(&fd, group.into()), Some(true));
    }
}
