//! Packets for a relay that is served at the driver: XDP takes the frames before any packet socket sees them, so that what is said
//! of them comes from counters and tables.

use std::net::Ipv4Addr;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Frame, Topology};
use serde_json::Value;

use crate::service::Service;
use crate::stand::{GROUP, Pump, TARGET, expect, expect_nothing, explain, good, hosts, join, socket};

const OUT: &str = "lan1:239.2.2.2:6001";

struct Driven {
    net: Topology,
    service: Service,
}

impl Driven {
    fn new(from: &str, to: &str) -> Driven {
        Driven::on(hosts(), from, to)
    }

    fn on(net: Topology, from: &str, to: &str) -> Driven {
        let service = Service::start_on(Datapath::Xdp, net.relay(), "");
        service.ok(&["add", "camera", "--from", from, "--to", to]);
        Driven { net, service }
    }

    fn explain(&self, frame: &Frame, arguments: &[&str]) -> Value {
        let _pump = Pump::start(self.net.device_interface(), vec![frame.bytes()]);
        explain(self.net.relay(), &self.service.socket(), arguments)
    }
}

#[test]
fn nothing_is_wrong_although_nothing_is_seen() {
    let driven = Driven::new(TARGET, OUT);
    assert_eq!(driven.service.relay("camera")["datapath"], "xdp");
    let frame = Frame::udp(&format!("{DEVICE}:5000"), "239.1.1.1:5001", vec![1; 900]).ttl(1);
    let report = driven.explain(&frame, &["camera"]);
    expect_nothing(&report);
    let wire = report["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["step"] == "wire"));
    assert!(wire.is_some_and(|step| step["code"] == "taken_early"), "{report:#}");
}

#[test]
fn the_relay_takes_the_frames_from_a_socket() {
    let driven = Driven::new(TARGET, OUT);
    let listener = socket(driven.net.relay(), Ipv4Addr::UNSPECIFIED);
    join(&listener, driven.net.relay_input(), GROUP);
    expect(&driven.explain(&good(), &[TARGET]), "taken", "taken_by_relay");
    expect_nothing(&driven.explain(&good(), &["camera"]));
}

#[test]
fn no_relay_has_this_port() {
    expect(&Driven::new("dev0:239.1.1.1:5002", OUT).explain(&good(), &[TARGET]), "relay", "no_relay");
}

#[test]
fn the_relay_lists_another_source() {
    let driven = Driven::new("dev0:10.0.0.99@239.1.1.1:5001", OUT);
    expect(&driven.explain(&good(), &[TARGET]), "relay", "source_not_listed");
}

#[test]
fn the_output_has_a_small_mtu() {
    let net = hosts();
    net.lan(1).cable().set_mtu(600);
    let driven = Driven::on(net, TARGET, OUT);
    let large = Frame::udp("10.0.0.55:5000", "239.1.1.1:5001", vec![1; 1000]);
    expect(&driven.explain(&large, &["camera"]), "output", "output_mtu");
}

#[test]
fn the_output_is_down() {
    let driven = Driven::new(TARGET, OUT);
    driven.net.lan(1).relay_side().down();
    expect(&driven.explain(&good(), &["camera"]), "output", "output_down");
}

#[test]
fn the_ttl_is_too_small_for_the_way() {
    let driven = Driven::new(TARGET, "lan1:239.2.2.2:6001,ttl=2");
    expect(&driven.explain(&good(), &["camera", "--hops", "2"]), "output", "output_ttl");
}
