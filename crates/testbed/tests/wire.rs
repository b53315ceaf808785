//! Senders and receivers of the test bed agree with each other and with the kernel about every byte.

use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use mcr_testbed::{
    Checksum, ChecksumStatus, Frame, RawReceiver, RawSender, Receiver, Seen, Sender, Switch, Tag, Topology, kernel,
    payload, wait_until,
};

const GROUP: &str = "239.1.1.1:5001";
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn marks_and_sizes_arrive_as_sent() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let receiver = Receiver::group(lan.host_side(), GROUP);
    let mut sender = Sender::bound(topology.relay(), "10.0.1.1:4000", GROUP)
        .out_of(lan.relay_side())
        .ttl(7)
        .dscp(46)
        .payload_sizes(&[16, 1472, 3000]);
    let (first, second) = (sender.send(10), sender.send(90));
    assert_eq!((first.first, second.first), (0, 10));
    let tally = receiver.expect(&second, LIMIT);
    assert_eq!(tally.sources, ["10.0.1.1:4000".parse().expect("an endpoint")].into());
    assert_eq!((tally.ttls, tally.traffic_classes), ([7].into(), [46 << 2].into()));
    assert_eq!(tally.sizes, [16, 1472, 3000].into());
}

#[test]
fn a_burst_far_over_the_backlog_is_not_lost_in_the_wire() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let receiver = Receiver::group(lan.host_side(), GROUP);
    let sender = Sender::bound(topology.relay(), "10.0.1.1:0", GROUP).out_of(lan.relay_side());
    let sent = sender.segmented(40).send(20_000);
    assert_eq!(sent.datagrams, 20_000);
    let tally = receiver.expect(&sent, LIMIT);
    eprintln!("{:.0} datagrams a second", sent.datagrams as f64 / sent.took.as_secs_f64());
    assert_eq!(tally.payload_bytes, sent.payload_bytes);
}

#[test]
fn a_paced_sender_keeps_to_its_rate_and_stops_when_told() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let receiver = Receiver::unicast(lan.namespace(), "10.0.1.2:5001");
    let sender = Sender::new(topology.relay(), "10.0.1.2:5001").datagrams_per_second(2_000);
    let sending = sender.start();
    receiver.wait_for(200, LIMIT);
    let sent = sending.stop();
    receiver.expect(&sent, LIMIT);
    let rate = sent.datagrams as f64 / sent.took.as_secs_f64();
    assert!((1_000.0..=2_100.0).contains(&rate), "{rate} a second");
}

#[test]
fn a_receiver_that_comes_late_expects_only_what_it_can_have_heard() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let mut sender = Sender::new(topology.relay(), GROUP).out_of(lan.relay_side());
    sender.send(10);
    let receiver = Receiver::group(lan.host_side(), GROUP);
    let sent = sender.send(50);
    assert_eq!(receiver.expect(&sent, LIMIT).distinct(sent.stream), 50);
}

#[test]
fn a_sender_takes_the_address_of_the_interface_that_it_is_given() {
    let topology = Topology::device_relay_lan(2);
    let to_the_second = Sender::new(topology.relay(), GROUP).out_of(topology.lan(2).relay_side());
    assert_eq!(*to_the_second.source().ip(), topology.lan(2).relay_address());
}

#[test]
fn what_was_lost_is_told_by_its_number() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let mut sender = Sender::new(topology.relay(), GROUP).out_of(lan.relay_side());
    let sent = sender.send(3);
    let receiver = Receiver::group(lan.host_side(), GROUP);
    let late = std::panic::catch_unwind(AssertUnwindSafe(|| receiver.expect(&sent, Duration::from_millis(30))));
    let said = late.expect_err("it panics").downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(said.contains("reached Progress { lost: 3, tally: Tally { datagrams: 0,"), "{said}");
}

#[test]
fn payloads_of_any_size_are_sent_and_kept_as_they_are() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let payloads: Vec<Vec<u8>> = (0..500).map(|number| vec![number as u8; number * 3]).collect();
    let receiver = Receiver::group(lan.host_side(), GROUP).keep_payloads();
    let beside = Receiver::group(lan.host_side(), GROUP);
    let sender = Sender::new(topology.relay(), GROUP).out_of(lan.relay_side()).datagrams_per_second(5_000);
    sender.send_payloads(&payloads);
    receiver.wait_for(500, LIMIT);
    assert_eq!(receiver.payloads(), payloads);
    assert_eq!(beside.wait_for(500, LIMIT).datagrams, 500);
}

