//! "tcpdump sees it, my application does not": packets for a socket of the host itself.

use std::net::Ipv4Addr;

use mcr_testbed::{Checksum, DEVICE, Frame, Namespace, Tag};

use crate::stand::{
    GROUP, Listener, Pump, TARGET, expect, expect_nothing, explain, good, hosts, join, nowhere, socket, told,
    told_of_good,
};

fn from(source: impl std::fmt::Display) -> Vec<Vec<u8>> {
    vec![Frame::udp(&format!("{source}:5000"), "239.1.1.1:5001", vec![7; 400]).bytes()]
}

/// Loads rules of nftables.
fn nft(host: &Namespace, rules: &str) {
    host.output("nft", &[rules]);
}

#[test]
fn nothing_is_wrong() {
    let net = hosts();
    let report = told(&net, vec![good().bytes()]);
    expect_nothing(&report);
    let marks: Vec<_> = ["wire", "membership", "reverse_path", "firewall", "socket", "receive_buffer", "kernel"]
        .map(|name| {
            report["steps"].as_array().and_then(|s| s.iter().find(|s| s["step"] == name).map(|s| s["mark"].clone()))
        })
        .into_iter()
        .collect();
    assert!(marks.iter().all(|mark| mark.as_ref().is_some_and(|mark| mark == "ok")), "{report:#}");
}

#[test]
fn reverse_path_strict_without_a_route() {
    expect(&told(&hosts(), from(DEVICE)), "reverse_path", "rp_filter_strict");
}

#[test]
fn reverse_path_strict_with_a_route_elsewhere() {
    let report = told(&hosts(), from("10.0.1.77"));
    expect(&report, "reverse_path", "rp_filter_strict");
    assert!(report["culprit"]["fact"].as_str().is_some_and(|fact| fact.contains("lan1")), "{report:#}");
}

#[test]
fn reverse_path_loose_without_a_route() {
    let net = hosts();
    net.relay().sysctl("net/ipv4/conf/all/rp_filter", "0");
    net.relay().sysctl("net/ipv4/conf/dev0/rp_filter", "2");
    expect(&told(&net, from(DEVICE)), "reverse_path", "rp_filter_loose");
}

#[test]
fn nobody_has_joined() {
    let net = hosts();
    let _listener = Listener::start(socket(net.relay(), Ipv4Addr::UNSPECIFIED));
    expect(&told_of_good(&net), "membership", "not_joined");
}

#[test]
fn joined_on_another_interface() {
    let net = hosts();
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&listener, net.lan(1).relay_side(), GROUP);
    expect(&told_of_good(&net), "membership", "joined_elsewhere");
}

#[test]
fn all_memberships_of_the_socket_are_used() {
    let net = hosts();
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    (1..=20).for_each(|last| join(&listener, net.relay_input(), Ipv4Addr::new(239, 9, 9, last)));
    expect(&told_of_good(&net), "membership", "membership_limit");
}

#[test]
fn joined_for_another_source() {
    let net = hosts();
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    listener.join_ssm_v4(&"10.0.0.99".parse().unwrap(), &GROUP, &"10.0.0.1".parse().unwrap()).expect("joined");
    expect(&told_of_good(&net), "source_filter", "source_excluded");
}

#[test]
fn the_sender_uses_another_port() {
    expect(
        &told(&hosts(), vec![Frame::udp("10.0.0.55:5000", "239.1.1.1:5002", vec![1; 90]).bytes()]),
        "wire",
        "wrong_port",
    );
}

#[test]
fn the_sender_uses_a_vlan() {
    expect(&told(&hosts(), vec![good().tag(Tag::vlan(100)).bytes()]), "wire", "wrong_vlan");
}

#[test]
fn another_sender_sends() {
    let net = hosts();
    let _listener = Listener::of_group(net.relay_input());
    let _pump = Pump::start(net.device_interface(), vec![good().bytes()]);
    expect(&explain(net.relay(), nowhere(), &["dev0:10.0.0.99@239.1.1.1:5001"]), "wire", "wrong_source");
}

#[test]
fn nobody_sends() {
    let net = hosts();
    let _listener = Listener::of_group(net.relay_input());
    expect(&explain(net.relay(), nowhere(), &[TARGET]), "wire", "silent");
}

#[test]
fn the_firewall_drops_at_ingress() {
    let net = hosts();
    nft(
        net.relay(),
        "add table netdev t; add chain netdev t c { type filter hook ingress device dev0 priority 0; }; \
                      add rule netdev t c ip daddr 239.1.1.1 drop",
    );
    let report = told(&net, vec![good().bytes()]);
    expect(&report, "firewall", "firewall_ingress");
    assert!(report["culprit"]["fact"].as_str().is_some_and(|fact| fact.contains("netdev t c")), "{report:#}");
}

#[test]
fn the_firewall_drops_before_routing() {
    let net = hosts();
    nft(
        net.relay(),
        "add table ip t; add chain ip t c { type filter hook prerouting priority -300; }; \
                      add rule ip t c udp dport { 5000-5010, 6000 } counter drop",
    );
    expect(&told(&net, vec![good().bytes()]), "firewall", "firewall_prerouting");
}

