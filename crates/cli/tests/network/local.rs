//! Applications of the relay's own host as senders and receivers.

use std::net::Ipv4Addr;

use mcr_model::Datapath;
use mcr_testbed::{Topology, Veth};

use crate::service::Service;
use crate::traffic::{GROUP, Payloads, Receiver, Series, send};

for_each_datapath!(an_application_hears_an_output_through_a_pair_of_virtual_interfaces);

const SERIES: Series = Series { count: 2_000, smallest: 1, largest: 1400 };

fn an_application_hears_an_output_through_a_pair_of_virtual_interfaces(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let pair = Veth::between(net.relay(), "app0", net.relay(), "app1");
    pair.far().add_address("10.77.0.1/24");
    let service = Service::start_on(datapath, net.relay(), "");
    let outputs = ["app0:239.7.7.7:7001,source=10.77.0.9,ttl=1", "lan1:239.2.2.1:6001"];
    service.add("player", "dev0:239.1.1.1:5001", &outputs);
    let at = |port: &str| port.parse().expect("an address and port");
    let own = Ipv4Addr::new(10, 77, 0, 1);
    let application = Receiver::start(net.relay(), own, at("239.7.7.7:7001"), Payloads::Compare(SERIES));
    let lan = net.lan(1);
    let on_lan = Receiver::start(lan.namespace(), lan.host_address(), at("239.2.2.1:6001"), Payloads::Compare(SERIES));
    send(net.device(), mcr_testbed::DEVICE, GROUP, SERIES, 10_000);
    for (receiver, source, ttl) in [(application, "10.77.0.9", 1), (on_lan, "10.0.1.1", 16)] {
        let report = receiver.finish(SERIES.count);
        assert_eq!((report.count, &report.first_difference), (SERIES.count, &None), "{source}");
        assert!(matches!(report.headers[..], [(from, heard, 0)] if from.ip().to_string() == source && heard == ttl));
    }
    assert_eq!(service.assert_balance()["player"], SERIES.count);
}

/// By the two that can: the loopback has no driver for the third.
fn what_an_application_sends_on_the_loopback_is_relayed(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    net.relay().ip("route add 239.1.1.1 dev lo");
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("sensor", "lo:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().expect("an address and port");
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(SERIES));
    send(net.relay(), Ipv4Addr::LOCALHOST, GROUP, SERIES, 10_000);
    let report = receiver.finish(SERIES.count);
    assert_eq!((report.count, &report.first_difference), (SERIES.count, &None), "{:#}", service.relay("sensor"));
    assert!(matches!(report.headers[..], [(from, 16, 0)] if from.ip() == lan.relay_address()), "{:?}", report.headers);
    assert_eq!(service.assert_balance()["sensor"], SERIES.count);
}

#[test]
fn what_an_application_sends_on_the_loopback_is_relayed_by_packet() {
    what_an_application_sends_on_the_loopback_is_relayed(Datapath::Packet);
}

#[test]
fn what_an_application_sends_on_the_loopback_is_relayed_by_tcx() {
    what_an_application_sends_on_the_loopback_is_relayed(Datapath::Tcx);
}

#[test]
fn an_application_hears_the_input_beside_the_relay_and_an_output_to_the_host_itself_is_told() {
    let net = Topology::device_relay_lan(1);
    net.device().ip("address add 10.0.0.55/24 dev eth0");
    let own = Ipv4Addr::new(10, 0, 0, 1);
    let application = Receiver::start(net.relay(), own, GROUP, Payloads::Compare(SERIES));
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    assert_eq!(service.relay("camera")["datapath"], "packet", "which leaves the application its own");
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().expect("an address and port");
    let on_lan = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(SERIES));
    send(net.device(), Ipv4Addr::new(10, 0, 0, 55), GROUP, SERIES, 10_000);
    for receiver in [application, on_lan] {
        let report = receiver.finish(SERIES.count);
        assert_eq!((report.count, report.first_difference), (SERIES.count, None));
    }
    for to in ["lo:239.7.7.7:7001", "lan1:10.0.0.1:7001"] {
        service.ok(&["add", "back", "--from", "dev0:239.1.1.1:5001", "--to", to]);
        let back = service.relay("back");
        assert_eq!((&back["state"], &back["outputs"][0]["ok"]), (&"degraded".into(), &false.into()), "{back:#}");
        assert!(back["remedy"].as_str().is_some_and(|remedy| remedy.contains("veth pair")), "{back:#}");
        service.ok(&["rm", "back"]);
    }
    service.assert_balance();
}
