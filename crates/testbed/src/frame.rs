//! Frames made by hand: Ethernet, VLAN tags, IPv4 or IPv6, and UDP with every field settable, right unless asked to be
//! wrong.
//!
//! ```
//! use mcr_testbed::{Checksum, Frame};
//!
//! let good = Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", b"hello");
//! let damaged = Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", b"hello").udp_checksum(Checksum::Wrong);
//! assert_ne!(good.bytes(), damaged.bytes());
//! ```
//!
//! Layouts: IEEE 802.3 and 802.1Q, RFC 791 section 3.1, RFC 8200 section 3, RFC 768. All fields go out in network order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use crate::interface::Mac;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_BYTES: usize = 14;
/// Bytes of a UDP header.
pub const UDP_BYTES: usize = 8;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const PROTOCOL_UDP: u8 = 17;
/// The kind of the fragment header (RFC 8200 section 4.5).
const FRAGMENT_HEADER: u8 = 44;

/// What to write in a checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The right one.
    Right,
    /// Any but the right one, and not zero.
    Wrong,
    /// Zero: "none" to UDP.
    Zero,
    /// The folded sum of the pseudo header, for a device to finish, as a local socket leaves it (`CHECKSUM_PARTIAL`).
    Partial,
    /// These bytes.
    Exactly(u16),
}

/// A VLAN tag: 802.1Q or 802.1ad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// 0x8100 (customer) or 0x88a8 (service).
    pub protocol: u16,
    /// Priority (3 bits), drop eligible (1 bit), VLAN number (12 bits).
    pub control: u16,
}

impl Tag {
    /// A customer tag without priority.
    pub const fn vlan(number: u16) -> Tag {
        Tag { protocol: 0x8100, control: number & 0x0fff }
    }

    /// A customer tag with a priority from 0 to 7.
    pub const fn with_priority(number: u16, priority: u8) -> Tag {
        Tag { protocol: 0x8100, control: (priority as u16 & 7) << 13 | number & 0x0fff }
    }

    /// A service tag without priority.
    pub const fn service(number: u16) -> Tag {
        Tag { protocol: 0x88a8, control: number & 0x0fff }
    }
}

/// A frame under construction. Lengths and checksums are worked out in [`Frame::bytes`], from the fields as they are then,
/// unless they were set.
#[derive(Debug, Clone)]
pub struct Frame {
    source_mac: Mac,
    destination_mac: Mac,
    pub(crate) tags: Vec<Tag>,
    ethertype: Option<u16>,
    version: Option<u8>,
    header_words: Option<u8>,
    pub(crate) traffic_class: u8,
    total_length: Option<u16>,
    pub(crate) identification: u16,
    pub(crate) flags_and_offset: u16,
    pub(crate) flow_label: u32,
    pub(crate) ttl: u8,
    protocol: u8,
    ip_checksum: Checksum,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    has_udp_header: bool,
    udp_length: Option<u16>,
    pub(crate) udp_checksum: Checksum,
    pub(crate) payload: Vec<u8>,
    padding_bytes: usize,
    length: Option<usize>,
}

impl Frame {
    /// A right frame: to the group's MAC address (or broadcast, for a unicast address) from 02:00:00:00:00:01, TTL 16, DF set.
    ///
    /// # Panics
    /// When an address is not `a.b.c.d:port` or `[a::b]:port`.
    #[track_caller]
    pub fn udp(source: &str, destination: &str, payload: impl Into<Vec<u8>>) -> Frame {
        let destination = end(destination);
        let to_group = destination.ip().is_multicast();
        Frame {
            source_mac: Mac([0x02, 0, 0, 0, 0, 0x01]),
            destination_mac: if to_group { Mac::of_group(destination.ip()) } else { Mac::BROADCAST },
            tags: Vec::new(),
            ethertype: None,
            version: None,
            header_words: None,
            traffic_class: 0,
            total_length: None,
            identification: if destination.is_ipv4() { 0x1234 } else { 0 },
            flags_and_offset: 0x4000,
            flow_label: 0,
            ttl: 16,
            protocol: PROTOCOL_UDP,
            ip_checksum: Checksum::Right,
            source: end(source),
            destination,
            options: Vec::new(),
            extensions: Vec::new(),
            has_udp_header: true,
            udp_length: None,
            udp_checksum: Checksum::Right,
            payload: payload.into(),
            padding_bytes: 0,
            length: None,
        }
    }

