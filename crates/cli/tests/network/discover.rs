//! `mcr discover` names what it sees, joined or not, and its draft is a configuration.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mcr_testbed::{Frame, Interface, Mac, Namespace, Process, RawSender, Tag, Topology, kernel, wait_until};
use serde_json::Value;

use crate::service::{MCR, SOON, Service};

fn rtp(payload_type: u8, number: u32, ticks: u32, payload: &[u8]) -> Vec<u8> {
    let [_, _, high, low] = number.to_be_bytes();
    let header = [&[0x80, payload_type, high, low][..], &(number * ticks).to_be_bytes(), b"SSRC"].concat();
    [&header[..], payload].concat()
}

/// A transport stream of program 7, and nothing in it.
fn ts() -> Vec<u8> {
    let mut pat = vec![0x47, 0x40, 0, 0x10, 0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 7, 0xe1, 0, 1, 2, 3, 4];
    pat.resize(188, 0xff);
    let mut null = vec![0x47, 0x1f, 0xff, 0x10];
    null.resize(188, 0xff);
    [pat, null].concat()
}

const SAP: &[u8] = b"\x20\0\x12\x34\xc0\xa8\xa8\x37application/sdp\0v=0\r\ns=Studio A\r\nc=IN IP4 239.69.1.1/32\r\n\
                     m=audio 5004 RTP/AVP 97\r\na=rtpmap:97 L24/48000/2\r\n";
const MDNS: &[u8] = b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\0\x01";
const SSDP: &[u8] = b"NOTIFY * HTTP/1.1\r\nNT: upnp:rootdevice\r\n\r\n";

/// One frame of each flow.
fn frames(number: u32) -> Vec<Frame> {
    let from = |to: &str, payload: Vec<u8>| Frame::udp("192.168.168.55:5000", to, payload).ttl(1);
    vec![
        from("239.69.1.1:5004", rtp(97, number, 48, &[1; 288])).traffic_class(34 << 2),
        from("239.1.1.2:5006", rtp(96, number, 900, &[number as u8; 700])),
        from("239.1.1.3:1234", ts()).tag(Tag::vlan(100)),
        from("239.1.1.4:5001", vec![number as u8; 100]).source_mac(Mac([0x00, 0x1d, 0xc1, 1, 2, 3])),
        from("239.255.255.255:9875", SAP.to_vec()),
        from("224.0.0.251:5353", MDNS.to_vec()),
        from("239.255.255.250:1900", SSDP.to_vec()),
        from("224.0.1.129:319", [&[0, 2, 0, 44, 5][..], &[0; 39]].concat()),
    ]
}

/// The same of IPv6.
fn frames_of_ipv6(number: u32) -> Vec<Frame> {
    let from = |to: &str, payload: Vec<u8>| Frame::udp("[fd00:dead::55]:5000", to, payload).ttl(1);
    vec![
        from("[ff3e::1:1]:5004", rtp(97, number, 48, &[1; 288])).traffic_class(34 << 2),
        from("[ff35::8000:1]:1234", ts()).tag(Tag::vlan(100)),
        from("[ff05::4]:5001", vec![number as u8; 100]),
        from("[ff02::fb]:5353", MDNS.to_vec()),
    ]
}

/// Sends the frames of all flows over and over while `meanwhile` goes on.
fn sending<T>(interface: &Interface, meanwhile: impl FnOnce() -> T) -> T {
    sending_these(interface, frames, meanwhile)
}

