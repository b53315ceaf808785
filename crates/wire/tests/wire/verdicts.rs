//! Each row of the table in `frame.rs`, by frames that somebody else's code made.

use std::num::NonZeroU16;

use crate::frames::{DEVICE, GROUP, PORT, Recipe};
use etherparse::{EtherType, IpNumber, Ipv4Options};
use mcr_wire::ethernet::{TPID_8021AD, TPID_8021Q};
use mcr_wire::{
    ChecksumState, Destination, DropReason, FrameMeta, Refused, Reject, UdpChecksum, VlanId, VlanTag, parse,
};

const PAYLOAD: &[u8] = b"thirty-one bytes of a test tone";

fn destination(vlan: Option<VlanId>) -> Destination {
    Destination { vlan, address: GROUP, port: PORT }
}

fn drop(reason: DropReason) -> Reject {
    Reject::Drop { reason, destination: Some(destination(None)) }
}

fn drop_of_nobody(reason: DropReason) -> Reject {
    Reject::Drop { reason, destination: None }
}

fn super_frame(segment_bytes: u16) -> FrameMeta {
    FrameMeta { segment_bytes: NonZeroU16::new(segment_bytes), ..FrameMeta::PLAIN }
}

#[track_caller]
fn refused(frame: &[u8], meta: &FrameMeta, reject: Reject) {
    assert_eq!(parse(frame, meta), Err(reject), "{frame:02x?}");
}

#[test]
fn a_sound_datagram_is_read() {
    let recipe = Recipe::new(PAYLOAD).ip(|ip| (ip.dscp, ip.ecn) = (34.try_into().unwrap(), 1.try_into().unwrap()));
    let frame = recipe.frame();
    let datagram = parse(&frame, &FrameMeta::PLAIN).unwrap();
    assert_eq!(datagram.destination, destination(None));
    assert_eq!((datagram.source.ip(), datagram.source.port()), (DEVICE, 4000));
    assert_eq!((datagram.traffic_class, datagram.ttl, datagram.priority_bits), (0x89, 1, 0));
    assert_eq!((datagram.dont_fragment, datagram.identification), (true, 0x1234));
    assert_eq!(datagram.checksum, UdpChecksum::Known(recipe.udp.checksum));
    assert_eq!((datagram.segment_bytes, datagram.payload), (None, PAYLOAD));
    assert_eq!((datagram.packets(), datagram.ip_bytes(), datagram.largest_ip_bytes()), (1, 59, 59));
}

#[test]
fn an_empty_datagram_is_one() {
    let frame = Recipe::new(&[]).frame();
    let datagram = parse(&frame, &FrameMeta::PLAIN).unwrap();
    assert_eq!((datagram.packets(), datagram.ip_bytes(), datagram.segments().count()), (1, 28, 1));
    let meta = super_frame(100);
    assert_eq!(parse(&frame, &meta).unwrap(), datagram, "the kernel's segment size of one small datagram says nothing");
}

#[test]
fn row_1_and_3_too_few_bytes_for_the_headers() {
    for recipe in [Recipe::new(PAYLOAD), Recipe::new(PAYLOAD).tagged(TPID_8021Q, 7, 0)] {
        let frame = recipe.frame();
        for length in 0..recipe.ip_at() + 20 {
            refused(&frame[..length], &FrameMeta::PLAIN, drop_of_nobody(DropReason::Truncated));
        }
    }
}

#[test]
fn row_2_a_third_tag_a_reserved_vlan_or_another_protocol() {
    let tagged = |tpid, vlan| Recipe::new(PAYLOAD).tagged(tpid, vlan, 0);
    let stripped = |tci| FrameMeta { vlan: Some(VlanTag { tpid: TPID_8021Q, tci }), ..FrameMeta::PLAIN };
    let double = tagged(TPID_8021Q, 5).tagged(TPID_8021AD, 6, 0).frame();
    let both = VlanId::new(5).unwrap().within(6);
    for (frame, meta) in [(&double, FrameMeta::PLAIN), (&tagged(TPID_8021Q, 5).frame(), stripped(0x2006))] {
        let datagram = parse(frame, &meta).unwrap();
        assert_eq!((datagram.destination.vlan, datagram.payload), (both, PAYLOAD));
        assert_eq!(datagram.priority_bits, meta.vlan.map_or(0, |tag| tag.tci & 0xf000), "of the outer one");
    }
    refused(&double, &stripped(7), Reject::NotOurs);
    refused(&tagged(TPID_8021Q, 5).frame(), &stripped(4095), Reject::NotOurs);
    refused(&tagged(TPID_8021Q, 4095).frame(), &stripped(5), Reject::NotOurs);
    refused(&tagged(TPID_8021Q, 5).frame(), &stripped(0), Reject::NotOurs);
    refused(&tagged(TPID_8021Q, 4095).frame(), &FrameMeta::PLAIN, Reject::NotOurs);
    refused(&Recipe::new(PAYLOAD).frame(), &stripped(4095), Reject::NotOurs);
    for ethertype in [EtherType(0x8847), EtherType::ARP, EtherType(0x05dc)] {
        let recipe = Recipe { ethertype, ..Recipe::new(PAYLOAD) };
        refused(&recipe.frame(), &FrameMeta::PLAIN, Reject::NotOurs);
        refused(&recipe.tagged(TPID_8021Q, 5, 0).frame(), &FrameMeta::PLAIN, Reject::NotOurs);
    }
}

