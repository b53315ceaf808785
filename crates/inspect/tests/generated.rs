//! Payloads made here by the letter of their standards are called what they are; what only looks alike is not; and no bytes make
//! any of it panic.

use std::time::Duration;

use mcr_inspect::rtp::{Media, Rtp};
use mcr_inspect::{Flows, Kind, Recogniser, message};
use mcr_testbed::Frame;
use mcr_wire::FrameMeta;
use proptest::prelude::*;

const SDP: &str = "v=0\r\no=- 1 0 IN IP4 192.168.168.55\r\ns=Studio A\r\nc=IN IP4 239.69.1.1/32\r\nt=0 0\r\n\
                   m=audio 5004 RTP/AVP 97\r\na=rtpmap:97 L24/48000/2\r\n\
                   m=video 5006 RTP/AVP 96\r\nc=IN IP4 239.69.1.2/32\r\na=rtpmap:96 raw/90000\r\n";

fn sap(flags: u8, sdp: &str) -> Vec<u8> {
    [&[flags, 0, 0x12, 0x34, 192, 168, 168, 55][..], b"application/sdp\0", sdp.as_bytes()].concat()
}

fn rtp(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let header = [&[0x80, payload_type][..], &sequence.to_be_bytes(), &timestamp.to_be_bytes(), b"SSRC"].concat();
    [&header[..], payload].concat()
}

/// A packet with a section in it, or filled.
fn ts(pid: u16, section: Option<&[u8]>) -> Vec<u8> {
    let start = if section.is_some() { 0x40 } else { 0 };
    let [high, low] = pid.to_be_bytes();
    let mut packet = vec![0x47, high | start, low, 0x10];
    packet.extend(section.map(|section| [&[0][..], section].concat()).unwrap_or_default());
    packet.resize(188, 0xff);
    packet
}

/// Programs 1 and 7.
fn pat() -> Vec<u8> {
    ts(0, Some(&[0, 0xb0, 17, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0, 0, 7, 0xe2, 0, 1, 2, 3, 4]))
}

/// The name of service 1.
fn sdt() -> Vec<u8> {
    let body = [&[0x48, 9, 1, 2, b'P', b'R', 4][..], b"News"].concat();
    let service = [&[0, 1, 0xfc, 0x80, body.len() as u8][..], &body].concat();
    let length = (8 + service.len() + 4) as u8;
    ts(0x11, Some(&[&[0x42, 0xf0, length, 0, 1, 0xc1, 0, 0, 0, 1, 0xff][..], &service, &[1, 2, 3, 4]].concat()))
}

fn recognise(port: u16, payloads: impl IntoIterator<Item = Vec<u8>>) -> Kind {
    let mut recogniser = Recogniser::default();
    for (number, payload) in payloads.into_iter().enumerate() {
        recogniser.see(port, &payload, Duration::from_millis(number as u64));
    }
    recogniser.kind()
}

#[test]
fn messages_say_what_they_are() {
    let ptp = |version: u8| [&[0x0b, version, 0, 64, 24][..], &[0; 59]].concat();
    let mdns = b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\0\x01";
    let ssdp = b"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nnt: upnp:rootdevice\r\n\r\n";
    let ethernet_ip = [&[2, 0, 2, 0x80, 8, 0][..], &[9; 8], &[0xb1, 0, 2, 0, 1, 0]].concat();
    let sacn = [&b"\0\x10\0\0ASC-E1.17\0\0\0"[..], &[0; 28], b"Desk", &[0; 65], &[0, 5], &[0; 11]].concat();
    let table: [(u16, Vec<u8>, &str, &str); 12] = [
        (9875, sap(0x20, SDP), "SAP", "Studio A"),
        (5353, mdns.to_vec(), "mDNS", "_http._tcp.local"),
        (1900, ssdp.to_vec(), "SSDP", "upnp:rootdevice"),
        (320, ptp(2), "PTP", "version 2, domain 24"),
        (2222, ethernet_ip, "EtherNet/IP", ""),
        (4840, vec![0xf1, 1, 0, 0, 0], "OPC UA", ""),
        (102, [&[1, 0x40, 0xa1, 24][..], &[0; 30]].concat(), "GOOSE", ""),
        (102, [&[1, 0x40, 0xa2, 24][..], &[0; 30]].concat(), "sampled values", ""),
        (7400, b"RTPS\x02\x03\x01\x10rest".to_vec(), "DDS", "Eclipse Cyclone DDS"),
        (5568, sacn, "sACN", "universe 5, Desk"),
        (5005, [&[0x80, 200, 0, 6][..], &[0; 24]].concat(), "RTCP", ""),
        (5001, [&b"MCRt"[..], &[0; 40]].concat(), "mcr send", ""),
    ];
    for (port, payload, name, detail) in table {
        let kind = recognise(port, [payload]);
        assert_eq!((kind.name(), kind.detail().as_str()), (name, detail), "port {port}");
    }
}

#[test]
fn a_port_alone_makes_no_kind() {
    for port in [9875, 5353, 1900, 319, 320, 2222, 4840, 102, 7400, 5568, 3702, 5001] {
        assert_eq!(recognise(port, vec![b"just some payload".to_vec(); 5]), Kind::Plain, "port {port}");
    }
}

