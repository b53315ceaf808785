//! One table of frames, and what becomes of each: every datapath has to agree with it, verdict, bytes and drop reason.
//!
//! What a copy has to look like is worked out here by [`Frame`], from the frame that came in and the output's orders; of the
//! product's own code there are only the words (destination, rewrite, drop reason), none that reads or writes a frame.

use std::net::{IpAddr, SocketAddr};

use mcr_wire::{
    CodePoint, CodePointMap, Destination, DropReason, Listing, MacAddr, Oversize, Prefix, Rewrite, TimeToLive, VlanId,
};

use crate::frame::{Checksum, Frame, Tag};
use crate::interface::Mac;

mod cuts;
mod rows;
mod wire;

pub use cuts::{Cut, CutDatagram, cuts};
pub use rows::rows;
pub use wire::{Counts, Datapath, OutputCounts, every_row_on_a_wire};

/// The group of most rows.
const GROUP: &str = "239.1.1.1:5001";
/// The sender of most rows.
const DEVICE: &str = "192.168.168.55:5000";
/// As [`GROUP`], of IPv6.
const GROUP6: &str = "[ff3e::1:1]:5001";
/// As [`DEVICE`], of IPv6.
const DEVICE6: &str = "[fd00:dead::55]:5000";
/// A link-layer address that the relay's host sends from: what comes in with it is a loop.
pub const OUR_MAC: Mac = Mac([2, 0x10, 0, 0, 0, 1]);
/// The beginning of every source MAC address that the table's outputs use: tells their frames from everything else.
pub const MARK: [u8; 4] = [0x02, 0x4d, 0x43, 0x52];

/// A frame and what becomes of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// What is special about it.
    pub what: &'static str,
    /// The frame.
    pub frame: Frame,
    /// How it gets to the input.
    pub delivery: Delivery,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What a frame is when it gets to the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Its bytes, as from a cable.
    Whole,
    /// A local sender's, who left the UDP checksum to a device (`CHECKSUM_PARTIAL`).
    Unfinished,
    /// A local sender's, who left it to a device to cut it into datagrams of this many bytes of payload (`UDP_SEGMENT`).
    Segments(u16),
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its relays are charged, and at least one output sends it.
    Sent,
    /// Its relays are charged, and no output sends it, each for a reason of its own.
    Unsent,
    /// Its relays are charged, and every output of them drops it for this reason.
    Refused(DropReason),
    /// No relay is charged; the input is.
    OnInput(DropReason),
    /// Nobody is charged. A datapath that sees it may say `no_relay` on the input.
    Passed,
}

/// A relay of the table.
#[derive(Debug, Clone)]
pub struct Relay {
    /// What it listens to.
    pub destination: Destination,
    /// The sources it accepts; none listed means any.
    pub sources: Vec<Prefix>,
    /// Or refuses.
    pub listing: Listing,
    /// Where copies go.
    pub outputs: Vec<Output>,
}

/// An output of a relay.
#[derive(Debug, Clone, Copy)]
pub enum Output {
    /// A copy is sent.
    Send {
        /// The lan that it goes to, counted from 1.
        lan: usize,
        /// What it looks like then.
        rewrite: Rewrite,
        /// Largest IP packet, in bytes.
        mtu: u32,
    },
    /// It is not.
    Drop(DropReason),
}

/// What a relay has to count for a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The relay, by its place in the list.
    pub relay: usize,
    /// Datagrams.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
    /// What becomes of it at each output.
    pub outcomes: Vec<Outcome>,
}

/// What becomes of a frame at one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It leaves.
    Sent {
        /// On this lan.
        lan: usize,
        /// As these frames, one for each datagram.
        frames: Vec<Vec<u8>>,
        /// Bytes of their IP packets.
        bytes: u64,
    },
    /// Nothing leaves.
    Dropped(DropReason),
}

