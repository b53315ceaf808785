//! A frame as it arrived, and what of it is a datagram that may be relayed.
//!
//! The verdicts, in the order in which they are reached; the first that applies counts. "Not ours" frames are left
//! alone: they are no part of any ledger. "To" says whether a refusal tells the destination, so that the relays it
//! belongs to can be charged; "if there" means when the frame goes as far as the ports.
//!
//! | # | what is found | verdict | to |
//! |---|---|---|---|
//! | 1 | fewer bytes than the Ethernet header and its tags need | `truncated` | no |
//! | 2 | a third VLAN tag, VLAN 4095, VLAN 0 in one of two tags, or an EtherType other than IPv4 and IPv6 | not ours | |
//! | 3 | fewer bytes than an IP header of that family | `truncated` | no |
//! | 4 | a version that is not the EtherType's; IPv4: header length under 20, total length under the header's | `bad_ip_header` | no |
//! | 5 | a protocol other than UDP; IPv6: also behind one extension header | not ours | |
//! | 6 | the frame ends before the packet's length (bytes after it are padding, and cut off) | `truncated` | if there |
//! | 7 | IPv4: the header checksum is wrong | `bad_ip_checksum` | if there |
//! | 8 | a fragment, first or later, or an IPv6 fragment header ([`parse_following`] lets most pass) | `fragment` | the first |
//! | 9 | IPv4 options; IPv6 hop-by-hop or destination options, or a routing header | `ip_options` | if there |
//! | 10 | no room for a UDP header, or its length is not that of the IP payload (nor, in a super-frame, that of one segment) | `bad_udp_length` | if there |
//! | 11 | IPv4: a super-frame without UDP checksum: segmentation would give its datagrams one | `gso_unsupported` | yes |
//! | 12 | the UDP checksum is present, not vouched for, and wrong; IPv6: it is not present (RFC 8200 section 8.1) | `bad_udp_checksum` | yes |
//!
//! An IPv6 extension header that is cut off hides whether it is UDP: `truncated` if the frame ends there, `bad_ip_header`
//! if the packet does, to nobody. Behind two extension headers nobody looks for ports.
//!
//! The outer or only tag may be in the frame or beside it ([`FrameMeta::vlan`]). A priority tag (VLAN 0) alone is no VLAN: the
//! frame counts as untagged and keeps its priority. Of two tags the priority is that of the outer one.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;

use crate::checksum::udp_pseudo_header;
use crate::drop_reason::DropReason;
use crate::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, TPID_8021AD, TPID_8021Q, VlanId, VlanTag};
use crate::ipv4::{self, Ipv4};
use crate::ipv6::{self, Extension, Ipv6, Leads};
use crate::udp::{self, Udp};

mod fragment;

pub use fragment::{FragmentKey, Part, parse_following};

/// What the kernel knows of the UDP checksum of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumState {
    /// Nothing: verify it.
    Unknown,
    /// It was verified (`CHECKSUM_UNNECESSARY`, `TP_STATUS_CSUM_VALID`).
    Valid,
    /// It was left to be completed (`CHECKSUM_PARTIAL`, `TP_STATUS_CSUMNOTREADY`): the field holds the pseudo header's
    /// sum only, and the payload never left this host.
    Partial,
}

/// What came with a frame beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    /// The outer tag, when the kernel took it out of the frame.
    pub vlan: Option<VlanTag>,
    /// What is known of the UDP checksum.
    pub checksum: ChecksumState,
    /// Bytes of payload in each segment of a UDP super-frame (`SKB_GSO_UDP_L4`).
    pub segment_bytes: Option<NonZeroU16>,
}

impl FrameMeta {
    /// A frame of which only the bytes are known.
    pub const PLAIN: FrameMeta = FrameMeta { vlan: None, checksum: ChecksumState::Unknown, segment_bytes: None };
}