#[test]
fn transport_streams_have_programs_with_names() {
    let payloads = || vec![[pat(), sdt()].concat(), [ts(0x100, None), ts(0x101, None)].concat()];
    let kind = recognise(1234, payloads());
    assert_eq!((kind.name(), kind.detail().as_str()), ("MPEG-TS", "programs 1 News, 7"));
    let in_rtp = payloads().into_iter().cycle().take(6).enumerate();
    let kind = recognise(5004, in_rtp.map(|(number, payload)| rtp(33, number as u16, number as u32 * 90, &payload)));
    assert_eq!(kind.name(), "RTP MPEG-TS");
    assert!(kind.detail().starts_with("programs 1 News, 7, type 33, "), "{}", kind.detail());
}

#[test]
fn audio_has_channels_bits_and_a_clock() {
    // 1 ms of 48 kHz, stereo, 24 bits; sequence numbers and time stamps wrap.
    let packets =
        (0..300_u32).map(|n| rtp(97, 65_400_u16.wrapping_add(n as u16), (n * 48).wrapping_sub(1000), &[1; 288]));
    let Kind::Rtp(Rtp { payload_type: 97, clock_hz, media, .. }) = recognise(5004, packets) else { panic!("no RTP") };
    assert_eq!(clock_hz, Some(48_000));
    assert_eq!(media, Media::PcmAudio { channels: 2, bits: 24, packet_samples: 48 });
}

#[test]
fn one_packet_or_a_lucky_first_byte_is_no_rtp() {
    assert_eq!(recognise(5004, [rtp(97, 1, 1, &[0; 100])]), Kind::Plain);
    let unrelated = (0..200_u32).map(|n| rtp(97, (n * 7919) as u16, n, &[0; 100]));
    assert_eq!(recognise(5004, unrelated), Kind::Plain);
}

#[test]
fn announced_names_belong_to_their_groups() {
    let mut flows = Flows::default();
    let frame = |payload: Vec<u8>| Frame::udp("192.168.168.55:9875", "239.255.255.255:9875", payload).bytes();
    flows.see(1, &frame(sap(0x20, SDP)), &FrameMeta::PLAIN, Duration::ZERO);
    let sessions: Vec<String> =
        flows.sessions().map(|(g, p, name, encoding)| format!("{g}:{p} {name} {encoding}")).collect();
    assert_eq!(sessions, ["239.69.1.1:5004 Studio A L24/48000/2", "239.69.1.2:5006 Studio A raw/90000"]);
    // Message type 1 takes it back.
    flows.see(1, &frame(sap(0x24, SDP)), &FrameMeta::PLAIN, Duration::ZERO);
    assert_eq!(flows.sessions().count(), 0);
}

#[test]
fn flows_are_told_apart_and_counted() {
    let mut flows = Flows::default();
    let frames = [
        ("192.168.168.55:1", "239.1.1.1:5001", 100),
        ("192.168.168.55:1", "239.1.1.1:5001", 300),
        ("192.168.168.56:1", "239.1.1.1:5001", 100),
        ("192.168.168.55:1", "10.0.0.1:5001", 100),
    ];
    for (number, (source, destination, bytes)) in frames.into_iter().enumerate() {
        let frame = Frame::udp(source, destination, vec![0; bytes]).ttl(1).traffic_class(34 << 2).bytes();
        flows.see(3, &frame, &FrameMeta::PLAIN, Duration::from_secs(number as u64));
    }
    let seen: Vec<_> = flows.iter().map(|(key, flow)| (key.source.to_string(), flow.packets, flow.bytes)).collect();
    assert_eq!(seen, [("192.168.168.55".to_owned(), 2, 456), ("192.168.168.56".to_owned(), 1, 128)]);
    let (_, flow) = flows.iter().next().unwrap();
    assert_eq!(
        (flow.ttl, flow.dscp, flow.largest_bytes, flow.rates(Duration::from_secs(1))),
        (1, 34, 328, Some((1.0, 1824.0)))
    );
}

#[test]
fn a_flood_of_sources_takes_no_memory() {
    let mut flows = Flows::default();
    for n in 0..5000_u32 {
        let source = format!("10.0.{}.{}:1", n / 250, n % 250 + 1);
        flows.see(1, &Frame::udp(&source, "239.1.1.1:5001", vec![0; 20]).bytes(), &FrameMeta::PLAIN, Duration::ZERO);
    }
    assert_eq!((flows.iter().count(), flows.beyond()), (4096, 904));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        port in prop::sample::select(vec![9875, 5353, 5355, 1900, 3702, 319, 320, 2222, 4840, 102, 5004]),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..8),
    ) {
        let _ = recognise(port, payloads).detail();
    }

    #[test]
    fn no_cut_or_changed_message_makes_it_panic(
        which in 0..6_usize, cut in 0..700_usize, at in 0..700_usize, byte in any::<u8>(),
    ) {
        let whole = [pat(), sdt(), sap(0x20, SDP), rtp(33, 1, 2, &pat()), rtp(0x7f, 1, 2, &[0xff; 64]),
            b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\0\x01".to_vec()];
        let mut payload = whole[which].clone();
        payload.truncate(cut);
        if let Some(place) = payload.get_mut(at) { *place = byte; }
        for port in [9875, 5353, 5004] {
            let _ = message::recognise(port, &payload);
            let _ = recognise(port, vec![payload.clone(); 4]).detail();
        }
    }
}