impl Row {
    /// What each relay has to count that the frame is charged to.
    pub fn charges(&self, relays: &[Relay]) -> Vec<Charge> {
        let refused = match self.verdict {
            Verdict::OnInput(_) | Verdict::Passed => return Vec::new(),
            Verdict::Refused(reason) => Some(reason),
            Verdict::Sent | Verdict::Unsent => None,
        };
        let listening = relays.iter().enumerate().filter(|(_, relay)| relay.wants(&self.frame));
        let charges: Vec<Charge> = listening.map(|(index, relay)| self.charge(index, relay, refused)).collect();
        let sends = charges.iter().flat_map(|charge| &charge.outcomes).any(|one| matches!(one, Outcome::Sent { .. }));
        assert_eq!(sends, self.verdict == Verdict::Sent, "{}: the row contradicts the relays of the table", self.what);
        charges
    }

    fn charge(&self, index: usize, relay: &Relay, refused: Option<DropReason>) -> Charge {
        let datagrams = self.datagrams();
        let outcomes = relay.outputs.iter().map(|output| match (refused, *output) {
            (Some(reason), _) | (None, Output::Drop(reason)) => Outcome::Dropped(reason),
            (None, Output::Send { rewrite, .. }) if ttl(&rewrite, self.frame.ttl) == 0 => {
                Outcome::Dropped(DropReason::TtlExpired)
            }
            (None, Output::Send { rewrite, .. }) if self.lacks_checksum() && rewrite.destination.is_ipv6() => {
                Outcome::Dropped(DropReason::Fragment)
            }
            (None, Output::Send { lan, rewrite, mtu }) => send(&datagrams, lan, &rewrite, mtu),
        });
        Charge {
            relay: index,
            packets: datagrams.len() as u64,
            bytes: datagrams.iter().map(|frame| u64::from(frame.told_bytes())).sum(),
            outcomes: outcomes.collect(),
        }
    }

    /// Whether it is the beginning of a datagram without a UDP checksum, which nobody can make without the rest.
    fn lacks_checksum(&self) -> bool {
        self.frame.is_first_fragment() && self.frame.udp_checksum == Checksum::Zero
    }

    /// The datagrams that the sender meant, each as a frame.
    fn datagrams(&self) -> Vec<Frame> {
        let Delivery::Segments(bytes) = self.delivery else { return vec![self.frame.clone()] };
        let payloads = self.frame.payload.chunks(bytes.into()).enumerate();
        let datagram = |(number, payload): (usize, &[u8])| {
            let mut frame = self.frame.clone();
            frame.identification = frame.identification.wrapping_add(number as u16);
            frame.payload = payload.to_vec();
            frame
        };
        payloads.map(datagram).collect()
    }
}

impl Relay {
    /// Whether a source is in one of the listed prefixes, told bit by bit.
    pub fn lists(&self, source: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => format!("4{:032b}", address.to_bits()),
            IpAddr::V6(address) => format!("6{:0128b}", address.to_bits()),
        };
        let source = bits(source);
        self.sources.iter().any(|prefix| source.starts_with(&bits(prefix.first())[..=usize::from(prefix.length())]))
    }

    fn wants(&self, frame: &Frame) -> bool {
        let vlan = match frame.tags[..] {
            [outer, inner] => stacked(outer.control & 0x0fff, inner.control & 0x0fff),
            [only] => VlanId::new(only.control & 0x0fff),
            _ => None,
        };
        let destination = Destination { vlan, address: frame.destination.ip(), port: frame.destination.port() };
        let is_listed = self.lists(frame.source.ip());
        destination == self.destination && (self.sources.is_empty() || is_listed != (self.listing == Listing::Refuses))
    }
}

/// What becomes of datagrams at an output that sends.
fn send(datagrams: &[Frame], lan: usize, rewrite: &Rewrite, mtu: u32) -> Outcome {
    let copies: Vec<Frame> = datagrams.iter().map(|frame| copy(frame, rewrite)).collect();
    if copies.iter().any(|copy| copy.told_bytes() > mtu) {
        return Outcome::Dropped(DropReason::TooBig);
    }
    let bytes = copies.iter().map(|copy| u64::from(copy.told_bytes())).sum();
    Outcome::Sent { lan, frames: copies.iter().map(Frame::bytes).collect(), bytes }
}

