//! On a wire: a device with an address that nobody can answer, and what three lans hear of it.

mod stand;

use std::time::Duration;

use mcr_testbed::table::{destination, every_row_on_a_wire, rewrite};
use mcr_testbed::{Frame, Mac, Offload, RawReceiver, RawSender, Receiver, Sender, Switch, Tag};
use mcr_wire::{CodePoint, DropReason, Listing, MacAddr, Rewrite, TimeToLive, VlanId};
use stand::{Output, Relay, Stand};

const LIMIT: Duration = Duration::from_secs(10);
const DATAGRAMS: u64 = 6_400;

/// One relay to three lans, attached; the lans' own interfaces as source addresses.
fn three_lans() -> Stand {
    let mut stand = Stand::new(3);
    let outputs = (1..=3).map(|lan| {
        let rewrite = Rewrite {
            source_mac: MacAddr::new(stand.net.lan(lan).relay_side().mac().0),
            source: Some(stand.net.lan(lan).relay_address().into()),
            ttl: TimeToLive::Set(10 + lan as u8),
            dscp: CodePoint::Set(34),
            ..rewrite(&format!("239.2.2.{lan}:6001"))
        };
        Output::Send { lan, rewrite, mtu: 1500 }
    });
    let relay = Relay {
        destination: destination("239.1.1.1:5001", 0),
        sources: vec![],
        listing: Listing::Accepts,
        outputs: outputs.collect(),
    };
    stand.install(vec![relay]);
    stand
}

/// Everything that a sender sends is heard in each lan, once, whole, as from the relay, and the books balance.
fn relays_all_of(stand: &Stand, sender: Sender) {
    let _link = stand.attach();
    let listeners: Vec<Receiver> =
        (1..=3).map(|lan| Receiver::group(stand.net.lan(lan).host_side(), &format!("239.2.2.{lan}:6001"))).collect();
    let before = stand.totals();
    let sent = sender.datagrams_per_second(20_000).send(DATAGRAMS);
    for (number, listener) in (1..).zip(&listeners) {
        let heard = listener.expect(&sent, LIMIT);
        heard.assert_faultless();
        assert!(heard.sources.iter().all(|from| *from.ip() == stand.net.lan(number).relay_address()), "{heard:?}");
        assert_eq!(heard.ttls.iter().copied().collect::<Vec<u8>>(), [10 + number as u8]);
        assert_eq!(heard.traffic_classes.iter().copied().collect::<Vec<u8>>(), [34 << 2]);
    }
    let after = stand.totals();
    let received = after.relays[0].received_packets - before.relays[0].received_packets;
    let bytes = after.relays[0].received_bytes - before.relays[0].received_bytes;
    assert_eq!((received, bytes), (sent.datagrams, sent.payload_bytes + 28 * sent.datagrams));
    for (was, is) in before.outputs[0].iter().zip(&after.outputs[0]) {
        assert_eq!((is.sent_packets - was.sent_packets, is.sent_bytes - was.sent_bytes), (received, bytes));
        assert_eq!(is.dropped.total(), was.dropped.total());
    }
    assert!(after.relays[0].last_seen_nanoseconds > 0);
}

#[test]
fn an_unroutable_sender_with_checksums_left_to_offload() {
    let stand = three_lans();
    relays_all_of(&stand, Sender::new(stand.net.device(), "239.1.1.1:5001").payload_sizes(&[100, 1400, 33]));
}

#[test]
fn an_unroutable_sender_with_finished_checksums() {
    let stand = three_lans();
    stand.net.input().offload_sending(Switch::Off);
    relays_all_of(&stand, Sender::new(stand.net.device(), "239.1.1.1:5001").payload_sizes(&[100, 1400, 33]));
}

#[test]
fn super_frames() {
    let stand = three_lans();
    relays_all_of(&stand, Sender::new(stand.net.device(), "239.1.1.1:5001").payload_bytes(1200).segmented(32));
}

#[test]
fn super_frames_that_the_outputs_can_not_segment() {
    let stand = three_lans();
    for lan in stand.net.lans() {
        lan.relay_side().offload(Offload::SegmentUdp, Switch::Off);
        lan.cable().offload_sending(Switch::Off);
    }
    relays_all_of(&stand, Sender::new(stand.net.device(), "239.1.1.1:5001").payload_bytes(1200).segmented(32));
}

#[test]
fn frames_that_the_kernel_gathered() {
    relays_all_that_is_gathered(&three_lans());
}

/// What a program at the driver passes on is in pages of its own, and gathered as pages rather than as a list of frames.
#[test]
fn frames_that_the_kernel_gathered_behind_the_driver() {
    let stand = three_lans();
    let _link = stand.attach_at_driver();
    relays_all_that_is_gathered(&stand);
}

fn relays_all_that_is_gathered(stand: &Stand) {
    stand.net.relay_input().offload(Offload::GatherForwardedUdp, Switch::On);
    // Cut by the sender's host, so that they come as on a wire, but many at a time.
    stand.net.input().offload_sending(Switch::Off);
    stand.net.device_interface().queue_at_peer();
    let tap = RawReceiver::new(stand.net.relay_input());
    relays_all_of(stand, Sender::new(stand.net.device(), "239.1.1.1:5001").payload_bytes(1200).segmented(32));
    let frames = std::iter::from_fn(|| tap.next_frame(Duration::ZERO));
    assert!(frames.map(|frame| frame.bytes.len()).any(|bytes| bytes > 2 * 1200), "nothing was gathered");
}

