//! One relay for a prefix of groups and a range of ports: each group and port has its own on the other side, or all have
//! one; and a relay that names one of them more exactly takes that.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, DEVICE6, Process, RawReceiver, Sender, Topology, kernel, wait_until};

use crate::service::{MCR, SOON, Service};
use crate::traffic::{Payloads, Receiver, Series, send};

for_each_datapath!(each_group_and_port_has_its_own, a_range_outlives_the_daemon_and_counts_on,);

const GROUPS: u8 = 16;
const PORTS: u16 = 4;
const PAIRS: usize = GROUPS as usize * PORTS as usize;

/// One datagram to each group and port, which says in its payload where it was sent to.
fn send_to_each(net: &Topology) {
    for (group, port) in pairs() {
        let to = format!("239.1.0.{group}:{}", 5000 + port);
        Sender::new(net.device(), &to).ttl(1).send_payloads(&[format!("{group} {port}")]);
    }
}

fn pairs() -> impl Iterator<Item = (u8, u16)> {
    (0..GROUPS).flat_map(|group| (0..PORTS).map(move |port| (group, port)))
}

/// Where the datagrams to each group and port went, for all that come.
fn heard(receiver: &RawReceiver, count: usize) -> BTreeMap<(u8, u16), SocketAddr> {
    let frames = (0..count).map(|_| receiver.next_udp(Duration::from_secs(3)));
    let heard = frames.map(|frame| {
        let text = String::from_utf8(frame.payload).expect("text");
        let (group, port) = text.split_once(' ').expect("two numbers");
        ((group.parse().expect("a group"), port.parse().expect("a port")), frame.destination)
    });
    heard.collect()
}

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn joined(net: &Topology) -> usize {
    let of_range = |group: &Ipv4Addr| group.octets()[..3] == [239, 1, 0];
    kernel::joined_groups(net.relay(), "dev0").iter().filter(|group| of_range(group)).count()
}

fn each_group_and_port_has_its_own(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    let service = Service::start_on(datapath, net.relay(), "");
    let to = ["lan1:239.2.0.16/28:6000-6003,ttl=9", "lan2:239.3.0.1:7000"];
    service.add("plant", "dev0:239.1.0.0/28:5000-5003", &to);
    service.add("one", "dev0:239.1.0.5:5002", &["lan1:239.9.9.9:9000"]);
    assert_eq!(joined(&net), usize::from(GROUPS));
    assert_eq!(service.relay("plant")["datapath"], datapath.name(), "{:#}", service.relay("plant"));
    let receivers = [1, 2].map(|lan| RawReceiver::new(net.lan(lan).host_side()));

    send_to_each(&net);
    for (group, port) in ["239.1.0.16:5000", "239.1.0.3:5004"].map(|to| (to, "out 0")) {
        Sender::new(net.device(), group).ttl(1).send_payloads(&[port]);
    }
    let mapped = |(group, port): (u8, u16)| end(&format!("239.2.0.{}:{}", group + 16, port + 6000));
    let mut expected: BTreeMap<_, _> = pairs().map(|pair| (pair, mapped(pair))).collect();
    expected.insert((5, 2), end("239.9.9.9:9000"));
    assert_eq!(heard(&receivers[0], PAIRS), expected);
    let into_one = heard(&receivers[1], PAIRS - 1);
    assert!(
        !into_one.contains_key(&(5, 2)) && into_one.values().all(|to| *to == end("239.3.0.1:7000")),
        "{into_one:?}"
    );
    let balance = service.assert_balance();
    assert_eq!((balance["plant"], balance["one"]), (PAIRS as u64 - 1, 1));

    service.ok(&["rm", "one"]);
    send_to_each(&net);
    expected.insert((5, 2), mapped((5, 2)));
    assert_eq!(heard(&receivers[0], PAIRS), expected, "the range has all of it again");
    assert_eq!(heard(&receivers[1], PAIRS).len(), PAIRS);
    assert_eq!(service.assert_balance()["plant"], 2 * PAIRS as u64 - 1);
    service.ok(&["rm", "plant"]);
    assert_eq!(joined(&net), 0);
}

