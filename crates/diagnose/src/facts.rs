//! What was observed, before anything is concluded from it. Everything that [`judge`](crate::judge::judge) may know is here,
//! so that a table of facts tests it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use mcr_model::VlanId;
use mcr_model::status::RelayStatus;

/// Why something could not be seen, and how it could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blind {
    /// In a sentence without a final stop.
    pub reason: String,
    /// What would help.
    pub remedy: String,
}

impl Blind {
    /// What could not be seen, and what would help.
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// What was observed, or why not.
pub type Observed<T> = Result<T, Blind>;

/// All facts of one look at the host and its wires.
#[derive(Debug, Clone)]
pub struct Facts {
    /// How long the wires were looked at.
    pub look: Duration,
    /// Every interface of the network namespace.
    pub links: Vec<Link>,
    /// Groups that bridges of this host forward, and where to.
    pub bridge_groups: Vec<BridgeGroup>,
    /// What the wires carried meanwhile.
    pub wire: Observed<Wire>,
    /// What the kernel dropped meanwhile on its way to the address in question or that of an output.
    pub drops: Observed<Vec<KernelDrop>>,
    /// Counters of the kernel that moved meanwhile, by name (`/proc/net/netstat`, `/proc/net/snmp`).
    pub counters: BTreeMap<String, u64>,
    /// Groups joined, by interface (`/proc/net/igmp`, `/proc/net/igmp6`).
    pub memberships: Vec<Membership>,
    /// Link-layer addresses that an interface lets through, by interface name (`/proc/net/dev_mcast`).
    pub link_filters: BTreeSet<(String, [u8; 6])>,
    /// The sockets of the port, and those that hold memberships of the group.
    pub sockets: Observed<Vec<Socket>>,
    /// Packet sockets of other processes, which see frames before the kernel judges them.
    pub packet_sockets: Vec<PacketSocket>,
    /// Relays that run in the foreground.
    pub foreground: Vec<Foreground>,
    /// `rp_filter` and its like.
    pub settings: Settings,
    /// The way back to each source that was seen or asked for.
    pub routes_back: BTreeMap<IpAddr, Route>,
    /// The firewall's rules.
    pub firewall: Observed<Firewall>,
    /// Groups that the kernel forwards by itself (`/proc/net/ip_mr_cache`).
    pub forwarded: Vec<Forwarded>,
    /// The relays after the look, or why they are not known.
    pub relays: Relays,
    /// The relays before the look.
    pub earlier_relays: Relays,
    /// The way to each unicast destination of an output.
    pub routes_out: BTreeMap<IpAddr, Route>,
    /// Neighbours by interface and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

/// What is known of relays.
#[derive(Debug, Clone)]
pub enum Relays {
    /// The daemon answered.
    Known(Vec<RelayStatus>),
    /// No daemon runs.
    NoDaemon,
    /// A daemon runs and could not be asked.
    Unknown(Blind),
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What makes it, as `bridge`, `veth`, `vlan`; empty for hardware.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// Has a link.
    pub carrier: bool,
    /// Can carry multicast.
    pub multicast: bool,
    /// Takes every frame, or every multicast frame.
    pub takes_all: bool,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// The interface that a VLAN interface is made on.
    pub parent: Option<u32>,
    /// Its number, when it is a VLAN interface.
    pub vlan: Option<u16>,
    /// An XDP program is on it, which may take frames before anybody sees them.
    pub xdp: bool,
    /// When it is a bridge.
    pub bridge: Option<Bridge>,
    /// When it is a port of a bridge.
    pub port: Option<Port>,
    /// Packets that its queueing discipline dropped while we looked.
    pub queue_drops: u64,
    /// Packets that the device itself lost while we looked: ring full, no buffer.
    pub device_drops: u64,
    /// What its queueing discipline is.
    pub queue: String,
}

/// What a bridge does with multicast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Sends groups only to the ports that asked.
    pub snooping: bool,
    /// It sends queries itself.
    pub asks: bool,
    /// Other queriers that it has heard, of either family.
    pub heard_queriers: Vec<IpAddr>,
}

/// What a bridge port does with multicast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Gets groups that nobody asked for.
    pub floods: bool,
    /// Gets every group, because a router is behind it.
    pub router: bool,
}

