//! Real programs on both sides: ffmpeg sends an MPEG transport stream from the device, ffmpeg decodes it on the LAN.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use mcr_testbed::{Topology, kernel, wait_until};

use crate::service::{SOON, Service, text};

#[test]
fn a_transport_stream_decodes_without_a_continuity_error() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    service.add("tv", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let lan = net.lan(1);
    let from = format!("udp://239.2.2.1:6001?localaddr={}&fifo_size=1000000&timeout=3000000", lan.host_address());
    let mut player = lan
        .namespace()
        .command("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-v", "info", "-i", &from, "-f", "null", "-"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the player");
    wait_until(SOON, "the player joins", || {
        kernel::joined_groups(lan.namespace(), "eth0").contains(&"239.2.2.1".parse().unwrap())
    });
    let sender = net
        .device()
        .command("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"])
        .args(["-f", "lavfi", "-i", "sine", "-t", "4", "-c:v", "mpeg2video", "-b:v", "4M", "-g", "12", "-c:a", "mp2"])
        .args(["-f", "mpegts", "udp://239.1.1.1:5001?localaddr=192.168.168.55&pkt_size=1316&ttl=1"])
        .stdin(Stdio::null())
        .output()
        .expect("run the sender");
    assert!(sender.status.success(), "{}", text(&sender.stderr));

    // The stream has ended: the player's timeout ends it too.
    let mut log = String::new();
    let mut stderr = player.stderr.take().expect("piped");
    stderr.read_to_string(&mut log).expect("read the player's log");
    player.wait().expect("wait for the player");
    for trouble in ["continuity", "corrupt", "error while decoding", "missing"] {
        assert!(!log.to_lowercase().contains(trouble), "{trouble}:\n{log}");
    }
    assert!(log.contains("mpeg2video") && log.contains("mp2"), "{log}");
    let frames = log.rsplit("frame=").next().and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    assert!(frames >= Some(90), "of 100 frames the player decoded {frames:?}:\n{log}");
    service.wait_for_state("tv", "silent", SOON + Duration::from_secs(1));
    service.assert_balance();
}