/// What relays are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The VLAN; `None`: untagged, or tagged with a priority only.
    pub vlan: Option<VlanId>,
    /// The address.
    pub address: IpAddr,
    /// The UDP port, in host byte order.
    pub port: u16,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)?;
        match self.vlan {
            Some(vlan) => write!(f, " in VLAN {vlan}"),
            None => Ok(()),
        }
    }
}

/// The UDP checksum of a datagram that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpChecksum {
    /// The sender made none: in IPv4 it stays zero (RFC 768).
    Zero,
    /// To be completed.
    Partial,
    /// Right, with this value in host byte order.
    Known(u16),
}

/// A UDP datagram that may be relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it was sent.
    pub destination: Destination,
    /// Where it came from.
    pub source: SocketAddr,
    /// Priority and drop eligibility of its tag, the outer one of two, the upper four bits of the control information; 0 when untagged.
    pub priority_bits: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Time to live or hop limit, as it arrived.
    pub ttl: u8,
    /// Whether it must not be fragmented; always so in IPv6, but for what was.
    pub dont_fragment: bool,
    /// The identification field, of 16 bits in IPv4; IPv6 has it in fragments only, of 32 bits, and else it is 0.
    pub identification: u32,
    /// The flow label of IPv6 (RFC 6437); 0 in IPv4.
    pub flow_label: u32,
    /// Its checksum; [`parse`] says [`UdpChecksum::Partial`] of every super-frame.
    pub checksum: UdpChecksum,
    /// Set when it is a super-frame of several datagrams with this many bytes of payload each (the last may have less).
    pub segment_bytes: Option<NonZeroU16>,
    /// What of the datagram is here; [`parse`] says [`Part::Whole`] of all that it passes.
    pub part: Part,
    /// The payload; of all its datagrams together in a super-frame.
    pub payload: &'a [u8],
}

/// A frame that is not relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Nothing that a relay could want: left alone.
    NotOurs,
    /// Something that a relay could have wanted.
    Drop {
        /// Why.
        reason: DropReason,
        /// Where it was sent, if that can be read.
        destination: Option<Destination>,
    },
}

/// What a ledger has to know of a refused frame beside the reason: [`parse`] is the faster for not finding it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Who sent it, if that can be read: a relay that lists its sources is charged for those only.
    pub source: Option<IpAddr>,
    /// How many datagrams it would have been: one, unless it is a super-frame.
    pub packets: u64,
    /// Bytes of its IP packets, as [`Datagram::ip_bytes`] counts them: what the IP header says, or, when there is
    /// none to believe, what follows the Ethernet header.
    pub ip_bytes: u64,
}

impl Refused {
    /// Reads what can be read of a frame that [`parse`] refused.
    #[cold]
    pub fn of(frame: &[u8], meta: &FrameMeta) -> Self {
        let Ok(Link { family, packet, .. }) = strip_link(frame, meta) else {
            let ip_bytes = frame.len().saturating_sub(ethernet::HEADER_BYTES) as u64;
            return Self { source: None, packets: 1, ip_bytes };
        };
        let Ok(ip) = ip_header(family, packet) else {
            return Self { source: None, packets: 1, ip_bytes: packet.len() as u64 };
        };
        let payload_bytes = ip.total_bytes().saturating_sub(ip.header_bytes() + udp::HEADER_BYTES);
        let packets = packets(payload_bytes, meta.segment_bytes);
        let header_bytes = ip.total_bytes() - payload_bytes;
        let ip_bytes = packets * header_bytes as u64 + payload_bytes as u64;
        Self { source: Some(ip.source()), packets, ip_bytes }
    }
}

impl<'a> Datagram<'a> {
    /// How many datagrams it carries: one, unless it is a super-frame.
    #[inline]
    pub fn packets(&self) -> u64 {
        packets(self.payload.len(), self.segment_bytes)
    }

    /// Bytes of its IP packets, headers included.
    #[inline]
    pub fn ip_bytes(&self) -> u64 {
        self.packets() * self.header_bytes() as u64 + self.payload.len() as u64
    }

    /// Bytes of the largest of its IP packets.
    #[inline]
    pub fn largest_ip_bytes(&self) -> u64 {
        (self.header_bytes() + self.largest_payload_bytes()) as u64
    }

