//! Fragments of IPv4 datagrams (RFC 791 section 3.2).
//!
//! Only the first has the ports that tell the relay; the others follow it by their [`FragmentKey`]. Each is a packet of its
//! own, here and in the books. The checksum of the first covers bytes that are not there: it is not verified, but updated
//! like any, so that the receiver finds out.
//!
//! What has options too, or comes as a super-frame or with a checksum left to be completed, stays refused, and so does IPv6.

use core::net::{Ipv4Addr, SocketAddr};

use super::{ChecksumState, Datagram, Destination, FrameMeta, Ip, Link, Packet, Reject, UdpChecksum};
use super::{ip_header, parse, strip_link};
use crate::drop_reason::DropReason;
use crate::ethernet::VlanId;
use crate::ipv4::{self, Ipv4};
use crate::udp::{self, Udp};

/// What of a datagram is in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its beginning.
    First {
        /// What the UDP header says that the whole is long, header included.
        udp_bytes: u16,
    },
    /// A piece behind that, without a UDP header: the source port is 0, the destination port that of the first.
    Later {
        /// "More fragments" and the offset, as in the IP header.
        place: u16,
    },
}

/// What the fragments of a datagram have in common, and nothing else that is under way at an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// The VLAN that they come in.
    pub vlan: Option<VlanId>,
    /// Who sent them.
    pub source: Ipv4Addr,
    /// Where.
    pub destination: Ipv4Addr,
    /// The identification field.
    pub identification: u16,
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
/// header, or all that the header speaks of, is `bad_udp_length`.
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
    let (Ip::V4(header), true) = (ip, is_plain) else { return Err(packet.refuse(DropReason::Fragment)) };
    let behind = packet.bytes.get(ipv4::HEADER_BYTES..header.total_bytes());
    let (Some(behind), ipv4::HEADER_BYTES) = (behind, header.header_bytes()) else {
        return Err(packet.refuse(DropReason::Fragment));
    };
    if header.is_first() {
        packet.first(header, behind, priority_bits)
    } else {
        packet.later(header, behind, priority_bits, port_of_first)
    }
}

impl<'a> Packet<'a, '_> {
    fn first(&self, header: Ipv4<'a>, behind: &'a [u8], priority_bits: u16) -> Result<Datagram<'a>, Reject> {
        let udp = Udp::new(behind).filter(|udp| udp.length() > behind.len());
        let udp = udp.ok_or_else(|| self.refuse(DropReason::BadUdpLength))?;
        let checksum = match udp.checksum() {
            0 => UdpChecksum::Zero,
            value => UdpChecksum::Known(value),
        };
        Ok(Datagram {
            source: SocketAddr::new(header.source().into(), udp.source()),
            checksum,
            // The field has 16 bits.
            part: Part::First { udp_bytes: udp.length() as u16 },
            payload: &behind[udp::HEADER_BYTES..],
            ..self.fragment(header, udp.destination(), priority_bits)
        })
    }

    fn later(
        &self,
        header: Ipv4<'a>,
        behind: &'a [u8],
        priority_bits: u16,
        port_of_first: impl FnOnce(&FragmentKey) -> Option<u16>,
    ) -> Result<Datagram<'a>, Reject> {
        let key = FragmentKey {
            vlan: self.vlan,
            source: header.source(),
            destination: header.destination(),
            identification: header.identification(),
        };
        let port = port_of_first(&key).ok_or_else(|| self.refuse(DropReason::Fragment))?;
        let part = Part::Later { place: header.fragmentation() & ipv4::FRAGMENT_MASK };
        Ok(Datagram { part, payload: behind, ..self.fragment(header, port, priority_bits) })
    }

    /// What both have from their IP header.
    fn fragment(&self, header: Ipv4<'a>, port: u16, priority_bits: u16) -> Datagram<'a> {
        Datagram {
            destination: Destination { vlan: self.vlan, address: header.destination().into(), port },
            source: SocketAddr::new(header.source().into(), 0),
            priority_bits,
            traffic_class: header.traffic_class(),
            ttl: header.ttl(),
            dont_fragment: self.ip.dont_fragment(),
            identification: header.identification(),
            flow_label: 0,
            checksum: UdpChecksum::Zero,
            segment_bytes: None,
            part: Part::Whole,
            payload: &[],
        }
    }
}

impl Datagram<'_> {
    /// What later fragments of it will be told by, if it is the first.
    #[inline]
    pub fn fragment_key(&self) -> Option<FragmentKey> {
        let (Part::First { .. }, SocketAddr::V4(source), core::net::IpAddr::V4(destination)) =
            (self.part, self.source, self.destination.address)
        else {
            return None;
        };
        let vlan = self.destination.vlan;
        Some(FragmentKey { vlan, source: *source.ip(), destination, identification: self.identification })
    }
}
