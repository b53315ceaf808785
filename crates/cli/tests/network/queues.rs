//! An input that receives by several queues has as many workers, and each flow keeps its order.

use std::collections::BTreeMap;
use std::time::Duration;

use mcr_testbed::{DEVICE, Frame, RawReceiver, RawSender, Topology};

use crate::service::Service;

const RELAY: &str = "datapath = \"packet\"\n[[relay]]\nname = \"camera\"\ninput = { interface = \"dev0\", group = \"239.1.1.1\", port = 5001 }\n\
                     output = [{ interface = \"lan1\", group = \"239.2.2.1\", port = 6001 }]\n";
const FLOWS: u16 = 40;
const ROUNDS: u32 = 50;

/// Sends datagrams of many flows, which their source ports tell apart, and expects each flow in its order at the lan.
fn relay_many_flows(net: &Topology) {
    let sender = RawSender::new(net.device_interface());
    let receiver = RawReceiver::new(net.lan(1).host_side());
    for number in 0..ROUNDS {
        for flow in 0..FLOWS {
            let from = format!("{DEVICE}:{}", 10_000 + flow);
            sender.send(&Frame::udp(&from, "239.1.1.1:5001", number.to_be_bytes().to_vec()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut next: BTreeMap<u16, u32> = BTreeMap::new();
    for _ in 0..ROUNDS * u32::from(FLOWS) {
        let seen = receiver.next_udp(Duration::from_secs(5));
        assert_eq!(seen.source.ip(), net.lan(1).relay_address());
        let expected = next.entry(seen.source.port()).or_default();
        assert_eq!(seen.payload, expected.to_be_bytes(), "flow of port {}", seen.source.port());
        *expected += 1;
    }
}

#[test]
fn an_input_has_a_worker_for_each_queue() {
    let net = Topology::device_relay_lan_with_queues(1, 2);
    let mut service = Service::start(net.relay(), RELAY);
    service.ok(&["wait", "camera", "--for", "ready"]);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(service.threads("dev0"), processors.min(2));
    relay_many_flows(&net);
    // The next daemon finds the rings with the keeper, and as many.
    service.restart_after_kill(net.relay());
    service.ok(&["wait", "camera", "--for", "ready"]);
    assert_eq!(service.threads("dev0"), processors.min(2));
    relay_many_flows(&net);
    assert_eq!(service.assert_balance()["camera"], u64::from(ROUNDS) * u64::from(FLOWS));
}

#[test]
fn the_number_of_workers_can_be_told() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_with(net.relay(), RELAY, &["--workers", "3"]);
    service.ok(&["wait", "camera", "--for", "ready"]);
    assert_eq!(service.threads("dev0"), 3);
    relay_many_flows(&net);
    service.assert_balance();
}
