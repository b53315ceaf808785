//! IPv6, and the way between the families, by frames that somebody else's code made and read (etherparse).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use mcr_wire::{
    ChecksumState, Completion, Datagram, Destination, DropReason, FrameMeta, Reject, Rewrite, UdpChecksum, parse,
};
use proptest::prelude::*;

use crate::rewrite::{emit, read, rewrite_to};

const DEVICE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xdead, 0, 0, 0, 0, 0, 0x55);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 1, 1);
const PORT: u16 = 5001;

/// Hop limit 3, and the traffic class and flow label that etherparse gives: none.
fn ipv6_frame(from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0x33, 0x33, 0, 1, 0, 1]).ipv6(from.octets(), to.octets(), 3);
    finish(builder.udp(4000, PORT), payload)
}

fn ipv4_frame(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [1, 0, 0x5e, 1, 1, 1]).ipv4(from.octets(), to.octets(), 3);
    finish(builder.udp(4000, PORT), payload)
}

fn finish(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).expect("a payload that fits");
    frame
}

fn destination() -> Destination {
    Destination { vlan: None, address: GROUP.into(), port: PORT }
}

/// Reads a frame by etherparse, which checks lengths itself, and asserts that its addresses and checksums are right.
#[track_caller]
fn assert_sound(frame: &[u8], rewrite: &Rewrite, payload: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("{sliced:?}") };
    let header = udp.to_header();
    let (ends, ttl, right) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            let right = header.calc_checksum_ipv4(&ip, payload).unwrap();
            ((IpAddr::from(ip.source), IpAddr::from(ip.destination)), ip.time_to_live, right)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            let right = header.calc_checksum_ipv6(&ip, payload).unwrap();
            ((IpAddr::from(ip.source), IpAddr::from(ip.destination)), ip.hop_limit, right)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((Some(ends.0), ends.1), (rewrite.source, rewrite.destination.ip()));
    assert_eq!((ttl, header.destination_port), (rewrite.ttl.of(3), rewrite.destination.port()));
    assert_eq!(udp.payload(), payload);
    assert_eq!(header.checksum, if right == 0 { 0xffff } else { right });
}

#[test]
fn a_sound_datagram_is_read() {
    let mut frame = ipv6_frame(DEVICE, GROUP, b"tone");
    frame[14..18].copy_from_slice(&0x6b9a_bcde_u32.to_be_bytes());
    let datagram = read(&frame);
    assert_eq!((datagram.source, datagram.destination), (SocketAddr::new(DEVICE.into(), 4000), destination()));
    assert_eq!((datagram.traffic_class, datagram.flow_label, datagram.ttl), (0xb9, 0xabcde, 3));
    assert_eq!((datagram.dont_fragment, datagram.identification), (true, 0));
    assert_eq!((datagram.payload, datagram.packets(), datagram.ip_bytes()), (&b"tone"[..], 1, 52));
}

#[test]
fn a_missing_checksum_is_refused_whoever_vouches_for_it() {
    let mut frame = ipv6_frame(DEVICE, GROUP, b"tone");
    frame[60..62].fill(0);
    for state in [ChecksumState::Unknown, ChecksumState::Valid] {
        let meta = FrameMeta { checksum: state, ..FrameMeta::PLAIN };
        let refused = Reject::Drop { reason: DropReason::BadUdpChecksum, destination: Some(destination()) };
        assert_eq!(parse(&frame, &meta), Err(refused));
    }
    let partial = FrameMeta { checksum: ChecksumState::Partial, ..FrameMeta::PLAIN };
    assert_eq!(parse(&frame, &partial).unwrap().checksum, UdpChecksum::Partial);
}

#[test]
fn every_prefix_is_cut_off() {
    let frame = ipv6_frame(DEVICE, GROUP, b"tone");
    for length in 0..frame.len() {
        let to = (length >= 14 + 40 + 4).then_some(destination());
        let refused = Reject::Drop { reason: DropReason::Truncated, destination: to };
        assert_eq!(parse(&frame[..length], &FrameMeta::PLAIN), Err(refused), "{length} bytes");
    }
}

#[test]
fn what_ipv6_does_not_say_is_sound_in_ipv4() {
    let mut frame = ipv6_frame(DEVICE, GROUP, b"tone");
    frame[14..18].copy_from_slice(&0x6b9a_bcde_u32.to_be_bytes());
    let rewrite = rewrite_to([10, 0, 0, 9].into(), [239, 2, 2, 2].into());
    let left = emit(&rewrite, &read(&frame));
    assert_sound(&left, &rewrite, b"tone");
    let left = read(&left);
    assert_eq!((left.dont_fragment, left.identification, left.traffic_class), (true, 0, 0xb9));
}

