//! Memberships of groups, spread over as many sockets as the kernel's limits per socket ask for.
//!
//! `net.ipv4.igmp_max_memberships` (20) bounds the groups of one socket and
//! `net.ipv4.igmp_max_msf` (10) the sources of one group on one socket; the interface reports the
//! union of what its sockets want (RFC 3376 section 3.2; `net/ipv4/igmp.c`). The limits are not read:
//! a socket is full when the kernel says so, until something on it is left.
//!
//! The sockets are bound to no port, so no datagram is ever queued at them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::channel::{open_socket, set_option};

/// Every membership, and the sockets that hold them.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    joined: BTreeMap<Joined, Legs>,
    /// The legs of all groups.
    legs: usize,
    sockets: BTreeMap<SocketId, MembershipSocket>,
    last_socket: u32,
}

/// A group on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Joined {
    pub(crate) interface: u32,
    pub(crate) group: IpAddr,
}

/// Which socket holds which source of a group; `None` is the membership for any source.
type Legs = BTreeMap<Option<IpAddr>, SocketId>;

/// Later sockets have higher numbers, so that the one with room is looked at first.
type SocketId = u32;

#[derive(Debug)]
struct MembershipSocket {
    socket: OwnedFd,
    family: Family,
    /// How many legs of each group this holds.
    groups: BTreeMap<Joined, Holding>,
    room: Room,
}

#[derive(Debug, Clone, Copy)]
struct Holding {
    legs: usize,
    kind: Kind,
}

/// A socket has a group either for any source or for listed ones, never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AnySource,
    ListedSources,
}

/// Whether the kernel refused one more group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Perhaps,
    None,
}

/// The family of a group, and with it the protocol that tells of it: IGMP or MLD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, with IGMP.
    V4,
    /// IPv6, with MLD.
    V6,
}

impl Memberships {
    /// Joins a group for these sources, or for any when there are none. What is joined already
    /// stays without a gap; sources that are not named any more are left after the new are joined.
    ///
    /// On an error everything is as it was, in the kernel too.
    pub(crate) fn join(&mut self, joined: Joined, sources: &[IpAddr]) -> io::Result<()> {
        let wanted = wanted(sources);
        let had = self.joined.get(&joined).cloned().unwrap_or_default();
        let mut legs = had.clone();
        for source in wanted.iter().filter(|source| !had.contains_key(source)) {
            match self.add(joined, *source, &legs) {
                Ok(socket) => {
                    legs.insert(*source, socket);
                }
                Err(error) => {
                    legs.retain(|source, _| !had.contains_key(source));
                    self.drop_legs(joined, legs);
                    return Err(error);
                }
            }
        }
        let surplus = legs.extract_if(.., |source, _| !wanted.contains(source)).collect();
        self.legs = self.legs - had.len() + legs.len();
        self.joined.insert(joined, legs);
        self.drop_legs(joined, surplus);
        Ok(())
    }

    /// Leaves a group; it is no error when it is not joined.
    pub(crate) fn leave(&mut self, joined: Joined) {
        if let Some(legs) = self.joined.remove(&joined) {
            self.legs -= legs.len();
            self.drop_legs(joined, legs);
        }
    }

    /// Leaves every group: closing a socket would, but another process may have a descriptor of it.
    pub(crate) fn clear(&mut self) {
        for (joined, legs) in std::mem::take(&mut self.joined) {
            self.drop_legs(joined, legs);
        }
        self.legs = 0;
    }

    /// The sockets that keep the groups joined, each with a number of its own.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.sockets.iter().map(|(id, socket)| (*id, socket.socket.as_fd()))
    }

    /// How many memberships there are beside those of that group; each source counts as one.
    pub(crate) fn count_beside(&self, joined: Joined) -> usize {
        self.legs - self.joined.get(&joined).map_or(0, Legs::len)
    }

    /// Every membership with its sources, none for any source.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Joined, Vec<IpAddr>)> {
        self.joined.iter().map(|(joined, legs)| (*joined, legs.keys().copied().flatten().collect()))
    }

    /// The groups that are joined on one interface.
    pub(crate) fn on(&self, interface: u32) -> impl Iterator<Item = Joined> {
        let from = Joined { interface, group: Ipv4Addr::UNSPECIFIED.into() };
        self.joined.range(from..).map(|(joined, _)| *joined).take_while(move |joined| joined.interface == interface)
    }

    /// Finds a socket that takes this leg: first one that has the group already, then one with
    /// room, then a new one.
    fn add(&mut self, joined: Joined, source: Option<IpAddr>, legs: &Legs) -> io::Result<SocketId> {
        let siblings: BTreeSet<SocketId> = legs.values().copied().collect();
        for id in siblings.into_iter().rev() {
            if self.takes(id, joined, source)? {
                return Ok(id);
            }
        }
        for id in self.with_room(joined) {
            if self.takes(id, joined, source)? {
                return Ok(id);
            }
        }
        let family = Family::of(joined.group);
        let mut socket = MembershipSocket::open(family)?;
        socket.add(joined, source)?;
        self.last_socket += 1;
        self.sockets.insert(self.last_socket, socket);
        Ok(self.last_socket)
    }

    /// Joins on this socket unless it is full or has the group in another way; says whether it did.
    fn takes(&mut self, id: SocketId, joined: Joined, source: Option<IpAddr>) -> io::Result<bool> {
        let Some(socket) = self.sockets.get_mut(&id) else { return Ok(false) };
        if socket.groups.get(&joined).is_some_and(|holding| holding.kind != Kind::of(source)) {
            return Ok(false);
        }
        match socket.add(joined, source) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The sockets that may take one more group, and do not have this one.
    fn with_room(&self, joined: Joined) -> Vec<SocketId> {
        let family = Family::of(joined.group);
        let open = self.sockets.iter().rev().filter(|(_, socket)| {
            socket.room == Room::Perhaps && socket.family == family && !socket.groups.contains_key(&joined)
        });
        open.map(|(id, _)| *id).collect()
    }

    fn drop_legs(&mut self, joined: Joined, legs: Legs) {
        for (source, id) in legs {
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            socket.remove(joined, source);
            if socket.groups.is_empty() {
                self.sockets.remove(&id);
            }
        }
    }
}

