//! A frame as it arrived, and what of it is a datagram that may be relayed.
//!
//! The verdicts, in the order in which they are reached; the first that applies counts. "Not ours" frames are left
//! alone: they are no part of any ledger.
//!
//! | # | what is found | verdict |
//! |---|---|---|
//! | 1 | fewer bytes than the Ethernet header and tags need | `truncated` |
//! | 2 | a second VLAN tag, or an EtherType other than IPv4 | not ours |
//! | 3 | fewer bytes than an IPv4 header | `truncated` |
//! | 4 | version not 4, header length under 20, total length under the header's | `bad_ip_header` |
//! | 5 | a protocol other than UDP | not ours |
//! | 6 | the frame ends before the total length | `truncated` (bytes after it are padding, and cut off) |
//! | 7 | the IPv4 header checksum is wrong | `bad_ip_checksum` |
//! | 8 | a fragment, first or later | `fragment` |
//! | 9 | IPv4 options | `ip_options` |
//! | 10 | no room for a UDP header, or its length is not that of the IP payload | `bad_udp_length` |
//! | 11 | the UDP checksum is present, not vouched for, and wrong | `bad_udp_checksum` |
//!
//! From verdict 6 on the destination is told with the reason where it can be read, so that the relay it belongs to can
//! be charged.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::num::NonZeroU16;

use crate::checksum::udp_pseudo_header;
use crate::drop_reason::DropReason;
use crate::ethernet::{self, ETHERTYPE_IPV4, TPID_8021AD, TPID_8021Q, VlanId, VlanTag};
use crate::ipv4::Ipv4;
use crate::udp::{self, Udp};

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
    pub address: Ipv4Addr,
    /// The UDP port, in host byte order.
    pub port: u16,
}

/// The UDP checksum of a datagram that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpChecksum {
    /// The sender made none: it stays zero (RFC 768).
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
    pub source: SocketAddrV4,
    /// Priority and drop eligibility of its tag, the upper four bits of the control information; 0 when untagged.
    pub priority_bits: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Time to live, as it arrived.
    pub ttl: u8,
    /// Whether it must not be fragmented.
    pub dont_fragment: bool,
    /// The identification field.
    pub identification: u16,
    /// Its checksum.
    pub checksum: UdpChecksum,
    /// Set when it is a super-frame of several datagrams with this many bytes of payload each (the last may have less).
    pub segment_bytes: Option<NonZeroU16>,
    /// The payload.
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

impl Datagram<'_> {
    /// How many datagrams it carries: one, unless it is a super-frame.
    pub fn packets(&self) -> u64 {
        match self.segment_bytes {
            Some(bytes) => self.payload.len().div_ceil(usize::from(bytes.get())).max(1) as u64,
            None => 1,
        }
    }

    /// Bytes of its IP packets, headers included.
    pub fn ip_bytes(&self) -> u64 {
        let headers = (crate::ipv4::HEADER_BYTES + udp::HEADER_BYTES) as u64;
        self.packets() * headers + self.payload.len() as u64
    }
}

/// Reads a frame that starts with its Ethernet header.
///
/// # Errors
/// The [`Reject`] of the table above.
pub fn parse<'a>(frame: &'a [u8], meta: &FrameMeta) -> Result<Datagram<'a>, Reject> {
    let (tag, packet) = strip_link(frame, meta)?;
    let ip = Ipv4::new(packet).ok_or(unknown(DropReason::Truncated))?;
    let header_bytes = ip.header_bytes();
    if ip.version() != 4 || header_bytes < crate::ipv4::HEADER_BYTES || ip.total_bytes() < header_bytes {
        return Err(unknown(DropReason::BadIpHeader));
    }
    if ip.protocol() != crate::ipv4::PROTOCOL_UDP {
        return Err(Reject::NotOurs);
    }
    let vlan = tag.and_then(VlanTag::id);
    // The ports are readable also where the rest is not in order, unless it is a later fragment.
    let ports = ip.is_first().then(|| packet.get(header_bytes..).and_then(Udp::new)).flatten();
    let destination = ports.map(|udp| Destination { vlan, address: ip.destination(), port: udp.destination() });
    let drop = |reason| Reject::Drop { reason, destination };
    let payload_range = header_bytes..ip.total_bytes();
    let segment = packet.get(payload_range).ok_or(drop(DropReason::Truncated))?;
    if !ip.checksum_is_right() {
        return Err(drop(DropReason::BadIpChecksum));
    }
    if ip.is_fragment() {
        return Err(drop(DropReason::Fragment));
    }
    if header_bytes > crate::ipv4::HEADER_BYTES {
        return Err(drop(DropReason::IpOptions));
    }
    let udp = Udp::new(segment).ok_or(drop(DropReason::BadUdpLength))?;
    if udp.length() != segment.len() {
        return Err(drop(DropReason::BadUdpLength));
    }
    let checksum = udp_checksum(&ip, &udp, segment, meta).ok_or(drop(DropReason::BadUdpChecksum))?;
    Ok(Datagram {
        destination: Destination { vlan, address: ip.destination(), port: udp.destination() },
        source: SocketAddrV4::new(ip.source(), udp.source()),
        priority_bits: tag.map_or(0, VlanTag::priority_bits),
        traffic_class: ip.traffic_class(),
        ttl: ip.ttl(),
        dont_fragment: ip.fragmentation() & crate::ipv4::DONT_FRAGMENT != 0,
        identification: ip.identification(),
        checksum,
        segment_bytes: meta.segment_bytes,
        payload: &segment[udp::HEADER_BYTES..],
    })
}

const fn unknown(reason: DropReason) -> Reject {
    Reject::Drop { reason, destination: None }
}

/// Takes the Ethernet header and at most one tag off.
fn strip_link<'a>(frame: &'a [u8], meta: &FrameMeta) -> Result<(Option<VlanTag>, &'a [u8]), Reject> {
    let ethertype_at = |at: usize| {
        let bytes = frame.get(at..at + 2).ok_or(unknown(DropReason::Truncated))?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let outer = ethertype_at(12)?;
    let (tag, ethertype, headers) = match (outer, meta.vlan) {
        (TPID_8021Q | TPID_8021AD, Some(_)) => return Err(Reject::NotOurs),
        (TPID_8021Q | TPID_8021AD, None) => {
            let tci = ethertype_at(14)?;
            let tag = VlanTag { tpid: outer, tci };
            (Some(tag), ethertype_at(16)?, ethernet::HEADER_BYTES + ethernet::TAG_BYTES)
        }
        (ethertype, tag) => (tag, ethertype, ethernet::HEADER_BYTES),
    };
    if ethertype != ETHERTYPE_IPV4 {
        return Err(Reject::NotOurs);
    }
    Ok((tag, frame.get(headers..).unwrap_or_default()))
}

/// `None` when it is wrong.
fn udp_checksum(ip: &Ipv4<'_>, udp: &Udp<'_>, segment: &[u8], meta: &FrameMeta) -> Option<UdpChecksum> {
    match (udp.checksum(), meta.checksum) {
        // A partial checksum can fold to zero as well; the kernel's word comes first.
        (_, ChecksumState::Partial) => Some(UdpChecksum::Partial),
        (0, _) => Some(UdpChecksum::Zero),
        (value, ChecksumState::Valid) => Some(UdpChecksum::Known(value)),
        (value, ChecksumState::Unknown) => {
            let bytes = u16::try_from(segment.len()).ok()?;
            let sum = udp_pseudo_header(ip.source(), ip.destination(), bytes).add_bytes(segment);
            (sum.checksum() == 0).then_some(UdpChecksum::Known(value))
        }
    }
}
