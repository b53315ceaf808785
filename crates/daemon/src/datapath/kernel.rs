//! `tcx` and `xdp`: the tables of the programs in the kernel, written from here without a privilege.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use mcr_engine::{Action, EffectError, Ifindex, InputPlan, InterfaceLedger, Outcome, OutputPlan, RelayPlan};
use mcr_kernel_path::{
    Exit, InputCounters, Maps, OutputAction, OutputEntry, RelayEntry, TableWriter, WriteError, not_at_driver,
};
use mcr_model::{DropReason, RelayName};
use mcr_netd::{Hook, Keeper, KeeperError};
use mcr_wire::{Destination, MacAddr};

use super::book::Books;
use super::{Outputs, Trouble, closed_meanwhile, rewrite};

/// The tables, once the keeper has handed them over.
#[derive(Default)]
pub(crate) struct KernelPath {
    tables: Option<Tables>,
    inputs: BTreeMap<Ifindex, Input>,
    /// Numbers of lists of outputs that the program at the driver copies to.
    fan_outs: BTreeMap<Vec<Ifindex>, u32>,
    /// Numbers that no relay needs any more; the keeper is told with the next change.
    unused_fan_outs: Vec<u32>,
}

struct Tables {
    writer: TableWriter,
    /// Which tables these are: the kernel's number of them.
    id: u32,
}

/// One interface, with the programs that are attached there and what each is to serve.
struct Input {
    hooks: Hooks,
    /// What was installed; `None`: what is in force was written by a daemon before this one, at least in part.
    installed: Option<Table>,
    counters: Arc<InputCounters>,
}

/// What each program is to serve; `None`: nobody has said yet.
type Hooks = BTreeMap<Hook, Option<InputPlan>>;

/// The relays of all hooks of an interface. While one moves from one hook to the other it is in the tables of both, and
/// the driver's counts.
#[derive(Clone, Default)]
struct Table {
    plan: InputPlan,
    at_driver: HashSet<RelayName>,
}

/// What is to be written of one table, and what came of it.
struct Change<'a> {
    tables: &'a mut Tables,
    interface: Ifindex,
    before: Option<&'a Table>,
    table: &'a Table,
    /// Whether the table has all that is to be in force on the interface.
    is_whole: bool,
    books: &'a mut Books,
    outputs: &'a Outputs,
    fan_outs: &'a BTreeMap<Vec<Ifindex>, u32>,
    refused: Vec<(RelayName, EffectError)>,
    is_full: bool,
}

impl KernelPath {
    /// Attaches a program to an interface.
    pub(crate) fn open(&mut self, keeper: &mut Keeper, interface: Ifindex, hook: Hook) -> Result<(), Trouble> {
        let counters = self.tables(keeper)?.writer.input_counters(interface.0).map_err(|error| told(&error))?;
        keeper.attach(interface.0, hook)?;
        let input =
            self.inputs.entry(interface).or_insert_with(|| Input { hooks: BTreeMap::new(), installed: None, counters });
        input.hooks.insert(hook, None);
        Ok(())
    }

    /// Detaches it, and forgets the relays there with the last.
    pub(crate) fn close(&mut self, keeper: &mut Keeper, interface: Ifindex, hook: Hook) -> Result<(), Trouble> {
        let is_last = self.inputs.get_mut(&interface).is_none_or(|input| {
            input.hooks.remove(&hook);
            input.hooks.is_empty()
        });
        if !is_last {
            return Ok(keeper.detach(interface.0, hook)?);
        }
        self.inputs.remove(&interface);
        // A daemon before this one may have left relays there.
        let removed = self.tables(keeper).map(|tables| tables.writer.remove_input(interface.0));
        keeper.detach(interface.0, hook)?;
        Ok(removed?.map_err(|error| told(&error))?)
    }

