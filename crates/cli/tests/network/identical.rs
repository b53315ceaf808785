//! Many devices that are alike, down to their address, each on an interface of its own: a template gives each a source address and
//! a port, and none is mistaken for another.

use std::collections::BTreeMap;
use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{Frame, Interface, Namespace, RawReceiver, RawSender, Topology};

use crate::service::{SOON, Service};

#[test]
fn a_hundred_devices_with_one_address_get_a_hundred() {
    devices_with_one_address(Datapath::Tcx, 100);
}

/// A ring for each input takes memory: fewer will do.
#[test]
fn in_user_space_too() {
    devices_with_one_address(Datapath::Packet, 8);
}

fn devices_with_one_address(datapath: Datapath, count: u16) {
    const FRAMES: u16 = 20;
    let net = Topology::device_relay_lan(1);
    let island = Namespace::new("island");
    let senders: Vec<RawSender> = cables(&island, net.relay(), count).iter().map(RawSender::new).collect();
    let config = format!(
        r#"
        [[relay]]
        for_each = "1-{count}"
        name     = "plc-{{item}}"
        input    = {{ interface = "port{{item}}", group = "239.1.1.1", port = 5001, sources = ["192.168.168.55"] }}
        output   = [ {{ interface = "lan1", group = "239.2.2.2", port = "{{index+6001}}", source = "10.0.1.{{item+100}}" }} ]
        "#
    );
    let service = Service::start_on(datapath, net.relay(), &config);
    (1..=count).for_each(|number| service.wait_for_state(&format!("plc-{number}"), "ready", SOON * 4));
    let receiver = RawReceiver::new(net.lan(1).host_side());

    let mut seen: BTreeMap<(String, u16), u16> = BTreeMap::new();
    for frame in 0..FRAMES {
        for (number, sender) in (1..).zip(&senders) {
            let payload = format!("device {number}, frame {frame}");
            sender.send(&Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", payload.into_bytes()).ttl(1));
        }
        // Before the next: what comes together from one device may leave together, and is one frame to this receiver.
        for _ in 0..count {
            let frame = receiver.next_udp(Duration::from_secs(3));
            let text = String::from_utf8(frame.payload).expect("text");
            let number: u16 = text.split([' ', ',']).nth(1).and_then(|number| number.parse().ok()).expect(&text);
            let source = format!("10.0.1.{}", number + 100);
            let (ip, port) = (frame.source.ip().to_string(), frame.destination.port());
            assert_eq!((ip, port), (source.clone(), number + 6000), "{text}");
            *seen.entry((source, number)).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), usize::from(count));
    assert!(seen.values().all(|frames| *frames == FRAMES), "{seen:?}");
    let balance = service.assert_balance();
    assert!(balance.values().all(|received| *received == u64::from(FRAMES)), "{balance:?}");
}

/// As many cables from one namespace to another; the near ends.
fn cables(near: &Namespace, far: &Namespace, count: u16) -> Vec<Interface> {
    let numbers = 1..=count;
    let laid = numbers.clone().map(|number| {
        format!(
            "link add name dev{number} type veth peer name port{number} netns {}\nlink set dev dev{number} up",
            far.name()
        )
    });
    near.ip(&laid.collect::<Vec<_>>().join("\n"));
    far.ip(&numbers.clone().map(|number| format!("link set dev port{number} up")).collect::<Vec<_>>().join("\n"));
    numbers.map(|number| Interface::of(near, &format!("dev{number}"))).collect()
}
