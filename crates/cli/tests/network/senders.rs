//! Who is heard: every source but some, broadcasts, and applications of the relay's own host.

use std::net::UdpSocket;
use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Frame, Mac, RawReceiver, RawSender, Tag, Topology, wait_until};

use crate::service::{SOON, Service};

for_each_datapath!(
    all_but_the_excluded_sources_are_relayed,
    prefixes_of_sources_are_relayed_and_their_group_is_joined_for_all
);

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

fn prefixes_of_sources_are_relayed_and_their_group_is_joined_for_all(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let config = r#"
        [[relay]]
        name = "plant"
        input = { interface = "dev0", group = "239.1.1.1", port = 5001, sources = ["192.168.168.64/26", "10.0.0.7", "172.16.0.0/12"] }
        output = [{ interface = "lan1", group = "239.2.2.1", port = 6001 }]
        [[relay]]
        name = "rest"
        input = { interface = "dev0", group = "239.1.1.2", port = 5001, exclude_sources = ["192.168.168.0/24"] }
        output = [{ interface = "lan1", group = "239.2.2.2", port = 6001 }]
    "#;
    let mut service = Service::start_on(datapath, net.relay(), config);
    for name in ["plant", "rest"] {
        service.wait_for_state(name, "ready", SOON);
    }
    assert_eq!(service.relay("plant")["datapath"], datapath.name());
    let joined = net.relay().output("cat", &["/proc/net/mcfilter"]);
    assert!(!joined.contains("0xef010101"), "the group is joined for every source: {joined}");
    let sender = RawSender::new(net.device_interface());
    let receiver = RawReceiver::new(net.lan(1).host_side());
    let send = |source: &str, group: &str| {
        sender.send(&Frame::udp(&format!("{source}:1"), &format!("{group}:5001"), source.as_bytes().to_vec()));
    };
    let heard = |sources: &[&str]| {
        sources.iter().for_each(|source| assert_eq!(receiver.next_udp(LIMIT).payload, source.as_bytes(), "{source}"));
    };
    for source in
        ["192.168.168.63", "192.168.168.64", "192.168.168.128", "10.0.0.6", "10.0.0.7", "172.32.0.0", "172.31.0.1"]
    {
        send(source, "239.1.1.1");
    }
    heard(&["192.168.168.64", "10.0.0.7", "172.31.0.1"]);
    for source in ["192.168.168.255", "192.168.169.0", "192.168.168.0"] {
        send(source, "239.1.1.2");
    }
    heard(&["192.168.169.0"]);
    let balance = service.assert_balance();
    assert_eq!((balance["plant"], balance["rest"]), (3, 1));

    // What another daemon left in the kernel's tables is understood.
    service.restart_after_kill(net.relay());
    for name in ["plant", "rest"] {
        service.ok(&["wait", name, "--for", "ready"]);
    }
    for source in ["192.168.168.200", "192.168.168.127"] {
        send(source, "239.1.1.1");
    }
    heard(&["192.168.168.127"]);
    assert!(receiver.try_next_udp(Duration::from_millis(50)).is_none());
}

#[test]
fn prefixes_that_can_not_be_are_refused_with_what_to_write() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    for (from, told) in [
        ("dev0:192.168.168.55/24@239.1.1.1:5001", "write 192.168.168.0/24"),
        ("dev0:10.0.0.0/8@232.1.1.1:5001", "list the sources one by one"),
        ("dev0:239.1.1.1:5001,source=0.0.0.0/0", "leave it out"),
        ("dev0:fd00::/64@239.1.1.1:5001", "different IP families"),
    ] {
        let told_of = service.refused(&["add", "bad", "--from", from, "--to", "lan1:239.2.2.1:6001"]);
        assert!(told_of.contains(told), "{from}: {told_of}");
    }
    service.add("range", "dev0:10.0.0.0/8@239.1.0.0/28:5001", &["lan1:239.2.0.0/28:6001"]);
    let taking = ["add", "one", "--to", "lan1:239.3.0.1:6001", "--from"];
    let fewer = service.refused(&[&taking[..], &["dev0:10.0.0.0/9@239.1.0.1:5001"]].concat());
    assert!(fewer.contains("does not accept every source"), "{fewer}");
    service.ok(&[&taking[..], &["dev0:10.0.0.0/9@239.1.0.1:5001,source=10.128.0.0/9"]].concat());
    assert_eq!(service.relay("one")["relay"]["input"]["sources"].as_array().unwrap().len(), 2);
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