    /// Bytes of the largest payload of its datagrams: with [`Rewrite::bytes_before`](crate::Rewrite::bytes_before), what
    /// the MTU of an output has to hold.
    #[inline]
    pub fn largest_payload_bytes(&self) -> usize {
        self.payload.len().min(self.segment_bytes.map_or(usize::MAX, |bytes| bytes.get().into()))
    }

    /// Bytes of the IP and UDP headers of each.
    #[inline]
    fn header_bytes(&self) -> usize {
        bytes_before_udp(self.destination.address, self.part) + self.udp_header_bytes()
    }

    /// Bytes of its UDP header, which a later fragment has not.
    #[inline]
    pub(crate) fn udp_header_bytes(&self) -> usize {
        match self.part {
            Part::Whole | Part::Atomic | Part::First { .. } => udp::HEADER_BYTES,
            Part::Later { .. } => 0,
        }
    }

    /// The identification of the datagram that follows so many others of a run. Those have
    /// fields of 16 bits, which wrap.
    #[inline]
    pub fn identification_after(&self, datagrams: usize) -> u32 {
        self.identification & !0xffff | u32::from((self.identification as u16).wrapping_add(datagrams as u16))
    }

    /// Its datagrams one by one; itself only, unless it is a super-frame.
    ///
    /// Identifications count up, as when Linux segments (`inet_gso_segment` in `net/ipv4/af_inet.c`).
    pub fn segments(&self) -> impl Iterator<Item = Datagram<'a>> + use<'a> {
        let whole = *self;
        let segment_bytes = whole.segment_bytes.map_or(usize::MAX, |bytes| bytes.get().into());
        let mut rest = Some(whole.payload);
        let payloads = core::iter::from_fn(move || {
            let (payload, after) = match rest?.split_at_checked(segment_bytes) {
                Some((payload, after)) => (payload, Some(after).filter(|after| !after.is_empty())),
                None => (rest?, None),
            };
            rest = after;
            Some(payload)
        });
        payloads.zip(0_usize..).map(move |(payload, index)| Datagram {
            identification: whole.identification_after(index),
            segment_bytes: None,
            payload,
            ..whole
        })
    }
}

/// Reads a frame that starts with its Ethernet header.
///
/// # Errors
/// The [`Reject`] of the table above.
#[inline]
pub fn parse<'a>(frame: &'a [u8], meta: &FrameMeta) -> Result<Datagram<'a>, Reject> {
    let Link { vlan, priority_bits, family, packet } = strip_link(frame, meta)?;
    let ip = ip_header(family, packet)?;
    let packet = Packet { ip, vlan, bytes: packet, meta };
    let segment = packet.whole_udp()?;
    let udp = packet.udp_header(segment)?;
    let payload = &segment[udp::HEADER_BYTES..];
    // What fits one segment is an ordinary datagram.
    let segment_bytes = meta.segment_bytes.filter(|bytes| usize::from(bytes.get()) < payload.len());
    let checksum = match segment_bytes {
        Some(_) => packet.super_frame_checksum(&udp, segment)?,
        None => packet.udp_checksum(&udp, segment)?,
    };
    Ok(Datagram {
        destination: Destination { vlan: packet.vlan, address: ip.destination(), port: udp.destination() },
        source: SocketAddr::new(ip.source(), udp.source()),
        priority_bits,
        traffic_class: ip.traffic_class(),
        ttl: ip.ttl(),
        dont_fragment: ip.dont_fragment(),
        identification: ip.identification(),
        flow_label: ip.flow_label(),
        checksum,
        segment_bytes,
        part: Part::Whole,
        payload,
    })
}

