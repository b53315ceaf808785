//! Copies that are larger than the MTU of their output, where it has them cut: through a worker, over cables.

mod harness;

use std::time::Duration;

use harness::{Input, Output, PATIENCE};
use mcr_datapath::{OutputAction, OutputEntry, RelayEntry, RingGeometry};
use mcr_testbed::table::{Cut, CutDatagram, Delivery, MARK, cuts};
use mcr_testbed::{OffloadingSender, RawReceiver, RawSender, Switch, Topology, put_together, wait_for_state};
use mcr_wire::{DropReason, RateCap, VlanId};

/// What has not come by then does not come.
const LATE: Duration = Duration::from_millis(20);

struct Stand {
    net: Topology,
    input: Input,
    output: Output,
    plain: RawSender,
    offloading: OffloadingSender,
    heard: RawReceiver,
}

impl Stand {
    fn new() -> Stand {
        let net = Topology::device_relay_lan(1);
        net.input().set_mtu(9000);
        // A lan that takes more than the table's outputs say: who obeys is the worker.
        net.lan(1).cable().set_mtu(9000);
        net.lan(1).cable().offload_sending(Switch::Off);
        let (input, output) = (Input::open(net.relay_input(), RingGeometry::for_mtu(9000)), Output::open(net.lan(1)));
        let (plain, offloading) =
            (RawSender::new(net.device_interface()), OffloadingSender::new(net.device_interface()));
        let heard = RawReceiver::new(net.lan(1).host_side());
        Stand { net, input, output, plain, offloading, heard }
    }

    fn install(&self, cut: &Cut) -> RelayEntry {
        let socket = std::sync::Arc::clone(&self.output.socket);
        let action = OutputAction::Send { socket, rewrite: cut.rewrite, mtu: cut.mtu };
        let outputs = vec![OutputEntry { counters: std::sync::Arc::default(), action, cap: RateCap::NONE }];
        let relay = cut.relay();
        let entry = RelayEntry {
            destination: relay.destination,
            sources: relay.sources,
            listing: relay.listing,
            counters: std::sync::Arc::default(),
            outputs,
            cap: RateCap::NONE,
        };
        self.input.install_entries(vec![entry.clone()], Vec::new());
        entry
    }

    fn send(&self, cut: &Cut, frame: &mcr_testbed::Frame) {
        match cut.delivery {
            Delivery::Whole => self.plain.send(frame),
            Delivery::Unfinished => self.offloading.send_unfinished(frame),
            Delivery::Segments(bytes) => self.offloading.send_segments(frame, bytes),
        }
    }

    fn next(&self, limit: Duration) -> Option<Vec<u8>> {
        loop {
            let frame = self.heard.next_frame(limit)?;
            if frame.bytes.get(6..10) == Some(&MARK) {
                return Some(frame.bytes);
            }
        }
    }

    /// The frames of one datagram, and bytes of their IP packets.
    #[track_caller]
    fn expect(&self, wanted: &CutDatagram, what: &str) -> (Option<u32>, u64) {
        let frames: Vec<_> = (0..wanted.pieces).filter_map(|_| self.next(PATIENCE)).collect();
        let bytes = frames.iter().map(|frame| frame.len() as u64 - 14).sum();
        (wanted.assert_is(&frames, what), bytes)
    }
}

#[test]
fn every_row() {
    let stand = Stand::new();
    for cut in cuts() {
        let entry = stand.install(&cut);
        let (mut packets, mut bytes, mut dropped, mut known) = (0, 0, 0, Vec::new());
        for (row, datagrams) in cut.sendings() {
            stand.send(&cut, &row.frame);
            for datagram in datagrams {
                let (identification, sent_bytes) = stand.expect(&datagram, cut.what);
                let is_sent = datagram.pieces > 0;
                (packets, bytes) = (packets + u64::from(is_sent), bytes + sent_bytes);
                dropped += u64::from(!is_sent);
                known.extend(identification);
            }
        }
        if matches!(cut.delivery, Delivery::Segments(_)) {
            known.dedup();
            assert_eq!(known.len(), 2, "each has an identification of its own");
        }
        assert_eq!(stand.next(LATE), None, "{}: and nothing more", cut.what);
        // However many pieces, one datagram sent is one.
        let counts = || {
            let counts = entry.outputs[0].counters.snapshot();
            (counts.sent_packets, counts.sent_bytes, counts.dropped.get(DropReason::TooBig), counts.dropped.total())
        };
        let wanted = (packets, bytes, dropped, dropped);
        wait_for_state(PATIENCE, &format!("{wanted:?} after {}", cut.what), counts, |counts| *counts == wanted);
    }
    assert_eq!(stand.input.counters.snapshot().dropped.total(), 0);
}

/// Two tags are more than a packet socket may send beyond the MTU: cut, full frames get through.
#[test]
fn full_frames_with_two_tags() {
    let stand = Stand::new();
    stand.net.lan(1).cable().set_mtu(1500);
    let mut cut = cuts().into_iter().find(|cut| cut.what == "it just fits").expect("a row");
    cut.rewrite.vlan = VlanId::new(200).and_then(|id| id.within(8));
    let entry = stand.install(&cut);
    stand.send(&cut, &cut.frames[0].0);
    let frames: Vec<_> = (0..2).filter_map(|_| stand.next(PATIENCE)).collect();
    assert!(frames.iter().all(|frame| frame.len() <= 1514), "{:?}", frames.iter().map(Vec::len).collect::<Vec<_>>());
    let (_, whole) = put_together(&frames).expect("fragments");
    assert_eq!(whole.len(), 14 + 8 + 1500);
    assert!(whole.ends_with(&cut.frames[0].0.bytes()[42..]));
    let counts = || entry.outputs[0].counters.snapshot();
    wait_for_state(PATIENCE, "one is sent", counts, |counts| (counts.sent_packets, counts.dropped.total()) == (1, 0));
}

/// One that the kernel does not take costs its datagram, once, and no other one.
#[test]
fn a_refused_piece_takes_the_rest_along() {
    let stand = Stand::new();
    let mut cut = cuts().into_iter().find(|cut| cut.what == "a full jumbo frame").expect("a row");
    // The table promises more than the interface takes: first and second piece are refused, the last is small enough.
    stand.net.lan(1).cable().set_mtu(1500);
    (cut.mtu, cut.frames[0].1) = (4000, 0);
    let entry = stand.install(&cut);
    let small = mcr_testbed::Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", vec![1; 100]);
    for frame in [&cut.frames[0].0, &small] {
        stand.send(&cut, frame);
    }
    let heard = stand.next(PATIENCE).expect("the small one");
    assert_eq!(heard.len(), 42 + 100);
    let counts = || {
        let counts = entry.outputs[0].counters.snapshot();
        (counts.sent_packets, counts.sent_bytes, counts.dropped.get(DropReason::TooBig), counts.dropped.total())
    };
    wait_for_state(PATIENCE, "one is sent, one dropped", counts, |counts| *counts == (1, 128, 1, 1));
    assert_eq!(stand.next(LATE), None);
}
