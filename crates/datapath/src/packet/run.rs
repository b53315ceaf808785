//! Runs: consecutive datagrams of one relay that can leave as one segmented send.
//!
//! A run is what the kernel's UDP segmentation can take apart again into exactly the datagrams that
//! came in: equal payload sizes (the last may be shorter), equal header fields, and identifications
//! that count up or do not matter because DF is set (RFC 6864 section 4.1). Payloads stay where they
//! are, in the ring; a run only points at them.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::slice;

use mcr_wire::{Datagram, Part, Rewrite, UdpChecksum};

use crate::table::RelayIndex;

/// Most datagrams of a run: the limit of the kernel's UDP segmentation before Linux 6.10
/// (`include/linux/udp.h: UDP_MAX_SEGMENTS`).
pub(super) const MAX_SEGMENTS: usize = 64;
/// Most payload bytes of a run: its headers, of either family, carry lengths of 16 bits.
const MAX_PAYLOAD_BYTES: usize = mcr_wire::udp::MOST_PAYLOAD_BYTES;

/// One or more datagrams of one relay.
pub(super) struct Run {
    relay: RelayIndex,
    /// The first datagram, without its payload.
    first: Datagram<'static>,
    /// Payload bytes of each datagram but the last.
    segment_bytes: usize,
    packets: usize,
    payload_bytes: usize,
    growth: Growth,
    piece_count: usize,
    pieces: [MaybeUninit<libc::iovec>; MAX_SEGMENTS],
}

/// Whether another datagram may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    Open,
    Closed,
}

impl Run {
    /// A run of one frame, which may itself be a super-frame.
    ///
    /// # Safety
    ///
    /// The payload stays in place and unchanged until the run is dropped or overwritten.
    pub(super) unsafe fn start(&mut self, relay: RelayIndex, datagram: &Datagram<'_>) {
        let payload_bytes = datagram.payload.len();
        let packets = datagram.packets() as usize;
        self.relay = relay;
        self.first = without_payload(datagram);
        self.segment_bytes = match datagram.segment_bytes {
            Some(bytes) if packets > 1 => usize::from(bytes.get()),
            Some(_) | None => payload_bytes,
        };
        self.packets = packets;
        self.payload_bytes = payload_bytes;
        self.growth = match datagram.checksum {
            _ if datagram.part != Part::Whole => Growth::Closed,
            // A segmented send gives every datagram a checksum, also where there was none.
            UdpChecksum::Zero => Growth::Closed,
            UdpChecksum::Partial | UdpChecksum::Known(_) if datagram.segment_bytes.is_some() || payload_bytes == 0 => {
                Growth::Closed
            }
            UdpChecksum::Partial | UdpChecksum::Known(_) => Growth::Open,
        };
        self.piece_count = 0;
        self.push(datagram.payload);
    }

    /// A place for a run that [`Run::start`] fills.
    pub(super) fn vacant() -> Self {
        Self {
            relay: 0,
            first: VACANT,
            segment_bytes: 0,
            packets: 0,
            payload_bytes: 0,
            growth: Growth::Closed,
            piece_count: 0,
            pieces: [const { MaybeUninit::uninit() }; MAX_SEGMENTS],
        }
    }

    /// Appends a datagram of the same relay if it continues the run.
    ///
    /// # Safety
    ///
    /// As for [`Run::start`].
    #[inline]
    pub(super) unsafe fn append(&mut self, datagram: &Datagram<'_>) -> bool {
        if !self.continues(datagram) {
            return false;
        }
        let payload_bytes = datagram.payload.len();
        if payload_bytes < self.segment_bytes {
            self.growth = Growth::Closed;
        }
        self.packets += 1;
        self.payload_bytes += payload_bytes;
        self.push(datagram.payload);
        true
    }

    pub(super) fn relay(&self) -> RelayIndex {
        self.relay
    }

    pub(super) fn packets(&self) -> u64 {
        self.packets as u64
    }

    /// Sum of the lengths of the IP packets that leave with this rewrite.
    pub(super) fn ip_bytes(&self, rewrite: &Rewrite) -> u64 {
        (self.payload_bytes + self.packets * rewrite.bytes_before(&self.first)) as u64
    }

    /// Length of the largest of them.
    pub(super) fn largest_ip_bytes(&self, rewrite: &Rewrite) -> usize {
        self.segment_bytes + rewrite.bytes_before(&self.first)
    }