#[test]
fn a_checksum_that_ipv4_may_lack_is_made_for_ipv6() {
    let mut frame = ipv4_frame([192, 168, 168, 55].into(), [239, 1, 1, 1].into(), b"tone");
    frame[40..42].fill(0);
    let rewrite = rewrite_to("fd00::9".parse().unwrap(), GROUP.into());
    let datagram = read(&frame);
    assert_eq!(datagram.checksum, UdpChecksum::Zero);
    assert_eq!(rewrite.headers(&datagram).completion, Completion::Needed { start: 54, offset: 6 });
    assert_sound(&emit(&rewrite, &datagram), &rewrite, b"tone");
}

#[test]
fn a_run_covers_all_of_it() {
    let frame = ipv6_frame(DEVICE, GROUP, &[7; 100]);
    let run = rewrite_to(DEVICE.into(), GROUP.into()).run_headers(&read(&frame), 950);
    assert_eq!((&run.bytes()[18..20], &run.bytes()[58..60]), (&958_u16.to_be_bytes()[..], &958_u16.to_be_bytes()[..]));
    assert_eq!(run.completion, Completion::Needed { start: 54, offset: 6 });
    let payload = [7; 950];
    let whole = Datagram { payload: &payload, segment_bytes: NonZeroU16::new(100), ..read(&frame) };
    assert_eq!((whole.packets(), whole.ip_bytes(), whole.largest_ip_bytes()), (10, 950 + 10 * 48, 148));
}

#[test]
fn the_largest_of_each_family_and_not_one_byte_more() {
    let frame = ipv6_frame(DEVICE, GROUP, b"tone");
    let payload = vec![0; 65_528];
    let mut room = vec![0; 70_000];
    let v4 = rewrite_to([10, 0, 0, 9].into(), [239, 2, 2, 2].into());
    for (rewrite, most) in [(rewrite_to(DEVICE.into(), GROUP.into()), 65_527), (v4, 65_507)] {
        let of = |bytes| Datagram { payload: &payload[..bytes], checksum: UdpChecksum::Partial, ..read(&frame) };
        assert_eq!(rewrite.frame(&of(most + 1), &mut room), None);
        let length = rewrite.frame(&of(most), &mut room).unwrap();
        assert_eq!(read(&room[..length]).payload.len(), most);
    }
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = any::<(u32, u32)>().prop_map(|(a, b)| (Ipv4Addr::from(a).into(), Ipv4Addr::from(b).into()));
    let v6 = any::<(u128, u128)>().prop_map(|(a, b)| (Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into()));
    prop_oneof![v4, v6]
}

fn frame_between((from, to): (IpAddr, IpAddr), payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4_frame(from, to, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6_frame(from, to, payload),
        (from, to) => unreachable!("{from} and {to} are of one family"),
    }
}

proptest! {
    #[test]
    fn from_any_family_to_any(
        arrived in addresses(),
        (source, destination) in addresses(),
        payload in prop::collection::vec(any::<u8>(), 0..1600),
    ) {
        let arrived = frame_between(arrived, &payload);
        let rewrite = rewrite_to(source, destination);
        let known = read(&arrived);
        let left = emit(&rewrite, &known);
        assert_sound(&left, &rewrite, &payload);
        let partial = Datagram { checksum: UdpChecksum::Partial, ..known };
        prop_assert_eq!(&emit(&rewrite, &partial), &left, "updated, completed and recomputed are one");
        let read_back = read(&left);
        prop_assert_eq!(read_back.payload, &payload[..]);
        prop_assert_eq!(read_back.ip_bytes(), rewrite.header_bytes() as u64 + payload.len() as u64);
    }

    #[test]
    fn no_bytes_behind_an_ipv6_type_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..160),
        next in prop::sample::select(vec![0_u8, 6, 17, 43, 44, 58, 59, 60]),
        segment in any::<u16>(),
    ) {
        let mut frame = ipv6_frame(DEVICE, GROUP, &[]);
        frame.truncate(54);
        frame[20] = next;
        frame.extend(&bytes);
        frame[18..20].copy_from_slice(&(bytes.len() as u16).to_be_bytes());
        let meta = FrameMeta { segment_bytes: NonZeroU16::new(segment), ..FrameMeta::PLAIN };
        for length in 14..=frame.len() {
            let _ = parse(&frame[..length], &meta);
            let _ = mcr_wire::Refused::of(&frame[..length], &meta);
        }
    }
}
