//! Frames, counted as flows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mcr_wire::{DropReason, FrameMeta, Refused, Reject, VlanId, VlanTag, parse};

use crate::facts::{Direction, Flow, Wire};

const PROTOCOL_IGMP: u8 = 2;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;
const UDP_BYTES: u32 = 8;
/// RFC 3376 section 4.
mod igmp {
    pub(super) const QUERY: u8 = 0x11;
    pub(super) const REPORT_V1: u8 = 0x12;
    pub(super) const REPORT_V2: u8 = 0x16;
    pub(super) const REPORT_V3: u8 = 0x22;
    /// A query of this length or longer is of version 3 (section 7.1).
    pub(super) const QUERY_V3_BYTES: usize = 12;
    /// Record types that take a group away: to include nothing, to block sources (section 4.2.12).
    pub(super) const CHANGE_TO_INCLUDE: u8 = 3;
    pub(super) const IS_INCLUDE: u8 = 1;
    pub(super) const BLOCK: u8 = 6;
}
/// RFC 3810 section 5; record types are those of IGMP.
mod mld {
    pub(super) const QUERY: u8 = 130;
    pub(super) const REPORT_V1: u8 = 131;
    pub(super) const REPORT_V2: u8 = 143;
    /// A query of this length or longer is of version 2 (section 8.1).
    pub(super) const QUERY_V2_BYTES: usize = 28;
}
/// RFC 8200 section 4.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION: u8 = 60;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    interface: u32,
    direction: Direction,
    vlan: Option<VlanId>,
    source: IpAddr,
    destination: IpAddr,
    port: Option<u16>,
}

/// A datagram that comes in pieces: bytes that are there, and how many there should be once the last is.
#[derive(Debug, Default)]
struct Pieces {
    bytes: usize,
    whole: Option<usize>,
    port: Option<u16>,
}

impl Pieces {
    fn is_whole(&self) -> bool {
        self.whole.is_some_and(|whole| self.bytes >= whole)
    }
}

/// What has been seen so far.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    addresses: &'a BTreeSet<IpAddr>,
    flows: BTreeMap<Key, Flow>,
    pieces: BTreeMap<(Key, u32), Pieces>,
    wire: Wire,
}

/// What of a packet's headers matters here.
struct Header<'a> {
    vlan: Option<VlanId>,
    source: IpAddr,
    destination: IpAddr,
    /// What follows the IP header and its extensions.
    protocol: u8,
    /// Bytes of the IP packet.
    total_bytes: u32,
    /// Of these, before the UDP header.
    header_bytes: u32,
    ttl: u8,
    fragment: Option<Fragment>,
    payload: &'a [u8],
}

/// Which part of a datagram it is.
#[derive(Debug, Clone, Copy)]
struct Fragment {
    identification: u32,
    /// Bytes before it.
    offset: usize,
    /// Whether others follow.
    has_more: bool,
}

impl<'a> Header<'a> {
    fn of(frame: &'a [u8], taken: Option<VlanTag>) -> Option<Self> {
        let (mut ethertype, mut packet) = u16_and_rest(frame.get(12..)?)?;
        let (mut outer, mut inner) = (taken, None);
        while let 0x8100 | 0x88a8 = ethertype {
            let (tci, rest) = u16_and_rest(packet)?;
            let tag = Some(VlanTag { tpid: ethertype, tci });
            match (outer, inner) {
                (None, _) => outer = tag,
                (Some(_), None) => inner = tag,
                // Nobody takes three.
                (Some(_), Some(_)) => return None,
            }
            (ethertype, packet) = u16_and_rest(rest)?;
        }
        // A priority tag is no VLAN.
        let within = |inner: VlanTag| {
            let id = inner.id()?;
            outer.and_then(|outer| id.within(outer.number())).or(Some(id))
        };
        let vlan = inner.map_or_else(|| outer.and_then(VlanTag::id), within);
        match ethertype {
            0x0800 => Self::of_ipv4(packet, vlan),
            0x86dd => Self::of_ipv6(packet, vlan),
            _ => None,
        }
    }

