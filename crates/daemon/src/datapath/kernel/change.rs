//! One change of a table: what of it differs is written, destination by destination.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use mcr_engine::{Action, EffectError, Ifindex, Noting, Refused, RelayPlan, Until};
use mcr_kernel_path::{Exit, OutputAction, OutputEntry, RelayEntry, WriteError, not_at_driver};
use mcr_model::span::Offset;
use mcr_model::{DropReason, RelayName};
use mcr_wire::Destination;

use super::table::Table;
use super::{Tables, told};
use crate::datapath::book::Books;
use crate::datapath::fan_outs::{self, FanOuts};
use crate::datapath::{Outputs, destination, listed, rewrite};

/// What is to be written of one table, and what came of it.
pub(super) struct Change<'a> {
    pub(super) tables: &'a mut Tables,
    pub(super) interface: Ifindex,
    pub(super) before: Option<&'a Table>,
    pub(super) table: &'a Table,
    /// Whether the table has all that is to be in force on the interface.
    pub(super) is_whole: bool,
    pub(super) books: &'a mut Books,
    pub(super) outputs: &'a Outputs,
    pub(super) fan_outs: &'a FanOuts,
    pub(super) refused: Vec<Refused>,
    pub(super) is_full: bool,
}

impl Change<'_> {
    pub(super) fn write(&mut self) {
        let mut wanted: BTreeMap<Destination, Vec<Arc<RelayPlan>>> =
            self.changed().into_iter().map(|destination| (destination, Vec::new())).collect();
        for relay in &self.table.plan.relays {
            for destination in among(relay, &wanted) {
                wanted.entry(destination).or_default().push(Arc::clone(relay));
            }
        }
        // What becomes free first: it may be needed.
        let (gone, rest): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, relays)| relays.is_empty());
        // Ranges last: one that finds no room is no reason for others to find none.
        let is_range = |relays: &[Arc<RelayPlan>]| relays.iter().any(|relay| !relay.span.is_one());
        let (ranges, exact): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, relays)| is_range(relays));
        for (destination, relays) in gone.into_iter().chain(exact).chain(ranges) {
            self.replace(destination, relays);
        }
        if !self.refused.is_empty() {
            self.withdraw();
        }
    }

    /// A range of which anything was refused is refused as a whole: what was written of it is taken back.
    fn withdraw(&mut self) {
        let names: HashSet<RelayName> = self.refused.iter().map(|refused| refused.relay.clone()).collect();
        let (refused, rest): (Vec<_>, Vec<_>) =
            self.table.plan.relays.iter().partition(|relay| names.contains(&relay.relay));
        let ranges = refused.iter().filter(|relay| !relay.span.is_one());
        for destination in ranges.flat_map(|relay| destinations(relay)) {
            let takers = rest.iter().filter(|relay| offset_of(relay, &destination).is_some());
            let relays: Vec<Arc<RelayPlan>> = takers.map(|relay| Arc::clone(relay)).collect();
            if let Err(error) = self.try_replace(destination, &relays) {
                tracing::error!(%error, %destination, "the kernel goes on with a relay that is not to be there");
            }
        }
    }

    /// The destinations of which anything differs.
    fn changed(&self) -> BTreeSet<Destination> {
        let relays = &self.table.plan.relays;
        let Some(before) = self.before else {
            let wanted = relays.iter().flat_map(|relay| destinations(relay));
            let found = self.is_whole.then(|| self.tables.writer.destinations(self.interface.0));
            return found.into_iter().flatten().chain(wanted).collect();
        };
        let gone = before.beyond(self.table);
        gone.chain(self.table.beyond(before)).flat_map(|relay| destinations(relay)).collect()
    }

    /// Makes these all the relays of a destination; those that can not be written are refused, and only those.
    fn replace(&mut self, destination: Destination, mut relays: Vec<Arc<RelayPlan>>) {
        relays.retain(|relay| !self.is_refused(relay));
        let is_same = |relay: &&Arc<RelayPlan>| self.before.is_some_and(|before| before.has(relay, self.table));
        let (same, new): (Vec<_>, Vec<_>) = relays.iter().cloned().partition(|relay| is_same(&relay));
        let error = match self.is_full && !new.is_empty() {
            true => None,
            false => match self.try_replace(destination, &relays) {
                Ok(()) => return,
                Err(error) => Some(error),
            },
        };
        self.is_full |= matches!(error, Some(WriteError::Full { .. }));
        self.refuse(&new, error.as_ref());
        // What was there is there still. It stays if all of it is to stay, be it by the other hook.
        let staying =
            relays.iter().filter(|relay| self.before.is_some_and(|before| before.has_anywhere(relay))).count();
        if self.tables.writer.relays_at(self.interface.0, &destination) == staying {
            return;
        }
        if let Err(error) = self.try_replace(destination, &same) {
            self.refuse(&same, Some(&error));
            if let Err(error) = self.try_replace(destination, &[]) {
                tracing::error!(%error, %destination, "the kernel goes on with a relay that is not to be there");
            }
        }
    }

    /// Without an error: they were not tried, because one before them had found a table full.
    fn refuse(&mut self, relays: &[Arc<RelayPlan>], error: Option<&WriteError>) {
        let until = match error {
            Some(WriteError::Refused { .. } | WriteError::NotMapped(_)) => Until::Pause,
            Some(
                WriteError::Full { .. }
                | WriteError::TooManyOutputs { .. }
                | WriteError::TooManySharing { .. }
                | WriteError::TooManyLengths { .. }
                | WriteError::NotAtDriver { .. },
            )
            | None => Until::RelaysChange,
        };
        let error = error.map_or_else(no_more_room, told);
        let refused = |relay: &Arc<RelayPlan>| Refused { relay: relay.relay.clone(), error: error.clone(), until };
        self.refused.extend(relays.iter().map(refused));
    }

    /// As a range may have been, at another of its destinations.
    fn is_refused(&self, relay: &RelayPlan) -> bool {
        !relay.span.is_one() && self.refused.iter().any(|refused| refused.relay == relay.relay)
    }

    fn try_replace(&mut self, destination: Destination, relays: &[Arc<RelayPlan>]) -> Result<(), WriteError> {
        let entries: Result<Vec<RelayEntry>, WriteError> =
            relays.iter().map(|relay| self.entry(relay, destination)).collect();
        let mut entries = entries?;
        // What the driver can not do now is done at tcx ingress: an output that is down, say, or a relay that has just
        // been joined by another.
        if not_at_driver(&entries).is_some() {
            entries.iter_mut().for_each(|entry| entry.exit = Exit::Tcx);
        }
        self.tables.writer.replace(self.interface.0, &destination, entries)
    }

    fn exit(&self, plan: &RelayPlan) -> Exit {
        match fan_outs::list(plan) {
            _ if !self.table.is_at_driver(plan) => Exit::Tcx,
            Some(list) => self.fan_outs.number(&list).map_or(Exit::Tcx, Exit::FanOut),
            None if plan.outputs.len() == 1 => Exit::Port,
            None => Exit::Tcx,
        }
    }

    fn entry(&mut self, plan: &RelayPlan, destination: Destination) -> Result<RelayEntry, WriteError> {
        let offset = offset_of(plan, &destination).unwrap_or_default();
        let (sources, listing) = listed(plan);
        let Tables { writer, id } = &mut *self.tables;
        let counters = self.books.of(plan).in_kernel(plan, writer, *id)?;
        match plan.noting {
            Noting::Nothing => counters.relay.forget_arrivals(),
            Noting::Groups => counters.relay.note_arrivals(),
        }
        let outputs = plan.outputs.iter().zip(&counters.outputs).map(|(output, counters)| OutputEntry {
            counters: Arc::clone(counters),
            action: action(self.outputs, &output.action, offset),
            cap: output.cap,
        });
        Ok(RelayEntry {
            destination,
            sources,
            listing,
            counters: Arc::clone(&counters.relay),
            outputs: outputs.collect(),
            exit: self.exit(plan),
            cap: plan.cap,
        })
    }
}

