//! Packets for a relay of a running daemon, from the input to each output.

use std::net::Ipv4Addr;

use mcr_model::Datapath;
use mcr_testbed::{Checksum, DEVICE, Frame, OffloadingSender, Process, Tag, Topology};
use serde_json::Value;

use crate::service::{MCR, Service};
use crate::stand::{
    GROUP, Listener, Pump, TARGET, expect, expect_nothing, explain, good, hosts, join, nowhere, socket,
};

/// The relay's host with one relay, the device sending these frames, and what `explain` says there.
struct Relayed {
    net: Topology,
    service: Service,
}

impl Relayed {
    fn new(from: &str, to: &str) -> Relayed {
        let net = hosts();
        let service = Service::start_on(Datapath::Tcx, net.relay(), "");
        service.ok(&["add", "camera", "--from", from, "--to", to]);
        Relayed { net, service }
    }

    fn ready(from: &str, to: &str) -> Relayed {
        let relayed = Relayed::new(from, to);
        relayed.service.ok(&["wait", "camera", "--for", "ready"]);
        relayed
    }

    /// One that leaves the frames where they are.
    fn by_packet_sockets() -> Relayed {
        let net = hosts();
        let service = Service::start_on(Datapath::Packet, net.relay(), "");
        service.add("camera", TARGET, &[OUT]);
        Relayed { net, service }
    }

    fn explain(&self, frames: Vec<Vec<u8>>, arguments: &[&str]) -> Value {
        let _pump = Pump::start(self.net.device_interface(), frames);
        explain(self.net.relay(), &self.service.socket(), arguments)
    }
}

const OUT: &str = "lan1:239.2.2.2:6001";

/// The story that the product is for: the kernel refuses the source, and the relay takes the packets before that.
#[test]
fn nothing_is_wrong() {
    let relayed = Relayed::ready(TARGET, OUT);
    let frames = vec![Frame::udp(&format!("{DEVICE}:5000"), "239.1.1.1:5001", vec![1; 900]).ttl(1).bytes()];
    let report = relayed.explain(frames, &["camera"]);
    expect_nothing(&report);
    let step = |name: &str| report["steps"].as_array().and_then(|s| s.iter().find(|s| s["step"] == name)).cloned();
    assert!(["relay", "output"].iter().all(|name| step(name).is_some_and(|step| step["mark"] == "ok")), "{report:#}");
}

/// A super-frame of a local sender is many packets, none of them too large.
#[test]
fn super_frames_are_not_too_large() {
    let relayed = Relayed::ready(TARGET, OUT);
    let frame = Frame::udp("10.0.0.55:5000", "239.1.1.1:5001", vec![7; 8000]).udp_checksum(Checksum::Partial);
    let net = &relayed.net;
    let report = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sender = OffloadingSender::new(net.device_interface());
            for _ in 0..400 {
                sender.send_segments(&frame, 1000);
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        let report = explain(net.relay(), &relayed.service.socket(), &[TARGET]);
        sending.join().expect("sent");
        report
    });
    expect_nothing(&report);
}

#[test]
fn no_relay_has_this_port() {
    let relayed = Relayed::ready("dev0:239.1.1.1:5002", OUT);
    let report = relayed.explain(vec![good().bytes()], &[TARGET]);
    expect(&report, "relay", "no_relay");
    assert!(
        report["culprit"]["fact"].as_str().is_some_and(|fact| fact.contains("port (5002, not 5001)")),
        "{report:#}"
    );
}

#[test]
fn no_relay_has_this_vlan() {
    let relayed = Relayed::ready("dev0:239.1.1.1:5001,vlan=100", OUT);
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "relay", "no_relay");
}

#[test]
fn the_relay_lists_another_source() {
    let relayed = Relayed::ready("dev0:10.0.0.99@239.1.1.1:5001", OUT);
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "relay", "source_not_listed");
}

#[test]
fn the_output_interface_is_missing() {
    let relayed = Relayed::new(TARGET, "lan7:239.2.2.2:6001");
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "output", "output_missing");
}

#[test]
fn the_output_is_down() {
    let relayed = Relayed::ready(TARGET, OUT);
    relayed.net.lan(1).relay_side().down();
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "output", "output_down");
}

#[test]
fn the_output_has_no_address() {
    let net = hosts();
    net.lan(1).relay_side().remove_address("10.0.1.1/24");
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.ok(&["add", "camera", "--from", TARGET, "--to", OUT]);
    let relayed = Relayed { net, service };
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "output", "output_no_address");
}

