//! What an output makes of the headers that arrive: fields that are kept, decremented or mapped.

use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{Frame, RawReceiver, RawSender, Topology, wait_until};

use crate::service::{SOON, Service};

for_each_datapath!(kept_and_mapped_fields_leave_as_they_should);

fn kept_and_mapped_fields_leave_as_they_should(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    let config = r#"
        [[relay]]
        name   = "camera"
        input  = { interface = "dev0", group = "239.1.1.1", port = 5001 }
        output = [
            { interface = "lan1", group = "239.2.2.1", port = 6001, ttl = "keep", source = "keep", source_port = "keep" },
            { interface = "lan2", group = "239.2.2.2", port = 6002, ttl = "decrement", source_port = 7000, dscp = { 46 = 34, "*" = 8 } },
        ]
    "#;
    let service = Service::start_on(datapath, net.relay(), config);
    service.wait_for_state("camera", "ready", SOON);
    let sender = RawSender::new(net.device_interface());
    let receivers = [1, 2].map(|lan| RawReceiver::new(net.lan(lan).host_side()));
    let limit = Duration::from_secs(2);
    let frame = |ttl: u8, traffic_class: u8| {
        let payload = [ttl, traffic_class].repeat(50);
        Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", payload).ttl(ttl).traffic_class(traffic_class)
    };

    sender.send(&frame(64, 46 << 2 | 1));
    let [kept, changed] = receivers.each_ref().map(|receiver| receiver.next_udp(limit));
    assert_eq!(
        (kept.source.to_string().as_str(), kept.ttl, kept.traffic_class),
        ("192.168.168.55:4000", 64, 46 << 2 | 1)
    );
    assert_eq!(kept.destination.to_string(), "239.2.2.1:6001");
    assert_eq!(
        (changed.source.to_string().as_str(), changed.ttl, changed.traffic_class),
        ("10.0.2.1:7000", 63, 34 << 2 | 1)
    );
    assert!([kept, changed].iter().all(|seen| seen.ip_checksum_is_right && seen.udp_checksum_is_right));

    sender.send(&frame(1, 10 << 2));
    assert_eq!(receivers[0].next_udp(limit).ttl, 1);
    let dropped = || service.relay("camera")["outputs"][1]["dropped"]["ttl_expired"].as_u64();
    wait_until(SOON, "what would leave with no TTL is dropped by name", || dropped() == Some(1));

    sender.send(&frame(2, 10 << 2));
    assert_eq!(receivers[0].next_udp(limit).ttl, 2);
    let changed = receivers[1].next_udp(limit);
    assert_eq!((changed.ttl, changed.traffic_class), (1, 8 << 2), "and it goes on");
    assert_eq!(service.assert_balance()["camera"], 3);
    let shown = service.ok(&["show", "camera"]);
    assert!(
        shown.contains("source keep, ttl keep")
            && shown.contains("source port 7000, ttl decrement, dscp * → 8, 46 → 34"),
        "{shown}"
    );
}
