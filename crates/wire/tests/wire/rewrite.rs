//! What leaves on an output, read back by our own parser and by etherparse.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;

use crate::frames::{DEVICE, GROUP, PORT, Recipe};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use mcr_wire::checksum::udp_pseudo_header;
use mcr_wire::ethernet::TPID_8021Q;
use mcr_wire::{
    ChecksumState, CodePoint, CodePointMap, Completion, Datagram, Destination, DropReason, FrameMeta, Headers, MacAddr,
    Oversize, Reject, Rewrite, TimeToLive, UdpChecksum, VlanId, parse,
};
use proptest::prelude::*;

const OUR_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);
const NEW_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
const NEW_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 2, 2, 2));

fn rewrite() -> Rewrite {
    rewrite_to(NEW_SOURCE, NEW_GROUP)
}

/// To port 6001 of a group, with nothing else that is out of the ordinary.
pub(crate) fn rewrite_to(source: IpAddr, group: IpAddr) -> Rewrite {
    Rewrite {
        source_mac: OUR_MAC,
        destination_mac: MacAddr::for_group(group),
        vlan: None,
        source: Some(source),
        destination: SocketAddr::new(group, 6001),
        source_port: None,
        ttl: TimeToLive::Set(16),
        dscp: CodePoint::Keep,
        priority: None,
        oversize: Oversize::Drop,
    }
}

pub(crate) fn emit(rewrite: &Rewrite, datagram: &Datagram<'_>) -> Vec<u8> {
    let mut frame = vec![0; 70_000];
    let length = rewrite.frame(datagram, &mut frame).expect("a datagram that fits");
    frame.truncate(length);
    frame
}

pub(crate) fn read(frame: &[u8]) -> Datagram<'_> {
    parse(frame, &FrameMeta::PLAIN).expect("a frame of ours")
}

/// The checksum field of an untagged frame.
fn checksum_field(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[40], frame[41]])
}

/// Reads a frame by etherparse, which checks lengths itself, and asserts that both checksums are right.
fn assert_sound_to_etherparse(frame: &[u8], rewrite: &Rewrite, payload: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{sliced:?}") };
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("{sliced:?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    if let Some(source) = rewrite.source {
        assert_eq!(IpAddr::from(header.source), source);
    }
    assert_eq!(IpAddr::from(header.destination), rewrite.destination.ip());
    assert_eq!((header.time_to_live, udp.destination_port()), (rewrite.ttl.of(1), rewrite.destination.port()));
    assert_eq!(udp.payload(), payload);
    if udp.checksum() != 0 {
        let right = udp.to_header().calc_checksum_ipv4(&header, payload).unwrap();
        assert_eq!(udp.checksum(), if right == 0 { 0xffff } else { right });
    }
}

#[test]
fn what_is_to_change_changes_and_the_rest_stays() {
    let arrived = Recipe::new(b"tone").tagged(TPID_8021Q, 5, 0xb).ip(|ip| ip.ecn = 2.try_into().unwrap()).frame();
    let datagram = read(&arrived);
    let vlan = VlanId::new(300);
    let rewrite = Rewrite { vlan, source_port: Some(7000), dscp: CodePoint::Set(34), ..rewrite() };
    let frame = emit(&rewrite, &datagram);
    assert_eq!(frame[..6], [1, 0, 0x5e, 2, 2, 2]);
    assert_eq!(frame[6..12], OUR_MAC.octets());
    assert_eq!(frame[12..18], [0x81, 0x00, 0xb1, 0x2c, 0x08, 0x00]);
    let left = read(&frame);
    let expected = Datagram {
        destination: Destination { vlan, address: NEW_GROUP, port: 6001 },
        source: SocketAddr::new(NEW_SOURCE, 7000),
        ttl: 16,
        traffic_class: 34 << 2 | 2,
        checksum: left.checksum,
        ..datagram
    };
    assert_eq!(left, expected);
    assert_sound_to_etherparse(&frame, &rewrite, b"tone");
}

#[test]
fn without_orders_port_and_traffic_class_are_kept() {
    let arrived = Recipe::new(b"tone").ip(|ip| ip.dscp = 46.try_into().unwrap()).frame();
    let frame = emit(&rewrite(), &read(&arrived));
    let left = read(&frame);
    assert_eq!((left.source.port(), left.traffic_class, left.identification), (4000, 46 << 2, 0x1234));
    assert!(left.dont_fragment);
}

#[test]
fn zero_stays_zero() {
    let arrived = Recipe::new(b"tone").udp(|udp| udp.checksum = 0).frame();
    let frame = emit(&rewrite(), &read(&arrived));
    assert_eq!((checksum_field(&frame), read(&frame).checksum), (0, UdpChecksum::Zero));
}

