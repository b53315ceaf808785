//! One table of frames, and what becomes of each: every datapath has to agree with it, verdict, bytes and drop reason.
//!
//! What a copy has to look like is worked out here by [`Frame`], from the frame that came in and the output's orders; of the
//! product's own code there are only the words (destination, rewrite, drop reason), none that reads or writes a frame.

use std::net::{Ipv4Addr, SocketAddrV4};

use mcr_wire::{Destination, DropReason, MacAddr, Rewrite, VlanId};

use crate::frame::{Checksum, Frame, Tag};
use crate::interface::Mac;

mod rows;
mod wire;

pub use rows::rows;
pub use wire::{Counts, Datapath, OutputCounts, every_row_on_a_wire};

/// The group of most rows.
const GROUP: &str = "239.1.1.1:5001";
/// The sender of most rows.
const DEVICE: &str = "192.168.168.55:5000";
/// A link-layer address that the relay's host sends from: what comes in with it is a loop.
pub const OUR_MAC: Mac = Mac([2, 0x10, 0, 0, 0, 1]);
/// The beginning of every source MAC address that the table's outputs use: tells their frames from everything else.
pub const MARK: [u8; 4] = [0x02, 0x4d, 0x43, 0x52];

/// A frame and what becomes of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// What is special about it.
    pub what: &'static str,
    /// The frame.
    pub frame: Frame,
    /// How it gets to the input.
    pub delivery: Delivery,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What a frame is when it gets to the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Its bytes, as from a cable.
    Whole,
    /// A local sender's, who left the UDP checksum to a device (`CHECKSUM_PARTIAL`).
    Unfinished,
    /// A local sender's, who left it to a device to cut it into datagrams of this many bytes of payload (`UDP_SEGMENT`).
    Segments(u16),
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its relays are charged, and at least one output sends it.
    Sent,
    /// Its relays are charged, and no output sends it, each for a reason of its own.
    Unsent,
    /// Its relays are charged, and every output of them drops it for this reason.
    Refused(DropReason),
    /// No relay is charged; the input is.
    OnInput(DropReason),
    /// Nobody is charged. A datapath that sees it may say `no_relay` on the input.
    Passed,
}

/// A relay of the table.
#[derive(Debug, Clone)]
pub struct Relay {
    /// What it listens to.
    pub destination: Destination,
    /// The sources it accepts; none listed means any.
    pub sources: Vec<Ipv4Addr>,
    /// Where copies go.
    pub outputs: Vec<Output>,
}

/// An output of a relay.
#[derive(Debug, Clone, Copy)]
pub enum Output {
    /// A copy is sent.
    Send {
        /// The lan that it goes to, counted from 1.
        lan: usize,
        /// What it looks like then.
        rewrite: Rewrite,
        /// Largest IP packet, in bytes.
        mtu: u32,
    },
    /// It is not.
    Drop(DropReason),
}

/// What a relay has to count for a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The relay, by its place in the list.
    pub relay: usize,
    /// Datagrams.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
    /// What becomes of it at each output.
    pub outcomes: Vec<Outcome>,
}

/// What becomes of a frame at one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It leaves.
    Sent {
        /// On this lan.
        lan: usize,
        /// As these frames, one for each datagram.
        frames: Vec<Vec<u8>>,
    },
    /// Nothing leaves.
    Dropped(DropReason),
}

impl Row {
    /// What each relay has to count that the frame is charged to.
    pub fn charges(&self, relays: &[Relay]) -> Vec<Charge> {
        let refused = match self.verdict {
            Verdict::OnInput(_) | Verdict::Passed => return Vec::new(),
            Verdict::Refused(reason) => Some(reason),
            Verdict::Sent | Verdict::Unsent => None,
        };
        let listening = relays.iter().enumerate().filter(|(_, relay)| relay.wants(&self.frame));
        let charges: Vec<Charge> = listening.map(|(index, relay)| self.charge(index, relay, refused)).collect();
        let sends = charges.iter().flat_map(|charge| &charge.outcomes).any(|one| matches!(one, Outcome::Sent { .. }));
        assert_eq!(sends, self.verdict == Verdict::Sent, "{}: the row contradicts the relays of the table", self.what);
        charges
    }

    fn charge(&self, index: usize, relay: &Relay, refused: Option<DropReason>) -> Charge {
        let datagrams = self.datagrams();
        let lengths = || datagrams.iter().map(|frame| u32::from(frame.total_length_field()));
        let outcomes = relay.outputs.iter().map(|output| match (refused, *output) {
            (Some(reason), _) | (None, Output::Drop(reason)) => Outcome::Dropped(reason),
            (None, Output::Send { mtu, .. }) if lengths().any(|bytes| bytes > mtu) => {
                Outcome::Dropped(DropReason::TooBig)
            }
            (None, Output::Send { lan, rewrite, .. }) => {
                Outcome::Sent { lan, frames: datagrams.iter().map(|frame| copy(frame, &rewrite)).collect() }
            }
        });
        Charge {
            relay: index,
            packets: datagrams.len() as u64,
            bytes: lengths().map(u64::from).sum(),
            outcomes: outcomes.collect(),
        }
    }

    /// The datagrams that the sender meant, each as a frame.
    fn datagrams(&self) -> Vec<Frame> {
        let Delivery::Segments(bytes) = self.delivery else { return vec![self.frame.clone()] };
        let payloads = self.frame.payload.chunks(bytes.into()).enumerate();
        let datagram = |(number, payload): (usize, &[u8])| {
            let mut frame = self.frame.clone();
            frame.identification = frame.identification.wrapping_add(number as u16);
            frame.payload = payload.to_vec();
            frame
        };
        payloads.map(datagram).collect()
    }
}

