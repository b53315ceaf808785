//! The main job: what a device with an unroutable address sends arrives on the other side, whole, in order, byte for
//! byte, with the headers that were asked for.

use std::net::SocketAddr;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Switch, Topology};

use crate::service::Service;
use crate::traffic::{GROUP, Payloads, Receiver, Report, Series, send};

for_each_datapath!(
    a_hundred_thousand_mixed_packets_to_three_outputs_with_checksum_offload,
    a_hundred_thousand_mixed_packets_to_three_outputs_without_checksum_offload,
    two_tests_listen_to_one_device_and_one_leaves,
    a_unicast_host_gets_its_copy,
    a_slow_output_costs_the_others_nothing,
);

fn lan_group(lan: usize) -> SocketAddr {
    format!("239.2.2.{lan}:600{lan}").parse().expect("an address")
}

/// The relay of these tests: three outputs with headers of their own.
fn add_three(service: &Service) {
    service.add(
        "camera",
        "dev0:192.168.168.55@239.1.1.1:5001",
        &[
            "lan1:239.2.2.1:6001,ttl=3,dscp=34",
            "lan2:239.2.2.2:6002,source=10.0.2.77,source-port=7777",
            "lan3:239.2.2.3:6003",
        ],
    );
}

fn relay_to_three(datapath: Datapath, checksum_offload: Switch) {
    let net = Topology::device_relay_lan(3);
    // Jumbo frames are not for the driver.
    let mtu = if datapath == Datapath::Xdp { 1500 } else { 9000 };
    net.input().set_mtu(mtu);
    net.input().offload_sending(checksum_offload);
    net.lans().iter().for_each(|lan| lan.cable().set_mtu(mtu));
    let service = Service::start_on(datapath, net.relay(), "");
    add_three(&service);

    let series = Series { count: 100_000, smallest: 1, largest: mtu as usize - 28 };
    let receivers: Vec<Receiver> = (1..=3)
        .map(|i| {
            let lan = net.lan(i);
            Receiver::start(lan.namespace(), lan.host_address(), lan_group(i), Payloads::Compare(series))
        })
        .collect();
    // Three receivers that compare every byte share two cores with the relay: 45 MB/s each is what they can take.
    send(net.device(), DEVICE, GROUP, series, 10_000);
    let reports: Vec<Report> = receivers.into_iter().map(|receiver| receiver.finish(series.count)).collect();
    for (i, report) in reports.iter().enumerate() {
        assert_eq!(report.first_difference, None, "lan {}", i + 1);
        assert_eq!(report.count, series.count, "lan {}: {:#}", i + 1, service.relay("camera"));
    }
    let [(one, 3, 136), ..] = reports[0].headers[..] else { panic!("{:?}", reports[0].headers) };
    assert_eq!(one.ip(), net.lan(1).relay_address(), "the output's own address, unless told otherwise");
    let [(two, 16, 0)] = reports[1].headers[..] else { panic!("{:?}", reports[1].headers) };
    assert_eq!(two, "10.0.2.77:7777".parse().unwrap());
    let [(three, 16, 0)] = reports[2].headers[..] else { panic!("{:?}", reports[2].headers) };
    assert_eq!(three.port(), one.port(), "the sender's port is kept");
    assert_eq!(service.assert_balance()["camera"], series.count);
    let relay = service.relay("camera");
    assert!(relay["outputs"].as_array().unwrap().iter().all(|output| output["dropped_packets"] == 0), "{relay:#}");
}

fn a_hundred_thousand_mixed_packets_to_three_outputs_with_checksum_offload(datapath: Datapath) {
    relay_to_three(datapath, Switch::On);
}

fn a_hundred_thousand_mixed_packets_to_three_outputs_without_checksum_offload(datapath: Datapath) {
    relay_to_three(datapath, Switch::Off);
}