    fn of_ipv4(packet: &'a [u8], vlan: Option<VlanId>) -> Option<Self> {
        let header: &[u8; 20] = packet.first_chunk()?;
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let header_bytes = usize::from(header[0] & 0x0f) * 4;
        let (total_bytes, fragmentation) = (half(2), half(6));
        let (offset, has_more) = (usize::from(fragmentation & 0x1fff) * 8, fragmentation & 0x2000 != 0);
        let is_fragment = offset > 0 || has_more;
        Some(Self {
            vlan,
            source: IpAddr::from(*header[12..].first_chunk::<4>()?),
            destination: IpAddr::from(*header[16..].first_chunk::<4>()?),
            protocol: header[9],
            total_bytes: total_bytes.into(),
            header_bytes: header_bytes as u32,
            ttl: header[8],
            fragment: is_fragment.then_some(Fragment { identification: half(4).into(), offset, has_more }),
            payload: packet.get(header_bytes..usize::from(total_bytes).min(packet.len()))?,
        })
    }

    fn of_ipv6(packet: &'a [u8], vlan: Option<VlanId>) -> Option<Self> {
        const BYTES: usize = 40;
        let header: &[u8; BYTES] = packet.first_chunk()?;
        let total_bytes = BYTES + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let packet = packet.get(..total_bytes.min(packet.len()))?;
        let (mut protocol, mut at, mut fragment) = (header[6], BYTES, None);
        // Each takes eight bytes at least, so that this ends.
        while let extension::HOP_BY_HOP | extension::ROUTING | extension::FRAGMENT | extension::DESTINATION = protocol {
            let &[next, words, high, low, a, b, c, d] = packet.get(at..)?.first_chunk()?;
            if protocol == extension::FRAGMENT {
                let place = u16::from_be_bytes([high, low]);
                let (identification, offset) = (u32::from_be_bytes([a, b, c, d]), usize::from(place & 0xfff8));
                fragment = Some(Fragment { identification, offset, has_more: place & 1 != 0 });
                at += 8;
            } else {
                at += 8 + 8 * usize::from(words);
            }
            protocol = next;
            if fragment.is_some_and(|fragment| fragment.offset > 0) {
                break;
            }
        }
        Some(Self {
            vlan,
            source: IpAddr::from(*header[8..].first_chunk::<16>()?),
            destination: IpAddr::from(*header[24..].first_chunk::<16>()?),
            protocol,
            total_bytes: total_bytes as u32,
            header_bytes: at as u32,
            ttl: header[7],
            fragment,
            payload: packet.get(at..)?,
        })
    }

    fn port(&self) -> Option<u16> {
        let is_first = self.fragment.is_none_or(|fragment| fragment.offset == 0);
        let port = self.payload.get(2..4).filter(|_| is_first && self.protocol == PROTOCOL_UDP)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    }
}