#[test]
fn super_frames_whose_segments_are_too_big_are_counted_by_segment() {
    let mut stand = three_lans();
    let mut relays = stand.relays.clone();
    for output in &mut relays[0].outputs[..2] {
        if let Output::Send { mtu, .. } = output {
            *mtu = 1000;
        }
    }
    stand.install(relays);
    let _link = stand.attach();
    let listener = Receiver::group(stand.net.lan(3).host_side(), "239.2.2.3:6001");
    let sent = Sender::new(stand.net.device(), "239.1.1.1:5001").payload_bytes(1200).segmented(32).send(640);
    listener.expect(&sent, LIMIT).assert_faultless();
    let outputs = &stand.totals().outputs[0];
    assert_eq!(outputs[0].dropped.get(DropReason::TooBig), 640);
    assert_eq!((outputs[1].dropped.get(DropReason::TooBig), outputs[1].sent_packets), (640, 0));
    assert_eq!(outputs[2].sent_packets, 640);
}

#[test]
fn every_row_of_the_table_that_all_datapaths_share() {
    let mut stand = Stand::new(2);
    let _link = stand.attach();
    every_row_on_a_wire(&mut stand);
}

/// What can not be told by a single run: tags that the kernel took out, tags on the last copy, jumbo frames, cut headers.
#[test]
fn frames_from_a_wire_are_as_mcr_wire_has_them() {
    let mut stand = Stand::new(2);
    for cable in [stand.net.input(), stand.net.lan(1).cable(), stand.net.lan(2).cable()] {
        cable.set_mtu(9000);
    }
    stand.our_macs = vec![MacAddr::new([2, 0x10, 0, 0, 0, 1])];
    let tagged = Rewrite { vlan: VlanId::new(300), ..rewrite("239.2.2.2:6001") };
    let plain = Rewrite { dscp: CodePoint::Set(8), source_port: Some(9), ..rewrite("239.2.2.1:6001") };
    let to = |lan, rewrite| Output::Send { lan, rewrite, mtu: 9000 };
    let relay = |vlan, outputs| Relay {
        destination: destination("239.1.1.1:5001", vlan),
        sources: vec![],
        listing: Listing::Accepts,
        outputs,
    };
    stand.install(vec![
        relay(0, vec![to(1, plain), to(1, tagged), to(2, plain), to(2, tagged)]),
        relay(100, vec![to(1, tagged), to(2, plain)]),
        relay(100, vec![to(2, tagged)]),
    ]);
    let _link = stand.attach();
    let sender = RawSender::new(stand.net.device_interface());
    let carrying = |bytes: usize| Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", vec![0xa5; bytes]);
    let both = [0x1064, 0xe064, 0x0064, 0xa000, 0x0fff, 101].map(|control| Tag { protocol: 0x8100, control });
    let mut frames = vec![carrying(5), carrying(1400), carrying(8950), carrying(5000).ttl(1), carrying(1).padding(17)];
    frames.extend(both.map(|tag| carrying(700).tag(tag)));
    frames.extend(both.map(|tag| carrying(1).tag(tag).padding(13)));
    frames.extend([
        carrying(5).tag(Tag::service(100)),
        carrying(5).tag(Tag::service(7)).tag(Tag::vlan(100)),
        carrying(8000).tag(Tag::vlan(100)),
        carrying(8000).udp_checksum(mcr_testbed::Checksum::Wrong),
        carrying(5).udp_checksum(mcr_testbed::Checksum::Zero),
        carrying(5).cut_to(33),
        carrying(5).cut_to(15),
        carrying(5).tag(Tag::vlan(100)).cut_to(30),
        carrying(5).source_mac(Mac([2, 0x10, 0, 0, 0, 1])),
    ]);
    for frame in frames {
        let bytes = frame.bytes();
        let expected = stand.expected(&bytes);
        sender.send_bytes(&bytes);
        for (lan, copy) in &expected.copies {
            assert_eq!(stand.heard(*lan, Duration::from_secs(1)).as_ref(), Some(copy), "lan{lan}: {frame:?}");
        }
    }
    stand.assert_silence();
}

#[test]
fn what_is_not_ours_reaches_the_host() {
    let stand = three_lans();
    let _link = stand.attach();
    stand.net.device().ip("address add 10.0.0.55/24 dev eth0");
    let local = Receiver::unicast(stand.net.relay(), "10.0.0.1:5001");
    let sent = Sender::bound(stand.net.device(), "10.0.0.55:0", "10.0.0.1:5001").send(100);
    local.expect(&sent, LIMIT).assert_faultless();
    assert_eq!(stand.totals().relays[0].received_packets, 0);
}

#[test]
fn an_output_that_is_gone_costs_the_others_nothing() {
    let stand = three_lans();
    let _link = stand.attach();
    stand.net.lan(1).cable().clone().delete();
    stand.net.lan(3).cable().clone().delete();
    let listener = Receiver::group(stand.net.lan(2).host_side(), "239.2.2.2:6001");
    let sent = Sender::new(stand.net.device(), "239.1.1.1:5001").datagrams_per_second(10_000).send(1_000);
    listener.expect(&sent, LIMIT).assert_faultless();
    let outputs = &stand.totals().outputs[0];
    assert_eq!(outputs[1].sent_packets, 1_000);
    for gone in [outputs[0], outputs[2]] {
        assert_eq!((gone.sent_packets, gone.dropped.get(DropReason::OutputMissing)), (0, 1_000));
    }
}