#[test]
fn a_sum_of_zero_is_sent_as_all_ones() {
    // The payload is chosen so that the rewritten datagram's checksum is 0.
    let probe = emit(&rewrite(), &read(&Recipe::new(&[0, 0]).frame()));
    let arrived = Recipe::new(&checksum_field(&probe).to_be_bytes()).frame();
    let known = read(&arrived);
    let partial = Datagram { checksum: UdpChecksum::Partial, ..known };
    for datagram in [known, partial] {
        let frame = emit(&rewrite(), &datagram);
        assert_eq!(checksum_field(&frame), 0xffff, "{:?}", datagram.checksum);
        assert!(matches!(read(&frame).checksum, UdpChecksum::Known(0xffff)));
    }
}

#[test]
fn damage_on_the_way_through_is_not_covered_up() {
    let arrived = Recipe::new(b"tone").frame();
    let damaged = Datagram { payload: b"t0ne", ..read(&arrived) };
    let frame = emit(&rewrite(), &damaged);
    let verdict = parse(&frame, &FrameMeta::PLAIN);
    assert!(matches!(verdict, Err(Reject::Drop { .. })), "{verdict:?}");
}

#[test]
fn a_ttl_that_would_be_zero_is_refused() {
    for (ttl, arrived, refused) in
        [(TimeToLive::Decrement, 2, false), (TimeToLive::Decrement, 1, true), (TimeToLive::Keep, 0, true)]
    {
        let frame = Recipe::new(b"tone").ip(|ip| ip.time_to_live = arrived).frame();
        let rewrite = Rewrite { ttl, ..rewrite() };
        assert_eq!(rewrite.refusal(&read(&frame)), refused.then_some(DropReason::TtlExpired), "{ttl:?} of {arrived}");
        assert_eq!(rewrite.frame(&read(&frame), &mut [0; 100]).is_none(), refused, "{ttl:?} of {arrived}");
    }
}

#[test]
fn a_partial_checksum_is_left_to_the_kernel_with_directions() {
    let arrived = Recipe::new(b"tone").frame();
    let meta = FrameMeta { checksum: ChecksumState::Partial, ..FrameMeta::PLAIN };
    let datagram = parse(&arrived, &meta).unwrap();
    for (vlan, start) in [(None, 34), (VlanId::new(9), 38)] {
        let headers = Rewrite { vlan, ..rewrite() }.headers(&datagram);
        assert_eq!(headers.completion, Completion::Needed { start, offset: 6 });
        let field = headers.bytes().last_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
        assert_eq!(field, Some(udp_pseudo_header(NEW_SOURCE, NEW_GROUP, 12).fold()));
        assert_eq!(headers.bytes().len(), usize::from(start) + 8);
    }
    assert_eq!(Headers::MOST_BYTES, 78);
}

#[test]
fn the_headers_of_a_run_cover_all_of_it() {
    let arrived = Recipe::new(&[7; 100]).frame();
    let first = read(&arrived);
    let run = rewrite().run_headers(&first, 950);
    let (ip, udp) = (&run.bytes()[14..34], &run.bytes()[34..]);
    assert_eq!((&ip[2..4], &udp[4..6]), (&978_u16.to_be_bytes()[..], &958_u16.to_be_bytes()[..]));
    assert_eq!(udp[6..8], udp_pseudo_header(NEW_SOURCE, NEW_GROUP, 958).fold().to_be_bytes());
    assert_eq!(run.completion, Completion::Needed { start: 34, offset: 6 });

    let payload = [7; 950];
    let whole = Datagram { payload: &payload, segment_bytes: NonZeroU16::new(100), ..first };
    assert_eq!(rewrite().headers(&whole), run, "an arriving super-frame goes out like a run of ours");
}

#[test]
fn a_frame_that_does_not_fit_is_not_made() {
    let arrived = Recipe::new(b"tone").frame();
    let datagram = read(&arrived);
    assert_eq!(rewrite().frame(&datagram, &mut [0; 45]), None);
    assert_eq!(rewrite().frame(&datagram, &mut [0; 46]), Some(46));
    let super_frame = Datagram { segment_bytes: NonZeroU16::new(2), ..datagram };
    assert_eq!(rewrite().frame(&super_frame, &mut [0; 100]), None);
    let most = vec![0; 65_508];
    let mut room = vec![0; 70_000];
    assert_eq!(rewrite().frame(&Datagram { payload: &most, ..datagram }, &mut room), None);
    let most = Datagram { payload: &most[1..], checksum: UdpChecksum::Partial, ..datagram };
    assert_eq!(rewrite().frame(&most, &mut room), Some(42 + 65_507));
    assert_eq!(read(&room[..42 + 65_507]).ip_bytes(), 65_535);
}

prop_compose! {
    fn addresses()(source in any::<u32>(), destination in any::<u32>(), ports in any::<(u16, u16)>()) -> (SocketAddrV4, SocketAddrV4) {
        (SocketAddrV4::new(source.into(), ports.0), SocketAddrV4::new(destination.into(), ports.1))
    }
}

fn code_points() -> impl Strategy<Value = CodePoint> {
    let maps = (prop::collection::vec((0_u8..64, 0_u8..64), 0..=CodePointMap::MOST), prop::option::of(0_u8..64));
    prop_oneof![
        Just(CodePoint::Keep),
        (0_u8..64).prop_map(CodePoint::Set),
        maps.prop_map(|(pairs, other)| CodePoint::Map(CodePointMap::new(pairs, other).unwrap())),
    ]
}

