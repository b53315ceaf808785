//! Copies that are larger than the MTU of their output, where it has them cut: through the program at tcx ingress, on a wire.

mod stand;

use std::time::Duration;

use mcr_testbed::table::{Cut, CutDatagram, Delivery, Row, cuts};
use mcr_testbed::{Frame, OffloadingSender, RawSender, Switch, put_together};
use mcr_wire::{DropReason, FrameMeta, VlanId, parse_following};
use stand::{Output, Relay, Stand};

const PATIENCE: Duration = Duration::from_secs(5);
/// What has not come by then does not come.
const LATE: Duration = Duration::from_millis(20);

struct Senders {
    plain: RawSender,
    offloading: OffloadingSender,
}

/// A stand with lans that take more than the table's outputs say: who obeys is the program.
fn stand() -> (Stand, Senders) {
    let stand = Stand::new(1);
    stand.net.input().set_mtu(9000);
    stand.net.lan(1).cable().set_mtu(9000);
    stand.net.lan(1).cable().offload_sending(Switch::Off);
    let device = stand.net.device_interface();
    let senders = Senders { plain: RawSender::new(device), offloading: OffloadingSender::new(device) };
    (stand, senders)
}

impl Senders {
    fn send(&self, row: &Row) {
        match row.delivery {
            Delivery::Whole => self.plain.send(&row.frame),
            Delivery::Unfinished => self.offloading.send_unfinished(&row.frame),
            Delivery::Segments(bytes) => self.offloading.send_segments(&row.frame, bytes),
        }
    }
}

/// The frames of one datagram, and bytes of their IP packets.
#[track_caller]
fn expect(stand: &Stand, wanted: &CutDatagram, what: &str) -> (Option<u32>, u64) {
    let frames: Vec<_> = (0..wanted.pieces).filter_map(|_| stand.heard(1, PATIENCE)).collect();
    let bytes = frames.iter().map(|frame| frame.len() as u64 - 14).sum();
    (wanted.assert_is(&frames, what), bytes)
}

/// Sent packets and bytes, those that were too big, and all that were dropped, of each output.
fn counts(stand: &Stand) -> Vec<(u64, u64, u64, u64)> {
    let totals = stand.totals().outputs.remove(0);
    let of = |output: &mcr_kernel_path::OutputSnapshot| {
        (output.sent_packets, output.sent_bytes, output.dropped.get(DropReason::TooBig), output.dropped.total())
    };
    totals.iter().map(of).collect()
}

/// What comes with a checksum or segments left to a device is whole, or it is dropped by name.
#[test]
fn every_row() {
    let (mut stand, senders) = stand();
    let _link = stand.attach();
    let mut known = Vec::new();
    for cut in cuts() {
        stand.install(vec![cut.relay()]);
        let (mut packets, mut bytes, mut dropped) = (0, 0, 0);
        for (row, datagrams) in cut.sendings() {
            senders.send(&row);
            for datagram in datagrams {
                if cut.delivery != Delivery::Whole {
                    dropped += 1;
                    continue;
                }
                let (identification, sent_bytes) = expect(&stand, &datagram, cut.what);
                let is_sent = datagram.pieces > 0;
                (packets, bytes) = (packets + u64::from(is_sent), bytes + sent_bytes);
                dropped += u64::from(!is_sent);
                known.extend(identification.filter(|_| cut.frames.len() == 1));
            }
        }
        assert_eq!(stand.heard(1, LATE), None, "{}: and nothing more", cut.what);
        // However many pieces, one datagram sent is one.
        assert_eq!(counts(&stand), [(packets, bytes, dropped, dropped)], "{}", cut.what);
    }
    let datagrams = known.len();
    known.iter_mut().for_each(|identification| *identification &= 0xffff);
    known.sort_unstable();
    known.dedup();
    assert!(datagrams == 12 && known.len() == datagrams, "each has an identification of its own: {known:?}");
}

