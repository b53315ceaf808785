//! What an input does with its frames: the relays that listen there and their outputs.
//!
//! A table is compiled once, when it is installed, so that a packet costs one look-up.

use std::net::IpAddr;
use std::sync::Arc;

use mcr_wire::listing::{is_listed, put_in_order};
use mcr_wire::{Destination, DropReason, Listing, MacAddr, Prefix, RateCap, Rewrite};
use rustc_hash::FxHashMap;

use crate::counters::{Arrival, Limiter, OutputCounters, OutputShare, RelayCounters, RelayShare};
use crate::packet::TxSocket;

/// The relays of one input, as they are to be from now on.
#[derive(Debug, Default)]
pub struct InputTable {
    /// The relays; several may share a destination, and each gets its copy.
    pub relays: Vec<RelayEntry>,
    /// Link-layer addresses of the interfaces that this host sends relayed packets from: a frame
    /// that comes in with one of them came back to us.
    pub our_macs: Vec<MacAddr>,
}

/// One relay of an input.
#[derive(Debug, Clone)]
pub struct RelayEntry {
    /// What it listens to; without a VLAN, only untagged (or priority-tagged) frames.
    pub destination: Destination,
    /// The sources it accepts; none listed means any.
    pub sources: Vec<Prefix>,
    /// Or refuses.
    pub listing: Listing,
    /// Where arrivals are counted.
    pub counters: Arc<RelayCounters>,
    /// Where copies go.
    pub outputs: Vec<OutputEntry>,
    /// How much of what arrives is looked at.
    pub cap: RateCap,
}

/// One output of a relay.
#[derive(Debug, Clone)]
pub struct OutputEntry {
    /// Where what left is counted, and what did not.
    pub counters: Arc<OutputCounters>,
    /// What happens to a copy.
    pub action: OutputAction,
    /// How much of it is sent.
    pub cap: RateCap,
}

/// What happens to an output's copy of a datagram.
#[derive(Debug, Clone)]
pub enum OutputAction {
    /// It is sent.
    Send {
        /// The socket of the output's interface.
        socket: Arc<TxSocket>,
        /// What it looks like then.
        rewrite: Rewrite,
        /// Largest IP packet that the interface sends, in bytes; what becomes of larger ones is said by
        /// the rewrite.
        mtu: u32,
    },
    /// It is not: the output cannot work now, for this reason.
    Drop(DropReason),
}

/// A relay's number in a compiled table.
pub(crate) type RelayIndex = u32;

/// A table in the form that a worker reads.
#[derive(Debug, Default)]
pub(crate) struct CompiledTable {
    /// Where the relays of a destination start in `relays`, and how many they are.
    by_destination: FxHashMap<Destination, (RelayIndex, RelayIndex)>,
    relays: Vec<CompiledRelay>,
    our_macs: Vec<MacAddr>,
    sockets: Vec<Arc<TxSocket>>,
}

/// A relay in a compiled table.
#[derive(Debug)]
pub(crate) struct CompiledRelay {
    /// Sorted, none within another.
    sources: Vec<Prefix>,
    listing: Listing,
    pub(crate) counters: Arc<RelayShare>,
    arrival: Option<Arc<Arrival>>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) outputs: Vec<CompiledOutput>,
}

/// An output in a compiled table.
#[derive(Debug)]
pub(crate) struct CompiledOutput {
    pub(crate) counters: Arc<OutputShare>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) action: CompiledAction,
}

/// As [`OutputAction`], with the socket's number among the sockets of the table.
#[derive(Debug)]
pub(crate) enum CompiledAction {
    Send { socket: usize, rewrite: Rewrite, mtu: u32 },
    Drop(DropReason),
}

impl CompiledTable {
    /// The table for the worker of this number, which counts in its own shares.
    pub(crate) fn new(table: &InputTable, worker: usize) -> Self {
        let mut relays: Vec<&RelayEntry> = table.relays.iter().collect();
        // Stable: relays of one destination keep the order they were given in.
        relays.sort_by_key(|relay| relay.destination);
        let mut compiled = Self { our_macs: table.our_macs.clone(), ..Self::default() };
        for relay in relays {
            let index = compiled.relays.len() as RelayIndex;
            let range = compiled.by_destination.entry(relay.destination).or_insert((index, index));
            range.1 = index + 1;
            let relay = compiled.relay(relay, worker);
            compiled.relays.push(relay);
        }
        compiled
    }

    /// The relays that listen to this destination.
    #[inline]
    pub(crate) fn find(&self, destination: &Destination) -> std::ops::Range<RelayIndex> {
        self.by_destination.get(destination).map_or(0..0, |&(start, end)| start..end)
    }

    #[inline]
    pub(crate) fn relay_at(&self, index: RelayIndex) -> &CompiledRelay {
        &self.relays[index as usize]
    }

    pub(crate) fn relay_count(&self) -> usize {
        self.relays.len()
    }

    pub(crate) fn sockets(&self) -> &[Arc<TxSocket>] {
        &self.sockets
    }

    /// Whether this host sent the frame.
    #[inline]
    pub(crate) fn is_ours(&self, source: MacAddr) -> bool {
        self.our_macs.contains(&source)
    }

    fn relay(&mut self, relay: &RelayEntry, worker: usize) -> CompiledRelay {
        let RelayEntry { destination, sources, listing, counters, outputs, cap } = relay;
        let mut sources = sources.clone();
        let kept = put_in_order(&mut sources);
        sources.truncate(kept);
        let outputs = outputs.iter().map(|output| self.output(output, worker)).collect();
        CompiledRelay {
            sources,
            listing: *listing,
            counters: counters.share(worker),
            arrival: counters.arrival(*destination),
            limiter: counters.limiter(*cap),
            outputs,
        }
    }

    fn output(&mut self, output: &OutputEntry, worker: usize) -> CompiledOutput {
        let OutputEntry { counters, action, cap } = output;
        let action = match action {
            OutputAction::Send { socket, rewrite, mtu } => {
                CompiledAction::Send { socket: self.socket(socket), rewrite: *rewrite, mtu: rewrite.room(*mtu) }
            }
            OutputAction::Drop(reason) => CompiledAction::Drop(*reason),
        };
        CompiledOutput { counters: counters.share(worker), limiter: counters.limiter(*cap), action }
    }

    /// The number of a socket. There are as many as interfaces, so a walk finds it.
    fn socket(&mut self, socket: &Arc<TxSocket>) -> usize {
        let known = self.sockets.iter().position(|other| Arc::ptr_eq(other, socket));
        known.unwrap_or_else(|| {
            self.sockets.push(Arc::clone(socket));
            self.sockets.len() - 1
        })
    }
}

impl CompiledRelay {
    /// Counts packets that no output sends.
    pub(crate) fn count_dropped(&self, reason: DropReason, packets: u64) {
        self.outputs.iter().for_each(|output| output.counters.count_dropped(reason, packets));
    }

    /// Whether it takes packets of a source, which are noted then.
    #[inline]
    pub(crate) fn accepts(&self, source: IpAddr) -> bool {
        let accepts = self.sources.is_empty() || self.listing.passes(is_listed(&self.sources, source));
        if let Some(arrival) = self.arrival.as_ref().filter(|_| accepts) {
            arrival.note();
        }
        accepts
    }
}