#[test]
fn the_output_has_a_small_mtu() {
    let net = hosts();
    net.lan(1).cable().set_mtu(600);
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.add("camera", TARGET, &[OUT]);
    let relayed = Relayed { net, service };
    let large = Frame::udp("10.0.0.55:5000", "239.1.1.1:5001", vec![1; 1000]).bytes();
    expect(&relayed.explain(vec![large], &[TARGET]), "output", "output_mtu");
}

#[test]
fn the_ttl_is_too_small_for_the_way() {
    let relayed = Relayed::ready(TARGET, "lan1:239.2.2.2:6001,ttl=2");
    expect(&relayed.explain(vec![good().bytes()], &[TARGET, "--hops", "2"]), "output", "output_ttl");
}

#[test]
fn the_neighbour_is_dead() {
    let relayed = Relayed::new(TARGET, "lan1:10.0.1.99:6001");
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "output", "output_neighbour");
}

#[test]
fn there_is_no_route_to_the_host() {
    let relayed = Relayed::new(TARGET, "lan1:172.16.9.9:6001");
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "output", "output_no_route");
}

#[test]
fn the_queue_of_the_output_is_full() {
    let net = hosts();
    let slow = ["qdisc", "add", "dev", "lan1", "root", "tbf", "rate", "100kbit", "burst", "2kb", "limit", "3kb"];
    net.relay().output("tc", &slow);
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.add("camera", TARGET, &[OUT]);
    let relayed = Relayed { net, service };
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "output", "output_queue");
}

/// What the kernel redirects does not meet the firewall at egress; what a packet socket sends does.
#[test]
fn a_firewall_drops_at_egress() {
    let relayed = Relayed::by_packet_sockets();
    let rules = "add table netdev t; add chain netdev t c { type filter hook egress device lan1 priority 0; }; \
                 add rule netdev t c udp dport 6001 drop";
    relayed.net.relay().output("nft", &[rules]);
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "output", "output_firewall");
}

/// The device's packets, which no socket of the relay's host may hear.
fn unroutable() -> Vec<Vec<u8>> {
    vec![Frame::udp(&format!("{DEVICE}:5000"), "239.1.1.1:5001", vec![1; 900]).bytes()]
}

#[test]
fn a_socket_of_the_same_port_for_another_group_does_not_matter() {
    let relayed = Relayed::ready(TARGET, OUT);
    let other = socket(relayed.net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&other, relayed.net.lan(1).relay_side(), Ipv4Addr::new(239, 7, 7, 7));
    expect_nothing(&relayed.explain(unroutable(), &[TARGET]));
}

#[test]
fn a_socket_of_the_same_group_is_another_question_than_the_relay() {
    let relayed = Relayed::by_packet_sockets();
    let _listener = Listener::of_group(relayed.net.relay_input());
    expect_nothing(&relayed.explain(unroutable(), &["camera"]));
    expect(&relayed.explain(unroutable(), &[TARGET]), "reverse_path", "rp_filter_strict");
}

#[test]
fn a_relay_in_the_kernel_takes_the_frames_from_a_socket() {
    let net = hosts();
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.add("camera", TARGET, &[OUT]);
    let relayed = Relayed { net, service };
    let listener = socket(relayed.net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&listener, relayed.net.relay_input(), GROUP);
    listener.set_nonblocking(true).expect("not to wait");
    expect(&relayed.explain(vec![good().bytes()], &[TARGET]), "taken", "taken_by_relay");
    expect_nothing(&relayed.explain(vec![good().bytes()], &["camera"]));
    let listener = std::net::UdpSocket::from(listener);
    assert!(listener.recv(&mut [0; 2048]).is_err(), "the socket hears none of what a route back would let it hear");
}