prop_compose! {
    fn rewrites()(
        (source, destination) in addresses(),
        keeps_port in any::<bool>(),
        keeps_source in any::<bool>(),
        macs in any::<([u8; 6], [u8; 6])>(),
        vlan in prop::option::of((1_u16..4095).prop_map(|id| VlanId::new(id).unwrap())),
        ttl in prop_oneof![(1_u8..).prop_map(TimeToLive::Set), Just(TimeToLive::Keep)],
        dscp in code_points(),
        priority in prop::option::of(0_u8..8),
    ) -> Rewrite {
        Rewrite {
            source_mac: macs.0.into(),
            destination_mac: macs.1.into(),
            vlan,
            source: (!keeps_source).then_some((*source.ip()).into()),
            destination: destination.into(),
            source_port: (!keeps_port).then_some(source.port()),
            ttl,
            dscp,
            priority,
            oversize: Oversize::Drop,
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), segment in any::<u16>()) {
        let meta = FrameMeta { segment_bytes: NonZeroU16::new(segment), ..FrameMeta::PLAIN };
        let _ = parse(&bytes, &meta);
    }

    #[test]
    fn no_prefix_and_no_changed_byte_make_it_panic(
        (source, destination) in addresses(),
        payload in prop::collection::vec(any::<u8>(), 0..80),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut frame = Recipe::between(source, destination, &payload).tagged(TPID_8021Q, 3, 1).frame();
        for length in 0..frame.len() {
            prop_assert!(parse(&frame[..length], &FrameMeta::PLAIN).is_err(), "{} bytes", length);
        }
        let at = at.index(frame.len());
        frame[at] = byte;
        for state in [ChecksumState::Unknown, ChecksumState::Valid, ChecksumState::Partial] {
            let _ = parse(&frame, &FrameMeta { checksum: state, ..FrameMeta::PLAIN });
        }
    }

    #[test]
    fn what_is_emitted_is_read_back(
        (source, destination) in addresses(),
        rewrite in rewrites(),
        payload in prop::collection::vec(any::<u8>(), 0..1600),
        has_checksum in any::<bool>(),
    ) {
        let mut recipe = Recipe::between(source, destination, &payload);
        if !has_checksum {
            recipe.udp.checksum = 0;
        }
        let arrived = recipe.frame();
        let datagram = read(&arrived);
        let frame = emit(&rewrite, &datagram);
        let left = read(&frame);
        prop_assert_eq!(frame.get(0..12), Some(&[rewrite.destination_mac.octets(), rewrite.source_mac.octets()].concat()[..]));
        prop_assert_eq!(left, Datagram {
            destination: Destination { vlan: rewrite.vlan, address: rewrite.destination.ip(), port: rewrite.destination.port() },
            source: SocketAddr::new(rewrite.source.unwrap_or((*source.ip()).into()), rewrite.source_port.unwrap_or(source.port())),
            ttl: rewrite.ttl.of(datagram.ttl),
            traffic_class: rewrite.dscp.of(datagram.traffic_class >> 2) << 2,
            priority_bits: rewrite.vlan.map_or(0, |_| u16::from(rewrite.priority.unwrap_or_default()) << 13),
            checksum: left.checksum,
            ..datagram
        });
        prop_assert_eq!(left.checksum == UdpChecksum::Zero, !has_checksum);
        assert_sound_to_etherparse(&frame, &rewrite, &payload);
    }

    #[test]
    fn updated_completed_and_recomputed_checksums_are_one(
        (source, destination) in addresses(),
        rewrite in rewrites(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let arrived = Recipe::between(source, destination, &payload).frame();
        let known = read(&arrived);
        let partial = Datagram { checksum: UdpChecksum::Partial, ..known };
        prop_assert_eq!(emit(&rewrite, &known), emit(&rewrite, &partial));
    }

    #[test]
    fn segments_are_the_whole(payload in prop::collection::vec(any::<u8>(), 0..500), segment in 1_u16..600) {
        let arrived = Recipe::new(&payload).frame();
        let meta = FrameMeta { checksum: ChecksumState::Partial, segment_bytes: NonZeroU16::new(segment), vlan: None };
        let datagram = parse(&arrived, &meta).unwrap();
        let segments: Vec<_> = datagram.segments().collect();
        prop_assert_eq!(segments.len() as u64, datagram.packets());
        prop_assert_eq!(segments.iter().map(Datagram::ip_bytes).sum::<u64>(), datagram.ip_bytes());
        prop_assert_eq!(segments.iter().map(Datagram::largest_ip_bytes).max(), Some(datagram.largest_ip_bytes()));
        prop_assert_eq!(segments.iter().flat_map(|one| one.payload).copied().collect::<Vec<_>>(), payload);
        prop_assert_eq!((segments[0].source, segments[0].destination), (SocketAddr::new(DEVICE, 4000), Destination { vlan: None, address: GROUP, port: PORT }));
    }
}