/// A group that a bridge sends to one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeGroup {
    /// The bridge.
    pub bridge: u32,
    /// The port; the bridge itself when the host has joined.
    pub port: u32,
    /// The group.
    pub group: IpAddr,
}

/// What was seen on the wires.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wire {
    /// Streams, the most packets first.
    pub flows: Vec<Flow>,
    /// Frames that the observer could not keep up with.
    pub missed: u64,
    /// Membership queries (IGMP, MLD), by interface and querier, with the version that they speak.
    pub queries: BTreeMap<(u32, IpAddr), u8>,
    /// Hosts that asked for the group in question or that of an output, by interface.
    pub reports: BTreeSet<(u32, IpAddr, IpAddr)>,
}

/// Packets of one interface, direction, VLAN, source and destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// The interface.
    pub interface: u32,
    /// Whether it came in or went out.
    pub direction: Direction,
    /// The tag, or both.
    pub vlan: Option<VlanId>,
    /// The sender.
    pub source: IpAddr,
    /// The group or address.
    pub destination: IpAddr,
    /// The port; `None` where only later fragments were seen.
    pub port: Option<u16>,
    /// Packets.
    pub packets: u64,
    /// Smallest and largest IP packet, in bytes.
    pub sizes: (u32, u32),
    /// Smallest and largest time to live.
    pub ttls: (u8, u8),
    /// Packets that are wrong in themselves, by the name of the drop reason that says how.
    pub wrong: BTreeMap<&'static str, u64>,
    /// Fragmented datagrams, and how many of them did not come whole.
    pub fragmented: (u64, u64),
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the wire.
    In,
    /// To the wire.
    Out,
}

/// Packets that the kernel dropped in the same place for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelDrop {
    /// The kernel's name of the reason, without `SKB_DROP_REASON_`.
    pub reason: String,
    /// The function that dropped them.
    pub location: String,
    /// The functions that led there, innermost first.
    pub way: Vec<String>,
    /// The interface.
    pub interface: u32,
    /// Their source.
    pub source: IpAddr,
    /// Their destination.
    pub destination: IpAddr,
    /// Their port, if one can be read.
    pub port: Option<u16>,
    /// How many.
    pub packets: u64,
}

/// A group that is joined on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The interface.
    pub interface: u32,
    /// The group.
    pub group: IpAddr,
    /// The version of IGMP (1, 2 or 3) or MLD (1 or 2) in force there.
    pub version: u8,
}

/// A UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The address that it is bound to; unspecified: any.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The only peer that it hears, when it is connected.
    pub peer: Option<IpAddr>,
    /// The only interface that it hears.
    pub interface: Option<u32>,
    /// Its receive buffer, in bytes.
    pub buffer_bytes: u32,
    /// What waits in it, in bytes.
    pub waiting_bytes: u32,
    /// Packets that it had no room for, ever.
    pub drops: u32,
    /// And while we looked.
    pub new_drops: u32,
    /// Who has it open.
    pub owners: Vec<Owner>,
    /// Its membership of the group on the interface in question; `None` when it could not be asked.
    pub membership: Option<Hold>,
    /// Whether it hears every group that anybody on the host has joined (`IP_MULTICAST_ALL`, on unless switched off).
    pub hears_all: Option<bool>,
    /// How many groups it holds in all, as far as asked.
    pub groups_held: usize,
}

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// A socket's membership of one group on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// It has not joined.
    No,
    /// It has joined, and takes every source but these.
    AllBut(BTreeSet<IpAddr>),
    /// It has joined, and takes these sources only.
    Only(BTreeSet<IpAddr>),
}

