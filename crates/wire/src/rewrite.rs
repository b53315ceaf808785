//! The rewrite of a datagram into the frame that leaves on an output.
//!
//! Kept: payload, identification, DF, which part of a datagram it is, flow label, ECN, DSCP unless set, source port unless set, VLAN priority unless set. Made anew:
//! link-layer addresses, tag, source unless kept, destination, TTL or hop limit unless kept, checksums. A zero UDP
//! checksum stays zero in IPv4; a known one is updated, never recomputed, so that damage to the payload on the way
//! through this host is not covered up; a partial one is left to the kernel to complete.
//!
//! Between the families: what came as IPv6 leaves as IPv4 with DF and identification 0, since nobody may fragment either
//! (RFC 6864 section 4.1), and a fragment without DF and with the lower half of its identification (RFC 7915 section 5.1.1); what came as IPv4 leaves as IPv6 without a flow label, and a missing checksum is made, because
//! IPv6 has none without one (RFC 8200 section 8.1).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::checksum::{Sum, udp_pseudo_header, update};
use crate::drop_reason::DropReason;
use crate::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, MacAddr, TPID_8021AD, TPID_8021Q, VlanId};
use crate::field::{CodePoint, Oversize, TimeToLive};
use crate::frame::{Datagram, Part, UdpChecksum, bytes_before_udp};
use crate::ipv6::FragmentHeader;
use crate::{ipv4, ipv6, udp};

/// What the frames of one output look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// The output interface's own address.
    pub source_mac: MacAddr,
    /// The group's or the next hop's.
    pub destination_mac: MacAddr,
    /// The tag to push, or two of them; their priority is the datagram's.
    pub vlan: Option<VlanId>,
    /// The source address, `None`: as it arrived. One that is not of the destination's family would leave as the
    /// unspecified address.
    pub source: Option<IpAddr>,
    /// The destination address and port.
    pub destination: SocketAddr,
    /// The source port, in host byte order; `None`: as it arrived.
    pub source_port: Option<u16>,
    /// The time to live or hop limit.
    pub ttl: TimeToLive,
    /// The code point.
    pub dscp: CodePoint,
    /// The priority in the tags that are pushed, 0 to 7; `None`: as it arrived, with its drop eligibility.
    pub priority: Option<u8>,
    /// Whether what is larger than the MTU leaves in pieces, for those that can do so: see [`Rewrite::pieces`].
    pub oversize: Oversize,
}

/// The headers of a frame, ready to be sent in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    bytes: [u8; Headers::MOST_BYTES],
    length: u8,
    /// Who finishes the UDP checksum.
    pub completion: Completion,
}

/// Whether the UDP checksum of a frame is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// It is, or there is none.
    Done,
    /// The field holds the pseudo header's sum; the sum over everything from `start` on has to be added to it, and its
    /// complement stored `offset` bytes after `start` (`struct virtio_net_hdr`, `csum_start` and `csum_offset`).
    Needed {
        /// Bytes from the start of the frame to the UDP header.
        start: u16,
        /// Bytes from there to the checksum.
        offset: u16,
    },
}

impl Headers {
    /// The most bytes of headers: Ethernet, two tags, IPv6 with a fragment header, UDP.
    pub const MOST_BYTES: usize = ethernet::HEADER_BYTES
        + 2 * ethernet::TAG_BYTES
        + ipv6::HEADER_BYTES
        + ipv6::EXTENSION_BYTES
        + udp::HEADER_BYTES;

    /// The headers as they go on the wire.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Rewrite {
    /// Bytes of the IP and UDP headers in front of each payload of whole datagrams.
    #[inline]
    pub const fn header_bytes(&self) -> usize {
        bytes_before_udp(self.destination.ip(), Part::Whole) + udp::HEADER_BYTES
    }

    /// Bytes of the headers in front of the payload of this datagram, or of each of its datagrams.
    #[inline]
    pub fn bytes_before(&self, datagram: &Datagram<'_>) -> usize {
        bytes_before_udp(self.destination.ip(), datagram.part) + datagram.udp_header_bytes()
    }

    /// Why no copy of a datagram is sent, if none is, whatever its size.
    #[inline]
    pub fn refusal(&self, datagram: &Datagram<'_>) -> Option<DropReason> {
        // The checksum that IPv6 wants covers what is not there.
        let lacks_checksum = datagram.checksum == UdpChecksum::Zero && self.destination.is_ipv6();
        if datagram.ttl < self.ttl.least() {
            Some(DropReason::TtlExpired)
        } else if lacks_checksum && matches!(datagram.part, Part::First { .. }) {
            Some(DropReason::Fragment)
        } else {
            None
        }
    }