#[test]
fn one_tag_is_understood_in_the_frame_and_beside_it() {
    let vlan = VlanId::new(100);
    for tpid in [TPID_8021Q, TPID_8021AD] {
        let inside = Recipe::new(PAYLOAD).tagged(tpid, 100, 0xb).frame();
        let outside = Recipe::new(PAYLOAD).frame();
        let stripped = FrameMeta { vlan: Some(VlanTag { tpid, tci: 0xb064 }), ..FrameMeta::PLAIN };
        let datagram = parse(&inside, &FrameMeta::PLAIN).unwrap();
        assert_eq!((datagram.destination, datagram.priority_bits), (destination(vlan), 0xb000));
        assert_eq!(parse(&outside, &stripped).unwrap(), datagram);
    }
    let priority_only = Recipe::new(PAYLOAD).tagged(TPID_8021Q, 0, 0xe).frame();
    let datagram = parse(&priority_only, &FrameMeta::PLAIN).unwrap();
    assert_eq!((datagram.destination, datagram.priority_bits), (destination(None), 0xe000));
}

#[test]
fn row_4_an_ip_header_that_contradicts_itself() {
    let recipe = Recipe::new(PAYLOAD);
    for (at, bytes) in [(0, &[0x55][..]), (0, &[0x65]), (0, &[0x44]), (0, &[0x40]), (2, &[0, 19]), (2, &[0, 0])] {
        let frame = recipe.frame_with_ip_bytes(at, bytes);
        refused(&frame, &FrameMeta::PLAIN, drop_of_nobody(DropReason::BadIpHeader));
    }
}

#[test]
fn row_5_another_protocol() {
    for protocol in [IpNumber::TCP, IpNumber::IGMP, IpNumber(136)] {
        let recipe = Recipe::new(PAYLOAD).ip(|ip| ip.protocol = protocol);
        refused(&recipe.frame(), &FrameMeta::PLAIN, Reject::NotOurs);
        refused(&recipe.frame()[..40], &FrameMeta::PLAIN, Reject::NotOurs);
    }
}

#[test]
fn row_6_the_frame_ends_early_and_padding_is_cut_off() {
    let recipe = Recipe::new(PAYLOAD);
    let mut frame = recipe.frame();
    let ports_end = recipe.ip_at() + 24;
    for length in recipe.ip_at() + 20..frame.len() {
        let reject = if length < ports_end { drop_of_nobody } else { drop }(DropReason::Truncated);
        refused(&frame[..length], &FrameMeta::PLAIN, reject);
    }
    frame.resize(frame.len() + 17, 0xee);
    assert_eq!(parse(&frame, &FrameMeta::PLAIN).unwrap().payload, PAYLOAD);
}

#[test]
fn row_7_a_wrong_ip_checksum() {
    let recipe = Recipe::new(PAYLOAD);
    let mut frame = recipe.frame();
    frame[recipe.ip_at() + 8] ^= 1;
    refused(&frame, &FrameMeta::PLAIN, drop(DropReason::BadIpChecksum));
    let vouched = FrameMeta { checksum: ChecksumState::Valid, ..FrameMeta::PLAIN };
    refused(&frame, &vouched, drop(DropReason::BadIpChecksum));
}

#[test]
fn row_8_fragments() {
    refused(&Recipe::new(PAYLOAD).fragment(0, true).frame(), &FrameMeta::PLAIN, drop(DropReason::Fragment));
    for (offset, more) in [(1, true), (0x1fff, false)] {
        let frame = Recipe::new(PAYLOAD).fragment(offset, more).frame();
        refused(&frame, &FrameMeta::PLAIN, drop_of_nobody(DropReason::Fragment));
    }
}

#[test]
fn row_9_ip_options() {
    for words in 1..=10 {
        let recipe = Recipe::new(PAYLOAD).ip(|ip| {
            ip.options = Ipv4Options::try_from(&[1; 40][..words * 4]).unwrap();
            ip.total_len += words as u16 * 4;
        });
        refused(&recipe.frame(), &FrameMeta::PLAIN, drop(DropReason::IpOptions));
    }
}

