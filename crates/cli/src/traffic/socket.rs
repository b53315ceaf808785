//! Ordinary UDP sockets, as any program would use: for traffic that tests the relay from outside.

use std::collections::HashMap;
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use mcr_model::{DscpRule, Input, InterfaceName, Output, Oversize, Prefix, SourceRule, Span, TtlRule};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::source;
use crate::failure::Failure;

/// What a listener asks the kernel to hold for it: a tenth of a second at 300 Mbit/s.
const RECEIVE_BUFFER_BYTES: libc::c_int = 8 << 20;

/// A socket that sends to where `output` says, as it says.
pub(crate) fn sending(output: &Output) -> Result<UdpSocket, Failure> {
    let Output { interface, target, port, span, source, source_port, ttl, dscp, vlan, priority: _, oversize, caps } =
        output;
    refuse_range(*span)?;
    refuse_vlan(interface, vlan.is_some())?;
    if !caps.is_none() {
        return Err(Failure::usage("a sender has no cap; write how fast it sends as --rate"));
    }
    let socket = open(interface, target.ip())?;
    let failed = |what: &str, error: &io::Error| Failure::failed(format!("cannot {what}: {error}"));
    let source = match source {
        SourceRule::OfInterface => unspecified(target.ip()),
        SourceRule::Set(source) => *source,
        SourceRule::Own(_) => {
            return Err(Failure::usage("a sender adds no address to an interface; leave own-source out"));
        }
        SourceRule::Keep => return Err(nothing_to_keep("source")),
    };
    let TtlRule::Set(ttl) = ttl else { return Err(nothing_to_keep("ttl")) };
    let local = SocketAddr::new(source, source_port.map_or(0, |port| port.get()));
    bind_source(&socket, local).map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => Failure::failed(format!(
            "{} is no address of this host; to send as if it were, run as root (CAP_NET_RAW), or leave it out",
            local.ip()
        )),
        _ => bind_failure(local, interface, &error),
    })?;
    let ttl = ttl.get().into();
    let set_ttl = match target.ip() {
        IpAddr::V4(_) => socket.set_ttl_v4(ttl).and_then(|()| socket.set_multicast_ttl_v4(ttl)),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl).and_then(|()| socket.set_multicast_hops_v6(ttl)),
    };
    set_ttl.map_err(|error| failed("set the time to live", &error))?;
    match dscp {
        DscpRule::Keep => {}
        DscpRule::Set(dscp) => {
            // The code point is the upper six bits of the byte (RFC 2474).
            let class = u32::from(dscp.get()) << 2;
            let set = match target.ip() {
                IpAddr::V4(_) => socket.set_tos_v4(class),
                IpAddr::V6(_) => socket.set_tclass_v6(class),
            };
            set.map_err(|error| failed("set the DSCP", &error))?;
        }
        DscpRule::Map(_) => return Err(nothing_to_keep("dscp")),
    }
    set_fragments(&socket, target.ip(), *oversize)
        .map_err(|error| failed("say whether fragments may be sent", &error))?;
    let family = family(target.ip());
    let to = SocketAddr::new(target.ip(), port.get());
    socket.connect(&to.into()).map_err(|error| {
        Failure::failed(format!(
            "cannot send to {to} on {interface}: {error}; is {interface} up, with an {family} address? `ip address show {interface}` tells"
        ))
    })?;
    // The kernel would send from the unspecified address, and every receiver drop it.
    if matches!(socket.local_addr().map(|local| local.as_socket()), Ok(Some(local)) if local.ip().is_unspecified()) {
        return Err(Failure::failed(format!(
            "{interface} has no {family} address to send from; add one with `ip address add ADDRESS/PREFIX dev {interface}`"
        )));
    }
    Ok(socket.into())
}

/// The failure of an option that only makes sense where something arrives.
fn nothing_to_keep(option: &str) -> Failure {
    Failure::usage(format!(
        "{option}: a sender has no packet whose {option} could be kept; give a value, or leave it out"
    ))
}

/// An address that this host does not have is taken as if it were one (IP_TRANSPARENT), which needs CAP_NET_RAW or CAP_NET_ADMIN:
/// so a host plays a device whose address nobody has a route to.
fn bind_source(socket: &Socket, local: SocketAddr) -> io::Result<()> {
    match socket.bind(&local.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            // What is refused is the address; that it could be allowed is said with it.
            let set = match local {
                SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
                SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
            };
            set.map_err(|_| error)?;
            socket.bind(&local.into())
        }
        done => done,
    }
}

