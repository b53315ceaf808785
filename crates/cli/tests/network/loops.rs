//! Two hosts that relay one group to each other: what one sends, the other sends back.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mcr_model::Datapath;
use mcr_testbed::{Bridge, Namespace, Snooping, Veth, wait_until};

use crate::service::{SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send, send_while};

for_each_datapath!(a_storm_trips_the_breaker_and_nothing_else);

const OTHER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 9), 5009));
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 7, 1, 3);
const LISTENER: Ipv4Addr = Ipv4Addr::new(10, 7, 2, 3);

/// Two networks, `left` and `right`; hosts `a` and `b` are on both, a sender on the left, a listener on the right.
struct Ring {
    a: Namespace,
    b: Namespace,
    sender: Namespace,
    listener: Namespace,
    _switches: [Bridge; 2],
}

impl Ring {
    fn new() -> Ring {
        let [wire, a, b, sender, listener] = ["wire", "a", "b", "sender", "listener"].map(Namespace::new);
        let switches = ["left", "right"].map(|name| Bridge::new(&wire, name, Snooping::Off));
        let places = [(&a, 1, 0), (&a, 1, 1), (&b, 2, 0), (&b, 2, 1), (&sender, 3, 0), (&listener, 3, 1)];
        for (port, (host, number, side)) in places.into_iter().enumerate() {
            let name = switches[side].interface().name();
            let cable = Veth::between(host, &name, &wire, &format!("port{port}"));
            switches[side].plug(cable.far());
            cable.near().add_address(&format!("10.7.{}.{number}/24", side + 1));
            if number == 3 {
                host.ip(&format!("route add 224.0.0.0/4 dev {name}"));
            }
        }
        Ring { a, b, sender, listener, _switches: switches }
    }

    fn receiver(&self, on: &str) -> Receiver {
        Receiver::start(&self.listener, LISTENER, on.parse().unwrap(), Payloads::Count)
    }

    fn one_packet(&self) {
        send(&self.sender, SENDER, GROUP, Series::of(1, 200), 1_000);
    }
}

#[test]
fn listed_sources_leave_at_most_two_copies() {
    let ring = Ring::new();
    let [there, back] = [&ring.a, &ring.b].map(|host| Service::start(host, ""));
    there.add("there", &format!("left:{SENDER}@{GROUP}"), &[&format!("right:{GROUP}")]);
    back.add("back", &format!("right:{GROUP}"), &[&format!("left:{GROUP}")]);
    let receiver = ring.receiver("239.1.1.1:5001");
    ring.one_packet();
    wait_until(SOON, "what came back is dropped", || {
        let interfaces = there.http("GET", "/api/v1/interfaces", "").1;
        let left = interfaces["interfaces"].as_array().unwrap().iter().find(|one| one["name"] == "left").unwrap();
        left["unattributed"]["source_not_listed"] == 1
    });
    assert_eq!(receiver.finish(0).count, 1);
    assert_eq!(back.assert_balance()["back"], 1, "there and back: two copies");
}

fn a_storm_trips_the_breaker_and_nothing_else(datapath: Datapath) {
    let ring = Ring::new();
    let there = Service::start_on(datapath, &ring.a, "");
    let back = Service::start_on(datapath, &ring.b, "");
    there.add("bystander", &format!("left:{OTHER}"), &["right:239.1.2.9:6009"]);
    let with_breaker = r#"{"name": "there", "breaker": {"max_packets_per_second": 2000, "recover_after": "2s"},
            "input": {"interface": "left", "group": "239.1.1.1", "port": 5001},
            "output": [{"interface": "right", "group": "239.1.1.1", "port": 5001}]}"#;
    assert_eq!(there.http("POST", "/api/v1/relays", with_breaker).0, 201);
    back.add("back", &format!("right:{GROUP}"), &[&format!("left:{GROUP}")]);

    let (bystander, goes_on) = (ring.receiver("239.1.2.9:6009"), AtomicBool::new(true));
    let sent = std::thread::scope(|scope| {
        let flow = scope.spawn(|| send_while(&goes_on, &ring.sender, SENDER, OTHER, Series::of(100_000, 200), 1_000));
        wait_until(SOON, "the bystander flows", || bystander.count() > 0);
        ring.one_packet();
        let begun = Instant::now();
        wait_until(SOON, "the breaker trips", || there.relay("there")["breaker"]["open"] == true);
        println!("{datapath}: the breaker was seen open {:?} after the packet", begun.elapsed());
        goes_on.store(false, Ordering::Relaxed);
        flow.join().expect("the flow")
    });
    assert_eq!(bystander.finish(sent).count, sent, "the bystander lost nothing");
    let relay = there.relay("there");
    assert_eq!(relay["state"], "failed", "{relay:#}");
    assert!(relay["reason"].as_str().unwrap().contains("its breaker is open"), "{relay:#}");
    assert_eq!(there.relay("bystander")["state"].as_str().map(|state| state != "failed"), Some(true));
    let page = there.http_text("GET", "/metrics", "").1;
    assert!(page.contains("mcr_relay_breaker_trips_total{relay=\"there\"} 1"), "{page}");
    assert!(page.contains("mcr_relay_breaker_open{relay=\"there\"} 1"), "{page}");

    // Without the way back it is no loop any more.
    back.ok(&["rm", "back"]);
    wait_until(SOON, "it recovers", || there.relay("there")["breaker"]["open"] == false);
    let before = there.relay("there")["received"]["packets"].as_u64().unwrap();
    wait_until(SOON, "it is in force again", || there.relay("there")["state"] != "pending");
    let receiver = ring.receiver("239.1.1.1:5001");
    send(&ring.sender, SENDER, GROUP, Series::of(100, 200), 1_000);
    assert_eq!(receiver.finish(100).count, 100);
    assert_eq!(there.assert_balance()["there"], before + 100, "its counters go on");
    let events = there.ok(&["events"]);
    assert!(events.contains("breaker-tripped") && events.contains("breaker-recovered"), "{events}");
}
