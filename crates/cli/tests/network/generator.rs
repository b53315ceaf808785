//! `mcr send` and `mcr listen` on many groups, and captures that are sent again; over one cable, without a relay.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use mcr_testbed::{Frame, Namespace, Process, RawReceiver, Veth};
use serde_json::Value;

use crate::service::{MCR, SOON};

/// Two hosts and the cable between them; `near` sends.
struct Cable {
    near: Namespace,
    far: Namespace,
    veth: Veth,
}

impl Cable {
    fn new() -> Self {
        let (near, far) = (Namespace::new("near"), Namespace::new("far"));
        let veth = Veth::between(&near, "eth0", &far, "eth0");
        veth.near().add_address("10.0.0.1/24");
        veth.far().add_address("10.0.0.2/24");
        Self { near, far, veth }
    }

    #[track_caller]
    fn send(&self, arguments: &[&str]) -> Value {
        let output = self.near.command(MCR).arg("send").args(arguments).args(["-o", "json"]).output().expect("run mcr");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// A socket that has joined these groups.
    fn socket(&self, port: u16, groups: &[Ipv4Addr]) -> UdpSocket {
        self.far.run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", port)).expect("bind");
            groups.iter().for_each(|group| socket.join_multicast_v4(group, &Ipv4Addr::new(10, 0, 0, 2)).expect("join"));
            socket.set_read_timeout(Some(SOON)).expect("a timeout");
            socket
        })
    }
}

fn heard(listener: &mut Process) -> Value {
    listener.wait(SOON * 2);
    let output = listener.output();
    let json = output.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no JSON in {output}"));
    serde_json::from_str(json).expect("JSON")
}