#[test]
fn a_relay_in_the_foreground_is_found() {
    let net = hosts();
    let mut command = net.relay().command(MCR);
    let mut relay = Process::start(command.args(["relay", TARGET, OUT]));
    relay.wait_for_line("ready", std::time::Duration::from_secs(5));
    let _pump = Pump::start(net.device_interface(), unroutable());
    let report = explain(net.relay(), nowhere(), &[TARGET]);
    expect_nothing(&report);
    let step = report["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["step"] == "relay"));
    assert!(step.is_some_and(|step| step["code"] == "foreground"), "{report:#}");
}

/// The daemon has no privilege: it says what it can not see, and knows its own relay.
#[test]
fn the_api_tells_what_the_daemon_can_see() {
    let relayed = Relayed::ready(TARGET, OUT);
    let _pump = Pump::start(relayed.net.device_interface(), unroutable());
    let ask = |body: &str| relayed.service.http("POST", "/api/v1/explain", body);
    let (status, report) = ask(r#"{"relay": "camera"}"#);
    assert_eq!((status, &report["verdict"]), (200, &"passes".into()), "{report:#}");
    let code = |name: &str| {
        report["steps"].as_array().and_then(|s| s.iter().find(|s| s["step"] == name)).map(|s| s["code"].clone())
    };
    assert_eq!((code("wire"), code("relay")), (Some("not_visible".into()), Some("taken".into())), "{report:#}");
    for (body, expected) in [
        (r#"{"relay": "camera-7"}"#, 404),
        (r#"{"relay": "camera", "input": {"interface": "dev0", "group": "239.1.1.1", "port": 5001}}"#, 422),
        (r#"{"input": {"interface": "dev0", "group": "239.1.1.1", "port": 0}}"#, 422),
        ("{}", 422),
        ("[]", 422),
        ("{", 400),
    ] {
        assert_eq!(ask(body).0, expected, "{body}");
    }
}

#[test]
fn what_comes_for_the_relay_is_damaged() {
    let relayed = Relayed::ready(TARGET, OUT);
    let frame = good().udp_checksum(Checksum::Wrong).bytes();
    expect(&relayed.explain(vec![frame], &[TARGET]), "integrity", "bad_udp_checksum");
}

#[test]
fn what_comes_for_the_relay_may_be_in_fragments() {
    let relayed = Relayed::ready(TARGET, OUT);
    let pieces = Frame::udp("10.0.0.55:5000", "239.1.1.1:5001", vec![7; 2000]).fragments(1480);
    let report = relayed.explain(pieces, &[TARGET]);
    assert_eq!(report["verdict"], "passes", "{report:#}");
}

#[test]
fn fragments_pass_into_the_other_family() {
    let net = hosts().with_ipv6();
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.add("camera", TARGET, &["lan1:[ff3e::2:1]:6001"]);
    let relayed = Relayed { net, service };
    let pieces = Frame::udp("10.0.0.55:5000", "239.1.1.1:5001", vec![7; 1200]).fragments(800);
    let report = relayed.explain(pieces, &[TARGET]);
    assert_eq!(report["verdict"], "passes", "{report:#}");
}

#[test]
fn frames_with_two_tags_are_not_those_of_one() {
    let relayed = Relayed::ready("dev0:239.1.1.1:5001,vlan=100", OUT);
    let frame = good().tag(Tag::service(7)).tag(Tag::vlan(100)).bytes();
    let report = relayed.explain(vec![frame], &["camera"]);
    expect(&report, "wire", "wrong_vlan");
    let remedy = report["culprit"]["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("dev0:239.1.1.1:5001,vlan=100,outer-vlan=7"), "{report:#}");
}

#[test]
fn a_relay_of_two_tags_is_followed_like_any() {
    let two = "dev0:239.1.1.1:5001,vlan=100,outer-vlan=7";
    let relayed = Relayed::ready(two, OUT);
    let inner = good().tag(Tag::vlan(100));
    for asked in ["camera", two] {
        let both = good().tag(Tag::service(7)).tag(Tag::vlan(100)).bytes();
        expect_nothing(&relayed.explain(vec![both], &[asked]));
        expect(&relayed.explain(vec![inner.bytes()], &[asked]), "wire", "wrong_vlan");
    }
}

/// On the receiver's host: the relay was told to send with a source that the receiver has no route to.
#[test]
fn the_receiver_refuses_the_new_source() {
    let relayed = Relayed::ready(TARGET, "lan1:239.1.1.1:5001,source=172.16.0.9");
    let lan = relayed.net.lan(1);
    let _listener = Listener::of_group(lan.host_side());
    let _pump = Pump::start(relayed.net.device_interface(), vec![good().bytes()]);
    let report = explain(lan.namespace(), crate::stand::nowhere(), &["eth0:239.1.1.1:5001"]);
    expect(&report, "reverse_path", "rp_filter_strict");
}

#[test]
fn a_name_that_no_relay_has() {
    let relayed = Relayed::ready(TARGET, OUT);
    let said = relayed.service.refused(&["explain", "camera-7"]);
    assert!(said.contains("camera-7"), "{said}");
}