/// What an Ethernet header leads to.
struct Link<'a> {
    vlan: Option<VlanId>,
    priority_bits: u16,
    family: Family,
    packet: &'a [u8],
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// Takes the Ethernet header and at most two tags off: verdicts 1 and 2.
#[inline]
fn strip_link<'a>(frame: &'a [u8], meta: &FrameMeta) -> Result<Link<'a>, Reject> {
    let cut = unattributed(DropReason::Truncated);
    let (addresses_and_type, mut packet) = frame.split_first_chunk::<{ ethernet::HEADER_BYTES }>().ok_or(cut)?;
    let mut ethertype = u16::from_be_bytes([addresses_and_type[12], addresses_and_type[13]]);
    let (mut outer, mut inner) = (meta.vlan, None);
    while is_tag(ethertype) {
        let (bytes, rest) = packet.split_first_chunk::<{ ethernet::TAG_BYTES }>().ok_or(cut)?;
        let tag = Some(VlanTag { tpid: ethertype, tci: u16::from_be_bytes([bytes[0], bytes[1]]) });
        match (outer, inner) {
            (None, _) => outer = tag,
            (Some(_), None) => inner = tag,
            (Some(_), Some(_)) => return Err(Reject::NotOurs),
        }
        (ethertype, packet) = (u16::from_be_bytes([bytes[2], bytes[3]]), rest);
    }
    let family = match ethertype {
        ETHERTYPE_IPV4 => Family::V4,
        ETHERTYPE_IPV6 => Family::V6,
        _ => return Err(Reject::NotOurs),
    };
    let vlan = match (outer, inner) {
        (Some(outer), Some(inner)) => Some(inner.id().and_then(|id| id.within(outer.number())).ok_or(Reject::NotOurs)?),
        (Some(only), None) if only.is_reserved() => return Err(Reject::NotOurs),
        (only, _) => only.and_then(VlanTag::id),
    };
    Ok(Link { vlan, priority_bits: outer.map_or(0, VlanTag::priority_bits), family, packet })
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TPID_8021Q | TPID_8021AD)
}

/// The IP header of a packet of UDP.
#[derive(Clone, Copy)]
enum Ip<'a> {
    V4(Ipv4<'a>),
    V6(Ipv6<'a>),
}

/// Verdicts 3 to 5.
#[inline]
fn ip_header(family: Family, packet: &[u8]) -> Result<Ip<'_>, Reject> {
    match family {
        Family::V4 => ipv4_header(packet).map(Ip::V4),
        Family::V6 => ipv6_header(packet).map(Ip::V6),
    }
}

#[inline]
fn ipv4_header(packet: &[u8]) -> Result<Ipv4<'_>, Reject> {
    let ip = Ipv4::new(packet).ok_or(unattributed(DropReason::Truncated))?;
    if ip.version() != 4 || ip.header_bytes() < ipv4::HEADER_BYTES || ip.total_bytes() < ip.header_bytes() {
        return Err(unattributed(DropReason::BadIpHeader));
    }
    if ip.protocol() != ipv4::PROTOCOL_UDP {
        return Err(Reject::NotOurs);
    }
    Ok(ip)
}

#[inline]
fn ipv6_header(packet: &[u8]) -> Result<Ipv6<'_>, Reject> {
    let ip = Ipv6::new(packet).ok_or(unattributed(DropReason::Truncated))?;
    if ip.version() != 6 {
        return Err(unattributed(DropReason::BadIpHeader));
    }
    match ip.leads() {
        Leads::ToUdp | Leads::ToUdpBehind { .. } | Leads::Nowhere(_) => Ok(ip),
        Leads::Elsewhere => Err(Reject::NotOurs),
        Leads::Unreadable if packet.len() < ip.total_bytes() => Err(unattributed(DropReason::Truncated)),
        Leads::Unreadable => Err(unattributed(DropReason::BadIpHeader)),
    }
}

