//! IPv6, and the way between the families: the main job, memberships, and what an output without an address says.

use std::net::{SocketAddr, SocketAddrV6};

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, DEVICE6, Switch, Topology, wait_for_state, wait_until};

use crate::service::{SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Report, Series, send};

for_each_datapath!(
    an_unroutable_sender_of_ipv6_with_checksum_offload,
    an_unroutable_sender_of_ipv6_without_checksum_offload,
    from_ipv4_to_both,
    a_unicast_host_of_ipv6_gets_its_copy,
);

const GROUP6: &str = "[ff3e::1:1]:5001";

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn receiver(net: &Topology, lan: usize, on: &str, series: Series) -> Receiver {
    let lan = net.lan(lan);
    Receiver::start(lan.namespace(), lan.host_address(), end(on), Payloads::Compare(series))
}

#[track_caller]
fn assert_whole(report: &Report, series: Series, service: &Service) {
    assert_eq!(report.first_difference, None, "{:?}", report.headers);
    assert_eq!(report.count, series.count, "{:#}", service.relay("camera"));
}

/// To IPv6 with every header set, to IPv6 with none, and to IPv4.
fn relay_ipv6(datapath: Datapath, checksum_offload: Switch) {
    let net = Topology::device_relay_lan(3).with_ipv6();
    net.input().offload_sending(checksum_offload);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add(
        "camera",
        &format!("dev0:[{DEVICE6}]@{GROUP6}"),
        &[
            "lan1:[ff3e::2:1]:6001,ttl=3,dscp=34,source=fd00:1::77,source-port=7777",
            "lan2:[ff3e::2:2]:6002",
            "lan3:239.2.2.3:6003,ttl=5",
        ],
    );
    // The smallest and the largest that fits; IPv4 has room for more.
    let series = Series { count: 20_000, smallest: 1, largest: 1452 };
    let receivers = [(1, "[ff3e::2:1]:6001"), (2, "[ff3e::2:2]:6002"), (3, "239.2.2.3:6003")]
        .map(|(lan, on)| receiver(&net, lan, on, series));
    send(net.device(), DEVICE6, end(GROUP6), series, 10_000);
    let reports = receivers.map(|receiver| receiver.finish(series.count));
    reports.iter().for_each(|report| assert_whole(report, series, &service));
    assert_eq!(reports[0].headers, [(end("[fd00:1::77]:7777"), 3, 136)]);
    let [(two, 16, 0)] = reports[1].headers[..] else { panic!("{:?}", reports[1].headers) };
    let [(three, 5, 0)] = reports[2].headers[..] else { panic!("{:?}", reports[2].headers) };
    assert_eq!(two.ip(), net.lan(2).relay_ipv6(), "the output's own address, unless told otherwise");
    assert_eq!(three.ip(), net.lan(3).relay_address());
    assert_eq!(two.port(), three.port(), "the sender's port is kept");
    assert_eq!(service.assert_balance()["camera"], series.count);
    let relay = service.relay("camera");
    let bytes = |at: usize| relay["outputs"][at]["sent"]["bytes"].as_u64().expect("bytes");
    assert_eq!(relay["received"]["bytes"], bytes(0), "{relay:#}");
    assert_eq!(bytes(1) - bytes(2), 20 * series.count, "an IPv4 header is shorter");
}

fn an_unroutable_sender_of_ipv6_with_checksum_offload(datapath: Datapath) {
    relay_ipv6(datapath, Switch::On);
}

fn an_unroutable_sender_of_ipv6_without_checksum_offload(datapath: Datapath) {
    relay_ipv6(datapath, Switch::Off);
}

fn from_ipv4_to_both(datapath: Datapath) {
    for checksum_offload in [Switch::On, Switch::Off] {
        let net = Topology::device_relay_lan(2).with_ipv6();
        net.input().offload_sending(checksum_offload);
        let service = Service::start_on(datapath, net.relay(), "");
        service.add("camera", "dev0:239.1.1.1:5001", &["lan1:[ff3e::2:1]:6001,dscp=46", "lan2:239.2.2.2:6002"]);
        let series = Series { count: 10_000, smallest: 1, largest: 1452 };
        let six = receiver(&net, 1, "[ff3e::2:1]:6001", series);
        let four = receiver(&net, 2, "239.2.2.2:6002", series);
        send(net.device(), DEVICE, GROUP, series, 10_000);
        let six = six.finish(series.count);
        assert_whole(&six, series, &service);
        assert_whole(&four.finish(series.count), series, &service);
        let [(from, 16, 184)] = six.headers[..] else { panic!("{:?}", six.headers) };
        assert_eq!(from.ip(), net.lan(1).relay_ipv6());
        assert_eq!(service.assert_balance()["camera"], series.count);
    }
}