fn two_tests_listen_to_one_device_and_one_leaves(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("first", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let add = |name: &str, to: &str| {
        service.ok(&["add", name, "--from", "dev0:239.1.1.1:5001", "--to", to]);
        service.ok(&["wait", name, "--for", "ready"]);
        for relay in ["first", name].map(|name| service.relay(name)) {
            match datapath {
                // It has one list of copies for each destination.
                Datapath::Xdp => assert_eq!(
                    (relay["datapath"].as_str(), relay["datapath_reason"].as_str()),
                    (Some("tcx"), Some("not xdp: another relay takes the same packets"))
                ),
                Datapath::Packet | Datapath::Tcx => assert_eq!(relay["datapath"], datapath.name()),
            }
        }
    };
    add("second", "lan2:239.2.2.2:6002");
    let series = Series { count: 40_000, smallest: 1, largest: 1400 };
    let stays =
        Receiver::start(net.lan(1).namespace(), net.lan(1).host_address(), lan_group(1), Payloads::Compare(series));
    let leaves = Receiver::start(net.lan(2).namespace(), net.lan(2).host_address(), lan_group(2), Payloads::Count);
    std::thread::scope(|scope| {
        scope.spawn(|| send(net.device(), DEVICE, GROUP, series, 20_000));
        while leaves.count() < 5_000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        service.ok(&["rm", "second"]);
        assert_eq!(service.relay("first")["datapath"], datapath.name());
        add("third", "lan2:239.2.2.3:6003");
    });
    let stayed = stays.finish(series.count);
    assert_eq!((stayed.count, stayed.first_difference), (series.count, None));
    assert!(leaves.finish(0).count < series.count, "it left in the middle");
    assert_eq!(service.assert_balance()["first"], series.count);
}

fn a_unicast_host_gets_its_copy(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    let to: SocketAddr = format!("{}:7001", net.lan(1).host_address()).parse().unwrap();
    service.add("camera", "dev0:239.1.1.1:5001", &[&format!("lan1:{to}")]);
    service.wait_for_state("camera", "ready", crate::service::SOON);
    let series = Series { count: 2_000, smallest: 100, largest: 1400 };
    let receiver = Receiver::start(net.lan(1).namespace(), net.lan(1).host_address(), to, Payloads::Compare(series));
    send(net.device(), DEVICE, GROUP, series, 10_000);
    let report = receiver.finish(series.count);
    assert_eq!((report.count, report.first_difference), (series.count, None));
    service.assert_balance();
}

fn a_slow_output_costs_the_others_nothing(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    net.relay().output(
        "tc",
        &["qdisc", "add", "dev", "lan2", "root", "tbf", "rate", "1mbit", "burst", "10kb", "limit", "20kb"],
    );
    let service = match datapath {
        Datapath::Packet | Datapath::Tcx => Service::start_on(datapath, net.relay(), ""),
        // It passes queues by, so nobody gets it unasked who has set one up.
        Datapath::Xdp => Service::start(net.relay(), ""),
    };
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001", "lan2:239.2.2.2:6002"]);
    if datapath == Datapath::Xdp {
        let relay = service.relay("camera");
        assert_eq!(relay["datapath"], "tcx");
        assert_eq!(relay["datapath_reason"], "not xdp: packets that leave lan2 are queued by tbf, which XDP passes by");
    }
    let series = Series { count: 20_000, smallest: 1, largest: 1400 };
    let good =
        Receiver::start(net.lan(1).namespace(), net.lan(1).host_address(), lan_group(1), Payloads::Compare(series));
    send(net.device(), DEVICE, GROUP, series, 20_000);
    let report = good.finish(series.count);
    assert_eq!((report.count, report.first_difference), (series.count, None));
    let relay = service.relay("camera");
    assert!(relay["outputs"][1]["dropped"]["output_queue_full"].as_u64() > Some(0), "{relay:#}");
    assert_eq!(service.assert_balance()["camera"], series.count);
}
