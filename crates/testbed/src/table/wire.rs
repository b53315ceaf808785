//! The whole table over cables: each row is sent by the device, and what the lans hear and the datapath counts is compared with
//! what the row says.

use std::collections::BTreeMap;
use std::time::Duration;

use mcr_wire::DropReason;

use super::{Delivery, MARK, OUR_MAC, Outcome, Relay, Row, Verdict, plain, relay, relays, rows};
use crate::frame::Frame;
use crate::interface::{Mac, Offload, Switch};
use crate::raw::{OffloadingSender, RawReceiver, RawSender};
use crate::topology::Topology;
use crate::wait_for_state;

/// Anything takes at most this long, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the frame that ends a row is sent.
const SENTINEL: &str = "239.1.1.250:5250";
/// Bytes of the largest IP packet on the cables: rows larger than the outputs' MTU have to get to the input.
const CABLE_MTU: u32 = 9_000;

/// What a datapath counts; of relays and outputs in the order in which they were installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets and bytes received, by relay.
    pub received: Vec<(u64, u64)>,
    /// The outputs of each relay.
    pub outputs: Vec<Vec<OutputCounts>>,
    /// What the input lost without charging a relay. Reasons that did not occur are left out.
    pub on_input: BTreeMap<DropReason, u64>,
}

/// What an output counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputCounts {
    /// Packets and bytes sent.
    pub sent: (u64, u64),
    /// Packets dropped. Reasons that did not occur are left out.
    pub dropped: BTreeMap<DropReason, u64>,
}

/// A datapath between the input and two lans of a [`Topology`].
pub trait Datapath {
    /// Where it is.
    fn net(&self) -> &Topology;
    /// Makes these its relays, and these the addresses that its host sends from.
    fn install(&mut self, relays: &[Relay], our_macs: &[Mac]);
    /// What it has counted up to now.
    fn counts(&mut self) -> Counts;
}

/// Sends every row and compares.
///
/// # Panics
/// At the first row that a lan hears otherwise, or that is counted otherwise, with what was seen.
#[track_caller]
pub fn every_row_on_a_wire(datapath: &mut impl Datapath) {
    prepare(datapath.net());
    let mut all = relays();
    all.push(relay(SENTINEL, vec![plain(1, "239.2.2.250:1", 1500), plain(2, "239.2.2.250:1", 1500)]));
    datapath.install(&all, &[OUR_MAC]);
    let wire = Wire::of(datapath.net());
    let mut expected = datapath.counts();
    let rows = rows(datapath.net().relay_input().mac());
    for row in &rows {
        wire.run(row, &all, &mut expected, datapath);
    }
    println!("{} rows over cables", rows.len());
}

fn prepare(net: &Topology) {
    net.input().set_mtu(CABLE_MTU);
    for lan in net.lans() {
        lan.cable().set_mtu(CABLE_MTU);
        // So that the lans see each datagram by itself, and whole.
        lan.relay_side().offload(Offload::SegmentUdp, Switch::Off);
        lan.cable().offload_sending(Switch::Off);
    }
}

struct Wire {
    plain: RawSender,
    offloading: OffloadingSender,
    lans: Vec<RawReceiver>,
}

impl Wire {
    fn of(net: &Topology) -> Wire {
        Wire {
            plain: RawSender::new(net.device_interface()),
            offloading: OffloadingSender::new(net.device_interface()),
            lans: net.lans().iter().map(|lan| RawReceiver::new(lan.host_side())).collect(),
        }
    }

    #[track_caller]
    fn run(&self, row: &Row, relays: &[Relay], expected: &mut Counts, datapath: &mut impl Datapath) {
        let sentinel = sentinel();
        self.send(row);
        self.send(&sentinel);
        let charges = row.charges(relays).into_iter().chain(sentinel.charges(relays));
        let mut copies = vec![Vec::new(); self.lans.len()];
        for charge in charges {
            expected.add(charge.relay, charge.packets, charge.bytes, &charge.outcomes);
            for outcome in charge.outcomes {
                if let Outcome::Sent { lan, frames, .. } = outcome {
                    copies[lan - 1].extend(frames);
                }
            }
        }
        for (lan, copies) in copies.iter().enumerate() {
            for copy in copies {
                assert_eq!(self.heard(lan).as_ref(), Some(copy), "lan{} of {row:?}", lan + 1);
            }
        }
        expected.add_to_input(row);
        let agree = |counted: &Counts| counted.is(expected, row.verdict);
        let counted = wait_for_state(PATIENCE, &format!("{expected:#?} after {row:?}"), || datapath.counts(), agree);
        expected.on_input = counted.on_input;
    }

    #[track_caller]
    fn send(&self, row: &Row) {
        match row.delivery {
            Delivery::Whole => self.plain.send(&row.frame),
            Delivery::Unfinished => self.offloading.send_unfinished(&row.frame),
            Delivery::Segments(bytes) => self.offloading.send_segments(&row.frame, bytes),
        }
    }

    /// The next frame at a lan that an output of the table sent.
    fn heard(&self, lan: usize) -> Option<Vec<u8>> {
        loop {
            let frame = self.lans[lan].next_frame(PATIENCE)?;
            if frame.bytes.get(6..10) == Some(&MARK) {
                return Some(frame.bytes);
            }
        }
    }
}

/// What comes behind each row, to every lan: whatever the row should not have sent would come before it.
fn sentinel() -> Row {
    let frame = Frame::udp(super::DEVICE, SENTINEL, b"end of row".to_vec());
    Row { what: "sentinel", frame, delivery: Delivery::Whole, verdict: Verdict::Sent }
}

impl Counts {
    fn add(&mut self, relay: usize, packets: u64, bytes: u64, outcomes: &[Outcome]) {
        let (all_packets, all_bytes) = &mut self.received[relay];
        (*all_packets, *all_bytes) = (*all_packets + packets, *all_bytes + bytes);
        for (output, outcome) in self.outputs[relay].iter_mut().zip(outcomes) {
            match outcome {
                Outcome::Dropped(reason) => *output.dropped.entry(*reason).or_default() += packets,
                Outcome::Sent { bytes, .. } => output.sent = (output.sent.0 + packets, output.sent.1 + bytes),
            }
        }
    }

    fn add_to_input(&mut self, row: &Row) {
        match row.verdict {
            Verdict::OnInput(reason) => *self.on_input.entry(reason).or_default() += row.datagrams().len() as u64,
            Verdict::Sent | Verdict::Unsent | Verdict::Refused(_) | Verdict::Passed => {}
        }
    }

    fn is(&self, expected: &Counts, verdict: Verdict) -> bool {
        let same_but_no_relay = || {
            let others = |counts: &Counts| {
                let mut others = counts.on_input.clone();
                others.remove(&DropReason::NoRelay);
                others
            };
            others(self) == others(expected)
        };
        let on_input = match verdict {
            Verdict::Passed => same_but_no_relay(),
            Verdict::Sent | Verdict::Unsent | Verdict::Refused(_) | Verdict::OnInput(_) => {
                self.on_input == expected.on_input
            }
        };
        on_input && self.received == expected.received && self.outputs == expected.outputs
    }
}