fn a_unicast_host_of_ipv6_gets_its_copy(datapath: Datapath) {
    let net = Topology::device_relay_lan(1).with_ipv6();
    let service = Service::start_on(datapath, net.relay(), "");
    let to = SocketAddrV6::new(net.lan(1).host_ipv6(), 7001, 0, 0).to_string();
    service.add("camera", &format!("dev0:{GROUP6}"), &[&format!("lan1:{to}")]);
    service.wait_for_state("camera", "ready", SOON);
    let series = Series { count: 2_000, smallest: 100, largest: 1400 };
    let receiver = receiver(&net, 1, &to, series);
    send(net.device(), DEVICE6, end(GROUP6), series, 10_000);
    assert_whole(&receiver.finish(series.count), series, &service);
    service.assert_balance();
}

/// The groups that an interface is in, as the kernel tells.
fn joined(net: &Topology, list: &str) -> String {
    net.relay().output("cat", &[&format!("/proc/net/{list}")])
}

#[test]
fn a_membership_is_held_while_the_relay_lives_and_by_source_when_it_lists_some() {
    let net = Topology::device_relay_lan(1).with_ipv6();
    let service = Service::start(net.relay(), "");
    let any = "ff3e0000000000000000000000010001";
    let from = "ff35000000000000000000008000abcd";
    service.add("any", &format!("dev0:{GROUP6}"), &["lan1:[ff3e::2:1]:6001"]);
    service.add("specific", "dev0:[fd00:dead::55]@[ff35::8000:abcd]:5001", &["lan1:[ff3e::2:2]:6001"]);
    let look = || joined(&net, "igmp6");
    wait_for_state(SOON, "both groups", look, |groups| groups.contains(any) && groups.contains(from));
    // Interface, group, source, and how many sockets include and exclude it.
    let sources = joined(&net, "mcfilter6");
    let of_group: Vec<&str> = sources.lines().filter(|line| line.contains(from)).collect();
    assert!(
        matches!(of_group[..], [line] if line.contains("fd00dead000000000000000000000055") && line.ends_with("1      0")),
        "{sources}"
    );
    service.ok(&["rm", "any"]);
    service.ok(&["rm", "specific"]);
    wait_for_state(SOON, "neither group", look, |groups| !groups.contains(any) && !groups.contains(from));
}

#[test]
fn an_output_without_an_address_says_so_and_goes_on_when_it_has_one() {
    let net = Topology::device_relay_lan(1).with_ipv6();
    let (relay, lan) = (net.relay(), net.lan(1));
    relay.ip("address flush dev lan1 to fd00:1::/64");
    let service = Service::start(relay, "");
    service.ok(&["add", "camera", "--from", &format!("dev0:{GROUP6}"), "--to", "lan1:[ff3e::2:1]:6001"]);
    let says = |what: &str| {
        let look = || service.relay("camera")["outputs"][0].to_string();
        wait_for_state(SOON, what, look, |output| output.contains(what));
    };
    says("only link-local IPv6 addresses");
    // While it is being checked, an address is not used.
    for scope in ["all", "lan1"] {
        relay.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "1");
    }
    relay.sysctl("net/ipv6/conf/lan1/dad_transmits", "200");
    relay.ip("address add fd00:1::7/64 dev lan1");
    says("still being checked for a duplicate");
    relay.ip("address delete fd00:1::7/64 dev lan1");
    relay.ip("address add fd00:1::8/64 dev lan1 nodad");
    wait_until(SOON, "an address to send from", || service.relay("camera")["outputs"][0]["source"] == "fd00:1::8");
    let series = Series { count: 100, smallest: 1, largest: 1400 };
    let receiver = receiver(&net, 1, "[ff3e::2:1]:6001", series);
    send(net.device(), DEVICE6, end(GROUP6), series, 1_000);
    let report = receiver.finish(series.count);
    assert_whole(&report, series, &service);
    assert!(
        report.headers.iter().all(|(from, ..)| *from == end(&format!("[fd00:1::8]:{}", from.port()))),
        "{report:?}"
    );
    lan.cable().set_mtu(1279);
    says("below 1280");
}
