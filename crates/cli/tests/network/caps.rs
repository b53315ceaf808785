//! Caps on rates: a flood in one relay is cut to its cap, to the packet in the ledger, and its neighbours lose nothing.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Instant;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Topology};

use crate::service::{SOON, Service};
use crate::traffic::{Payloads, Receiver, Series, send};

for_each_datapath!(a_flood_is_cut_to_its_cap_and_its_neighbour_is_whole, an_output_has_a_cap_of_its_own,);

const FLOOD: SocketAddr = SocketAddr::V4(SocketAddrV4::new(std::net::Ipv4Addr::new(239, 1, 1, 1), 5001));
const NEIGHBOUR: SocketAddr = SocketAddr::V4(SocketAddrV4::new(std::net::Ipv4Addr::new(239, 1, 1, 2), 5002));

fn lan_group(number: u8) -> SocketAddr {
    SocketAddr::new([239, 2, 2, number].into(), 6000 + u16::from(number))
}

fn receiver(net: &Topology, lan: usize, group: u8) -> Receiver {
    let lan = net.lan(lan);
    Receiver::start(lan.namespace(), lan.host_address(), lan_group(group), Payloads::Count)
}

/// What a cap lets pass in the time that has passed since, with room for the clock's tick and for one run.
#[track_caller]
fn assert_is_capped(got: u64, per_second: f64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    let most = per_second * (seconds + 0.1 + 0.01) + 64.0;
    assert!((got as f64) <= most, "{got} passed in {seconds:.3} s, {most:.0} may");
    assert!((got as f64) >= per_second * 0.1, "{got} passed");
}

fn a_flood_is_cut_to_its_cap_and_its_neighbour_is_whole(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    let service = Service::start_on(datapath, net.relay(), "");
    service.ok(&[
        "add",
        "flood",
        "--from",
        "dev0:239.1.1.1:5001",
        "--to",
        "lan1:239.2.2.1:6001",
        "--max-packets-per-second",
        "2k",
    ]);
    service.add("neighbour", "dev0:239.1.1.2:5002", &["lan2:239.2.2.2:6002"]);
    if datapath == Datapath::Xdp {
        let relay = service.relay("flood");
        let why = "not xdp: it has a cap on a rate, which is kept at tcx ingress";
        assert_eq!((relay["datapath"].as_str(), relay["datapath_reason"].as_str()), (Some("tcx"), Some(why)));
    }
    ["flood", "neighbour"].iter().for_each(|name| service.wait_for_state(name, "ready", SOON));
    let (flooded, whole) = (receiver(&net, 1, 1), receiver(&net, 2, 2));
    let flood = Series { count: 40_000, smallest: 100, largest: 200 };
    let gentle = Series { count: 2_000, smallest: 100, largest: 1400 };

    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| send(net.device(), DEVICE, FLOOD, flood, 40_000));
        send(net.device(), DEVICE, NEIGHBOUR, gentle, 2_000);
    });
    assert_eq!(whole.finish(gentle.count).count, gentle.count, "{:#}", service.relay("neighbour"));
    let balance = service.assert_balance();
    assert_eq!((balance["flood"], balance["neighbour"]), (flood.count, gentle.count));
    let relay = service.relay("flood");
    let (sent, limited) = (&relay["outputs"][0]["sent"]["packets"], &relay["outputs"][0]["dropped"]["rate_limited"]);
    assert_is_capped(sent.as_u64().unwrap(), 2_000.0, begun);
    assert_eq!(
        sent.as_u64().unwrap() + limited.as_u64().unwrap(),
        flood.count,
        "nothing is dropped for another reason"
    );
    assert_eq!(flooded.finish(sent.as_u64().unwrap()).count, sent.as_u64().unwrap());
    assert!(service.ok(&["show", "flood"]).contains("at most 2.00 kpps"));
}

fn an_output_has_a_cap_of_its_own(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    let service = Service::start_on(datapath, net.relay(), "");
    let outputs = ["--to", "lan1:239.2.2.1:6001", "--to", "lan2:239.2.2.2:6002,max-bits-per-second=1000000"];
    service.ok(&[&["add", "camera", "--from", "dev0:239.1.1.1:5001"], &outputs[..]].concat());
    service.wait_for_state("camera", "ready", SOON);
    let (whole, capped) = (receiver(&net, 1, 1), receiver(&net, 2, 2));
    let series = Series { count: 5_000, smallest: 972, largest: 972 };
    let begun = Instant::now();
    send(net.device(), DEVICE, FLOOD, series, 10_000);
    assert_eq!(whole.finish(series.count).count, series.count, "{:#}", service.relay("camera"));
    let relay = service.relay("camera");
    let sent = relay["outputs"][1]["sent"]["packets"].as_u64().unwrap();
    // 1,000 bytes each.
    assert_is_capped(sent, 125.0, begun);
    assert_eq!(capped.finish(sent).count, sent);
    assert_eq!(service.assert_balance()["camera"], series.count);
}