    /// The headers of one datagram, or of a super-frame when it has `segment_bytes`.
    #[inline]
    pub fn headers(&self, datagram: &Datagram<'_>) -> Headers {
        let checksum = match (datagram.segment_bytes, datagram.checksum) {
            // Each segment gets its own checksum, from the pseudo header's sum.
            (Some(_), _) => UdpChecksum::Partial,
            (None, checksum) => checksum,
        };
        self.emit(datagram, datagram.payload.len(), checksum)
    }

    /// The headers of a super-frame of `payload_bytes`, whose first datagram is `first`: the lengths cover all of it,
    /// and the checksums are left to whoever segments it. Not for datagrams without checksum: they would get one.
    ///
    /// `payload_bytes` is at most [`udp::MOST_PAYLOAD_BYTES`]; of more, the lengths could not tell.
    #[inline]
    pub fn run_headers(&self, first: &Datagram<'_>, payload_bytes: usize) -> Headers {
        self.emit(first, payload_bytes, UdpChecksum::Partial)
    }

    /// Writes the whole frame of one datagram into `frame`; its length, or `None` when there is no room, when the
    /// payload is more than an IP packet can carry, when there is a [`refusal`](Rewrite::refusal), or when it is a
    /// super-frame, whose [`segments`](Datagram::segments) are frames of their own. The checksum is completed here.
    pub fn frame(&self, datagram: &Datagram<'_>, frame: &mut [u8]) -> Option<usize> {
        let most_bytes = match self.destination {
            SocketAddr::V4(_) => usize::from(u16::MAX),
            SocketAddr::V6(_) => ipv6::HEADER_BYTES + usize::from(u16::MAX),
        };
        let is_too_large = self.bytes_before(datagram) + datagram.payload.len() > most_bytes;
        if datagram.segment_bytes.is_some() || is_too_large || self.refusal(datagram).is_some() {
            return None;
        }
        let headers = self.headers(datagram);
        let length = headers.bytes().len() + datagram.payload.len();
        let frame = frame.get_mut(..length)?;
        let (front, back) = frame.split_at_mut(headers.bytes().len());
        front.copy_from_slice(headers.bytes());
        back.copy_from_slice(datagram.payload);
        if let Completion::Needed { start, offset } = headers.completion {
            let (start, offset) = (usize::from(start), usize::from(offset));
            let checksum = not_zero(Sum::default().add_bytes(&frame[start..]).checksum());
            frame[start + offset..start + offset + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        Some(length)
    }

    #[inline]
    fn emit(&self, datagram: &Datagram<'_>, payload_bytes: usize, checksum: UdpChecksum) -> Headers {
        let mut bytes = [0; Headers::MOST_BYTES];
        bytes[0..6].copy_from_slice(&self.destination_mac.octets());
        bytes[6..12].copy_from_slice(&self.source_mac.octets());
        let mut at = 12;
        if let Some(vlan) = self.vlan {
            let priority_bits = self.priority_bits(datagram);
            let tags = [vlan.outer().map(|outer| (TPID_8021AD, outer)), Some((TPID_8021Q, vlan.get()))];
            for (tpid, number) in tags.into_iter().flatten() {
                bytes[at..at + 2].copy_from_slice(&tpid.to_be_bytes());
                bytes[at + 2..at + 4].copy_from_slice(&(priority_bits | number).to_be_bytes());
                at += ethernet::TAG_BYTES;
            }
        }
        // A datagram came out of an IP packet, and a run is bounded by whoever gathers it: both fit 16 bits.
        let behind_ip = payload_bytes.wrapping_add(datagram.udp_header_bytes()) as u16;
        let ip_at = at + 2;
        let udp_at = match self.destination {
            SocketAddr::V4(to) => {
                bytes[at..ip_at].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
                let end = ip_at + ipv4::HEADER_BYTES;
                bytes[ip_at..end].copy_from_slice(&self.ipv4_header(datagram, behind_ip, *to.ip()));
                end
            }
            SocketAddr::V6(to) => {
                bytes[at..ip_at].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
                let end = ip_at + ipv6::HEADER_BYTES;
                bytes[ip_at..end].copy_from_slice(&self.ipv6_header(datagram, behind_ip, *to.ip()));
                match datagram.part {
                    Part::Whole => end,
                    part @ (Part::Atomic | Part::First { .. } | Part::Later { .. }) => {
                        let header = FragmentHeader { identification: datagram.identification, place: part.place() };
                        bytes[end..end + ipv6::EXTENSION_BYTES].copy_from_slice(&header.emit());
                        end + ipv6::EXTENSION_BYTES
                    }
                }
            }
        };
        let udp_bytes = match datagram.part {
            Part::Whole | Part::Atomic => behind_ip,
            Part::First { udp_bytes } => udp_bytes,
            Part::Later { .. } => return Headers { bytes, length: udp_at as u8, completion: Completion::Done },
        };
        let end = udp_at + udp::HEADER_BYTES;
        let source_port = self.source_port.unwrap_or(datagram.source.port());
        let (field, completion) = self.udp_checksum(datagram, source_port, udp_bytes, checksum, udp_at);
        let header = udp::emit(source_port, self.destination.port(), udp_bytes, field);
        bytes[udp_at..end].copy_from_slice(&header);
        Headers { bytes, length: end as u8, completion }
    }

    #[inline]
    fn priority_bits(&self, datagram: &Datagram<'_>) -> u16 {
        self.priority.map_or(datagram.priority_bits, |priority| u16::from(priority) << 13)
    }

    #[inline]
    fn source_of(&self, datagram: &Datagram<'_>) -> IpAddr {
        self.source.unwrap_or(datagram.source.ip())
    }

    #[inline]
    fn ipv4_header(&self, datagram: &Datagram<'_>, behind_ip: u16, to: Ipv4Addr) -> [u8; ipv4::HEADER_BYTES] {
        ipv4::Fields {
            traffic_class: self.traffic_class(datagram),
            total_bytes: behind_ip.wrapping_add(ipv4::HEADER_BYTES as u16),
            // Of IPv6 the lower half (RFC 7915 section 5.1.1).
            identification: datagram.identification as u16,
            dont_fragment: datagram.dont_fragment,
            place: datagram.part.place(),
            ttl: self.ttl.of(datagram.ttl),
            source: match self.source_of(datagram) {
                IpAddr::V4(source) => source,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            },
            destination: to,
        }
        .emit()
    }

    #[inline]
    fn ipv6_header(&self, datagram: &Datagram<'_>, behind_ip: u16, to: Ipv6Addr) -> [u8; ipv6::HEADER_BYTES] {
        let (next, extension_bytes) = match datagram.part {
            Part::Whole => (ipv4::PROTOCOL_UDP, 0),
            Part::Atomic | Part::First { .. } | Part::Later { .. } => (ipv6::FRAGMENT, ipv6::EXTENSION_BYTES as u16),
        };
        ipv6::Fields {
            traffic_class: self.traffic_class(datagram),
            flow_label: datagram.flow_label,
            payload_bytes: behind_ip.wrapping_add(extension_bytes),
            next,
            hop_limit: self.ttl.of(datagram.ttl),
            source: match self.source_of(datagram) {
                IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
                IpAddr::V6(source) => source,
            },
            destination: to,
        }
        .emit()
    }

    #[inline]
    fn traffic_class(&self, datagram: &Datagram<'_>) -> u8 {
        let (dscp, ecn) = (datagram.traffic_class >> 2, datagram.traffic_class & 0x03);
        self.dscp.of(dscp) << 2 | ecn
    }

    #[inline]
    fn udp_checksum(
        &self,
        datagram: &Datagram<'_>,
        source_port: u16,
        udp_bytes: u16,
        checksum: UdpChecksum,
        udp_at: usize,
    ) -> (u16, Completion) {
        match checksum {
            UdpChecksum::Zero if self.destination.is_ipv4() => (0, Completion::Done),
            UdpChecksum::Known(value) => {
                let old = words(datagram.source.ip(), datagram.destination.address)
                    .add_word(datagram.source.port())
                    .add_word(datagram.destination.port);
                let new = words(self.source_of(datagram), self.destination.ip())
                    .add_word(source_port)
                    .add_word(self.destination.port());
                (not_zero(update(value, old, new)), Completion::Done)
            }
            UdpChecksum::Zero | UdpChecksum::Partial => {
                let sum = udp_pseudo_header(self.source_of(datagram), self.destination.ip(), udp_bytes).fold();
                let (start, offset) = (udp_at as u16, udp::CHECKSUM_OFFSET as u16);
                (sum, Completion::Needed { start, offset })
            }
        }
    }
}

fn words(source: IpAddr, destination: IpAddr) -> Sum {
    Sum::default().add_address(source).add_address(destination)
}

/// A computed checksum of zero is sent as all ones: zero means "none" (RFC 768).
pub(crate) fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
