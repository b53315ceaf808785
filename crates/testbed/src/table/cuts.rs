//! What becomes of copies that are larger than the MTU of an output which has them cut into fragments.
//!
//! A table of its own: the identification of a datagram that is cut is the datapath's to choose.

use mcr_wire::{Oversize, Rewrite};

use super::rows::{across, carrying, carrying6, first, payload};
use super::{DEVICE, DEVICE6, Delivery, GROUP6, Relay, Row, Verdict, copy, relay, rewrite};
use crate::frame::{Checksum, Frame};
use crate::pieces::put_together;

/// Frames that one relay takes, and in how many pieces their copies leave.
#[derive(Debug, Clone)]
pub struct Cut {
    /// What is special about them.
    pub what: &'static str,
    /// One after the other, and the pieces of each datagram; 0: it is dropped as `too_big`.
    pub frames: Vec<(Frame, usize)>,
    /// How they get to the input.
    pub delivery: Delivery,
    /// What copies look like.
    pub rewrite: Rewrite,
    /// Largest IP packet that leaves.
    pub mtu: u32,
}

/// A datagram of a [`Cut`], and what has to become of it.
#[derive(Debug, Clone)]
pub struct CutDatagram {
    /// In how many pieces its copy leaves; 0: not at all.
    pub pieces: usize,
    uncut: Frame,
    mtu: u32,
}

/// Every row.
#[rustfmt::skip]
pub fn cuts() -> Vec<Cut> {
    let (four, six) = ("239.2.2.2:6001", "[ff3e::2:2]:6001");
    let device4 = |bytes| Frame::udp(DEVICE, "239.1.1.1:5001", payload(bytes));
    let rows: Vec<(&'static str, Frame, usize, &str, u32)> = vec![
        ("one byte too large", carrying(1473), 2, four, 1500),
        ("it just fits", carrying(1472), 1, four, 1500),
        ("one that may be fragmented", carrying(3000).flags_and_offset(0), 3, four, 1500),
        ("a full jumbo frame", carrying(8972), 7, four, 1500),
        ("a full jumbo frame to the smallest MTU", carrying(8972), 188, four, 68),
        ("an MTU that is no multiple of eight", carrying(1472), 3, four, 579),
        ("no UDP checksum", carrying(2000).udp_checksum(Checksum::Zero), 2, four, 1500),
        ("an MTU without room for a piece", carrying(100), 0, four, 27),
        ("more pieces than are sent", carrying(8972), 0, four, 52),
        ("a full frame to IPv6", across(1472), 2, six, 1500),
        ("one that just fits as IPv6", across(1452), 1, six, 1500),
        ("to IPv6 without UDP checksum", device4(1472).udp_checksum(Checksum::Zero), 2, six, 1280),
        ("a full jumbo frame to IPv6", device4(8972), 8, six, 1280),
        ("jumbo of IPv6", carrying6(8952), 7, six, 1500),
        ("IPv6 to IPv4", carrying6(1472), 2, four, 1499),
        ("a fragment of IPv6 that is whole", carrying6(1452).fragment(7, 0), 2, six, 1500),
    ];
    let row = |(what, frame, pieces, to, mtu): (&'static str, Frame, usize, &str, u32)| {
        Cut { what, frames: vec![(frame, pieces)], delivery: Delivery::Whole, rewrite: cutting(to), mtu }
    };
    let unfinished = |what, frame: Frame, pieces, to| Cut {
        delivery: Delivery::Unfinished,
        ..row((what, frame.udp_checksum(Checksum::Partial), pieces, to, 1500))
    };
    let following = |what, frames, to, mtu| Cut { what, frames, delivery: Delivery::Whole, rewrite: cutting(to), mtu };
    let later = |bytes, place| Frame::udp(DEVICE, "239.1.1.1:5001", payload(bytes)).without_udp_header().fragment(8, place);
    let later6 = |bytes, place| carrying6(bytes).without_udp_header().fragment(0x10008, place);
    let full = |bytes| Frame::udp(DEVICE, "239.1.1.1:5001", payload(bytes)).udp_length(9000).fragment(8, 0x2000);
    let full6 = Frame::udp(DEVICE6, GROUP6, payload(1440)).udp_length(9000).fragment(0x10008, 0x2000);
    let others = vec![
        unfinished("checksum left to a device", carrying(4001), 3, four),
        unfinished("IPv6: checksum left to a device", carrying6(4001), 3, six),
        unfinished("to IPv6, checksum left to a device", device4(1472), 2, six),
        Cut { delivery: Delivery::Segments(1472), ..row(("segments to IPv6", device4(2944).udp_checksum(Checksum::Partial), 2, six, 1500)) },
        following("fragments to IPv6", vec![(full(1472), 2), (later(1480, 0x2000 | 185), 2), (later(1000, 370), 1)], six, 1500),
        following("fragments to a smaller MTU", vec![(full(1472), 3), (later(1480, 0x2000 | 185), 3), (later(1001, 370), 2)], four, 600),
        following("fragments of IPv6 to a smaller MTU", vec![(full6, 2), (later6(1448, 0x2000 | 181), 2), (later6(9, 362), 1)], six, 1280),
        following("offsets that end before the pieces do", vec![(first(8), 1), (later(1000, 0x1fff), 0)], six, 1000),
    ];
    rows.into_iter().map(row).chain(others).collect()
}

