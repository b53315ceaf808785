//! The same of IPv6, which has no reverse-path check, and memberships by MLD.

use std::net::{Ipv6Addr, SocketAddrV6};

use mcr_model::Datapath;
use mcr_testbed::{Checksum, DEVICE6, Frame, Topology};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::service::Service;
use crate::stand::{Listener, PORT, Pump, expect, expect_nothing, explain, hosts, nowhere};

const TARGET: &str = "dev0:[ff3e::1:1]:5001";
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 1, 1);

fn good() -> Frame {
    Frame::udp(&format!("[{DEVICE6}]:5000"), "[ff3e::1:1]:5001", vec![7; 400])
}

fn net() -> Topology {
    hosts().with_ipv6()
}

/// A socket of the port on the relay's host.
fn socket(net: &Topology, address: Ipv6Addr) -> Socket {
    net.relay().run(|| {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
        socket.bind(&SocketAddrV6::new(address, PORT, 0, 0).into()).expect("bound");
        socket
    })
}

/// An application that has joined as it should.
fn listener(net: &Topology) -> Listener {
    let socket = socket(net, Ipv6Addr::UNSPECIFIED);
    socket.join_multicast_v6(&GROUP, net.relay_input().index()).expect("joined");
    Listener::start(socket)
}

/// What is said where an application listens as it should and the device sends these frames.
#[track_caller]
fn told(net: &Topology, frame: &Frame) -> Value {
    let _listener = listener(net);
    told_without_listener(net, frame)
}

#[track_caller]
fn told_without_listener(net: &Topology, frame: &Frame) -> Value {
    let _pump = Pump::start(net.device_interface(), vec![frame.bytes()]);
    explain(net.relay(), nowhere(), &[TARGET])
}

fn step(report: &Value, name: &str) -> Value {
    let steps = report["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["step"] == name).cloned().unwrap_or_default()
}

/// Nobody has a route to the device, and that is no matter.
#[test]
fn nothing_is_wrong() {
    let report = told(&net(), &good());
    expect_nothing(&report);
    for name in ["wire", "nic_filter", "membership", "firewall", "socket", "receive_buffer", "kernel"] {
        assert_eq!(step(&report, name)["mark"], "ok", "{name}: {report:#}");
    }
    assert!(step(&report, "membership")["fact"].as_str().is_some_and(|fact| fact.contains("MLDv2")), "{report:#}");
    assert_eq!(step(&report, "reverse_path"), Value::Null);
}

#[test]
fn nobody_has_joined() {
    let net = net();
    let _listener = Listener::start(socket(&net, Ipv6Addr::UNSPECIFIED));
    expect(&told_without_listener(&net, &good()), "membership", "not_joined");
}

#[test]
fn joined_on_another_interface() {
    let net = net();
    let socket = socket(&net, Ipv6Addr::UNSPECIFIED);
    socket.join_multicast_v6(&GROUP, net.lan(1).relay_side().index()).expect("joined");
    let _listener = Listener::start(socket);
    expect(&told_without_listener(&net, &good()), "membership", "joined_elsewhere");
}

#[test]
fn a_socket_is_bound_to_another_address() {
    let net = net();
    let socket = socket(&net, "fd00::1".parse().expect("an address"));
    socket.join_multicast_v6(&GROUP, net.relay_input().index()).expect("joined");
    let _listener = Listener::start(socket);
    let report = told_without_listener(&net, &good());
    expect(&report, "socket", "bound_to_address");
    assert!(report["culprit"]["remedy"].as_str().is_some_and(|remedy| remedy.contains("[::]:5001")), "{report:#}");
}

/// IPv4 may leave a checksum out, IPv6 may not (RFC 8200 section 8.1).
#[test]
fn the_sender_leaves_the_checksum_out() {
    expect(&told(&net(), &good().udp_checksum(Checksum::Zero)), "integrity", "bad_udp_checksum");
}

#[test]
fn the_sender_uses_another_port() {
    let frame = Frame::udp(&format!("[{DEVICE6}]:5000"), "[ff3e::1:1]:5002", vec![7; 400]);
    expect(&told(&net(), &frame), "wire", "wrong_port");
}

#[test]
fn a_group_is_no_source() {
    expect(&told(&net(), &Frame::udp("[ff3e::9]:5000", "[ff3e::1:1]:5001", vec![7; 400])), "source", "martian_source");
}

#[test]
fn the_firewall_drops_them() {
    for (rules, code) in [
        (
            "add table ip6 t; add chain ip6 t c { type filter hook input priority 0; }; add rule ip6 t c ip6 daddr ff3e::/16 udp dport 5001 drop",
            "firewall_input",
        ),
        (
            "add table inet t; add chain inet t c { type filter hook prerouting priority 0; }; add rule inet t c meta nfproto ipv6 ip6 hoplimit < 20 drop",
            "firewall_prerouting",
        ),
    ] {
        let net = net();
        // Rules for the other family do not matter.
        net.relay()
            .output("nft", &["add table ip o; add chain ip o c { type filter hook input priority -9; policy drop; }"]);
        net.relay().output("nft", &[rules]);
        let report = told(&net, &good());
        expect(&report, "firewall", code);
        assert!(report["culprit"]["fact"].as_str().is_some_and(|fact| fact.contains(", by rule")), "{report:#}");
    }
}

#[test]
fn ipv6_is_switched_off() {
    let net = hosts();
    let _listener = Listener::start(socket(&net, Ipv6Addr::UNSPECIFIED));
    expect(&told_without_listener(&net, &good()), "link", "ipv6_off");
}

/// A relay's host; what `explain` says of the relay while the device sends.
fn told_of_relay(net: &Topology, to: &str) -> Value {
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.ok(&["add", "camera", "--from", TARGET, "--to", to]);
    let _pump = Pump::start(net.device_interface(), vec![good().bytes()]);
    explain(net.relay(), &service.socket(), &["camera"])
}

#[test]
fn nothing_is_wrong_with_a_relay_to_either_family() {
    for to in ["lan1:[ff3e::2:1]:6001", "lan1:239.2.2.1:6001"] {
        let report = told_of_relay(&net(), to);
        expect_nothing(&report);
        for name in ["wire", "membership", "relay", "output"] {
            assert_eq!(step(&report, name)["mark"], "ok", "{to}, {name}: {report:#}");
        }
    }
}

#[test]
fn an_output_has_link_local_addresses_only() {
    let net = net();
    net.relay().ip("address flush dev lan1 to fd00:1::/64");
    expect(&told_of_relay(&net, "lan1:[ff3e::2:1]:6001"), "output", "output_no_address");
}

#[test]
fn a_unicast_receiver_is_not_there() {
    expect(&told_of_relay(&net(), "lan1:[fd00:1::99]:6001"), "output", "output_neighbour");
}
