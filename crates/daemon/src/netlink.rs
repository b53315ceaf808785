//! What the kernel says of interfaces, addresses, routes and neighbours (rtnetlink, `man 7 rtnetlink`).
//!
//! Reading needs no privilege. An event about a link or an address only says "look again": a whole new picture is
//! taken then, so that a lost event can't leave a wrong one.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use mcr_engine::{HostAddress, Ifindex, InterfaceFacts, Lasting, Neighbour, Standing};
use mcr_netd::ADDRESS_MAKER;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Multicast groups of rtnetlink, `include/uapi/linux/rtnetlink.h`.
mod group {
    pub(super) const LINK: u32 = 1;
    pub(super) const NEIGHBOUR: u32 = 3;
    pub(super) const IPV4_ADDRESS: u32 = 5;
    pub(super) const IPV4_ROUTE: u32 = 7;
    pub(super) const IPV6_ADDRESS: u32 = 9;
    pub(super) const IPV6_ROUTE: u32 = 11;

    pub(super) const ALL: [u32; 6] = [LINK, NEIGHBOUR, IPV4_ADDRESS, IPV4_ROUTE, IPV6_ADDRESS, IPV6_ROUTE];
}

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Large enough for any one datagram of a dump (the kernel uses at most 32 KiB) and for bursts of events.
const BUFFER_BYTES: usize = 64 * 1024;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Links or addresses: take a new picture.
    Interfaces,
    /// An interface left. Its index may be that of another one, or of the same one again, by the time of the picture.
    Left(Ifindex),
    /// Routes: next hops may differ.
    Routes,
    /// One neighbour.
    Neighbour(Neighbour),
    /// One neighbour, which the kernel has forgotten.
    NeighbourGone(Ifindex, IpAddr),
    /// Events were lost: take a new picture of everything.
    Everything,
}

/// Asks the kernel.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All interfaces with their addresses.
    pub(crate) fn interfaces(&mut self) -> io::Result<Vec<InterfaceFacts>> {
        let mut found: BTreeMap<u32, InterfaceFacts> = BTreeMap::new();
        for answer in self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                found.extend(interface(&link).map(|facts| (facts.index.0, facts)));
            }
        }
        for family in FAMILIES {
            let mut request = AddressMessage::default();
            request.header.family = family;
            for answer in self.dump(RouteNetlinkMessage::GetAddress(request))? {
                if let RouteNetlinkMessage::NewAddress(message) = answer
                    && let Some(facts) = found.get_mut(&message.header.index)
                {
                    add_address(facts, &message);
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// All neighbours that have a link-layer address.
    pub(crate) fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let mut found = Vec::new();
        for family in FAMILIES {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            let answers = self.dump(RouteNetlinkMessage::GetNeighbour(request))?;
            found.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(message) => neighbour(&message),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// The neighbour that carries packets from `interface` to `destination`: a router, or the host itself.
    pub(crate) fn next_hop(&mut self, interface: Ifindex, destination: IpAddr) -> io::Result<IpAddr> {
        let mut request = RouteMessage::default();
        let to = match destination {
            IpAddr::V4(address) => (AddressFamily::Inet, 32, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(address)),
        };
        let (family, prefix_length, to) = to;
        request.header.address_family = family;
        request.header.destination_prefix_length = prefix_length;
        // Without this the kernel takes a host that it has no route to for one on the link, because an interface is
        // named (`net/ipv4/route.c`, ip_route_output_key_hash_rcu).
        request.header.flags = RouteFlags::FibMatch;
        request.attributes.push(RouteAttribute::Destination(to));
        request.attributes.push(RouteAttribute::Oif(interface.0));
        let answers = self.ask(RouteNetlinkMessage::GetRoute(request), NLM_F_REQUEST)?;
        let Some(RouteNetlinkMessage::NewRoute(route)) = answers.into_iter().next() else {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        };
        if route.header.kind != RouteType::Unicast {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        let gateway = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(IpAddr::V4(*gateway)),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
            _ => None,
        });
        Ok(gateway.unwrap_or(destination))
    }

    fn dump(&mut self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.ask(request, NLM_F_REQUEST | NLM_F_DUMP)
    }

    /// Sends `request` and collects its answers.
    fn ask(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        packet.header.flags = flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram) {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return error.code.map_or(Ok(answers), |_| Err(error.to_io()));
                    }
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
                if flags & NLM_F_DUMP != NLM_F_DUMP {
                    return Ok(answers);
                }
            }
        }
    }
}

