//! UDP headers (RFC 768): source port, destination port, length, checksum, each 16 bits.

/// Bytes of a header.
pub const HEADER_BYTES: usize = 8;
/// The most bytes of payload in IPv4: what a packet without options can carry.
pub const MOST_PAYLOAD_BYTES: usize = 65_535 - crate::ipv4::HEADER_BYTES - HEADER_BYTES;
/// Where the checksum is in the header.
pub const CHECKSUM_OFFSET: usize = 6;

/// A view of a header.
#[derive(Debug, Clone, Copy)]
pub struct Udp<'a>(&'a [u8; HEADER_BYTES]);

impl<'a> Udp<'a> {
    /// A view of the header at the start of `bytes`; `None` when they are too few.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Self)
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// The source port, in host byte order.
    #[inline]
    pub fn source(&self) -> u16 {
        self.word(0)
    }

    /// The destination port, in host byte order.
    #[inline]
    pub fn destination(&self) -> u16 {
        self.word(2)
    }

    /// Bytes of header and payload.
    #[inline]
    pub fn length(&self) -> usize {
        usize::from(self.word(4))
    }

    /// The checksum, in host byte order; 0: the sender made none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.word(CHECKSUM_OFFSET)
    }
}

/// The destination port alone, in host byte order: four bytes are enough to read it where the rest is cut off.
#[inline]
pub fn destination_port(bytes: &[u8]) -> Option<u16> {
    let [_, _, high, low] = *bytes.first_chunk()?;
    Some(u16::from_be_bytes([high, low]))
}

/// A header with these fields, all in host byte order.
#[inline]
pub fn emit(source: u16, destination: u16, length: u16, checksum: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..2].copy_from_slice(&source.to_be_bytes());
    header[2..4].copy_from_slice(&destination.to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6..8].copy_from_slice(&checksum.to_be_bytes());
    header
}