#[test]
fn the_firewall_drops_at_input_by_a_chain_that_is_called() {
    let net = hosts();
    nft(
        net.relay(),
        "add table inet t; add chain inet t sub; add rule inet t sub ip saddr 10.0.0.0/24 drop; \
                      add chain inet t c { type filter hook input priority 0; }; add rule inet t c iifname \"dev*\" jump sub",
    );
    let report = told(&net, vec![good().bytes()]);
    expect(&report, "firewall", "firewall_input");
    assert!(report["culprit"]["fact"].as_str().is_some_and(|fact| fact.contains("inet t sub")), "{report:#}");
}

#[test]
fn the_firewall_drops_what_no_rule_accepts() {
    let net = hosts();
    nft(
        net.relay(),
        "add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; \
                      add rule inet t c udp dport 5004 accept",
    );
    let report = told(&net, vec![good().bytes()]);
    expect(&report, "firewall", "firewall_input");
    assert!(report["culprit"]["fact"].as_str().is_some_and(|fact| fact.contains("policy")), "{report:#}");
}

#[test]
fn a_firewall_that_lets_them_pass_is_not_blamed() {
    let net = hosts();
    nft(
        net.relay(),
        "add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; \
                      add rule inet t c ip daddr 239.0.0.0/8 udp dport 5001 accept; add rule inet t c ip daddr 239.1.1.1 drop",
    );
    expect_nothing(&told(&net, vec![good().bytes()]));
}

#[test]
fn the_socket_is_bound_to_another_interface() {
    let net = hosts();
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&listener, net.relay_input(), GROUP);
    listener.bind_device(Some(b"lan1")).expect("bound");
    expect(&told_of_good(&net), "socket", "bound_to_interface");
}

#[test]
fn the_socket_is_bound_to_an_address_of_the_host() {
    let net = hosts();
    let listener = socket(net.relay(), "10.0.0.1".parse().unwrap());
    join(&listener, net.relay_input(), GROUP);
    expect(&told_of_good(&net), "socket", "bound_to_address");
}

#[test]
fn the_socket_is_connected_to_somebody_else() {
    let net = hosts();
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&listener, net.relay_input(), GROUP);
    let peer: std::net::SocketAddr = "10.0.0.99:5000".parse().unwrap();
    listener.connect(&peer.into()).expect("connected");
    expect(&told_of_good(&net), "socket", "connected");
}

#[test]
fn the_socket_has_a_filter() {
    let net = hosts();
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&listener, net.relay_input(), GROUP);
    // BPF_RET of 0 bytes: nothing passes.
    listener.attach_filter(&[socket2::SockFilter::new(6, 0, 0, 0)]).expect("a filter");
    expect(&told_of_good(&net), "socket", "socket_filter");
}

#[test]
fn the_receiver_does_not_read() {
    let net = hosts();
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    listener.set_recv_buffer_size(2304).expect("a small buffer");
    join(&listener, net.relay_input(), GROUP);
    expect(&told_of_good(&net), "receive_buffer", "receive_buffer_full");
}

#[test]
fn the_source_is_a_loopback_address() {
    expect(&told(&hosts(), from("127.0.0.5")), "source", "martian_source");
}

#[test]
fn the_source_is_our_own_address() {
    expect(&told(&hosts(), from("10.0.0.1")), "source", "own_source");
}

#[test]
fn the_udp_checksum_is_wrong() {
    let frame = good().udp_checksum(Checksum::Wrong).bytes();
    expect(&told(&hosts(), vec![frame]), "integrity", "bad_udp_checksum");
}

#[test]
fn the_ip_checksum_is_wrong() {
    let frame = good().ip_checksum(Checksum::Wrong).bytes();
    expect(&told(&hosts(), vec![frame]), "integrity", "bad_ip_checksum");
}

#[test]
fn a_fragment_is_lost() {
    let whole = Frame::udp("10.0.0.55:5000", "239.1.1.1:5001", vec![7; 3000]);
    let mut pieces = whole.fragments(1480);
    pieces.pop();
    expect(&told(&hosts(), pieces), "integrity", "fragments_lost");
}

#[test]
fn the_interface_is_down() {
    let net = hosts();
    net.relay_input().down();
    let _listener = Listener::start(socket(net.relay(), Ipv4Addr::UNSPECIFIED));
    expect(&told_of_good(&net), "link", "link_down");
}

#[test]
fn the_cable_is_out() {
    let net = hosts();
    let _listener = Listener::of_group(net.relay_input());
    net.device_interface().down();
    expect(&explain(net.relay(), nowhere(), &[TARGET]), "link", "no_carrier");
}

#[test]
fn there_is_no_such_interface() {
    expect(&explain(hosts().relay(), nowhere(), &["dev7:239.1.1.1:5001"]), "link", "link_missing");
}

#[test]
fn nobody_listens() {
    expect(&told_of_good(&hosts()), "socket", "nobody_listens");
}

#[test]
fn a_source_specific_group_is_asked_for_in_an_old_version() {
    let net = hosts();
    net.relay().sysctl("net/ipv4/conf/dev0/force_igmp_version", "2");
    let listener = socket(net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&listener, net.relay_input(), Ipv4Addr::new(232, 1, 1, 1));
    expect(&explain(net.relay(), nowhere(), &["dev0:232.1.1.1:5001"]), "igmp_version", "igmp_version");
}
