//! Datagrams that are cut, and put together again by code that is not this crate's.

use std::collections::HashMap;
use std::net::SocketAddr;

use mcr_testbed::put_together;
use mcr_testbed::table::{Row, cuts};
use mcr_wire::{ChecksumState, Datagram, FrameMeta, Part, Rewrite, UdpChecksum, parse_following};
use proptest::prelude::*;

use crate::rewrite::{emit, rewrite_to};
use crate::table::meta;

#[test]
fn every_row_of_cuts() {
    for cut in cuts() {
        let mut ports = HashMap::new();
        for (row, datagrams) in cut.sendings() {
            let frame = row.frame.bytes();
            let parsed = parse_following(&frame, &meta(&row), |key| ports.get(key).copied()).expect(row.what);
            ports.extend(parsed.fragment_key().map(|key| (key, parsed.destination.port)));
            for (segment, wanted) in parsed.segments().zip(datagrams) {
                wanted.assert_is(&leaving(&cut.rewrite, &segment, cut.mtu as usize, &row), row.what);
            }
        }
    }
}

/// The frames of a copy, by what a datapath does.
fn leaving(rewrite: &Rewrite, datagram: &Datagram<'_>, mtu: usize, row: &Row) -> Vec<Vec<u8>> {
    if rewrite.bytes_before(datagram) + datagram.payload.len() <= mtu {
        return vec![emit(rewrite, datagram)];
    }
    let Some(pieces) = rewrite.pieces(datagram, mtu, 0x1_2345) else { return Vec::new() };
    let (count, ip_bytes) = (pieces.len(), pieces.ip_bytes());
    let frames: Vec<_> = pieces.map(|piece| emit(rewrite, &piece)).collect();
    let bytes: usize = frames.iter().map(|frame| frame.len() - 14).sum();
    assert_eq!((count, ip_bytes), (frames.len(), bytes as u64), "{}", row.what);
    // What a datapath would have to hold.
    if count > 256 { Vec::new() } else { frames }
}

fn end(is_ipv6: bool, number: u16) -> SocketAddr {
    let text = if is_ipv6 { format!("[ff3e::{number:x}]:{number}") } else { format!("239.1.1.9:{number}") };
    text.parse().unwrap()
}

proptest! {
    /// Cut once, and the pieces once more: what is put together is what would have left whole.
    #[test]
    fn pieces_and_pieces_of_pieces_make_the_whole(
        (from_ipv6, to_ipv6) in any::<(bool, bool)>(),
        payload in prop::collection::vec(any::<u8>(), 0..3000),
        (mtu, smaller) in (600_usize..1600, 60_usize..600),
        identification in any::<u32>(),
        state in prop::sample::select(vec![ChecksumState::Unknown, ChecksumState::Partial]),
        has_checksum in any::<bool>(),
    ) {
        let (from, to) = (end(from_ipv6, 4000), end(from_ipv6, 5001));
        let checksum = match state {
            ChecksumState::Partial => mcr_testbed::Checksum::Partial,
            _ if from_ipv6 || has_checksum => mcr_testbed::Checksum::Right,
            _ => mcr_testbed::Checksum::Zero,
        };
        let frame = mcr_testbed::Frame::udp(&from.to_string(), &to.to_string(), payload).udp_checksum(checksum).bytes();
        let meta = FrameMeta { checksum: state, ..FrameMeta::PLAIN };
        let datagram = parse_following(&frame, &meta, |_| None).unwrap();
        let rewrite = rewrite_to(end(to_ipv6, 1).ip(), end(to_ipv6, 2).ip());
        let whole = emit(&rewrite, &Datagram { identification, dont_fragment: false, ..datagram });
        prop_assume!(whole.len() - 14 > mtu);

        let pieces = rewrite.pieces(&datagram, mtu, identification).unwrap();
        let mut frames = Vec::new();
        for piece in pieces {
            let frame = emit(&rewrite, &piece);
            prop_assert!(frame.len() - 14 <= mtu);
            let again = parse_following(&frame, &FrameMeta::PLAIN, |_| Some(rewrite.destination.port())).unwrap();
            prop_assert!(again.part != Part::Whole);
            match rewrite.pieces(&again, smaller, 0).filter(|_| frame.len() - 14 > smaller) {
                Some(pieces) => frames.extend(pieces.map(|piece| emit(&rewrite, &piece))),
                None => frames.push(frame),
            }
        }
        let (told, together) = put_together(&frames).unwrap();
        prop_assert_eq!(told, if to_ipv6 { identification } else { identification & 0xffff });
        prop_assert_eq!(&together, &whole);
        let read_back = parse_following(&together, &FrameMeta::PLAIN, |_| None).unwrap();
        prop_assert_eq!(read_back.checksum == UdpChecksum::Zero, checksum == mcr_testbed::Checksum::Zero && !to_ipv6);
    }
}