/// The frame that leaves when `arrived` is relayed.
fn copy(arrived: &Frame, rewrite: &Rewrite) -> Frame {
    let arrived_with = arrived.tags.first().map_or(0, |tag| tag.control & 0xf000);
    let priority = rewrite.priority.map_or(arrived_with, |priority| u16::from(priority) << 13);
    let mut copy = arrived
        .clone()
        .source_mac(Mac(rewrite.source_mac.octets()))
        .destination_mac(Mac(rewrite.destination_mac.octets()))
        .ttl(ttl(rewrite, arrived.ttl))
        .traffic_class(dscp(rewrite, arrived.traffic_class >> 2) << 2 | arrived.traffic_class & 3)
        .flags_and_offset(arrived.flags_and_offset & 0x7fff)
        .padding(0);
    let outer = rewrite.vlan.and_then(VlanId::outer).map(|outer| Tag { protocol: 0x88a8, control: priority | outer });
    let tag = rewrite.vlan.map(|vlan| Tag { protocol: 0x8100, control: priority | vlan.get() });
    copy.tags = outer.into_iter().chain(tag).collect();
    copy.source = SocketAddr::new(
        rewrite.source.unwrap_or(arrived.source.ip()),
        rewrite.source_port.unwrap_or(arrived.source.port()),
    );
    copy.destination = rewrite.destination;
    if let Some((identification, place)) = arrived.fragmentation().filter(|_| copy.is_ipv6() != arrived.is_ipv6()) {
        copy = copy.without_extensions().fragment(identification, place);
    }
    // IPv6 has no datagram without a checksum.
    let may_lack = arrived.udp_checksum == Checksum::Zero && !copy.is_ipv6();
    copy.udp_checksum(if may_lack { Checksum::Zero } else { Checksum::Right })
}

fn ttl(rewrite: &Rewrite, arrived: u8) -> u8 {
    match rewrite.ttl {
        TimeToLive::Set(ttl) => ttl,
        TimeToLive::Keep => arrived,
        TimeToLive::Decrement => arrived.max(1) - 1,
    }
}

fn dscp(rewrite: &Rewrite, arrived: u8) -> u8 {
    let map = match rewrite.dscp {
        CodePoint::Keep => return arrived,
        CodePoint::Set(dscp) => return dscp,
        CodePoint::Map(map) => map,
    };
    let pair = map.from().into_iter().zip(map.to()).find(|(from, _)| *from == arrived);
    pair.map_or(map.other().unwrap_or(arrived), |(_, to)| to)
}