/// A frame is cut once and again, in each family, and is whole in between and afterwards: for two relays that share it.
#[test]
fn outputs_that_cut_and_others_have_turns() {
    let (mut stand, senders) = stand();
    let _link = stand.attach();
    for what in ["no UDP checksum", "a full jumbo frame", "jumbo of IPv6", "a fragment of IPv6 that is whole"] {
        for tags in [None, VlanId::new(200), VlanId::new(200).and_then(|id| id.within(8))] {
            let find = |what: &str| cuts().into_iter().find(|cut| cut.what == what).expect("a row");
            let frame = find(what).frames.remove(0).0;
            let four = Cut { frames: vec![(frame.clone(), 0)], mtu: 1200, ..find("a full jumbo frame") };
            let six = Cut { rewrite: find("a full jumbo frame to IPv6").rewrite, mtu: 1280, ..four.clone() };
            let (four, six) = (tagged(&four, tags), tagged(&six, tags));
            let whole = |cut: &Cut| Cut { mtu: 9000, ..cut.clone() };
            let order = [&whole(&four), &six, &whole(&six), &four, &six, &four, &whole(&four), &whole(&six), &six];
            let relay = |cuts: &[&Cut]| Relay {
                outputs: cuts.iter().map(|cut| Output::Send { lan: 1, rewrite: cut.rewrite, mtu: cut.mtu }).collect(),
                ..four.relay()
            };
            stand.install(vec![relay(&order[..4]), relay(&order[4..])]);
            senders.plain.send(&frame);
            for (place, cut) in order.into_iter().enumerate() {
                let pieces = pieces_of(&frame, cut);
                let cut = Cut { frames: vec![(frame.clone(), pieces)], ..cut.clone() };
                let (_, datagrams) = cut.sendings().next().expect("one");
                expect(&stand, &datagrams[0], &format!("{what}, {tags:?}, output {place}"));
            }
            assert_eq!(stand.heard(1, LATE), None, "{what}");
            assert!(stand.totals().outputs.iter().flatten().all(|output| output.sent_packets == 1), "{what}");
        }
    }
}

fn tagged(cut: &Cut, tags: Option<VlanId>) -> Cut {
    let mut cut = cut.clone();
    cut.rewrite.vlan = tags;
    cut
}

/// In how many pieces mcr-wire has a frame leave.
fn pieces_of(frame: &Frame, cut: &Cut) -> usize {
    let bytes = frame.bytes();
    let datagram = parse_following(&bytes, &FrameMeta::PLAIN, |_| None).expect("a datagram");
    let mtu = cut.rewrite.room(cut.mtu) as usize;
    if cut.rewrite.bytes_before(&datagram) + datagram.payload.len() <= mtu {
        return 1;
    }
    cut.rewrite.pieces(&datagram, mtu, 0).expect("pieces").len()
}

/// Two tags are more than some interfaces send beyond the MTU: cut, full frames get through.
#[test]
fn full_frames_with_two_tags() {
    let (mut stand, senders) = stand();
    let _link = stand.attach();
    stand.net.lan(1).cable().set_mtu(1500);
    let cut = cuts().into_iter().find(|cut| cut.what == "it just fits").expect("a row");
    stand.install(vec![tagged(&cut, VlanId::new(200).and_then(|id| id.within(8))).relay()]);
    let frame = &cut.frames[0].0;
    senders.plain.send(frame);
    let frames: Vec<_> = (0..2).filter_map(|_| stand.heard(1, PATIENCE)).collect();
    assert!(frames.iter().all(|frame| frame.len() <= 1514), "{:?}", frames.iter().map(Vec::len).collect::<Vec<_>>());
    let (_, whole) = put_together(&frames).expect("fragments");
    assert_eq!(whole.len(), 14 + 8 + 1500);
    assert!(whole.ends_with(&frame.bytes()[42..]));
    assert_eq!(counts(&stand)[0].0, 1);
}

/// One that the interface does not take costs its datagram, once, and no other one: not that of the next output either.
#[test]
fn a_refused_piece_takes_the_rest_along() {
    let (mut stand, senders) = stand();
    let _link = stand.attach();
    let mut cut = cuts().into_iter().find(|cut| cut.what == "a full jumbo frame").expect("a row");
    // The table promises more than the interface takes.
    stand.net.lan(1).cable().set_mtu(1500);
    let frame = cut.frames[0].0.clone();
    cut.mtu = 4000;
    let Relay { mut outputs, .. } = cut.relay();
    cut.mtu = 1500;
    outputs.extend(cut.relay().outputs);
    stand.install(vec![Relay { outputs, ..cut.relay() }]);
    let (_, datagrams) = cut.sendings().next().expect("one");
    senders.plain.send(&frame);
    expect(&stand, &datagrams[0], "the next output");
    senders.plain.send(&Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", vec![1; 100]));
    for _ in 0..2 {
        assert_eq!(stand.heard(1, PATIENCE).expect("the small one").len(), 42 + 100);
    }
    let counts = counts(&stand);
    assert_eq!((counts[0].0, counts[0].1, counts[0].3), (1, 128, 1), "{counts:?}");
    assert_eq!((counts[1].0, counts[1].3), (2, 0), "{counts:?}");
    assert_eq!(stand.heard(1, LATE), None);
}