impl Ip<'_> {
    #[inline]
    fn total_bytes(&self) -> usize {
        match self {
            Self::V4(ip) => ip.total_bytes(),
            Self::V6(ip) => ip.total_bytes(),
        }
    }

    /// Bytes in front of the UDP header, as far as anybody looks for it.
    #[inline]
    fn header_bytes(&self) -> usize {
        match self {
            Self::V4(ip) => ip.header_bytes(),
            Self::V6(ip) => match ip.leads() {
                Leads::ToUdpBehind { udp_at, .. } => udp_at,
                Leads::ToUdp | Leads::Nowhere(_) | Leads::Elsewhere | Leads::Unreadable => ipv6::HEADER_BYTES,
            },
        }
    }

    /// Whether the ports are behind the header, where they belong.
    fn has_ports(&self) -> bool {
        match self {
            Self::V4(ip) => ip.is_first(),
            Self::V6(ip) => matches!(ip.leads(), Leads::ToUdp | Leads::ToUdpBehind { .. }),
        }
    }

    /// Verdicts 7 to 9.
    #[inline]
    fn judge(&self) -> Result<(), DropReason> {
        match self {
            Self::V4(ip) if !ip.checksum_is_right() => Err(DropReason::BadIpChecksum),
            Self::V4(ip) if ip.is_fragment() => Err(DropReason::Fragment),
            Self::V4(ip) if ip.header_bytes() > ipv4::HEADER_BYTES => Err(DropReason::IpOptions),
            Self::V4(_) => Ok(()),
            Self::V6(ip) => match ip.leads() {
                Leads::ToUdpBehind { extension, .. } | Leads::Nowhere(extension) => Err(match extension {
                    Extension::Fragment => DropReason::Fragment,
                    Extension::Options => DropReason::IpOptions,
                }),
                Leads::ToUdp | Leads::Elsewhere | Leads::Unreadable => Ok(()),
            },
        }
    }

    #[inline]
    fn source(&self) -> IpAddr {
        match self {
            Self::V4(ip) => ip.source().into(),
            Self::V6(ip) => ip.source().into(),
        }
    }

    #[inline]
    fn destination(&self) -> IpAddr {
        match self {
            Self::V4(ip) => ip.destination().into(),
            Self::V6(ip) => ip.destination().into(),
        }
    }

    #[inline]
    fn traffic_class(&self) -> u8 {
        match self {
            Self::V4(ip) => ip.traffic_class(),
            Self::V6(ip) => ip.traffic_class(),
        }
    }

    #[inline]
    fn ttl(&self) -> u8 {
        match self {
            Self::V4(ip) => ip.ttl(),
            Self::V6(ip) => ip.hop_limit(),
        }
    }

    #[inline]
    fn dont_fragment(&self) -> bool {
        match self {
            Self::V4(ip) => ip.fragmentation() & ipv4::DONT_FRAGMENT != 0,
            Self::V6(_) => true,
        }
    }

    #[inline]
    fn identification(&self) -> u32 {
        match self {
            Self::V4(ip) => ip.identification().into(),
            Self::V6(_) => 0,
        }
    }

    #[inline]
    fn flow_label(&self) -> u32 {
        match self {
            Self::V4(_) => 0,
            Self::V6(ip) => ip.flow_label(),
        }
    }
}

const fn unattributed(reason: DropReason) -> Reject {
    Reject::Drop { reason, destination: None }
}

/// An IP packet of UDP, its lengths and checksums still to be believed.
struct Packet<'a, 'm> {
    ip: Ip<'a>,
    vlan: Option<VlanId>,
    /// From the IP header to the end of the frame.
    bytes: &'a [u8],
    meta: &'m FrameMeta,
}

