//! GStreamer on both sides: 24-bit audio as AES67 and ST 2110-30 send it (RFC 3190).

use std::time::Duration;

use mcr_testbed::{Process, RawReceiver, Signal, Topology, kernel, wait_until};

use crate::service::{SOON, Service};

/// Stereo, 3 bytes a sample, 48 samples a packet: a millisecond.
const PACKET_BYTES: usize = 48 * 2 * 3;
const PACKETS: usize = 1500;
const CAPS: &str = "application/x-rtp,media=audio,encoding-name=L24,clock-rate=48000,channels=2,payload=96";

/// Samples without a pattern, so that no packet can stand for another.
fn samples() -> Vec<u8> {
    let mut word = 1_u32;
    let mut next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    (0..PACKETS * PACKET_BYTES).map(|_| next()).collect()
}

#[test]
fn every_sample_of_gstreamer_audio_arrives() {
    let net = Topology::device_relay_lan(1);
    // What the driver takes, nobody else sees.
    let service = Service::start_on(mcr_model::Datapath::Tcx, net.relay(), "");
    service.add("audio", "dev0:239.69.1.1:5004", &["lan1:239.69.2.1:5004,dscp=46"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sent, heard) = (folder.path().join("sent.pcm"), folder.path().join("heard.pcm"));
    let samples = samples();
    std::fs::write(&sent, &samples).expect("write the samples");

    let lan = net.lan(1);
    let wire = RawReceiver::new(lan.host_side());
    let mut player = lan.namespace().command("gst-launch-1.0");
    player.args(["-q", "udpsrc", "address=239.69.2.1", "port=5004", "multicast-iface=eth0", "buffer-size=4000000"]);
    player.arg(format!("caps={CAPS}")).args(["!", "rtpjitterbuffer", "latency=100", "!", "rtpL24depay", "!"]);
    player.args(["filesink", "buffer-mode=unbuffered"]).arg(format!("location={}", heard.display()));
    let mut player = Process::start(&mut player);
    wait_until(SOON, "the player joins", || {
        kernel::joined_groups(lan.namespace(), "eth0").contains(&"239.69.2.1".parse().unwrap())
    });
    let mut sender = net.device().command("gst-launch-1.0");
    sender.args(["-q", "filesrc", &format!("location={}", sent.display()), "!", "rawaudioparse", "pcm-format=s24be"]);
    sender.args(["sample-rate=48000", "num-channels=2", "!", "rtpL24pay", "min-ptime=1000000", "max-ptime=1000000"]);
    sender.args(["!", "udpsink", "host=239.69.1.1", "port=5004", "auto-multicast=false", "multicast-iface=eth0"]);
    let mut sender = Process::start(&mut sender);
    assert!(sender.wait(Duration::from_secs(10)).success(), "{}", sender.output());

    let length = || std::fs::metadata(&heard).map_or(0, |file| file.len());
    wait_until(SOON, "all samples are played", || length() == samples.len() as u64);
    assert!(std::fs::read(&heard).expect("read what was heard") == samples, "other samples were played");
    player.signal(Signal::Interrupt);
    player.wait(SOON);
    assert_eq!(service.assert_balance()["audio"], PACKETS as u64);
    assert_is_one_stream(&wire);
}

/// On the wire: one source of RTP, numbers and times without a step, what was asked for in the headers.
fn assert_is_one_stream(wire: &RawReceiver) {
    let packets: Vec<_> = (0..PACKETS).map(|_| wire.next_udp(SOON)).collect();
    assert_eq!(wire.try_next_udp(Duration::ZERO), None, "more than was sent");
    for packet in &packets {
        assert_eq!((packet.traffic_class >> 2, packet.ttl), (46, 16));
        assert_eq!(packet.source.ip().to_string(), "10.0.1.1");
        assert_eq!(packet.payload.len(), 12 + PACKET_BYTES);
    }
    for pair in packets.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        let number = |at: &[u8]| u16::from_be_bytes([at[2], at[3]]);
        let time = |at: &[u8]| u32::from_be_bytes([at[4], at[5], at[6], at[7]]);
        assert_eq!(number(&after.payload), number(&before.payload).wrapping_add(1));
        assert_eq!(time(&after.payload), time(&before.payload).wrapping_add(48));
        assert_eq!(after.payload[8..12], before.payload[8..12], "the synchronisation source");
    }
}