    /// The sender's hardware address.
    pub fn source_mac(mut self, mac: Mac) -> Frame {
        self.source_mac = mac;
        self
    }

    /// The receiver's hardware address.
    pub fn destination_mac(mut self, mac: Mac) -> Frame {
        self.destination_mac = mac;
        self
    }

    /// Adds a VLAN tag, inside of those already there.
    pub fn tag(mut self, tag: Tag) -> Frame {
        self.tags.push(tag);
        self
    }

    /// The type after the tags.
    pub fn ethertype(mut self, ethertype: u16) -> Frame {
        self.ethertype = Some(ethertype);
        self
    }

    /// The IP version field, 4 bits.
    pub fn version(mut self, version: u8) -> Frame {
        self.version = Some(version);
        self
    }

    /// The header length field in words of 4 bytes, 4 bits, whatever the header is.
    pub fn header_words(mut self, words: u8) -> Frame {
        self.header_words = Some(words);
        self
    }

    /// The byte of DSCP (6 bits) and ECN (2 bits).
    pub fn traffic_class(mut self, dscp_and_ecn: u8) -> Frame {
        self.traffic_class = dscp_and_ecn;
        self
    }

    /// The length field of the IP header in bytes, whatever the packet is: in IPv6 that of what follows the header.
    pub fn total_length(mut self, bytes: u16) -> Frame {
        self.total_length = Some(bytes);
        self
    }

    /// The flow label of IPv6, 20 bits.
    pub fn flow_label(mut self, label: u32) -> Frame {
        self.flow_label = label;
        self
    }

    /// The identification field.
    pub fn identification(mut self, identification: u16) -> Frame {
        self.identification = identification;
        self
    }

    /// Flags (reserved, DF 0x4000, MF 0x2000) and the fragment offset in units of 8 bytes.
    pub fn flags_and_offset(mut self, value: u16) -> Frame {
        self.flags_and_offset = value;
        self
    }