fn sending_these<T>(interface: &Interface, frames: fn(u32) -> Vec<Frame>, meanwhile: impl FnOnce() -> T) -> T {
    let (sender, stop) = (RawSender::new(interface), Arc::new(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        let told = stop.clone();
        scope.spawn(move || {
            for number in (0..10_000).take_while(|_| !told.load(Ordering::Relaxed)) {
                frames(number).iter().for_each(|frame| sender.send(frame));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = meanwhile();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

#[track_caller]
fn mcr(namespace: &Namespace, arguments: &[&str]) -> String {
    let output = namespace.command(MCR).args(arguments).output().expect("run mcr");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn flow<'a>(report: &'a Value, group: &str) -> &'a Value {
    let flows = report["flows"].as_array().expect("flows");
    flows.iter().find(|flow| flow["group"] == group).unwrap_or_else(|| panic!("no {group} in {report:#}"))
}

#[test]
fn every_flow_has_a_kind() {
    let net = Topology::device_relay_lan(1);
    let text = sending(net.device_interface(), || {
        mcr(net.relay(), &["discover", "dev0", "--duration", "500ms", "-o", "json"])
    });
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["missed_packets"], 0);
    let table = [
        ("239.69.1.1", "ST 2110-30", "rtp"),
        ("239.1.1.2", "RTP", "rtp"),
        ("239.1.1.3", "MPEG-TS", "mpeg_ts"),
        ("239.1.1.4", "plain", "plain"),
        ("239.255.255.255", "SAP", "sap"),
        ("224.0.0.251", "mDNS", "mdns"),
        ("239.255.255.250", "SSDP", "ssdp"),
        ("224.0.1.129", "PTP", "ptp"),
    ];
    for (group, name, kind) in table {
        let flow = flow(&report, group);
        assert_eq!((&flow["name"], &flow["what"]["kind"]), (&name.into(), &kind.into()), "{flow:#}");
        assert_eq!((&flow["source"], &flow["ttl"]), (&"192.168.168.55".into(), &1.into()), "{flow:#}");
        assert!(flow["packets"].as_u64() > Some(10) && flow["bits_per_second"].as_f64() > Some(1000.0), "{flow:#}");
    }
    let audio = flow(&report, "239.69.1.1");
    assert_eq!((&audio["session"], &audio["dscp"]), (&"Studio A".into(), &34.into()), "{audio:#}");
    assert_eq!((&audio["what"]["channels"], &audio["what"]["bits"]), (&2.into(), &24.into()), "{audio:#}");
    assert_eq!(flow(&report, "239.1.1.3")["vlan"], 100);
    assert_eq!(flow(&report, "239.1.1.3")["what"]["programs"], serde_json::json!({"7": ""}));
    assert_eq!(flow(&report, "239.1.1.4")["maker"], "Audinate");
    assert!(
        kernel::joined_groups(net.relay(), "dev0").iter().all(|group| group.octets()[0] == 224),
        "nothing was joined"
    );
}

#[test]
fn the_draft_is_a_configuration_without_what_should_stay() {
    let net = Topology::device_relay_lan(1);
    let draft = sending(net.device_interface(), || {
        mcr(net.relay(), &["discover", "dev0", "--duration", "400ms", "--to", "lan1"])
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mcr.toml");
    std::fs::write(&file, &draft).expect("write it");
    let file: &Path = &file;
    mcr(net.relay(), &["check", file.to_str().expect("a path")]);
    let relay = "[[relay]]\nname   = \"studio-a\"\ninput  = { interface = \"dev0\", group = \"239.69.1.1\", port = 5004, \
                 sources = [\"192.168.168.55\"] }\noutput = [\n    { interface = \"lan1\", group = \"239.69.1.1\", port = 5004 },\n]\n";
    assert!(draft.contains(relay), "{draft}");
    assert!(draft.contains("vlan = 100"), "{draft}");
    assert!(draft.contains("# dev0: 224.0.0.251:5353 (mDNS) is left out"), "{draft}");
    assert!(draft.contains("# dev0: 224.0.1.129:319 (PTP) is left out"), "{draft}");
    assert_eq!(draft.matches("[[relay]]").count(), 6, "{draft}");
}

#[test]
fn flows_of_ipv6_are_told_and_drafted() {
    let net = Topology::device_relay_lan(1);
    let discover = |arguments: &[&str]| {
        let arguments = [&["discover", "dev0", "--duration", "500ms"][..], arguments].concat();
        sending_these(net.device_interface(), frames_of_ipv6, || mcr(net.relay(), &arguments))
    };
    let report: Value = serde_json::from_str(&discover(&["-o", "json"])).expect("JSON");
    let table = [
        ("ff3e::1:1", "ST 2110-30", Value::Null),
        ("ff35::8000:1", "MPEG-TS", 100.into()),
        ("ff05::4", "plain", Value::Null),
        ("ff02::fb", "mDNS", Value::Null),
    ];
    for (group, name, vlan) in table {
        let flow = flow(&report, group);
        assert_eq!((&flow["name"], &flow["vlan"]), (&name.into(), &vlan), "{flow:#}");
        assert_eq!((&flow["source"], &flow["ttl"]), (&"fd00:dead::55".into(), &1.into()), "{flow:#}");
        assert!(flow["packets"].as_u64() > Some(10), "{flow:#}");
    }
    assert_eq!(flow(&report, "ff3e::1:1")["dscp"], 34);
    let draft = discover(&["--to", "lan1"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mcr.toml");
    std::fs::write(&file, &draft).expect("write it");
    mcr(net.relay(), &["check", file.to_str().expect("a path")]);
    assert!(draft.contains("input  = { interface = \"dev0\", group = \"ff3e::1:1\", port = 5004, "), "{draft}");
    assert!(draft.contains("# dev0: [ff02::fb]:5353 (mDNS) is left out"), "{draft}");
    assert_eq!(draft.matches("[[relay]]").count(), 3, "{draft}");
}

#[test]
fn groups_are_probed_and_left_again_and_others_are_not_shown() {
    let net = Topology::device_relay_lan(1);
    let joined = || kernel::joined_groups(net.relay(), "dev0").iter().filter(|group| group.octets()[0] == 239).count();
    let arguments =
        ["discover", "dev0", "--duration", "600ms", "--probe-groups", "239.1.0.0/26", "--groups", "239.1.0.0/16"];
    let (text, most) = sending(net.device_interface(), || {
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| mcr(net.relay(), &arguments));
            let mut most = 0;
            while !looking.is_finished() {
                most = most.max(joined());
                std::thread::sleep(Duration::from_millis(20));
            }
            (looking.join().expect("it ends"), most)
        })
    });
    assert_eq!((most, joined()), (64, 0));
    assert!(
        text.starts_with("FLOW ") && text.contains("dev0:192.168.168.55@239.1.1.3:1234,vlan=100  MPEG-TS"),
        "{text}"
    );
    assert!(!text.contains("239.69.1.1:5004"), "{text}");
}

#[test]
fn what_is_wrong_is_said() {
    let net = Topology::device_relay_lan(1);
    let table = [
        (&["discover", "nope0"][..], 1, "there is no interface nope0"),
        (&["discover", "dev0", "--probe-groups", "239.0.0.0/8"], 2, "more than 1024 groups"),
        (&["discover", "dev0", "--probe-groups", "10.0.0.0/24"], 2, "these are no IPv4 groups"),
        (&["discover", "dev0", "--groups", "239.1.1.1/8"], 2, "begins at 239.0.0.0"),
        (&["discover", "dev0", "--duration", "50ms", "--to", "lan1"], 1, "nothing came that could be relayed"),
    ];
    for (arguments, code, text) in table {
        let output = net.relay().command(MCR).args(arguments).output().expect("run mcr");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && told.contains(text), "{arguments:?}: {told}");
    }
}

/// A verb of a process without any privilege against this daemon.
fn unprivileged(net: &Topology, service: &Service, arguments: &[&str]) -> std::process::Output {
    let mut command = net.relay().command("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", MCR]).args(arguments);
    command.env("MCR_SOCKET", service.socket()).output().expect("run mcr")
}

#[test]
fn the_daemon_looks_for_whom_may_not_where_the_policy_lets_it() {
    let net = Topology::device_relay_lan(1);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("netd.sock").display().to_string();
    let mut keeper = net.relay().command(mcr_testbed::program("mcr-netd"));
    let _keeper = Process::start(keeper.args(["--socket", &socket, "--allow-input", "dev0"]));
    wait_until(SOON, "the keeper listens", || Path::new(&socket).exists());
    // What xdp takes is not seen.
    let options = ["--keeper-socket", &socket, "--datapath", "tcx"];
    let service = Service::start_with(net.relay(), "", &options);
    service.add("camera", "dev0:239.1.1.4:5001", &["lan1:239.2.2.4:6001"]);
    let remembered = || service.http("GET", "/api/v1/flows", "").1;
    assert!(remembered()["hint"].as_str().expect("a hint").contains("nobody has looked"), "{}", remembered());

    let output = sending(net.device_interface(), || {
        unprivileged(&net, &service, &["discover", "--duration", "600ms", "-o", "json"])
    });
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["interfaces"], serde_json::json!(["dev0"]), "{report:#}");
    assert_eq!(flow(&report, "239.69.1.1")["session"], "Studio A", "{report:#}");
    assert_eq!(flow(&report, "239.1.1.3")["vlan"], 100, "{report:#}");
    assert!(flow(&report, "239.1.1.4")["packets_per_second"].as_f64() > Some(20.0), "{report:#}");
    wait_until(SOON, "the interface is not promiscuous any more", || {
        net.relay().output("ip", &["-d", "link", "show", "dev0"]).contains("promiscuity 0")
    });
    assert_eq!(remembered()["flows"].as_array().map(Vec::len), report["flows"].as_array().map(Vec::len));
    let relayed = service.assert_balance();
    assert!(relayed["camera"] > 20, "the relay went on: {relayed:?}");

    let refused = unprivileged(&net, &service, &["discover", "lan1", "--duration", "100ms"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("policy does not allow lan1 as an input"), "{told}");
    let refused = unprivileged(&net, &service, &["discover", "dev0", "--probe-groups", "239.1.0.0/30"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