impl Relay {
    fn wants(&self, frame: &Frame) -> bool {
        let vlan = frame.tags.first().and_then(|tag| VlanId::new(tag.control & 0x0fff));
        let destination = Destination { vlan, address: *frame.destination.ip(), port: frame.destination.port() };
        destination == self.destination && (self.sources.is_empty() || self.sources.contains(frame.source.ip()))
    }
}

/// The frame that leaves when `arrived` is relayed.
fn copy(arrived: &Frame, rewrite: &Rewrite) -> Vec<u8> {
    let priority = arrived.tags.first().map_or(0, |tag| tag.control & 0xf000);
    let ecn = arrived.traffic_class & 3;
    let mut copy = arrived
        .clone()
        .source_mac(Mac(rewrite.source_mac.octets()))
        .destination_mac(Mac(rewrite.destination_mac.octets()))
        .ttl(rewrite.ttl)
        .traffic_class(rewrite.dscp.map_or(arrived.traffic_class, |dscp| dscp << 2 | ecn))
        .flags_and_offset(arrived.flags_and_offset & 0x4000)
        .padding(0);
    copy.tags = rewrite.vlan.iter().map(|vlan| Tag { protocol: 0x8100, control: priority | vlan.get() }).collect();
    copy.source = SocketAddrV4::new(rewrite.source, rewrite.source_port.unwrap_or(arrived.source.port()));
    copy.destination = rewrite.destination;
    let checksum = if arrived.udp_checksum == Checksum::Zero { Checksum::Zero } else { Checksum::Right };
    copy.udp_checksum(checksum).bytes()
}

/// The relays that the rows are for.
pub fn relays() -> Vec<Relay> {
    let to_unicast = Rewrite { destination_mac: MacAddr::new([2, 9, 9, 9, 9, 9]), ..rewrite("10.0.2.2:7000") };
    let both = vec![[192, 168, 168, 55].into(), [192, 168, 168, 56].into()];
    let tagged = Output::Send { lan: 1, rewrite: all_set(), mtu: 1500 };
    let neither = vec![Output::Drop(DropReason::OutputDown), Output::Drop(DropReason::NoSourceAddress)];
    vec![
        relay(
            GROUP,
            vec![
                tagged,
                Output::Send { lan: 2, rewrite: to_unicast, mtu: 1500 },
                Output::Drop(DropReason::NoNeighbour),
                plain(1, "239.2.2.2:6001", 1500),
            ],
        ),
        Relay { destination: destination(GROUP, 100), ..relay(GROUP, vec![tagged, plain(2, "239.2.2.3:6001", 1500)]) },
        Relay { sources: both, ..relay("239.1.1.2:5002", vec![plain(1, "239.2.2.4:6001", 1500)]) },
        // Three share a destination; the second wants another source.
        relay("239.1.1.3:5003", vec![plain(1, "239.2.2.5:1", 1500)]),
        Relay {
            sources: vec![[192, 168, 168, 99].into()],
            ..relay("239.1.1.3:5003", vec![plain(2, "239.2.2.6:2", 1500)])
        },
        Relay {
            sources: vec![[192, 168, 168, 55].into()],
            ..relay("239.1.1.3:5003", vec![plain(2, "239.2.2.7:3", 1500), plain(1, "239.2.2.8:4", 1500)])
        },
        relay("239.1.1.4:5004", neither),
        relay("239.1.1.5:5005", vec![]),
        relay(
            "239.1.1.6:5006",
            vec![plain(1, "239.2.2.9:1", 100), plain(2, "239.2.2.9:1", 101), plain(1, "239.2.2.9:1", 68)],
        ),
        relay("10.0.0.1:5007", vec![plain(1, "239.2.2.10:1", 1500)]),
        relay("239.1.1.8:0", vec![plain(1, "239.2.2.11:0", 1500)]),
        relay("255.255.255.255:67", vec![plain(1, "239.2.2.12:1", 1500)]),
    ]
}

fn relay(to: &str, outputs: Vec<Output>) -> Relay {
    Relay { destination: destination(to, 0), sources: Vec::new(), outputs }
}

fn plain(lan: usize, to: &str, mtu: u32) -> Output {
    Output::Send { lan, rewrite: rewrite(to), mtu }
}

/// Every field that an output may set, set.
fn all_set() -> Rewrite {
    Rewrite { vlan: VlanId::new(200), source_port: Some(4000), ttl: 3, dscp: Some(46), ..rewrite("239.9.9.9:6009") }
}

/// Where `to` (an address and a port) is, in a VLAN or in none (0).
///
/// # Panics
/// When it is no address and port.
#[track_caller]
pub fn destination(to: &str, vlan: u16) -> Destination {
    let to = crate::frame::endpoint(to);
    Destination { vlan: VlanId::new(vlan), address: *to.ip(), port: to.port() }
}

/// The orders of an output that changes everything that it must and nothing that it need not.
///
/// # Panics
/// When `to` is no address and port.
#[track_caller]
pub fn rewrite(to: &str) -> Rewrite {
    let destination = crate::frame::endpoint(to);
    Rewrite {
        source_mac: MacAddr::new([MARK[0], MARK[1], MARK[2], MARK[3], 0, 1]),
        destination_mac: MacAddr::new(Mac::of_group(*destination.ip()).0),
        vlan: None,
        source: [10, 0, 1, 1].into(),
        destination,
        source_port: None,
        ttl: 16,
        dscp: None,
    }
}