/// The relays that the rows are for.
pub fn relays() -> Vec<Relay> {
    let to_unicast = Rewrite { destination_mac: MacAddr::new([2, 9, 9, 9, 9, 9]), ..rewrite("10.0.2.2:7000") };
    let both = listed(&["192.168.168.55/32", "192.168.168.56/32"]);
    let tagged = Output::Send { lan: 1, rewrite: all_set(), mtu: 1500 };
    let neither = vec![Output::Drop(DropReason::OutputDown), Output::Drop(DropReason::NoSourceAddress)];
    let v4 = vec![
        relay(
            GROUP,
            vec![
                tagged,
                Output::Send { lan: 2, rewrite: to_unicast, mtu: 1500 },
                Output::Drop(DropReason::NoNeighbour),
                plain(1, "239.2.2.2:6001", 1500),
            ],
        ),
        Relay { destination: destination(GROUP, 100), ..relay(GROUP, vec![tagged, plain(2, "239.2.2.3:6001", 1500)]) },
        Relay { sources: both, ..relay("239.1.1.2:5002", vec![plain(1, "239.2.2.4:6001", 1500)]) },
        // Three share a destination; the second wants another source.
        relay("239.1.1.3:5003", vec![plain(1, "239.2.2.5:1", 1500)]),
        Relay {
            sources: listed(&["192.168.168.99/32"]),
            ..relay("239.1.1.3:5003", vec![plain(2, "239.2.2.6:2", 1500)])
        },
        Relay {
            sources: listed(&["192.168.168.55/32"]),
            ..relay("239.1.1.3:5003", vec![plain(2, "239.2.2.7:3", 1500), plain(1, "239.2.2.8:4", 1500)])
        },
        relay("239.1.1.4:5004", neither),
        relay("239.1.1.5:5005", vec![]),
        relay(
            "239.1.1.6:5006",
            vec![plain(1, "239.2.2.9:1", 100), plain(2, "239.2.2.9:1", 101), plain(1, "239.2.2.9:1", 68)],
        ),
        relay("10.0.0.1:5007", vec![plain(1, "239.2.2.10:1", 1500)]),
        relay("239.1.1.8:0", vec![plain(1, "239.2.2.11:0", 1500)]),
        relay("255.255.255.255:67", vec![plain(1, "239.2.2.12:1", 1500)]),
        relay("239.1.1.16:5016", vec![plain(1, "239.2.2.15:1", 9000), plain(2, "[ff3e::2:e]:1", 9000)]),
        relay("239.1.1.9:5009", from_what_arrived()),
        Relay {
            sources: listed(&["192.168.168.57/32", "192.168.168.58/32"]),
            listing: Listing::Refuses,
            ..relay("239.1.1.13:5013", vec![with_priority(1, 200, 5), with_priority(2, 7, 0)])
        },
    ];
    v4.into_iter().chain(relays_of_ipv6()).chain(relays_in_stacks()).chain(relays_of_prefixes()).collect()
}

/// Those with IPv6 on one side or on both.
fn relays_of_ipv6() -> Vec<Relay> {
    let to_unicast = Rewrite { destination_mac: MacAddr::new([2, 9, 9, 9, 9, 9]), ..rewrite("[fd00:2::2]:7000") };
    let tagged = Output::Send { lan: 1, rewrite: Rewrite { vlan: VlanId::new(200), ..all_set6() }, mtu: 1500 };
    let across = Output::Send { lan: 2, rewrite: all_set(), mtu: 1500 };
    let both = listed(&["fd00:dead::55/128", "fd00:dead::56/128"]);
    vec![
        relay(
            GROUP6,
            vec![
                tagged,
                Output::Send { lan: 2, rewrite: to_unicast, mtu: 1500 },
                across,
                Output::Drop(DropReason::NoNeighbour),
                plain(1, "[ff3e::2:2]:6001", 1500),
                plain(1, "239.2.3.1:6001", 1500),
            ],
        ),
        Relay { destination: destination(GROUP6, 100), ..relay(GROUP6, vec![tagged, plain(2, "239.2.3.2:1", 1500)]) },
        Relay { sources: both, ..relay("[ff3e::1:2]:5002", vec![plain(1, "[ff3e::2:3]:1", 1500)]) },
        relay("[ff3e::1:3]:5003", vec![plain(1, "[ff3e::2:4]:1", 100), plain(2, "239.2.3.3:1", 100)]),
        relay("[fd00::1]:5004", vec![plain(1, "[ff3e::2:5]:1", 1500)]),
        // One that differs in the first words of the address only.
        relay("[ff05:1::1:1]:5001", vec![plain(2, "[ff3e::2:6]:1", 1500)]),
        // From IPv4, with IPv4 between.
        relay(
            "239.1.1.12:5012",
            vec![
                plain(1, "[ff3e::2:7]:1", 1500),
                Output::Send { lan: 2, rewrite: all_set6(), mtu: 1500 },
                plain(1, "239.2.3.4:1", 1500),
                tagged,
            ],
        ),
        relay("239.1.1.10:5010", vec![plain(1, "[ff3e::2:8]:1", 100), plain(2, "239.2.3.5:1", 100)]),
        Relay { destination: destination("239.1.1.12:5012", 100), ..relay("239.1.1.12:5012", vec![tagged]) },
        // What arrived decides, in IPv6 and across.
        relay("[ff3e::1:6]:5007", from_what_arrived6()),
        // One output alone, in each direction.
        relay("239.1.1.11:5011", vec![plain(1, "[ff3e::2:9]:1", 1500)]),
        relay("[ff3e::1:4]:5005", vec![plain(1, "239.2.3.6:1", 1500)]),
        relay("[ff3e::1:8]:5009", vec![plain(1, "[ff3e::2:f]:1", 9000), plain(2, "239.2.2.16:1", 8999)]),
        relay("[ff3e::1:5]:5006", vec![plain(1, "[ff3e::2:a]:1", 1500)]),
    ]
}

