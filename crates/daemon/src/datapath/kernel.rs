//! `tcx`: the tables of the program in the kernel, written from here without a privilege.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mcr_engine::{Action, EffectError, Ifindex, InputPlan, InterfaceLedger, Outcome, RelayPlan};
use mcr_kernel_path::{Exit, InputCounters, Maps, OutputAction, OutputEntry, RelayEntry, TableWriter, WriteError};
use mcr_model::{DropReason, RelayName};
use mcr_netd::{Hook, Keeper};
use mcr_wire::{Destination, MacAddr};

use super::book::Books;
use super::{Outputs, Trouble, closed_meanwhile, rewrite};

/// The tables, once the keeper has handed them over.
#[derive(Default)]
pub(crate) struct KernelPath {
    tables: Option<Tables>,
    inputs: BTreeMap<Ifindex, Input>,
}

struct Tables {
    writer: TableWriter,
    /// Which tables these are: the kernel's number of them.
    id: u32,
}

struct Input {
    /// What was installed; `None`: what is in force was written by a daemon before this one.
    plan: Option<InputPlan>,
    counters: Arc<InputCounters>,
}

/// What is to be written of one table, and what came of it.
struct Change<'a> {
    tables: &'a mut Tables,
    interface: Ifindex,
    before: Option<&'a InputPlan>,
    plan: &'a InputPlan,
    books: &'a mut Books,
    outputs: &'a Outputs,
    refused: Vec<(RelayName, EffectError)>,
    is_full: bool,
}

impl KernelPath {
    /// Attaches the program to an interface.
    pub(crate) fn open(&mut self, keeper: &mut Keeper, interface: Ifindex) -> Result<(), Trouble> {
        let counters = self.tables(keeper)?.writer.input_counters(interface.0).map_err(|error| told(&error))?;
        keeper.attach(interface.0, Hook::Tcx)?;
        self.inputs.insert(interface, Input { plan: None, counters });
        Ok(())
    }

    /// Detaches it and forgets the relays there.
    pub(crate) fn close(&mut self, keeper: &mut Keeper, interface: Ifindex) -> Result<(), Trouble> {
        self.inputs.remove(&interface);
        // A daemon before this one may have left relays there.
        let removed = self.tables(keeper).map(|tables| tables.writer.remove_input(interface.0));
        keeper.detach(interface.0, Hook::Tcx)?;
        Ok(removed?.map_err(|error| told(&error))?)
    }

    /// Lets go of the tables, which go on as they are.
    pub(crate) fn let_go(&mut self) {
        self.inputs.clear();
        self.tables = None;
    }

    fn tables(&mut self, keeper: &mut Keeper) -> Result<&mut Tables, Trouble> {
        if self.tables.is_none() {
            let unusable = |reason: String| EffectError {
                reason,
                remedy: "install mcr and mcr-netd of one release, and restart mcr-netd".to_owned(),
            };
            let maps = Maps::from_fds(keeper.tables()?).map_err(|error| unusable(error.to_string()))?;
            let id = maps.id();
            let writer = TableWriter::adopt(maps).map_err(|error| told(&error))?;
            self.tables = Some(Tables { writer, id });
        }
        Ok(self.tables.as_mut().expect("there just now"))
    }

    /// Makes `plan` the table of an interface. Only what differs from the one before is written.
    pub(crate) fn install(
        &mut self,
        interface: Ifindex,
        plan: &InputPlan,
        books: &mut Books,
        outputs: &Outputs,
    ) -> Result<Outcome, Trouble> {
        let input = self.inputs.get_mut(&interface).ok_or_else(closed_meanwhile)?;
        let tables = self.tables.as_mut().ok_or_else(closed_meanwhile)?;
        if input.plan.as_ref().is_none_or(|before| before.our_macs != plan.our_macs) {
            let macs: Vec<MacAddr> = plan.our_macs.iter().map(|mac| MacAddr::new(*mac)).collect();
            tables.writer.set_own_macs(interface.0, &macs).map_err(|error| told(&error))?;
        }
        let before = input.plan.as_ref();
        let mut change =
            Change { tables, interface, before, plan, books, outputs, refused: Vec::new(), is_full: false };
        change.write();
        let refused = change.refused;
        let mut in_force = plan.clone();
        if !refused.is_empty() {
            let names: BTreeSet<&RelayName> = refused.iter().map(|(name, _)| name).collect();
            in_force.relays.retain(|relay| !names.contains(&relay.relay));
        }
        input.plan = Some(in_force);
        Ok(if refused.is_empty() { Outcome::Done } else { Outcome::Refused(refused) })
    }

    /// What could not be charged to a relay, by interface.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = (Ifindex, InterfaceLedger)> {
        self.inputs.iter().map(|(interface, input)| {
            let seen = input.counters.snapshot();
            (*interface, InterfaceLedger { dropped: DropReason::ALL.map(|reason| seen.dropped.get(reason)) })
        })
    }
}