/// Hears what changes.
pub(crate) struct Monitor {
    socket: Socket,
}

impl Monitor {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_rx_buf_sz(BUFFER_BYTES as libc::c_int * 16)?;
        for group in group::ALL {
            socket.add_membership(group)?;
        }
        Ok(Self { socket })
    }

    /// Waits for the next datagram and says what it changed.
    ///
    /// # Errors
    /// Only those of a socket that is of no more use; lost events are [`Change::Everything`].
    pub(crate) fn next(&self) -> io::Result<Vec<Change>> {
        match self.socket.recv_from_full() {
            Ok((datagram, _)) => Ok(messages(&datagram).iter().filter_map(change).collect()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(vec![Change::Everything]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The messages of a datagram. One that is not understood is passed over: a kernel that says something new of one
/// interface must not make the daemon deaf for all of them.
fn messages(datagram: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Ok(next) = NetlinkBuffer::new_checked(rest) {
        let length = next.length() as usize;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
            Ok(message) => found.push(message),
            Err(error) => {
                tracing::warn!(%error, kind = next.message_type(), "a message of the kernel is not understood")
            }
        }
        // Messages start at multiples of four bytes (NLMSG_ALIGNTO).
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn change(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(inner) = &message.payload else { return None };
    match inner {
        // One with a family only left a bridge.
        RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            Some(Change::Left(Ifindex(link.header.index)))
        }
        RouteNetlinkMessage::NewLink(_)
        | RouteNetlinkMessage::DelLink(_)
        | RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_) => Some(Change::Interfaces),
        RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => Some(Change::Routes),
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(message).map(Change::Neighbour),
        RouteNetlinkMessage::DelNeighbour(message) => {
            neighbour(message).map(|gone| Change::NeighbourGone(gone.interface, gone.address))
        }
        _ => None,
    }
}

fn interface(link: &LinkMessage) -> Option<InterfaceFacts> {
    let mut name = None;
    let mut mac = [0; 6];
    let (mut mtu, mut queueing) = (0, String::new());
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text.parse().ok(),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(&bytes[..]).unwrap_or_default(),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::Qdisc(text) => queueing.clone_from(text),
            _ => {}
        }
    }
    let flags = link.header.flags;
    Some(InterfaceFacts {
        index: Ifindex(link.header.index),
        name: name?,
        mac,
        mtu,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        // The loopback carries it, too, and does not say so.
        multicast: flags.contains(LinkFlags::Multicast) || flags.contains(LinkFlags::Loopback),
        ethernet: matches!(link.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        queueing,
        addresses: Vec::new(),
    })
}

/// The kernel lists the addresses of an interface with the primary ones before the secondary ones in IPv4, and from the
/// newest to the oldest in IPv6, where the oldest should come first: what is used must not change with each new one.
fn add_address(facts: &mut InterfaceFacts, message: &AddressMessage) {
    let mut ip = None;
    let is_of_a_relay = is_of_a_relay(message);
    for attribute in &message.attributes {
        match attribute {
            // Of a link with one peer `Address` is the peer's.
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            _ => {}
        }
    }
    let Some(ip) = ip else { return };
    let prefix_length = message.header.prefix_len;
    match ip {
        IpAddr::V4(_) => {
            let lasting = if is_of_a_relay { Lasting::WithRelay } else { Lasting::Permanent };
            facts.addresses.push(HostAddress { lasting, ..(ip, prefix_length).into() });
        }
        IpAddr::V6(_) => {
            let flags = message.header.flags;
            let lasting = if is_of_a_relay { Lasting::WithRelay } else { lasting(flags) };
            let address = HostAddress { ip, prefix_length, standing: standing(flags), lasting };
            let first = facts.addresses.iter().take_while(|address| address.ip.is_ipv4()).count();
            facts.addresses.insert(first, address);
        }
    }
}

/// Whether a keeper has added it. The kernel tells who made an address since Linux 5.18; before, it is known by everything else
/// that a keeper gives it and that nobody else gives together: a metric for a route that is not made, and of IPv4 the scope,
/// of IPv6 that it is deprecated.
fn is_of_a_relay(message: &AddressMessage) -> bool {
    let header = &message.header;
    let (mut flags, mut has_metric) = (AddressFlags::empty(), false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Protocol(maker) => return u8::from(*maker) == ADDRESS_MAKER,
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::RoutePriority(_) => has_metric = true,
            _ => {}
        }
    }
    let is_alone = match header.family {
        AddressFamily::Inet => header.prefix_len == 32 && header.scope == AddressScope::Host,
        _ => header.prefix_len == 128 && flags.contains(AddressFlags::Deprecated),
    };
    is_alone && has_metric && flags.contains(AddressFlags::Noprefixroute)
}

/// Of an IPv6 address. One that is taken for granted (RFC 4429) may be used while it is checked.
fn standing(flags: AddressHeaderFlags) -> Standing {
    if flags.contains(AddressHeaderFlags::Dadfailed) {
        Standing::Duplicate
    } else if flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic) {
        Standing::Tentative
    } else if flags.contains(AddressHeaderFlags::Deprecated) {
        Standing::Deprecated
    } else {
        Standing::Good
    }
}