/// The number in network order that bytes begin with, and what follows it.
fn u16_and_rest(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

impl<'a> Sight<'a> {
    /// Nothing yet. What asks for these addresses by IGMP or MLD is noted.
    pub(super) fn new(addresses: &'a BTreeSet<IpAddr>) -> Self {
        Self { addresses, flows: BTreeMap::new(), pieces: BTreeMap::new(), wire: Wire::default() }
    }

    /// Counts one frame; a super-frame as its datagrams.
    pub(super) fn see(&mut self, interface: u32, direction: Direction, frame: &[u8], beside: FrameMeta) {
        let Some(header) = Header::of(frame, beside.vlan) else { return };
        match header.protocol {
            PROTOCOL_IGMP => return self.hear(interface, direction, &header),
            PROTOCOL_ICMPV6 => return self.hear_ipv6(interface, direction, &header),
            _ => {}
        }
        let key = Key {
            interface,
            direction,
            vlan: header.vlan,
            source: header.source,
            destination: header.destination,
            port: header.port(),
        };
        if let Some(fragment) = header.fragment {
            self.piece(key, fragment, header.payload.len());
        }
        let wrong = match parse(frame, &beside) {
            Err(Reject::Drop { reason, .. }) if reason != DropReason::Fragment => Some(reason.name()),
            _ => None,
        };
        let packets = Refused::of(frame, &beside).packets;
        self.flows.entry(key).or_insert_with(|| Flow::begin(&key)).count(&header, packets, beside, wrong);
    }

    /// A datagram is counted when its last piece is there, when another of the same identification begins, or at the end.
    fn piece(&mut self, key: Key, fragment: Fragment, bytes: usize) {
        let datagram = (Key { port: None, ..key }, fragment.identification);
        if fragment.offset == 0 && self.pieces.get(&datagram).is_some_and(|pieces| pieces.port.is_some()) {
            self.end(datagram);
        }
        let pieces = self.pieces.entry(datagram).or_default();
        pieces.bytes += bytes;
        pieces.port = pieces.port.or(key.port);
        if !fragment.has_more {
            pieces.whole = Some(fragment.offset + bytes);
        }
        if pieces.is_whole() {
            self.end(datagram);
        }
    }

    fn end(&mut self, datagram: (Key, u32)) {
        let Some(pieces) = self.pieces.remove(&datagram) else { return };
        // A datagram whose first fragment never came is counted where the later ones are.
        let key = Key { port: pieces.port, ..datagram.0 };
        let flow = self.flows.entry(key).or_insert_with(|| Flow::begin(&key));
        flow.fragmented.0 += 1;
        flow.fragmented.1 += u64::from(!pieces.is_whole());
    }

    /// Notes who asks and who answers (RFC 3376 section 4).
    fn hear(&mut self, interface: u32, direction: Direction, header: &Header<'_>) {
        let message = header.payload;
        let address = |at: usize| message.get(at..)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
        match message.first() {
            Some(&igmp::QUERY) => {
                let version = match (message.len() >= igmp::QUERY_V3_BYTES, message.get(1)) {
                    (true, _) => 3,
                    // Version 1 has no response time.
                    (false, Some(0)) => 1,
                    (false, _) => 2,
                };
                self.wire.queries.insert((interface, header.source), version);
            }
            Some(&(igmp::REPORT_V1 | igmp::REPORT_V2)) if direction == Direction::In => {
                self.report(interface, header.source, address(4));
            }
            Some(&igmp::REPORT_V3) if direction == Direction::In => {
                for group in joined::<4>(message) {
                    self.report(interface, header.source, Some(group));
                }
            }
            _ => {}
        }
    }

    /// The same of IPv6 (RFC 3810 section 5).
    fn hear_ipv6(&mut self, interface: u32, direction: Direction, header: &Header<'_>) {
        let message = header.payload;
        match message.first() {
            Some(&mld::QUERY) => {
                let version = if message.len() >= mld::QUERY_V2_BYTES { 2 } else { 1 };
                self.wire.queries.insert((interface, header.source), version);
            }
            Some(&mld::REPORT_V1) if direction == Direction::In => {
                let group = message.get(8..).and_then(<[u8]>::first_chunk::<16>).map(|bytes| IpAddr::from(*bytes));
                self.report(interface, header.source, group);
            }
            Some(&mld::REPORT_V2) if direction == Direction::In => {
                for group in joined::<16>(message) {
                    self.report(interface, header.source, Some(group));
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, interface: u32, from: IpAddr, group: Option<IpAddr>) {
        let group = group.filter(|group| self.addresses.contains(group));
        self.wire.reports.extend(group.map(|group| (interface, group, from)));
    }

    /// What was seen, all in all.
    pub(super) fn finish(mut self, missed: u64) -> Wire {
        let unfinished: Vec<(Key, u32)> = self.pieces.keys().copied().collect();
        unfinished.into_iter().for_each(|datagram| self.end(datagram));
        self.wire.flows = self.flows.into_values().collect();
        self.wire.flows.sort_by_key(|flow| std::cmp::Reverse(flow.packets));
        self.wire.missed = missed;
        self.wire
    }
}

impl Flow {
    fn begin(key: &Key) -> Self {
        let Key { interface, direction, vlan, source, destination, port } = *key;
        Self {
            interface,
            direction,
            vlan,
            source,
            destination,
            port,
            packets: 0,
            sizes: (u32::MAX, 0),
            ttls: (u8::MAX, 0),
            wrong: BTreeMap::new(),
            fragmented: (0, 0),
        }
    }

    fn count(&mut self, header: &Header<'_>, packets: u64, beside: FrameMeta, wrong: Option<&'static str>) {
        let largest = match beside.segment_bytes.filter(|_| packets > 1) {
            Some(bytes) => header.header_bytes + UDP_BYTES + u32::from(bytes.get()),
            None => header.total_bytes,
        };
        self.packets += packets;
        self.sizes = (self.sizes.0.min(largest), self.sizes.1.max(largest));
        self.ttls = (self.ttls.0.min(header.ttl), self.ttls.1.max(header.ttl));
        if let Some(wrong) = wrong {
            *self.wrong.entry(wrong).or_default() += packets;
        }
    }
}

/// The groups, of addresses of so many bytes, that a report of IGMPv3 or MLDv2 asks for, with or without sources.
fn joined<const BYTES: usize>(message: &[u8]) -> Vec<IpAddr>
where
    IpAddr: From<[u8; BYTES]>,
{
    let records = message.get(6..8).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut rest = message.get(8..).unwrap_or_default();
    let mut groups = Vec::new();
    for _ in 0..records {
        let Some(&[kind, words, high, low]) = rest.first_chunk() else { break };
        let Some(group) = rest.get(4..).and_then(<[u8]>::first_chunk::<BYTES>) else { break };
        let sources = usize::from(u16::from_be_bytes([high, low]));
        let leaves = matches!(kind, igmp::IS_INCLUDE | igmp::CHANGE_TO_INCLUDE) && sources == 0 || kind == igmp::BLOCK;
        if !leaves {
            groups.push(IpAddr::from(*group));
        }
        rest = rest.get(4 + BYTES * (1 + sources) + 4 * usize::from(words)..).unwrap_or_default();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// An Ethernet frame of an IPv4 packet, its checksum right.
    fn frame(protocol: u8, source: &str, destination: &str, fragmentation: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 16, protocol, 0, 0];
        header[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&fragmentation.to_be_bytes());
        for address in [source, destination] {
            header.extend(address.parse::<std::net::Ipv4Addr>().expect("an address of IPv4").octets());
        }
        let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        [&[0; 12][..], &[8, 0], &header, payload].concat()
    }

    /// An Ethernet frame of an IPv6 packet.
    fn frame6(next: u8, source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 16];
        header[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        for address in [source, destination] {
            header.extend(address.parse::<std::net::Ipv6Addr>().expect("an address of IPv6").octets());
        }
        [&[0; 12][..], &[0x86, 0xdd], &header, payload].concat()
    }

    fn udp(port: u16, data: &[u8]) -> Vec<u8> {
        let length = (8 + data.len()) as u16;
        [&[0x13, 0x88][..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data].concat()
    }

    fn see(frames: &[(Vec<u8>, Option<VlanTag>)]) -> Wire {
        let addresses = BTreeSet::from([ip("239.1.1.1")]);
        let mut sight = Sight::new(&addresses);
        for (frame, vlan) in frames {
            sight.see(2, Direction::In, frame, FrameMeta { vlan: *vlan, ..FrameMeta::PLAIN });
        }
        sight.finish(0)
    }

    #[test]
    fn a_flow_is_told_by_its_ends_and_tag() {
        let plain = frame(17, "192.168.168.55", "239.1.1.1", 0x4000, &udp(5001, &[1; 100]));
        let larger = frame(17, "192.168.168.55", "239.1.1.1", 0x4000, &udp(5001, &[1; 200]));
        let wire = see(&[(plain.clone(), None), (larger, None), (plain, Some(VlanTag { tpid: 0x8100, tci: 0x2064 }))]);
        let [first, second] = &wire.flows[..] else { panic!("{wire:?}") };
        assert_eq!((first.packets, first.vlan, first.port, first.sizes), (2, None, Some(5001), (128, 228)));
        assert_eq!((second.packets, second.vlan, second.ttls), (1, VlanId::new(100), (16, 16)));
        assert!(first.wrong.is_empty());
    }

    #[test]
    fn two_tags_are_told_from_one() {
        let plain = frame(17, "192.168.168.55", "239.1.1.1", 0x4000, &udp(5001, &[1; 100]));
        let tagged = |tags: &[u8]| [&plain[..12], tags, &plain[12..]].concat();
        let (service, customer) = ([0x88, 0xa8, 0x20, 7], [0x81, 0, 0, 100]);
        let taken = |tpid| Some(VlanTag { tpid, tci: 7 });
        let (one, two) = (VlanId::new(100), VlanId::new(100).and_then(|id| id.within(7)));
        for (tags, taken, expected) in [
            (&[service, customer].concat()[..], None, two),
            (&customer, taken(0x88a8), two),
            (&[0x88, 0xa8, 0, 100], taken(0x8100), two),
            (&customer, None, one),
            (&customer, Some(VlanTag { tpid: 0x8100, tci: 0x2000 }), one),
            (&[0x81, 0, 0x20, 0], None, None),
        ] {
            let wire = see(&[(tagged(tags), taken)]);
            assert_eq!(wire.flows.iter().map(|flow| flow.vlan).collect::<Vec<_>>(), [expected], "{tags:x?} {taken:?}");
        }
        assert_eq!(see(&[(tagged(&[service, customer, customer].concat()), None)]).flows, []);
    }

    #[test]
    fn a_wrong_checksum_is_seen() {
        let mut damaged = frame(17, "10.0.0.1", "239.1.1.1", 0, &udp(5001, b"data"));
        damaged[24] ^= 1;
        let wire = see(&[(damaged, None)]);
        assert_eq!(wire.flows[0].wrong, BTreeMap::from([("bad_ip_checksum", 1)]));
    }

    #[test]
    fn a_super_frame_counts_as_its_datagrams() {
        let addresses = BTreeSet::new();
        let mut sight = Sight::new(&addresses);
        let whole = frame(17, "10.0.0.1", "239.1.1.1", 0x4000, &udp(5001, &[1; 2500]));
        let beside = FrameMeta {
            checksum: mcr_wire::ChecksumState::Partial,
            segment_bytes: std::num::NonZeroU16::new(1000),
            ..FrameMeta::PLAIN
        };
        sight.see(2, Direction::In, &whole, beside);
        let wire = sight.finish(0);
        assert_eq!((wire.flows[0].packets, wire.flows[0].sizes), (3, (1028, 1028)));
        assert!(wire.flows[0].wrong.is_empty(), "{wire:?}");
    }

    #[test]
    fn fragments_are_put_together() {
        let whole = udp(5001, &[9; 40]);
        let first = frame(17, "10.0.0.1", "239.1.1.1", 0x2000, &whole[..24]);
        let last = frame(17, "10.0.0.1", "239.1.1.1", 3, &whole[24..]);
        let complete = see(&[(first.clone(), None), (last.clone(), None)]);
        let of_port = |wire: &Wire| wire.flows.iter().find(|flow| flow.port == Some(5001)).map(|flow| flow.fragmented);
        assert_eq!(of_port(&complete), Some((1, 0)));
        assert_eq!(of_port(&see(&[(first.clone(), None)])), Some((1, 1)));
        let again =
            see(&[(first.clone(), None), (last.clone(), None), (first.clone(), None), (first, None), (last, None)]);
        assert_eq!(of_port(&again), Some((3, 1)), "identifications repeat");
    }

    #[test]
    fn queries_and_reports_are_heard() {
        let query = frame(2, "10.0.0.9", "224.0.0.1", 0, &[0x11, 100, 0, 0, 0, 0, 0, 0]);
        let report = [0x22, 0, 0, 0, 0, 0, 0, 2, 4, 0, 0, 0, 239, 1, 1, 1, 3, 0, 0, 0, 239, 1, 1, 2];
        let wire = see(&[(query, None), (frame(2, "10.0.0.5", "224.0.0.22", 0, &report), None)]);
        assert_eq!(wire.queries, BTreeMap::from([((2, ip("10.0.0.9")), 2)]));
        assert_eq!(wire.reports, BTreeSet::from([(2, ip("239.1.1.1"), ip("10.0.0.5"))]));
    }

    #[test]
    fn ipv6_has_flows_and_fragments_too() {
        let whole = udp(5001, &[9; 40]);
        let piece = |place: u16, bytes: &[u8]| {
            let header = [&[17, 0][..], &place.to_be_bytes(), &[0, 1, 2, 3]].concat();
            frame6(44, "fd00::5", "ff3e::1", &[&header, bytes].concat())
        };
        let wire = see(&[(piece(1, &whole[..24]), None), (piece(24, &whole[24..]), None)]);
        let first = wire.flows.iter().find(|flow| flow.port == Some(5001)).expect("a flow with its port");
        assert_eq!((first.fragmented, first.sizes, first.ttls), ((1, 0), (72, 72), (16, 16)));
        assert_eq!((first.source, first.destination), (ip("fd00::5"), ip("ff3e::1")));
        // Its checksum is 0, which IPv6 does not allow.
        let wire = see(&[(frame6(17, "fd00::5", "ff3e::1", &whole), None)]);
        assert_eq!(wire.flows[0].wrong.keys().collect::<Vec<_>>(), [&"bad_udp_checksum"]);
    }

    #[test]
    fn queries_and_reports_of_mld_are_heard() {
        let addresses = BTreeSet::from([ip("ff3e::1")]);
        let mut sight = Sight::new(&addresses);
        let of_host = |message: &[u8]| {
            let hop_by_hop = [58, 0, 5, 2, 0, 0, 1, 0];
            frame6(0, "fe80::9", "ff02::16", &[&hop_by_hop[..], message].concat())
        };
        let group = "ff3e::1".parse::<std::net::Ipv6Addr>().expect("a group").octets();
        let joins = [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &group].concat();
        for message in [&[&[130, 0, 0, 0, 0, 100, 0, 0][..], &[0; 20]].concat(), &joins] {
            sight.see(2, Direction::In, &of_host(message), FrameMeta::PLAIN);
        }
        let wire = sight.finish(0);
        assert_eq!(wire.queries, BTreeMap::from([((2, ip("fe80::9")), 2)]));
        assert_eq!(wire.reports, BTreeSet::from([(2, ip("ff3e::1"), ip("fe80::9"))]));
    }

    #[test]
    fn any_prefix_of_a_frame_ends() {
        let long = frame6(
            0,
            "fd00::5",
            "ff3e::1",
            &[&[44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 1][..], &[1; 30]].concat(),
        );
        see(&(0..long.len()).map(|length| (long[..length].to_vec(), None)).collect::<Vec<_>>());
        let whole = frame(17, "10.0.0.1", "239.1.1.1", 0x2000, &udp(5001, &[1; 30]));
        see(&(0..whole.len()).map(|length| (whole[..length].to_vec(), None)).collect::<Vec<_>>());
        let report = frame(2, "10.0.0.5", "224.0.0.22", 0, &[0x22, 0, 0, 0, 0, 0, 0xff, 0xff, 4, 0, 9, 9, 239, 1]);
        see(&[(report, None)]);
    }
}
