//! Why the product exists: a device that nobody has a route to cannot be heard with ordinary means.

use std::time::Duration;

use mcr_testbed::{DEVICE, RawReceiver, Receiver, Sender, Topology, kernel, wait_for_state};

const GROUP: &str = "239.1.1.1:5001";
const LIMIT: Duration = Duration::from_secs(5);

fn a_plain_udp_socket_hears_nothing(rp_filter: &str) {
    let topology = Topology::device_relay_lan(0);
    // The kernel takes the larger value of `all` and the interface.
    for interface in ["all", "dev0"] {
        topology.relay().sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), rp_filter);
    }
    let plain = Receiver::group(topology.relay_input(), GROUP);
    let wire = RawReceiver::new(topology.relay_input());

    let sent = Sender::new(topology.device(), GROUP).send(100);

    let filtered = || kernel::reverse_path_filtered(topology.relay());
    assert_eq!(wait_for_state(LIMIT, "100 packets filtered", filtered, |&count| count >= 100), 100);
    assert_eq!(plain.wait_for_quiet(Duration::from_millis(100)).datagrams, 0, "of {sent:?}");
    for _ in 0..100 {
        assert_eq!(wire.next_udp(LIMIT).source.ip(), DEVICE);
    }
}

#[test]
fn a_plain_udp_socket_hears_nothing_of_the_device_though_its_frames_arrive() {
    a_plain_udp_socket_hears_nothing("1");
}

/// Loose checking asks for a route by any interface, and there is none.
#[test]
fn nor_does_it_when_sources_are_checked_loosely() {
    a_plain_udp_socket_hears_nothing("2");
}

#[test]
fn the_same_socket_hears_the_device_once_sources_are_not_checked() {
    let topology = Topology::device_relay_lan(0);
    for interface in ["all", "dev0"] {
        topology.relay().sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
    }
    let plain = Receiver::group(topology.relay_input(), GROUP);
    let sent = Sender::new(topology.device(), GROUP).send(100);
    let tally = plain.expect(&sent, LIMIT);
    assert!(tally.sources.iter().all(|source| *source.ip() == DEVICE), "{tally:?}");
}
