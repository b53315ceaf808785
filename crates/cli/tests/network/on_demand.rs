//! Relays that join only while a receiver wants what they send: behind a switch that brings a group to nobody who has not joined
//! it, packets come when a receiver asks, stop when the last one leaves, and nobody's leave takes them from another.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mcr_model::Datapath;
use mcr_testbed::{
    Bridge, DEVICE, Namespace, RawReceiver, RawSender, Receiver, Sender, Sending, Snooping, Topology, Veth, kernel,
    wait_until,
};

use crate::reports;
use crate::service::{SOON, Service};
use crate::traffic;

for_each_datapath!(packets_come_while_a_receiver_asks);

const INPUT: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
/// What a host that leaves is left with at most: two queries, a second each, and a look that comes late.
const LEAVING: Duration = Duration::from_secs(4);

/// A camera that always sends, behind a switch that watches IGMP.
pub(crate) struct Studio {
    pub(crate) net: Topology,
    _camera: Namespace,
    pub(crate) switch: Namespace,
    _cables: [Veth; 2],
    _bridge: Bridge,
    _sending: Sending,
}

impl Studio {
    pub(crate) fn new() -> Self {
        let net = Topology::device_relay_lan(1);
        let (camera, switch) = (Namespace::new("camera"), Namespace::new("switch"));
        let bridge = Bridge::new(&switch, "br0", Snooping::On);
        let one = Veth::between(&camera, "eth0", &switch, "p1");
        let two = Veth::between(net.relay(), "cam0", &switch, "p2");
        [&one, &two].iter().for_each(|cable| bridge.plug(cable.far()));
        two.near().add_address("10.7.0.1/24");
        camera.ip(&format!("address add {DEVICE}/32 dev eth0\nroute add 224.0.0.0/4 dev eth0"));
        // A bridge trusts its querier only once it has asked for some time, here a tenth of a second; one of no time would be
        // a querier of version 1, whose hosts do not say that they leave.
        switch.ip("link set dev br0 type bridge mcast_query_response_interval 10");
        switch.ip("link set dev br0 type bridge mcast_querier 1");
        // It believes a leave at once.
        switch.ip("link set dev p2 type bridge_slave mcast_fast_leave on");
        let sending = Sender::new(&camera, "239.1.1.1:5001").ttl(4).datagrams_per_second(1_000).start();
        Self { net, _camera: camera, switch, _cables: [one, two], _bridge: bridge, _sending: sending }
    }

    pub(crate) fn is_joined(&self) -> bool {
        kernel::joined_groups(self.net.relay(), "cam0").contains(&INPUT)
    }
}

fn config(to: &str) -> String {
    format!(
        "[[relay]]\nname = \"camera\"\non_demand = true\n\
         input = {{ interface = \"cam0\", group = \"{INPUT}\", port = 5001 }}\n\
         output = [{{ interface = \"lan1\", group = \"{to}\", port = 6001 }}]\n"
    )
}