    /// Time to live or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Frame {
        self.ttl = ttl;
        self
    }

    /// The IP protocol field, whatever follows.
    pub fn protocol(mut self, protocol: u8) -> Frame {
        self.protocol = protocol;
        self
    }

    /// The IP header checksum field.
    pub fn ip_checksum(mut self, checksum: Checksum) -> Frame {
        self.ip_checksum = checksum;
        self
    }

    /// IP options; filled up with zeros (end of options) to whole words.
    ///
    /// # Panics
    /// When they are longer than the 40 bytes that a header has room for.
    #[track_caller]
    pub fn options(mut self, options: &[u8]) -> Frame {
        assert!(options.len() <= 40, "an IPv4 header has room for 40 bytes of options");
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an IPv6 extension header of this kind, behind those already there; `body` is what follows its first byte,
    /// which says what comes next.
    pub fn extension(mut self, kind: u8, body: &[u8]) -> Frame {
        self.extensions.push((kind, body.to_vec()));
        self
    }

    /// The payload follows the IP header at once, as in a later fragment; the ports say to whom it belongs.
    pub fn without_udp_header(mut self) -> Frame {
        self.has_udp_header = false;
        self
    }

    /// The UDP length field, whatever the datagram is.
    pub fn udp_length(mut self, bytes: u16) -> Frame {
        self.udp_length = Some(bytes);
        self
    }

    /// The UDP checksum field.
    pub fn udp_checksum(mut self, checksum: Checksum) -> Frame {
        self.udp_checksum = checksum;
        self
    }

    /// Zeros after the IP packet, as a link with a minimum length adds them.
    pub fn padding(mut self, bytes: usize) -> Frame {
        self.padding_bytes = bytes;
        self
    }

    /// Cuts the finished frame to this length.
    pub fn cut_to(mut self, bytes: usize) -> Frame {
        self.length = Some(bytes);
        self
    }

    /// The bytes from the destination MAC address on, without the frame check sequence.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.ethernet_header();
        bytes.extend(self.ip_header());
        bytes.extend(self.datagram());
        bytes.resize(bytes.len() + self.padding_bytes, 0);
        if let Some(length) = self.length {
            bytes.truncate(length);
        }
        bytes
    }

    /// The frame's IP packet cut into fragments of at most `payload_bytes` (a multiple of 8) after their headers, each a frame.
    ///
    /// # Panics
    /// When `payload_bytes` is no multiple of 8, or zero.
    #[track_caller]
    pub fn fragments(&self, payload_bytes: usize) -> Vec<Vec<u8>> {
        assert!(payload_bytes > 0 && payload_bytes.is_multiple_of(8), "fragments begin at multiples of 8 bytes");
        let datagram = self.datagram();
        let pieces = datagram.len().div_ceil(payload_bytes);
        let mut frames = Vec::with_capacity(pieces);
        for (number, piece) in datagram.chunks(payload_bytes).enumerate() {
            let more = if number + 1 < pieces { 0x2000 } else { 0 };
            let place = more | low16(number * payload_bytes / 8);
            let mut head = self.clone().fragment(u32::from(self.identification), place);
            let before_field = if self.is_ipv6() { IPV6_BYTES } else { 0 };
            head.total_length = Some(low16(head.ip_header_bytes() - before_field + piece.len()));
            let mut bytes = head.ethernet_header();
            bytes.extend(head.ip_header());
            bytes.extend(piece);
            frames.push(bytes);
        }
        frames
    }

    fn ethernet_header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ETHERNET_BYTES + 4 * self.tags.len() + 1500);
        bytes.extend(self.destination_mac.0);
        bytes.extend(self.source_mac.0);
        for tag in &self.tags {
            bytes.extend(tag.protocol.to_be_bytes());
            bytes.extend(tag.control.to_be_bytes());
        }
        let ethertype = if self.is_ipv6() { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        bytes.extend(self.ethertype.unwrap_or(ethertype).to_be_bytes());
        bytes
    }

    /// Makes it a fragment of its family: the identification, and "more fragments" and the offset as in an IPv4 header. Of
    /// IPv6 0 is a fragment, too, which is whole (RFC 6946).
    pub fn fragment(self, identification: u32, place: u16) -> Frame {
        if !self.is_ipv6() {
            return self.identification((identification & 0xffff) as u16).flags_and_offset(place);
        }
        let mut body = vec![0];
        body.extend(((place & 0x1fff) << 3 | place >> 13 & 1).to_be_bytes());
        body.extend(identification.to_be_bytes());
        self.extension(FRAGMENT_HEADER, &body)
    }

    /// What [`Frame::fragment`] made of it.
    pub(crate) fn fragmentation(&self) -> Option<(u32, u16)> {
        if !self.is_ipv6() {
            let place = self.flags_and_offset & 0x3fff;
            return (place != 0).then(|| (self.identification.into(), place));
        }
        let (_, body) = self.extensions.iter().find(|(kind, _)| *kind == FRAGMENT_HEADER)?;
        let word = read_u16(body, 1)?;
        Some((u32::from(read_u16(body, 3)?) << 16 | u32::from(read_u16(body, 5)?), word >> 3 | (word & 1) << 13))
    }

    /// Bytes of UDP header and payload.
    pub fn datagram_bytes(&self) -> usize {
        UDP_BYTES + self.payload.len()
    }

    /// Takes all extension headers off.
    pub(crate) fn without_extensions(mut self) -> Frame {
        self.extensions.clear();
        self
    }

    /// Whether it is a fragment that has the beginning of a datagram and not all of it.
    pub(crate) fn is_first_fragment(&self) -> bool {
        self.fragmentation().is_some_and(|(_, place)| place == 0x2000)
    }

    /// Whether it is addressed by IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.destination.is_ipv6()
    }

    fn ip_header(&self) -> Vec<u8> {
        if self.is_ipv6() { self.ipv6_header() } else { self.ipv4_header() }
    }

    fn ipv4_header(&self) -> Vec<u8> {
        let header_bytes = self.ip_header_bytes();
        let words = self.header_words.unwrap_or(u8::try_from(header_bytes / 4).unwrap_or(15));
        let total = self.total_length.unwrap_or_else(|| low16(self.ip_bytes()));
        let mut bytes = vec![self.version.unwrap_or(4) << 4 | words & 0x0f, self.traffic_class];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.identification.to_be_bytes());
        bytes.extend(self.flags_and_offset.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(octets(self.source.ip()));
        bytes.extend(octets(self.destination.ip()));
        bytes.extend(&self.options);
        let checksum = self.ip_checksum.field(!sum(&bytes), 0);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn ipv6_header(&self) -> Vec<u8> {
        let version = u32::from(self.version.unwrap_or(6));
        let first = version << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        let length = self.total_length.unwrap_or_else(|| low16(self.ip_bytes() - IPV6_BYTES));
        let kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).chain([self.protocol]).collect();
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend(length.to_be_bytes());
        bytes.extend([kinds[0], self.ttl]);
        bytes.extend(octets(self.source.ip()));
        bytes.extend(octets(self.destination.ip()));
        for ((_, body), next) in self.extensions.iter().zip(&kinds[1..]) {
            bytes.push(*next);
            bytes.extend(body);
        }
        bytes
    }

    /// Bytes in front of the UDP header, from the IP header on.
    fn ip_header_bytes(&self) -> usize {
        let extensions = self.extensions.iter().map(|(_, body)| 1 + body.len());
        if self.is_ipv6() { IPV6_BYTES + extensions.sum::<usize>() } else { IPV4_BYTES + self.options.len() }
    }

    /// Where the UDP header begins.
    pub(crate) fn udp_offset(&self) -> u16 {
        low16(ETHERNET_BYTES + 4 * self.tags.len() + self.ip_header_bytes())
    }

    /// Bytes of the packet as it is, whatever its header says.
    fn ip_bytes(&self) -> usize {
        let udp_bytes = if self.has_udp_header { UDP_BYTES } else { 0 };
        self.ip_header_bytes() + udp_bytes + self.payload.len()
    }

    /// What the header says that the packet is long.
    pub(crate) fn told_bytes(&self) -> u32 {
        let before_field = if self.is_ipv6() { IPV6_BYTES } else { 0 };
        let bytes = self.total_length.map_or(self.ip_bytes(), |field| before_field + usize::from(field));
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// UDP header and payload.
    fn datagram(&self) -> Vec<u8> {
        if !self.has_udp_header {
            return self.payload.clone();
        }
        let mut bytes = Vec::with_capacity(UDP_BYTES + self.payload.len());
        let length = self.udp_length.unwrap_or_else(|| low16(UDP_BYTES + self.payload.len()));
        for field in [self.source.port(), self.destination.port(), length, 0] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(&self.payload);
        let mut covered = self.pseudo_header(length);
        let partial = sum(&covered);
        covered.extend(&bytes);
        // A computed zero is sent as all ones: zero means that there is no checksum (RFC 768).
        let right = match !sum(&covered) {
            0 => 0xffff,
            other => other,
        };
        bytes[6..8].copy_from_slice(&self.udp_checksum.field(right, partial).to_be_bytes());
        bytes
    }

    /// That of IPv6 has the same words, and zeros between them.
    fn pseudo_header(&self, udp_length: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(36 + UDP_BYTES + self.payload.len());
        bytes.extend(octets(self.source.ip()));
        bytes.extend(octets(self.destination.ip()));
        bytes.extend([0, PROTOCOL_UDP]);
        bytes.extend(udp_length.to_be_bytes());
        bytes
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl Checksum {
    fn field(self, right: u16, partial: u16) -> u16 {
        match self {
            Checksum::Right => right,
            // Changing one bit never yields the other form of the same sum (0 and 0xffff differ in 16 bits).
            Checksum::Wrong if right ^ 0x0100 == 0 => right ^ 0x0200,
            Checksum::Wrong => right ^ 0x0100,
            Checksum::Zero => 0,
            Checksum::Partial => partial,
            Checksum::Exactly(value) => value,
        }
    }
}

/// The ones' complement sum of 16-bit words (RFC 1071), written for plainness: one word at a time, an odd byte filled up with zero.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum & 0xffff) as u16 + (sum >> 16) as u16
}

/// What of an untagged or tagged frame of UDP a receiver wants to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// To whom.
    pub destination_mac: Mac,
    /// From whom.
    pub source_mac: Mac,
    /// VLAN tags, the outer one first.
    pub tags: Vec<Tag>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Identification field; 0 in IPv6.
    pub identification: u16,
    /// Flags and fragment offset; 0 in IPv6.
    pub flags_and_offset: u16,
    /// The flow label; 0 in IPv4.
    pub flow_label: u32,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// From which address and port.
    pub source: SocketAddr,
    /// To which address and port.
    pub destination: SocketAddr,
    /// Whether the IP header checksum is right; IPv6 has none, which is right.
    pub ip_checksum_is_right: bool,
    /// The UDP checksum field as it is.
    pub udp_checksum: u16,
    /// Whether the UDP checksum is right for addresses, ports and payload (zero is not: see [`Seen::udp_checksum`]).
    pub udp_checksum_is_right: bool,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Seen {
    /// Reads a whole UDP datagram in a frame; `None` for anything else (ARP, IGMP, fragments, extension headers, damaged
    /// lengths).
    pub fn read(frame: &[u8]) -> Option<Seen> {
        let mut at = 12;
        let mut tags = Vec::new();
        while let protocol @ (0x8100 | 0x88a8) = read_u16(frame, at)? {
            tags.push(Tag { protocol, control: read_u16(frame, at + 2)? });
            at += 4;
        }
        let ip = frame.get(at + 2..)?;
        match (read_u16(frame, at)?, ip.first()? >> 4) {
            (ETHERTYPE_IPV4, 4) => Seen::read_ipv4(frame, tags, ip),
            (ETHERTYPE_IPV6, 6) => Seen::read_ipv6(frame, tags, ip),
            _ => None,
        }
    }

    fn read_ipv4(frame: &[u8], tags: Vec<Tag>, ip: &[u8]) -> Option<Seen> {
        let header_bytes = usize::from(*ip.first()? & 0x0f) * 4;
        let flags_and_offset = read_u16(ip, 6)?;
        let is_whole = flags_and_offset & 0x3fff == 0;
        if *ip.get(9)? != PROTOCOL_UDP || !is_whole || header_bytes < IPV4_BYTES {
            return None;
        }
        let ip = ip.get(..usize::from(read_u16(ip, 2)?))?;
        let addresses = ip.get(12..20)?;
        let udp = ip.get(header_bytes..)?;
        let seen = Seen::read_udp(frame, tags, addresses, udp)?;
        Some(Seen {
            traffic_class: ip[1],
            identification: read_u16(ip, 4)?,
            flags_and_offset,
            ttl: ip[8],
            ip_checksum_is_right: sum(&ip[..header_bytes]) == 0xffff,
            ..seen
        })
    }

    fn read_ipv6(frame: &[u8], tags: Vec<Tag>, ip: &[u8]) -> Option<Seen> {
        let ip = ip.get(..IPV6_BYTES + usize::from(read_u16(ip, 4)?))?;
        if ip[6] != PROTOCOL_UDP {
            return None;
        }
        let first = u32::from_be_bytes(*ip.first_chunk()?);
        let (addresses, udp) = ip[8..].split_at(32);
        let seen = Seen::read_udp(frame, tags, addresses, udp)?;
        Some(Seen { traffic_class: (first >> 20) as u8, flow_label: first & 0x000f_ffff, ttl: ip[7], ..seen })
    }

    /// What is the same in both families; the rest is left for whoever read the IP header.
    fn read_udp(frame: &[u8], tags: Vec<Tag>, addresses: &[u8], udp: &[u8]) -> Option<Seen> {
        let length = read_u16(udp, 4)?;
        let udp = udp.get(..usize::from(length))?;
        let mut covered = addresses.to_vec();
        covered.extend([0, PROTOCOL_UDP]);
        covered.extend(length.to_be_bytes());
        covered.extend(udp);
        let (source, destination) = addresses.split_at(addresses.len() / 2);
        Some(Seen {
            destination_mac: read_mac(frame, 0)?,
            source_mac: read_mac(frame, 6)?,
            tags,
            traffic_class: 0,
            identification: 0,
            flags_and_offset: 0,
            flow_label: 0,
            ttl: 0,
            source: SocketAddr::new(read_address(source)?, read_u16(udp, 0)?),
            destination: SocketAddr::new(read_address(destination)?, read_u16(udp, 2)?),
            ip_checksum_is_right: true,
            udp_checksum: read_u16(udp, 6)?,
            udp_checksum_is_right: read_u16(udp, 6)? != 0 && sum(&covered) == 0xffff,
            payload: udp.get(UDP_BYTES..)?.to_vec(),
        })
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn read_mac(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..at + 6)?.try_into().ok().map(Mac)
}

fn read_address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => octets.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        _ => octets.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
    }
}