impl<'a> Packet<'a, '_> {
    /// The UDP header and payload, without padding: verdicts 6 to 9.
    #[inline]
    fn whole_udp(&self) -> Result<&'a [u8], Reject> {
        let Some(packet) = self.bytes.get(..self.ip.total_bytes()) else {
            return Err(self.refuse(DropReason::Truncated));
        };
        self.ip.judge().map_err(|reason| self.refuse(reason))?;
        Ok(&packet[self.ip.header_bytes()..])
    }

    /// Verdict 10.
    #[inline]
    fn udp_header(&self, segment: &'a [u8]) -> Result<Udp<'a>, Reject> {
        let udp = Udp::new(segment).ok_or_else(|| self.refuse(DropReason::BadUdpLength))?;
        if udp.length() == segment.len() || self.is_length_of_one_segment(udp.length(), segment) {
            Ok(udp)
        } else {
            Err(self.refuse(DropReason::BadUdpLength))
        }
    }

    /// Linux lets the field cover the super-frame; drivers of other kernels' making need not.
    fn is_length_of_one_segment(&self, length: usize, segment: &[u8]) -> bool {
        self.meta.segment_bytes.is_some_and(|bytes| length == udp::HEADER_BYTES + usize::from(bytes.get()))
            && length < segment.len()
    }

    /// Verdict 11, and 12 for super-frames. None of its datagrams has the checksum of the whole, so it is to be
    /// completed once they are apart.
    #[inline]
    fn super_frame_checksum(&self, udp: &Udp<'_>, segment: &[u8]) -> Result<UdpChecksum, Reject> {
        match self.udp_checksum(udp, segment)? {
            UdpChecksum::Zero => Err(self.refuse(DropReason::GsoUnsupported)),
            UdpChecksum::Partial | UdpChecksum::Known(_) => Ok(UdpChecksum::Partial),
        }
    }

    /// Verdict 12.
    #[inline]
    fn udp_checksum(&self, udp: &Udp<'_>, segment: &[u8]) -> Result<UdpChecksum, Reject> {
        match (udp.checksum(), self.meta.checksum) {
            // A zero sum of the pseudo header is no "none": the kernel's word comes first.
            (_, ChecksumState::Partial) => Ok(UdpChecksum::Partial),
            (0, ChecksumState::Valid | ChecksumState::Unknown) => match self.ip {
                Ip::V4(_) => Ok(UdpChecksum::Zero),
                Ip::V6(_) => Err(self.refuse(DropReason::BadUdpChecksum)),
            },
            (value, ChecksumState::Valid) => Ok(UdpChecksum::Known(value)),
            (value, ChecksumState::Unknown) if self.verifies(udp, segment) => Ok(UdpChecksum::Known(value)),
            (_, ChecksumState::Unknown) => Err(self.refuse(DropReason::BadUdpChecksum)),
        }
    }

    #[inline]
    fn verifies(&self, udp: &Udp<'_>, segment: &[u8]) -> bool {
        // The length is a field of 16 bits.
        let pseudo_header = udp_pseudo_header(self.ip.source(), self.ip.destination(), udp.length() as u16);
        pseudo_header.add_bytes(segment).checksum() == 0
    }

    /// The refusal, with what can be read of where the packet was sent.
    #[cold]
    fn refuse(&self, reason: DropReason) -> Reject {
        // Ports are not looked for in padding, nor in a later fragment.
        let there = &self.bytes[..self.bytes.len().min(self.ip.total_bytes())];
        let segment = there.get(self.ip.header_bytes()..).unwrap_or_default();
        let port = udp::destination_port(segment).filter(|_| self.ip.has_ports());
        let destination = port.map(|port| Destination { vlan: self.vlan, address: self.ip.destination(), port });
        Reject::Drop { reason, destination }
    }
}

/// Bytes in front of the UDP header, or of what is in its place, of a relayed packet to or from an address of this family.
#[inline]
pub(crate) const fn bytes_before_udp(address: IpAddr, part: Part) -> usize {
    match (address, part) {
        (IpAddr::V4(_), _) => ipv4::HEADER_BYTES,
        (IpAddr::V6(_), Part::Whole) => ipv6::HEADER_BYTES,
        (IpAddr::V6(_), Part::Atomic | Part::First { .. } | Part::Later { .. }) => {
            ipv6::HEADER_BYTES + ipv6::EXTENSION_BYTES
        }
    }
}

/// How many datagrams share a payload; an empty one is one, too.
#[inline]
fn packets(payload_bytes: usize, segment_bytes: Option<NonZeroU16>) -> u64 {
    segment_bytes.map_or(1, |bytes| payload_bytes.div_ceil(bytes.get().into()).max(1) as u64)
}
