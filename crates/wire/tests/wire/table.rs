//! The table of frames that all datapaths share, through this crate's own reading and rewriting.

use std::collections::HashMap;
use std::num::NonZeroU16;

use mcr_testbed::table::{self, Delivery, OUR_MAC, Outcome, Output, Relay, Row, Verdict};
use mcr_wire::{
    ChecksumState, Datagram, Destination, DropReason, FrameMeta, Refused, Reject, Rewrite, parse_following,
};

/// The input's own address; the rows tell apart what is for it and what is not.
const OWN: mcr_testbed::Mac = mcr_testbed::Mac([2, 0, 0, 0, 0, 2]);

#[test]
fn every_row() {
    let relays = table::relays();
    let rows = table::rows(OWN);
    assert!(rows.len() > 290, "{} rows", rows.len());
    let mut ports = HashMap::new();
    for row in &rows {
        let frame = row.frame.bytes();
        let parsed = parse_following(&frame, &meta(row), |key| ports.get(key).copied());
        let is_loop = frame[6..12] == OUR_MAC.0;
        let relayed = parsed.ok().filter(|one| !is_loop && relays.iter().any(|relay| takes(relay, one)));
        if let Some((key, datagram)) = relayed.and_then(|one| Some((one.fragment_key()?, one))) {
            ports.insert(key, datagram.destination.port);
        }
        match row.verdict {
            Verdict::Sent | Verdict::Unsent => assert_copies(&parsed.expect(row.what), row, &relays),
            Verdict::Refused(DropReason::Loop) => assert!(is_loop, "{}", row.what),
            Verdict::Refused(reason) => assert_refused(&parsed, reason, row, &relays),
            Verdict::OnInput(DropReason::SourceNotListed) => {
                let datagram = parsed.expect(row.what);
                assert!(!relays.iter().any(|relay| takes(relay, &datagram)), "{}", row.what);
            }
            Verdict::OnInput(reason) => {
                let Err(Reject::Drop { reason: given, destination }) = parsed else {
                    panic!("{}: {parsed:?}", row.what);
                };
                assert_eq!(given, reason, "{}", row.what);
                let source = Refused::of(&frame, &meta(row)).source;
                let takes = |relay: &&Relay| {
                    source.is_none_or(|source| relay.sources.is_empty() || relay.listing.passes(relay.lists(source)))
                };
                let accepting = relays.iter().filter(takes);
                let mut accepting = accepting.map(|relay| Some(relay.destination));
                assert!(
                    destination.is_none() || accepting.all(|to| to != destination),
                    "{}: {destination:?}",
                    row.what
                );
            }
            Verdict::Passed => assert!(is_nobodys(&parsed, &frame, &relays), "{}: {parsed:?}", row.what),
        }
    }
}

/// Whether a relay wants a datagram of this destination and source.
fn takes(relay: &Relay, datagram: &Datagram<'_>) -> bool {
    let is_listed = relay.lists(datagram.source.ip());
    let accepts = relay.sources.is_empty() || relay.listing.passes(is_listed);
    relay.destination == datagram.destination && accepts
}

/// What the kernel says of the row's frame.
pub(crate) fn meta(row: &Row) -> FrameMeta {
    let (checksum, segment_bytes) = match row.delivery {
        Delivery::Whole => (ChecksumState::Unknown, None),
        Delivery::Unfinished => (ChecksumState::Partial, None),
        Delivery::Segments(bytes) => (ChecksumState::Partial, NonZeroU16::new(bytes)),
    };
    FrameMeta { vlan: None, checksum, segment_bytes }
}

/// Each relay that is charged gives, at each output that sends, the bytes of the table.
#[track_caller]
fn assert_copies(datagram: &Datagram<'_>, row: &Row, relays: &[Relay]) {
    let charges = row.charges(relays);
    assert!(!charges.is_empty(), "{}", row.what);
    for charge in charges {
        let relay = &relays[charge.relay];
        assert_eq!(datagram.destination, relay.destination, "{}", row.what);
        assert_eq!((datagram.packets(), datagram.ip_bytes()), (charge.packets, charge.bytes), "{}", row.what);
        for (output, outcome) in relay.outputs.iter().zip(charge.outcomes) {
            match (output, outcome) {
                (Output::Send { rewrite, .. }, Outcome::Sent { frames, bytes, .. }) => {
                    let ip_bytes =
                        datagram.packets() * rewrite.bytes_before(datagram) as u64 + datagram.payload.len() as u64;
                    assert_eq!(ip_bytes, bytes, "{}", row.what);
                    let copies: Vec<_> = datagram.segments().map(|segment| whole(rewrite, &segment)).collect();
                    assert_eq!(copies, frames, "{}", row.what);
                }
                (Output::Send { rewrite, mtu, .. }, Outcome::Dropped(reason)) => {
                    let largest = rewrite.bytes_before(datagram) + datagram.largest_payload_bytes();
                    let too_big = (largest > *mtu as usize).then_some(DropReason::TooBig);
                    assert_eq!(rewrite.refusal(datagram).or(too_big), Some(reason), "{}", row.what);
                }
                (Output::Drop(_), outcome) => assert!(matches!(outcome, Outcome::Dropped(_)), "{}", row.what),
            }
        }
    }
}

#[track_caller]
fn assert_refused(parsed: &Result<Datagram<'_>, Reject>, reason: DropReason, row: &Row, relays: &[Relay]) {
    for charge in row.charges(relays) {
        let destination = Some(relays[charge.relay].destination);
        assert_eq!(*parsed, Err(Reject::Drop { reason, destination }), "{}", row.what);
        let frame = row.frame.bytes();
        let refused = Refused::of(&frame, &meta(row));
        assert_eq!((refused.packets, refused.ip_bytes), (charge.packets, charge.bytes), "{}", row.what);
    }
}

/// Whether a frame is not ours, to nobody's destination, or to another host's link-layer address.
fn is_nobodys(parsed: &Result<Datagram<'_>, Reject>, frame: &[u8], relays: &[Relay]) -> bool {
    let is_wanted = |to: &Destination| relays.iter().any(|relay| relay.destination == *to);
    match parsed {
        Ok(datagram) => !is_wanted(&datagram.destination) || frame[0] & 1 == 0 && frame[..6] != OWN.0,
        Err(Reject::NotOurs | Reject::Drop { destination: None, .. }) => true,
        Err(Reject::Drop { destination: Some(to), .. }) => !is_wanted(to),
    }
}

fn whole(rewrite: &Rewrite, datagram: &Datagram<'_>) -> Vec<u8> {
    let mut frame = vec![0; 10_000];
    let length = rewrite.frame(datagram, &mut frame).expect("a datagram that fits");
    frame.truncate(length);
    frame
}