/// The bit that says "secondary" in IPv4 says "temporary" in IPv6 (`include/uapi/linux/if_addr.h`).
fn lasting(flags: AddressHeaderFlags) -> Lasting {
    if flags.contains(AddressHeaderFlags::Secondary) { Lasting::Temporary } else { Lasting::Permanent }
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLocalAddress(bytes) => mac = <[u8; 6]>::try_from(&bytes[..]).ok(),
            _ => {}
        }
    }
    let resolved = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let interface = Ifindex(message.header.ifindex);
    Some(Neighbour { interface, address: address?, mac: mac.filter(|_| resolved) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, attributes: Vec<LinkAttribute>) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = attributes;
        bytes(RouteNetlinkMessage::DelLink(link))
    }

    fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_message_that_is_not_understood_costs_no_other() {
        let mut strange = link(3, vec![LinkAttribute::Mtu(1500)]);
        // IFLA_MTU, two bytes long: four of the message's are gone, and it says so.
        let length = strange.len() as u32 - 2;
        strange[..4].copy_from_slice(&length.to_ne_bytes());
        let attribute = strange.len() - 8;
        strange[attribute..attribute + 2].copy_from_slice(&6_u16.to_ne_bytes());
        assert!(NetlinkMessage::<RouteNetlinkMessage>::deserialize(&strange).is_err(), "it is understood after all");
        let datagram = [link(2, vec![]), strange, link(4, vec![])].concat();
        let changes: Vec<Change> = messages(&datagram).iter().filter_map(change).collect();
        assert_eq!(changes, [Change::Left(Ifindex(2)), Change::Left(Ifindex(4))]);
    }

    #[test]
    fn leaving_a_bridge_is_not_leaving() {
        let mut link = LinkMessage::default();
        link.header.index = 7;
        link.header.interface_family = AddressFamily::Bridge;
        let datagram = bytes(RouteNetlinkMessage::DelLink(link));
        let changes: Vec<Change> = messages(&datagram).iter().filter_map(change).collect();
        assert_eq!(changes, [Change::Interfaces]);
    }

    #[test]
    fn what_a_keeper_added_is_known_without_its_maker_too() {
        let own = |scope, flags: AddressFlags, more: &[AddressAttribute]| {
            let mut message = AddressMessage::default();
            (message.header.family, message.header.prefix_len, message.header.scope) = (AddressFamily::Inet, 32, scope);
            message.attributes = [&[AddressAttribute::Flags(flags)], more].concat();
            is_of_a_relay(&message)
        };
        let (none, metric) = (AddressFlags::Noprefixroute, AddressAttribute::RoutePriority(9));
        let maker = |maker: u8| AddressAttribute::Protocol(maker.into());
        assert!(own(AddressScope::Host, none, std::slice::from_ref(&metric)));
        assert!(own(AddressScope::Host, none, &[metric.clone(), maker(ADDRESS_MAKER)]));
        assert!(!own(AddressScope::Host, none, &[metric.clone(), maker(4)]));
        assert!(!own(AddressScope::Host, none, &[]), "somebody wanted no route");
        assert!(!own(AddressScope::Universe, none, std::slice::from_ref(&metric)), "the host's");
        assert!(!own(AddressScope::Host, AddressFlags::Permanent, &[metric]), "it has a route");
    }

    #[test]
    fn any_bytes_end() {
        for length in 0..64 {
            for fill in [0, 1, 16, 0xff] {
                messages(&vec![fill; length]);
            }
        }
    }
}
