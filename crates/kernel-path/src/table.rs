//! What an input does with its frames: the relays that listen there and their outputs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use mcr_wire::{Destination, DropReason, MacAddr, Rewrite};

use crate::counters::{OutputCounters, RelayCounters};

/// The relays of one input, as they are to be from now on.
#[derive(Debug, Clone, Default)]
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
    pub sources: Vec<Ipv4Addr>,
    /// Where arrivals are counted; also what makes it the same relay when it is changed.
    pub counters: Arc<RelayCounters>,
    /// Where copies go, 64 at most.
    pub outputs: Vec<OutputEntry>,
}

/// One output of a relay.
#[derive(Debug, Clone)]
pub struct OutputEntry {
    /// Where what left is counted, and what did not.
    pub counters: Arc<OutputCounters>,
    /// What happens to a copy.
    pub action: OutputAction,
}

/// What happens to an output's copy of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputAction {
    /// It is sent.
    Send {
        /// The output's interface, by its number in [`Ports`](crate::Ports).
        port: u32,
        /// What it looks like then.
        rewrite: Rewrite,
        /// Largest IP packet that the interface sends, in bytes; larger ones are dropped as `too_big`.
        mtu: u32,
    },
    /// It is not: the output cannot work now, for this reason.
    Drop(DropReason),
}
