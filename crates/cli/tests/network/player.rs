//! `mcr send --source` plays the device: packets from an address that its host does not have and nobody has a route to.

use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{Process, RawReceiver, Topology};
use serde_json::Value;

use crate::service::{MCR, SOON, Service};

#[test]
fn a_host_plays_a_device_and_the_relay_carries_it() {
    let net = Topology::device_relay_lan(1);
    // What the driver takes, nobody else sees.
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.add("device", "dev0:172.31.7.7@239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let wire = RawReceiver::new(net.relay_input());
    let lan = net.lan(1);
    let to = format!("{}:239.2.2.1:6001", lan.host_side().name());
    let mut listen = lan.namespace().command(MCR);
    listen.args(["listen", &to, "--count", "1000", "--timeout", "3s", "-o", "json"]);
    let mut listener = Process::start(&mut listen);
    listener.wait_for_line("the group is joined", SOON);
    let from = format!("{}:239.1.1.1:5001,source-port=4000,dscp=34", net.device_interface().name());
    let arguments = ["send", &from, "--source", "172.31.7.7", "--count", "1000", "--rate", "5k", "--ttl", "1"];
    let sent = net.device().command(MCR).args(arguments).output().expect("run mcr");
    assert!(sent.status.success(), "{sent:?}");
    let seen = wire.next_udp(SOON);
    assert_eq!(seen.source, "172.31.7.7:4000".parse().unwrap());
    assert_eq!((seen.ttl, seen.traffic_class, seen.ip_checksum_is_right), (1, 34 << 2, true));
    assert!(listener.wait(Duration::from_secs(10)).success(), "{}", listener.output());
    let output = listener.output();
    let summary = output.lines().find(|line| line.starts_with('{')).expect("a summary");
    let summary: Value = serde_json::from_str(summary).expect("JSON");
    assert_eq!((&summary["received_packets"], &summary["lost_packets"]), (&1000.into(), &0.into()), "{summary}");
    assert_eq!(service.assert_balance()["device"], 1000);
}