fn a_range_outlives_the_daemon_and_counts_on(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let config = r#"
        [[relay]]
        name = "plant"
        input = { interface = "dev0", group = "239.1.0.0/28", port = "5000-5003" }
        output = [{ interface = "lan1", group = "239.2.0.0/28", port = "6000-6003" }]
    "#;
    let mut service = Service::start_on(datapath, net.relay(), config);
    service.ok(&["wait", "plant", "--for", "ready"]);
    let receiver = RawReceiver::new(net.lan(1).host_side());
    send_to_each(&net);
    assert_eq!(heard(&receiver, PAIRS).len(), PAIRS);
    let before = service.assert_balance()["plant"];
    service.kill();
    service.start_again(net.relay());
    service.ok(&["wait", "plant", "--for", "ready"]);
    wait_until(SOON, "its datapath", || service.relay("plant")["datapath"] == datapath.name());
    assert_eq!(joined(&net), usize::from(GROUPS));
    send_to_each(&net);
    assert_eq!(heard(&receiver, PAIRS).len(), PAIRS);
    let counted = match datapath {
        // Its counters are the daemon's.
        Datapath::Packet => PAIRS as u64,
        Datapath::Tcx | Datapath::Xdp => before + PAIRS as u64,
    };
    assert_eq!(service.assert_balance()["plant"], counted);
}

#[test]
fn between_the_families() {
    for datapath in [Datapath::Packet, Datapath::Tcx] {
        let net = Topology::device_relay_lan(2).with_ipv6();
        let service = Service::start_on(datapath, net.relay(), "");
        let to = ["lan1:239.2.0.4/30:6000-6001", "lan2:[ff3e::2:8/126]:7000"];
        service.add("six", "dev0:[ff3e::1:0/126]:5000-5001", &to);
        let series = Series { count: 200, smallest: 1, largest: 1400 };
        let receive = |lan: usize, on: &str| {
            Receiver::start(net.lan(lan).namespace(), net.lan(lan).host_address(), end(on), Payloads::Compare(series))
        };
        let (four, six) = (receive(1, "239.2.0.7:6001"), receive(2, "[ff3e::2:b]:7000"));
        send(net.device(), DEVICE6, end("[ff3e::1:3]:5001"), series, 10_000);
        for report in [four.finish(series.count), six.finish(series.count)] {
            assert_eq!((report.count, report.first_difference), (series.count, None), "{datapath}");
        }
        assert_eq!(service.assert_balance()["six"], series.count);
    }
}

/// The kernel's tables have room for a part of it: all of it is served elsewhere, and nothing twice.
#[test]
fn a_range_that_finds_no_room_in_the_kernel_takes_none() {
    let net = Topology::device_relay_lan(2);
    let folder = tempfile::tempdir().unwrap();
    let (socket, policy) = (folder.path().join("netd.sock"), folder.path().join("policy.toml"));
    std::fs::write(&policy, "[tables]\noutputs = 100\n").unwrap();
    let mut keeper = net.relay().command(std::path::Path::new(MCR).with_file_name("mcr-netd"));
    let _keeper = Process::start(keeper.arg("--socket").arg(&socket).arg("--policy").arg(&policy));
    wait_until(SOON, "the keeper listens", || socket.exists());
    let service = Service::start_with(net.relay(), "", &["--keeper-socket", socket.to_str().unwrap()]);
    let to = ["lan1:239.2.0.0/28:6000-6031", "lan2:239.3.0.1:7000"];
    service.add("plant", "dev0:239.1.0.0/28:5000-5031", &to);
    let relay = service.relay("plant");
    assert_eq!(relay["datapath"], "packet");
    assert!(relay["datapath_reason"].as_str().unwrap().contains("table of outputs is full"), "{relay:#}");
    let receivers = [1, 2].map(|lan| RawReceiver::new(net.lan(lan).host_side()));
    send_to_each(&net);
    for receiver in receivers {
        assert_eq!(heard(&receiver, PAIRS).len(), PAIRS);
        assert!(receiver.try_next_udp(Duration::from_millis(100)).is_none(), "one copy of each");
    }
    assert_eq!(service.assert_balance()["plant"], PAIRS as u64);
    // What was taken back has left room.
    service.add("one", "dev0:239.4.0.1:5000", &["lan1:239.4.0.2:6000"]);
    assert_ne!(service.relay("one")["datapath"], "packet");
}