    pub(super) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The first datagram's header fields.
    pub(super) fn first(&self) -> &Datagram<'static> {
        &self.first
    }

    /// Payload bytes of each datagram but the last, when there are several.
    pub(super) fn segmented(&self) -> Option<NonZeroU16> {
        (self.packets > 1).then(|| NonZeroU16::new(self.segment_bytes as u16)).flatten()
    }

    /// Where the payloads are.
    #[inline]
    pub(super) fn pieces(&self) -> &[libc::iovec] {
        // SAFETY: `push` has initialised the first `piece_count` of them.
        unsafe { slice::from_raw_parts(self.pieces.as_ptr().cast(), self.piece_count) }
    }

    /// Each datagram by itself.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let chunk = self.segment_bytes.max(1);
        let payloads = self.pieces().iter().flat_map(move |piece| {
            // SAFETY: whoever started or continued the run keeps the payload in place.
            let payload = unsafe { slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len) };
            // An empty payload is a datagram too, but has no chunks.
            let empty = payload.is_empty().then_some(payload);
            payload.chunks(chunk).chain(empty)
        });
        let checksum = match self.packets {
            1 => self.first.checksum,
            // Each has its own, and only the first one's was kept: make them anew.
            _ => UdpChecksum::Partial,
        };
        payloads.enumerate().map(move |(index, payload)| Datagram {
            identification: self.first.identification_after(index),
            checksum,
            segment_bytes: None,
            payload,
            ..self.first
        })
    }

    #[inline]
    fn continues(&self, next: &Datagram<'_>) -> bool {
        let first = &self.first;
        let expected = first.identification_after(self.packets);
        self.growth == Growth::Open
            && next.segment_bytes.is_none()
            && next.part == Part::Whole
            && !next.payload.is_empty()
            && next.payload.len() <= self.segment_bytes
            && self.packets < MAX_SEGMENTS
            && self.payload_bytes + next.payload.len() <= MAX_PAYLOAD_BYTES
            && next.checksum != UdpChecksum::Zero
            && next.source == first.source
            && next.traffic_class == first.traffic_class
            && next.ttl == first.ttl
            && next.flow_label == first.flow_label
            && next.dont_fragment == first.dont_fragment
            && next.priority_bits == first.priority_bits
            && (next.dont_fragment || next.identification == expected)
    }

    #[inline]
    fn push(&mut self, payload: &[u8]) {
        self.pieces[self.piece_count]
            .write(libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() });
        self.piece_count += 1;
    }
}

/// A datagram of no bytes, for places that hold none yet.
const VACANT: Datagram<'static> = Datagram {
    destination: mcr_wire::Destination { vlan: None, address: NOWHERE, port: 0 },
    source: SocketAddr::new(NOWHERE, 0),
    priority_bits: 0,
    traffic_class: 0,
    ttl: 0,
    dont_fragment: false,
    identification: 0,
    flow_label: 0,
    checksum: UdpChecksum::Zero,
    segment_bytes: None,
    part: Part::Whole,
    payload: &[],
};

