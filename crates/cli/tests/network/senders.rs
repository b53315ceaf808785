//! Who is heard: every source but some, broadcasts, and applications of the relay's own host.

use std::net::UdpSocket;
use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Frame, Mac, RawReceiver, RawSender, Tag, Topology, wait_until};

use crate::service::{SOON, Service};

for_each_datapath!(all_but_the_excluded_sources_are_relayed);

const LIMIT: Duration = Duration::from_secs(2);

fn all_but_the_excluded_sources_are_relayed(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001,exclude=192.168.168.99", &["lan1:239.2.2.1:6001,vlan=7,priority=6"]);
    let sender = RawSender::new(net.device_interface());
    let receiver = RawReceiver::new(net.lan(1).host_side());
    let from = |source: &str| Frame::udp(source, "239.1.1.1:5001", source.as_bytes().to_vec());
    for source in ["192.168.168.99:1", "192.168.168.55:1", "192.168.168.99:2", "10.9.8.7:3"] {
        sender.send(&from(source));
    }
    for source in ["192.168.168.55:1", "10.9.8.7:3"] {
        let seen = receiver.next_udp(LIMIT);
        assert_eq!(
            (seen.payload.as_slice(), seen.tags.as_slice()),
            (source.as_bytes(), &[Tag::with_priority(7, 6)][..])
        );
    }
    assert_eq!(service.assert_balance()["camera"], 2);
    let refused = || {
        let interfaces = service.http("GET", "/api/v1/interfaces", "").1;
        let input = interfaces["interfaces"].as_array()?.iter().find(|interface| interface["name"] == "dev0")?.clone();
        input["unattributed"]["source_not_listed"].as_u64()
    };
    wait_until(SOON, "excluded packets are counted on the input", || refused() == Some(2));
    let joined = net.relay().output("cat", &["/proc/net/mcfilter"]);
    assert!(!joined.contains("0xef010101"), "the group is joined for every source: {joined}");
}

/// `xdp` takes groups only.
#[test]
fn broadcasts_are_relayed_where_that_is_meant() {
    for datapath in [Datapath::Packet, Datapath::Tcx] {
        let net = Topology::device_relay_lan(1);
        let service = Service::start_on(datapath, net.relay(), "");
        let to = ["--to", "lan1:239.2.2.1:6001"];
        let relay = [&["add", "news", "--from", "dev0:255.255.255.255:5001"], &to[..]].concat();
        assert!(service.refused(&relay).contains("set broadcast = true"));
        service.ok(&[&relay[..], &["--broadcast"]].concat());
        service.wait_for_state("news", "ready", SOON);
        let receiver = RawReceiver::new(net.lan(1).host_side());
        let frame = Frame::udp("192.168.168.55:4000", "255.255.255.255:5001", b"to all".to_vec());
        RawSender::new(net.device_interface()).send(&frame.destination_mac(Mac::BROADCAST));
        let seen = receiver.next_udp(LIMIT);
        assert_eq!(
            (seen.payload.as_slice(), seen.destination.to_string().as_str()),
            (&b"to all"[..], "239.2.2.1:6001")
        );
        assert_eq!(service.assert_balance()["news"], 1);
    }
}

/// An application beside the relay gets what it listens to, and so does the relay: `auto` leaves it to `packet` then.
#[test]
fn an_application_of_the_same_host_goes_on_hearing_the_group() {
    let net = Topology::device_relay_lan(1);
    net.relay_input().add_route(&format!("{DEVICE}/32"));
    let socket = net.relay().run(|| {
        let socket = UdpSocket::bind("0.0.0.0:5001").expect("a socket");
        socket.join_multicast_v4(&[239, 1, 1, 1].into(), &[10, 0, 0, 1].into()).expect("join");
        socket.set_read_timeout(Some(LIMIT)).expect("a timeout");
        socket
    });
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let why = "not tcx: an application of this host listens to UDP port 5001 and would get nothing";
    wait_until(SOON, "packet serves", || service.relay("camera")["datapath_reason"] == why);
    let receiver = RawReceiver::new(net.lan(1).host_side());
    RawSender::new(net.device_interface()).send(&Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", b"both".to_vec()));
    assert_eq!(receiver.next_udp(LIMIT).payload, b"both");
    let mut heard = [0; 16];
    let count = socket.recv(&mut heard).expect("the application hears it, too");
    assert_eq!(&heard[..count], b"both");
}

/// Nothing is said to be sent that comes to nobody.
#[test]
fn an_output_to_the_host_itself_is_told_as_failing() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    for (name, to, why) in [
        ("loop", "lo:239.2.2.2:6001", "lo leads to no application"),
        ("back", "lan1:10.0.1.1:6001", "10.0.1.1 is an address of this host"),
    ] {
        service.ok(&["add", name, "--from", "dev0:239.1.1.1:5001", "--to", to]);
        let output = || service.relay(name)["outputs"][0].clone();
        wait_until(SOON, "the output is known to fail", || {
            output()["reason"].as_str().is_some_and(|reason| reason.contains(why))
        });
        assert_eq!(output()["ok"], false);
    }
    RawSender::new(net.device_interface()).send(&Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", b"x".to_vec()));
    let dropped = |name: &str| service.relay(name)["outputs"][0]["dropped_packets"].as_u64();
    wait_until(SOON, "both drop it by name", || dropped("loop") == Some(1) && dropped("back") == Some(1));
    service.assert_balance();
}
