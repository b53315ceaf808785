//! Real captures are called what they are. They are not part of the project; they stand beside its folder where they are to be had.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use mcr_inspect::rtp::{Media, Rtp};
use mcr_inspect::{Flows, Kind};
use mcr_testbed::Capture;
use mcr_wire::checksum::Sum;
use mcr_wire::{ChecksumState, FrameMeta};

/// Flows of a capture; `None` where it is not.
fn flows(name: &str) -> Option<Flows> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    let capture = Capture::open(&path);
    let start = capture.packets.first().map_or(Duration::ZERO, |packet| packet.time);
    let mut flows = Flows::default();
    // What the capture cut off is zeros here, so the checksum says nothing.
    let meta = FrameMeta { checksum: ChecksumState::Valid, ..FrameMeta::PLAIN };
    for packet in capture.packets {
        let mut frame = packet.bytes;
        frame.resize(packet.wire_bytes as usize, 0);
        complete(&mut frame);
        flows.see(1, &frame, &meta, packet.time.saturating_sub(start));
    }
    assert!(flows.refused().is_empty(), "{:?}", flows.refused());
    Some(flows)
}

/// The checksum of the IP header, which some captures were taken without.
fn complete(frame: &mut [u8]) {
    let header = &mut frame[14..34];
    header[10..12].fill(0);
    let checksum = Sum::default().add_bytes(header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Group, port and kind of each flow.
fn kinds(flows: &Flows) -> Vec<(String, Kind)> {
    flows.iter().map(|(key, flow)| (format!("{}:{}", key.group, key.port), flow.kind())).collect()
}

fn rtp(kind: &Kind) -> &Rtp {
    let Kind::Rtp(rtp) = kind else { panic!("no RTP: {kind:?}") };
    rtp
}

#[test]
fn audio_on_two_legs() {
    let Some(flows) = flows("st2022-7-audio-two-legs.pcap") else { return };
    let kinds = kinds(&flows);
    assert_eq!(kinds.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(), ["239.1.2.1:6000", "239.1.2.2:6000"]);
    for (_, kind) in &kinds {
        assert_eq!((kind.name(), rtp(kind).clock_hz), ("ST 2110-30", Some(48_000)), "{kind:?}");
        assert!(matches!(rtp(kind).media, Media::PcmAudio { bits: 24, .. }), "{kind:?}");
    }
    let packets: Vec<u64> = flows.iter().map(|(_, flow)| flow.packets).collect();
    assert_eq!(packets, [16_000, 16_000]);
}

#[test]
fn raw_video() {
    let Some(flows) = flows("st2110-20-1080i59.pcap") else { return };
    let kinds = kinds(&flows);
    let [(place, kind)] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!((place.as_str(), kind.name(), &rtp(kind).media), ("239.0.1.2:50000", "ST 2110-20", &Media::RawVideo));
    let (_, flow) = flows.iter().next().unwrap();
    assert_eq!(flow.ttl, 255);
}

#[test]
fn ancillary_data() {
    let Some(flows) = flows("st2110-40-anc.pcap") else { return };
    let kinds = kinds(&flows);
    let [(place, kind)] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!((place.as_str(), kind.name(), rtp(kind).clock_hz), ("239.40.144.1:50040", "ST 2110-40", Some(90_000)));
}

#[test]
fn precision_time() {
    let Some(flows) = flows("ptp-udp.pcap") else { return };
    let kinds = kinds(&flows);
    let ports: BTreeSet<u16> = flows.iter().map(|(key, _)| key.port).collect();
    assert!(!kinds.is_empty() && ports.is_subset(&BTreeSet::from([319, 320])), "{kinds:?}");
    assert!(kinds.iter().all(|(_, kind)| matches!(kind, Kind::Ptp { version: 2, domain: Some(_) })), "{kinds:?}");
}
