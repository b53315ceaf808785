//! More than can be relayed: what is dropped is counted by name, others lose nothing, and afterwards all is well at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Topology, wait_until};

use crate::api::Api;
use crate::reload::memory_kib;
use crate::scale::pick;
use crate::service::{SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send, send_while};

const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 1, 1, 9)), 5009);
/// Faster than any socket sends: as fast as it goes.
const FLOOD: u64 = 10_000_000;
const LONG: Series = Series::of(u64::MAX, 200);

/// As fast as two senders go, 1 s in every run and 30 s at full size; `packet` is left far behind.
#[test]
fn a_flood_is_counted_and_leaves_the_neighbours_alone() {
    let net = Topology::device_relay_lan(3);
    let service = Service::start_on(Datapath::Packet, net.relay(), "");
    service.add("flooded", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    service.add("beside", "lan2:239.1.1.9:5009", &["lan3:239.2.2.9:6009"]);
    let (lan, sender) = (net.lan(3), net.lan(2));
    sender.namespace().ip("route add 224.0.0.0/4 dev eth0");
    let on = "239.2.2.9:6009".parse().unwrap();
    let beside = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Count);
    let memory_before = memory_kib(service.pid());
    let (goes_on, from) = (AtomicBool::new(true), sender.host_address());
    let (flood, steady, mut answers) = std::thread::scope(|scope| {
        let floods = [0, 1].map(|_| scope.spawn(|| send_while(&goes_on, net.device(), DEVICE, GROUP, LONG, FLOOD)));
        let steady = scope.spawn(|| send_while(&goes_on, sender.namespace(), from, OTHER, LONG, 1_000));
        let (begun, mut api, mut answers) = (Instant::now(), Api::of(&service), Vec::new());
        while begun.elapsed() < Duration::from_secs(pick(1, 30)) {
            let asked = Instant::now();
            api.ok("GET", "/api/v1/status", "");
            answers.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        goes_on.store(false, Ordering::Relaxed);
        let flood: u64 = floods.into_iter().map(|flood| flood.join().expect("a flood")).sum();
        (flood, steady.join().expect("the steady flow"), answers)
    });
    assert_eq!(beside.finish(steady).count, steady, "the neighbour lost nothing");
    let received = service.assert_balance()["flooded"];
    let interfaces = service.http("GET", "/api/v1/interfaces", "").1;
    let dev0 = interfaces["interfaces"].as_array().unwrap().iter().find(|one| one["name"] == "dev0").unwrap();
    let lost: u64 = dev0["unattributed"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    answers.sort();
    let at = |share: usize| answers[(answers.len() - 1) * share / 100];
    println!("{flood} sent, {received} received, {lost} counted as lost: {dev0:#}");
    println!("{} answers: p50 {:?}, p99 {:?}, slowest {:?}", answers.len(), at(50), at(99), at(100));
    assert_eq!(received + lost, flood, "every packet is counted once");
    // What is claimed is less (docs/reliability.md); other work on this machine must not fail the test.
    assert!(at(100) < Duration::from_secs(1), "an answer took {:?}", at(100));
    let grown = memory_kib(service.pid()).saturating_sub(memory_before);
    assert!(grown < 4 << 10, "{grown} KiB more");

    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Count);
    send(net.device(), DEVICE, GROUP, Series::of(5_000, 200), 10_000);
    assert_eq!(receiver.finish(5_000).count, 5_000, "nothing is lost afterwards");
}

for_each_datapath!(a_slow_output_costs_the_other_nothing);

fn a_slow_output_costs_the_other_nothing(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    net.lans().iter().for_each(|lan| lan.host_side().offload(mcr_testbed::Offload::Gather, mcr_testbed::Switch::On));
    net.relay().output(
        "tc",
        &["qdisc", "add", "dev", "lan1", "root", "tbf", "rate", "1mbit", "burst", "4kb", "latency", "20ms"],
    );
    let service = Service::start_on(datapath, net.relay(), "");
    service.ok(&[
        "add",
        "both",
        "--from",
        "dev0:239.1.1.1:5001",
        "--to",
        "lan1:239.2.2.1:6001",
        "--to",
        "lan2:239.2.2.2:6002",
    ]);
    service.ok(&["wait", "both"]);
    let lan = net.lan(2);
    let series = Series { count: 10_000, smallest: 100, largest: 1400 };
    let on = "239.2.2.2:6002".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(series));
    send(net.device(), DEVICE, GROUP, series, 5_000);
    let report = receiver.finish(series.count);
    assert_eq!((report.count, report.first_difference), (series.count, None));
    assert_eq!(service.assert_balance()["both"], series.count);
    let relay = service.relay("both");
    assert_eq!(relay["outputs"][1]["dropped_packets"], 0, "{relay:#}");
    // What leaves by the driver passes by the queueing discipline: it is not slow there.
    if datapath != Datapath::Xdp {
        wait_until(SOON, "drops of the slow one are counted", || {
            service.relay("both")["outputs"][0]["dropped_packets"].as_u64() > Some(1_000)
        });
    }
}
