//! What people see of relays and interfaces.

use std::collections::BTreeMap;
use std::time::Duration;

use mcr_model::status::{InterfaceStatus, OutputStatus, RelayStatus};
use mcr_model::{Condition, DropReason, Grant, RelayName};

use super::{Engine, Entry, Flow, Wanted};
use crate::condition::OutputHealth;
use crate::fact::InterfaceFacts;
use crate::history::{Step, Track};
use crate::plan::Action;

impl Engine {
    /// How many relays there are.
    pub fn relay_count(&self) -> usize {
        self.relays.len()
    }

    /// Whether there is a relay of that name that a caller with `grant` may know of.
    pub fn is_within(&self, name: &RelayName, grant: &Grant) -> bool {
        self.relays.get(name).is_some_and(|entry| grant.has(&entry.relay))
    }

    /// Whether there is a relay of that name.
    pub fn has_relay(&self, name: &RelayName) -> bool {
        self.relays.contains_key(name)
    }

    /// The relays that somebody has to count for.
    pub fn wanted(&self) -> impl Iterator<Item = Wanted> {
        self.relays.values().map(|entry| Wanted {
            name: entry.relay.name().clone(),
            incarnation: entry.incarnation,
            outputs: entry.relay.outputs().len(),
        })
    }

    /// All relays, by name.
    pub fn statuses(&self, now: Duration) -> Vec<RelayStatus> {
        self.relays.values().map(|entry| self.status_of(entry, now)).collect()
    }

    /// One relay.
    pub fn status(&self, name: &RelayName, now: Duration) -> Option<RelayStatus> {
        self.relays.get(name).map(|entry| self.status_of(entry, now))
    }

    /// What a relay carried, as far back as it is remembered.
    pub fn history(&self, name: &RelayName, step: Step) -> Option<Track> {
        let entry = self.relays.get(name)?;
        let nothing = Track { first: self.recorded, samples: Vec::new() };
        Some(entry.recorder.as_ref().map_or(nothing, |recorder| recorder.track(step)))
    }

    /// Whether a packet that arrives now is received by that relay and can leave by some output; `None`: there is no such relay.
    pub fn is_ready(&self, name: &RelayName) -> Option<bool> {
        let entry = self.relays.get(name)?;
        // Without trouble every output can send.
        let Some(standing) = self.standing_state(entry) else { return Some(true) };
        Some(standing.is_listening() && self.has_usable_output(entry))
    }

    /// Packets of that relay so far, and whether they came and have stopped; `None`: there is no such relay.
    pub fn flow(&self, now: Duration, name: &RelayName) -> Option<Flow> {
        let entry = self.relays.get(name)?;
        let silent = entry.meter.has_stopped(now, entry.relay.watch());
        Some(Flow { received_packets: entry.meter.totals.received.packets, silent })
    }

    /// The condition of each relay, without the rest of its status.
    pub fn conditions(&self, now: Duration) -> impl Iterator<Item = (&RelayName, Condition)> {
        self.relays.iter().map(move |(name, entry)| (name, self.condition(entry, now)))
    }

    fn status_of(&self, entry: &Entry, now: Duration) -> RelayStatus {
        let condition = self.condition(entry, now);
        let serving = entry.serving.clone();
        let (left_to, taken_from) = self.rulebook.shared(entry.relay.input());
        RelayStatus {
            name: entry.relay.name().to_string(),
            origin: entry.origin,
            state: condition.state,
            reason: condition.reason,
            remedy: condition.remedy,
            datapath: serving.datapath.to_string(),
            datapath_reason: serving.because,
            from: entry.relay.input().to_string(),
            lease: self.leases.status(entry.relay.name(), now),
            warnings: self.warnings(entry),
            seen_groups: self.seen_groups(entry),
            left_to,
            taken_from,
            breaker: entry.relay.watch().breaker().map(|_| entry.fuse.status()),
            received: entry.meter.received(),
            last_packet_seconds: entry.meter.quiet_for(now).map(|quiet| quiet.as_secs_f64()),
            outputs: (0..entry.relay.outputs().len()).map(|i| self.output_status(entry, i)).collect(),
            relay: entry.relay.as_ref().into(),
        }
    }

    fn output_status(&self, entry: &Entry, index: usize) -> OutputStatus {
        let output = &entry.relay.outputs()[index];
        let (ok, reason, remedy) = match self.output_health(entry, index) {
            OutputHealth::Sending => (true, None, None),
            OutputHealth::Waiting { reason, remedy }
            | OutputHealth::Failing { reason, remedy }
            | OutputHealth::Refused { reason, remedy } => (false, Some(reason), Some(remedy)),
        };
        let source = match self.view().action(output) {
            Action::Send(plan) => plan.source,
            Action::Drop(_) => None,
        };
        let totals = entry.meter.totals.outputs.get(index).cloned().unwrap_or_default();
        OutputStatus {
            to: output.to_string(),
            ok,
            reason,
            remedy,
            source,
            sent: entry.meter.sent(index),
            dropped_packets: totals.dropped_packets(),
            dropped: by_name(&totals.dropped),
        }
    }

    /// All interfaces, by name.
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        let status = |facts: &InterfaceFacts| InterfaceStatus {
            name: facts.name.to_string(),
            index: facts.index.0,
            up: facts.up,
            carrier: facts.carrier,
            multicast: facts.multicast,
            mtu: facts.mtu,
            mac: facts.mac.map(|byte| format!("{byte:02x}")).join(":"),
            addresses: facts
                .addresses
                .iter()
                .map(|address| format!("{}/{}", address.ip, address.prefix_length))
                .collect(),
            input_of: self.relays.values().filter(|entry| entry.relay.input().interface == facts.name).count(),
            output_of: self
                .relays
                .values()
                .flat_map(|entry| entry.relay.outputs())
                .filter(|output| output.interface == facts.name)
                .count(),
            unattributed: self.ledgers.get(&facts.index).map(|ledger| by_name(&ledger.dropped)),
        };
        self.facts.values().map(status).collect()
    }
}

fn by_name(dropped: &[u64; DropReason::COUNT]) -> BTreeMap<String, u64> {
    let named = DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), dropped[reason.index()]));
    named.filter(|(_, count)| *count > 0).collect()
}
