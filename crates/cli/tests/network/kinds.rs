//! Kinds of interfaces other than cables: each as an input and as an output.

use std::net::Ipv4Addr;
use std::time::Duration;

use mcr_testbed::{DEVICE, Frame, Tap, Topology};

use crate::service::{SOON, Service};
use crate::traffic::{Payloads, Receiver, Series, send};

/// How an interface `kind9` of some kind is made on top of one of the relay's, which stands for `ON`; and what its peer
/// has to be, if that is not the other end of the cable.
struct Kind {
    name: &'static str,
    relay: &'static str,
    peer: Option<&'static str>,
}

const KINDS: [Kind; 3] = [
    Kind { name: "bridge", relay: "link add kind9 type bridge mcast_snooping 0\nlink set ON master kind9", peer: None },
    Kind { name: "macvlan", relay: "link add link ON name kind9 type macvlan mode bridge", peer: None },
    Kind {
        name: "vxlan",
        relay: "link add kind9 type vxlan id 9 local LOCAL remote REMOTE dstport 4789 dev ON",
        peer: Some("link add kind9 type vxlan id 9 local REMOTE remote LOCAL dstport 4789 dev eth0"),
    },
];

impl Kind {
    /// Makes it in the relay's namespace on `on`, and its peer in `namespace`; the peer's interface.
    fn make(
        &self,
        net: &Topology,
        on: &str,
        namespace: &mcr_testbed::Namespace,
        [local, remote]: [&str; 2],
    ) -> &'static str {
        let fill = |text: &str| text.replace("ON", on).replace("LOCAL", local).replace("REMOTE", remote);
        net.relay().ip(&format!("{}\nlink set kind9 up\naddress add 10.9.9.1/24 dev kind9", fill(self.relay)));
        let Some(peer) = self.peer else { return "eth0" };
        namespace.ip(&format!("{}\nlink set kind9 up", fill(peer)));
        "kind9"
    }
}

#[test]
fn each_kind_is_an_output() {
    for kind in KINDS {
        let net = Topology::device_relay_lan(1);
        let lan = net.lan(1);
        let peer = kind.make(&net, "lan1", lan.namespace(), ["10.0.1.1", "10.0.1.2"]);
        lan.namespace().ip(&format!("address add 10.9.9.2/24 dev {peer}"));
        relayed(kind.name, &net, "dev0", "kind9", Ipv4Addr::new(10, 9, 9, 2));
    }
}

#[test]
fn each_kind_is_an_input() {
    for kind in KINDS {
        let net = Topology::device_relay_lan(1);
        net.device().ip("address add 10.0.0.2/24 dev eth0");
        let peer = kind.make(&net, "dev0", net.device(), ["10.0.0.1", "10.0.0.2"]);
        if peer != "eth0" {
            // What is sent from an address leaves where that is.
            net.device().ip(&format!("address del {DEVICE}/32 dev eth0\naddress add {DEVICE}/32 dev {peer}"));
            net.device().ip(&format!("route replace 224.0.0.0/4 dev {peer}"));
        }
        relayed(kind.name, &net, "kind9", "lan1", net.lan(1).host_address());
    }
}

/// Packets of the device are relayed from `input` to `output`, whole and each once.
fn relayed(kind: &str, net: &Topology, input: &str, output: &str, listener: Ipv4Addr) {
    let service = Service::start(net.relay(), "");
    service.add("camera", &format!("{input}:239.1.1.1:5001"), &[&format!("{output}:239.2.2.1:6001")]);
    let series = Series { count: 1_000, smallest: 100, largest: 1_200 };
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(net.lan(1).namespace(), listener, on, Payloads::Compare(series));
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), series, 10_000);
    let report = receiver.finish(series.count);
    let datapath = service.relay("camera")["datapath"].to_string();
    assert_eq!((report.count, report.first_difference), (series.count, None), "{kind} from {input}, by {datapath}");
    assert_eq!(service.assert_balance()["camera"], series.count, "{kind}");
    println!("{kind} as {}: by {datapath}", if input == "kind9" { "an input" } else { "an output" });
}

/// What a virtual machine sends is relayed, and what is relayed comes to a virtual machine; the driver's program is left out.
#[test]
fn a_tap_is_an_input_and_an_output() {
    let net = Topology::device_relay_lan(0);
    let [from, to] = ["tap1", "tap2"].map(|name| Tap::new(net.relay(), name));
    from.interface().add_address("10.0.8.1/24");
    to.interface().add_address("10.0.9.1/24");
    let service = Service::start(net.relay(), "");
    service.add("machine", "tap1:239.1.1.1:5001", &["tap2:239.2.2.1:6001"]);
    let relay = service.relay("machine");
    assert_eq!(relay["datapath"], "tcx", "{relay:#}");
    assert!(relay.to_string().contains("tap1 is a tap"), "{relay:#}");
    for number in 0..100_u8 {
        from.send(&Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", vec![number; 200]));
        let seen = to.next_udp(Duration::from_secs(2)).unwrap_or_else(|| panic!("{number} was not relayed"));
        let addresses = (seen.source.to_string(), seen.destination.to_string());
        assert_eq!(addresses, ("10.0.9.1:4000".to_owned(), "239.2.2.1:6001".to_owned()));
        assert_eq!(seen.payload, [number; 200]);
        assert!(seen.udp_checksum_is_right);
    }
    assert_eq!(service.assert_balance()["machine"], 100);
}

#[test]
fn a_tun_is_refused_with_the_reason() {
    let net = Topology::device_relay_lan(1);
    net.relay().ip("tuntap add dev tun9 mode tun\nlink set tun9 up\naddress add 10.0.9.1/24 dev tun9");
    let service = Service::start(net.relay(), "");
    for (name, from, to) in [("in", "tun9", "lan1"), ("out", "dev0", "tun9")] {
        let (from, to) = (format!("{from}:239.1.1.1:5001"), format!("{to}:239.2.2.1:6001"));
        service.refused(&["add", name, "--from", &from, "--to", &to]);
        service.wait_for_state(name, "failed", SOON);
        let relay = service.relay(name);
        let side = if name == "in" { "input" } else { "output" };
        let reason = format!("frames of {side} interface tun9 have no Ethernet header");
        assert!(relay["reason"].as_str().unwrap().contains(&reason), "{relay:#}");
        assert!(relay["remedy"].as_str().unwrap().contains("tap"), "{relay:#}");
    }
}
