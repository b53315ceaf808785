//! Fragments of datagrams (RFC 791 section 3.2, RFC 8200 section 4.5).
//!
//! Only the first has the ports that tell the relay; the others follow it by their [`FragmentKey`]. Each is a packet of its
//! own, here and in the books. The checksum of the first covers bytes that are not there: it is not verified, but updated
//! like any, so that the receiver finds out. A packet of IPv6 with a fragment header that is whole all the same is one by
//! itself (RFC 6946), and verified.
//!
//! What has options or more extension headers too, or comes as a super-frame or with a checksum left to be completed, stays refused.

use core::net::{IpAddr, SocketAddr};

use super::{ChecksumState, Datagram, Destination, FrameMeta, Ip, Link, Packet, Reject, UdpChecksum};
use super::{ip_header, parse, strip_link};
use crate::drop_reason::DropReason;
use crate::ethernet::VlanId;
use crate::ipv4::{self, MORE_FRAGMENTS, OFFSET_MASK};
use crate::ipv6::FragmentHeader;
use crate::udp::{self, Udp};

/// What of a datagram is in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// All of it, behind a fragment header of IPv6, which it leaves with.
    Atomic,
    /// Its beginning.
    First {
        /// What the UDP header says that the whole is long, header included.
        udp_bytes: u16,
    },
    /// A piece behind that, without a UDP header: the source port is 0, the destination port that of the first.
    Later {
        /// "More fragments" and the offset, as in an IPv4 header.
        place: u16,
    },
}

impl Part {
    /// "More fragments" and the offset, as in an IPv4 header.
    #[inline]
    pub const fn place(self) -> u16 {
        match self {
            Self::Whole | Self::Atomic => 0,
            Self::First { .. } => MORE_FRAGMENTS,
            Self::Later { place } => place,
        }
    }
}

/// What the fragments of a datagram have in common, and nothing else that is under way at an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// The VLAN that they come in.
    pub vlan: Option<VlanId>,
    /// Who sent them.
    pub source: IpAddr,
    /// Where.
    pub destination: IpAddr,
    /// The identification field.
    pub identification: u32,
}

impl FragmentKey {
    /// Most datagrams whose first fragments are remembered at the same time; old ones make room for new ones, and what still
    /// comes of them is dropped by name.
    pub const MOST_REMEMBERED: usize = 4_096;
}

/// As [`parse`], but fragments may pass: the first by itself, a later one if `port_of_first` knows the destination port of
/// its first ([`Datagram::fragment_key`]), which whoever relays that one has to remember.
///
/// # Errors
/// As [`parse`]: a later fragment of which that is not known is a `fragment`, to nobody; a first one that does not hold a UDP
/// header, or all that the header speaks of, is `bad_udp_length`; one of IPv6 without a checksum is `bad_udp_checksum`.
#[inline]
pub fn parse_following<'a>(
    frame: &'a [u8],
    meta: &FrameMeta,
    port_of_first: impl FnOnce(&FragmentKey) -> Option<u16>,
) -> Result<Datagram<'a>, Reject> {
    match parse(frame, meta) {
        Err(Reject::Drop { reason: DropReason::Fragment, .. }) => parse_fragment(frame, meta, port_of_first),
        other => other,
    }
}

/// Of a frame that [`parse`] refused as a fragment, which is whole then and has a right IP checksum.
#[cold]
fn parse_fragment<'a>(
    frame: &'a [u8],
    meta: &FrameMeta,
    port_of_first: impl FnOnce(&FragmentKey) -> Option<u16>,
) -> Result<Datagram<'a>, Reject> {
    let Link { vlan, priority_bits, family, packet } = strip_link(frame, meta)?;
    let ip = ip_header(family, packet)?;
    let packet = Packet { ip, vlan, bytes: packet, meta };
    let is_plain = meta.segment_bytes.is_none() && meta.checksum != ChecksumState::Partial;
    let header = ip.fragment().filter(|_| is_plain);
    let behind = packet.bytes.get(ip.bytes_before_fragment()..ip.total_bytes());
    let (Some(header), Some(behind)) = (header, behind) else { return Err(packet.refuse(DropReason::Fragment)) };
    let piece = Piece { packet, header, behind, priority_bits };
    if header.place & OFFSET_MASK != 0 {
        piece.later(port_of_first)
    } else if header.place & MORE_FRAGMENTS != 0 {
        piece.first()
    } else {
        piece.atomic()
    }
}