    /// Lets go of the tables, which go on as they are.
    pub(crate) fn let_go(&mut self) {
        self.inputs.clear();
        self.fan_outs.clear();
        self.unused_fan_outs.clear();
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

    /// Makes `plan` what a program is to serve on an interface. Only what differs from before is written; the keeper is
    /// needed only for lists of outputs at the driver.
    pub(crate) fn install(
        &mut self,
        keeper: Result<&mut Keeper, KeeperError>,
        (interface, hook): (Ifindex, Hook),
        plan: &InputPlan,
        books: &mut Books,
        outputs: &Outputs,
    ) -> Result<Outcome, Trouble> {
        if hook == Hook::Xdp {
            self.fan_out(keeper?, plan)?;
        }
        let input = self.inputs.get_mut(&interface).ok_or_else(closed_meanwhile)?;
        let tables = self.tables.as_mut().ok_or_else(closed_meanwhile)?;
        input.hooks.insert(hook, Some(plan.clone()));
        // What another hook serves since before this daemon is left alone until it is known what it is to serve.
        let is_whole = input.hooks.values().all(Option::is_some);
        let mut table = Table::of(&input.hooks);
        let says_macs = is_whole || !table.plan.relays.is_empty();
        if says_macs && input.installed.as_ref().is_none_or(|before| before.plan.our_macs != table.plan.our_macs) {
            let macs: Vec<MacAddr> = table.plan.our_macs.iter().map(|mac| MacAddr::new(*mac)).collect();
            tables.writer.set_own_macs(interface.0, &macs).map_err(|error| told(&error))?;
        }
        let mut change = Change {
            tables,
            interface,
            before: input.installed.as_ref(),
            table: &table,
            is_whole,
            books,
            outputs,
            fan_outs: &self.fan_outs,
            refused: Vec::new(),
            is_full: false,
        };
        change.write();
        let refused = change.refused;
        if !refused.is_empty() {
            let names: BTreeSet<&RelayName> = refused.iter().map(|(name, _)| name).collect();
            table.plan.relays.retain(|relay| !names.contains(&relay.relay));
        }
        if is_whole || input.installed.is_some() {
            input.installed = Some(table);
        }
        if hook == Hook::Xdp {
            self.forget_fan_outs();
        }
        Ok(if refused.is_empty() { Outcome::Done } else { Outcome::Refused(refused) })
    }

    /// Has the lists of outputs made that relays at the driver need.
    fn fan_out(&mut self, keeper: &mut Keeper, plan: &InputPlan) -> Result<(), Trouble> {
        for number in std::mem::take(&mut self.unused_fan_outs) {
            keeper.forget_fan_out(number)?;
        }
        for list in plan.relays.iter().filter_map(|relay| fan_out(relay)) {
            if let std::collections::btree_map::Entry::Vacant(place) = self.fan_outs.entry(list) {
                let interfaces: Vec<u32> = place.key().iter().map(|interface| interface.0).collect();
                place.insert(keeper.fan_out(&interfaces)?);
            }
        }
        Ok(())
    }

    /// Notes the lists that no relay needs any more.
    fn forget_fan_outs(&mut self) {
        let at_driver = self.inputs.values().filter_map(|input| input.hooks.get(&Hook::Xdp)?.as_ref());
        let used: BTreeSet<Vec<Ifindex>> =
            at_driver.flat_map(|plan| &plan.relays).filter_map(|relay| fan_out(relay)).collect();
        let unused = self.fan_outs.iter().filter(|(list, _)| !used.contains(*list));
        self.unused_fan_outs.extend(unused.map(|(_, number)| *number));
        self.fan_outs.retain(|list, _| used.contains(list));
    }

    /// What could not be charged to a relay, by interface.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = (Ifindex, InterfaceLedger)> {
        self.inputs.iter().map(|(interface, input)| {
            let seen = input.counters.snapshot();
            (*interface, InterfaceLedger { dropped: DropReason::ALL.map(|reason| seen.dropped.get(reason)) })
        })
    }
}

impl Table {
    fn of(hooks: &Hooks) -> Self {
        let of_hook = |hook| hooks.get(&hook).and_then(Option::as_ref).filter(|plan| !plan.relays.is_empty());
        let (driver, ingress) = (of_hook(Hook::Xdp), of_hook(Hook::Tcx));
        let (Some(driver), Some(ingress)) = (driver, ingress) else {
            let plan = driver.or(ingress).cloned().unwrap_or_default();
            return Self { at_driver: driver.map(names).unwrap_or_default(), plan };
        };
        let (mut plan, at_driver) = (driver.clone(), names(driver));
        plan.relays.extend(ingress.relays.iter().filter(|relay| !at_driver.contains(&relay.relay)).cloned());
        plan.relays.sort_by(|a, b| a.relay.cmp(&b.relay));
        Self { plan, at_driver }
    }

