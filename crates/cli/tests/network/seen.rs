//! Ranges of which only those groups are joined that are seen on the input: because packets come, whoever brought them here, or
//! because another host reports that it wants them.

use std::net::Ipv4Addr;
use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{RawReceiver, RawSender, Sender, Topology, kernel, wait_until};

use crate::on_demand::Studio;
use crate::service::{SOON, Service};

for_each_datapath!(what_comes_is_joined_and_stays_so_for_the_next_daemon);

const LIMIT: Duration = Duration::from_secs(2);

/// The last bytes of the joined groups of 239.1.0.0/24.
fn joined(net: &Topology) -> Vec<u8> {
    let groups = kernel::joined_groups(net.relay(), "dev0");
    let of_range = groups.iter().filter(|group| group.octets()[..3] == [239, 1, 0]);
    let mut joined: Vec<u8> = of_range.map(|group| group.octets()[3]).collect();
    joined.sort_unstable();
    joined
}

fn what_comes_is_joined_and_stays_so_for_the_next_daemon(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let config = |join: &str| {
        format!(
            "[[relay]]\nname = \"plant\"\njoin = \"{join}\"\n\
             input = {{ interface = \"dev0\", group = \"239.1.0.0/28\", port = \"5000-5001\" }}\n\
             output = [{{ interface = \"lan1\", group = \"239.2.0.0/28\", port = \"6000-6001\" }}]\n"
        )
    };
    let mut service = Service::start_on(datapath, net.relay(), &config("seen"));
    service.ok(&["wait", "plant", "--for", "ready"]);
    assert_eq!((service.relay("plant")["datapath"].as_str(), joined(&net)), (Some(datapath.name()), vec![]));
    let reason = || service.relay("plant")["reason"].as_str().unwrap().to_owned();
    assert!(reason().ends_with("; 0 of 16 groups seen and joined"), "{}", reason());

    let receiver = RawReceiver::new(net.lan(1).host_side());
    let send = |to: &str, text: &str| Sender::new(net.device(), to).ttl(1).send_payloads(&[text]);
    send("239.1.0.3:5001", "first");
    let first = receiver.next_udp(LIMIT);
    assert_eq!((first.payload.as_slice(), first.destination.to_string().as_str()), (&b"first"[..], "239.2.0.3:6001"));
    wait_until(SOON, "what came is joined", || joined(&net) == [3]);
    assert!(reason().ends_with("; 1 of 16 groups seen and joined"), "{}", reason());

    RawSender::new(net.device_interface()).send_bytes(&report(9));
    wait_until(SOON, "what another host wants is joined", || joined(&net) == [3, 9]);
    let seen = service.relay("plant")["seen_groups"].clone();
    assert_eq!(seen, serde_json::json!(["239.1.0.3", "239.1.0.9"]));

    service.restart_after_kill(net.relay());
    service.ok(&["wait", "plant", "--for", "ready"]);
    send("239.1.0.12:5000", "again");
    assert_eq!(receiver.next_udp(LIMIT).payload, b"again");
    wait_until(SOON, "it goes on", || joined(&net) == [3, 9, 12]);

    // The rest is joined without touching what flows.
    let received = service.assert_balance()["plant"];
    service.reload(&config("all"));
    wait_until(SOON, "all are joined", || joined(&net).len() == 16);
    assert!(service.relay("plant")["seen_groups"].is_null());
    assert_eq!(service.assert_balance()["plant"], received);
}

/// A report of version 2 (RFC 2236 section 2) for 239.1.0.`last`, to the group itself.
fn report(last: u8) -> Vec<u8> {
    let mut frame = [&[1, 0, 0x5e, 1, 0, last][..], &[2, 0, 0, 0, 0, 7], &[8, 0]].concat();
    frame.extend([0x46, 0xc0, 0, 32, 0, 0, 0, 0, 1, 2, 0, 0]);
    frame.extend([&[192, 168, 168, 77][..], &[239, 1, 0, last], &[0x94, 4, 0, 0]].concat());
    frame.extend([0x16, 0, 0, 0, 239, 1, 0, last]);
    crate::queriers::sum_up(&mut frame, 14, 38, 24);
    crate::queriers::sum_up(&mut frame, 38, 46, 40);
    frame
}

/// Such a switch brings groups to routers and to those who have joined them.
#[test]
fn behind_a_switch_that_watches_igmp_a_port_for_routers_is_needed() {
    let studio = Studio::new();
    let service = Service::start(studio.net.relay(), "");
    let (from, to) = ("cam0:239.1.1.0/28:5001", "lan1:239.2.2.0/28:6001");
    service.ok(&["add", "studio", "--join", "seen", "--from", from, "--to", to]);
    service.ok(&["wait", "studio", "--for", "ready"]);
    let receiver = RawReceiver::new(studio.net.lan(1).host_side());
    wait_until(SOON, "it brings nothing unasked", || receiver.try_next_udp(Duration::from_millis(300)).is_none());
    assert!(!studio.is_joined());

    studio.switch.ip("link set dev p2 type bridge_slave mcast_router 2");
    wait_until(SOON, "what comes is joined", || studio.is_joined());
    receiver.next_udp(LIMIT);
    assert_eq!(service.relay("studio")["seen_groups"], serde_json::json!([Ipv4Addr::new(239, 1, 1, 1)]));
    // Joined, it comes to an ordinary port as well.
    studio.switch.ip("link set dev p2 type bridge_slave mcast_router 1");
    let received = || service.relay("studio")["received"]["packets"].as_u64().unwrap();
    let before = received();
    wait_until(SOON, "it flows on", || received() > before + 1_000);
}