#[test]
fn crafted_frames_arrive_byte_for_byte() {
    let topology = Topology::device_relay_lan(0);
    let receiver = RawReceiver::new(topology.relay_input());
    let sender = RawSender::new(topology.device_interface());
    let plain = || Frame::udp("192.168.168.55:5000", GROUP, vec![9; 100]);
    let mut frames: Vec<Vec<u8>> = [
        plain(),
        plain().tag(Tag::with_priority(12, 5)),
        plain().tag(Tag::service(7)).tag(Tag::vlan(8)),
        plain().ip_checksum(Checksum::Wrong),
        plain().udp_checksum(Checksum::Zero),
        plain().options(&[7, 4, 0, 0]),
        plain().padding(20),
        plain().cut_to(30),
        plain().version(6).header_words(3).udp_length(7),
    ]
    .iter()
    .map(Frame::bytes)
    .collect();
    frames.extend(plain().fragments(48));
    for frame in &frames {
        sender.send_bytes(frame);
        let received = receiver.next_frame(LIMIT).expect("a frame");
        assert_eq!(received.bytes, *frame);
        assert_eq!(received.checksum, ChecksumStatus::Unchecked);
    }
}

#[test]
fn a_socket_leaves_its_checksum_to_the_device_unless_that_is_switched_off() {
    let topology = Topology::device_relay_lan(0);
    let receiver = RawReceiver::new(topology.relay_input());
    let mut sender = Sender::new(topology.device(), GROUP);
    let mut checksum = || {
        sender.send(1);
        loop {
            let frame = receiver.next_frame(LIMIT).expect("a frame");
            if let Some(seen) = Seen::read(&frame.bytes) {
                return (frame.checksum, seen.udp_checksum_is_right);
            }
        }
    };
    assert_eq!(checksum(), (ChecksumStatus::Unfinished, false));
    topology.input().offload_sending(Switch::Off);
    // Without checksums a device cannot segment TCP either, so that the frame goes through the receiver's gathering.
    assert_eq!(checksum(), (ChecksumStatus::FoundRight, true));
}

#[test]
fn what_goes_to_a_lan_is_taken_by_its_napi() {
    let topology = Topology::device_relay_lan(1);
    let receiver = RawReceiver::new(topology.lan(1).host_side());
    RawSender::new(topology.lan(1).relay_side()).send(&Frame::udp("10.0.1.1:5000", GROUP, vec![9; 100]));
    // Only gathering, which runs in NAPI, looks at the checksum before a packet socket sees the frame.
    assert_eq!(receiver.next_frame(LIMIT).expect("a frame").checksum, ChecksumStatus::FoundRight);
}

#[test]
fn a_crafted_frame_is_accepted_by_the_kernel_and_a_damaged_one_is_not() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let receiver = Receiver::group(lan.host_side(), GROUP);
    let sender = RawSender::new(lan.relay_side());
    let mut content = vec![0; 200];
    payload::fill(&mut content, 1_000_000, 0);
    let frame = Frame::udp("10.0.1.1:5000", GROUP, content);
    sender.send(&frame.clone().udp_checksum(Checksum::Wrong));
    sender.send(&frame.clone().ip_checksum(Checksum::Wrong));
    sender.send(&frame.clone().udp_checksum(Checksum::Zero).ttl(3));
    for fragment in frame.fragments(96) {
        sender.send_bytes(&fragment);
    }
    let tally = receiver.wait_for(2, LIMIT);
    assert_eq!((tally.datagrams, tally.duplicated, tally.corrupt), (2, 1, 0));
    assert_eq!(tally.ttls, [3, 16].into());
}

#[test]
fn memberships_are_seen_and_go_with_their_socket() {
    let topology = Topology::device_relay_lan(1);
    let lan = topology.lan(1);
    let groups = || kernel::joined_groups(lan.namespace(), "eth0");
    assert_eq!(groups(), Vec::<Ipv4Addr>::new());
    let any = Receiver::group(lan.host_side(), GROUP);
    let specific = Receiver::group_from(lan.host_side(), "232.1.1.1:5001", Ipv4Addr::new(10, 0, 1, 1));
    assert_eq!(groups().len(), 2);
    let wanted = ("eth0".to_owned(), Ipv4Addr::new(232, 1, 1, 1), Ipv4Addr::new(10, 0, 1, 1));
    assert_eq!(kernel::joined_sources(lan.namespace()), [wanted]);
    drop((any, specific));
    wait_until(LIMIT, "no group is joined", || groups().is_empty());
}
