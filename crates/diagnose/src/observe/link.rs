//! Interfaces, addresses, bridges, queues, routes and neighbours (rtnetlink, `man 7 rtnetlink`).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use super::netlink::{Answers, Family, Netlink, attribute, attributes, half, number, text};
use crate::facts::{Bridge, BridgeGroup, Link, Neighbour, Port, Route};

/// Message types and attributes of `include/uapi/linux/rtnetlink.h`, `if_link.h`, `if_bridge.h` and `pkt_sched.h`.
mod uapi {
    pub(super) const RTM_GETLINK: u16 = 18;
    pub(super) const RTM_GETADDR: u16 = 22;
    pub(super) const RTM_GETROUTE: u16 = 26;
    pub(super) const RTM_GETNEIGH: u16 = 30;
    pub(super) const RTM_GETQDISC: u16 = 38;
    pub(super) const RTM_GETMDB: u16 = 86;
    pub(super) const IFLA_ADDRESS: u16 = 1;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_MTU: u16 = 4;
    pub(super) const IFLA_LINK: u16 = 5;
    pub(super) const IFLA_QDISC: u16 = 6;
    pub(super) const IFLA_MASTER: u16 = 10;
    pub(super) const IFLA_LINKINFO: u16 = 18;
    pub(super) const IFLA_STATS64: u16 = 23;
    pub(super) const IFLA_XDP: u16 = 43;
    pub(super) const IFLA_XDP_ATTACHED: u16 = 2;
    pub(super) const IFLA_INFO_KIND: u16 = 1;
    pub(super) const IFLA_INFO_DATA: u16 = 2;
    pub(super) const IFLA_INFO_PORT_DATA: u16 = 5;
    pub(super) const IFLA_VLAN_ID: u16 = 1;
    pub(super) const IFLA_BR_MCAST_SNOOPING: u16 = 23;
    pub(super) const IFLA_BR_MCAST_QUERIER: u16 = 25;
    pub(super) const IFLA_BR_MCAST_QUERIER_STATE: u16 = 47;
    pub(super) const BRIDGE_QUERIER_IP_ADDRESS: u16 = 1;
    pub(super) const BRIDGE_QUERIER_IPV6_ADDRESS: u16 = 5;
    pub(super) const IFLA_BRPORT_MULTICAST_ROUTER: u16 = 25;
    pub(super) const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
    pub(super) const IFA_ADDRESS: u16 = 1;
    pub(super) const IFA_LOCAL: u16 = 2;
    pub(super) const RTA_DST: u16 = 1;
    pub(super) const RTA_OIF: u16 = 4;
    pub(super) const RTA_GATEWAY: u16 = 5;
    pub(super) const RTA_MULTIPATH: u16 = 9;
    pub(super) const NDA_DST: u16 = 1;
    pub(super) const TCA_STATS2: u16 = 7;
    pub(super) const TCA_KIND: u16 = 1;
    pub(super) const TCA_STATS_QUEUE: u16 = 3;
    pub(super) const MDBA_MDB: u16 = 1;
    pub(super) const MDBA_MDB_ENTRY: u16 = 1;
    pub(super) const MDBA_MDB_ENTRY_INFO: u16 = 1;
    pub(super) const RTM_F_FIB_MATCH: u32 = 0x2000;
}

/// Drops so far, by interface: of its queues, and of the device.
pub(super) type Losses = BTreeMap<u32, (u64, u64)>;

/// Every interface, with its addresses.
pub(super) fn links(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    let mut found = BTreeMap::new();
    // struct ifinfomsg: family, pad, type (16 bits), index, flags, change.
    for message in netlink.ask(uapi::RTM_GETLINK, Answers::All, &[0; 16])? {
        let link = link(&message.body);
        found.insert(link.index, link);
    }
    // struct ifaddrmsg: family, prefix length, flags, scope (bytes), index.
    for message in netlink.ask(uapi::RTM_GETADDR, Answers::All, &[libc::AF_UNSPEC as u8, 0, 0, 0, 0, 0, 0, 0])? {
        let prefix = message.body.get(1).copied().unwrap_or_default();
        // Of a link with one peer `IFA_ADDRESS` is the peer's; IPv6 has nothing else where there is no peer.
        let find = |wanted: u16| attributes(&message.body, 8).find(|(kind, _)| *kind == wanted);
        let local = find(uapi::IFA_LOCAL).or_else(|| find(uapi::IFA_ADDRESS));
        if let (Some(link), Some(address)) =
            (found.get_mut(&number(&message.body, 4)), local.and_then(|(_, value)| address(value)))
        {
            link.addresses.push((address, prefix));
        }
    }
    Ok(found.into_values().collect())
}