#[test]
fn row_10_a_udp_length_that_is_not_the_packets() {
    for length in [0, 7, 8, 38, 40, 0xffff] {
        let frame = Recipe::new(PAYLOAD).udp(|udp| udp.length = length).frame();
        refused(&frame, &FrameMeta::PLAIN, drop(DropReason::BadUdpLength));
    }
    for payload_bytes in 0..8 {
        let frame = Recipe::new(PAYLOAD).ip(|ip| ip.total_len = 20 + payload_bytes).frame();
        let reject = if payload_bytes < 4 { drop_of_nobody } else { drop }(DropReason::BadUdpLength);
        refused(&frame, &FrameMeta::PLAIN, reject);
    }
}

#[test]
fn row_10_a_super_frame_may_say_the_length_of_one_segment() {
    let meta = FrameMeta { checksum: ChecksumState::Partial, ..super_frame(10) };
    let of_length = |length| Recipe::new(PAYLOAD).udp(|udp| udp.length = length).frame();
    for length in [8 + 31, 8 + 10] {
        assert_eq!(parse(&of_length(length), &meta).unwrap().packets(), 4);
    }
    refused(&of_length(8 + 11), &meta, drop(DropReason::BadUdpLength));
    let larger_than_all = FrameMeta { checksum: ChecksumState::Partial, ..super_frame(100) };
    refused(&of_length(8 + 100), &larger_than_all, drop(DropReason::BadUdpLength));
}

#[test]
fn row_11_a_super_frame_without_checksum() {
    let frame = Recipe::new(PAYLOAD).udp(|udp| udp.checksum = 0).frame();
    refused(&frame, &super_frame(10), drop(DropReason::GsoUnsupported));
    assert_eq!(parse(&frame, &FrameMeta::PLAIN).unwrap().checksum, UdpChecksum::Zero);
}

#[test]
fn row_12_a_wrong_udp_checksum_counts_unless_the_kernel_vouches_for_it() {
    let recipe = Recipe::new(PAYLOAD);
    let mut frame = recipe.frame();
    *frame.last_mut().unwrap() ^= 0x80;
    refused(&frame, &FrameMeta::PLAIN, drop(DropReason::BadUdpChecksum));
    let checksum = |state| parse(&frame, &FrameMeta { checksum: state, ..FrameMeta::PLAIN }).unwrap().checksum;
    assert_eq!(checksum(ChecksumState::Valid), UdpChecksum::Known(recipe.udp.checksum));
    assert_eq!(checksum(ChecksumState::Partial), UdpChecksum::Partial);
}

#[test]
fn a_super_frame_comes_apart_into_its_datagrams() {
    let frame = Recipe::new(PAYLOAD).frame();
    for state in [ChecksumState::Partial, ChecksumState::Valid, ChecksumState::Unknown] {
        let meta = FrameMeta { checksum: state, ..super_frame(10) };
        let datagram = parse(&frame, &meta).unwrap();
        assert_eq!(datagram.checksum, UdpChecksum::Partial);
        assert_eq!((datagram.packets(), datagram.ip_bytes(), datagram.largest_ip_bytes()), (4, 4 * 28 + 31, 38));
        let segments: Vec<_> = datagram.segments().collect();
        assert_eq!(segments.iter().map(|one| one.payload).collect::<Vec<_>>(), PAYLOAD.chunks(10).collect::<Vec<_>>());
        assert_eq!(segments.iter().map(|one| one.identification).collect::<Vec<_>>(), [0x1234, 0x1235, 0x1236, 0x1237]);
        assert!(segments.iter().all(|one| one.segment_bytes.is_none() && one.packets() == 1));
    }
}

#[test]
fn a_refused_frame_still_has_a_sender_and_a_size() {
    let recipe = Recipe::new(PAYLOAD);
    let frame = recipe.frame();
    let whole = Refused { source: Some(DEVICE), packets: 1, ip_bytes: 59 };
    assert_eq!(Refused::of(&frame, &FrameMeta::PLAIN), whole);
    assert_eq!(Refused::of(&frame[..50], &FrameMeta::PLAIN), whole, "the header tells what is cut off");
    assert_eq!(
        Refused::of(&frame, &super_frame(10)),
        Refused { source: Some(DEVICE), packets: 4, ip_bytes: 4 * 28 + 31 }
    );
    let nobodys = |ip_bytes| Refused { source: None, packets: 1, ip_bytes };
    assert_eq!(Refused::of(&frame[..33], &FrameMeta::PLAIN), nobodys(19));
    assert_eq!(Refused::of(&frame[..3], &FrameMeta::PLAIN), nobodys(0));
    assert_eq!(Refused::of(&recipe.frame_with_ip_bytes(2, &[0, 19]), &FrameMeta::PLAIN), nobodys(59));
}