fn cutting(to: &str) -> Rewrite {
    Rewrite { oversize: Oversize::Fragment, ..rewrite(to) }
}

impl Cut {
    /// Its relay.
    pub fn relay(&self) -> Relay {
        let output = super::Output::Send { lan: 1, rewrite: self.rewrite, mtu: self.mtu };
        relay(&self.frames[0].0.destination.to_string(), vec![output])
    }

    /// Each frame as a row, and its datagrams.
    pub fn sendings(&self) -> impl Iterator<Item = (Row, Vec<CutDatagram>)> {
        self.frames.iter().map(|(frame, pieces)| {
            let verdict = if *pieces == 0 { Verdict::Unsent } else { Verdict::Sent };
            let row = Row { what: self.what, frame: frame.clone(), delivery: self.delivery, verdict };
            let uncut =
                |arrived: &Frame| CutDatagram { pieces: *pieces, uncut: copy(arrived, &self.rewrite), mtu: self.mtu };
            let datagrams = row.datagrams().iter().map(uncut).collect();
            (row, datagrams)
        })
    }
}

impl CutDatagram {
    /// That these frames are the copy, in pieces that the output takes; which identification they have.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn assert_is(&self, frames: &[Vec<u8>], what: &str) -> Option<u32> {
        assert_eq!(frames.len(), self.pieces, "{what}");
        match frames {
            [] => return None,
            [only] => {
                assert_eq!(*only, self.uncut.bytes(), "{what}");
                return None;
            }
            _ => {}
        }
        let link_bytes = crate::frame::ETHERNET_BYTES + 4 * self.uncut.tags.len();
        assert!(
            frames.iter().all(|frame| frame.len() - link_bytes <= self.mtu as usize),
            "{what}: larger than the MTU"
        );
        let (identification, whole) = put_together(frames).unwrap_or_else(|error| panic!("{what}: {error}"));
        // What was a whole datagram is one again, and a fragment is what it was.
        let mut uncut = self.uncut.clone();
        match uncut.fragmentation() {
            Some((arrived, place)) if place != 0 => assert_eq!(identification, arrived, "{what}"),
            Some(_) | None => uncut = uncut.without_extensions(),
        }
        if !uncut.is_ipv6() {
            let place = uncut.flags_and_offset & 0x3fff;
            uncut = uncut.identification((identification & 0xffff) as u16).flags_and_offset(place);
        }
        assert_eq!(whole, uncut.bytes(), "{what}");
        Some(identification)
    }
}