fn link(body: &[u8]) -> Link {
    let flags = number(body, 8);
    let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut link = Link {
        index: number(body, 4),
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_LOWER_UP),
        multicast: has(libc::IFF_MULTICAST) || has(libc::IFF_LOOPBACK),
        takes_all: has(libc::IFF_PROMISC) || has(libc::IFF_ALLMULTI),
        ..Link::default()
    };
    for (kind, value) in attributes(body, 16) {
        match kind {
            uapi::IFLA_IFNAME => link.name = text(value),
            uapi::IFLA_MTU => link.mtu = number(value, 0),
            uapi::IFLA_ADDRESS => link.mac = value.first_chunk().copied().unwrap_or_default(),
            uapi::IFLA_MASTER => link.master = Some(number(value, 0)),
            uapi::IFLA_LINK => link.parent = Some(number(value, 0)),
            uapi::IFLA_QDISC => link.queue = text(value),
            uapi::IFLA_XDP => {
                link.xdp = attributes(value, 0).any(|(kind, value)| kind == uapi::IFLA_XDP_ATTACHED && value != [0]);
            }
            uapi::IFLA_LINKINFO => add_kind(&mut link, value),
            _ => {}
        }
    }
    if link.kind != "vlan" {
        // Of a veth it is the peer, which may be in another namespace.
        link.parent = None;
    }
    link
}

fn add_kind(link: &mut Link, info: &[u8]) {
    for (kind, value) in attributes(info, 0) {
        match kind {
            uapi::IFLA_INFO_KIND => link.kind = text(value),
            uapi::IFLA_INFO_DATA if link.kind == "bridge" => link.bridge = Some(bridge(value)),
            uapi::IFLA_INFO_DATA if link.kind == "vlan" => {
                link.vlan = attributes(value, 0).find(|(kind, _)| *kind == uapi::IFLA_VLAN_ID).map(|(_, v)| half(v, 0));
            }
            uapi::IFLA_INFO_PORT_DATA => link.port = port(value),
            _ => {}
        }
    }
}

fn bridge(data: &[u8]) -> Bridge {
    let mut bridge = Bridge { snooping: false, asks: false, heard_queriers: Vec::new() };
    for (kind, value) in attributes(data, 0) {
        match kind {
            uapi::IFLA_BR_MCAST_SNOOPING => bridge.snooping = value != [0],
            uapi::IFLA_BR_MCAST_QUERIER => bridge.asks = value != [0],
            uapi::IFLA_BR_MCAST_QUERIER_STATE => {
                let is_address =
                    |kind| matches!(kind, uapi::BRIDGE_QUERIER_IP_ADDRESS | uapi::BRIDGE_QUERIER_IPV6_ADDRESS);
                let addresses = attributes(value, 0).filter(|(kind, _)| is_address(*kind));
                let heard = addresses.filter_map(|(_, value)| address(value)).filter(|ip| !ip.is_unspecified());
                bridge.heard_queriers = heard.collect();
            }
            _ => {}
        }
    }
    bridge
}

/// What stands for a port of a bond has none of these.
fn port(data: &[u8]) -> Option<Port> {
    let find = |wanted: u16| attributes(data, 0).find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec());
    let floods = find(uapi::IFLA_BRPORT_MCAST_FLOOD)? != [0];
    // MDB_RTR_TYPE_PERM is 2, MDB_RTR_TYPE_TEMP 3.
    let router = find(uapi::IFLA_BRPORT_MULTICAST_ROUTER).is_some_and(|value| matches!(value[..], [2 | 3, ..]));
    Some(Port { floods, router })
}