/// Those that list prefixes of sources, of as many lengths as there may be.
fn relays_of_prefixes() -> Vec<Relay> {
    let lists = |listing, sources: &[&str], to, copy| Relay {
        listing,
        sources: listed(sources),
        ..relay(to, vec![plain(1, copy, 1500)])
    };
    let v4 = ["192.168.168.55/32", "10.0.0.0/8", "172.16.0.0/12", "192.168.170.0/23", "192.168.168.64/26"];
    // The first address of one is a single source, of another one that is longer.
    let v6 = ["fd00:1::/128", "fd00:2::/33", "fd00:dead::/64", "fd00:3::/127", "fd00:4::8:0/109"];
    vec![
        lists(Listing::Accepts, &v4, "239.1.1.20:5020", "239.2.5.1:1"),
        lists(Listing::Refuses, &v4, "239.1.1.21:5021", "239.2.5.2:1"),
        lists(Listing::Accepts, &v6, "[ff3e::1:20]:5020", "[ff3e::2:20]:1"),
        lists(Listing::Refuses, &v6, "[ff3e::1:21]:5021", "239.2.5.3:1"),
    ]
}

fn listed(prefixes: &[&str]) -> Vec<Prefix> {
    let prefix = |text: &&str| {
        let (first, length) = text.split_once('/')?;
        Prefix::new(first.parse().ok()?, length.parse().ok()?)
    };
    prefixes.iter().map(|text| prefix(text).expect("a prefix")).collect()
}

fn relay(to: &str, outputs: Vec<Output>) -> Relay {
    Relay { destination: destination(to, 0), sources: Vec::new(), listing: Listing::Accepts, outputs }
}

fn plain(lan: usize, to: &str, mtu: u32) -> Output {
    Output::Send { lan, rewrite: rewrite(to), mtu }
}

fn with_priority(lan: usize, vlan: u16, priority: u8) -> Output {
    let rewrite = Rewrite { vlan: VlanId::new(vlan), priority: Some(priority), ..rewrite("239.2.2.14:1") };
    Output::Send { lan, rewrite, mtu: 1500 }
}

/// Those that come with two tags, and others that leave with two.
fn relays_in_stacks() -> Vec<Relay> {
    let to = |lan, vlan, priority, to: &str| {
        let rewrite = Rewrite { vlan, priority, ..rewrite(to) };
        Output::Send { lan, rewrite, mtu: 1500 }
    };
    let outputs = vec![
        to(1, stacked(8, 200), None, "239.2.4.1:1"),
        to(2, VlanId::new(200), Some(5), "239.2.4.2:1"),
        to(2, stacked(8, 201), Some(6), "239.2.4.3:1"),
        to(1, None, None, "239.2.4.4:1"),
    ];
    let six = vec![to(1, stacked(8, 200), None, "[ff3e::2:d]:1"), to(2, stacked(8, 9), Some(1), "239.2.4.5:1")];
    let in_stack = |to: &str| Destination { vlan: stacked(7, 100), ..destination(to, 0) };
    vec![
        Relay { destination: in_stack(GROUP), ..relay(GROUP, outputs.clone()) },
        Relay { destination: in_stack(GROUP6), ..relay(GROUP6, six.clone()) },
        relay("239.1.1.14:5014", outputs),
        relay("[ff3e::1:7]:5008", six),
        // One output alone.
        Relay { destination: in_stack("239.1.1.14:5014"), ..relay(GROUP, vec![plain(1, "239.2.4.6:1", 1500)]) },
        relay("239.1.1.15:5015", vec![to(2, stacked(4094, 1), None, "239.2.4.7:1")]),
    ]
}