/// A packet socket (AF_PACKET).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketSocket {
    /// The interface that it reads; `None`: every one.
    pub interface: Option<u32>,
    /// Who has it open.
    pub owners: Vec<Owner>,
}

/// A relay in the foreground, which has no API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreground {
    /// The process.
    pub owner: Owner,
    /// What it was started with, after `mcr relay`.
    pub arguments: Vec<String>,
}

/// Values of `/proc/sys/net`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `net.ipv4.conf.all.rp_filter`.
    pub reverse_path_all: u8,
    /// `net.ipv4.conf.IF.rp_filter`, by interface.
    pub reverse_path: BTreeMap<String, u8>,
    /// `net.ipv4.igmp_max_memberships`.
    pub most_memberships: u32,
    /// `net.core.rmem_max`, in bytes.
    pub most_receive_bytes: u32,
    /// `net.ipv4.conf.IF.force_igmp_version` where it is not 0.
    pub forced_version: BTreeMap<String, u8>,
    /// `net.ipv6.conf.IF.force_mld_version` where it is not 0.
    pub forced_mld_version: BTreeMap<String, u8>,
    /// Interfaces that IPv6 is switched off on (`net.ipv6.conf.IF.disable_ipv6`), or all if the kernel has none.
    pub without_ipv6: BTreeSet<String>,
}

impl Bridge {
    /// The other querier that it has heard in the family of `group`.
    pub fn heard_querier(&self, group: IpAddr) -> Option<IpAddr> {
        self.heard_queriers.iter().copied().find(|querier| querier.is_ipv6() == group.is_ipv6())
    }
}

impl Settings {
    /// The check in force on an interface: the stricter of the two (`Documentation/networking/ip-sysctl.rst`).
    pub fn reverse_path_of(&self, interface: &str) -> u8 {
        self.reverse_path.get(interface).copied().unwrap_or_default().max(self.reverse_path_all)
    }
}

/// Where the kernel would send a packet to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To this host itself.
    Local,
    /// Out of one of these interfaces, by a router or directly.
    Out {
        /// The interfaces.
        interfaces: Vec<u32>,
        /// The router.
        gateway: Option<IpAddr>,
    },
    /// Nowhere.
    None,
}

/// A neighbour as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Its link-layer address is known.
    Known,
    /// It was asked for and does not answer.
    Dead,
    /// It is being asked for.
    Asked,
}

/// A group that the kernel forwards (an entry of its multicast routing cache).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The group.
    pub group: IpAddr,
    /// The source; unspecified: any.
    pub source: IpAddr,
    /// The interface that it is taken from.
    pub from: Option<u32>,
    /// Where it goes: the interfaces, with the least time to live that passes.
    pub to: Vec<(u32, u8)>,
}

/// The firewall's chains that see incoming packets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Firewall {
    /// The base chains, and those that they lead to.
    pub chains: Vec<Chain>,
    /// Sets by family, table and name.
    pub sets: BTreeMap<(String, String, String), serde_json::Value>,
    /// Tables of `iptables-legacy`, whose rules are not looked at.
    pub legacy_tables: Vec<String>,
}

/// A chain of nftables.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Family, as `inet`.
    pub family: String,
    /// Table.
    pub table: String,
    /// Name.
    pub name: String,
    /// Where it hangs; `None`: it is only jumped to.
    pub hook: Option<Hook>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `ingress`, `prerouting`, `input`, …
    pub name: String,
    /// Its priority: smaller ones come first.
    pub priority: i64,
    /// The interfaces of a chain of family netdev; empty: all.
    pub devices: Vec<String>,
    /// What becomes of packets that no rule decides about.
    pub drops_by_default: bool,
}

/// A rule of nftables.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The number to delete it by.
    pub handle: u64,
    /// Its expressions, as `nft -j` writes them.
    pub expressions: Vec<serde_json::Value>,
}
