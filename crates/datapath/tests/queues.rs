//! Several rings and workers on one interface: they share the flows, and keep the order of each.

mod harness;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use harness::{GROUP_IN, Input, Output, PATIENCE, Relay};
use mcr_datapath::{RingGeometry, receive_queues};
use mcr_testbed::{DEVICE, Frame, Mac, RawReceiver, RawSender, Topology, wait_for_state};
use mcr_wire::DropReason;

const FLOWS: u16 = 64;
const ROUNDS: u32 = 300;

/// A datagram of a flow, which a source port tells from the others, with its number in the flow.
fn datagram(flow: u16, number: u32) -> Frame {
    Frame::udp(&format!("{DEVICE}:{}", 10_000 + flow), &GROUP_IN.to_string(), number.to_be_bytes().to_vec())
}

/// A device with several queues, a relay to two lans, and as many rings as told.
struct Stand {
    net: Topology,
    relay: Relay,
    input: Input,
}

impl Stand {
    fn new(rings: usize) -> Stand {
        let net = Topology::device_relay_lan_with_queues(2, 4);
        let relay = Relay::new(GROUP_IN, net.lans().iter().map(Output::open).collect());
        let input = Input::with_rings(net.relay_input(), RingGeometry::for_mtu(1500), rings);
        input.install(&[&relay]);
        Stand { net, relay, input }
    }

    /// Sends some datagrams of every flow, the flows in turn.
    fn send_all(&self) {
        let sender = RawSender::new(self.net.device_interface());
        for number in 0..ROUNDS {
            for flow in 0..FLOWS {
                sender.send(&datagram(flow, number));
            }
            // Receivers of whole frames take their time.
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Takes everything that a lan gets, and expects every datagram of each flow once, in its flow's order.
fn expect_order_of_each_flow(receiver: &RawReceiver) {
    let mut next: BTreeMap<u16, u32> = BTreeMap::new();
    for _ in 0..ROUNDS * u32::from(FLOWS) {
        let seen = receiver.next_udp(PATIENCE);
        let number = u32::from_be_bytes(seen.payload.try_into().expect("four bytes"));
        let expected = next.entry(seen.source.port()).or_default();
        assert_eq!(number, *expected, "flow of port {}", seen.source.port());
        *expected += 1;
    }
    assert_eq!(next.len(), usize::from(FLOWS));
}

#[test]
fn workers_share_the_flows_and_keep_the_order_of_each() {
    let stand = Stand::new(2);
    let receivers: Vec<_> = stand.net.lans().iter().map(|lan| RawReceiver::new(lan.host_side())).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| stand.send_all());
        for receiver in &receivers {
            scope.spawn(move || expect_order_of_each_flow(receiver));
        }
    });
    let sent = u64::from(ROUNDS) * u64::from(FLOWS);
    assert_eq!((stand.input.worker().count(), stand.relay.received()), (2, sent));
    stand.relay.assert_balanced();
    let frames = stand.input.counters.frames_by_worker();
    assert_eq!((frames.len(), frames.iter().sum::<u64>()), (2, sent));
    assert!(frames.iter().all(|frames| *frames > sent / 8), "{frames:?}");
}

#[test]
fn queues_are_counted() {
    let net = Topology::device_relay_lan_with_queues(1, 4);
    let queues = |name: &str| net.relay().run(|| receive_queues(name)).map_err(|error| error.raw_os_error());
    assert_eq!((queues("dev0"), queues("lan1")), (Ok(4), Ok(1)));
    assert_eq!(queues("nowhere"), Err(Some(libc::ENODEV)));
    assert_eq!(queues("a-name-that-is-too-long"), Err(Some(libc::ENODEV)));
}

#[test]
fn what_this_host_sends_itself_is_seen_by_no_ring() {
    let stand = Stand::new(2);
    let own = RawSender::new(stand.net.relay_input());
    (0..FLOWS).for_each(|flow| own.send(&datagram(flow, 0)));
    RawSender::new(stand.net.device_interface()).send(&datagram(0, 0));
    wait_for_state(PATIENCE, "the device's one", || stand.relay.received(), |received| *received == 1);
    assert_eq!(stand.input.counters.snapshot().frames, 1);
}

#[test]
fn fragments_follow_their_first() {
    let stand = Stand::new(3);
    let sender = RawSender::new(stand.net.device_interface());
    for fragment in Frame::udp(&format!("{DEVICE}:1"), &GROUP_IN.to_string(), vec![7; 4_000]).fragments(1_400) {
        sender.send_bytes(&fragment);
    }
    // In one ring, so that the later ones come behind the first.
    let sent = || (stand.relay.received(), stand.relay.outputs[0].counters.snapshot().sent_packets);
    wait_for_state(PATIENCE, "all three sent", sent, |sent| *sent == (3, 3));
    assert_eq!(stand.input.dropped(DropReason::Fragment), 0);
}

#[test]
fn an_interface_that_went_down_feeds_all_rings_again() {
    let stand = Stand::new(2);
    stand.net.relay_input().down();
    stand.net.relay_input().up();
    let sender = RawSender::new(stand.net.device_interface());
    let fed = || {
        (0..FLOWS).for_each(|flow| sender.send(&datagram(flow, 0)));
        stand.input.counters.frames_by_worker()
    };
    wait_for_state(PATIENCE, "frames in both rings", fed, |frames| frames.iter().all(|frames| *frames > 0));
}

#[test]
fn rings_of_an_interface_that_is_down_open_and_are_fed_later() {
    let net = Topology::device_relay_lan(1);
    net.relay_input().down();
    let relay = Relay::new(GROUP_IN, vec![Output::open(net.lan(1))]);
    let input = Input::with_rings(net.relay_input(), RingGeometry::for_mtu(1500), 2);
    input.install(&[&relay]);
    net.relay_input().up();
    let sender = RawSender::new(net.device_interface());
    let fed = || {
        (0..FLOWS).for_each(|flow| sender.send(&datagram(flow, 0)));
        relay.received()
    };
    wait_for_state(PATIENCE, "frames", fed, |received| *received > 0);
}

/// One relay for each of many groups, from one sender: the group is in the hash.
#[test]
fn groups_of_one_sender_are_shared_out() {
    let net = Topology::device_relay_lan(1);
    let groups = (0..FLOWS).map(|n| SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, n as u8), 5_000));
    let relays: Vec<_> = groups.clone().map(|group| Relay::new(group, vec![Output::open(net.lan(1))])).collect();
    let input = Input::with_rings(net.relay_input(), RingGeometry::for_mtu(1500), 2);
    input.install(&relays.iter().collect::<Vec<_>>());
    let sender = RawSender::new(net.device_interface());
    for group in groups {
        let frame = Frame::udp(&format!("{DEVICE}:4000"), &group.to_string(), vec![1; 32]);
        sender.send(&frame.source_mac(Mac([2, 0, 0, 0, 0, 9])));
    }
    let received = || relays.iter().map(Relay::received).collect::<Vec<_>>();
    wait_for_state(PATIENCE, "one each", received, |received| received.iter().all(|received| *received == 1));
    assert!(input.counters.frames_by_worker().iter().all(|frames| *frames > 8));
    relays.iter().for_each(Relay::assert_balanced);
}