/// How many memberships a join for these sources counts as.
pub(crate) fn count(sources: &[IpAddr]) -> usize {
    wanted(sources).len()
}

/// The legs that a join is made of.
fn wanted(sources: &[IpAddr]) -> BTreeSet<Option<IpAddr>> {
    match sources {
        [] => [None].into(),
        sources => sources.iter().copied().map(Some).collect(),
    }
}

impl MembershipSocket {
    fn open(family: Family) -> io::Result<Self> {
        let socket = open_socket(family.domain(), libc::SOCK_DGRAM, 0)?;
        Ok(Self { socket, family, groups: BTreeMap::new(), room: Room::Perhaps })
    }

    fn add(&mut self, joined: Joined, source: Option<IpAddr>) -> io::Result<()> {
        let holding = self.groups.get(&joined).copied();
        match self.change(Change::Join, joined, source) {
            Ok(()) => {
                let legs = holding.map_or(0, |holding| holding.legs) + 1;
                self.groups.insert(joined, Holding { legs, kind: Kind::of(source) });
                Ok(())
            }
            Err(error) => {
                // With the group there it was the list of sources that is full.
                if holding.is_none() && !self.left_empty(joined, source) && is_full(&error) {
                    self.room = Room::None;
                }
                Err(error)
            }
        }
    }

    /// Leaves a group whose first source was refused: the kernel joins the group for no source first, and stays in
    /// it (`net/ipv4/ip_sockglue.c: do_mcast_group_source`). Says whether that was so.
    fn left_empty(&self, joined: Joined, source: Option<IpAddr>) -> bool {
        source.is_some() && self.change(Change::Leave, joined, None).is_ok()
    }

    /// The kernel refuses to take a source from an interface that is gone; leaving the whole group
    /// works there. Nothing else can fail about a membership that exists.
    fn remove(&mut self, joined: Joined, source: Option<IpAddr>) {
        if self.change(Change::Leave, joined, source).is_err() && source.is_some() {
            let _ = self.change(Change::Leave, joined, None);
        }
        self.room = Room::Perhaps;
        if let Some(holding) = self.groups.get_mut(&joined) {
            holding.legs -= 1;
            if holding.legs == 0 {
                self.groups.remove(&joined);
            }
        }
    }

    fn change(&self, change: Change, joined: Joined, source: Option<IpAddr>) -> io::Result<()> {
        let Joined { interface, group } = joined;
        let group = SocketAddress::from(group);
        let (socket, level) = (self.socket.as_fd(), self.family.level());
        match source {
            None => {
                let option = match change {
                    Change::Join => libc::MCAST_JOIN_GROUP,
                    Change::Leave => libc::MCAST_LEAVE_GROUP,
                };
                set_option(socket, level, option, &GroupRequest { interface, group })
            }
            Some(source) => {
                let option = match change {
                    Change::Join => libc::MCAST_JOIN_SOURCE_GROUP,
                    Change::Leave => libc::MCAST_LEAVE_SOURCE_GROUP,
                };
                let source = SocketAddress::from(source);
                set_option(socket, level, option, &GroupSourceRequest { interface, group, source })
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Join,
    Leave,
}

/// `struct group_req` (`include/uapi/linux/in.h`), host order but for the address.
#[repr(C)]
struct GroupRequest {
    interface: u32,
    group: SocketAddress,
}

/// `struct group_source_req`.
#[repr(C)]
struct GroupSourceRequest {
    interface: u32,
    group: SocketAddress,
    source: SocketAddress,
}

/// `struct sockaddr_storage` with the layout of `sockaddr_in` or `sockaddr_in6`: family in host
/// order, then 2 bytes of port, then for IPv4 the address, for IPv6 4 bytes of flow and the address.
#[repr(C, align(8))]
struct SocketAddress {
    family: u16,
    data: [u8; 126],
}

const _: () = assert!(size_of::<SocketAddress>() == size_of::<libc::sockaddr_storage>());
const _: () = assert!(size_of::<GroupRequest>() == 136);
const _: () = assert!(size_of::<GroupSourceRequest>() == 264);

impl From<IpAddr> for SocketAddress {
    fn from(address: IpAddr) -> Self {
        let mut data = [0; 126];
        let family = match address {
            IpAddr::V4(address) => {
                data[2..6].copy_from_slice(&address.octets());
                libc::AF_INET
            }
            IpAddr::V6(address) => {
                data[6..22].copy_from_slice(&address.octets());
                libc::AF_INET6
            }
        };
        Self { family: family as u16, data }
    }
}

impl Kind {
    fn of(source: Option<IpAddr>) -> Self {
        match source {
            None => Self::AnySource,
            Some(_) => Self::ListedSources,
        }
    }
}

impl Family {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    fn domain(self) -> libc::c_int {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }

    fn level(self) -> libc::c_int {
        match self {
            Self::V4 => libc::IPPROTO_IP,
            Self::V6 => libc::IPPROTO_IPV6,
        }
    }
}

/// `ENOBUFS`: a limit of the socket is reached. `ENOMEM`, as IPv6 says for its option memory.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