const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn without_payload(datagram: &Datagram<'_>) -> Datagram<'static> {
    // Every field by name: a new one has to be thought of here.
    let &Datagram {
        destination,
        source,
        priority_bits,
        traffic_class,
        ttl,
        dont_fragment,
        identification,
        flow_label,
        checksum,
        segment_bytes,
        part,
        payload: _,
    } = datagram;
    Datagram {
        destination,
        source,
        priority_bits,
        traffic_class,
        ttl,
        dont_fragment,
        identification,
        flow_label,
        checksum,
        segment_bytes,
        part,
        payload: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Datagram<'static> =
        Datagram { identification: 0xffff, checksum: UdpChecksum::Known(1), payload: &[1; 100], ..VACANT };

    fn started(datagram: &Datagram<'static>) -> Run {
        let mut run = Run::vacant();
        // SAFETY: the payload is static.
        unsafe { run.start(0, datagram) };
        run
    }

    fn append(run: &mut Run, datagram: &Datagram<'static>) -> bool {
        // SAFETY: the payload is static.
        unsafe { run.append(datagram) }
    }

    #[test]
    fn equal_datagrams_run_until_a_shorter_one() {
        let mut run = started(&FIRST);
        assert_eq!(run.segmented(), None);
        assert!(append(&mut run, &Datagram { identification: 0, ..FIRST }));
        assert!(append(&mut run, &Datagram { identification: 1, payload: &[2; 40], ..FIRST }));
        assert!(!append(&mut run, &Datagram { identification: 2, payload: &[2; 40], ..FIRST }));
        assert_eq!((run.packets(), run.payload_bytes()), (3, 240));
        for (to, header_bytes) in [("239.2.2.2:1", 28), ("[ff3e::1]:1", 48)] {
            let rewrite = mcr_testbed::table::rewrite(to);
            assert_eq!(run.ip_bytes(&rewrite), 240 + 3 * header_bytes);
            assert_eq!(run.largest_ip_bytes(&rewrite), 100 + header_bytes as usize);
        }
        assert_eq!(run.segmented().map(NonZeroU16::get), Some(100));
        let again: Vec<_> = run.datagrams().map(|one| (one.identification, one.payload.len())).collect();
        assert_eq!(again, [(0xffff, 100), (0, 100), (1, 40)]);
    }

    #[test]
    fn what_segmentation_could_not_restore_starts_another_run() {
        let next = Datagram { identification: 0, ..FIRST };
        assert!(append(&mut started(&FIRST), &next));
        for (why, other) in [
            ("identification", Datagram { identification: 5, ..next }),
            ("longer", Datagram { payload: &[1; 101], ..next }),
            ("empty", Datagram { payload: &[], ..next }),
            ("no checksum", Datagram { checksum: UdpChecksum::Zero, ..next }),
            ("DF", Datagram { dont_fragment: true, ..next }),
            ("class", Datagram { traffic_class: 4, ..next }),
            ("TTL", Datagram { ttl: 9, ..next }),
            ("priority", Datagram { priority_bits: 0x2000, ..next }),
            ("source", Datagram { source: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), ..next }),
            ("flow label", Datagram { flow_label: 7, ..next }),
            ("super-frame", Datagram { segment_bytes: NonZeroU16::new(50), ..next }),
            ("first fragment", Datagram { part: Part::First { udp_bytes: 200 }, ..next }),
            ("later fragment", Datagram { part: Part::Later { place: 9 }, ..next }),
            ("fragment that is whole", Datagram { part: Part::Atomic, ..next }),
        ] {
            assert!(!append(&mut started(&FIRST), &other), "{why}");
        }
        for closed in [
            Datagram { checksum: UdpChecksum::Zero, ..FIRST },
            Datagram { payload: &[], ..FIRST },
            Datagram { segment_bytes: NonZeroU16::new(50), ..FIRST },
            Datagram { part: Part::First { udp_bytes: 200 }, ..FIRST },
        ] {
            assert!(!append(&mut started(&closed), &next), "{closed:?}");
        }
    }

    #[test]
    fn with_df_any_identification_continues() {
        let first = Datagram { dont_fragment: true, ..FIRST };
        assert!(append(&mut started(&first), &Datagram { identification: 0xffff, ..first }));
    }

    #[test]
    fn a_run_ends_at_its_limits() {
        let mut run = started(&FIRST);
        for identification in 0..MAX_SEGMENTS as u32 - 1 {
            assert!(append(&mut run, &Datagram { identification, ..FIRST }), "{identification}");
        }
        assert!(!append(&mut run, &Datagram { identification: MAX_SEGMENTS as u32 - 1, ..FIRST }));
        assert_eq!(run.packets(), MAX_SEGMENTS as u64);
        let large = Datagram { payload: &[0; 8_972], dont_fragment: true, ..FIRST };
        let mut run = started(&large);
        while append(&mut run, &large) {}
        assert_eq!(run.packets(), 7);
        assert!(run.payload_bytes() <= MAX_PAYLOAD_BYTES);
    }

    #[test]
    fn super_frames_and_empty_datagrams_come_apart_as_they_were() {
        let run = started(&Datagram { segment_bytes: NonZeroU16::new(40), ..FIRST });
        assert_eq!(run.packets(), 3);
        assert_eq!(run.datagrams().map(|one| one.payload.len()).collect::<Vec<_>>(), [40, 40, 20]);
        let run = started(&Datagram { payload: &[], ..FIRST });
        assert_eq!(run.datagrams().count(), 1);
    }
}