/// Unless fragments were asked for, a datagram that does not fit must fail here: what is counted is a packet each.
fn set_fragments(socket: &Socket, target: IpAddr, oversize: Oversize) -> io::Result<()> {
    let (discovery, forbid) = match oversize {
        Oversize::Drop => (libc::IP_PMTUDISC_DO, 1),
        Oversize::Fragment => (libc::IP_PMTUDISC_DONT, 0),
    };
    match target {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &discovery),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, &forbid),
    }
}

fn unspecified(of_family: IpAddr) -> IpAddr {
    match of_family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A socket has one port, and several groups are several sockets.
fn refuse_range(span: Span) -> Result<(), Failure> {
    match span.is_one() {
        true => Ok(()),
        false => Err(Failure::usage(
            "prefixes and ranges of ports are for relays; write several groups as 239.1.1.1+100, and one port",
        )),
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// A socket that receives what `input` says; the group is joined when it returns.
pub(crate) fn listening(input: &Input) -> Result<UdpSocket, Failure> {
    let Input { interface, target, port, span, sources: listed, excluded, vlan } = input;
    refuse_range(*span)?;
    if !excluded.is_empty() {
        return Err(Failure::usage("a listener hears every source or those it names; leave exclude out"));
    }
    let sources = input.joined_sources();
    if sources.len() < listed.len() {
        return Err(Failure::usage("a listener names its sources one by one; leave prefixes out"));
    }
    refuse_vlan(interface, vlan.is_some())?;
    let socket = open(interface, target.ip())?;
    // Several listeners of one group are normal, on one host too.
    socket.set_reuse_address(true).map_err(|error| Failure::failed(format!("cannot share the port: {error}")))?;
    hold_much(&socket);
    let local = SocketAddr::new(target.ip(), port.get());
    socket.bind(&local.into()).map_err(|error| bind_failure(local, interface, &error))?;
    if target.is_group() {
        let joined = index(interface).and_then(|index| match target.ip() {
            _ if !sources.is_empty() => {
                sources.iter().try_for_each(|from| source::join(&socket, index, target.ip(), *from))
            }
            IpAddr::V4(group) => socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index)),
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
        });
        joined.map_err(|error| join_failure(input, &error))?;
    }
    Ok(socket.into())
}

/// Sockets that join all groups of these ranges on these interfaces and receive nothing; the groups are left with them.
pub(crate) fn probing(interfaces: &[&str], ranges: &[Prefix]) -> Result<Vec<Socket>, Failure> {
    const MOST_GROUPS: u64 = 1024;
    /// What a socket may join where nobody changed `net.ipv4.igmp_max_memberships`.
    const SOCKET_GROUPS: usize = 20;
    let mut groups = Vec::new();
    for range in ranges {
        let (first, last) =
            range.ipv4_range().filter(|(first, last)| first.is_multicast() && last.is_multicast()).ok_or_else(
                || Failure::usage(format!("--probe-groups {range}: these are no IPv4 groups; they begin at 224.0.0.0")),
            )?;
        if u64::from(last.to_bits() - first.to_bits()) + groups.len() as u64 >= MOST_GROUPS {
            return Err(Failure::usage(format!(
                "--probe-groups {range}: more than {MOST_GROUPS} groups; probe in parts"
            )));
        }
        groups.extend((first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits));
    }
    let mut sockets = Vec::new();
    for interface in interfaces {
        let name: InterfaceName =
            interface.parse().map_err(|error| Failure::failed(format!("{interface}: {error}")))?;
        for some in groups.chunks(SOCKET_GROUPS) {
            let socket = open(&name, Ipv4Addr::UNSPECIFIED.into())?;
            let join = |group: &Ipv4Addr| {
                let index = InterfaceIndexOrAddress::Index(index(&name)?);
                socket.join_multicast_v4_n(group, &index)
            };
            some.iter().try_for_each(join).map_err(|error| {
                Failure::failed(format!(
                    "cannot join on {name}: {error}; probe fewer groups or raise net.ipv4.igmp_max_memberships"
                ))
            })?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Packets that arrived for each of these while its buffer was full: lost by the listener, not on the way.
pub(crate) fn own_drops(sockets: &[UdpSocket]) -> Vec<Option<u64>> {
    // Columns of `net/ipv4/udp.c`, udp4_format_sock, and the same of IPv6: the inode is the tenth, drops the last.
    let tables = ["udp", "udp6"].map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")));
    let tables = tables.map(Result::unwrap_or_default);
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        Some((columns.get(9)?.parse::<u64>().ok()?, columns.last()?.parse::<u64>().ok()?))
    };
    let drops: HashMap<u64, u64> = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(row).collect();
    let inode = |socket: &UdpSocket| {
        Some(std::fs::File::from(socket.as_fd().try_clone_to_owned().ok()?).metadata().ok()?.ino())
    };
    sockets.iter().map(|socket| drops.get(&inode(socket)?).copied()).collect()
}

/// Which of these have something to read, after `at_most` at the latest.
pub(crate) fn readable(sockets: &[UdpSocket], at_most: Duration) -> Vec<usize> {
    let poll = |socket: &UdpSocket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polls: Vec<libc::pollfd> = sockets.iter().map(poll).collect();
    let milliseconds = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: the array has as many entries as are told, and lives through the call.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, milliseconds) };
    polls.iter().enumerate().filter(|(_, poll)| poll.revents != 0).map(|(index, _)| index).collect()
}

/// The soft limit on open files is 1,024 by tradition, for select(2), which is not used here.
pub(crate) fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` outlives the call. Without more files a socket that is one too many says so.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Bound to the device rather than to an address: works without a route and without an address, and no packet of
/// another interface is mistaken for one of this.
fn open(interface: &InterfaceName, of_family: IpAddr) -> Result<Socket, Failure> {
    let domain = if of_family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
        .map_err(|error| Failure::failed(format!("cannot open a UDP socket: {error}")))?;
    socket.bind_device(Some(interface.as_str().as_bytes())).map_err(|error| {
        Failure::failed(match error.raw_os_error() {
            Some(libc::ENODEV) => format!("there is no interface {interface}; `ip link` lists those that there are"),
            _ => format!("cannot use {interface}: {error}"),
        })
    })?;
    Ok(socket)
}

fn refuse_vlan(interface: &InterfaceName, given: bool) -> Result<(), Failure> {
    if given {
        return Err(Failure::failed(format!(
            "an ordinary socket can't choose a VLAN tag; name the VLAN's own interface, as {interface}.100, instead of vlan="
        )));
    }
    Ok(())
}

/// As much as the administrator allows; past that only with CAP_NET_ADMIN, which may be missing.
fn hold_much(socket: &Socket) {
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER_BYTES).is_err() {
        // Clipped at net.core.rmem_max and never refused; what it costs is told by `own_drops`.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES as usize);
    }
}

fn join_failure(input: &Input, error: &io::Error) -> Failure {
    let Input { interface, target, .. } = input;
    let why = match (error.raw_os_error(), error.kind()) {
        (Some(libc::ENOBUFS), _) if input.sources.is_empty() => {
            "the kernel allows no more memberships; raise net.ipv4.igmp_max_memberships".to_owned()
        }
        (Some(libc::ENOBUFS), _) => {
            "the kernel allows no more sources of one group; name fewer or raise net.ipv4.igmp_max_msf".to_owned()
        }
        (Some(libc::ENODEV), _) => format!("{interface} is gone or takes no multicast; `ip link` shows it"),
        _ => error.to_string(),
    };
    Failure::failed(format!("cannot join {target} on {interface}: {why}"))
}

fn bind_failure(local: SocketAddr, interface: &InterfaceName, error: &io::Error) -> Failure {
    let ip = local.ip();
    Failure::failed(match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!("{ip} is no address of this host; leave it out or add it: `ip address add {ip} dev {interface}`")
        }
        io::ErrorKind::AddrInUse => {
            format!("port {} is used by a program that does not share it; `ss -ulnp` shows which", local.port())
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission to use port {}; use one from 1024 on or run as root", local.port())
        }
        _ => format!("cannot use {local}: {error}"),
    })
}

/// The number of an interface.
pub(crate) fn index(interface: &InterfaceName) -> io::Result<u32> {
    let name = std::ffi::CString::new(interface.as_str())?;
    // SAFETY: `name` is a C string that outlives the call, which only reads it.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel reads `length` bytes of `value`.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
