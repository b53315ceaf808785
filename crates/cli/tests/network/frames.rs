//! Frames that no ordinary socket sends: each is relayed rightly or leaves by a named door.

use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{Checksum, DEVICE, DEVICE6, Frame, RawReceiver, RawSender, Switch, Tag, Topology, wait_until};

use crate::service::{SOON, Service};
use crate::traffic::{self, Payloads, Receiver, send_payloads};

for_each_datapath!(
    good_ones_arrive_with_what_is_to_be_kept,
    bad_ones_leave_by_name,
    datagrams_in_fragments_arrive_whole,
    two_tags_are_matched_pushed_and_taken_off,
);

const SOURCE: &str = "192.168.168.55:4000";
const GROUP: &str = "239.1.1.1:5001";

fn frame(payload: &[u8]) -> Frame {
    Frame::udp(SOURCE, GROUP, payload.to_vec())
}

fn good_ones_arrive_with_what_is_to_be_kept(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("plain", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    service.add("tagged", "dev0:239.1.1.1:5001,vlan=100", &["lan1:239.2.2.2:6002,vlan=200"]);
    let sender = RawSender::new(net.device_interface());
    let receiver = RawReceiver::new(net.lan(1).host_side());
    let limit = Duration::from_secs(2);

    sender.send(&frame(b"padded").padding(20).traffic_class(0xb9).ttl(1).identification(77));
    let seen = receiver.next_udp(limit);
    assert_eq!(seen.payload, b"padded", "the padding is cut off");
    assert_eq!((seen.ttl, seen.traffic_class, seen.identification), (16, 0xb9, 77));
    assert_eq!(seen.source.to_string(), "10.0.1.1:4000");
    assert!(seen.udp_checksum_is_right && seen.ip_checksum_is_right);

    sender.send(&frame(b"zero").udp_checksum(Checksum::Zero));
    let seen = receiver.next_udp(limit);
    assert_eq!((seen.payload.as_slice(), seen.udp_checksum), (b"zero".as_slice(), 0), "a zero checksum stays zero");

    sender.send(&frame(b"tag").tag(Tag::with_priority(100, 5)));
    let seen = receiver.next_udp(limit);
    assert_eq!(seen.destination.to_string(), "239.2.2.2:6002");
    assert_eq!(seen.tags, [Tag::with_priority(200, 5)], "the priority is kept");

    sender.send(&frame(b"").padding(18));
    assert_eq!(receiver.next_udp(limit).payload, b"", "an empty datagram is a datagram");
    service.assert_balance();
}

fn bad_ones_leave_by_name(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let sender = RawSender::new(net.device_interface());
    let whole = frame(&[7; 200]);
    let bytes = whole.bytes();
    for frame in [
        frame(b"x").udp_checksum(Checksum::Wrong),
        frame(b"x").ip_checksum(Checksum::Wrong),
        frame(b"x").udp_length(4),
        frame(b"x").udp_length(300),
        frame(b"x").options(&[1, 1, 1, 1]),
        frame(&[1; 64]).flags_and_offset(0x2000),
        frame(&[1; 64]).tag(Tag::vlan(9)),
        frame(&[1; 64]).tag(Tag::service(9)).tag(Tag::vlan(10)),
        Frame::udp(SOURCE, GROUP, vec![0; 1400]).total_length(1500),
    ] {
        sender.send(&frame);
    }
    for cut in 14..bytes.len() {
        sender.send_bytes(&bytes[..cut]);
    }
    let dropped = |reason: &str| service.relay("camera")["outputs"][0]["dropped"][reason].as_u64().unwrap_or(0);
    wait_until(SOON, "every bad frame is counted", || dropped("truncated") > 100);
    for (reason, at_least) in
        [("bad_udp_checksum", 1), ("bad_ip_checksum", 1), ("bad_udp_length", 3), ("ip_options", 1)]
    {
        assert!(dropped(reason) >= at_least, "{reason}: {:#}", service.relay("camera"));
    }
    // And the relay still works.
    let receiver = RawReceiver::new(net.lan(1).host_side());
    sender.send(&whole);
    assert_eq!(receiver.next_udp(Duration::from_secs(2)).payload, [7; 200]);
    service.assert_balance();
}

fn two_tags_are_matched_pushed_and_taken_off(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    let two = "dev0:239.1.1.1:5001,vlan=100,outer-vlan=7";
    service.add("both", two, &["lan1:239.2.2.1:6001,vlan=200,outer-vlan=8", "lan1:239.2.2.2:6001"]);
    let set = "lan1:239.2.2.3:6001,vlan=4094,outer-vlan=1,priority=6";
    service.add("pushed", "dev0:239.1.1.1:5001", &[set]);
    let sender = RawSender::new(net.device_interface());
    let receiver = RawReceiver::new(net.lan(1).host_side());
    let limit = Duration::from_secs(2);
    let outer = |control| Tag { protocol: 0x88a8, control };
    for (payload, frames) in [(&b"in two tags"[..], 3), (&[9; 1400], 20)] {
        for _ in 0..frames {
            // In another VLAN within that one, in the same without one around it, the other way around, in three: nobody's.
            sender.send(&frame(payload).tag(Tag::service(7)).tag(Tag::vlan(101)));
            sender.send(&frame(payload).tag(Tag::vlan(100)));
            sender.send(&frame(payload).tag(Tag::service(100)).tag(Tag::vlan(7)));
            sender.send(&frame(payload).tag(Tag::service(7)).tag(Tag::vlan(100)).tag(Tag::vlan(100)));
            sender.send(&frame(payload).tag(outer(0xa007)).tag(Tag::with_priority(100, 2)));
            let mut seen = [receiver.next_udp(limit), receiver.next_udp(limit)];
            seen.sort_by_key(|seen| seen.destination);
            assert_eq!(seen.each_ref().map(|seen| seen.destination.to_string()), ["239.2.2.1:6001", "239.2.2.2:6001"]);
            assert_eq!(seen[0].tags, [outer(0xa008), Tag::with_priority(200, 5)], "the outer priority is kept");
            assert_eq!(seen[1].tags, []);
            assert!(seen.iter().all(|seen| seen.payload == payload && seen.udp_checksum_is_right), "{seen:?}");
            sender.send(&frame(payload));
            let seen = receiver.next_udp(limit);
            assert_eq!(seen.tags, [outer(0xc001), Tag::with_priority(4094, 6)]);
            assert_eq!((&seen.payload[..], seen.udp_checksum_is_right), (payload, true));
        }
    }
    service.assert_balance();
    assert_eq!(service.relay("both")["received"]["packets"], 23);
    assert_eq!(service.relay("both")["relay"]["input"]["outer_vlan"], 7, "{:#}", service.relay("both"));
}

/// Up to the largest that there is, of each family to each.
fn datagrams_in_fragments_arrive_whole(datapath: Datapath) {
    for checksum_offload in [Switch::On, Switch::Off] {
        let net = Topology::device_relay_lan(2).with_ipv6();
        net.input().offload_sending(checksum_offload);
        // A fragment of IPv6 is longer than one of IPv4.
        net.lan(2).cable().set_mtu(1600);
        let service = Service::start_on(datapath, net.relay(), "");
        service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001", "lan2:[ff3e::2:2]:6002"]);
        service.add("camera6", "dev0:[ff3e::1:1]:5001", &["lan2:[ff3e::2:3]:6001", "lan1:239.2.2.2:6002"]);
        let start = |lan: usize, on: &str| {
            let lan = net.lan(lan);
            Receiver::start(lan.namespace(), lan.host_address(), on.parse().expect("an end"), Payloads::Keep)
        };
        let sizes = [1473, 1, 65_507, 1480, 3000, 1452, 65_500, 2960];
        let payloads: Vec<Vec<u8>> = (0..16_usize).map(|number| payload(number, sizes[number % sizes.len()])).collect();
        let group6 = "[ff3e::1:1]:5001".parse().expect("an end");
        let same = [start(1, "239.2.2.1:6001"), start(2, "[ff3e::2:3]:6001")];
        let other = [start(2, "[ff3e::2:2]:6002"), start(1, "239.2.2.2:6002")];
        send_payloads(net.device(), DEVICE, traffic::GROUP, &payloads, Duration::from_millis(5));
        send_payloads(net.device(), DEVICE6, group6, &payloads, Duration::from_millis(5));
        for receiver in same.into_iter().chain(other) {
            let heard = receiver.finish(payloads.len() as u64).payloads;
            assert!(heard == payloads, "{} arrived: {:#}", heard.len(), service.relay("camera6"));
        }
        service.assert_balance();
        for name in ["camera", "camera6"] {
            let relay = service.relay(name);
            for output in 0..2 {
                assert_eq!(relay["outputs"][output]["dropped"], serde_json::json!({}), "{relay:#}");
                assert_eq!(relay["outputs"][output]["sent"]["packets"], relay["received"]["packets"], "{relay:#}");
            }
        }
    }
}

/// From whole frames of IPv4 to IPv6, and from jumbo frames to ordinary ones. What arrives is put together by the receiver's kernel.
#[test]
fn copies_that_are_too_large_leave_in_fragments_where_that_is_asked_for() {
    for checksum_offload in [Switch::On, Switch::Off] {
        let shown = large_copies_leave_in_fragments(checksum_offload, |net| Service::start(net.relay(), ""));
        let why =
            "not tcx: copies to lan1 may leave in fragments, and tcx cuts nothing whose checksum is left to a device";
        assert_eq!(shown, ("packet".to_owned(), why.to_owned()));
    }
}

#[test]
fn copies_that_are_too_large_leave_the_kernel_in_fragments_where_it_is_asked_for() {
    let start = |net: &Topology| Service::start_on(Datapath::Tcx, net.relay(), "");
    let shown = large_copies_leave_in_fragments(Switch::Off, start);
    assert_eq!(shown, ("tcx".to_owned(), "tcx is what was asked for".to_owned()));
}

/// What a sender on the same machine leaves to its device is dropped by name there; what need not be cut is sent.
#[test]
fn copies_with_unfinished_checksums_are_not_cut_in_the_kernel() {
    let net = Topology::device_relay_lan(1);
    net.input().set_mtu(9000);
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001,fragment=true"]);
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().expect("an end");
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Keep);
    let payloads: Vec<Vec<u8>> = [3000, 1472, 1473, 10].map(|bytes| payload(0, bytes)).to_vec();
    send_payloads(net.device(), DEVICE, traffic::GROUP, &payloads, Duration::from_millis(5));
    assert!(receiver.finish(2).payloads == [payloads[1].clone(), payloads[3].clone()]);
    service.assert_balance();
    let relay = service.relay("camera");
    assert_eq!(relay["outputs"][0]["dropped"], serde_json::json!({ "too_big": 2 }), "{relay:#}");
}