impl Ip<'_> {
    /// What it says of the fragment behind it; `None`: there is more in the header than is relayed.
    fn fragment(&self) -> Option<FragmentHeader> {
        match self {
            Self::V4(ip) if ip.header_bytes() > ipv4::HEADER_BYTES => None,
            Self::V4(ip) => Some(FragmentHeader {
                identification: ip.identification().into(),
                place: ip.fragmentation() & ipv4::FRAGMENT_MASK,
            }),
            Self::V6(ip) => ip.fragment(),
        }
    }

    /// Bytes in front of what is in a fragment.
    fn bytes_before_fragment(&self) -> usize {
        super::bytes_before_udp(self.source(), Part::Atomic)
    }
}

/// A fragment at hand.
struct Piece<'a, 'm> {
    packet: Packet<'a, 'm>,
    header: FragmentHeader,
    /// What is behind the IP header and that of the fragment.
    behind: &'a [u8],
    priority_bits: u16,
}

impl<'a> Piece<'a, '_> {
    fn atomic(&self) -> Result<Datagram<'a>, Reject> {
        let udp = self.packet.udp_header(self.behind)?;
        let checksum = self.packet.udp_checksum(&udp, self.behind)?;
        Ok(self.with_header(&udp, checksum, Part::Atomic))
    }

    fn first(&self) -> Result<Datagram<'a>, Reject> {
        let udp = Udp::new(self.behind).filter(|udp| udp.length() > self.behind.len());
        let udp = udp.ok_or_else(|| self.packet.refuse(DropReason::BadUdpLength))?;
        let checksum = match (udp.checksum(), self.packet.ip) {
            (0, Ip::V4(_)) => UdpChecksum::Zero,
            (0, Ip::V6(_)) => return Err(self.packet.refuse(DropReason::BadUdpChecksum)),
            (value, _) => UdpChecksum::Known(value),
        };
        // The field has 16 bits.
        Ok(self.with_header(&udp, checksum, Part::First { udp_bytes: udp.length() as u16 }))
    }

    fn later(&self, port_of_first: impl FnOnce(&FragmentKey) -> Option<u16>) -> Result<Datagram<'a>, Reject> {
        let key = FragmentKey {
            vlan: self.packet.vlan,
            source: self.packet.ip.source(),
            destination: self.packet.ip.destination(),
            identification: self.header.identification,
        };
        let port = port_of_first(&key).ok_or_else(|| self.packet.refuse(DropReason::Fragment))?;
        Ok(self.datagram(port, Part::Later { place: self.header.place }))
    }

    fn with_header(&self, udp: &Udp<'_>, checksum: UdpChecksum, part: Part) -> Datagram<'a> {
        Datagram {
            source: SocketAddr::new(self.packet.ip.source(), udp.source()),
            checksum,
            payload: &self.behind[udp::HEADER_BYTES..],
            ..self.datagram(udp.destination(), part)
        }
    }

    /// What all have from their IP header.
    fn datagram(&self, port: u16, part: Part) -> Datagram<'a> {
        let ip = self.packet.ip;
        Datagram {
            destination: Destination { vlan: self.packet.vlan, address: ip.destination(), port },
            source: SocketAddr::new(ip.source(), 0),
            priority_bits: self.priority_bits,
            traffic_class: ip.traffic_class(),
            ttl: ip.ttl(),
            dont_fragment: matches!(ip, Ip::V4(_)) && ip.dont_fragment(),
            identification: self.header.identification,
            flow_label: ip.flow_label(),
            checksum: UdpChecksum::Zero,
            segment_bytes: None,
            part,
            payload: self.behind,
        }
    }
}

impl Datagram<'_> {
    /// What later fragments of it will be told by, if it is the first.
    #[inline]
    pub fn fragment_key(&self) -> Option<FragmentKey> {
        match self.part {
            Part::First { .. } => Some(FragmentKey {
                vlan: self.destination.vlan,
                source: self.source.ip(),
                destination: self.destination.address,
                identification: self.identification,
            }),
            Part::Whole | Part::Atomic | Part::Later { .. } => None,
        }
    }
}