/// All that a relay listens to.
fn destinations(plan: &RelayPlan) -> impl Iterator<Item = Destination> {
    plan.offsets().map(|offset| destination(plan, offset))
}

/// Those of some destinations that a relay listens to; whichever are fewer are gone through.
fn among<T>(plan: &RelayPlan, some: &BTreeMap<Destination, T>) -> Vec<Destination> {
    match plan.span.pairs() > some.len() as u128 {
        true => some.keys().filter(|destination| offset_of(plan, destination).is_some()).copied().collect(),
        false => destinations(plan).filter(|destination| some.contains_key(destination)).collect(),
    }
}

fn offset_of(plan: &RelayPlan, destination: &Destination) -> Option<Offset> {
    let is_of_tag = plan.vlan == destination.vlan;
    plan.offset_of(destination.address, destination.port).filter(|_| is_of_tag)
}

fn action(outputs: &Outputs, action: &Action, offset: Offset) -> OutputAction {
    match action {
        Action::Drop(reason) => OutputAction::Drop(*reason),
        Action::Send(plan) => match outputs.get(&plan.interface) {
            None => OutputAction::Drop(DropReason::OutputMissing),
            Some(output) => OutputAction::Send { port: output.port, rewrite: rewrite(plan, offset), mtu: plan.mtu },
        },
    }
}

/// The reason for relays that were not tried after one had found a table full.
fn no_more_room() -> EffectError {
    EffectError {
        reason: "the in-kernel tables are full".to_owned(),
        remedy: "raise their sizes under [tables] in the keeper's policy (/etc/mcr/policy.toml) and restart mcr-netd"
            .to_owned(),
    }
}
