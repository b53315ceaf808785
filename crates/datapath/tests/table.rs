//! The table of frames that all datapaths share, through a worker, over cables.

mod harness;

use std::sync::Arc;

use harness::{Input, Output};
use mcr_datapath::counters::OutputSnapshot;
use mcr_datapath::{OutputAction, OutputEntry, RelayEntry, RingGeometry, TxSocket};
use mcr_testbed::table::{self, Counts, Datapath, OutputCounts, every_row_on_a_wire};
use mcr_testbed::{Mac, Topology};
use mcr_wire::{MacAddr, RateCap};

/// A worker with the relays of the table.
struct Packet {
    net: Topology,
    input: Input,
    sockets: Vec<Arc<TxSocket>>,
    installed: Vec<RelayEntry>,
}

impl Packet {
    fn new(geometry: RingGeometry) -> Packet {
        let net = Topology::device_relay_lan(2);
        let sockets = net.lans().iter().map(|lan| Output::open(lan).socket).collect();
        let input = Input::open(net.relay_input(), geometry);
        Packet { net, input, sockets, installed: Vec::new() }
    }

    fn relay(&self, relay: &table::Relay) -> RelayEntry {
        RelayEntry {
            destination: relay.destination,
            sources: relay.sources.clone(),
            listing: relay.listing,
            counters: Arc::default(),
            outputs: relay.outputs.iter().map(|output| self.output(*output)).collect(),
            cap: RateCap::NONE,
        }
    }

    fn output(&self, output: table::Output) -> OutputEntry {
        let action = match output {
            table::Output::Drop(reason) => OutputAction::Drop(reason),
            table::Output::Send { lan, rewrite, mtu } => {
                OutputAction::Send { socket: Arc::clone(&self.sockets[lan - 1]), rewrite, mtu }
            }
        };
        OutputEntry { counters: Arc::default(), action, cap: RateCap::NONE }
    }
}

impl Datapath for Packet {
    fn net(&self) -> &Topology {
        &self.net
    }

    fn install(&mut self, relays: &[table::Relay], our_macs: &[Mac]) {
        let our_macs = our_macs.iter().map(|mac| MacAddr::new(mac.0)).collect();
        self.installed = relays.iter().map(|relay| self.relay(relay)).collect();
        self.input.install_entries(self.installed.clone(), our_macs);
    }

    fn counts(&mut self) -> Counts {
        self.input.worker().poll_statistics();
        let received = self.installed.iter().map(|relay| {
            let counts = relay.counters.snapshot();
            (counts.received_packets, counts.received_bytes)
        });
        let outputs = self.installed.iter().map(|relay| relay.outputs.iter().map(output_counts).collect());
        let on_input = self.input.counters.snapshot().dropped.iter().collect();
        Counts { received: received.collect(), outputs: outputs.collect(), on_input }
    }
}

fn output_counts(output: &OutputEntry) -> OutputCounts {
    let OutputSnapshot { sent_packets, sent_bytes, dropped } = output.counters.snapshot();
    OutputCounts { sent: (sent_packets, sent_bytes), dropped: dropped.iter().collect() }
}

#[test]
fn every_row() {
    every_row_on_a_wire(&mut Packet::new(RingGeometry::for_mtu(1500)));
}

/// Slots for jumbo frames: none goes through the queue for those that are larger than a slot.
#[test]
fn every_row_in_large_slots() {
    every_row_on_a_wire(&mut Packet::new(RingGeometry::for_mtu(9000)));
}
