//! Any bytes, with any word of the kernel beside them: nothing panics, and what is relayed comes out sound.
//!
//! The first seven bytes are what the kernel says (see `meta`), the rest is the frame.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use libfuzzer_sys::fuzz_target;
use mcr_wire::{
    ChecksumState, CodePoint, Datagram, FrameMeta, MacAddr, Oversize, Refused, Reject, Rewrite, TimeToLive, UdpChecksum, VlanId,
    VlanTag, parse_following,
};

/// Of the first fragments that came before.
const PORT: u16 = 5001;

fuzz_target!(|input: &[u8]| {
    let Some((word, frame)) = input.split_first_chunk() else { return };
    let meta = meta(word);
    match parse_following(frame, &meta, |_| Some(PORT)) {
        Ok(datagram) => relay(&datagram),
        Err(Reject::NotOurs) => {}
        Err(Reject::Drop { .. }) => {
            let refused = Refused::of(frame, &meta);
            assert!(refused.packets >= 1);
        }
    }
});

fn meta(word: &[u8; 7]) -> FrameMeta {
    let [flags, a, b, c, d, e, f] = *word;
    let tag = VlanTag { tpid: u16::from_be_bytes([a, b]), tci: u16::from_be_bytes([c, d]) };
    FrameMeta {
        vlan: (flags & 4 != 0).then_some(tag),
        checksum: match flags & 3 {
            0 => ChecksumState::Valid,
            1 => ChecksumState::Partial,
            _ => ChecksumState::Unknown,
        },
        segment_bytes: NonZeroU16::new(u16::from_be_bytes([e, f])).filter(|_| flags & 8 != 0),
    }
}

/// Every datagram of it goes out, and our own parser takes it for what it was.
fn relay(datagram: &Datagram<'_>) {
    let (mut packets, mut ip_bytes) = (0, 0);
    for segment in datagram.segments() {
        packets += 1;
        ip_bytes += segment.ip_bytes();
        send(&segment);
    }
    assert_eq!((packets, ip_bytes), (datagram.packets(), datagram.ip_bytes()));
    let rewrite = rewrite(datagram);
    assert!(rewrite.headers(datagram).bytes().len() == 18 + rewrite.bytes_before(datagram));
}

fn send(datagram: &Datagram<'_>) {
    let rewrite = rewrite(datagram);
    let mut buffer = [0; 66_000];
    let length = rewrite.frame(datagram, &mut buffer).expect("a datagram of a packet fits one of its family");
    let frame = &buffer[..length];
    // The kernel's word was believed on the way in: whether the payload is sound only it knows.
    let meta = match datagram.checksum {
        UdpChecksum::Known(_) => FrameMeta { checksum: ChecksumState::Valid, ..FrameMeta::PLAIN },
        UdpChecksum::Zero | UdpChecksum::Partial => FrameMeta::PLAIN,
    };
    let left = parse_following(frame, &meta, |_| Some(PORT)).expect("a frame of ours is sound");
    assert_eq!((left.payload, left.part), (datagram.payload, datagram.part));
    assert_eq!((left.source.port(), left.identification), (datagram.source.port(), datagram.identification));
    assert_eq!(left.checksum == UdpChecksum::Zero, datagram.checksum == UdpChecksum::Zero);
    assert_eq!(left.priority_bits, datagram.priority_bits);
}

/// To a group of the datagram's own family.
fn rewrite(datagram: &Datagram<'_>) -> Rewrite {
    let (group, source): (IpAddr, IpAddr) = match datagram.destination.address {
        IpAddr::V4(_) => (Ipv4Addr::new(239, 2, 2, 2).into(), Ipv4Addr::new(10, 0, 0, 9).into()),
        IpAddr::V6(_) => {
            (Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 2, 2).into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9).into())
        }
    };
    Rewrite {
        source_mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
        destination_mac: MacAddr::for_group(group),
        vlan: VlanId::new(100),
        source: Some(source),
        destination: SocketAddr::new(group, 6001),
        source_port: None,
        ttl: TimeToLive::Set(16),
        dscp: CodePoint::Keep,
        priority: None,
        oversize: Oversize::Drop,
    }
}