    /// Whether the other table has exactly this plan of the relay, at the same hook.
    fn has(&self, relay: &Arc<RelayPlan>, of: &Table) -> bool {
        has(&self.plan, relay) && self.same_hook(of, relay)
    }

    fn same_hook(&self, other: &Table, relay: &RelayPlan) -> bool {
        self.at_driver.contains(&relay.relay) == other.at_driver.contains(&relay.relay)
    }

    /// The relays that `other` does not have exactly so, at the same hook. Both are in order of names, and what did not
    /// change is the same allocation: beside ten thousand relays one new one costs a walk without a comparison of names.
    fn beyond<'a>(&'a self, other: &'a Table) -> impl Iterator<Item = &'a Arc<RelayPlan>> {
        let mut others = other.plan.relays.iter().peekable();
        self.plan.relays.iter().filter(move |relay| {
            if others.next_if(|other| Arc::ptr_eq(other, relay)).is_some() {
                return !self.same_hook(other, relay);
            }
            while others.next_if(|other| other.relay < relay.relay).is_some() {}
            let there = others.next_if(|other| other.relay == relay.relay);
            there.is_none_or(|there| there != *relay || !self.same_hook(other, relay))
        })
    }
}

fn names(plan: &InputPlan) -> HashSet<RelayName> {
    plan.relays.iter().map(|relay| relay.relay.clone()).collect()
}

/// The interfaces that a relay's copies go to, where there are several and all of them are sent.
fn fan_out(relay: &RelayPlan) -> Option<Vec<Ifindex>> {
    let interface = |output: &OutputPlan| match &output.action {
        Action::Send(plan) => Some(plan.interface),
        Action::Drop(_) => None,
    };
    (relay.outputs.len() > 1).then(|| relay.outputs.iter().map(interface).collect()).flatten()
}

impl Change<'_> {
    fn write(&mut self) {
        let mut wanted: BTreeMap<Destination, Vec<Arc<RelayPlan>>> =
            self.changed().into_iter().map(|destination| (destination, Vec::new())).collect();
        for relay in &self.table.plan.relays {
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
        let relays = &self.table.plan.relays;
        let Some(before) = self.before else {
            let wanted = relays.iter().map(|relay| destination(relay));
            let found = self.is_whole.then(|| self.tables.writer.destinations(self.interface.0));
            return found.into_iter().flatten().chain(wanted).collect();
        };
        let gone = before.beyond(self.table);
        gone.chain(self.table.beyond(before)).map(|relay| destination(relay)).collect()
    }

    /// Makes these all the relays of a destination; those for which there is no room are refused, and only those.
    fn replace(&mut self, destination: Destination, relays: Vec<Arc<RelayPlan>>) {
        let (old, new): (Vec<_>, Vec<_>) =
            relays.iter().cloned().partition(|relay| self.before.is_some_and(|before| before.has(relay, self.table)));
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

    fn exit(&self, plan: &RelayPlan) -> Exit {
        match fan_out(plan) {
            _ if !self.table.at_driver.contains(&plan.relay) => Exit::Tcx,
            Some(list) => self.fan_outs.get(&list).map_or(Exit::Tcx, |number| Exit::FanOut(*number)),
            None if plan.outputs.len() == 1 => Exit::Port,
            None => Exit::Tcx,
        }
    }

    fn entry(&mut self, plan: &RelayPlan) -> Result<RelayEntry, WriteError> {
        let Tables { writer, id } = &mut *self.tables;
        let counters = self.books.of(plan).in_kernel(plan, writer, *id)?;
        let outputs = plan.outputs.iter().zip(&counters.outputs).map(|(output, counters)| OutputEntry {
            counters: Arc::clone(counters),
            action: action(self.outputs, &output.action),
        });
        let entry = RelayEntry {
            destination: destination(plan),
            sources: plan.sources.clone(),
            counters: Arc::clone(&counters.relay),
            outputs: outputs.collect(),
            exit: self.exit(plan),
        };
        // What the driver can not do now is done at tcx ingress: an output that is down, say.
        let is_fit = not_at_driver(std::slice::from_ref(&entry)).is_none();
        Ok(if is_fit { entry } else { RelayEntry { exit: Exit::Tcx, ..entry } })
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
