//! IPv6 headers (RFC 8200), and as much of the extension headers behind them as a relay has to know.
//!
//! ```text
//!  0                   1                   2                   3
//!  |Version|     DSCP  |ECN|              Flow label               |
//!  |         Payload length        |  Next header  |   Hop limit   |
//!  |                        Source address                         |
//!  |                      Destination address                      |
//! ```
//!
//! An extension header begins with the kind of the next one and its own length (RFC 8200 section 4). One is looked past,
//! to tell whom a refused packet was for; what has two has no port that anybody looks for.

use core::net::Ipv6Addr;

use crate::ipv4::{self, PROTOCOL_UDP};

/// Bytes of a header without extensions.
pub const HEADER_BYTES: usize = 40;
/// Bytes that each extension header has at least, the fragment header exactly.
pub const EXTENSION_BYTES: usize = 8;
/// Hop-by-hop options (RFC 8200 section 4.3).
const HOP_BY_HOP: u8 = 0;
/// Routing (section 4.4).
const ROUTING: u8 = 43;
/// Fragment (section 4.5).
pub const FRAGMENT: u8 = 44;
/// The "more fragments" bit of a fragment header; the offset is in the upper 13 bits.
const MORE_FRAGMENTS: u16 = 0x0001;
/// Destination options (section 4.6).
const DESTINATION_OPTIONS: u8 = 60;

/// A view of a header; `bytes` is at least [`HEADER_BYTES`] long.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    fixed: &'a [u8; HEADER_BYTES],
    bytes: &'a [u8],
}

/// What the header leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// To UDP, at once.
    ToUdp,
    /// To UDP, behind an extension header.
    ToUdpBehind {
        /// What kind it is.
        extension: Extension,
        /// Bytes from the start of the packet to the UDP header.
        udp_at: usize,
    },
    /// To something that carries no port: another extension header behind the first, or the middle of a datagram.
    Nowhere(Extension),
    /// To another protocol.
    Elsewhere,
    /// The extension header is cut off.
    Unreadable,
}

/// An extension header in front of UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// The fragment header.
    Fragment,
    /// Options or a route.
    Options,
}

impl<'a> Ipv6<'a> {
    /// A view of the header at the start of `bytes`; `None` when they are too few.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        Some(Self { fixed: bytes.first_chunk()?, bytes })
    }

    /// 6, if it is IPv6.
    #[inline]
    pub fn version(&self) -> u8 {
        self.fixed[0] >> 4
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.fixed[0] << 4 | self.fixed[1] >> 4
    }

    /// The flow label, 20 bits (RFC 6437).
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.fixed[1] & 0x0f, self.fixed[2], self.fixed[3]])
    }

    /// Bytes of the packet, header included.
    #[inline]
    pub fn total_bytes(&self) -> usize {
        HEADER_BYTES + usize::from(u16::from_be_bytes([self.fixed[4], self.fixed[5]]))
    }

    /// The hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.fixed[7]
    }

    /// The source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        self.address(8)
    }

    /// The destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        self.address(24)
    }

    #[inline]
    fn address(&self, at: usize) -> Ipv6Addr {
        self.fixed[at..].first_chunk().copied().map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from)
    }

    /// What it leads to, in what there is of the packet.
    #[inline]
    pub fn leads(&self) -> Leads {
        match self.fixed[6] {
            PROTOCOL_UDP => Leads::ToUdp,
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS => self.leads_past_extension(),
            _ => Leads::Elsewhere,
        }
    }

    /// The beginning of the extension header, unless it is cut off.
    fn extension(&self) -> Option<&'a [u8; EXTENSION_BYTES]> {
        let there = &self.bytes[..self.bytes.len().min(self.total_bytes())];
        there[HEADER_BYTES..].first_chunk()
    }

    /// The fragment header, if the packet is a fragment of UDP without other extension headers.
    pub fn fragment(&self) -> Option<FragmentHeader> {
        let header = self.extension().filter(|header| self.fixed[6] == FRAGMENT && header[0] == PROTOCOL_UDP)?;
        Some(FragmentHeader::read(header))
    }

    #[cold]
    fn leads_past_extension(&self) -> Leads {
        let Some(header) = self.extension() else { return Leads::Unreadable };
        let (extension, bytes, is_first) = match self.fixed[6] {
            FRAGMENT => {
                let offset = u16::from_be_bytes([header[2], header[3]]) & 0xfff8;
                (Extension::Fragment, EXTENSION_BYTES, offset == 0)
            }
            _ => (Extension::Options, EXTENSION_BYTES + 8 * usize::from(header[1]), true),
        };
        match header[0] {
            PROTOCOL_UDP if is_first => Leads::ToUdpBehind { extension, udp_at: HEADER_BYTES + bytes },
            PROTOCOL_UDP | HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS => Leads::Nowhere(extension),
            _ => Leads::Elsewhere,
        }
    }
}

/// What a fragment header says.
///
/// ```text
///  |  Next header  |    Reserved   |  Fragment offset  |Res|M|
///  |                      Identification                     |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// What the fragments of a datagram have in common.
    pub identification: u32,
    /// "More fragments" and the offset, as in an IPv4 header.
    pub place: u16,
}

impl FragmentHeader {
    fn read(header: &[u8; EXTENSION_BYTES]) -> Self {
        let word = u16::from_be_bytes([header[2], header[3]]);
        let more = if word & MORE_FRAGMENTS != 0 { ipv4::MORE_FRAGMENTS } else { 0 };
        let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        Self { identification, place: more | word >> 3 }
    }

    /// The header in front of UDP, or of a piece of it.
    #[inline]
    pub fn emit(&self) -> [u8; EXTENSION_BYTES] {
        let more = if self.place & ipv4::MORE_FRAGMENTS != 0 { MORE_FRAGMENTS } else { 0 };
        let [high, low] = ((self.place & ipv4::OFFSET_MASK) << 3 | more).to_be_bytes();
        let [a, b, c, d] = self.identification.to_be_bytes();
        [PROTOCOL_UDP, 0, high, low, a, b, c, d]
    }
}

/// What a header of ours says.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The flow label; its upper twelve bits are not sent.
    pub flow_label: u32,
    /// Bytes behind the header.
    pub payload_bytes: u16,
    /// What follows: UDP, or a fragment header.
    pub next: u8,
    /// The hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Fields {
    /// The header alone.
    #[inline]
    pub fn emit(&self) -> [u8; HEADER_BYTES] {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&first.to_be_bytes());
        header[4..6].copy_from_slice(&self.payload_bytes.to_be_bytes());
        header[6] = self.next;
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..40].copy_from_slice(&self.destination.octets());
        header
    }
}