/// By which datapath they did, and why.
fn large_copies_leave_in_fragments(
    checksum_offload: Switch,
    start_service: impl Fn(&Topology) -> Service,
) -> (String, String) {
    let net = Topology::device_relay_lan(2).with_ipv6();
    net.input().set_mtu(9000);
    net.input().offload_sending(checksum_offload);
    let service = start_service(&net);
    let outputs = ["lan1:239.2.2.1:6001,fragment=true", "lan2:[ff3e::2:2]:6002,fragment=true", "lan1:239.2.2.3:6003"];
    service.add("camera", "dev0:239.1.1.1:5001", &outputs);
    let start = |lan: usize, on: &str| {
        let lan = net.lan(lan);
        Receiver::start(lan.namespace(), lan.host_address(), on.parse().expect("an end"), Payloads::Keep)
    };
    let cut = [start(1, "239.2.2.1:6001"), start(2, "[ff3e::2:2]:6002")];
    let whole = start(1, "239.2.2.3:6003");
    let sizes = [1473, 1, 8972, 1472, 3000, 1452, 1453];
    let payloads: Vec<Vec<u8>> = (0..28_usize).map(|number| payload(number, sizes[number % sizes.len()])).collect();
    send_payloads(net.device(), DEVICE, traffic::GROUP, &payloads, Duration::from_millis(5));
    for receiver in cut {
        let heard = receiver.finish(payloads.len() as u64).payloads;
        assert!(heard == payloads, "{} arrived: {:#}", heard.len(), service.relay("camera"));
    }
    let short: Vec<Vec<u8>> = payloads.into_iter().filter(|payload| payload.len() <= 1472).collect();
    assert!(whole.finish(short.len() as u64).payloads == short, "{:#}", service.relay("camera"));
    service.assert_balance();
    let relay = service.relay("camera");
    // A datagram sent is one, in however many pieces.
    let sent =
        |output: usize| (relay["outputs"][output]["sent"]["packets"].as_u64(), &relay["outputs"][output]["dropped"]);
    assert_eq!((sent(0).0, sent(1).0), (Some(28), Some(28)), "{relay:#}");
    assert_eq!(sent(2), (Some(16), &serde_json::json!({ "too_big": 12 })), "{relay:#}");
    assert_eq!(relay["relay"]["output"][0]["fragment"], true);
    let shown = service.mcr(&["show", "camera"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("fragments"), "{shown:?}");
    let text = |key: &str| relay[key].as_str().unwrap_or_default().to_owned();
    (text("datapath"), text("datapath_reason"))
}

fn payload(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (number * 31 + at * 7 + at / 251) as u8).collect()
}