#[test]
fn many_groups_are_sent_to_and_listened_to_each_with_its_own_account() {
    let cable = Cable::new();
    let endpoint = "eth0:239.1.1.250+20:5001";
    let mut command = cable.far.command(MCR);
    command.args(["listen", endpoint, "--count", "1000", "--timeout", "3s", "-o", "json"]);
    let mut listener = Process::start(&mut command);
    listener.wait_for_line("the groups are joined", SOON);
    let sent = cable.send(&[endpoint, "--count", "50", "--rate", "500", "--size", "100", "--pattern", "counter"]);
    assert_eq!((&sent["groups"], &sent["sent_packets"]), (&20.into(), &1000.into()), "{sent:#}");
    let heard = heard(&mut listener);
    assert_eq!((&heard["complete"], &heard["received_packets"]), (&true.into(), &1000.into()), "{heard:#}");
    let groups = heard["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 20);
    assert_eq!(groups[19]["from"], "eth0:239.1.2.13:5001");
    for group in groups {
        assert_eq!((&group["received_packets"], &group["lost_packets"]), (&50.into(), &0.into()), "{group:#}");
    }
}

#[test]
fn a_count_is_exact_also_when_more_comes() {
    let cable = Cable::new();
    let mut command = cable.far.command(MCR);
    let mut listener = Process::start(command.args(["listen", "eth0:239.1.1.1:5001", "--count", "7", "-o", "json"]));
    listener.wait_for_line("the group is joined", SOON);
    cable.send(&["eth0:239.1.1.1:5001", "--count", "500", "--rate", "max", "--size", "100"]);
    assert_eq!(heard(&mut listener)["received_packets"], 7);
}

#[test]
fn a_group_that_is_missing_is_told_and_a_failure() {
    let cable = Cable::new();
    let mut command = cable.far.command(MCR);
    let mut listener =
        Process::start(command.args(["listen", "eth0:239.1.1.1:5001", "eth0:239.1.1.2:5001", "--timeout", "700ms"]));
    listener.wait_for_line("the groups are joined", SOON);
    cable.send(&["eth0:239.1.1.1:5001", "--count", "20", "--rate", "1k"]);
    assert_eq!(listener.wait(SOON).code(), Some(1));
    let output = listener.output();
    assert!(output.contains("not all came") && output.contains("GROUP"), "{output}");
    let row = output.lines().find(|line| line.starts_with("eth0:239.1.1.2:5001")).expect("its row");
    assert_eq!(row.split_whitespace().nth(1), Some("0"), "{output}");
}

/// What is sent as segmented super-frames arrives as single datagrams, each with its number and intact.
#[test]
fn as_fast_as_it_can_nothing_is_bent() {
    let cable = Cable::new();
    let mut command = cable.far.command(MCR);
    command.args(["listen", "eth0:239.1.1.1:5001", "--count", "2000", "--timeout", "2s", "-o", "json"]);
    let mut listener = Process::start(&mut command);
    listener.wait_for_line("the group is joined", SOON);
    let sent = cable.send(&["eth0:239.1.1.1:5001", "--count", "2000", "--rate", "max", "--size", "1000"]);
    assert_eq!(sent["sent_packets"], 2000, "{sent:#}");
    let heard = heard(&mut listener);
    let dropped = heard["own_buffer_dropped_packets"].as_u64().expect("a number");
    assert_eq!(heard["received_packets"].as_u64().expect("a number") + dropped, 2000, "{heard:#}");
    assert_eq!((&heard["corrupt_packets"], &heard["reordered_packets"]), (&0.into(), &0.into()), "{heard:#}");
}

/// Ten datagrams to two groups and one to a host, 20 ms apart, as pcap or as pcapng.
fn capture(folder: &Path, name: &str) -> PathBuf {
    let frames: Vec<Vec<u8>> = (0..11_u8)
        .map(|number| {
            let to = ["239.1.1.1:5001", "239.1.1.2:5002"][usize::from(number % 2)];
            let to = if number == 10 { "10.9.9.9:7" } else { to };
            Frame::udp("192.168.168.55:4000", to, vec![number; 100]).ttl(1).bytes()
        })
        .collect();
    let mut file = Vec::new();
    let numbers = |file: &mut Vec<u8>, numbers: &[u32]| numbers.iter().for_each(|n| file.extend(n.to_le_bytes()));
    let is_blocks = name.ends_with("ng");
    if is_blocks {
        numbers(&mut file, &[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
        numbers(&mut file, &[1, 20, 1, 0, 20]);
    } else {
        numbers(&mut file, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]);
    }
    for (number, frame) in frames.iter().enumerate() {
        let (microseconds, length) = (20_000 * number as u32, frame.len() as u32);
        let padding = frame.len().next_multiple_of(4) - frame.len();
        if is_blocks {
            let block = 32 + length + padding as u32;
            numbers(&mut file, &[6, block, 0, 0, microseconds, length, length]);
            file.extend(frame);
            file.extend(vec![0; padding]);
            numbers(&mut file, &[block]);
        } else {
            numbers(&mut file, &[0, microseconds, length, length]);
            file.extend(frame);
        }
    }
    let path = folder.join(name);
    std::fs::write(&path, file).expect("write the capture");
    path
}

#[test]
fn a_capture_is_sent_again_with_its_timing_where_it_is_mapped_to() {
    let cable = Cable::new();
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["capture.pcap", "capture.pcapng"] {
        let file = capture(folder.path(), name);
        let file = file.to_str().expect("a path");
        let mapped = cable.socket(6001, &[Ipv4Addr::new(239, 2, 2, 2)]);
        let same = cable.socket(5002, &[Ipv4Addr::new(239, 1, 1, 2)]);
        let sent = cable.send(&["eth0", "--pcap", file, "--map", "239.1.1.1:5001=239.2.2.2:6001"]);
        assert_eq!(sent["sent_packets"], 10, "{sent:#}");
        assert_eq!(sent["skipped_packets"], serde_json::json!({"to a single host": 1}), "{sent:#}");
        assert!(sent["seconds"].as_f64() >= Some(0.19), "200 ms are 200 ms: {sent:#}");
        for number in 0..10_u8 {
            let socket = if number % 2 == 0 { &mapped } else { &same };
            let mut payload = [0; 200];
            let (length, from) = socket.recv_from(&mut payload).expect("a datagram");
            assert_eq!((length, from.ip().to_string().as_str()), (100, "10.0.0.1"));
            assert!(payload[..100].iter().all(|byte| *byte == number), "{name}: {number} has other bytes");
        }
        let sent = cable.send(&["eth0:239.3.3.3:7001", "--pcap", file, "--speed", "max", "--loop", "3"]);
        assert_eq!(sent["sent_packets"], 33, "a host's datagrams, too, when all have one target: {sent:#}");
        let sent =
            cable.send(&["eth0:239.3.3.3:7001", "--pcap", file, "--speed", "max", "--loop", "0", "--count", "25"]);
        assert_eq!(sent["sent_packets"], 25, "{sent:#}");
    }
}

#[test]
fn captured_frames_go_out_as_they_are() {
    let cable = Cable::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = capture(folder.path(), "capture.pcap");
    let receiver = RawReceiver::new(cable.veth.far());
    let sent = cable.send(&["eth0", "--pcap", file.to_str().expect("a path"), "--speed", "max", "--raw"]);
    assert_eq!(sent["sent_packets"], 11, "{sent:#}");
    let expected = Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", vec![4; 100]).ttl(1).bytes();
    let mut frames = std::iter::from_fn(|| receiver.next_frame(SOON)).take(50);
    assert!(
        frames.any(|received| received.bytes == expected),
        "the fifth frame of the capture did not arrive as it was"
    );
}

#[test]
fn what_is_wrong_is_said() {
    let cable = Cable::new();
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(capture(folder.path(), "whole.pcap")).expect("read it");
    let (cut, text) = (folder.path().join("cut.pcap"), folder.path().join("text"));
    std::fs::write(&cut, &whole[..whole.len() - 5]).expect("write");
    std::fs::write(&text, "no capture at all").expect("write");
    let (cut, text) = (cut.to_str().expect("a path"), text.to_str().expect("a path"));
    let table = [
        (&["eth0", "--pcap", "/nowhere"][..], 1, "/nowhere: cannot be opened"),
        (&["eth0", "--pcap", text], 1, "neither pcap nor pcapng"),
        (&["eth0", "--pcap", cut, "--speed", "max"], 1, "the file ends within a packet after 10 packets"),
        (&["eth0", "--pcap", cut, "--speed", "fast"], 2, "write 2, 0.5 or max"),
        (&["eth0", "--pcap", cut, "--map", "a=b"], 2, "write 239.1.1.1=239.2.2.2"),
        (&["eth0:239.1.1.1:5001", "--pcap", cut, "--raw"], 2, "name the interface alone"),
        (&["eth0:239.1.1.1+0:5001"], 2, "1 to 1000"),
        (&["eth0:239.1.1.1:5001", "--pattern", "ones"], 2, "random, zero, counter or text:WORDS"),
    ];
    for (arguments, code, words) in table {
        let output = cable.near.command(MCR).arg("send").args(arguments).output().expect("run mcr");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && told.contains(words), "{arguments:?}: {told}");
    }
}

#[test]
fn datagrams_that_are_larger_than_the_mtu_are_refused_or_sent_in_fragments() {
    let cable = Cable::new();
    let to = "eth0:239.1.1.1:5001";
    let refused =
        cable.near.command(MCR).args(["send", to, "--size", "1473", "--count", "1"]).output().expect("run mcr");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("add ,fragment=true to send fragments"), "{why}");
    for (rate, size) in [("200", "1473-65507"), ("max", "4000")] {
        let mut command = cable.far.command(MCR);
        let mut listener =
            Process::start(command.args(["listen", to, "--count", "20", "--timeout", "3s", "-o", "json"]));
        listener.wait_for_line("the group is joined", SOON);
        let arguments = ["eth0:239.1.1.1:5001,fragment=true", "--count", "20", "--size", size, "--rate", rate];
        assert_eq!(cable.send(&arguments)["sent_packets"], 20);
        let heard = heard(&mut listener);
        assert_eq!((&heard["received_packets"], &heard["lost_packets"]), (&20.into(), &0.into()), "{heard:#}");
    }
}