#[track_caller]
pub(crate) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address and port, as 239.1.1.1:5000 or [ff3e::1]:5000"))
}

#[track_caller]
pub(crate) fn endpoint(text: &str) -> SocketAddrV4 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an IPv4 address and port, as 239.1.1.1:5000"))
}

/// A length as a header field would hold it: a super-frame's is cut to 16 bits, which a test may want to see.
fn low16(value: usize) -> u16 {
    (value & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Frame {
        Frame::udp("192.168.168.55:5000", "239.1.2.3:5001", b"payload".to_vec())
    }

    /// The header and its checksum 0xb861 are the well-known worked example of the IPv4 header checksum.
    #[test]
    fn the_ip_checksum_is_that_of_a_known_header() {
        let frame = Frame::udp("192.168.0.1:1", "192.168.0.199:2", vec![0; 87])
            .identification(0)
            .ttl(64)
            .total_length(0x73)
            .bytes();
        assert_eq!(frame[14 + 10..14 + 12], [0xb8, 0x61]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let frame =
            sample().tag(Tag::service(7)).tag(Tag::with_priority(9, 5)).traffic_class(0xb9).options(&[1]).padding(5);
        let seen = Seen::read(&frame.bytes()).expect("a whole datagram");
        assert_eq!(seen.destination_mac, Mac([0x01, 0x00, 0x5e, 1, 2, 3]));
        assert_eq!(seen.tags, [Tag { protocol: 0x88a8, control: 7 }, Tag { protocol: 0x8100, control: 0xa009 }]);
        assert_eq!((seen.traffic_class, seen.ttl, seen.identification), (0xb9, 16, 0x1234));
        assert_eq!((seen.source, seen.destination), (end("192.168.168.55:5000"), end("239.1.2.3:5001")));
        assert!(seen.ip_checksum_is_right && seen.udp_checksum_is_right);
        assert_eq!(seen.payload, b"payload");
    }

    /// The datagram and its checksum are those of etherparse and of the kernel; so are the bytes of the header.
    #[test]
    fn an_ipv6_header_is_that_of_rfc_8200() {
        let frame = Frame::udp("[fd00:dead::55]:5000", "[ff3e::1:2]:5001", b"abc")
            .traffic_class(0xb9)
            .flow_label(0x12345)
            .ttl(3);
        let bytes = frame.bytes();
        assert_eq!(bytes[..6], [0x33, 0x33, 0, 1, 0, 2]);
        assert_eq!(bytes[12..22], [0x86, 0xdd, 0x6b, 0x91, 0x23, 0x45, 0, 11, 17, 3]);
        assert_eq!(bytes.len(), 14 + 40 + 8 + 3);
        let seen = Seen::read(&bytes).expect("a whole datagram");
        assert_eq!((seen.source, seen.destination), (end("[fd00:dead::55]:5000"), end("[ff3e::1:2]:5001")));
        assert_eq!((seen.traffic_class, seen.flow_label, seen.ttl), (0xb9, 0x12345, 3));
        assert!(seen.udp_checksum_is_right);
        let wrong = Seen::read(&frame.clone().udp_checksum(Checksum::Wrong).bytes()).expect("a whole datagram");
        assert!(!wrong.udp_checksum_is_right);
        assert_eq!(Seen::read(&frame.extension(60, &[0; 7]).bytes()), None);
    }

    #[test]
    fn wrong_on_purpose_is_wrong() {
        let seen = |frame: Frame| Seen::read(&frame.bytes()).expect("a whole datagram");
        assert!(!seen(sample().ip_checksum(Checksum::Wrong)).ip_checksum_is_right);
        for checksum in [Checksum::Wrong, Checksum::Zero, Checksum::Partial] {
            assert!(!seen(sample().udp_checksum(checksum)).udp_checksum_is_right, "{checksum:?}");
        }
        assert_eq!(seen(sample().udp_checksum(Checksum::Exactly(0xabcd))).udp_checksum, 0xabcd);
        assert_eq!(Seen::read(&sample().cut_to(40).bytes()), None);
        assert_eq!(Seen::read(&sample().udp_length(100).bytes()), None);
        assert_eq!(Seen::read(&sample().protocol(2).bytes()), None);
        assert_eq!(Seen::read(&sample().version(6).bytes()), None);
    }

    #[test]
    fn a_wrong_checksum_is_never_the_right_one_in_its_other_form() {
        for right in 0..=u16::MAX {
            let wrong = Checksum::Wrong.field(right, 0);
            assert!(wrong != right && wrong != 0 && (wrong ^ right) != 0xffff, "{right:04x}");
        }
    }

    #[test]
    fn fragments_add_up_to_the_datagram() {
        let whole = Frame::udp("10.0.0.1:1", "10.0.0.2:2", vec![7; 100]);
        let fragments = whole.fragments(48);
        let offsets: Vec<u16> = fragments.iter().map(|frame| read_u16(frame, 14 + 6).expect("a header")).collect();
        assert_eq!(offsets, [0x2000, 0x2006, 0x000c]);
        let together: Vec<u8> = fragments.iter().flat_map(|frame| frame[34..].to_vec()).collect();
        assert_eq!(together, whole.bytes()[34..]);
        assert!(fragments.iter().all(|frame| sum(&frame[14..34]) == 0xffff));
    }

    /// The fragment header is that of RFC 8200 section 4.5, by hand.
    #[test]
    fn fragments_of_ipv6_have_a_header_of_their_own() {
        let whole = Frame::udp("[fd00::1]:1", "[fd00::2]:2", vec![7; 100]);
        let fragments = whole.fragments(48);
        let heads: Vec<&[u8]> = fragments.iter().map(|frame| &frame[18..14 + 48]).collect();
        assert_eq!((heads[0][..3].to_vec(), heads[2][..3].to_vec()), (vec![0, 56, 44], vec![0, 20, 44]));
        let places: Vec<&[u8]> = heads.iter().map(|head| &head[36..40]).collect();
        assert_eq!(places, [[17, 0, 0, 1], [17, 0, 0, 49], [17, 0, 0, 96]]);
        let together: Vec<u8> = fragments.iter().flat_map(|frame| frame[62..].to_vec()).collect();
        assert_eq!(together, whole.bytes()[54..]);
        let one = whole.fragment(0x1234_5678, 0x2007);
        assert_eq!(one.fragmentation(), Some((0x1234_5678, 0x2007)));
    }

    #[test]
    fn reading_never_panics_on_a_prefix() {
        let frame = sample().tag(Tag::vlan(1)).bytes();
        for length in 0..frame.len() {
            assert_eq!(Seen::read(&frame[..length]), None, "{length} bytes");
        }
    }
}