fn packets_come_while_a_receiver_asks(datapath: Datapath) {
    let studio = Studio::new();
    let lan = studio.net.lan(1);
    let service = Service::start_on(datapath, studio.net.relay(), &config("239.2.2.1"));
    service.ok(&["wait", "camera", "--for", "ready"]);
    let wire = RawReceiver::new(lan.host_side());
    wait_until(SOON, "the switch sends to nobody unasked", || wire.try_next_udp(Duration::from_millis(300)).is_none());
    assert!(!studio.is_joined());
    let reason = || service.relay("camera")["reason"].as_str().unwrap().to_owned();
    wait_until(SOON, "it is told", || reason() == "no receiver has asked for 239.2.2.1 on lan1");
    let relay = service.relay("camera");
    assert_eq!((&relay["state"], relay["warnings"].is_null()), (&"ready".into(), true), "{relay:#}");

    let begun = Instant::now();
    let receiver = Receiver::group(lan.host_side(), "239.2.2.1:6001");
    receiver.wait_for(1, SOON);
    println!("from the report to the first packet: {:?}", begun.elapsed());
    service.wait_for_state("camera", "flowing", SOON);

    // Somebody else says in version 2 that it leaves: who stays is asked, and answers.
    let sender = RawSender::new(lan.host_side());
    sender.send_bytes(&leave([10, 0, 1, 77]));
    let answered = reports::wait_for(&wire_of(&studio), [239, 2, 2, 1].into(), SOON);
    assert!(answered < Duration::from_secs(2), "{answered:?}");
    let still = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < still {
        assert!(studio.is_joined(), "a receiver is there");
        std::thread::sleep(Duration::from_millis(50));
    }

    let begun = Instant::now();
    drop(receiver);
    wait_until(LEAVING, "the group is left", || !studio.is_joined());
    println!("from the leave to leaving the input: {:?}", begun.elapsed());
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "others were given no time to answer");
    wait_until(SOON, "nobody wants it", || reason().starts_with("no receiver"));
    assert_eq!(service.relay("camera")["state"], "ready");

    // Hosts of version 2 report to the group itself, and leave by another message.
    lan.namespace().sysctl("net/ipv4/conf/eth0/force_igmp_version", "2");
    let receiver = Receiver::group(lan.host_side(), "239.2.2.1:6001");
    receiver.wait_for(1, SOON);
    drop(receiver);
    wait_until(LEAVING, "the group is left", || !studio.is_joined());
    service.assert_balance();
}

/// What the relay's own host hears of the lan.
fn wire_of(studio: &Studio) -> RawReceiver {
    RawReceiver::new(studio.net.lan(1).relay_side())
}

/// A leave of version 2 (RFC 2236 section 2) for 239.2.2.1.
fn leave(from: [u8; 4]) -> Vec<u8> {
    let mut frame = [&[1, 0, 0x5e, 0, 0, 2][..], &[2, 0, 0, 0, 0, 7], &[8, 0]].concat();
    frame.extend([0x46, 0xc0, 0, 32, 0, 0, 0, 0, 1, 2, 0, 0]);
    frame.extend([&from[..], &[224, 0, 0, 2], &[0x94, 4, 0, 0]].concat());
    frame.extend([0x17, 0, 0, 0, 239, 2, 2, 1]);
    crate::queriers::sum_up(&mut frame, 14, 38, 24);
    crate::queriers::sum_up(&mut frame, 38, 46, 40);
    frame
}

#[test]
fn receivers_of_ipv6_are_heard_and_a_daemon_that_starts_again_leaves_nothing_that_is_wanted() {
    let studio = Studio::new();
    let studio = Studio { net: studio.net.with_ipv6(), ..studio };
    let lan = studio.net.lan(1);
    let mut service = Service::start(studio.net.relay(), &config("ff0e::2"));
    service.ok(&["wait", "camera", "--for", "ready"]);
    assert!(!studio.is_joined());
    let group = "[ff0e::2]:6001".parse().expect("an endpoint");
    let listen = || traffic::Receiver::start(lan.namespace(), lan.host_address(), group, traffic::Payloads::Count);
    let receiver = listen();
    wait_until(SOON, "packets come", || receiver.count() > 0);
    receiver.finish(0);
    wait_until(LEAVING, "the group is left", || !studio.is_joined());
    let receiver = listen();
    wait_until(SOON, "packets come again", || receiver.count() > 0);

    let reported = RawReceiver::new(studio._cables[1].far());
    service.restart_after_kill(studio.net.relay());
    service.ok(&["wait", "camera", "--for", "ready"]);
    let left = reports::all(&reported, Duration::from_millis(700)).iter().any(reports::Record::is_leave);
    assert!(!left && studio.is_joined(), "it was left for a moment");
    wait_until(SOON, "it is known who wants it", || service.relay("camera")["state"] == "flowing");
    receiver.finish(1);
}