fn stacked(outer: u16, inner: u16) -> Option<VlanId> {
    VlanId::new(inner)?.within(outer)
}

/// Outputs whose headers depend on those that arrived.
fn from_what_arrived() -> Vec<Output> {
    let map = |pairs: &[(u8, u8)], other| {
        let map = CodePointMap::new(pairs.iter().copied(), other);
        CodePoint::Map(map.expect("few enough"))
    };
    let some = map(&[(46, 34), (34, 0), (0, 63)], None);
    let all = map(&[(46, 46), (1, 2), (2, 1), (3, 4), (4, 3), (5, 6), (6, 5), (63, 62)], Some(8));
    let outputs = [
        Rewrite { ttl: TimeToLive::Keep, dscp: some, ..rewrite("239.2.2.13:1") },
        Rewrite { ttl: TimeToLive::Decrement, dscp: all, source: None, ..rewrite("239.2.2.13:2") },
        Rewrite {
            ttl: TimeToLive::Decrement,
            source: None,
            source_port: Some(7),
            vlan: VlanId::new(9),
            ..rewrite("239.2.2.13:3")
        },
    ];
    by_turns(outputs)
}

/// As [`from_what_arrived`], to IPv6 and to IPv4.
fn from_what_arrived6() -> Vec<Output> {
    let map = CodePointMap::new([(46, 34), (0, 63)], Some(8)).expect("few enough");
    let (ttl, dscp) = (TimeToLive::Decrement, CodePoint::Map(map));
    by_turns([
        Rewrite { ttl: TimeToLive::Keep, dscp, source: None, ..rewrite("[ff3e::2:b]:1") },
        Rewrite { ttl, dscp, ..rewrite("239.2.3.7:1") },
        Rewrite { ttl, source: None, source_port: Some(7), vlan: VlanId::new(9), ..rewrite("[ff3e::2:c]:1") },
    ])
}

/// To the lans by turns.
fn by_turns<const N: usize>(rewrites: [Rewrite; N]) -> Vec<Output> {
    let output = |(place, rewrite)| Output::Send { lan: 1 + place % 2, rewrite, mtu: 1500 };
    rewrites.into_iter().enumerate().map(output).collect()
}

/// Every field that an output may set, set.
fn all_set() -> Rewrite {
    let (ttl, dscp) = (TimeToLive::Set(3), CodePoint::Set(46));
    Rewrite { vlan: VlanId::new(200), source_port: Some(4000), ttl, dscp, ..rewrite("239.9.9.9:6009") }
}

fn all_set6() -> Rewrite {
    let (ttl, dscp) = (TimeToLive::Set(3), CodePoint::Set(46));
    Rewrite { source_port: Some(4000), ttl, dscp, ..rewrite("[ff3e::9:9]:6009") }
}

/// Where `to` (an address and a port) is, in a VLAN or in none (0).
///
/// # Panics
/// When it is no address and port.
#[track_caller]
pub fn destination(to: &str, vlan: u16) -> Destination {
    let to = crate::frame::end(to);
    Destination { vlan: VlanId::new(vlan), address: to.ip(), port: to.port() }
}

/// The orders of an output that changes everything that it must and nothing that it need not.
///
/// # Panics
/// When `to` is no address and port.
#[track_caller]
pub fn rewrite(to: &str) -> Rewrite {
    let destination = crate::frame::end(to);
    let source = if destination.is_ipv4() { [10, 0, 1, 1].into() } else { "fd00:1::1".parse().unwrap() };
    Rewrite {
        source_mac: MacAddr::new([MARK[0], MARK[1], MARK[2], MARK[3], 0, 1]),
        destination_mac: MacAddr::new(Mac::of_group(destination.ip()).0),
        vlan: None,
        source: Some(source),
        destination,
        source_port: None,
        ttl: TimeToLive::Set(16),
        dscp: CodePoint::Keep,
        priority: None,
        oversize: Oversize::Drop,
    }
}
