//! Frames, counted as flows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use mcr_wire::{DropReason, FrameMeta, Refused, Reject, VlanTag, parse};

use crate::facts::{Direction, Flow, Wire};

const PROTOCOL_IGMP: u8 = 2;
const PROTOCOL_UDP: u8 = 17;
/// Of IPv4 and UDP, in each datagram of a super-frame.
const HEADER_BYTES: u32 = 28;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    interface: u32,
    direction: Direction,
    vlan: Option<u16>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
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
    addresses: &'a BTreeSet<Ipv4Addr>,
    flows: BTreeMap<Key, Flow>,
    pieces: BTreeMap<(Key, u16), Pieces>,
    wire: Wire,
}

/// The IPv4 header of a frame.
struct Header<'a> {
    vlan: Option<u16>,
    bytes: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn of(frame: &'a [u8], taken: Option<VlanTag>) -> Option<Self> {
        let ethertype = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let (control, start) = match ethertype(12)? {
            0x8100 | 0x88a8 => (ethertype(14), 18),
            _ => (taken.map(|tag| tag.tci), 14),
        };
        if ethertype(start - 2)? != 0x0800 {
            return None;
        }
        let bytes = frame.get(start..)?;
        let words = bytes.first()? & 0x0f;
        let total = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let payload = bytes.get(usize::from(words) * 4..total.min(bytes.len())).filter(|_| bytes.len() >= 20)?;
        // A priority tag is no VLAN.
        let vlan = control.map(|control| control & 0x0fff).filter(|vlan| *vlan != 0);
        Some(Self { vlan, bytes, payload })
    }

    fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.bytes[12], self.bytes[13], self.bytes[14], self.bytes[15])
    }

    fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.bytes[16], self.bytes[17], self.bytes[18], self.bytes[19])
    }

    fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    fn total_bytes(&self) -> u32 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]]).into()
    }

    fn identification(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    fn fragmentation(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    fn port(&self) -> Option<u16> {
        let is_first = self.fragmentation() & 0x1fff == 0;
        let port = self.payload.get(2..4).filter(|_| is_first && self.protocol() == PROTOCOL_UDP)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    }
}

impl<'a> Sight<'a> {
    /// Nothing yet. What asks for these addresses by IGMP is noted.
    pub(super) fn new(addresses: &'a BTreeSet<Ipv4Addr>) -> Self {
        Self { addresses, flows: BTreeMap::new(), pieces: BTreeMap::new(), wire: Wire::default() }
    }

    /// Counts one frame; a super-frame as its datagrams.
    pub(super) fn see(&mut self, interface: u32, direction: Direction, frame: &[u8], beside: FrameMeta) {
        let Some(header) = Header::of(frame, beside.vlan) else { return };
        if header.protocol() == PROTOCOL_IGMP {
            return self.hear(interface, direction, &header);
        }
        let key = Key {
            interface,
            direction,
            vlan: header.vlan,
            source: header.source(),
            destination: header.destination(),
            port: header.port(),
        };
        if header.fragmentation() & 0x3fff != 0 {
            self.piece(key, &header);
        }
        let wrong = match parse(frame, &beside) {
            Err(Reject::Drop { reason, .. }) if reason != DropReason::Fragment => Some(reason.name()),
            _ => None,
        };
        let packets = Refused::of(frame, &beside).packets;
        self.flows.entry(key).or_insert_with(|| Flow::begin(&key)).count(&header, packets, beside, wrong);
    }

    /// A datagram is counted when its last piece is there, when another of the same identification begins, or at the end.
    fn piece(&mut self, key: Key, header: &Header<'_>) {
        let datagram = (Key { port: None, ..key }, header.identification());
        let is_first = header.fragmentation() & 0x1fff == 0;
        if is_first && self.pieces.get(&datagram).is_some_and(|pieces| pieces.port.is_some()) {
            self.end(datagram);
        }
        let pieces = self.pieces.entry(datagram).or_default();
        pieces.bytes += header.payload.len();
        pieces.port = pieces.port.or(key.port);
        if header.fragmentation() & 0x2000 == 0 {
            pieces.whole = Some(usize::from(header.fragmentation() & 0x1fff) * 8 + header.payload.len());
        }
        if pieces.is_whole() {
            self.end(datagram);
        }
    }

    fn end(&mut self, datagram: (Key, u16)) {
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
        let address = |at: usize| message.get(at..at + 4).map(|b| Ipv4Addr::new(b[0], b[1], b[2], b[3]));
        match message.first() {
            Some(&igmp::QUERY) => {
                let version = match (message.len() >= igmp::QUERY_V3_BYTES, message.get(1)) {
                    (true, _) => 3,
                    // Version 1 has no response time.
                    (false, Some(0)) => 1,
                    (false, _) => 2,
                };
                self.wire.queries.insert((interface, header.source()), version);
            }
            Some(&(igmp::REPORT_V1 | igmp::REPORT_V2)) if direction == Direction::In => {
                self.report(interface, header.source(), address(4));
            }
            Some(&igmp::REPORT_V3) if direction == Direction::In => {
                for group in joined(message) {
                    self.report(interface, header.source(), Some(group));
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, interface: u32, from: Ipv4Addr, group: Option<Ipv4Addr>) {
        let group = group.filter(|group| self.addresses.contains(group));
        self.wire.reports.extend(group.map(|group| (interface, group, from)));
    }

    /// What was seen, all in all.
    pub(super) fn finish(mut self, missed: u64) -> Wire {
        let unfinished: Vec<(Key, u16)> = self.pieces.keys().copied().collect();
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
        let ttl = header.bytes[8];
        let largest = match beside.segment_bytes.filter(|_| packets > 1) {
            Some(bytes) => HEADER_BYTES + u32::from(bytes.get()),
            None => header.total_bytes(),
        };
        self.packets += packets;
        self.sizes = (self.sizes.0.min(largest), self.sizes.1.max(largest));
        self.ttls = (self.ttls.0.min(ttl), self.ttls.1.max(ttl));
        if let Some(wrong) = wrong {
            *self.wrong.entry(wrong).or_default() += packets;
        }
    }
}

/// The groups that a report of version 3 asks for, with or without sources.
fn joined(message: &[u8]) -> Vec<Ipv4Addr> {
    let records = message.get(6..8).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut rest = message.get(8..).unwrap_or_default();
    let mut groups = Vec::new();
    for _ in 0..records {
        let Some(&[kind, words, high, low, a, b, c, d]) = rest.first_chunk() else { break };
        let sources = usize::from(u16::from_be_bytes([high, low]));
        let leaves = matches!(kind, igmp::IS_INCLUDE | igmp::CHANGE_TO_INCLUDE) && sources == 0 || kind == igmp::BLOCK;
        if !leaves {
            groups.push(Ipv4Addr::new(a, b, c, d));
        }
        rest = rest.get(8 + 4 * (sources + usize::from(words))..).unwrap_or_default();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    /// An Ethernet frame of an IPv4 packet, its checksum right.
    fn frame(protocol: u8, source: &str, destination: &str, fragmentation: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 16, protocol, 0, 0];
        header[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&fragmentation.to_be_bytes());
        header.extend(ip(source).octets());
        header.extend(ip(destination).octets());
        let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        [&[0; 12][..], &[8, 0], &header, payload].concat()
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
        assert_eq!((second.packets, second.vlan, second.ttls), (1, Some(100), (16, 16)));
        assert!(first.wrong.is_empty());
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
    fn any_prefix_of_a_frame_ends() {
        let whole = frame(17, "10.0.0.1", "239.1.1.1", 0x2000, &udp(5001, &[1; 30]));
        see(&(0..whole.len()).map(|length| (whole[..length].to_vec(), None)).collect::<Vec<_>>());
        let report = frame(2, "10.0.0.5", "224.0.0.22", 0, &[0x22, 0, 0, 0, 0, 0, 0xff, 0xff, 4, 0, 9, 9, 239, 1]);
        see(&[(report, None)]);
    }
}
