//! Cutting a datagram that is larger than the MTU of its output (RFC 791 section 3.2, RFC 8200 section 4.5).
//!
//! A piece is a [`Datagram`] again, for [`Rewrite::headers`] to make headers of. The first has the UDP header, with the
//! checksum of the whole, which is made here if somebody else was to make it. DF is cleared: whoever asks for fragments on an output
//! has said that the copies, which are ours, may be fragmented. A fragment that arrived too large is cut again: its pieces keep
//! its identification, and their offsets count on from its own.

use core::iter::FusedIterator;

use crate::checksum::udp_pseudo_header;
use crate::ethernet::{self, VlanId};
use crate::field::Oversize;
use crate::frame::{Datagram, Part, UdpChecksum, bytes_before_udp};
use crate::ipv4::{MORE_FRAGMENTS, OFFSET_MASK};
use crate::rewrite::{Rewrite, not_zero};
use crate::udp;

/// Bytes that offsets count in.
const UNIT_BYTES: usize = 8;

/// The pieces of a datagram, in order.
#[derive(Debug, Clone)]
pub struct Pieces<'a> {
    /// What is cut, with its checksum, and with the identification of the pieces.
    whole: Datagram<'a>,
    /// Of the whole datagram, header included.
    udp_bytes: u16,
    /// Most bytes behind the IP header of a piece, a multiple of [`UNIT_BYTES`].
    room: usize,
    /// Bytes of the IP header of each, fragment header included.
    ip_header_bytes: usize,
    /// Bytes that are in the pieces before the next one.
    done: usize,
}

impl Rewrite {
    /// Bytes of the largest IP packet that leaves in one frame by an interface of this MTU. One tag more than the MTU may be
    /// sent, but not two (by a packet socket: `net/packet/af_packet.c: packet_extra_vlan_len_allowed`): what may be cut is cut
    /// before the kernel refuses it.
    #[must_use]
    pub fn room(&self, mtu: u32) -> u32 {
        let has_two_tags = self.vlan.and_then(VlanId::outer).is_some();
        match self.oversize {
            Oversize::Fragment if has_two_tags => mtu.saturating_sub(2 * ethernet::TAG_BYTES as u32),
            Oversize::Fragment | Oversize::Drop => mtu,
        }
    }

    /// The pieces in which a datagram leaves where no IP packet may have more than `mtu` bytes. For a datagram that has
    /// more, and no super-frame. `identification` is for one that came whole: that of a fragment is kept.
    ///
    /// `None`: the MTU has no room for a piece, or no offset reaches the last one.
    #[must_use]
    pub fn pieces<'a>(&self, datagram: &Datagram<'a>, mtu: usize, identification: u32) -> Option<Pieces<'a>> {
        let behind_ip = datagram.udp_header_bytes() + datagram.payload.len();
        let (identification, udp_bytes) = match datagram.part {
            Part::Whole | Part::Atomic => (identification, behind_ip as u16),
            Part::First { udp_bytes } => (datagram.identification, udp_bytes),
            Part::Later { .. } => (datagram.identification, 0),
        };
        let ip_header_bytes = bytes_before_udp(self.destination.ip(), Part::First { udp_bytes });
        let room = mtu.checked_sub(ip_header_bytes)? / UNIT_BYTES * UNIT_BYTES;
        let last_offset = usize::from(datagram.part.place() & OFFSET_MASK) * UNIT_BYTES + behind_ip;
        if room == 0 || last_offset > usize::from(OFFSET_MASK) * UNIT_BYTES {
            return None;
        }
        let checksum = match datagram.checksum {
            UdpChecksum::Partial => UdpChecksum::Known(checksum_of_all(datagram)),
            UdpChecksum::Zero if self.destination.is_ipv6() => UdpChecksum::Known(checksum_of_all(datagram)),
            known @ (UdpChecksum::Zero | UdpChecksum::Known(_)) => known,
        };
        let whole = Datagram { identification, checksum, dont_fragment: false, ..*datagram };
        Some(Pieces { whole, udp_bytes, room, ip_header_bytes, done: 0 })
    }
}

/// The checksum that a datagram would have arrived with.
fn checksum_of_all(datagram: &Datagram<'_>) -> u16 {
    // It came out of an IP packet: its length fits.
    let udp_bytes = (udp::HEADER_BYTES + datagram.payload.len()) as u16;
    let sum = udp_pseudo_header(datagram.source.ip(), datagram.destination.address, udp_bytes)
        .add_word(datagram.source.port())
        .add_word(datagram.destination.port)
        .add_word(udp_bytes)
        .add_bytes(datagram.payload);
    not_zero(sum.checksum())
}

impl Pieces<'_> {
    /// Bytes of the IP packets of those that are still to come.
    #[must_use]
    pub fn ip_bytes(&self) -> u64 {
        (self.len() * self.ip_header_bytes + self.left()) as u64
    }

    /// Bytes behind the IP headers of those.
    fn left(&self) -> usize {
        self.whole.udp_header_bytes() + self.whole.payload.len() - self.done
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Datagram<'a>;

    fn next(&mut self) -> Option<Datagram<'a>> {
        let bytes = self.left().min(self.room);
        if bytes == 0 {
            return None;
        }
        let (whole, begin) = (&self.whole, self.done);
        self.done += bytes;
        let header_bytes = whole.udp_header_bytes();
        // A piece has room for a UDP header at least.
        let payload = whole.payload.get(begin.saturating_sub(header_bytes)..self.done - header_bytes)?;
        if begin == 0 && header_bytes > 0 {
            return Some(Datagram { part: Part::First { udp_bytes: self.udp_bytes }, payload, ..*whole });
        }
        let place = whole.part.place();
        let more = if self.left() > 0 { MORE_FRAGMENTS } else { place & MORE_FRAGMENTS };
        let place = more | ((place & OFFSET_MASK) + (begin / UNIT_BYTES) as u16);
        Some(Datagram { part: Part::Later { place }, checksum: UdpChecksum::Zero, payload, ..*whole })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.left().div_ceil(self.room);
        (count, Some(count))
    }
}

impl ExactSizeIterator for Pieces<'_> {}
impl FusedIterator for Pieces<'_> {}
