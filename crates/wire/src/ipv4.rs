//! IPv4 headers (RFC 791).
//!
//! ```text
//!  0                   1                   2                   3
//!  |Version|  IHL  |   DSCP    |ECN|         Total length          |
//!  |        Identification         |Flags|     Fragment offset     |
//!  |      TTL      |   Protocol    |        Header checksum        |
//!  |                        Source address                         |
//!  |                     Destination address                       |
//! ```

use core::net::Ipv4Addr;

use crate::checksum::Sum;

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;
/// The protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// The "do not fragment" bit of the flags word.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The "more fragments" bit of the flags word.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The offset, in units of eight bytes: 0 in a first fragment.
pub const OFFSET_MASK: u16 = 0x1fff;
/// "More fragments" and the offset: anything here makes a packet a fragment.
pub const FRAGMENT_MASK: u16 = 0x3fff;

/// A view of a header; `bytes` is at least [`HEADER_BYTES`] long.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    fixed: &'a [u8; HEADER_BYTES],
    bytes: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// A view of the header at the start of `bytes`; `None` when they are too few.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        Some(Self { fixed: bytes.first_chunk()?, bytes })
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.fixed[at], self.fixed[at + 1]])
    }

    /// 4, if it is IPv4.
    #[inline]
    pub fn version(&self) -> u8 {
        self.fixed[0] >> 4
    }

    /// Bytes of the header with its options.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        usize::from(self.fixed[0] & 0x0f) * 4
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.fixed[1]
    }

    /// Bytes of the packet, header included.
    #[inline]
    pub fn total_bytes(&self) -> usize {
        usize::from(self.word(2))
    }

    /// The identification field.
    #[inline]
    pub fn identification(&self) -> u16 {
        self.word(4)
    }

    /// The flags and fragment offset word.
    #[inline]
    pub fn fragmentation(&self) -> u16 {
        self.word(6)
    }

    /// Whether it is a fragment, first or later.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragmentation() & FRAGMENT_MASK != 0
    }

    /// Whether it is the first fragment, which alone carries the UDP header.
    #[inline]
    pub fn is_first(&self) -> bool {
        self.fragmentation() & OFFSET_MASK == 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// The protocol of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.fixed[9]
    }

    /// The source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.fixed[12], self.fixed[13], self.fixed[14], self.fixed[15])
    }

    /// The destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.fixed[16], self.fixed[17], self.fixed[18], self.fixed[19])
    }

    /// Whether the header checksum is right; false when the options are cut off.
    #[inline]
    pub fn checksum_is_right(&self) -> bool {
        self.bytes.get(..self.header_bytes()).is_some_and(|header| Sum::default().add_bytes(header).checksum() == 0)
    }
}

/// What a header of ours says; the checksum is computed.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes of the packet, header included.
    pub total_bytes: u16,
    /// Identification.
    pub identification: u16,
    /// Whether the packet must not be fragmented.
    pub dont_fragment: bool,
    /// "More fragments" and the offset, as in the header; 0: it is no fragment.
    pub place: u16,
    /// Time to live.
    pub ttl: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Fields {
    /// The header of a UDP packet without options.
    #[inline]
    pub fn emit(&self) -> [u8; HEADER_BYTES] {
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 } | self.place;
        let mut header = [0; HEADER_BYTES];
        header[0] = 0x45;
        header[1] = self.traffic_class;
        header[2..4].copy_from_slice(&self.total_bytes.to_be_bytes());
        header[4..6].copy_from_slice(&self.identification.to_be_bytes());
        header[6..8].copy_from_slice(&flags.to_be_bytes());
        header[8] = self.ttl;
        header[9] = PROTOCOL_UDP;
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..20].copy_from_slice(&self.destination.octets());
        let checksum = Sum::default().add_bytes(&header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }
}