impl Change<'_> {
    fn write(&mut self) {
        let mut wanted: BTreeMap<Destination, Vec<Arc<RelayPlan>>> =
            self.changed().into_iter().map(|destination| (destination, Vec::new())).collect();
        for relay in &self.plan.relays {
            if let Some(relays) = wanted.get_mut(&destination(relay)) {
                relays.push(Arc::clone(relay));
            }
        }
        // What becomes free first: it may be needed.
        let (gone, rest): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, relays)| relays.is_empty());
        for (destination, relays) in gone.into_iter().chain(rest) {
            self.replace(destination, relays);
        }
    }

    /// The destinations of which anything differs.
    fn changed(&self) -> BTreeSet<Destination> {
        let Some(before) = self.before else {
            let wanted = self.plan.relays.iter().map(|relay| destination(relay));
            return self.tables.writer.destinations(self.interface.0).into_iter().chain(wanted).collect();
        };
        let differs = |from: &InputPlan, to: &InputPlan| -> Vec<Destination> {
            let is_other = |relay: &&Arc<RelayPlan>| !has(to, relay);
            from.relays.iter().filter(is_other).map(|relay| destination(relay)).collect()
        };
        differs(before, self.plan).into_iter().chain(differs(self.plan, before)).collect()
    }

    /// Makes these all the relays of a destination; those for which there is no room are refused, and only those.
    fn replace(&mut self, destination: Destination, relays: Vec<Arc<RelayPlan>>) {
        let (old, new): (Vec<_>, Vec<_>) =
            relays.iter().cloned().partition(|relay| self.before.is_some_and(|before| has(before, relay)));
        let error = match self.is_full && !new.is_empty() {
            true => None,
            false => match self.try_replace(destination, &relays) {
                Ok(()) => return,
                Err(error) => Some(error),
            },
        };
        self.is_full |= matches!(error, Some(WriteError::Full { .. }));
        let reason = error.map_or_else(no_more_room, |error| told(&error));
        self.refused.extend(new.iter().map(|relay| (relay.relay.clone(), reason.clone())));
        // What was there before and is to stay: in force already unless a definition of `new` replaced another.
        if let Err(error) = self.try_replace(destination, &old) {
            let reason = told(&error);
            self.refused.extend(old.iter().map(|relay| (relay.relay.clone(), reason.clone())));
            if let Err(error) = self.try_replace(destination, &[]) {
                tracing::error!(%error, %destination, "the kernel goes on with a relay that is not to be there");
            }
        }
    }

    fn try_replace(&mut self, destination: Destination, relays: &[Arc<RelayPlan>]) -> Result<(), WriteError> {
        let entries: Result<Vec<RelayEntry>, WriteError> = relays.iter().map(|relay| self.entry(relay)).collect();
        self.tables.writer.replace(self.interface.0, &destination, entries?)
    }

    fn entry(&mut self, plan: &RelayPlan) -> Result<RelayEntry, WriteError> {
        let Tables { writer, id } = &mut *self.tables;
        let counters = self.books.of(plan).in_kernel(plan, writer, *id)?;
        let outputs = plan.outputs.iter().zip(&counters.outputs).map(|(output, counters)| OutputEntry {
            counters: Arc::clone(counters),
            action: action(self.outputs, &output.action),
        });
        Ok(RelayEntry {
            destination: destination(plan),
            sources: plan.sources.clone(),
            counters: Arc::clone(&counters.relay),
            outputs: outputs.collect(),
            exit: Exit::Tcx,
        })
    }
}

fn destination(plan: &RelayPlan) -> Destination {
    Destination { vlan: plan.vlan, address: plan.destination, port: plan.port }
}

/// Whether exactly this plan of the relay is in the table. Plans that did not change are mostly the same allocation.
fn has(table: &InputPlan, relay: &Arc<RelayPlan>) -> bool {
    let found = table.relays.binary_search_by(|other| other.relay.cmp(&relay.relay));
    found.is_ok_and(|at| Arc::ptr_eq(&table.relays[at], relay) || table.relays[at] == *relay)
}

fn action(outputs: &Outputs, action: &Action) -> OutputAction {
    match action {
        Action::Drop(reason) => OutputAction::Drop(*reason),
        Action::Send(plan) => match outputs.get(&plan.interface) {
            None => OutputAction::Drop(DropReason::OutputMissing),
            Some(output) => OutputAction::Send { port: output.port, rewrite: rewrite(plan), mtu: plan.mtu },
        },
    }
}

/// A failure of the writer as a reason and a remedy: its text has both, the remedy after the last semicolon.
fn told(error: &WriteError) -> EffectError {
    let text = error.to_string();
    let (reason, remedy) = text.rsplit_once("; ").unwrap_or((&text, "restart mcr-netd, and report this with its log"));
    EffectError { reason: reason.to_owned(), remedy: remedy.to_owned() }
}

/// The reason for relays that were not tried after one had found a table full.
fn no_more_room() -> EffectError {
    EffectError {
        reason: "the in-kernel tables are full".to_owned(),
        remedy: "raise their sizes under [tables] in the keeper's policy (/etc/mcr/policy.toml) and restart mcr-netd"
            .to_owned(),
    }
}