#[test]
fn what_does_not_fit_is_refused_and_explain_finds_the_range() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let refused = |name: &str, from: &str, to: &str| {
        let output = service.mcr(&["add", name, "--from", from, "--to", to]);
        assert!(!output.status.success(), "{from} {to}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (from, to, told) in [
        ("dev0:239.1.0.0/24:5000-5016", "lan1:239.2.0.0/24:5000-5016", "256 groups × 17 ports: 4352 pairs"),
        ("dev0:239.1.0.0/24:5000", "lan1:239.2.0.0/25:5000", "write a prefix of length 24, or one group for all"),
        ("dev0:239.1.0.0/24:5000", "lan1:239.2.0.0/24:5000-5001", "write one port"),
        ("dev0:239.1.0.5/24:5000", "lan1:239.2.0.0/24:5000", "begins at 239.1.0.0"),
        ("dev0:239.1.0.0/24:5010-5000", "lan1:239.2.0.0/24:5000", "end before they begin"),
        ("dev0:10.1.0.0/24:5000", "lan1:239.2.0.0/24:5000", "a prefix is for groups"),
        ("dev0:239.1.0.0/24:300-330", "lan1:239.2.0.0/24:300-330", "port 319 is PTP"),
        ("dev0:224.0.0.0/24:5000", "lan1:239.2.0.0/24:5000", "link-local"),
    ] {
        let error = refused("bad", from, to);
        assert!(error.contains(told), "{from} {to}: {error}");
    }
    service.ok(&["add", "range", "--from", "dev0:239.1.0.0/24:5000-5003", "--to", "lan1:239.2.0.0/24:6000-6003"]);
    let error = refused("other", "dev0:239.1.0.0/24:5003-5005", "lan1:239.3.0.0/24:6003-6005");
    assert!(error.contains("relay other") && error.contains("relay range"), "{error}");
    let added = service.ok(&["add", "exact", "--from", "dev0:239.1.0.9:5001", "--to", "lan1:239.9.0.9:6001"]);
    assert!(added.ends_with("  239.1.0.9:5001 is taken from relay range\n"), "{added}");
    assert!(service.ok(&["show", "range"]).contains("\n            239.1.0.9:5001 is left to relay exact\n"));
    let left_to = serde_json::json!([{ "relay": "exact", "what": "239.1.0.9:5001", "pairs": 1 }]);
    assert_eq!(service.relay("range")["left_to"], left_to);
    send(net.device(), DEVICE, end("239.1.0.8:5001"), Series::of(10, 200), 1_000);
    let explain =
        |of: &str| String::from_utf8_lossy(&service.mcr(&["explain", of, "--look", "100ms"]).stdout).into_owned();
    let explained = explain("dev0:239.1.0.8:5001");
    assert!(explained.contains("range takes them") && !explained.contains("exact takes them"), "{explained}");
    let explained = explain("dev0:239.1.0.9:5001");
    assert!(explained.contains("exact takes them") && !explained.contains("range takes them"), "{explained}");
    let whole = service.mcr(&["explain", "range"]);
    let refused = String::from_utf8_lossy(&whole.stderr);
    let (told, one) = ("one of them is explained at a time", "as `mcr explain dev0:239.1.0.0:5000`");
    assert!(refused.contains(told) && refused.contains(one), "{whole:?}");
}
