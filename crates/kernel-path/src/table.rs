//! What an input does with its frames: the relays that listen there and their outputs.

use std::sync::Arc;

use mcr_wire::{Destination, DropReason, Listing, MacAddr, Prefix, RateCap, Rewrite};

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
    /// The sources it accepts, of [`Listing::MOST_LENGTHS`] lengths at most beside whole addresses; none listed means any.
    pub sources: Vec<Prefix>,
    /// Or refuses.
    pub listing: Listing,
    /// Where arrivals are counted; also what makes it the same relay when it is changed.
    pub counters: Arc<RelayCounters>,
    /// Where copies go, 64 at most.
    pub outputs: Vec<OutputEntry>,
    /// Whether the program at the driver serves it.
    pub exit: Exit,
    /// How much of what arrives is looked at.
    pub cap: RateCap,
}

/// Where the program at the driver sends the frames of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exit {
    /// Nowhere: it passes them on, and the program at tcx ingress serves the relay.
    #[default]
    Tcx,
    /// To the port of the only output.
    Port,
    /// To the ports of the fan-out of this number, which the keeper made of the ports of all outputs in their order.
    FanOut(u32),
}

/// Why the relays of a destination can not be served at the driver. Each is a clause that reads on from "because".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAtDriver {
    /// XDP has one list of copies for a frame.
    #[error("several relays share the destination")]
    Shared,
    /// XDP is not told whether a frame is for this host or only seen in passing.
    #[error("its destination is not a group")]
    NotAGroup,
    /// What can't be sent is counted where it is not sent.
    #[error("an output can not send now")]
    OutputDown,
    /// There is nothing to send to.
    #[error("it has no output")]
    NoOutput,
    /// Caps are kept at tcx ingress.
    #[error("it has a cap on its rate")]
    Capped,
    /// The exit is that of another number of outputs.
    #[error("its exit is not that of its outputs")]
    WrongExit,
}

/// Why these relays, all those of one destination, can not be served at the driver; `None` when they can.
#[must_use]
pub fn not_at_driver(relays: &[RelayEntry]) -> Option<NotAtDriver> {
    let [relay] = relays else { return Some(NotAtDriver::Shared) };
    if !relay.destination.address.is_multicast() {
        return Some(NotAtDriver::NotAGroup);
    }
    if relay.outputs.iter().any(|output| output.action.port().is_none()) {
        return Some(NotAtDriver::OutputDown);
    }
    if !relay.cap.is_none() || relay.outputs.iter().any(|output| !output.cap.is_none()) {
        return Some(NotAtDriver::Capped);
    }
    match (relay.exit, relay.outputs.len()) {
        (_, 0) => Some(NotAtDriver::NoOutput),
        (Exit::Port, 2..) | (Exit::FanOut(_), 1) => Some(NotAtDriver::WrongExit),
        (Exit::Tcx | Exit::Port | Exit::FanOut(_), _) => None,
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputAction {
    /// It is sent.
    Send {
        /// The output's interface, by its number in [`Ports`](crate::Ports).
        port: u32,
        /// What it looks like then.
        rewrite: Rewrite,
        /// Largest IP packet that the interface sends, in bytes; larger ones are dropped as `too_big`, or cut if the rewrite says so.
        mtu: u32,
    },
    /// It is not: the output cannot work now, for this reason.
    Drop(DropReason),
}

impl OutputAction {
    /// The port that copies are sent to, if they are.
    #[must_use]
    pub fn port(&self) -> Option<u32> {
        match self {
            Self::Send { port, .. } => Some(*port),
            Self::Drop(_) => None,
        }
    }

    pub(crate) fn least_ttl(&self) -> Option<u8> {
        match self {
            Self::Send { rewrite, .. } => Some(rewrite.ttl.least()),
            Self::Drop(_) => None,
        }
    }

    pub(crate) fn sent(&self) -> Option<(&Rewrite, u32)> {
        match self {
            Self::Send { rewrite, mtu, .. } => Some((rewrite, *mtu)),
            Self::Drop(_) => None,
        }
    }
}