/// What queues and devices have dropped so far.
pub(super) fn losses(netlink: &mut Netlink) -> io::Result<Losses> {
    let mut found = Losses::new();
    for message in netlink.ask(uapi::RTM_GETLINK, Answers::All, &[0; 16])? {
        let stats = attributes(&message.body, 16).find(|(kind, _)| *kind == uapi::IFLA_STATS64);
        let counter = |field: usize| {
            let bytes = stats.and_then(|(_, value)| value.get(field * 8..)?.first_chunk().copied());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        // struct rtnl_link_stats64: rx_over_errors is field 11, rx_fifo_errors 14, rx_missed_errors 15.
        found.insert(number(&message.body, 4), (0, counter(11) + counter(14) + counter(15)));
    }
    // struct tcmsg: family and pads, ifindex, handle, parent, info.
    for message in netlink.ask(uapi::RTM_GETQDISC, Answers::All, &[0; 20])? {
        let parent = number(&message.body, 12);
        let kind = attributes(&message.body, 20).find(|(kind, _)| *kind == uapi::TCA_KIND).map(|(_, v)| text(v));
        let stats = attributes(&message.body, 20).find(|(kind, _)| *kind == uapi::TCA_STATS2);
        let queue = stats.and_then(|(_, v)| attributes(v, 0).find(|(kind, _)| *kind == uapi::TCA_STATS_QUEUE));
        // Only the roots: a root counts what its classes dropped. What `clsact` drops at ingress is no queue's.
        if let (Some((_, value)), true) = (queue, parent == u32::MAX && kind.as_deref() != Some("clsact")) {
            // struct gnet_stats_queue: qlen, backlog, drops.
            found.entry(number(&message.body, 4)).or_default().0 += u64::from(number(value, 8));
        }
    }
    Ok(found)
}

/// The groups that bridges of this host forward.
pub(super) fn bridge_groups(netlink: &mut Netlink) -> io::Result<Vec<BridgeGroup>> {
    // struct br_port_msg: family, pad, ifindex.
    let request = [libc::AF_BRIDGE as u8, 0, 0, 0, 0, 0, 0, 0];
    let answers = match netlink.ask(uapi::RTM_GETMDB, Answers::All, &request) {
        // A kernel without bridges has no groups of them.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        answers => answers?,
    };
    let mut found = Vec::new();
    for message in answers {
        let bridge = number(&message.body, 4);
        for (_, table) in attributes(&message.body, 8).filter(|(kind, _)| *kind == uapi::MDBA_MDB) {
            for (_, entry) in attributes(table, 0).filter(|(kind, _)| *kind == uapi::MDBA_MDB_ENTRY) {
                let infos = attributes(entry, 0).filter(|(kind, _)| *kind == uapi::MDBA_MDB_ENTRY_INFO);
                found.extend(infos.filter_map(|(_, info)| bridge_group(bridge, info)));
            }
        }
    }
    Ok(found)
}

/// `struct br_mdb_entry`: ifindex, state, flags, VLAN (16 bits), then the address (16 bytes) and its protocol, network order.
fn bridge_group(bridge: u32, info: &[u8]) -> Option<BridgeGroup> {
    let protocol = u16::from_be_bytes(*info.get(24..)?.first_chunk()?);
    let group = match i32::from(protocol) {
        libc::ETH_P_IP => address(info.get(8..12)?)?,
        libc::ETH_P_IPV6 => address(info.get(8..24)?)?,
        _ => return None,
    };
    Some(BridgeGroup { bridge, port: number(info, 0), group })
}

/// Where the kernel would send a packet to `address`, from any interface or out of one.
pub(super) fn route(netlink: &mut Netlink, address: IpAddr, out: Option<u32>) -> Route {
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
    let bytes = bytes(address);
    let mut request = vec![family(address), bytes.len() as u8 * 8, 0, 0, 0, 0, 0, 0];
    // The table's own answer: a kernel that is told an interface takes what it has no route to for a host on the link.
    request.extend(uapi::RTM_F_FIB_MATCH.to_ne_bytes());
    request.extend(attribute(uapi::RTA_DST, &bytes));
    request.extend(out.map(|index| attribute(uapi::RTA_OIF, &index.to_ne_bytes())).unwrap_or_default());
    let answers = netlink.ask(uapi::RTM_GETROUTE, Answers::One, &request);
    let Some(message) = answers.ok().and_then(|answers| answers.into_iter().next()) else { return Route::None };
    match message.body.get(7).copied() {
        Some(libc::RTN_UNICAST) => {}
        Some(libc::RTN_LOCAL) => return Route::Local,
        _ => return Route::None,
    }
    let (mut interfaces, mut gateway) = (Vec::new(), None);
    for (kind, value) in attributes(&message.body, 12) {
        match kind {
            uapi::RTA_OIF => interfaces.push(number(value, 0)),
            uapi::RTA_GATEWAY => gateway = self::address(value),
            uapi::RTA_MULTIPATH => interfaces.extend(next_hops(value)),
            _ => {}
        }
    }
    Route::Out { interfaces, gateway }
}

/// `struct rtnexthop`: length (16 bits), flags, hops, ifindex; then its attributes.
fn next_hops(mut value: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    while value.len() >= 8 {
        found.push(number(value, 4));
        value = value.get(usize::from(half(value, 0)).next_multiple_of(4).max(8)..).unwrap_or_default();
    }
    found
}

/// The neighbours of both families.
pub(super) fn neighbours(netlink: &mut Netlink) -> io::Result<BTreeMap<(u32, IpAddr), Neighbour>> {
    // struct ndmsg: family, pads, ifindex, state (16 bits), flags, type.
    let mut answers = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = [0; 12];
        request[0] = family as u8;
        answers.extend(netlink.ask(uapi::RTM_GETNEIGH, Answers::All, &request)?);
    }
    let neighbour = |body: &[u8]| {
        let address =
            attributes(body, 12).find(|(kind, _)| *kind == uapi::NDA_DST).and_then(|(_, v)| self::address(v))?;
        let state = match half(body, 8) {
            libc::NUD_INCOMPLETE | libc::NUD_NONE => Neighbour::Asked,
            libc::NUD_FAILED => Neighbour::Dead,
            _ => Neighbour::Known,
        };
        Some(((number(body, 4), address), state))
    };
    Ok(answers.iter().filter_map(|message| neighbour(&message.body)).collect())
}

/// A socket for the questions of this file.
pub(super) fn open() -> io::Result<Netlink> {
    Netlink::open(Family::Route)
}

/// An address of either family, by its length.
fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk().map(|bytes: &[u8; 4]| IpAddr::from(*bytes)),
        16 => value.first_chunk().map(|bytes: &[u8; 16]| IpAddr::from(*bytes)),
        _ => None,
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv6() { libc::AF_INET6 as u8 } else { libc::AF_INET as u8 }
}
